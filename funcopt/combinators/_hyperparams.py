"""Reading and writing the hyperparameters of a whole chain by name.

One naming for all: the first stage that has a quantity owns the bare name (`eps`), a later one gets
``class/name``, a class that recurs ``class_2/name``; so appending a stage renames nothing. The full
path (``1/inner/eps``) always works too. Parameter groups and checkpoints use the same keys.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from torch import Tensor

from .._core.kinds import expect_transformation
from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained, suggestions
from ..errors import HyperparameterError
from ..typing import Scalar

Tx = TypeVar("Tx", bound=GradientTransformation)


@explained
def hyperparams(
    tx: GradientTransformation, of: tuple[str | None, Tensor] | None = None
) -> dict[str, Scalar | tuple[Scalar, ...]]:
    """The hyperparameters of `tx`, in order, by name.

        >>> hyperparams(chain(clip_by_global_norm(1.0), scale_by_adam(), scale(-0.1)))
        {'max_norm': 1.0, 'eps': 1e-06, 'betas': (0.9, 0.999), 'scale_by_adam/eps': 1e-08,
        'eps_root': 0.0, 'factor': -0.1}

    Values may be tensors, to differentiate through or to `torch.func.vmap` over, and schedules.
    With a parameter `of`, by name and tensor, only those that have to do with it: inside a
    `partition`, those of its own branch.
    """
    expect_transformation("hyperparams", tx, "hyperparams(tx)")
    return {key: getattr(node, name) for key, (_, node, name) in _fields(tx, of).items()}


@explained
def with_hyperparams(
    tx: Tx,
    values: Mapping[str, Scalar | tuple[Scalar, ...]] | None = None,
    /,
    **named: Scalar | tuple[Scalar, ...],
) -> Tx:
    """A copy of `tx` in which the named hyperparameters have new values.

        with_hyperparams(tx, lr=0.1) == with_hyperparams(tx, {"lr": 0.1})

    Args:
        tx: Any transformation, at any depth.
        values: New values by key of `hyperparams`, or by full path.
        **named: The same, by keyword.

    Raises:
        HyperparameterError: If `tx` has no such hyperparameter, or the value is out of range.
    """
    return set_hyperparams("with_hyperparams", tx, values, named)


def set_hyperparams(
    who: str, tx: Tx, values: Mapping[str, Any] | None, named: Mapping[str, Any] = {}
) -> Tx:
    """`with_hyperparams`, called by another name; a name is given in `values` or by keyword."""
    expect_transformation(who, tx, f"{who}(tx, lr=...)")
    values = _together(who, values, named)
    known = field_paths(tx)
    by_path = {"/".join((*path, name)): (path, name) for path, name in known.values()}
    found: dict[FieldPath, Any] = {}
    for key, value in values.items():
        field = known.get(key) or by_path.get(key)
        if field is None:
            meant = "".join(f" {sentence}" for sentence in suggestions([key], [*known, *by_path]))
            raise HyperparameterError(
                f"`{who}`: unknown hyperparameter `{key}`.{meant} There are {list(known)}, by full "
                f"path {list(by_path)}."
            )
        if field in found:
            raise HyperparameterError(
                f"`{who}`: `{key}` and another key of {list(values)} name the same "
                "hyperparameter: give it one value."
            )
        found[field] = value
    return with_fields(tx, found)


def _together(
    who: str, values: Mapping[str, Any] | None, named: Mapping[str, Any]
) -> Mapping[str, Any]:
    """What is given in a dict, and by keyword."""
    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        raise HyperparameterError(
            f"`{who}`: expected a dict of values by name, or keywords, got {values!r}: write "
            f"`{who}(tx, {{'lr': ...}})` or `{who}(tx, lr=...)`."
        )
    if twice := sorted(values.keys() & named.keys()):
        raise HyperparameterError(f"`{who}`: {twice} is given in the dict and by keyword.")
    return {**values, **named}


def unique_keys(parts: Iterable[tuple[str, str]]) -> list[str]:
    """Keys for the pairs (label of the owner, name of the quantity), in order."""
    taken: set[str] = set()
    keys = []
    for label, name in parts:
        key = name if name not in taken else f"{label}/{name}"
        while key in taken:  # a class is called as the label of another
            key += "_2"
        taken.add(key)
        keys.append(key)
    return keys


def labels(nodes: Iterable[GradientTransformation]) -> list[str]:
    """The class of each node; ``class_2`` where it comes for the second time."""
    seen: dict[str, int] = {}
    out = []
    for node in nodes:
        name = type(node).__name__
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return out


def walk(
    tx: GradientTransformation,
    path: tuple[str, ...] = (),
    of: tuple[str | None, Tensor] | None = None,
) -> list[tuple[tuple[str, ...], GradientTransformation]]:
    """`tx` and all that it is made of, with their paths, in order.

    With a parameter `of`, by name and tensor, only what has to do with it.
    """
    found = [(path, tx)]
    for key, child in (tx.children() if of is None else tx.children_of(*of)).items():
        found += walk(child, (*path, key), of)
    return found


def paths(
    tx: GradientTransformation, of: tuple[str | None, Tensor] | None = None
) -> dict[str, str]:
    """The full path of every hyperparameter, by key; with `of`, of those of one parameter."""
    return {key: "/".join((*path, name)) for key, (path, name) in field_paths(tx, of).items()}


FieldPath = tuple[tuple[str, ...], str]
"""The path of a node, and the name of one of its fields."""


def field_paths(
    tx: GradientTransformation, of: tuple[str | None, Tensor] | None = None
) -> dict[str, FieldPath]:
    """The field of every hyperparameter, by key; it does not depend on values."""
    return {key: (path, name) for key, (path, _, name) in _fields(tx, of).items()}


def with_fields(tx: Tx, values: Mapping[FieldPath, Any]) -> Tx:
    """A copy of `tx` with new values in these fields; nodes without a change are kept."""
    changes: dict[tuple[str, ...], dict[str, Any]] = {}
    for (path, name), value in values.items():
        changes.setdefault(path, {})[name] = value
    return _with_fields(tx, (), changes)


def _fields(
    tx: GradientTransformation, of: tuple[str | None, Tensor] | None = None
) -> dict[str, tuple[tuple[str, ...], GradientTransformation, str]]:
    nodes = walk(tx, of=of)
    fields, parts = [], []
    for label, (path, node) in zip(labels(node for _, node in nodes), nodes, strict=True):
        for name in node.hyperparameters:
            if getattr(node, name) is not None:
                fields.append((path, node, name))
                parts.append((label, name))
    return dict(zip(unique_keys(parts), fields, strict=True))


def _with_fields(
    tx: Tx, path: tuple[str, ...], changes: Mapping[tuple[str, ...], Mapping[str, Any]]
) -> Tx:
    here = len(path)
    if any(len(other) > here and other[:here] == path for other in changes):
        children = tx.children()
        tx = tx.with_children(
            {k: _with_fields(c, (*path, k), changes) for k, c in children.items()}
        )
    return tx.replace(**changes[path]) if path in changes else tx
