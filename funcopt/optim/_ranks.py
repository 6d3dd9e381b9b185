"""The ranks that the steps of an optimizer meet, as `measure_group` says."""

from collections.abc import Mapping
from typing import Any

from .._core.ranks import Ranks
from ..errors import HyperparameterError
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


def agreed(extra: Mapping[str, Any], ranks: Ranks) -> Mapping[str, Any]:
    """Extra arguments of a step; the loss, which stages decide by, is the mean over all ranks."""
    return {**extra, "value": ranks.mean(extra["value"])} if "value" in extra else extra


def _check(who: str, of: str, group: Any) -> None:
    import torch.distributed as dist

    if group is None or (dist.is_available() and isinstance(group, dist.ProcessGroup)):
        return
    raise HyperparameterError(
        f"`{who}`: `measure_group` {of}must be a process group that this rank is in, a function of "
        f"name and parameter that returns one, or None, got {group!r}. On ranks that are not in "
        "it, `torch.distributed.new_group` returns no process group; say None there."
    )
