"""Gradients that are scaled, and steps that are left out: what a gradient scaler asks for."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._core import precision
from .._core.reduction import Reduce
from .._core.select import select
from .._core.stage import Bucket, Members, Node, Scalars
from .._core.tensor_rule import GradientTransformation, Ran
from ..typing import Memory, Scalar, Slots
from ._around import Around


class unscaled(Around):
    """Runs `inner` on gradients divided by a scale, unless one of them is not finite.

        inner(g / grad_scale),   or nothing at all where found_inf is not 0

    Both are read where they are, on a device too, and nothing waits for them. Where nothing is
    done, the updates are minus zero, and slots and shared scalars keep their values exactly,
    whatever the gradients are. The state is that of `inner`, whose step count the caller keeps.

    Args:
        inner: The inner transformation, which works tensor by tensor.
        found_inf: Whether a gradient is infinite or NaN: a 0-d tensor that is 0 or not.
        grad_scale: What the gradients have been multiplied by, a 0-d tensor. They are multiplied by
            its inverse, which is rounded to the dtype of the mathematics.
    """

    inner: GradientTransformation
    found_inf: Scalar
    grad_scale: Scalar = 1.0
    replayable = True

    def takes_examples(self) -> bool:
        return self.inner.takes_examples()

    def open(self, buckets: Sequence[Bucket], members: Members) -> Node:
        inner = self._inner.open([b._replace(tx=b.tx.inner) for b in buckets], members)
        rules, memory = [b.tx for b in buckets], [b.memory for b in buckets]
        rows = [rule.hyperparam_values() for rule in rules]
        return Node(rules, rows, memory, members, [inner])

    def run(
        self,
        gs: list[Tensor],
        slots: list[Slots],
        ps: list[Tensor],
        node: Node,
        reduce: Reduce,
    ) -> tuple[list[Tensor], list[Slots]]:
        (child,) = node.children
        if node.is_known:
            return self._inner.run(gs, slots, ps, child, reduce)
        scalars = node.scalars(gs)
        made = {id(s): _flag_and_factor(s) for s in scalars}  # once for each row
        each = [made[id(s)] for s in scalars]
        good = []
        for g, (skip, factor) in zip(gs, each, strict=True):
            # Rules compute with them in any case, and some of their functions refuse NaN.
            good.append(torch.where(skip, 0.0, g * factor))
        us, new = self._inner.run(good, slots, ps, child, reduce)
        us = [torch.where(skip, -0.0, u) for u, (skip, _) in zip(us, each, strict=True)]
        if child.new_params is not None:
            all_new = zip(each, ps, child.new_params, strict=True)
            node.new_params = [
                q if q is None else torch.where(skip, p, q) for (skip, _), p, q in all_new
            ]
        kept = zip(each, slots, new, strict=True)
        return us, [_unless(skip, old, own) for (skip, _), old, own in kept]

    def memory_after(self, node: Node) -> list[Memory]:
        made: dict[Any, Memory] = {}  # what buckets share, once
        after = []
        new = self._inner.memory_after(node.children[0])
        for row, old, own in zip(node.rows, node.memory, new, strict=True):
            key = (id(old), id(own))
            if key not in made:
                found = bool(precision.entries(own))
                made[key] = select(row["found_inf"] != 0, old, own) if found else own
            after.append(made[key])
        return after

    def nodes(self, node: Node, buckets: Sequence[int]) -> dict[tuple[str, ...], Ran]:
        return self._inner.nodes(node.children[0], buckets)


def _flag_and_factor(s: Scalars) -> tuple[Tensor, Any]:
    return s.found_inf != 0, 1 / s.grad_scale


def _unless(skip: Tensor, old: Slots, new: Slots) -> Slots:
    """New slots, or the old ones where `skip` holds."""
    return precision.map_slots(
        lambda y, x: y if y is x else torch.where(skip, x, y),
        new,
        old,
    )
