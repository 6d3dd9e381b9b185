"""Extra arguments of a step with a tensor for each parameter."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .._core.compact import in_message
from .._core.tensor_rule import PerTensor
from .._numerics import shards
from .._numerics.names import plain_name
from ..engine import StepInputs
from ..errors import ExtraArgumentError, StructureError
from ._options import Options, named_parameters


def without_trees(tx: PerTensor, extra: Options) -> tuple[Options, Options]:
    """The extra arguments without those that have a tensor for each parameter, and these."""
    names = tx.tensor_extra_names().intersection(extra)
    return (
        {k: x for k, x in extra.items() if k not in names},
        {k: x for k, x in extra.items() if k in names},
    )


def with_trees(
    who: str, inputs: StepInputs, trees: Options, param_groups: list[Options], detach: bool
) -> StepInputs:
    """The inputs of a step with these arguments: dicts by name, or by parameter.

    Raises:
        ExtraArgumentError: If one is no dict.
        StructureError: If a key is no parameter, or a tensor does not fit its own.
    """
    known: dict[Any, Tensor] = {}
    for group in param_groups:
        for name, p in named_parameters(group):
            known[p] = p
            if name is not None:
                known[name] = p
    names, found = inputs.names(), {}
    for key, given in trees.items():
        mine = _by_parameter(who, key, given, known)
        each = zip(inputs.given, names, strict=True)
        found[key] = [_fitting(who, key, mine.get(p), p, name, detach) for p, name in each]
    return inputs._replace(tensor_extra=found)


def _by_parameter(who: str, key: str, given: Any, known: Mapping[Any, Tensor]) -> dict[Tensor, Any]:
    if not isinstance(given, Mapping):
        raise ExtraArgumentError(
            f"`{who}.step`: `{key}` has a tensor for each parameter: pass a dict of them by name, "
            f"or by parameter, got a {type(given).__name__}."
        )
    places = {k: plain_name(k) if isinstance(k, str) else k for k in given}
    if unknown := [k for k, place in places.items() if place not in known]:
        names = [name for name in known if isinstance(name, str)]
        have = f"there are {names}" if names else "these have no names: use them as keys"
        raise StructureError(
            f"`{who}.step`: `{key}` has {in_message(unknown)}, which is no parameter; {have}."
        )
    return {known[place]: given[k] for k, place in places.items()}


def _fitting(who: str, key: str, x: Any, p: Tensor, name: str | None, detach: bool) -> Any:
    if x is None:
        return None
    which = "a parameter" if name is None else f"`{name}`"
    if not isinstance(x, Tensor) or x.shape != p.shape:
        got = f"one of shape {tuple(x.shape)}" if isinstance(x, Tensor) else in_message(x)
        raise StructureError(
            f"`{who}.step`: `{key}` of {which} must be a tensor of its shape {tuple(p.shape)}, "
            f"got {got}."
        )
    if shards.is_sharded(x) is not shards.is_sharded(p) or x.device != p.device:
        where = "sharded as it is" if shards.is_sharded(p) else f"on {p.device}, as it is"
        got = "a sharded one" if shards.is_sharded(x) else f"one on {x.device}"
        raise StructureError(f"`{who}.step`: `{key}` of {which} must be {where}, got {got}.")
    return shards.placed_as(x.detach() if detach else x, p)
