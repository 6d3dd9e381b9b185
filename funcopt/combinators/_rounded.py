"""Parameters in 16 bits that learn: how they are rounded, and what is kept of what that drops."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from .._core import checks
from .._core.reduction import Reduce
from .._core.stage import Bucket, Members, Node, Scalars
from .._core.tensor_rule import GradientTransformation, Part
from .._numerics import narrow
from .._numerics.scalars import integer
from ..errors import LeafError
from ..typing import Memory, Slots
from ._around import Around
from ._inner import check_inner

Rounding = Literal["nearest", "stochastic", "kahan", "remainder", "remainder8", "master"]
"""How `rounded` stores parameters in 16 bits."""

NARROW = (torch.bfloat16, torch.float16)


class KahanSlots(NamedTuple):
    """The slots of ``rounded(..., "kahan")``."""

    compensation: Tensor  # like p: what rounding has dropped, itself rounded


class RemainderSlots(NamedTuple):
    """The slots of ``rounded(..., "remainder")``, and of "remainder8"."""

    remainder: Tensor  # int16 or int8, like p: what the parameter lacks


class MasterSlots(NamedTuple):
    """The slots of ``rounded(..., "master")``."""

    master_param: Tensor  # float32, like p: the parameter


class RoundedSlots(NamedTuple):
    """The slots of `rounded`."""

    own: Slots
    inner: Slots


class Nearest:
    """How a number in float32 is kept in 16 bits: rounded to the nearest, and nothing more."""

    dtypes: ClassVar[tuple[torch.dtype, ...]] = NARROW

    def init(self, p: Tensor) -> Slots:
        """What is kept beside the parameter `p`."""
        del p
        return ()

    def load(self, p: Tensor, own: Any, dtype: torch.dtype) -> Tensor:
        """The number, of what is stored."""
        del own, dtype
        return p

    def store(self, x: Tensor, dtype: torch.dtype, s: Scalars) -> Tensor:
        """What the parameter becomes: a number of `dtype`."""
        del s
        return narrow.rounded_to(x, dtype)

    def rest(self, x: Tensor, p: Tensor, dtype: torch.dtype) -> Slots:
        """What is kept beside it, if it has become `p`."""
        del x, p, dtype
        return ()


class Stochastic(Nearest):
    """Up or down, so that it is right on average."""

    dtypes = (torch.bfloat16,)

    def store(self, x: Tensor, dtype: torch.dtype, s: Scalars) -> Tensor:
        noise = s.draw.noise(s.seed, s.low, s.high, x)
        return narrow.rounded_at_random(x, noise)


class Kahan(Nearest):
    """With what rounding has dropped, which is rounded itself."""

    def init(self, p: Tensor) -> KahanSlots:
        return KahanSlots(torch.zeros_like(p))

    def load(self, p: Tensor, own: KahanSlots, dtype: torch.dtype) -> Tensor:
        return p + own.compensation

    def rest(self, x: Tensor, p: Tensor, dtype: torch.dtype) -> KahanSlots:
        off = x - p
        return KahanSlots(torch.where(off.isfinite(), off, 0.0))


class Remainder(Nearest):
    """The upper 16 bits, and the lower ones: nothing is rounded."""

    dtypes = (torch.bfloat16,)

    def init(self, p: Tensor) -> RemainderSlots:
        return RemainderSlots(torch.zeros_like(p, dtype=torch.int16))

    def load(self, p: Tensor, own: RemainderSlots, dtype: torch.dtype) -> Tensor:
        return narrow.with_low_half(p, own.remainder)

    def store(self, x: Tensor, dtype: torch.dtype, s: Scalars) -> Tensor:
        return narrow.truncated(x)

    def rest(self, x: Tensor, p: Tensor, dtype: torch.dtype) -> RemainderSlots:
        return RemainderSlots(narrow.low_half(torch.where(narrow.truncated(x) == p, x, p)))


class Remainder8(Nearest):
    """With 8 bits of what rounding has dropped."""

    def init(self, p: Tensor) -> RemainderSlots:
        return RemainderSlots(torch.zeros_like(p, dtype=torch.int8))

    def load(self, p: Tensor, own: RemainderSlots, dtype: torch.dtype) -> Tensor:
        return narrow.with_residual(p, own.remainder, _name(dtype))

    def rest(self, x: Tensor, p: Tensor, dtype: torch.dtype) -> RemainderSlots:
        return RemainderSlots(narrow.residual(x, p, _name(dtype)))


class Master(Nearest):
    """The number itself; the parameter is a copy of it."""

    def init(self, p: Tensor) -> MasterSlots:
        return MasterSlots(p.to(torch.float32, copy=True))

    def load(self, p: Tensor, own: MasterSlots, dtype: torch.dtype) -> Tensor:
        # If the parameter was changed in between, that counts.
        return torch.where(narrow.rounded_to(own.master_param, dtype) == p, own.master_param, p)

    def rest(self, x: Tensor, p: Tensor, dtype: torch.dtype) -> MasterSlots:
        return MasterSlots(x)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


HOW: Mapping[Rounding, Nearest] = {
    "nearest": Nearest(),
    "stochastic": Stochastic(),
    "kahan": Kahan(),
    "remainder": Remainder(),
    "remainder8": Remainder8(),
    "master": Master(),
}


class rounded(Around):
    """Keeps what parameters in bfloat16 or float16 lose where an update is less than their spacing.

    A bfloat16 parameter of 1 has its next neighbors at 0.996 and 1.008: updates of 1e-4, rounded to
    the nearest, never move it. `inner` sees the parameter x in float32; after its update u,

        nearest      p <- round(x + u)
        stochastic   p <- one of the two neighbors of x + u, which on average is x + u
        kahan        p <- round(x + u),   compensation <- x + u - p      in the dtype of p
        remainder8   p <- round(x + u),   remainder <- x + u - p         in 8 bits
        remainder    p <- the upper 16 bits of x + u,   remainder <- the lower ones
        master       master_param <- x + u,   p <- round(master_param)

    where x is p with what is kept beside it. So "remainder" and "master" are training in float32 to
    the bit, and the whole update, weight decay included, is rounded once. It is the outermost
    transformation; an `Optimizer` has it as the argument `rounding`. Parameters that are not in 16
    bits are updated as by `inner`.

        params = apply_updates(params, updates)

    gives exactly what is said above: the updates are in float32, whatever the dtype of the
    gradients. Derivatives do not go through rounding.

    Bytes beside those of the parameter, for each entry: 0, 0, 2, 1, 2, 4.

    Args:
        inner: The whole chain, which works tensor by tensor.
        rounding: "nearest", "stochastic", "kahan", "remainder8", "remainder" or "master".
            "stochastic" and "remainder" are for bfloat16 only.
        seed: Of the random bits, which depend on it, the step, the name of the parameter and the
            place of an entry in it: the same after a restart, and on any number of ranks.

    Raises:
        HyperparameterError: If there is no such rounding, or `inner` takes whole trees.
        LeafError: If a parameter is in float16, and the rounding is for bfloat16 only.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Zamirai et al., "Revisiting BFloat16 Training", 2020, https://arxiv.org/abs/2010.06192, for
        stochastic rounding and Kahan summation. "remainder8" is `param_ecc` of HeavyBall.
    """

    inner: GradientTransformation
    rounding: Rounding = "stochastic"
    seed: int = 0
    replayable = True
    follows_counts = True
    is_outermost = True
    exact_updates = True

    def __post_init__(self) -> None:
        check_inner(self, self.inner)
        checks.choice(self, "rounding", self.rounding, get_args(Rounding))
        checks.whole_number(self, "seed", self.seed, least=0)

    @property
    def random(self) -> bool:  # type: ignore[override]
        return self.rounding == "stochastic"

    @property
    def comes_last(self) -> bool:  # type: ignore[override]
        return True

    def params_needed_by(self) -> str | None:
        return type(self).__name__

    def check_names(self, params: Sequence[tuple[str | None, Tensor]]) -> None:
        dtypes = HOW[self.rounding].dtypes
        for name, p in params:
            if p.dtype in NARROW and p.dtype not in dtypes:
                which = "a parameter" if name is None else f"parameter `{name}`"
                raise LeafError(
                    f"`rounded`: {self.rounding!r} is for bfloat16, and {which} is in {p.dtype}: "
                    "use 'kahan', 'remainder8' or 'master'."
                )
        super().check_names(params)

    def init_slots(self, name: str | None, p: Tensor) -> RoundedSlots:
        own = HOW[self.rounding].init(p) if p.dtype in NARROW else ()
        return RoundedSlots(own, self._inner.init_slots(name, p))

    def open(self, buckets: Sequence[Bucket], members: Members) -> Node:
        child = self._inner.open([b._replace(tx=b.tx.inner) for b in buckets], members)
        rows = [_words(b.step, b.tx.seed) if self.random else {} for b in buckets]
        rules = [b.tx for b in buckets]
        return Node(rules, rows, [b.memory for b in buckets], members, [child])

    def run(
        self,
        gs: list[Tensor],
        slots: list[Slots],
        ps: list[Tensor],
        node: Node,
        reduce: Reduce,
    ) -> tuple[list[Tensor], list[Slots]]:
        inner: list[Any] = [own.inner for own in slots]
        if node.is_known:
            self._inner.run(gs, inner, ps, node.children[0], reduce)
            return gs, slots
        how, dtypes = HOW[self.rounding], [x.dtype for x in node.members.tensors]
        each: Any = zip(ps, slots, dtypes, strict=True)
        wide = [
            how.load(p.to(torch.float32), x.own, d).to(p.dtype) if d in NARROW else p
            for p, x, d in each
        ]
        us, new = self._inner.run(gs, inner, wide, node.children[0], reduce)
        out: list[tuple[Tensor, Tensor | None, Slots]] = []
        for p, x, u, d, s in zip(ps, wide, us, dtypes, node.scalars(ps), strict=True):
            if d not in NARROW:
                out.append((u, None, ()))
                continue
            x = (x + u).to(torch.float32)
            q = how.store(x, d, s)
            if node.members.in_place:
                out.append((u, q, how.rest(x, q, d)))
            else:
                u = torch.where(q == p, 0.0, q - p)
                out.append((u, None, how.rest(x, narrow.rounded_to(p + u, d), d)))
        node.new_params = [q for _, q, _ in out]
        own = [RoundedSlots(*two) for two in zip((x for _, _, x in out), new, strict=True)]
        return [u for u, _, _ in out], own

    def eval_param(self, name: str | None, p: Tensor, slots: Any, memory: Memory) -> Tensor:
        return self._inner.eval_param(name, p, slots.inner, memory)

    def slot_parts(self, slots: Any, name: str | None, p: Tensor) -> list[Part]:
        return [(self, slots.own), *self._inner.slot_parts(slots.inner, name, p)]


def _words(step: Any, seed: int) -> dict[str, Any]:
    """The step in two numbers of 16 bits, which are exact in every dtype."""
    step = integer(step)
    low, high = step % 2**16, step // 2**16 % 2**16
    if isinstance(step, Tensor):
        low, high = low.to(torch.float32), high.to(torch.float32)
    return {"low": low, "high": high, "seed": seed}
