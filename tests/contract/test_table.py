"""`docs/compatibility.md` names tests that exist, for every item."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = re.findall(
    r"^\| (\d+) \| (.*) \| (.*) \|$",
    (ROOT / "docs/compatibility.md").read_text("utf-8"),
    re.MULTILINE,
)


def test_every_item_has_one_row():
    assert [int(number) for number, *_ in ROWS] == list(range(1, 57))


def test_every_test_in_a_row_exists_and_says_what_it_holds():
    for number, _, held in ROWS:
        tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", held)
        assert tests or held.startswith("Not tested: "), number
        for path, name in tests:
            module = ast.parse((ROOT / path).read_text("utf-8"))
            found = [x for x in module.body if isinstance(x, ast.FunctionDef) and x.name == name]
            assert found, f"{path}::{name}"
            said = ast.get_docstring(found[0]) or ""
            if not said.startswith("Contract "):
                said = ast.get_docstring(module)
            numbers = re.match(r"Contract ([\d, ]+)", said).group(1)
            assert number in re.findall(r"\d+", numbers), f"{path}::{name}"
