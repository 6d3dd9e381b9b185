"""Optimizer classes, made of a function that makes a transformation."""

import inspect
import sys
import types
from collections.abc import Callable, Container, Mapping, Sequence
from typing import (
    Any,
    ClassVar,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    Union,
    get_args,
    get_origin,
    overload,
)

import torch

from .._core.tensor_rule import GradientTransformation
from .._hints.calls import argument_error, name_caller
from ..combinators import Format, Rounding
from ..engine import EngineOption
from ..errors import FuncoptError, HyperparameterError
from ..typing import ParamsT, Scalar, TypeAliasType
from ._averages import TRAIN_MODE
from ._factory import FunctionFactory, Maker
from ._optimizer import Optimizer
from ._options import How, Options
from ._short_ways import SHORT_WAYS

EXECUTION: Options = {
    "maximize": False,
    "foreach": None,
    "capturable": False,
    "differentiable": False,
    "fused": None,
}
"""What torch's classes take as well. `foreach` and `fused` say how, so they change nothing."""

HOW = How()._asdict()
"""How an optimizer makes its steps, which is no matter of a group."""

P = ParamSpec("P")


class AliasOptimizer(Optimizer):
    """An optimizer whose parameter groups hold the arguments of a function.

    A subclass names the function, which makes its transformation. Its arguments are the arguments
    of the class, its defaults, and the keys of its `param_groups`:

        class Signum(AliasOptimizer, make=signum):
            def __init__(self, params: ParamsT, lr: Scalar = 1e-3, beta: Scalar = 0.9) -> None: ...

    The `__init__` beside `make` is a declaration, for readers and type checkers: the class has its
    names, order and defaults, and the body is never run. Without one, the signature is that of
    `like`, or else of `make`. By keyword, every class also takes what torch's classes take
    (`maximize`, `foreach`, `capturable`, `differentiable`, `fused`), `engine`, `offload`, and
    shorthands for the stages around it: ``max_grad_norm=1.0`` is `clip_by_global_norm`,
    ``ema=0.999`` is `ema_of_params`, ``accumulate=4`` is `accumulate`, ``quantized="8bit"`` is
    `quantized` and ``rounding="stochastic"`` is `rounded`, in this chain:

        inner = chain(clip_by_global_norm(1.0), quantized(make(...), "8bit"), ema_of_params(0.999))
        rounded(accumulate(inner, 4), "stochastic")

    The first two are keys of `param_groups`, read at every step, where they are given.

    Subclasses of such a class inherit its function.

    Args:
        make: Makes the transformation of hyperparameters. A keyword of the class statement.
        like: A class of torch with the same arguments, for its signature and defaults. Another.
        defaults: Defaults that differ from those of `make`, where it has the signature. Another.

    Raises:
        HyperparameterError: If an argument of `make` is not declared, or has no default.
    """

    maker: ClassVar[Maker]
    __signature__: ClassVar[inspect.Signature]
    _given: ClassVar[Options]  # where nothing is given

    def __init_subclass__(
        cls,
        *,
        make: Callable[..., GradientTransformation] | None = None,
        like: type[torch.optim.Optimizer] | None = None,
        defaults: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        if make is None:
            return
        arguments = inspect.signature(make).parameters
        dtypes = tuple(k for k, a in arguments.items() if torch.dtype in _kinds(a.annotation))
        switches = tuple(k for k, a in arguments.items() if _is_switch(a.annotation))
        cls.maker = Maker(make, tuple(arguments), switches, dtypes)
        declared = cls.__dict__.get("__init__")
        own = _declared(declared) if declared else _arguments(make, like, defaults or {})
        _check(cls.__name__, own, cls.maker.arguments)
        cls.__signature__ = inspect.Signature([*own.values(), *_keywords(but=own)])
        unknown = () if like is None else set(EXECUTION) - set(inspect.signature(like).parameters)
        ways = set(SHORT_WAYS).difference(arguments)
        left_out = {
            "params",
            *HOW,
            *unknown,
            *ways,
        }  # in `defaults`, as in those of torch's class
        given = cls.__signature__.parameters
        cls._given = {k: a.default for k, a in given.items() if k not in left_out}
        cls.__doc__ = cls.__doc__ or inspect.getdoc(make)
        if declared:
            del cls.__init__

    def __init__(self, params: ParamsT, *args: Any, **kwargs: Any) -> None:
        cls = type(self)
        kwargs.pop(TRAIN_MODE, None)  # which `defaults` holds of a class that keeps averages
        args = (params, *args)
        try:
            bound = cls.__signature__.bind(*args, **kwargs)
        except TypeError as error:
            raise argument_error(cls.__name__, cls.__signature__, args, kwargs, error) from None
        given = {k: v for k, v in bound.arguments.items() if k != "params"}
        for key in SHORT_WAYS.keys() - set(cls.maker.arguments):
            if given.get(key, ...) is None:  # no stage, and no key
                del given[key]
        how = How(**{key: given.pop(key) for key in HOW if key in given})
        defaults = {"differentiable": False, "maximize": False, **cls._given, **given}
        try:
            factory = FunctionFactory.of(cls, defaults)
            self._set_up(params, factory, defaults, how)
        except FuncoptError as error:
            name_caller(error, cls.__name__, given)
            raise


class FunctionOptimizer(AliasOptimizer, Generic[P]):
    """An `AliasOptimizer` that takes the arguments `P` of its function after the parameters."""

    @overload
    def __init__(self, params: ParamsT, *args: P.args, **kwargs: P.kwargs) -> None: ...

    # No type says that it takes these too: where one is given, the others are not read.
    @overload
    def __init__(self, params: ParamsT, *args: Any, maximize: bool, **kwargs: Any) -> None: ...

    @overload
    def __init__(self, params: ParamsT, *args: Any, foreach: bool, **kwargs: Any) -> None: ...

    @overload
    def __init__(self, params: ParamsT, *args: Any, capturable: bool, **kwargs: Any) -> None: ...

    @overload
    def __init__(self, params: ParamsT, *args: Any, fused: bool, **kwargs: Any) -> None: ...

    @overload
    def __init__(
        self, params: ParamsT, *args: Any, differentiable: bool, **kwargs: Any
    ) -> None: ...

    @overload
    def __init__(
        self, params: ParamsT, *args: Any, max_grad_norm: Scalar, **kwargs: Any
    ) -> None: ...

    @overload
    def __init__(self, params: ParamsT, *args: Any, ema: Scalar, **kwargs: Any) -> None: ...

    @overload
    def __init__(self, params: ParamsT, *args: Any, accumulate: int, **kwargs: Any) -> None: ...

    @overload
    def __init__(self, params: ParamsT, *args: Any, quantized: Format, **kwargs: Any) -> None: ...

    @overload
    def __init__(self, params: ParamsT, *args: Any, rounding: Rounding, **kwargs: Any) -> None: ...

    @overload
    def __init__(self, params: ParamsT, *args: Any, offload: bool, **kwargs: Any) -> None: ...

    @overload
    def __init__(
        self, params: ParamsT, *args: Any, engine: EngineOption, **kwargs: Any
    ) -> None: ...

    def __init__(self, params: ParamsT, *args: Any, **kwargs: Any) -> None:
        super().__init__(params, *args, **kwargs)


@overload
def optimizer_class(
    name: str, make: Callable[P, GradientTransformation], *, like: None = None
) -> type[FunctionOptimizer[P]]: ...


@overload
def optimizer_class(  # type: ignore[overload-overlap]
    name: str,
    make: Callable[..., GradientTransformation],
    *,
    like: Callable[Concatenate[ParamsT, P], torch.optim.Optimizer],
) -> type[FunctionOptimizer[P]]: ...


@overload
def optimizer_class(
    name: str,
    make: Callable[..., GradientTransformation],
    *,
    like: type[torch.optim.Optimizer] | None = None,
    **defaults: Any,
) -> type[FunctionOptimizer[...]]: ...


def optimizer_class(
    name: str,
    make: Callable[..., GradientTransformation],
    *,
    like: Any = None,
    **defaults: Any,
) -> type[FunctionOptimizer[...]]:
    """Makes a class ``name(params, **hyperparameters)``, a real `torch.optim.Optimizer`.

        >>> Signum = optimizer_class("Signum", lambda lr, beta=0.9: chain(
        ...     ema(beta, debias=False), scale_by_sign(), scale_by_learning_rate(lr)), lr=1e-3)

    The arguments of `make` are the arguments of the class, its defaults, and the keys of its
    `param_groups`: they are read at every step. What else torch's classes take, `engine`,
    `offload`, and the shorthands `max_grad_norm`, `ema`, `accumulate`, `quantized` and `rounding`,
    it takes by keyword. Type checkers know the parameters, and the arguments as `make` has them.

    Where `make` returns a `partition`, arguments are initial values only: every label is a
    parameter group, whose keys are the hyperparameters of its own transformation, as in
    `Optimizer`. So each has an `lr` for schedulers. Arguments annotated as switches (`bool`, `int`,
    `str`, a `Literal`) stay keys of all groups. A dtype, such as `state_dtype`, is that of the
    whole optimizer: it is in `defaults`, and no key of a group or of a checkpoint.

    Args:
        name: The name of the class; it pickles if it is bound to that name in the calling module.
        make: Makes the transformation of the hyperparameters, such as `adamw`.
        like: A class of torch whose signature and defaults to take, instead of those of `make`;
            arguments that it lacks are appended, by keyword only.
        **defaults: Defaults that differ from those of `make`.

    Raises:
        HyperparameterError: If an argument of `make` has no default.
    """
    body = {"__module__": sys._getframe(1).f_globals.get("__name__", __name__)}
    keywords = {"make": make, "like": like, "defaults": defaults}
    bases: tuple[type, ...] = (FunctionOptimizer,)
    return types.new_class(name, bases, keywords, lambda space: space.update(body))


def _arguments(
    make: Callable[..., Any], like: type | None, defaults: Mapping[str, Any]
) -> dict[str, inspect.Parameter]:
    """The arguments of `make` or `like`; of the latter, those that are known here."""
    kind, empty = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
    own = inspect.signature(make).parameters
    if like is not None:
        known = {"params", *EXECUTION, *own}
        theirs = inspect.signature(like).parameters
        more = {
            k: a.replace(annotation=empty, kind=a.KEYWORD_ONLY)
            for k, a in own.items()
            if k not in theirs
        }
        taken = {k: a.replace(annotation=empty) for k, a in theirs.items() if k in known}
        return {**taken, **more}
    each = {
        k: a.replace(default=defaults.get(k, a.default), annotation=empty) for k, a in own.items()
    }
    return {"params": inspect.Parameter("params", kind), **each}


def _declared(init: Callable[..., None]) -> dict[str, inspect.Parameter]:
    _, *own = inspect.signature(init).parameters.items()  # without `self`
    return dict(own)


def _check(who: str, own: Mapping[str, inspect.Parameter], arguments: Sequence[str]) -> None:
    """Refuses a signature in which arguments of the function have no name or no default."""
    if unknown := sorted(set(own) - {"params", *HOW, *EXECUTION, *SHORT_WAYS, *arguments}):
        raise HyperparameterError(f"`{who}`: its function does not take {unknown}.")
    if missing := [k for k in arguments if k not in own]:
        raise HyperparameterError(f"`{who}`: its function takes {missing} too: declare them.")
    if missing := [k for k in arguments if own[k].default is inspect.Parameter.empty]:
        raise HyperparameterError(
            f"`{who}`: {missing} must have a default: give it one, or pass it to `optimizer_class`."
        )


def _keywords(but: Container[str]) -> list[inspect.Parameter]:
    kind = inspect.Parameter.KEYWORD_ONLY
    more = {**EXECUTION, **SHORT_WAYS, **HOW}
    return [inspect.Parameter(k, kind, default=v) for k, v in more.items() if k not in but]


def _is_switch(annotation: Any) -> bool:
    """Whether an argument so annotated is structure, and plain enough for a checkpoint."""
    plain = (bool, int, str, type(None))
    return all(get_origin(x) is Literal or x in plain for x in _kinds(annotation))


def _kinds(annotation: Any) -> tuple[Any, ...]:
    """The parts of a union, or what is none; of a named type, what it stands for."""
    if get_origin(annotation) in _UNIONS:
        return tuple(part for x in get_args(annotation) for part in _kinds(x))
    return _kinds(annotation.__value__) if isinstance(annotation, TypeAliasType) else (annotation,)


_UNIONS = (Union, types.UnionType)
