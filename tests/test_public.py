"""Every public name keeps its promises: a docstring, a page in the docs, a pickle."""

import inspect
import pathlib
import pickle

import pytest

import funcopt as fo

DOCS = pathlib.Path(__file__).parent.parent / "docs"
PUBLIC = {
    name: value
    for name, value in vars(fo).items()
    if not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value))
}
NO_CLASS = {"dpsgd", "noisy_sgd", "hidden_weights"}  # without defaults; no algorithm


def test_there_are_public_names():
    assert len(PUBLIC) > 40


@pytest.mark.parametrize("name", PUBLIC)
def test_it_has_a_docstring(name):
    assert inspect.getdoc(PUBLIC[name])


@pytest.mark.parametrize("name", PUBLIC)
def test_it_stands_in_the_reference(name):
    pages = "\n".join(path.read_text() for path in (DOCS / "api").glob("*.md"))
    assert f".{name}\n" in pages or f"- {name}\n" in pages, f"{name} is on no page of docs/api"


@pytest.mark.parametrize("name", PUBLIC)
def test_it_pickles(name):
    assert pickle.loads(pickle.dumps(PUBLIC[name])) is PUBLIC[name]


@pytest.mark.parametrize(
    "name", [n for n, v in PUBLIC.items() if inspect.isclass(v) and issubclass(v, fo.TensorRule)]
)
def test_a_rule_tells_what_may_go_wrong(name):
    if PUBLIC[name].hyperparameters:
        assert "Raises:" in inspect.getdoc(PUBLIC[name])


def test_an_alias_that_needs_no_argument_is_an_optimizer_class_too():
    made_of = {cls.maker.function for cls in vars(fo.optim).values() if hasattr(cls, "maker")}
    aliases = [x for x in PUBLIC.values() if x.__module__.startswith("funcopt.aliases.")]
    assert {x.__name__ for x in aliases if x not in made_of} == NO_CLASS
