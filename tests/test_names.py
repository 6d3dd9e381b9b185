"""One word for one thing: a name stands for one class or function, and the glossary holds."""

import ast
import collections
import pathlib
import re

import pytest

import funcopt
from funcopt import engine

ROOT = pathlib.Path(funcopt.__file__).parent

ALLOWED = {
    "number",  # `checks.number`, written so, is a check; `scalars.number` makes a Python number
}


def definitions():
    """The modules that define each public class or function at their top."""
    found = collections.defaultdict(list)
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                found[node.name].append(str(path.relative_to(ROOT)))
    return found


def test_no_two_modules_define_the_same_name():
    twice = {name: paths for name, paths in definitions().items() if len(set(paths)) > 1}
    assert not {k: v for k, v in twice.items() if k not in ALLOWED}
    assert twice.keys() >= ALLOWED, "an exception that is no longer needed"


ENGINE = sorted(path.stem for path in (ROOT / "engine").glob("_*.py") if path.stem != "__init__")


@pytest.mark.parametrize("module", ENGINE)
def test_the_glossary_of_the_engine_says_where_each_module_belongs(module):
    assert f"`{module}`" in engine.__doc__


def test_the_glossary_of_the_engine_knows_only_names_that_exist():
    words = re.findall(r"`([A-Za-z_.]+)`", engine.__doc__)
    named = {word.split(".")[0] for word in words if not word.startswith("_")}
    assert named <= definitions().keys()
    assert {word for word in words if word.startswith("_")} <= set(ENGINE)


def test_the_glossary_of_the_engine_has_ten_nouns():
    assert len(re.findall(r"^\* \*\*", engine.__doc__, re.MULTILINE)) == 10
