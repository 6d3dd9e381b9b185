"""Tensors, and their entries, see one another only where it says so."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import tree
from .._core.tensor_rule import GradientTransformation, TensorRule
from ..combinators import walk
from ..errors import LeafError
from ..typing import Params
from ._assert import close, require
from ._facts import chooses, couples, measures_tensors, rules_of
from ._trial import by_operations, gradients, train

__tracebackhide__ = True  # pytest shows the caller's line


@by_operations
def leaves_out_what_has_no_gradient(
    tx: GradientTransformation, params: Params, **extra: Any
) -> None:
    """A `None` gradient keeps the slots, gives `None`, and counts nothing elsewhere."""
    ps = tree.leaves(params)
    if len(ps) < 2 or extra or chooses(tx):
        return
    grads = gradients(ps, 0, tx=tx)
    grads[0] = None
    state = tx.init(ps)
    updates, new = tx.update(grads, state, ps)
    alone, _ = tx.update(grads[1:], tx.init(ps[1:]), ps[1:])
    require(tx, updates[0] is None, "makes an update where there is no gradient")
    close(tx, "updates beside a parameter without gradient", updates[1:], alone, 0.0)
    if tx.is_per_tensor():
        close(tx, "slots of a parameter without gradient", new.slots[0], state.slots[0], 0.0)


@by_operations
def treats_tensors_apart(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """Without a measure over the tree, tensors updated at once or one by one come out the same."""
    if extra or chooses(tx) or any(couples(node) for _, node in walk(tx)):
        return
    ps = tree.leaves(params)
    together = train(tx, ps, 3)
    apart = [train(tx, [p], 3, offset=i)[0] for i, p in enumerate(ps)]
    close(tx, "tensors updated apart", together, apart, 0.0)


@by_operations
def takes_complex_as_two_reals(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """An elementwise transformation sees a complex tensor as two reals; others refuse it."""
    rules = rules_of(tx)
    if extra or rules is None or chooses(tx):
        return
    ps = [torch.complex(p.to(torch.float64), 1 + p.to(torch.float64)) for p in tree.leaves(params)]
    if not all(rule.elementwise for rule in rules):
        try:
            tx.init(ps)
        except LeafError:
            return
        raise AssertionError(f"{tx!r} takes complex parameters, but is not elementwise.")
    pairs = [torch.view_as_real(p) for p in ps]
    state, state_of_pairs = tx.init(ps), tx.init(pairs)
    for t in range(3):
        grads = gradients(pairs, t, tx=tx)
        us, state = tx.update([torch.view_as_complex(g) for g in grads], state, ps)
        expected, state_of_pairs = tx.update(grads, state_of_pairs, pairs)
        close(tx, "complex updates", [torch.view_as_real(u) for u in us], expected, 0.0)


@by_operations
def is_elementwise_if_it_says_so(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """Where all rules are `elementwise`, tensors cut in two come out as the halves of the whole.

    A rule with a `finish_tensor` is without it: then it is.
    """
    tx = _unfinished(tx)
    rules = rules_of(tx)
    if extra or rules is None or chooses(tx) or not all(rule.elementwise for rule in rules):
        return
    if any(measures_tensors(node) for _, node in walk(tx)):
        return
    ps = [p.double() for p in tree.leaves(params)]
    whole, halves = tx.init(ps), tx.init(_cut(ps))
    for t in range(3):
        grads = gradients(ps, t, tx=tx)
        updates, whole = tx.update(grads, whole, ps)
        parts, halves = tx.update(_cut(grads), halves, _cut(ps))
        close(tx, "the halves of a tensor", parts, _cut(updates), 1e-12)


def _unfinished(tx: Any) -> Any:
    """`tx`, of whose rules that finish an update only what comes before is left."""
    if children := tx.children():
        return tx.with_children({k: _unfinished(child) for k, child in children.items()})
    if not (isinstance(tx, TensorRule) and tx.finishes):
        return tx
    kind = type(tx)
    left = {name: getattr(TensorRule, name) for name in ("finish_tensor", "unfit")}
    made: Any = object.__new__(type(kind.__name__, (kind,), {**left, "elementwise": True}))
    vars(made).update(vars(tx))
    return made


def _cut(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Each tensor in two halves, without its shape."""
    flat = [x.flatten() for x in tensors]
    return [half.clone() for x in flat for half in (x[: len(x) // 2], x[len(x) // 2 :])]
