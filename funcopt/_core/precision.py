"""What happens to tensors on their way into a pass and out of it.

In: widened to at least float32, complex seen as two reals, 0-d as length 1 (a 0-d bfloat16 tensor
would promote otherwise than a vector). Out: narrowed once. Rules contain none of this.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from .._numerics import shards
from .._numerics.scalars import widen
from ..typing import Slots
from .ranks import Ranks


def compute_dtype(g: Tensor, p: Any, slots: Slots) -> torch.dtype:
    """The dtype in which one tensor is computed: the widest of its parts, at least float32."""
    wide = widen(real_dtype(g))
    for x in (p, *entries(slots)):
        if x is None or x.dtype == wide:
            continue
        if x.is_floating_point() or x.is_complex():
            wide = torch.promote_types(wide, real_dtype(x))
    return wide


def real_dtype(x: Tensor) -> torch.dtype:
    """The dtype of `x`, or of its real part."""
    return x.dtype.to_real() if x.is_complex() else x.dtype


def lift(x: Tensor, wide: torch.dtype) -> Tensor:
    """A parameter or gradient as rules see it."""
    if _is_lifted(x, wide):
        return x
    x = shards.local(x)
    if x.is_complex():
        x = torch.view_as_real(x.resolve_conj())
    elif x.dim() == 0:
        x = x.reshape(1)
    return x.to(wide)


def _is_lifted(x: Tensor, wide: torch.dtype) -> bool:
    """Whether rules see `x` as it is: nearly always, and then it costs no call of torch."""
    return x.dtype == wide and x.dim() > 0 and not shards.is_sharded(x)


def lift_examples(x: Tensor, wide: torch.dtype) -> Tensor:
    """Gradients of all examples, as rules see them."""
    x = shards.local(x)
    if x.is_complex():
        x = torch.view_as_real(x.resolve_conj())
    elif x.dim() == 1:
        x = x.unsqueeze(1)
    return x.to(wide)


def lower(x: Tensor, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """The inverse of `lift`, in the shape of `like`, and in a real dtype, by default its own."""
    if dtype is None and _is_lowered(x, like):
        return x
    if shards.is_sharded(like):
        return shards.sharded_as(lower(x, shards.local(like), dtype), like)
    if like.is_complex():
        return torch.view_as_complex(x.to(dtype or real_dtype(like)))
    return x.to(dtype or like.dtype).reshape(like.shape)


def _is_lowered(x: Tensor, like: Tensor) -> bool:
    return x.dtype == like.dtype and x.shape == like.shape and not shards.is_sharded(like)


def lift_slots(slots: Slots, g: Tensor, wide: torch.dtype) -> Slots:
    """Slots as rules see them; a 0-d slot of a larger tensor stays 0-d, integers stay integers."""
    if all(_is_lifted(x, wide) for x in entries(slots)):
        return slots

    def one(x: Tensor) -> Tensor:
        x = shards.local(x)
        if x.is_complex():
            x = torch.view_as_real(x.resolve_conj())
        elif x.dim() == 0 and g.dim() == 0:
            x = x.reshape(1)
        return x.to(wide) if x.is_floating_point() else x

    return map_slots(one, slots)


def lower_slots(slots: Slots, like: Slots) -> Slots:
    """The inverse of `lift_slots`."""
    mine, theirs = entries(slots), entries(like)
    if len(mine) == len(theirs) and all(map(_is_lowered, mine, theirs)):
        return slots
    return map_slots(lower, slots, like)


def unaliased(slots: Slots, others: Iterable[Tensor]) -> Slots:
    """Slots that share no memory with tensors that are about to be written to."""
    written = {_storage_of(x) for x in others}
    return map_slots(lambda x: x.clone() if _storage_of(x) in written else x, slots)


def _storage_of(x: Tensor) -> int:
    return int(shards.part(x).untyped_storage()._cdata)


def gathered(
    gs: list[Tensor],
    slots: list[Slots],
    ps: list[Any],
    whole: Sequence[Tensor],
    like_p: Sequence[Slots],
    ranks: Ranks,
) -> tuple[list[Tensor], list[Slots], list[Any]]:
    """The full tensors of sharded gradients and parameters, and of slots sharded like them."""
    each = list(zip(gs, slots, ps, whole, like_p, strict=True))
    return (
        [ranks.full_tensor(g, like) for g, _, _, like, _ in each],
        [_map_sharded(ranks.full_tensor, own, like, at) for _, own, _, like, at in each],
        [p if p is None else ranks.full_tensor(p, like) for _, _, p, like, _ in each],
    )


def scattered(
    us: list[Tensor], slots: list[Slots], whole: Sequence[Tensor], like_p: Sequence[Slots]
) -> tuple[list[Tensor], list[Slots]]:
    """The inverse of `gathered`, for updates and new slots."""
    each = list(zip(us, slots, whole, like_p, strict=True))
    return (
        [shards.local_shard(u, like) for u, _, like, _ in each],
        [_map_sharded(shards.local_shard, own, like, at) for _, own, like, at in each],
    )


def _map_sharded(fn: Callable[..., Tensor], slots: Slots, like: Tensor, sharded: Slots) -> Slots:
    """`fn` of the slots that are sharded; the others are replicated."""
    return map_slots(lambda x, is_sharded: fn(x, like) if is_sharded else x, slots, sharded)


def init_complex(init: Callable[[Tensor], Slots], p: Tensor) -> Slots:
    """Slots of a complex parameter: made for its two reals, kept complex, as torch keeps them."""
    reals = torch.view_as_real(p.resolve_conj())

    def one(x: Tensor) -> Tensor:
        pairs = x.shape == reals.shape and x.dtype in (torch.float32, torch.float64)
        return torch.view_as_complex(x) if pairs else x

    return map_slots(one, init(reals))


def map_slots(fn: Callable[..., Any], slots: Slots, *rest: Slots) -> Slots:
    """`fn` of every tensor in (nested) slots. Plain Python: cheaper than a tree, and traceable."""
    if isinstance(slots, Tensor):
        return fn(slots, *rest)
    if slots is None or slots == ():
        return slots
    made = [map_slots(fn, *column) for column in zip(slots, *rest, strict=True)]
    return type(slots)(*made) if hasattr(slots, "_fields") else tuple(made)


def entries(slots: Slots) -> list[Tensor]:
    """The tensors in (nested) slots."""
    if isinstance(slots, Tensor):
        return [slots]
    found: list[Tensor] = []
    for part in slots or ():
        if isinstance(part, Tensor):
            found.append(part)
        elif isinstance(part, (tuple, list)):
            found += entries(part)
    return found


def spans(slots: Slots) -> list[int]:
    """How many entries of the parameter share one of each tensor in (nested) slots.

    Nearly always 1; otherwise the named tuple says so, in `per`.
    """
    if isinstance(slots, Tensor):
        return [1]
    found: list[int] = []
    shared = getattr(slots, "per", {})
    fields = getattr(slots, "_fields", None) or [""] * len(slots or ())
    for name, part in zip(fields, slots or (), strict=True):
        if isinstance(part, Tensor):
            found.append(shared.get(name, 1))
        elif part:
            found += spans(part)
    return found


def readable(slots: Slots, like: Tensor) -> Slots:
    """(Nested) slots with the numbers of what is stored in fewer bits, shaped like a parameter.

    A named tuple that is stored so says what they are, in `numbers`.
    """
    if isinstance(slots, Tensor) or slots is None or slots == ():
        return slots
    if hasattr(slots, "numbers"):
        return slots.numbers(like)
    made = [readable(part, like) for part in slots]
    return type(slots)(*made) if hasattr(slots, "_fields") else tuple(made)


def zero_like(leaves: list[Any]) -> Tensor:
    """A 0-d zero on the device of the first parameter, in at least float32."""
    first = next((p for p in leaves if p is not None), torch.zeros(()))
    return torch.zeros((), dtype=widen(real_dtype(first)), device=first.device)
