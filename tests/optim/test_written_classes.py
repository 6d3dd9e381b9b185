"""The classes of `optim` as they are written, for editors and checkers, are what they are."""

import ast
import importlib.util
import inspect
import pathlib
import sys

import pytest
import torch

import funcopt
from funcopt import optim
from funcopt.optim._alias import AliasOptimizer

ROOT = pathlib.Path(__file__).parents[2]
FILES = sorted((pathlib.Path(funcopt.__file__).parent / "optim").glob("_classes_*.py"))
CLASSES = {
    name: value
    for name, value in vars(optim).items()
    if inspect.isclass(value) and issubclass(value, AliasOptimizer)
}
WRITTEN = {
    node.name: node
    for path in FILES
    for node in ast.parse(path.read_text()).body
    if isinstance(node, ast.ClassDef)
}
MORE = ["maximize", "foreach", "capturable", "differentiable", "fused"]
MORE += ["max_grad_norm", "ema", "accumulate", "quantized", "rounding", "offload", "engine"]
each_class = pytest.mark.parametrize("name", CLASSES)


def load_script():
    spec = importlib.util.spec_from_file_location("script", ROOT / "scripts" / "optim_classes.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_the_files_are_what_the_script_writes():
    found = {path.name: path.read_text() for path in FILES}
    assert found == load_script().written(), "run `python scripts/optim_classes.py`"


def test_every_class_is_written():
    assert WRITTEN.keys() == CLASSES.keys()
    assert len(CLASSES) >= 26


def written_init(name):
    """The `__init__` that is written, as a function that only has a signature."""
    (init,) = [x for x in WRITTEN[name].body if isinstance(x, ast.FunctionDef)]
    space = dict(vars(sys.modules[getattr(optim, name).__module__]))
    exec(compile(ast.Module([init], []), name, "exec"), space)
    return inspect.signature(space["__init__"]).parameters


@each_class
def test_the_arguments_written_are_those_at_run_time(name):
    _, *written = written_init(name).values()
    assert written == list(inspect.signature(CLASSES[name]).parameters.values())


@each_class
def test_they_are_those_of_torch_or_of_the_function(name):
    cls, function = CLASSES[name], inspect.signature(CLASSES[name].maker.function).parameters
    (like,) = [k.value for k in WRITTEN[name].keywords if k.arg == "like"] or [None]
    theirs = function
    if like is not None:
        assert ast.unparse(like) == f"torch.optim.{name}"
        theirs = inspect.signature(getattr(torch.optim, name)).parameters
    mine = inspect.signature(cls).parameters
    known = [a for a in theirs.values() if a.name in {*function, *MORE}]
    expected = [(a.name, a.kind, a.default) for a in known]
    found = [(a.name, a.kind, a.default) for a in mine.values() if a.name != "params"]
    assert found[: len(expected)] == expected
    more = {*function, *MORE} - {a.name for a in known}
    assert {name for name, *_ in found[len(expected) :]} == more
    for key, argument in function.items():
        assert mine[key].annotation == argument.annotation


@each_class
def test_help_shows_them(name):
    assert inspect.getdoc(CLASSES[name])
    shown = str(inspect.signature(CLASSES[name]))
    assert shown.startswith("(params: ParamsT, lr: Scalar = ")
    assert "Callable" not in shown
