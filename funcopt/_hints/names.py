"""Names that a module does not have: whose they are, and what there is here instead."""

import sys
from collections.abc import Iterator
from typing import Any

PACKAGE = __name__.partition(".")[0]
PARTS = ("", ".optim", ".schedules", ".sweeps", ".tree", ".testing", ".errors", ".typing")
"""The modules whose names are looked for in others."""


def explain_missing(module: str) -> None:
    """Lets a module say of a name that it does not have what it is called here.

    `dir` of it, which completes names, lists what it exports, and nothing that it imports.

    What is raised is what Python expects of a missing name: `hasattr` is false, and an import fails
    as such. Nothing is loaded or looked up before a name is missing. The module gets its
    `__getattr__` from here, as type checkers would take one in its file for a promise of every
    name.
    """

    def __getattr__(name: str) -> Any:
        message = f"`{module}` has no `{name}`"
        hint = None if name.startswith("_") else hint_for(module, name)
        if hint is None:  # with the module at hand, Python asks "Did you mean ...?"
            raise AttributeError(message, name=name, obj=here)
        if _is_import(sys._getframe(1)):  # which would put a message of its own for another's
            raise ImportError(f"{message}: {hint}", name=module, path=here.__file__)
        raise AttributeError(f"{message}: {hint}", name=name)

    here: Any = sys.modules[module]
    here.__getattr__ = __getattr__
    here.__dir__ = lambda: sorted(here.__all__)


def hint_for(module: str, name: str) -> str | None:
    """What to say of a name that a module does not have, if anything is known of it."""
    return next(_hints(module, name), None)


def _hints(module: str, name: str) -> Iterator[str]:
    from . import optax, others, torch

    optax_page, torch_page = "docs/from_optax.md", "docs/from_torch.md"
    if module == f"{PACKAGE}.tree" and name in optax.TREE_NAMES:
        yield _said("Optax's", optax.TREE_NAMES[name], optax_page)
    for of, names, page in (
        ("torch's", torch.NAMES, torch_page),
        ("Optax's", optax.NAMES, optax_page),
        ("TorchOpt's", others.TORCHOPT, "docs/from_torchopt.md"),
        ("Transformers'", others.TRANSFORMERS, ""),
        ("HeavyBall's", others.HEAVYBALL, ""),
        ("another library's", others.PACKAGES, ""),
    ):
        if name in names:
            yield _said(of, names[name], page)
    yield from _here(name, torch.CLASSES)
    plain = name.removeprefix("PaLM").removeprefix("Foreach")
    if plain != name:  # as HeavyBall's classes were called
        yield from _hints(module, plain)
    for pattern, of, text, page in (
        *((pattern, "Optax's", text, optax_page) for pattern, text in optax.PATTERNS),
        *((pattern, of, text, "") for pattern, of, text in others.PATTERNS),
    ):
        if pattern.fullmatch(name):
            yield _said(of, text, page)


def _here(name: str, classes: dict[str, str]) -> Iterator[str]:
    """Whether another part has the name."""
    if name in classes:
        tx = f"the transformation `fo.{classes[name]}`"
        yield f"the optimizer is `fo.optim.{name}(params)`, {tx}."
    for part in PARTS:
        value = getattr(sys.modules.get(PACKAGE + part), "__dict__", {}).get(name)
        owner = getattr(value, "__module__", None) or getattr(value, "__name__", "")
        if str(owner).startswith(PACKAGE):
            found = [
                f"`fo.optim.{k}(params)` is the optimizer" for k, v in classes.items() if v == name
            ]
            yield f"here it is {', and '.join([f'`fo{part}.{name}`', *found])}."


def _said(of: str, text: str, page: str) -> str:
    begin = "; here it is " if text.startswith("`") else ". "
    if text.startswith("no "):
        begin = ". There is "
    elif begin == ". ":
        text = text[0].upper() + text[1:]
    see = f" See {page}." if page else ""
    return f"that is {of}{begin}{text}.{see}"


def _is_import(frame: Any) -> bool:
    """Whether ``from package import name`` asks for the name."""
    return frame.f_code.co_name == "_handle_fromlist" and "importlib" in frame.f_globals["__name__"]
