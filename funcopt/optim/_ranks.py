"""The ranks that the steps of an optimizer meet, as `measure_group` says."""

import gc
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from .._core.ranks import Ranks
from .._core.transformation import GradientTransformation
from ..errors import ExtraArgumentError, HyperparameterError, StructureError
from ._options import Options, named_parameters


def ranks_of(who: str, param_groups: list[Options], measure_group: Any) -> Ranks:
    """The ranks that hold other parts of the parameters, or other parameters.

    Raises:
        HyperparameterError: If `measure_group` is, or returns, no process group of this rank.
    """
    every = [one for group in param_groups for one in named_parameters(group)]
    if not callable(measure_group):
        _check(who, "", measure_group)
        return Ranks((p, measure_group) for _, p in every)
    found = []
    for i, (name, p) in enumerate(every):
        group = measure_group(name, p)
        _check(who, f"of parameter `{i if name is None else name}` ", group)
        found.append((p, group))
    return Ranks(found)


def check_no_replicas(who: str, params: Iterable[Tensor]) -> None:
    """Refuses steps in `backward` where ranks average gradients only after that.

    DDP leaves no trace on a parameter, so its modules are looked for.

    Raises:
        StructureError: If a parameter is one of DDP, or of FSDP1.
    """
    import torch.distributed as dist

    found = {id(p): p for p in params}
    if any(getattr(p, "_is_flat_param", False) for p in found.values()):
        raise StructureError(_averaged_later(who, "FullyShardedDataParallel"))
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return
    from torch.nn.parallel import DistributedDataParallel

    modules = [x for x in gc.get_objects() if issubclass(type(x), DistributedDataParallel)]
    if any(id(p) in found for module in modules for p in module.parameters()):
        raise StructureError(_averaged_later(who, "DistributedDataParallel"))


def _averaged_later(who: str, wrapper: str) -> str:
    return (
        f"`{who}`: `{wrapper}` averages gradients over ranks in buckets, after the hooks of single "
        "parameters, and keeps the memory of all. Shard with FSDP2, `fully_shard(model)`, whose "
        "gradients are reduced before, or step without `step_in_backward()`."
    )


def with_means(
    who: str, tx: GradientTransformation, extra: Mapping[str, Any], ranks: Ranks
) -> Mapping[str, Any]:
    """Extra arguments of a step; those that `tx` takes as means are the means over all ranks.

    Raises:
        ExtraArgumentError: If autograd follows one of them, as it does not follow its mean.
    """
    if not extra:
        return extra
    names = sorted(tx.mean_extra_names().intersection(extra))  # the same order on all ranks
    for name in names:
        if ranks.take_means and isinstance(extra[name], Tensor) and extra[name].requires_grad:
            raise ExtraArgumentError(
                f"`{who}.step`: `{name}` requires grad, and is averaged over ranks, which autograd "
                f"does not follow: pass `{name}.detach()`; from a closure, return it detached."
            )
    return {**extra, **{name: ranks.mean(extra[name]) for name in names}}


def _check(who: str, of: str, group: Any) -> None:
    import torch.distributed as dist

    if group is None or (dist.is_available() and isinstance(group, dist.ProcessGroup)):
        return
    raise HyperparameterError(
        f"`{who}`: `measure_group` {of}must be a process group that this rank is in, a function of "
        f"name and parameter that returns one, or None, got {group!r}. On ranks that are not in "
        "it, `torch.distributed.new_group` returns no process group; say None there."
    )
