"""Optimizers by name, as configuration files have them."""

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch

from .._core.compact import in_message as shown
from .._core.explanation import summary
from .._core.tensor_rule import GradientTransformation
from ..combinators import cautious, chain
from ..errors import HyperparameterError
from ..transforms import (
    add_decayed_weights,
    scale_by_learning_rate,
    scale_by_learning_rate_and_decay,
)
from ..typing import ParamsT
from ._alias import AliasOptimizer, optimizer_class
from ._optimizer import Optimizer

MARK, CAUTIOUS, CORRECTED = "c", "cautious", "corrected"
"""With this letter before its name, timm has the cautious form of an optimizer; with it at the end,
the one whose weight decay is corrected."""

Stages = list[GradientTransformation]


def create(name: str, params: ParamsT | torch.nn.Module, **options: Any) -> Optimizer:
    """Makes the optimizer of a name, as configuration files have it.

        >>> model = torch.nn.Linear(3, 2)
        >>> type(create("adamw_torch_fused", model, lr=1e-3, weight_decay=0.1)).__name__
        'AdamW'

    The name is that of a class of `funcopt.optim`, or of its function, in any case and with or
    without hyphens and underscores; or one that Hugging Face's `TrainingArguments`, timm or
    `pytorch_optimizer` have for the same algorithm. Of those, parts that say which kernels to use
    ("fused", "bnb", "paged", ...) change nothing, and "8bit" and "4bit" are `quantized`. "c" before
    the name, as in "cadamw", is `cautious`; after it, as in "lionc", weight decay is corrected, as
    by `scale_by_learning_rate_and_decay`. Arguments and defaults are always those of the class
    here.

    Args:
        name: The name. `list` has all of them, but for those of other libraries.
        params: Parameters, named parameters or groups, as the class takes them; or a module, for
            all its named parameters.
        **options: Arguments of the class.

    Raises:
        HyperparameterError: If there is no optimizer of that name; or as by the class.
    """
    if not isinstance(name, str):
        raise HyperparameterError(f"`create`: `name` must be a name, got {shown(name)}.")
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
    for key, more in ((plain(name), {}), (wanted, options)):
        if key in known:
            cls, own = known[key]
            return classes[cls], {**own, **more}
    for key, forms in _forms(wanted):
        if key in known:
            cls, own = known[key]
            return _formed(cls, forms), {**own, **options}
    meant = nearest(name, [*classes, *CLASSES.values(), *SAME])
    raise HyperparameterError(
        f"`create`: there is no optimizer {name!r}."
        + (f" Did you mean {meant!r}?" if meant else "")
        + " `funcopt.optim.list()` has all of them."
    )


def _forms(name: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What a name may be a form of: first of the one with decoupled decay, if that is corrected."""
    if name.startswith(MARK):
        yield name[1:], (CAUTIOUS,)
    if name.endswith(MARK):
        for end in ("w", ""):
            yield name[:-1] + end, (CORRECTED,)
            if name.startswith(MARK):
                yield name[1:-1] + end, (CORRECTED, CAUTIOUS)


@functools.cache
def _formed(name: str, forms: tuple[str, ...]) -> type[AliasOptimizer]:
    """A class whose chain has other stages."""
    cls = _classes()[name]
    function: Callable[..., GradientTransformation] = cls.maker.function

    @functools.wraps(function)
    def made(*args: Any, **kwargs: Any) -> GradientTransformation:
        tx = function(*args, **kwargs)
        stages = list(tx.children().values()) if isinstance(tx, chain) else []
        for form in forms:
            stages = FORMS[form](stages)
            if not stages:
                raise HyperparameterError(f"`create`: `{name}` has no {form} form.")
        return chain(*stages)

    defaults = {k: v for k, v in cls._given.items() if k in cls.maker.arguments}
    title = "".join(form.capitalize() for form in reversed(forms))
    return optimizer_class(f"{title}{name}", made, **defaults)


def _corrected(stages: Stages) -> Stages:
    """With decoupled decay that is proportional to the square of the learning rate."""
    match stages:
        case [*before, add_decayed_weights() as decay, scale_by_learning_rate() as rate]:
            pass
        case [add_decayed_weights() as decay, *before, scale_by_learning_rate() as rate]:
            pass
        case _:
            return []
    last = scale_by_learning_rate_and_decay(rate.lr, decay.weight_decay)
    return [*before, last] if before else []


def _masked(stages: Stages) -> Stages:
    """With the direction, between decay and decay or learning rate, inside of `cautious`."""
    ends = (add_decayed_weights, scale_by_learning_rate, scale_by_learning_rate_and_decay)
    begin = int(bool(stages) and isinstance(stages[0], add_decayed_weights))
    end = next((k for k, x in enumerate(stages) if k >= begin and isinstance(x, ends)), begin)
    direction = stages[begin:end]
    if not direction or any("weight_decay" in x.hyperparameters for x in direction):
        return []
    return [*stages[:begin], cautious(chain(*direction)), *stages[end:]]


FORMS = {CAUTIOUS: _masked, CORRECTED: _corrected}
