"""Optimizers by name, as configuration files have them."""

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch

from .._core.explanation import summary
from .._core.tensor_rule import GradientTransformation
from ..combinators import cautious, chain
from ..errors import HyperparameterError
from ..transforms import add_decayed_weights, scale_by_learning_rate
from ..typing import ParamsT
from ._alias import AliasOptimizer, optimizer_class
from ._optimizer import Optimizer

CAUTIOUS = "c"
"""With this before its name, timm has the cautious form of an optimizer."""


def create(name: str, params: ParamsT | torch.nn.Module, **options: Any) -> Optimizer:
    """Makes the optimizer of a name, as configuration files have it.

        >>> model = torch.nn.Linear(3, 2)
        >>> create("adamw", model, lr=1e-3, weight_decay=0.1)
        AdamW(lr=0.001, ...)

    The name is that of a class of `funcopt.optim`, or of its function, in any case and with or
    without hyphens and underscores; or one that Hugging Face's `TrainingArguments`, timm or
    `pytorch_optimizer` have for the same algorithm. Of those, parts that say which kernels to use
    ("fused", "bnb", "paged", ...) change nothing, "8bit" and "4bit" are `quantized`, and "c" before
    the name, as in "cadamw", is `cautious`. Arguments and defaults are always those of the class
    here.

    Args:
        name: The name. `list` has all of them, but for those of other libraries.
        params: Parameters, named parameters or groups, as the class takes them; or a module, for
            all its named parameters.
        **options: Arguments of the class.

    Raises:
        HyperparameterError: If there is no optimizer of that name; or as by the class.
    """
    cls, more = _class_of(name)
    if isinstance(params, torch.nn.Module):
        params = params.named_parameters()
    made: Optimizer = cls(params, **{**more, **options})
    return made


def available() -> dict[str, str]:
    """The names of all optimizers of `funcopt.optim`, with a line about each.

    `create` takes them. ``python -m funcopt list`` prints a table, with their functions.
    """
    return {name: summary(cls) for name, cls in sorted(_classes().items(), key=_by_name)}


def _by_name(item: tuple[str, Any]) -> str:
    return item[0].lower()


def _classes() -> dict[str, type[AliasOptimizer]]:
    module = sys.modules[__name__.rpartition(".")[0]]
    return {
        name: value
        for name, value in vars(module).items()
        if hasattr(value, "maker") and not name.startswith("_")
    }


def _class_of(name: str) -> tuple[type[AliasOptimizer], dict[str, Any]]:
    from .._hints.nearest import nearest  # read when a name is asked for, and not before
    from .._hints.registries import SAME, asked, plain
    from .._hints.torch import CLASSES

    classes, (wanted, options) = _classes(), asked(name)
    known: dict[str, tuple[str, Any]] = {plain(cls): (cls, {}) for cls in classes}
    known |= {plain(tx): (cls, {}) for cls, tx in CLASSES.items() if cls in classes}
    known |= SAME
    for key in (plain(name), wanted):
        if key in known:
            cls, more = known[key]
            return classes[cls], {**more, **(options if key == wanted else {})}
    if wanted.startswith(CAUTIOUS) and wanted[1:] in known:
        cls, more = known[wanted[1:]]
        return _cautious(cls), {**more, **options}
    meant = nearest(name, [*classes, *CLASSES.values(), *SAME])
    raise HyperparameterError(
        f"`create`: there is no optimizer {name!r}."
        + (f" Did you mean {meant!r}?" if meant else "")
        + " `funcopt.optim.list()` has all of them."
    )


@functools.cache
def _cautious(name: str) -> type[AliasOptimizer]:
    """A class whose direction, before decay and learning rate, is masked."""
    cls = _classes()[name]
    function: Callable[..., GradientTransformation] = cls.maker.function

    @functools.wraps(function)
    def made(*args: Any, **kwargs: Any) -> GradientTransformation:
        stages = list(function(*args, **kwargs).children().values())
        last = (add_decayed_weights, scale_by_learning_rate)
        end = next((k for k, stage in enumerate(stages) if isinstance(stage, last)), 0)
        if not end or any("weight_decay" in type(x).hyperparameters for x in stages[:end]):
            raise HyperparameterError(f"`create`: `{name}` has no cautious form.")
        return chain(cautious(chain(*stages[:end])), *stages[end:])

    defaults = {k: v for k, v in cls._given.items() if k in cls.maker.arguments}
    return optimizer_class(f"Cautious{name}", made, **defaults)
