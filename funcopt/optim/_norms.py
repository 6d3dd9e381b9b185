"""The norms of gradients, updates and parameters, in the steps in which they are asked for."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._numerics import shards
from .._numerics.names import plain_names
from .._numerics.scalars import double, moved
from ._metrics import Per, group_names
from ._options import Options, given_names
from ._ranks import ranks_of
from ._window import Window, accumulated

NAMES: tuple[str, ...] = ("grad_norm", "update_norm", "param_norm")
"""What is recorded, in this order."""


class Norms(NamedTuple):
    """The norms of a step, in the order of `NAMES`."""

    total: Tensor  # (3,): over all parameters, also those on other ranks
    each: Tensor  # (parameters, 3)
    keys: list[str]  # of the parameters
    group_of: list[int]  # of each parameter


class Copies(NamedTuple):
    """The parameters as they were before a step, and what was accumulated before it."""

    params: list[Tensor]
    values: list[Tensor]
    sums: list[Tensor | None]  # of gradients, by parameter
    divisor: float  # of these sums and the gradient


def before_step(
    param_groups: Sequence[Mapping[str, Any]], state: Mapping[Any, Any], window: Window | None
) -> Copies:
    """Copies of the parameters, and of accumulated gradients, which a step is about to change."""
    params = [p for group in param_groups for p in group["params"]]
    values = [shards.part(p).detach().clone() for p in params]
    if window is None or not window.direct:
        return Copies(params, values, [None] * len(params), 1)
    sums = [accumulated(state, p) for p in params]
    copies = [None if x is None else shards.part(x).detach().clone() for x in sums]
    return Copies(params, values, copies, window.divisor(state))


@torch.no_grad()
def norms_of_step(
    who: str, before: Copies, param_groups: list[Options], measure_group: Any
) -> Norms | None:
    """The norms of the step that was made since; no device is synchronized.

    `None` if there is no parameter, or the parameters are others now.
    """
    params = [p for group in param_groups for p in group["params"]]
    if not params or [id(p) for p in params] != [id(p) for p in before.params]:
        return None
    rows: list[Tensor] = []
    device = next((p for p in params if p.device.type != "cpu"), params[0]).device
    for p, old, earlier in zip(params, before.values, before.sums, strict=True):
        now = shards.part(p)
        none = torch.zeros((), device=now.device)
        g = None if p.grad is None else shards.part(shards.placed_as(p.grad, p))
        if earlier is not None:
            g = earlier if g is None else earlier.to(g.device) + g
        parts = [none if g is None else _norm(g) / before.divisor]
        parts += [_norm(now - old), _norm(now)]
        rows.append(torch.stack([double(moved(x, device)) for x in parts]))
    table = torch.stack(rows).square()
    ranks = ranks_of(who, param_groups, measure_group)
    spans = ranks.spans(params)
    total, each = ranks.total("sum", table, spans), ranks.each("sum", table.clone(), spans)
    names = plain_names([name for group in param_groups for name in given_names(group)])
    return Norms(
        total.sqrt(),
        each.sqrt(),
        [name or str(i) for i, name in enumerate(names)],
        [i for i, group in enumerate(param_groups) for _ in group["params"]],
    )


def as_metrics(
    norms: Norms, groups: Sequence[Mapping[str, Any]], per: Per | None
) -> dict[str, Tensor]:
    """The norms under the keys of `metrics`."""
    found: dict[str, Tensor] = dict(zip(NAMES, norms.total.unbind(), strict=True))
    if per == "group" and len(groups) > 1:
        for i, called in enumerate(group_names(groups)):
            if rows := [k for k, group in enumerate(norms.group_of) if group == i]:
                both = norms.each[rows[0] : rows[-1] + 1].square().sum(0).sqrt()
                found.update(_named(both, called))
    if per == "layer":
        for called, row in zip(norms.keys, norms.each.unbind(), strict=True):
            found.update(_named(row, called))
    return found


def _named(row: Tensor, called: str) -> dict[str, Tensor]:
    return {f"{name}/{called}": x for name, x in zip(NAMES, row.unbind(), strict=True)}


def _norm(x: Tensor) -> Tensor:
    """The norm over all entries, in at least float32."""
    if x.is_sparse:
        x = x.coalesce().values()
    x = torch.view_as_real(x) if x.is_complex() else x
    wide = torch.promote_types(x.dtype, torch.float32)
    norm: Tensor = torch.linalg.vector_norm(x, dtype=wide)
    return norm
