"""A step that autograd follows: what is stored is replaced, not written over."""

import torch

from .._core import precision
from .._core.reduction import reduce
from .._core.stage import Node
from .._numerics import shards
from ..engine import StepInputs


def differentiable_step(inputs: StepInputs) -> tuple[Node, list[object]]:
    """Adds the updates to the parameters, and returns the new slots."""
    node = inputs.tx.open(inputs.buckets, inputs.members()._replace(in_place=False))
    lifted = [inputs.lifted(i) for i in range(len(inputs.ps))]
    gs, slots, ps = ([one[k] for one in lifted] for k in range(3))
    us, new = inputs.tx.run(gs, slots, ps, node, reduce)
    out: list[object] = []
    for stored, p, u, own in zip(inputs.slots, inputs.ps, us, new, strict=True):
        out.append(precision.unaliased(precision.lower_slots(own, stored), [p]))
        p = shards.local(p)
        (torch.view_as_real(p) if p.is_complex() else p).add_(u if p.is_complex() else u.view_as(p))
    return node, out
