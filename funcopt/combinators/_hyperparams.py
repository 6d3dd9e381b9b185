"""Reading and writing the hyperparameters of a whole chain by name.

One naming for all: a hyperparameter that only one stage has is named by its bare name (`eps`).
Where several have it, each has its label in front, if it is in a `partition` (``adamw/lr``), or its
class (``scale_by_adam/eps``, the second ``scale_by_adam_2/eps``), or both. The full path
(``1/inner/eps``) always works too. Parameter groups and checkpoints use the same keys.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from .._core.compact import in_message
from .._core.kinds import described, expect_transformation
from .._core.tensor_rule import GradientTransformation, NamedParams
from .._hints.calls import explained, suggestions
from ..errors import HyperparameterError
from ..typing import Scalar

Tx = TypeVar("Tx", bound=GradientTransformation)


@explained
def hyperparams(
    tx: GradientTransformation, of: NamedParams | None = None
) -> dict[str, Scalar | tuple[Scalar, ...]]:
    """The hyperparameters of `tx`, in order, by name.

        >>> hyperparams(chain(clip_by_global_norm(1.0), scale_by_adam(), scale(-0.1)))
        {'max_norm': 1.0, 'betas': (0.9, 0.999), 'eps': 1e-08, 'eps_root': 0.0, 'factor': -0.1}
        >>> hyperparams(partition({"matrix": scale(-0.1), "rest": scale(-0.2)}, labels))
        {'matrix/factor': -0.1, 'rest/factor': -0.2}

    Values may be tensors, to differentiate through or to `torch.func.vmap` over, and schedules.
    With parameters `of`, pairs of name and tensor, only those that apply to at least one of these:
    inside a `partition`, those of their own branches.
    """
    expect_transformation("hyperparams", tx, "hyperparams(tx)")
    if of is not None:
        _check_pairs(of)
    return {key: getattr(field.node, field.name) for key, field in _fields(tx, of).items()}


def _check_pairs(of: Any) -> None:
    pairs = isinstance(of, (list, tuple)) and not hasattr(of, "_fields")
    if not pairs or not all(isinstance(x, tuple) and len(x) == 2 for x in of):
        raise HyperparameterError(
            "`hyperparams`: `of` must be a list of pairs of name and tensor, such as "
            f"`list(params.items())`, got {described(of)} Hyperparameters are no part of a state: "
            "the call is `hyperparams(tx)`."
        )


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
    """`with_hyperparams` under the name `who`; hyperparameters are in `values` or keywords."""
    expect_transformation(who, tx, f"{who}(tx, lr=...)")
    values = _together(who, values, named)
    found: dict[FieldPath, Any] = {}
    for key, value in values.items():
        field = find_field(who, tx, key)
        if field is None:
            known, by_path = hyperparams(tx), list(paths(tx).values())
            meant = "".join(f" {sentence}" for sentence in suggestions([key], [*known, *by_path]))
            raise HyperparameterError(
                f"`{who}`: unknown hyperparameter `{key}`.{meant} There are {list(known)}, by full "
                f"path {by_path}."
            )
        if field in found:
            raise HyperparameterError(
                f"`{who}`: `{key}` and another key of {list(values)} name the same "
                "hyperparameter: give it one value."
            )
        found[field] = value
    return with_fields(tx, found)


def find_field(
    who: str, tx: GradientTransformation, key: str, of: NamedParams | None = None
) -> "FieldPath | None":
    """The field that `key` names; `None` if there is none.

    Raises:
        HyperparameterError: If it names several.
    """
    fields = _fields(tx, of)
    for field in fields.values() if "/" in key else ():
        if field.full_path == key:
            return field.path, field.name
    meant = [own for own, field in fields.items() if key in field.names]
    if len(meant) > 1:
        raise HyperparameterError(
            f"`{who}`: `{key}` is a hyperparameter of several stages: say which one, by one of "
            f"{meant}."
        )
    return (fields[meant[0]].path, fields[meant[0]].name) if meant else None


def _together(
    who: str, values: Mapping[str, Any] | None, named: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The values that are given in a dict or by keyword."""
    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        raise HyperparameterError(
            f"`{who}`: expected a dict of values by name, or keywords, got "
            f"{in_message(values)}: write `{who}(tx, {{'lr': ...}})` or `{who}(tx, lr=...)`."
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
        while key in taken:  # a class has the name of another label
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
    tx: GradientTransformation, path: tuple[str, ...] = (), of: NamedParams | None = None
) -> list[tuple[tuple[str, ...], GradientTransformation]]:
    """`tx` and all transformations in it, with their paths, in order.

    With parameters `of`, pairs of name and tensor, only those that apply to one of them.
    """
    found = [(path, tx)]
    mine = {} if of is None else tx.params_of_children(of)
    for key, child in tx.children().items():
        if of is None or key in mine:
            found += walk(child, (*path, key), mine.get(key))
    return found


