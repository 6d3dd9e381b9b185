"""What is given as parameters: mistakes get PyTorch's message, then which it is and what to do."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, ParameterList

from .._core import checks
from .._core.kinds import described
from .._core.warning import warn
from ..errors import ArgumentError, ModeError, StructureError

Group = Mapping[str, Any]


def as_list(who: str, params: Any) -> list[Any]:
    """The parameters or groups that are given to a constructor, as a list.

    Raises:
        ArgumentError: If they are none.
        StructureError: If there are none.
    """
    if _is_module(params):
        raise ArgumentError(f"`{who}`: `params` is {_module(params)}")
    if isinstance(params, Tensor):
        raise ArgumentError(
            f"`{who}`: params argument given to the optimizer should be an iterable of Tensors or "
            f"dicts, but got {torch.typename(params)}: put it in a list, `{who}([p])`."
        )
    if isinstance(params, Mapping):
        way = "pairs of name and tensor are `list(params.items())`"
        if "params" in params:
            way = "a parameter group stands in a list, `[{'params': ...}]`"
        raise ArgumentError(f"`{who}`: `params` is a dict with the keys {_few(params)}: {way}.")
    if isinstance(params, str) or not isinstance(params, Iterable):
        raise ArgumentError(
            f"`{who}`: `params` must be parameters, such as `model.parameters()`, pairs, such as "
            f"`model.named_parameters()`, or a list of parameter groups, got {described(params)}"
        )
    given = list(params) if not isinstance(params, list) else params
    if not given:
        raise StructureError(
            f"`{who}`: optimizer got an empty parameter list. An iterator, such as "
            "`model.parameters()`, is empty after its first use: make it again, or a list of it."
        )
    return given


def check_group(
    who: str, group: Any, others: Sequence[Group], differentiable: bool
) -> AbstractContextManager[Any]:
    """Refuses a parameter group that is none; makes a list of its parameters.

    Returns:
        The context in which to add it: of a parameter that it has twice there is a warning.

    Raises:
        ArgumentError: If it is no dict with `params`, or these are no tensors.
        StructureError: If a parameter is in another group, is the result of an operation, or has
            no name where others have.
    """
    index = len(others)
    if not isinstance(group, dict):
        got = _module(group) if isinstance(group, Module) else described(group)
        raise ArgumentError(
            f"`{who}`: param_group must be a dict, such as {{'params': [p]}}, but got {got}"
        )
    if "params" not in group:
        raise ArgumentError(
            f"`{who}`: parameter group {index} has no `params`, only {_few(group)}: add the list "
            "of its parameters."
        )
    params = group["params"]
    if _is_module(params):
        raise ArgumentError(f"`{who}`: `params` of parameter group {index} is {_module(params)}")
    if isinstance(params, set):
        raise ArgumentError(
            f"`{who}`: optimizer parameters need to be organized in ordered collections, but the "
            "ordering of tensors in sets will change between runs. Please use a list instead."
        )
    if isinstance(params, (str, Mapping)) or not isinstance(params, Iterable):
        raise ArgumentError(
            f"`{who}`: `params` of parameter group {index} must be a list of parameters, or of "
            f"pairs (name, parameter), got {described(params)}"
        )
    given: list[Any] = [params] if isinstance(params, Tensor) else list(params)
    group["params"] = given
    named = [isinstance(x, tuple) for x in given]
    tensors: list[Any] = [x[1] if isinstance(x, tuple) and len(x) == 2 else x for x in given]
    called = [
        repr(x[0]) if isinstance(x, tuple) else f"entry {i} of parameter group {index}"
        for i, x in enumerate(given)
    ]
    for x, name in zip(tensors, called, strict=True):
        if not isinstance(x, Tensor):
            raise ArgumentError(_no_tensor(who, x, name))
        if not (differentiable or x.is_leaf or x.retains_grad):
            raise StructureError(
                f"`{who}`: can't optimize a non-leaf Tensor: {name}, of shape {tuple(x.shape)}, is "
                "the result of an operation. Make a parameter of it, "
                "`torch.nn.Parameter(x.detach())`, or pass `differentiable=True`."
            )
    if any(named) and not all(named):
        raise StructureError(
            f"`{who}`: all optimizer params should be with/without names. Some param names are "
            f"missing: {called[named.index(False)]} has none. Pass pairs (name, parameter) for "
            "all, as `model.named_parameters()` has them."
        )
    _check_names(who, any(named) or "param_names" in group, index, others)
    return _check_repeated(who, tensors, called, others)


def check_switches(who: str, defaults: Mapping[str, Any]) -> None:
    """Refuses values of the options of torch's classes that are neither true nor false."""
    for key in ("maximize", "differentiable", "capturable", "foreach", "fused"):
        value = defaults.get(key, False)
        if value is not None or key not in ("foreach", "fused"):
            checks.switch(who, key, value)


