"""Optimizer classes, made of a function that makes a transformation."""

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import torch

from .._core.tensor_rule import GradientTransformation
from .._hints.calls import argument_error
from ..combinators import Place, changed, places
from ..errors import HyperparameterError
from ._default_lr import with_lr
from ._groups import per_tensor
from ._layout import TRAIN_MODE
from ._optimizer import Optimizer
from ._values import Values, as_scalar

HINTS: Values = {
    "maximize": False,
    "foreach": None,
    "capturable": False,
    "differentiable": False,
    "fused": None,
}
"""What torch's classes take besides. `foreach` and `fused` say how, so they change nothing."""

ENGINE = "engine"
"""How an optimizer makes its steps, which is no matter of a group."""


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

    Where `make` returns a `partition`, arguments are only the beginning of numbers: every label is
    a group, whose keys are the hyperparameters of its own transformation, as in `Optimizer`. So
    each has an `lr` for schedulers. Arguments annotated as switches (`bool`, `int`, `str`, a
    `Literal`, a dtype) stay keys of all groups.

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
    Made._argument_names = tuple(values)
    Made._switches = tuple(k for k, a in arguments.items() if _is_switch(a.annotation))
    return Made


class _FromFunction(Optimizer):
    """An optimizer whose groups hold the arguments of a function."""

    __signature__: inspect.Signature
    _given: Values  # where nothing is given; of the hints, those that torch's class has
    _make_tx: Callable[..., GradientTransformation]
    _argument_names: tuple[str, ...]
    _switches: tuple[str, ...]

    def __init__(self, params: Iterable[Any], *args: Any, **kwargs: Any) -> None:
        cls = type(self)
        kwargs.pop(TRAIN_MODE, None)  # which `defaults` holds of a class that keeps averages
        args = (params, *args)
        try:
            bound = cls.__signature__.bind(*args, **kwargs)
        except TypeError as error:
            raise argument_error(cls.__name__, cls.__signature__, args, kwargs, error) from None
        given = {**cls._given, **{k: v for k, v in bound.arguments.items() if k != "params"}}
        self._how = given.pop(ENGINE, "auto")
        tx = self._made_of({k: given[k] for k in self._argument_names})
        self._set_up(params, tx, {"differentiable": False, "maximize": False, **given})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group; with a `partition`, one for every label that occurs in it."""
        if self._labelled and isinstance(param_group, dict):
            elsewhere = self._elsewhere(self._defaults()).intersection(param_group)
            for key in sorted(elsewhere):
                raise HyperparameterError(
                    f"`{type(self).__name__}`: `{key}` is an argument of the class, no key of a "
                    "group: each label has a group with keys of its own, such as `lr`."
                )
        super().add_param_group(param_group)

    def _defaults(self, of: Any = None) -> Values:
        if "defaults" not in self.__dict__:  # which are about to be set: the arguments
            return {}
        if not self._labelled:  # else numbers have the names that they have in the chain
            return {k: self.defaults[k] for k in self._argument_names if k in self.defaults}
        switches = {k: self.defaults[k] for k in self._switches}
        return {**switches, **super()._defaults(of)}

    def _elsewhere(self, own: Values) -> set[str]:
        return super()._elsewhere(own) | set(self._argument_names) - set(own)

    def _make(
        self, values: Values, of: Any, made: Any
    ) -> tuple[GradientTransformation, Mapping[str, Place]]:
        if not self._labelled:
            return self._made_of(values), {}
        arguments = {k: values.get(k, self.defaults[k]) for k in self._switches}
        tx = self._made_of({**{k: self.defaults[k] for k in self._argument_names}, **arguments})
        where = places(tx, of)
        return changed(tx, {where[k]: v for k, v in values.items() if k in where}), where

    def _made_of(self, arguments: Values) -> GradientTransformation:
        scalars = {k: as_scalar(k, value) for k, value in arguments.items()}
        tx: GradientTransformation = per_tensor(with_lr(type(self)._make_tx(**scalars)))
        return tx


def _is_switch(annotation: Any) -> bool:
    """Whether an argument so annotated is structure, and plain enough for a checkpoint."""
    if get_origin(annotation) in (Union, UnionType):
        return all(map(_is_switch, get_args(annotation)))
    plain = (bool, int, str, type(None), torch.dtype)
    return get_origin(annotation) is Literal or annotation in plain


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
    more = {**HINTS, ENGINE: "auto"}
    return [inspect.Parameter(k, kind, default=v) for k, v in more.items() if k not in but]
