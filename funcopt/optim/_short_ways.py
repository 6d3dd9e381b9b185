"""What every class takes in addition to the arguments of its function: the most common stages."""

from collections.abc import Iterable, Mapping
from typing import Any

from .._core import checks
from .._core.tensor_rule import GradientTransformation
from ..combinators import FieldPath, accumulate, chain, quantized, rounded, walk
from ..errors import HyperparameterError
from ..transforms import clip_by_global_norm, ema_of_params
from ._options import Options

ACCUMULATE, QUANTIZED, ROUNDING = STRUCTURE = ("accumulate", "quantized", "rounding")
"""The shorthands that are structure: arguments of the class, no keys of a group."""

SHORT_WAYS: Options = {"max_grad_norm": None, "ema": None, **dict.fromkeys(STRUCTURE)}
"""The arguments of all classes that stand for stages, each left out where it is `None`."""


def short_ways_of(given: Mapping[str, Any], arguments: tuple[str, ...]) -> Options:
    """The shorthands that are used; what a function has as an argument of its own is none."""
    return {
        key: given[key] for key in SHORT_WAYS if key not in arguments and given.get(key) is not None
    }


FIELDS = {"max_grad_norm": (clip_by_global_norm, "max_norm"), "ema": (ema_of_params, "decay")}
"""The shorthands that are hyperparameters: the stage of each, and the field of it."""


def names_of_fields(tx: GradientTransformation, ways: Iterable[str]) -> dict[FieldPath, str]:
    """The shorthands as names of the fields in `tx`, which `with_short_ways` has made with them."""
    path: tuple[str, ...] = ()
    if not FIELDS.keys() & set(ways):
        return {}
    for _ in {ACCUMULATE, ROUNDING} & set(ways):
        path, tx = (*path, "inner"), tx.children()["inner"]
    found: dict[FieldPath, str] = {}
    stages = list(tx.children().items())
    for way, (kind, field) in FIELDS.items():
        key, stage = stages[0 if kind is clip_by_global_norm else -1]
        if way in ways and isinstance(stage, kind):
            found[(*path, key), field] = way
    return found


def shorthands_of(group: Mapping[str, Any], field: str | None) -> Options:
    """What of a group stands for this field of a stage."""
    return {way: group[way] for way, (_, own) in FIELDS.items() if own == field and way in group}


def with_short_ways(tx: GradientTransformation, ways: Mapping[str, Any]) -> GradientTransformation:
    """`tx` between the stages that the shorthands stand for.

        inner = chain(clip_by_global_norm(max_grad_norm), quantized(tx, ...), ema_of_params(ema))
        rounded(accumulate(inner, accumulate), rounding)

    Args:
        tx: The transformation of a class.
        ways: The shorthands that are used, some of `SHORT_WAYS`.

    Raises:
        HyperparameterError: If a value is out of range, or `tx` keeps an average itself.
    """
    if not ways:
        return tx
    stages: list[GradientTransformation]
    stages = [quantized(tx, ways[QUANTIZED])] if QUANTIZED in ways else [tx]
    if "max_grad_norm" in ways:
        stages.insert(0, clip_by_global_norm(ways["max_grad_norm"]))
        _refuse_closure("max_grad_norm", tx, "Clip in the closure, as soon as there are gradients.")
    if "ema" in ways:
        stages.append(ema_of_params(ways["ema"]))
        if average := _average(tx):
            raise HyperparameterError(
                f"`ema_of_params`: `ema` is a second average of the weights: `{average}` keeps the "
                "one that `eval()` and `averaged()` evaluate. Leave out `ema`."
            )
    made = chain(*stages) if len(stages) > 1 else stages[0]
    if ACCUMULATE in ways:
        checks.whole_number("accumulate", ACCUMULATE, ways[ACCUMULATE], least=1)
        _refuse_closure(ACCUMULATE, tx, "Accumulate in the closure.")
        made = accumulate(made, ways[ACCUMULATE])
    return rounded(made, ways[ROUNDING]) if ROUNDING in ways else made


def _refuse_closure(way: str, tx: GradientTransformation, instead: str) -> None:
    """Refuses a stage around a transformation that takes its gradients from the loss itself."""
    if tx.needs_closure:
        raise HyperparameterError(
            f"`{type(tx).__name__}`: `{way}` has no effect on the gradients of a loss that is "
            f"evaluated several times in a step. {instead}"
        )


def _average(tx: GradientTransformation) -> str | None:
    """The name of a stage of `tx` that keeps an average of the parameters."""
    nodes = (node for _, node in walk(tx))
    return next((type(node).__name__ for node in nodes if getattr(node, "averages", False)), None)
