"""The optimizers by name: one line for each, and all of one."""

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

from .. import aliases, combinators, optim, transforms
from .._core.explanation import WIDTH, Row, Table, summary
from .._core.tensor_rule import GradientTransformation
from .._core.vector_rule import VectorRule
from .._hints.nearest import nearest
from .._hints.torch import CLASSES

MORE = """fo.optim.AdamW(params, ...) is the class, fo.adamw(...) the transformation.
python -m funcopt explain adamw says more of one."""

NO_OPTIMIZER = ("hidden_weights",)
"""What else `aliases` has."""


def optimizer_list() -> str:
    """The optimizers, one line each: the class, the function, and what it is."""
    rows = [
        Row((cls, name, summary(function)))
        for name, function in (*_aliases(), *_stages_alone())
        for cls in [_class_of(function)]
    ]
    rows.sort(key=lambda row: row.cells[1])
    short = [Row((*row.cells[:2], _cut(row, rows))) for row in rows]
    table = Table("", ("class", "function", "what it is"), short).text()
    return f"{table}\n\n{len(rows)} optimizers. {MORE}"


def page_of(name: str, markdown: bool = False) -> str:
    """What an optimizer or a stage is: its arguments, its table, its references.

    Raises:
        LookupError: If there is none of that name.
    """
    called, made = _find(name)
    function = made.maker.function if hasattr(made, "maker") else made
    signature = inspect.signature(made)
    parts = [_wrapped(f"{called}{_bare(signature)}"), _description(function)]
    if (tx := _example(function)) is not None:
        text = optim.explain(tx)
        parts.append(text.markdown() if markdown else text)
    return "\n\n".join(part for part in parts if part)


def _aliases() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, value in vars(aliases).items():
        if inspect.isfunction(value) and name not in NO_OPTIMIZER and not name.startswith("_"):
            yield name, value


def _stages_alone() -> Iterator[tuple[str, Callable[..., Any]]]:
    """The stages that are optimizers without an alias, as they take whole steps themselves."""
    for name, value in vars(transforms).items():
        if inspect.isclass(value) and issubclass(value, VectorRule) and not name.startswith("_"):
            yield name, value


def _class_of(function: Callable[..., Any]) -> str:
    """The name of the class that is made of a function; empty if there is none."""
    if inspect.isclass(function):
        return next((cls for cls, tx in CLASSES.items() if tx == function.__name__), "")
    made = (
        name
        for name, value in vars(optim).items()
        if getattr(getattr(value, "maker", None), "function", None) is function
    )
    return next(made, "")


def _find(name: str) -> tuple[str, Any]:
    """What has this name, and how it is spelled: exactly so, or else in another case."""
    known: dict[str, Any] = dict(_aliases())
    for module in (optim, transforms, combinators):
        for key, value in vars(module).items():
            is_class = inspect.isclass(value) and not key.startswith("_")
            if is_class and (hasattr(value, "maker") or issubclass(value, GradientTransformation)):
                known.setdefault(key, value)
    if name in known:
        return name, known[name]
    same = [key for key in known if key.lower() == name.lower()]
    if same:
        return same[0], known[same[0]]
    meant = nearest(name, known)
    hint = f" Did you mean {meant}?" if meant else ""
    raise LookupError(f"There is no {name}.{hint} `python -m funcopt list` has all optimizers.")


def _example(made: Any) -> GradientTransformation | None:
    """The transformation with its defaults; `None` if it needs an argument."""
    try:
        tx = made()
    except TypeError:
        return None
    return tx if isinstance(tx, GradientTransformation) else None


def _cut(row: Row, rows: list[Row]) -> str:
    """The summary, as much of it as there is room for in one line."""
    room = WIDTH - 4 - sum(max(len(other.cells[i]) for other in rows) for i in (0, 1))
    text = row.cells[2]
    return text if len(text) <= room else text[: room - 4].rsplit(" ", 1)[0] + " ..."


def _description(function: Any) -> str:
    """The docstring without its first formula, which the table has, and without its arguments."""
    doc = inspect.getdoc(function) or ""
    body = re.split(r"^(?:Args|Raises|Returns|References):", doc, maxsplit=1, flags=re.MULTILINE)[0]
    references = re.search(r"^References:\n((?: {4}.*\n?|\n)+)", doc, re.MULTILINE)
    said = inspect.cleandoc(references[1]) if references else ""
    return _plain("\n\n".join(part for part in (body.strip(), said) if part))


def _plain(text: str) -> str:
    return text.replace("`", "")


def _bare(signature: inspect.Signature) -> str:
    """Arguments and defaults, without annotations."""
    each = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=each, return_annotation=signature.empty))


def _wrapped(call: str) -> str:
    import textwrap

    lines = textwrap.wrap(call, WIDTH, subsequent_indent="    ", break_on_hyphens=False)
    return "\n".join(lines)
