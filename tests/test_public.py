"""Every public name keeps its promises: a docstring, a page in the docs, a pickle."""

import ast
import inspect
import pathlib
import pickle
import pydoc
import tomllib
import types

import pytest

import funcopt as fo

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"
PUBLIC = {
    name: value
    for name, value in vars(fo).items()
    if not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value))
}
NO_CLASS = {
    "dpsgd",
    "noisy_sgd",
    "hidden_weights",
    "adam_mini_blocks",
}  # without defaults; no algorithm


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


def test_help_prints_a_scalar_as_a_scalar():
    def printed(function):
        return " ".join(pydoc.plain(pydoc.render_doc(function)).split())  # 3.13 breaks long lines

    assert "lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999)," in printed(fo.adamw)
    text = printed(fo.scale_by_prodigy)
    assert "beta3: Optional[Scalar] = None" in text or "beta3: Scalar | None = None" in text
    assert "params: ~Params, " in printed(fo.apply_updates)


@pytest.mark.parametrize("name", PUBLIC)
def test_help_never_prints_what_a_scalar_is_made_of(name):
    assert "Callable[[typing.Any], typing.Any]" not in pydoc.plain(pydoc.render_doc(PUBLIC[name]))


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


NAMESPACES = {"errors", "optim", "schedules", "sweeps", "testing", "tree", "typing"}
PACKAGES = {
    "": NAMESPACES,
    "optim": {"lr_scheduler", "swa_utils"},
    "schedules": set(),
    "sweeps": set(),
    "testing": set(),
}
"""Those that re-export, each with its public modules."""

MODULES = {
    "errors": set(),
    "tree": {"NAMESPACE", "ParamTree", "Spec", "flatten_around", "nodes"},
    "typing": {"is_hyperparameter"},
}
"""Those that define, each with what is there for the rest of the library."""


def module_of(name):
    return getattr(fo, name) if name else fo


@pytest.mark.parametrize("name", PACKAGES)
def test_all_is_what_a_package_exports(name):
    """Every public name, and no module but the public ones."""
    module = module_of(name)
    exported = {
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        and (not isinstance(value, types.ModuleType) or key in PACKAGES[name])
    }
    assert set(module.__all__) == exported
    assert PACKAGES[name] <= exported


@pytest.mark.parametrize("name", MODULES)
def test_all_is_what_a_module_defines(name):
    module = module_of(name)
    defined = set()
    for node in ast.parse(pathlib.Path(module.__file__).read_text()).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            defined.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            defined |= {target.id for target in targets}
    public = {key for key in defined if not key.startswith("_")}
    assert MODULES[name] <= public
    assert set(module.__all__) == public - MODULES[name]


@pytest.mark.parametrize("name", [*PACKAGES, "tree", "typing"])
def test_dir_lists_what_a_module_exports(name):
    module = module_of(name)
    assert dir(module) == sorted(module.__all__)
    assert all(hasattr(module, key) for key in dir(module))


@pytest.mark.parametrize("name", [*PACKAGES, *MODULES])
def test_all_has_no_name_twice_and_a_star_imports_it(name):
    module = module_of(name)
    assert len(module.__all__) == len(set(module.__all__))
    found = {}
    exec(f"from {module.__name__} import *", found)
    assert set(module.__all__) <= set(found)


def test_the_version_is_the_one_that_is_built():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    source = ROOT / project["tool"]["hatch"]["version"]["path"]
    assert source.read_text().count(f'\n__version__ = "{fo.__version__}"') == 1
