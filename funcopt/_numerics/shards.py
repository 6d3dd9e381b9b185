"""Sharded tensors: rules see the local part, reductions span all ranks.

Elementwise mathematics needs nothing else. A rule that is not elementwise is given the full
tensor, and its update is sharded again.
"""

import math
import sys
from typing import Any

import torch
from torch import Tensor

from .scalars import double


def is_sharded(x: Any) -> bool:
    """Whether `x` is a `torch.distributed.tensor.DTensor`."""
    if type(x) is Tensor or torch.compiler.is_compiling():
        return False
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)


def local(x: Tensor) -> Tensor:
    """The local part of `x`; `x` itself if it is not sharded."""
    part: Tensor = x.to_local() if is_sharded(x) else x  # type: ignore[attr-defined]
    return part


def part(x: Any) -> Tensor:
    """The same without a dispatch, so that autograd does not follow it."""
    mine: Tensor = x._local_tensor if is_sharded(x) else x
    return mine


def placed_as(g: Any, p: Any) -> Tensor:
    """A gradient, sharded as its parameter is."""
    if is_sharded(g) and is_sharded(p) and g.placements != p.placements:
        g = g.redistribute(p.device_mesh, p.placements)
    placed: Tensor = g
    return placed


def can_be_cut_as(x: Any, like: Any) -> bool:
    """Whether `x` is whole, or lies in parts on the ranks of `like`."""
    return not is_sharded(x) or (is_sharded(like) and x.device_mesh == like.device_mesh)


def cut_as(x: Any, like: Any) -> Tensor:
    """`x`, whole or in parts, in the parts of `like`. What is whole is cut without an exchange."""
    if not is_sharded(like):
        whole: Tensor = x
        return whole
    if is_sharded(x):
        return placed_as(x, like)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(x, like.device_mesh, like.placements, src_data_rank=None)


def sharded_as(part: Tensor, like: Any) -> Tensor:
    """The tensor whose local part is `part`, sharded as `like`."""
    from torch.distributed.tensor import DTensor

    made: Tensor = DTensor.from_local(
        part,
        like.device_mesh,
        like.placements,
        run_check=False,
        shape=like.shape,
        stride=like.stride(),
    )
    return made


def meta_like(like: Any) -> Any:
    """A tensor on the meta device, sharded as `like`; `like` itself if it is not sharded."""
    if not is_sharded(like):
        return like
    part = local(like)
    return sharded_as(torch.empty(part.shape, dtype=part.dtype, device="meta"), like)


def full_tensor(part: Tensor, like: Any) -> Tensor:
    """The full tensor whose local part is `part`, if `like` is sharded."""
    if not is_sharded(like):
        return part
    full: Tensor = sharded_as(part, like).full_tensor()  # type: ignore[attr-defined]
    return full


def put_together(x: Any) -> Any:
    """The whole of `x`, where its parts, or summands of it, lie on several ranks."""
    return x.full_tensor() if is_sharded(x) else x


def local_shard(full: Tensor, like: Any) -> Tensor:
    """The local part of a full tensor, if `like` is sharded."""
    if not is_sharded(like):
        return full
    from torch.distributed.tensor import DTensor, Replicate

    everywhere = [Replicate() for _ in like.placements]
    copies = DTensor.from_local(full, like.device_mesh, everywhere, run_check=False)
    part: Tensor = copies.redistribute(like.device_mesh, like.placements).to_local()
    return part


def global_indices(x: Tensor, like: Tensor) -> Tensor:
    """The index in the full tensor `x` of every entry of `like`, its local part or all of it.

    Indices count the entries row by row. Where `like` sees the complex `x` as two reals, each has
    one.
    """
    if not is_sharded(x) or like.shape == x.shape:  # gathered, for a rule that sees it whole
        return torch.arange(like.numel(), device=like.device).reshape(like.shape)
    index = torch.zeros((), dtype=torch.int64, device=like.device)
    for dim, size in enumerate(x.shape):
        index = index.unsqueeze(-1) * size + _part_of_range(x, dim).to(like.device)
    if x.is_complex():
        index = 2 * index.unsqueeze(-1) + torch.arange(2, device=like.device)
    return index.reshape(like.shape)


