"""What the build of the site adds to the pages."""

import re
import sys
from pathlib import Path
from typing import Any

import griffe

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))
from measured import numbers

PACKAGE = re.compile(r"(?m)^::: (funcopt\S*)$")


def on_config(config: Any) -> None:
    """The version, from the one place where it is written."""
    source = (ROOT / "funcopt" / "__init__.py").read_text()
    config.extra["version_shown"] = re.search(r'__version__ = "(.+)"', source)[1]


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    path = page.file.src_uri
    if path == "index.md":
        return re.sub(r"\{\{ (\w+) \}\}", lambda m: numbers()[m[1]], markdown)
    if path.startswith("api/") and PACKAGE.search(markdown):
        return with_summary(markdown)
    if path == "compatibility.md":
        return with_tests_folded(markdown)
    if path in ("changelog.md", "contributing.md"):
        return re.sub(r'(?m)^--8<-- "(.+)"$', lambda m: of_the_root(m[1]), markdown)
    return markdown


def of_the_root(file: str) -> str:
    """A file beside this folder, with the paths that its links have from here."""
    return re.sub(r"\]\(docs/", "](", (ROOT / file).read_text())


def on_page_content(html: str, **_: Any) -> str:
    """Papers by their number."""
    return re.sub(r">https?://arxiv\.org/abs/([\d.]+\d)</a>", r">arXiv:\1</a>", html)


def with_summary(markdown: str) -> str:
    """A table of all entries on top; entries one level below the headings of sections."""
    rows, section = ["| | |", "|---|---|"], ""
    for line in markdown.splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif (found := PACKAGE.match(line)) is not None:
            if section:
                rows.append(f"| **{section}** | |")
                section = ""
            path = found[1]
            rows.append(f"| [`{path.split('.')[-1]}`][{path}] | {summary(path)} |")
    table = "\n".join(rows)
    first = re.search(r"(?m)^(## |::: )", markdown).start()
    below = markdown[first:]
    if "\n## " in "\n" + below:
        below = PACKAGE.sub(r"\g<0>\n    options:\n      heading_level: 3", below)
    return f'{markdown[:first]}<div class="summary" markdown>\n\n{table}\n\n</div>\n\n{below}'


def summary(path: str) -> str:
    """The first sentence of the docstring."""
    found = package()[path.removeprefix("funcopt.")]
    found = found.final_target if found.is_alias else found
    text = found.docstring.value.strip().split("\n\n")[0] if found.docstring else ""
    text = re.split(r"(?<=[a-z`)0-9])\.(?=\s|$)|; see ", " ".join(text.split()))[0]
    return text.replace("|", r"\|")


def package(cache: list[Any] = []) -> Any:  # noqa: B006
    if not cache:
        cache.append(griffe.load("funcopt", search_paths=[str(ROOT)]))
    return cache[0]


def with_tests_folded(markdown: str) -> str:
    """The tests that hold an item, behind their number."""

    def row(match: re.Match[str]) -> str:
        tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", match[3])
        if not tests:
            return match[0]
        listed = "".join(f"<li><code>{path}<wbr>::{name}</code></li>" for path, name in tests)
        said = f"{len(tests)} test{'s' * (len(tests) > 1)}"
        folded = f"<details><summary>{said}</summary><ul>{listed}</ul></details>"
        return f"| {match[1]} | {match[2]} | {folded} |"

    return re.sub(r"(?m)^\| (\d+) \| (.*) \| (.*) \|$", row, markdown)
