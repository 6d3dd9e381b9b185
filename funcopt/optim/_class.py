"""Optimizer classes, made of a function that makes a transformation."""

import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from .._base import GradientTransformation
from ..errors import HyperparameterError
from ._groups import per_tensor
from ._optimizer import Optimizer
from ._values import Values, as_scalar
from ._with_lr import with_lr

HINTS: Values = {
    "maximize": False,
    "foreach": None,
    "capturable": False,
    "differentiable": False,
    "fused": None,
}
"""What torch's classes take besides. `foreach` and `fused` say how, so they change nothing."""


def optimizer_class(
    name: str,
    make: Callable[..., GradientTransformation],
    *,
    like: type[torch.optim.Optimizer] | None = None,
    **defaults: Any,
) -> type[Optimizer]:
    """Makes a class ``name(params, **hyperparameters)``, a real `torch.optim.Optimizer`.

        >>> Signum = optimizer_class("Signum", lambda lr, beta=0.9: chain(
        ...     ema(beta, debias=False), scale_by_sign(), scale_by_learning_rate(lr)), lr=1e-3)

    The arguments of `make` are the arguments of the class, its defaults, and the keys of its
    `param_groups`: they are read at every step.

    Args:
        name: The name of the class; it pickles if it is bound to that name in the calling module.
        make: Makes the transformation of the hyperparameters, such as `adamw`.
        like: A class of torch whose signature and defaults to take, instead of those of `make`.
        **defaults: Defaults that differ from those of `make`.

    Raises:
        HyperparameterError: If an argument of `make` has no default.
    """
    arguments = inspect.signature(make).parameters
    values = {k: defaults.get(k, a.default) for k, a in arguments.items()}
    if missing := [k for k, value in values.items() if value is inspect.Parameter.empty]:
        raise HyperparameterError(
            f"`optimizer_class({name!r})`: {missing} must have a default: pass it as a keyword."
        )
    own = _arguments(make, values) if like is None else _arguments_of(like, values)
    more = _hints(but=[a.name for a in own])

    class Made(_FromFunction):
        pass

    Made.__name__ = Made.__qualname__ = name
    Made.__module__ = sys._getframe(1).f_globals.get("__name__", __name__)
    Made.__doc__ = inspect.getdoc(make)
    Made.__signature__ = inspect.Signature([*own, *more])
    Made._given = {a.name: a.default for a in own if a.name != "params"}
    Made._make_tx = staticmethod(make)
    Made._hyperparameter_names = tuple(values)
    return Made


class _FromFunction(Optimizer):
    """An optimizer whose groups hold the arguments of a function."""

    __signature__: inspect.Signature
    _given: Values  # where nothing is given; of the hints, those that torch's class has
    _make_tx: Callable[..., GradientTransformation]
    _hyperparameter_names: tuple[str, ...]

    def __init__(self, params: Iterable[Any], *args: Any, **kwargs: Any) -> None:
        cls = type(self)
        try:
            bound = cls.__signature__.bind(params, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"`{cls.__name__}`: {error}; it is {cls.__signature__}.") from None
        given = {**cls._given, **{k: v for k, v in bound.arguments.items() if k != "params"}}
        tx = self._make({k: as_scalar(k, given[k]) for k in self._hyperparameter_names}, None)
        self._set_up(params, tx, {"differentiable": False, "maximize": False, **given})

    def _defaults(self, of: Any = None) -> Values:
        known = self.__dict__.get("defaults", {})
        return {k: known[k] for k in self._hyperparameter_names if k in known}

    def _make(self, values: Values, of: Any) -> GradientTransformation:
        tx: GradientTransformation = per_tensor(with_lr(type(self)._make_tx(**values)))
        return tx


def _arguments(make: Callable[..., Any], values: Values) -> list[inspect.Parameter]:
    kind = inspect.Parameter
    arguments = [kind("params", kind.POSITIONAL_OR_KEYWORD)]
    for key, argument in inspect.signature(make).parameters.items():
        arguments.append(argument.replace(default=values[key], annotation=kind.empty))
    return [*arguments, *_hints()]


def _arguments_of(like: type, values: Values) -> list[inspect.Parameter]:
    """The arguments of a torch class; what we know nothing of is left out."""
    known = {"params", *HINTS, *values}
    arguments = inspect.signature(like).parameters.values()
    return [a.replace(annotation=inspect.Parameter.empty) for a in arguments if a.name in known]


def _hints(but: Sequence[str] = ()) -> list[inspect.Parameter]:
    kind = inspect.Parameter.KEYWORD_ONLY
    return [inspect.Parameter(k, kind, default=v) for k, v in HINTS.items() if k not in but]
