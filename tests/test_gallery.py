"""The gallery has every example: its text, figure, print and code, and a card for each."""

import ast
import importlib.util
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
NAMES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))


@pytest.fixture(scope="module")
def gallery():
    """The hook of the site, which needs no package of its own to make pages."""
    spec = importlib.util.spec_from_file_location(
        "gallery", ROOT / "docs" / "_build" / "gallery.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_has_one_card(gallery):
    assert len(NAMES) >= 22
    shown = [name for names in gallery.sections().values() for name in names]
    assert sorted(shown) == NAMES
    overview = (ROOT / "docs" / "gallery" / "index.md").read_text()
    cards = gallery.on_page_markdown(overview, Page("gallery/index.md"), None, None)
    assert [re.search(rf"\* \[!\[\]\({name}.png\) .*\]\({name}.md\)", cards) for name in NAMES]
    assert "{gallery" not in cards


class Page:
    """As much of a page of mkdocs as the hook sees."""

    def __init__(self, path):
        self.file = type("File", (), {"src_uri": path})


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_text_figure_print_and_code(gallery, name):
    page, source = gallery.page(name), (ROOT / "examples" / f"{name}.py").read_text()
    doc = ast.get_docstring(ast.parse(source))
    title, rest = doc.split("\n", 1)
    assert f"\n\n# {title.removesuffix('.')}\n\n" in page
    assert len(title) <= 65
    assert len(rest.strip()) > 100  # a title says too little
    assert f"]({name}.png)" in page
    assert (ROOT / "docs" / "gallery" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert (ROOT / "docs" / "gallery" / f"{name}.txt").read_text() in page
    assert f"/examples/{name}.py)" in page
    # All of the code, but for the docstring, and nothing else; in blocks, with the text between.
    blocks = "\n".join(re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    tree = ast.parse(source)
    assert ast.dump(ast.parse(blocks)) == ast.dump(ast.Module(tree.body[1:], []))
    for comment in re.findall(r"^# %%\n((?:# .*\n)+)", source, re.MULTILINE):
        assert "\n\n" + comment.replace("# ", "").strip() in page


def test_nothing_is_left_of_examples_that_are_gone():
    left = {path.stem for path in (ROOT / "docs" / "gallery").iterdir()} - {"index"}
    assert left == set(NAMES)


def test_a_script_draws_the_figure_of_its_page():
    for name in NAMES:
        source = (ROOT / "examples" / f"{name}.py").read_text()
        assert f"out/{name}.png" in source, name


def test_the_overview_is_followed_by_all_pages(gallery):
    config = type("Config", (), {"nav": [{"Start": "index.md"}, {"Gallery": "gallery/index.md"}]})
    first, *rest = gallery.on_config(config).nav[1]["Gallery"]
    assert first == "gallery/index.md"
    pages = [page for section in rest for pages in section.values() for page in pages]
    assert sorted(pages) == [f"gallery/{name}.md" for name in NAMES]
