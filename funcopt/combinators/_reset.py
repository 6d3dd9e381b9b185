"""Resetting one label of a partition."""

from collections.abc import Callable, Sequence
from typing import Any

from .. import tree
from .._core.functions import identity
from .._core.kinds import check_state, check_tree, expect_transformation
from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..errors import LabelError, StructureError
from ..typing import OptState, Params
from ._clocked import clocked
from ._hyperparams import walk
from ._partition import partition

Path = tuple[str, ...]  # of a branch


@explained
def reset_label(
    tx: GradientTransformation, state: OptState, params: Params, label: str
) -> OptState:
    """The state with one label of a `partition` reset, its step count included.

        state = reset_label(tx, state, params, "head")

    The next update of its parameters is that of a fresh optimizer, at the current learning rate:
    schedules continue. All other entries keep their values, and nothing is changed in place. Labels
    share a step count; from now on this one has its own, ``inner_step`` in the memory. So a
    checkpoint of this state is loaded into one that has been reset as well.

    Args:
        tx: A transformation with a `partition` anywhere in it.
        state: Its state.
        params: The current parameters.
        label: A label; if several partitions have it, its path, ``outer/inner``.

    Raises:
        LabelError: If there is no such label, or there are several.
        HyperparameterError: If `tx` is not a transformation.
        StructureError: If the state belongs to another one, or the arguments come in another order.
        LeafError: If `params` is no tree of tensors.
    """
    expect_transformation("reset_label", tx, "reset_label(tx, state, params, label)")
    check_state("reset_label", state, "init_state()")
    check_tree("reset_label", "params", params)
    chosen = _branch(tx, label)
    old = dict(zip(tree.names(state), tree.flatten(state)[0], strict=True))
    clocks: list[Path] = []
    had: list[Path] = []  # in the state
    for path in _branches(tx):
        before = set(_names(_clocked(tx, clocks), params))
        added = set(_names(_clocked(tx, [*clocks, path]), params)) - before
        if any(n.endswith("inner_step") and n in old for n in added):
            had.append(path)
        if path == chosen or path in had:
            clocks.append(path)
    if missing := sorted(set(_names(_clocked(tx, had), params)) - set(old)):
        raise StructureError(
            "`reset_label`: the state belongs to another transformation or to other parameters. "
            f"Missing: {missing}. The order is `reset_label(tx, state, params, label)`."
        )
    fresh = _clocked(tx, clocks).init(params)
    rest = _clocked(_changed(tx, chosen, lambda _: identity()), [x for x in clocks if x != chosen])
    kept = set(_names(rest, params))
    leaves, spec = tree.flatten(fresh)
    names = tree.names(fresh)
    each = zip(names, leaves, strict=True)
    return spec.unflatten([old[n] if n in kept and n in old else x for n, x in each])


def _branches(tx: GradientTransformation) -> dict[Path, str]:
    """The branches of all partitions, each with its labels, the outermost first."""
    nodes = dict(walk(tx))
    found = {}
    for path in nodes:
        at = [i for i in range(len(path)) if isinstance(nodes[path[:i]], partition)]
        if at and at[-1] == len(path) - 1:
            found[path] = "/".join(path[i] for i in at)
    return found


def _branch(tx: GradientTransformation, label: str) -> Path:
    known = _branches(tx)
    found = [p for p, called in known.items() if label in (called, p[-1])]
    exact = [p for p in found if known[p] == label]
    if len(exact) == 1 or len(found) == 1:
        return (exact or found)[0]
    raise LabelError(
        f"`reset_label`: {'several partitions have' if found else 'no partition has'} the label "
        f"{label!r}; labels of this transformation are {list(known.values())}."
    )


def _clocked(tx: GradientTransformation, paths: Sequence[Path]) -> GradientTransformation:
    """`tx`, with a step count for each of these branches, the innermost first."""
    for path in sorted(paths, key=len, reverse=True):
        tx = _changed(tx, path, clocked)
    return tx


def _changed(tx: Any, path: Path, change: Callable[[Any], Any]) -> Any:
    if not path:
        return change(tx)
    children = tx.children()
    return tx.with_children({**children, path[0]: _changed(children[path[0]], path[1:], change)})


def _names(tx: GradientTransformation, params: Params) -> list[str]:
    return tree.names(tx.init(params))
