"""Imports point one way: a layer may use the ones listed before it, no others."""

import ast
import pathlib

import pytest

import funcopt

ROOT = pathlib.Path(funcopt.__file__).parent

LAYERS = (
    ("_record", "errors", "_typing"),
    ("_check", "_linalg", "_math", "_shards"),
    ("_random",),
    ("tree",),
    ("_select", "_conclude", "_pass", "_leaves", "_loss"),
    ("_transformation",),
    ("_vector", "_per_tensor"),
    ("_base", "_vector_rule"),
    ("_functions", "_apply", "_stack"),
    ("schedules", "transforms"),
    ("combinators",),
    ("aliases", "engine"),
    ("optim", "training", "testing"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def parts_imported_by(path: pathlib.Path) -> set[str]:
    """The parts of funcopt, as named in LAYERS, that the file at `path` imports."""
    up_to_root = len(path.relative_to(ROOT).parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == up_to_root:
            modules = [node.module] if node.module else [a.name for a in node.names]
            found.update(module.split(".")[0] for module in modules)
        if isinstance(node, ast.Import):
            assert not any(a.name.startswith("funcopt") for a in node.names), "use relative imports"
    return found


FILES = [path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for other in parts_imported_by(path) - {part}:
        assert RANK[other] <= RANK[part], f"{part} imports {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_tree_knows_optree(path):
    imported = {
        name.name.split(".")[0]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import)
        for name in node.names
    }
    assert "optree" not in imported or path == ROOT / "tree.py"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
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
