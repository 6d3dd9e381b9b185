"""Inner transformations of low-rank projections of the gradient: GaLore, APOLLO, Fira."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.reduction import Reduce
from .._core.select import select
from .._core.stage import Bucket, Members, Node, Scalars
from .._core.tensor_rule import GradientTransformation, NamedParams
from .._numerics import shards
from .._numerics.linalg import singular_vectors
from .._numerics.random import Draw
from .._numerics.scalars import number, sqrt
from ..errors import HyperparameterError, LeafError
from ..transforms import limit_norm_growth
from ..typing import Scalar, Slots
from ._around import Around
from ._inner import check_inner
from ._order import refuse_last

EPS = 1e-8
"""Added to the norms of what is projected, as in the code of APOLLO."""

LIMIT = limit_norm_growth()
"""The limit of what the projection leaves out."""


class LowRankSlots(NamedTuple):
    """The slots of `low_rank`."""

    projector: Any  # (n, rank), of the dimension that is projected; () for what is no such matrix
    inner: Slots
    left_out: Slots = ()  # of the limit of what is left out; () where there is none


class low_rank(Around):
    """Runs `inner` on gradients of matrices that are projected to a lower rank, to save its slots.

        P <- a new projector of g, (n, rank)     in every `update_gap`-th update, from the first on
        low = g P                                (m, rank): the gradient that `inner` sees
        u = scale inner(low) P^T                 restore="project", GaLore
        u = scale g norm(inner(low)) / (norm(low) + 1e-8)              "channel" or "tensor", APOLLO
        u = scale inner(low) P^T + limited((g - scale low P^T) f)      with residual=True, Fira

    for a matrix g of m rows and n columns, transposed where that is not the dimension to project.
    What is projected are matrices whose both dimensions are above `rank`; `inner` sees all other
    tensors as they are, and u is its update.

    P has the first right singular vectors of g ("svd"), or is drawn from a normal distribution of
    variance 1 / rank ("random"), by the seed and the name of the parameter, the same on one rank or
    many. The slots of `inner` are not turned when P changes. With "channel", norms are those of
    rows, with "tensor" those of matrices: `inner` only finds the scale of g. On shards the gradient
    is gathered, P and the slots of matrices are kept on every rank. Derivatives do not go through
    the singular value decomposition.

    With `residual`, f is the factor of APOLLO, of rows, and limited is `limit_norm_growth`.

    `inner` is without weight decay and without anything else that needs the parameters: that goes
    after it.

        galore = chain(low_rank(scale_by_adam(), 128, scale=0.25), scale_by_learning_rate(1e-3))
        apollo = chain(
            low_rank(scale_by_adam(eps=1e-6), 256, projection="random", restore="channel"),
            limit_norm_growth(1.01),
            scale_by_learning_rate(1e-3),
        )

    Args:
        inner: The inner transformation, which works tensor by tensor.
        rank: The rank of what `inner` sees.
        update_gap: The number of updates from one projector to the next.
        scale: Factor of the updates of projected matrices; not negative. APOLLO's is its root.
        projection: Where projectors are from: "svd" or "random".
        restore: How the update becomes one of the whole matrix: "project", "channel" or "tensor".
        dim: The dimension that is projected: the "smaller" one, as in the code of GaLore, or the
            "larger" one, as in Optax, for fewer and smaller slots.
        seed: Seed of random projectors: an integer, not negative.
        residual: Add what the projection leaves out, scaled as `inner` scales the rest; only with
            "project".

    Raises:
        HyperparameterError: If a hyperparameter is out of range, or `residual` is not with
            "project"; if `inner` needs the parameters,
            evaluates the loss, negates the updates where only their norms are used, takes whole
            trees or per-example gradients, or has a stage that has to come last.
        LeafError: If a matrix to project is complex.

    References:
        Zhao et al., "GaLore: Memory-Efficient LLM Training by Gradient Low-Rank Projection", ICML
        2024, https://arxiv.org/abs/2403.03507; Zhu et al., "APOLLO: SGD-like Memory, AdamW-level
        Performance", MLSys 2025, https://arxiv.org/abs/2412.05270; Chen et al., "Fira: Can We
        Achieve Full-rank Training of LLMs Under Low-rank Constraint?", 2024,
        https://arxiv.org/abs/2410.01623
    """

    inner: GradientTransformation
    rank: int = 128
    update_gap: int = 200
    scale: Scalar = 1.0
    projection: Literal["svd", "random"] = "svd"
    restore: Literal["project", "channel", "tensor"] = "project"
    dim: Literal["smaller", "larger"] = "smaller"
    seed: int = 0
    residual: bool = False
    chooses = True
    own_slots = True

    def __post_init__(self) -> None:
        check_inner(self, self.inner)
        refuse_last(self, self.inner)
        checks.whole_number(self, "rank", self.rank, least=1)
        checks.whole_number(self, "update_gap", self.update_gap, least=1)
        checks.non_negative(self, "scale", self.scale)
        checks.choice(self, "projection", self.projection, ("svd", "random"))
        checks.choice(self, "restore", self.restore, ("project", "channel", "tensor"))
        checks.choice(self, "dim", self.dim, ("smaller", "larger"))
        checks.whole_number(self, "seed", self.seed, least=0)
        checks.switch(self, "residual", self.residual)
        if self.residual and self.restore != "project":
            raise HyperparameterError(
                '`low_rank`: `residual` adds to what is projected back: leave `restore="project"`, '
                f"got {self.restore!r}."
            )
        if (asking := self._inner.params_needed_by()) is not None:
            raise HyperparameterError(
                f"`low_rank`: `{asking}` needs the parameters, which are not projected: put it "
                f"after, `chain(low_rank(...), {asking}(...))`."
            )
        if self.inner.needs_closure or self._inner.tensor_extra_names():
            raise HyperparameterError(
                "`low_rank`: `inner` must not evaluate the loss, nor take extra arguments that are "
                f"trees like the parameters, got {self.inner!r}."
            )
        if (self.residual or self.restore != "project") and self.inner.sign() == -1:
            how = "residual=True" if self.residual else f'restore="{self.restore}"'
            raise HyperparameterError(
                f"`low_rank`: with `{how}`, only norms of the updates of "
                "`inner` are used, so it must not negate them: put `scale_by_learning_rate` after."
            )

    @property
    def random(self) -> bool:  # type: ignore[override]
        return self.projection == "random"

    def params_of_children(self, params: NamedParams) -> dict[str, NamedParams]:
        return {"inner": [(n, self._low(p) if self._is_projected(p) else p) for n, p in params]}

    def sign(self) -> int | None:
        return self.inner.sign() if self.restore == "project" else 1

    def check_names(self, params: Sequence[tuple[str | None, Tensor]]) -> None:
        for name, p in params:
            if p.is_complex() and self._is_projected(p):
                which = "a parameter" if name is None else f"parameter `{name}`"
                raise LeafError(
                    f"`low_rank`: {which} of shape {tuple(p.shape)} must not be complex, as it is "
                    "to be projected. Split it with `torch.view_as_real`."
                )
        super().check_names(params)

    def init_slots(self, name: str | None, p: Tensor) -> LowRankSlots:
        if not self._is_projected(p):
            return LowRankSlots((), self._inner.init_slots(name, p))
        projector = torch.eye(self._shape(p)[1], self.rank, dtype=p.dtype, device=p.device)
        inner = self._inner.init_slots(name, self._low(p).zero_())
        return LowRankSlots(projector, inner, LIMIT.init_tensor(p) if self.residual else ())

    def open(self, buckets: Sequence[Bucket], members: Members) -> Node:
        tensors = [self._low(p) if self._is_projected(p) else p for p in members.tensors]
        rules = [b.tx.evaluated(b.count) for b in buckets]
        rows = [{**x.hyperparam_values(), "step": b.step} for x, b in zip(rules, buckets)]  # noqa: B905
        inner = [b._replace(tx=b.tx.inner) for b in buckets]
        child = self._inner.open(inner, members._replace(tensors=tensors))
        return Node(rules, rows, [b.memory for b in buckets], members, [child])

    def run(
        self,
        gs: list[Tensor],
        slots: list[Slots],
        ps: list[Tensor],
        node: Node,
        reduce: Reduce,
    ) -> tuple[list[Tensor], list[Slots]]:
        tensors, keys, scalars = node.members.tensors, node.keys(), node.scalars(gs)
        wide, lows, inner, projectors = list(gs), list(gs), list(ps), []
        for i, (tensor, own) in enumerate(zip(tensors, slots, strict=True)):
            projector = own.projector
            if isinstance(projector, Tensor):
                g = node.members.ranks.full_tensor(gs[i], tensor)
                projector = self._projector(g, projector, number(scalars[i].step), keys[i])
                wide[i] = self._turned(g, tensor)
                lows[i] = inner[i] = wide[i] @ projector
            projectors.append(projector)
        own = [x.inner for x in slots]
        us, new = self._inner.run(lows, own, inner, node.children[0], reduce)
        left_out = [x.left_out for x in slots]
        for i, (projector, s) in enumerate(zip(projectors, scalars, strict=True)):
            if isinstance(projector, Tensor):
                u = s.scale * self._restored(us[i], wide[i], lows[i], projector)
                if self.residual:
                    rest = wide[i] - s.scale * (lows[i] @ projector.mT)
                    rest, left_out[i] = _limited(rest * _factor(us[i], lows[i], (-1,)), left_out[i])
                    u = u + rest
                us[i] = shards.local_shard(self._turned(u, tensors[i]), tensors[i])
        return us, [LowRankSlots(*x) for x in zip(projectors, new, left_out, strict=True)]

    def _is_projected(self, p: Tensor) -> bool:
        return p.dim() == 2 and min(p.shape) > self.rank

    def _shape(self, p: Tensor) -> tuple[int, int]:
        """The dimension that is kept, and the one that is projected."""
        sizes = sorted(p.shape)
        return (sizes[1], sizes[0]) if self.dim == "smaller" else (sizes[0], sizes[1])

    def _turned(self, x: Tensor, p: Tensor) -> Tensor:
        """A matrix, transposed if its rows are what is projected; the inverse is the same."""
        return x if tuple(p.shape) == self._shape(p) else x.mT

    def _low(self, p: Tensor) -> Tensor:
        """A tensor of the shape that `inner` sees."""
        return torch.empty(self._shape(p)[0], self.rank, dtype=p.dtype, device=p.device)

    def _projector(self, g: Tensor, old: Tensor, step: Any, key: str) -> Tensor:
        """The projector of this update."""

        def new() -> Tensor:
            if self.projection == "random":
                drawn = Draw(key, old).normal(self.seed, step, old)
                return drawn / math.sqrt(self.rank)
            # Of g itself: the signs of the vectors are as arbitrary as in the code of GaLore.
            left, right = singular_vectors(g)
            columns = right if tuple(g.shape) == self._shape(g) else left
            return columns[:, : self.rank].clone()

        made: Tensor = select((step - 1) % self.update_gap == 0, new, old)
        return made

    def _restored(self, u: Tensor, g: Tensor, low: Tensor, projector: Tensor) -> Tensor:
        """The update of the whole matrix, of that of its projection."""
        if self.restore == "project":
            return u @ projector.mT
        return g * _factor(u, low, (-1,) if self.restore == "channel" else (-2, -1))


def _factor(u: Tensor, low: Tensor, dims: tuple[int, ...]) -> Tensor:
    """By how much `u` is larger than the projected gradient."""
    norm_of_u, norm = (sqrt(x.square().sum(dims, keepdim=True)) for x in (u, low))
    return norm_of_u / (norm + EPS)


def _limited(rest: Tensor, slots: Slots) -> tuple[Tensor, Slots]:
    """What the projection leaves out, with a limit of its growth."""
    name, values = type(LIMIT).__name__, LIMIT.hyperparam_values()
    return LIMIT.update_tensor(rest, slots, rest, Scalars(name, values))
