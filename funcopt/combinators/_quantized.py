"""Slots in 8 or 4 bits, around any chain."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args

import torch
from torch import Tensor

from .._core import checks, precision
from .._core.compact import in_message
from .._core.reduction import Reduce
from .._core.stage import Bucket, Members, Node
from .._core.tensor_rule import GradientTransformation
from .._numerics import shards
from ..errors import HyperparameterError
from ..typing import Memory, Slots
from ._around import Around
from ._codecs import FORMATS, STORED, Format, initial, loaded, stored_again
from ._inner import check_inner
from ._labels import Choice, Labels, choice_of_mask


class quantized(Around):
    """Stores the slots of `inner` in fewer bits; it computes in float32 as ever.

        quantized(adamw(1e-3))                                  # 2 bytes for each entry, not 8
        quantized(adamw(1e-3), slots={"exp_avg_sq": "fp32"})    # one of both
        quantized(chain(clip_by_global_norm(1.0), scale_by_muon(), scale(-0.02)), "bf16+8")

    In every update, a slot x is read, used and changed in float32, and only then stored again:

        8bit     codes of 8 bits, a scale for 256 entries       1.016 bytes for each entry
        4bit     codes of 4 bits, a scale for 128 entries       0.531
        fp8      float8_e4m3fn, a scale for 256 entries         1.016
        bf16+8   bfloat16, and 8 bits of what that drops        3
        bf16     bfloat16                                       2

    A scale is the largest magnitude of its block. A code is the place of the number nearest to the
    entry over its scale: "8bit" has bitsandbytes' dynamic map, signed, or unsigned for slots that
    are not negative, such as `exp_avg_sq`; "4bit" torchao's, which for those is linear, without 0.
    Blocks follow one another row by row; the part of a sharded tensor has blocks of its own, so its
    checkpoints load on as many ranks. Derivatives do not go through codes.

    In a checkpoint, `exp_avg` becomes `exp_avg/codes` and `exp_avg/scale`.

    Args:
        inner: The inner transformation, which works tensor by tensor.
        format: How slots of the shape of their parameter are stored; others stay as they are.
        slots: Other formats for some of them, by name; "fp32" for those that stay as they are.
        min_size: Parameters of fewer entries keep their slots as they are.
        keep: Parameters that keep them too, such as embeddings: as the mask of `masked`.

    Raises:
        HyperparameterError: If there is no such format, or slot; if `inner` takes whole trees or
            per-example gradients.
        LabelError: If a pattern of `keep` fits no parameter.

    References:
        Dettmers et al., "8-bit Optimizers via Block-wise Quantization", ICLR 2022.
        https://arxiv.org/abs/2110.02861
        Li et al., "Memory Efficient Optimizers with 4-bit States", NeurIPS 2023.
        https://arxiv.org/abs/2309.01507
    """

    inner: GradientTransformation
    format: Format = "8bit"
    slots: Mapping[str, str] | None = None
    min_size: int = 4096
    keep: Labels | None = None
    measures_tensors = True
    replayable = True
    follows_counts = True

    def __post_init__(self) -> None:
        check_inner(self, self.inner)
        checks.whole_number(self, "min_size", self.min_size, least=0)
        checks.choice(self, "format", self.format, get_args(Format))
        if not isinstance(self.slots, Mapping | None):
            raise HyperparameterError(
                "`quantized`: `slots` must be formats by the names of slots, such as "
                f'{{"exp_avg_sq": "fp32"}}, got {in_message(self.slots)}.'
            )
        for slot, value in (self.slots or {}).items():
            checks.choice(self, slot, value, (*get_args(Format), "fp32"))

    @property
    def comes_last(self) -> bool:  # type: ignore[override]
        return bool(getattr(self.inner, "comes_last", False))

    @property
    def _kept(self) -> Choice | None:
        return None if self.keep is None else choice_of_mask("quantized", self.keep)

    def check_names(self, params: Sequence[tuple[str | None, Tensor]]) -> None:
        if (kept := self._kept) is not None:
            kept.check(params)
        super().check_names(params)
        if not self.slots or not params:
            return
        known = {slot for one in params for slot, _ in _slots_of(self._example(*one))}
        if unknown := sorted(set(self.slots) - known):
            raise HyperparameterError(
                f"`quantized`: no parameter has a slot `{unknown[0]}`; there are {sorted(known)}."
            )

    def _example(self, name: str | None, p: Tensor) -> Slots:
        like = torch.empty(p.shape, dtype=p.dtype, device="meta")
        return self._inner.init_slots(name, like)

    def init_slots(self, name: str | None, p: Tensor) -> Slots:
        made, kept = self._inner.init_slots(name, p), self._kept
        if p.numel() < self.min_size or (kept and kept.of(name, p)):
            return made
        if p.is_complex() and shards.is_sharded(p):
            return made
        how = {
            id(x): self._format(slot, slot in stage.nonnegative)
            for stage, own in self._inner.slot_parts(made, name, p)
            for slot, x in _slots_of(own)
        }

        def one(x: Tensor) -> Any:
            numbers = x.is_floating_point() or x.is_complex()
            fits = x.shape == p.shape and numbers and how.get(id(x)) is not None
            return initial(how[id(x)], x) if fits else x

        return precision.map_slots(one, made)

    def _format(self, slot: str, nonnegative: bool) -> Any:
        """The way to store a slot; `None` for one that stays as it is."""
        name: Any = (self.slots or {}).get(slot, self.format)
        if name == "fp32":
            return None
        return FORMATS[name][nonnegative]

    def open(self, buckets: Sequence[Bucket], members: Members) -> Node:
        child = self._inner.open([b._replace(tx=b.tx.inner) for b in buckets], members)
        return Node([], [], [b.memory for b in buckets], members, [child])

    def run(
        self,
        gs: list[Tensor],
        slots: list[Slots],
        ps: list[Tensor],
        node: Node,
        reduce: Reduce,
    ) -> tuple[list[Tensor], list[Slots]]:
        inner = [_map_stored(lambda x, g=g: loaded(x, g), own) for own, g in zip(slots, gs)]  # noqa: B905
        us, new = self._inner.run(gs, inner, ps, node.children[0], reduce)
        if node.is_known:
            return us, slots
        each = zip(slots, inner, new, strict=True)
        return us, [_map_stored(_again, *one) for one in each]

    def eval_param(self, name: str | None, p: Tensor, slots: Slots, memory: Memory) -> Tensor:
        return self._inner.eval_param(name, p, self._loaded(slots, p), memory)

    def _loaded(self, slots: Slots, p: Tensor) -> Slots:
        """The slots of `inner`, in float32."""
        like = precision.lift(p, precision.compute_dtype(p, p, slots))
        lifted = precision.lift_slots(slots, p, like.dtype)
        return _map_stored(lambda own: precision.lower(loaded(own, like), p, like.dtype), lifted)


def _again(own: Any, before: Tensor, after: Tensor) -> Any:
    """What is stored of a new value; what there is, if it is none."""
    return own if after is before else stored_again(own, after)


def _map_stored(fn: Callable[..., Any], slots: Slots, *rest: Slots) -> Slots:
    """`fn` of what is stored in other forms; of the rest, the last of the given ones."""
    if isinstance(slots, STORED):
        return fn(slots, *rest)
    if not isinstance(slots, tuple) or slots == ():
        return rest[-1] if rest else slots
    made = [_map_stored(fn, *column) for column in zip(slots, *rest, strict=True)]
    return type(slots)(*made) if hasattr(slots, "_fields") else tuple(made)


def _slots_of(slots: Slots, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors of slots, with their names."""
    names = getattr(slots, "_fields", None) or [name] * len(slots or ())
    for field, part in zip(names, slots or (), strict=True):
        if isinstance(part, Tensor):
            yield field, part
        elif part:
            yield from _slots_of(part, field)
