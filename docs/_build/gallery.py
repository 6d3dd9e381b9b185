"""Makes the gallery: a page for every example, and the cards of its overview.

A page has the docstring of the example, its figure, what it prints, and its code. Where a line of
the code is ``# %%``, the comment that follows becomes text. Figures and what is printed lie beside
the overview, made by ``python -m scripts.gallery``. The overview says which examples stand where:

    {gallery: pure_loop your_own_rule}
"""

import ast
import itertools
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
OVERVIEW = ROOT / "docs" / "gallery" / "index.md"
SOURCE = "https://github.com/funcopt/funcopt/blob/main/examples"
CARDS = re.compile(r"^\{gallery: ([\w ]+)\}$", re.MULTILINE)


def sections() -> dict[str, list[str]]:
    """The names of the examples, by the heading that they stand under."""
    _, *parts = re.split(r"^## (.*)\n", OVERVIEW.read_text(), flags=re.MULTILINE)
    found = zip(parts[::2], parts[1::2], strict=True)
    return {title: " ".join(CARDS.findall(text)).split() for title, text in found}


def read(name: str) -> tuple[str, str, str]:
    """The title, the text and the code of an example."""
    source = (ROOT / "examples" / f"{name}.py").read_text()
    doc = ast.parse(source).body[0]
    text = ast.get_docstring(ast.parse(source)) or ""
    title, _, rest = text.partition("\n")
    code = "\n".join(source.split("\n")[doc.end_lineno :])
    return title.rstrip("."), rest.strip(), code.strip()


def page(name: str) -> str:
    """The page of an example, in Markdown."""
    title, text, code = read(name)
    text = re.sub(r"(?<![<(`])https?://[^\s,;)]+", r"<\g<0>>", text)
    printed = OVERVIEW.with_name(f"{name}.txt").read_text().rstrip()
    wide = "---\nhide: [toc]\n---"  # room for the code, and for figures side by side
    shown = [wide, f"# {title}", text, f"[![{title}]({name}.png)]({name}.png)"]
    if printed:
        shown.append(f"It prints:\n\n```text\n{printed}\n```")
    file = f"examples/{name}.py"
    shown.append(f"## The code\n\n[`{file}`]({SOURCE}/{name}.py): run it with `python {file}`.")
    for part in re.split(r"^# %%\n", code, flags=re.MULTILINE):
        comment = re.match(r"(?:#.*\n)*", part)[0]
        shown.append(re.sub(r"^# ?", "", comment, flags=re.MULTILINE).strip())
        shown.append(f"```python\n{part[len(comment) :].strip()}\n```")
    return "\n\n".join(part for part in shown if part) + "\n"


def cards(names: list[str]) -> str:
    """A list of figures with titles, each a link to its page."""
    return "\n".join(f"* [![]({name}.png) {read(name)[0]}]({name}.md)" for name in names)


def on_config(config):
    """Puts the pages below the overview."""
    for item in config.nav:
        if item.get("Gallery") == "gallery/index.md":
            pages = ({t: [f"gallery/{name}.md" for name in n]} for t, n in sections().items())
            item["Gallery"] = ["gallery/index.md", *pages]
    return config


def on_files(files, config):
    """Adds the pages."""
    from mkdocs.structure.files import File

    for name in itertools.chain.from_iterable(sections().values()):
        files.append(File.generated(config, f"gallery/{name}.md", content=page(name)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Puts the cards into the overview."""
    if page.file.src_uri != "gallery/index.md":
        return markdown
    return CARDS.sub(lambda found: cards(found[1].split()), markdown)


def on_page_content(html, page, config, files):
    """Names the lists of cards for the style sheet."""
    if page.file.src_uri != "gallery/index.md":
        return html
    return html.replace("<ul>", '<ul class="gallery">').replace("<img ", '<img loading="lazy" ')
