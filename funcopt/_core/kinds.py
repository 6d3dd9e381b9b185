"""Refusing one kind of thing where another is needed: a chain, an optimizer, a state."""

from collections.abc import Mapping, Sized
from typing import Any

import torch

from .. import tree
from ..errors import HyperparameterError, LeafError, StructureError
from .transformation import GradientTransformation


def expect_transformation(who: str, tx: Any, call: str) -> None:
    """Refuses what is no transformation.

    Args:
        who: What was called.
        tx: What it was given.
        call: How it is called, such as ``hyperparams(tx)``.

    Raises:
        HyperparameterError: Saying what `tx` is, and what to write instead.
    """
    if not isinstance(tx, GradientTransformation):
        raise HyperparameterError(
            f"`{who}`: expected a transformation such as `adamw(1e-3)`, got {described(tx)} The "
            f"call is `{call}`."
        )


def check_maker(who: str, tx: Any, call: str) -> None:
    """Refuses what is neither a transformation nor a function that may make one."""
    if not callable(tx) or isinstance(tx, (type, torch.nn.Module, torch.optim.Optimizer)):
        expect_transformation(who, tx, call)


def check_function(who: str, name: str, value: Any, call: str) -> None:
    """Refuses what cannot be called, such as the value of a loss for the loss."""
    if not callable(value) or isinstance(value, GradientTransformation):
        raise HyperparameterError(
            f"`{who}`: `{name}` must be a function, `{call}`, got {described(value)}"
        )


def check_tree(who: str, name: str, value: Any) -> None:
    """Refuses what is no tree of tensors, such as a module or an optimizer.

    Raises:
        LeafError: Saying how to get the tree.
    """
    leaves = tree.leaves(value)
    if wrong := next((x for x in leaves if not isinstance(x, torch.Tensor)), value is None):
        raise LeafError(
            f"`{who}`: `{name}` must be a tree of tensors, such as `split_module(model).params`, "
            f"got {described(value if wrong is True else wrong)}"
        )


def check_module(who: str, module: Any) -> None:
    """Refuses what is no module."""
    if not isinstance(module, torch.nn.Module):
        raise HyperparameterError(f"`{who}`: expected a module, got {described(module)}")


def check_is(who: str, name: str, value: Any, kind: type, made: str) -> None:
    """Refuses what is not of a type of this library; `made` says how it is made."""
    if not isinstance(value, kind):
        raise StructureError(
            f"`{who}`: `{name}` must be a `{kind.__name__}`, as `{made}` makes it, got "
            f"{described(value)}"
        )


def check_iterable(who: str, name: str, value: Any, expected: str) -> None:
    """Refuses what holds nothing to go through."""
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise HyperparameterError(f"`{who}`: `{name}` must be {expected}, got {described(value)}")


def check_values(who: str, values: Any) -> None:
    """Refuses what is no dict of hyperparameters."""
    if not isinstance(values, Mapping):
        raise HyperparameterError(
            f"`{who}`: `values` must be a dict such as {{'lr': ...}}, got {described(values)}"
        )


def check_optimizer(who: str, optimizer: Any) -> None:
    """Refuses what is no torch optimizer.

    Raises:
        HyperparameterError: Saying what it is, and what to write instead.
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise HyperparameterError(
            f"`{who}`: expected an optimizer such as `Optimizer(params, tx)`, got "
            f"{described(optimizer)}"
        )


def check_state(who: str, state: Any, instead: str) -> None:
    """Refuses what has no leaves that a state could have: an optimizer, a module, a transformation.

    Args:
        who: What was called.
        state: What it was given.
        instead: The method that an optimizer or a module has for it.

    Raises:
        StructureError: Saying what it is, and what to write instead.
    """
    if isinstance(state, (torch.optim.Optimizer, torch.nn.Module)):
        raise StructureError(
            f"`{who}`: expected the state of a transformation, as `tx.init(params)` returns it, "
            f"got the {_kind(state)} `{type(state).__name__}`: use its method `{instead}`."
        )
    if isinstance(state, GradientTransformation) or state is None or isinstance(state, str):
        raise StructureError(
            f"`{who}`: expected the state of a transformation, as `tx.init(params)` returns it, "
            f"got {described(state)}"
        )


def described(x: Any) -> str:
    """What it is, as a sentence that ends, with the way to what may have been meant."""
    name = type(x).__name__
    if isinstance(x, GradientTransformation):
        return f"the transformation `{name}`: `Optimizer(params, tx)` makes an optimizer of it."
    if isinstance(x, torch.optim.Optimizer):
        return f"the optimizer `{name}`: the transformation of an `Optimizer` is its `tx`."
    if isinstance(x, torch.nn.Module):
        return f"the module `{name}`."
    if isinstance(x, type):
        return f"the class `{x.__name__}`: call it first."
    if callable(x) and hasattr(x, "__name__"):
        return f"the function `{x.__name__}`: call it, if it makes one, as in `adamw(1e-3)`."
    if isinstance(x, (str, int, float)) or x is None:
        return f"{x!r}."
    return f"an empty {name}." if isinstance(x, Sized) and not len(x) else f"{name}."


def _kind(x: Any) -> str:
    return "optimizer" if isinstance(x, torch.optim.Optimizer) else "module"