def check_no_leaves(who: str, groups: Sequence[Group]) -> None:
    """Refuses a step that autograd is to follow of parameters that it cannot write into."""
    for index, group in enumerate(groups):
        names = group.get("param_names") or range(len(group["params"]))
        for p, name in zip(group["params"], names, strict=False):
            if p.grad is not None and p.is_leaf and p.requires_grad:
                raise ModeError(
                    f"`{who}`: with `differentiable=True`, parameter {name!r} of group {index} is "
                    "a leaf Variable that requires grad, which no step can write into. Pass "
                    "`p.clone()` of each parameter, and use the clones in the model."
                )


def _check_names(who: str, named: bool, index: int, others: Sequence[Group]) -> None:
    for i, other in enumerate(others):
        if named != ("param_names" in other):
            said = ("with names", "without names")
            raise StructureError(
                f"`{who}`: all optimizer param groups should be with/without names. cannot add "
                f"param group {said[not named]} to the optimizer: parameter group {index} is "
                f"{said[not named]}, group {i} {said[named]}. In groups, names are pairs, "
                "`{'params': list(module.named_parameters())}`."
            )


def _check_repeated(
    who: str, tensors: Sequence[Tensor], called: Sequence[str], others: Sequence[Group]
) -> AbstractContextManager[Any]:
    index, first = len(others), dict[Tensor, str]()
    for i, other in enumerate(others):
        names = other.get("param_names") or [None] * len(other["params"])
        for p, name in zip(other["params"], names, strict=False):
            first[p] = f"group {i}" if name is None else f"group {i}, as {name!r}"
    for p, name in zip(tensors, called, strict=True):
        if p in first:
            here = f"{name}, of shape {tuple(p.shape)}"
            raise StructureError(
                f"`{who}`: some parameters appear in more than one parameter group: {here}, is in "
                f"{first[p]}, and again in group {index}. Leave it out of one of the two."
            )
    seen: dict[Tensor, str] = {}
    repeated = [
        f"{seen[p]} and {x}" for p, x in zip(tensors, called, strict=True) if _in(seen, p, x)
    ]
    if not repeated:
        return nullcontext()
    warn(
        "optimizer contains a parameter group with duplicate parameters; in future, this will "
        f"cause an error. `{who}`: {', '.join(repeated)} are one tensor, which is stepped once: "
        "leave one out."
    )
    return _without_torchs_warning()


@contextmanager
def _without_torchs_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "optimizer contains a parameter group with duplicate")
        yield


def _in(seen: dict[Tensor, str], p: Tensor, name: str) -> bool:
    """Whether it was seen before; it is now."""
    return seen.setdefault(p, name) is not name


def _no_tensor(who: str, x: Any, name: str) -> str:
    said = f"optimizer can only optimize Tensors, but one of the params is {torch.typename(x)}"
    if isinstance(x, Module):
        return f"`{who}`: {said}: {name} is {_module(x)}"
    if isinstance(x, dict):
        return f"`{who}`: {said}: {name} is a dict: groups and parameters do not stand in one list."
    if isinstance(x, tuple):
        return f"`{who}`: {said}: {name} must be a pair (name, parameter), got {len(x)} entries."
    return f"`{who}`: {said}: {name}, {described(x)}"


def _is_module(params: Any) -> bool:
    """Whether it is a module that is no list of parameters."""
    return isinstance(params, Module) and not isinstance(params, ParameterList)


def _module(module: Module) -> str:
    name = type(module).__name__
    return (
        f"a module, `{name}`: pass its parameters, `model.parameters()`, or with their names, "
        "`model.named_parameters()`."
    )


def _few(group: Mapping[Any, Any]) -> str:
    return f"[{', '.join(map(repr, list(group)[:5]))}{', ...' * (len(group) > 5)}]"
