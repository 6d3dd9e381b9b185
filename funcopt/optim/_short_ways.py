"""What every class takes besides the arguments of its function: the chain that is mostly made."""

from collections.abc import Mapping
from typing import Any

from .._core.tensor_rule import GradientTransformation
from ..combinators import accumulate, chain, walk
from ..errors import HyperparameterError
from ..transforms import clip_by_global_norm, ema_of_params
from ._options import Options

ACCUMULATE = "accumulate"
"""The short way that is structure: an argument of the class, no key of a group."""

SHORT_WAYS: Options = {"max_grad_norm": None, "ema": None, ACCUMULATE: None}
"""The arguments of all classes that stand for stages, each left out where it is `None`."""


def short_ways_of(given: Mapping[str, Any], arguments: tuple[str, ...]) -> Options:
    """The short ways that are used; what a function has as an argument of its own is none."""
    return {
        key: given[key] for key in SHORT_WAYS if key not in arguments and given.get(key) is not None
    }


def with_short_ways(tx: GradientTransformation, ways: Mapping[str, Any]) -> GradientTransformation:
    """`tx` between the stages that the short ways stand for.

        accumulate(chain(clip_by_global_norm(max_grad_norm), tx, ema_of_params(ema)), accumulate)

    Args:
        tx: The transformation of a class.
        ways: The short ways that are used, some of `SHORT_WAYS`.

    Raises:
        HyperparameterError: If a value is out of range, or `tx` keeps an average itself.
    """
    if not ways:
        return tx
    stages = [tx]
    if "max_grad_norm" in ways:
        stages.insert(0, clip_by_global_norm(ways["max_grad_norm"]))
    if "ema" in ways:
        if average := _average(tx):
            raise HyperparameterError(
                f"`ema_of_params`: `{average}` keeps averaged weights already, which `eval()` and "
                "`averaged()` evaluate: leave out `ema`."
            )
        stages.append(ema_of_params(ways["ema"]))
    inner = chain(*stages) if len(stages) > 1 else tx
    return accumulate(inner, ways[ACCUMULATE]) if ACCUMULATE in ways else inner


def _average(tx: GradientTransformation) -> str | None:
    """The name of a stage of `tx` that keeps an average of the parameters."""
    nodes = (node for _, node in walk(tx))
    return next((type(node).__name__ for node in nodes if getattr(node, "averages", False)), None)