def largest_part(x: Any) -> int:
    """The number of entries of the largest part of `x` on any rank."""
    if not is_sharded(x):
        return int(x.numel())
    sizes = list(x.shape)
    for ranks, place in zip(x.device_mesh.shape, x.placements, strict=True):
        if not place.is_replicate():
            sizes[place.dim] = -(-sizes[place.dim] // ranks)
    return math.prod(sizes)


def in_rows(part: Tensor, like: Any) -> Tensor:
    """The vector whose local part is `part`, as long on every rank, where `like` is sharded."""
    if not is_sharded(like):
        return part
    from torch.distributed.tensor import DTensor, Replicate, Shard

    mesh, places = like.device_mesh, like.placements
    along = [Replicate() if place.is_replicate() else Shard(0) for place in places]
    cuts = math.prod(mesh.shape[dim] for dim in split_dims(like))
    made: Tensor = DTensor.from_local(
        part, mesh, along, run_check=False, shape=torch.Size([cuts * len(part)]), stride=(1,)
    )
    return made


def first_index(x: Tensor) -> int | None:
    """The index in the full tensor of the first entry of the local part of `x`.

    `None` if the part is no piece of the whole, row by row.
    """
    if not is_sharded(x):
        return 0
    first, last, count = 0, 0, 1
    for dim, size in enumerate(x.shape):
        part = _part_of_range(x, dim)
        if not len(part):
            return 0
        first, last = first * size + int(part[0]), last * size + int(part[-1])
        count *= len(part)
    return first if last - first + 1 == count else None


def _part_of_range(x: Any, dim: int) -> Tensor:
    """Which of the indices of one dimension this rank has."""
    from torch.distributed.tensor import Replicate, distribute_tensor

    along = []
    for place in x.placements:
        if getattr(place, "dim", None) == dim:  # cut as the dimension is, of a tensor that has one
            strided = hasattr(place, "split_factor")
            more = {"split_factor": place.split_factor} if strided else {}
            along.append(type(place)(0, **more))
        else:
            along.append(Replicate())
    indices = torch.arange(x.shape[dim], device=x.device_mesh.device_type)
    part: Tensor = distribute_tensor(indices, x.device_mesh, along, src_data_rank=None).to_local()
    return part


def reduce_over_ranks(how: str, values: Tensor, like: Any) -> Tensor:
    """`values`, combined over the ranks that hold other parts of tensors sharded as `like`."""
    if not is_sharded(like):
        return values
    for dim in split_dims(like):
        values = all_reduce(how, values, like.device_mesh.get_group(dim))
    return values


def on_the_way(values: Any) -> Tensor:
    """Numbers as they cross ranks: in float64 where the device has it, whatever they are here."""
    return double(values)


def all_reduce(how: str, values: Tensor, group: Any) -> Tensor:
    """`values`, combined over the ranks of a process group; they travel in one form."""
    import torch.distributed as dist

    op = {"sum": dist.ReduceOp.SUM, "max": dist.ReduceOp.MAX, "min": dist.ReduceOp.MIN}[how]
    sent = on_the_way(values).clone()
    dist.all_reduce(sent, op, group)
    return sent.to(values.dtype)


def order(group: Any) -> Any:
    """A key of a process group to sort by: the same on all of its ranks."""
    import torch.distributed as dist

    return tuple(dist.get_process_group_ranks(group)), str(group.group_name)


def kind(group: Any) -> str:
    """What torch calls a process group: the same for all rows of a mesh, or all columns."""
    return str(getattr(group, "group_desc", ""))


def mesh_order(mesh: Any) -> Any:
    """A key of a mesh to sort by: the same on all of its ranks, as those of its groups are not."""
    return tuple(mesh.mesh.flatten().tolist()), tuple(mesh.shape)


def size(group: Any) -> int:
    """How many ranks a process group has."""
    found: int = group.size()
    return found


def split_dims(like: Any) -> tuple[int, ...]:
    """The dimensions of the mesh along which ranks hold different parts; not those of copies."""
    return tuple(i for i, place in enumerate(like.placements) if not place.is_replicate())
