"""Imports point down the layers, in no circle, and not into the private parts of others."""

import ast
import functools
import graphlib
import pathlib

import pytest

import funcopt

ROOT = pathlib.Path(funcopt.__file__).parent

LAYERS = (
    ("errors", "typing"),
    ("_numerics", "_hints"),
    ("tree",),
    ("_core",),
    ("schedules", "transforms"),
    ("combinators",),
    ("aliases", "engine"),
    ("training",),
    ("meta", "sweeps"),
    ("optim",),
    ("testing", "cli"),
    ("__main__",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
INTERNAL = (
    "_core",
    "_hints",
    "_numerics",
)  # packages whose modules are there for the rest of the library

FILES = [path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py"]
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


def module_of(path: pathlib.Path) -> tuple[str, ...]:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


MODULES = {module_of(path) for path in FILES}


@functools.cache
def imports_of(path: pathlib.Path) -> frozenset[tuple[str, ...]]:
    """The modules of funcopt that a file imports, wherever in the file."""
    package = module_of(path) if path.name == "__init__.py" else module_of(path)[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not any(a.name.startswith("funcopt") for a in node.names), "use relative imports"
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = package[: len(package) - node.level + 1]
        base += tuple(node.module.split(".")) if node.module else ()
        for alias in node.names:
            inner = (*base, alias.name)
            found.add(inner if inner in MODULES else base)
    return frozenset(found)


@each_file
def test_imports_point_one_way(path):
    part = module_of(path)[0]
    for other, *_ in imports_of(path):
        assert other == part or RANK[other] < RANK[part], f"{part} imports {other}"


@each_file
def test_private_modules_are_imported_by_their_own_package_alone(path):
    package = module_of(path)[0]
    for other in imports_of(path):
        if other[0] != package and other[0] not in INTERNAL:
            assert not any(part.startswith("_") for part in other), ".".join(other)


@pytest.mark.parametrize("package", sorted({name for name, *rest in MODULES if rest}))
def test_imports_inside_a_package_run_in_no_circle(package):
    graph = {
        module_of(path): {other for other in imports_of(path) if other[0] == package}
        for path in FILES
        if module_of(path)[0] == package
    }
    graphlib.TopologicalSorter(graph).prepare()  # a `CycleError` names the circle


def test_every_part_has_a_layer():
    assert {name for name, *_ in MODULES} == set(RANK)


@each_file
def test_only_tree_knows_optree(path):
    imported = {
        name.name.split(".")[0]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import)
        for name in node.names
    }
    assert "optree" not in imported or path == ROOT / "tree.py"


@each_file
def test_a_file_is_one_idea(path):
    assert len(path.read_text().splitlines()) <= 450


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.parent.name == "transforms"], ids=lambda p: p.name
)
def test_rules_have_no_switch_for_execution(path):
    """No `foreach`, `fused` or in-place twin of a formula, no hidden graph surgery."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"no_grad", "data", "item", "detach"}, path.name
            assert not node.attr.startswith("_foreach"), path.name
            assert not node.attr.endswith("_") or node.attr.endswith("__"), path.name