def paths(tx: GradientTransformation, of: NamedParams | None = None) -> dict[str, str]:
    """The full path of every hyperparameter, by key; with `of`, of those of some parameters."""
    return {key: field.full_path for key, field in _fields(tx, of).items()}


FieldPath = tuple[tuple[str, ...], str]
"""The path of a node, and the name of one of its fields."""


def field_paths(tx: GradientTransformation, of: NamedParams | None = None) -> dict[str, FieldPath]:
    """The field of every hyperparameter, by key; it does not depend on values."""
    return {key: (field.path, field.name) for key, field in _fields(tx, of).items()}


def with_fields(
    tx: Tx,
    values: Mapping[FieldPath, Any],
    change: Callable[[Any, Mapping[str, Any]], Any] = lambda node, own: node.replace(**own),
) -> Tx:
    """A copy of `tx` with new values in these fields; nodes without a change are kept.

    Each node is made by ``change(node, its_values)``.
    """
    changes: dict[tuple[str, ...], dict[str, Any]] = {}
    for (path, name), value in values.items():
        changes.setdefault(path, {})[name] = value
    made: Tx = _with_fields(tx, changes, change)
    return made


class _Field(NamedTuple):
    """A hyperparameter, and all of its names."""

    path: tuple[str, ...]
    node: GradientTransformation
    name: str
    names: tuple[str, ...]  # the shortest first

    @property
    def full_path(self) -> str:
        return "/".join((*self.path, self.name))


def _fields(tx: GradientTransformation, of: NamedParams | None = None) -> dict[str, _Field]:
    """The hyperparameters, each under the shortest name that no other one has."""
    found: list[_Field] = []
    around: dict[tuple[str, ...], tuple[str, ...]] = {(): ()}  # the labels that a path is inside of
    seen: Counter[Any] = Counter()
    for path, node in walk(tx, of=of):
        inside = around[path]
        for key in node.children():
            around[*path, key] = (*inside, key) if node.labeled else inside
        kind = type(node).__name__
        seen[inside, kind] += 1
        stage = kind if seen[inside, kind] == 1 else f"{kind}_{seen[inside, kind]}"
        for name in node.hyperparameters:
            if getattr(node, name) is not None:
                names = (name, "/".join((*inside, name)), "/".join((*inside, stage, name)))
                found.append(_Field(path, node, name, tuple(dict.fromkeys(names))))
    shared = Counter(name for field in found for name in field.names)
    return {
        next((name for name in field.names if shared[name] == 1), field.full_path): field
        for field in found
    }


def _with_fields(
    tx: Any,
    changes: Mapping[tuple[str, ...], Mapping[str, Any]],
    change: Callable[[Any, Mapping[str, Any]], Any],
) -> Any:
    inside: dict[str, dict[tuple[str, ...], Mapping[str, Any]]] = {}
    for path, own in changes.items():
        if path:
            inside.setdefault(path[0], {})[path[1:]] = own
    for key, of_child in inside.items():
        tx = tx.with_child(key, _with_fields(tx.children()[key], of_child, change))
    return change(tx, changes[()]) if () in changes else tx
