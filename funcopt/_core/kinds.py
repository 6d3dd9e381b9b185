"""Refusing one kind of thing where another is needed: a chain, an optimizer, a state."""

import inspect
from collections.abc import Mapping, Sequence, Sized
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


def check_function(who: str, name: str, value: Any, call: str, args: int | None = None) -> None:
    """Refuses what cannot be called, such as the value of a loss for the loss.

    Args:
        who: What was called.
        name: The argument.
        value: What it was given.
        call: How the function is called, such as ``loss(params, batch)``.
        args: With how many positional arguments, if it is known: one that takes fewer, or needs
            more, is refused, and so is a function of `torch.nn`, which takes no tree.

    Raises:
        HyperparameterError: Saying how it is called.
    """
    kinds = (type, GradientTransformation, torch.optim.Optimizer)
    if not callable(value) or isinstance(value, kinds):
        raise HyperparameterError(
            f"`{who}`: `{name}` must be a function, `{call}`, got {described(value)}"
        )
    if args is None:
        return
    if _of_torch(value):
        called = getattr(value, "__name__", type(value).__name__)
        raise HyperparameterError(
            f"`{who}`: `{name}` must be a function of trees, `{call}`, got torch's `{called}`: "
            "write a function that calls it, and the module by `torch.func.functional_call(module, "
            "params, inputs)`."
        )
    if (signature := _misfit(value, args)) is not None:
        raise HyperparameterError(
            f"`{who}`: `{name}` is called as `{call}`, and takes {signature}."
        )


def _of_torch(value: Any) -> bool:
    """Whether it is a function or module of `torch.nn`."""
    owner = value if hasattr(value, "__qualname__") else type(value)
    return str(getattr(owner, "__module__", "")).startswith("torch.nn.")


def _misfit(function: Any, args: int) -> str | None:
    """The arguments of a function that cannot be called with so many, by position."""
    if isinstance(function, torch.nn.Module):
        function = function.forward
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some that are built in have none
        return None
    own = [p for p in signature.parameters.values() if p.kind is not p.KEYWORD_ONLY]
    try:
        signature.replace(parameters=own).bind(*range(args))
    except TypeError:
        bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
        return str(signature.replace(parameters=bare, return_annotation=signature.empty))
    return None


def check_tree(who: str, name: str, value: Any) -> None:
    """Refuses what is no tree of tensors, such as a module or an optimizer.

    Raises:
        LeafError: Saying how to get the tree.
    """
    wrong = [x for x in tree.leaves(value) if not isinstance(x, torch.Tensor)]
    if wrong or value is None:
        raise LeafError(
            f"`{who}`: `{name}` must be a tree of tensors, such as `split_module(model).params`, "
            f"got {described(wrong[0] if wrong else value)}"
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


def check_batches(who: str, batches: Any, name: str = "batches") -> None:
    """Refuses what holds no batches to go through, and one batch in their place.

    Tensors in a tuple or list that differ in more than their number of examples are no batches of
    one training. A pair of tensors in a tuple is taken for one batch too: `inputs, targets` is far
    more common than two batches.

    Raises:
        HyperparameterError: Saying how one batch, and several, are passed.
    """
    check_iterable(who, name, batches, "a list of batches, or another iterable")
    if isinstance(batches, torch.Tensor) and not batches.dim():
        raise HyperparameterError(
            f"`{who}`: `{name}` must be a list of batches, or another iterable, got a 0-d tensor."
        )
    if _is_one_batch(batches):
        what, tensors = type(batches).__name__, isinstance(batches, (tuple, list))
        other = f" If these tensors are the batches, pass `iter({name})`." if tensors else ""
        raise HyperparameterError(
            f"`{who}`: `{name}` must be a list of batches, or another iterable, got a {what} of "
            "tensors, as one batch is: write `[batch]` for a single step, `[batch] * n` for n "
            f"steps with it.{other}"
        )


def _is_one_batch(batches: Any) -> bool:
    if isinstance(batches, Mapping) or hasattr(batches, "_fields"):
        return True
    if not isinstance(batches, (tuple, list)) or len(batches) < 2:
        return False
    if not all(isinstance(x, torch.Tensor) for x in batches):
        return False
    if len({(x.dtype, x.dim()) for x in batches}) > 1:
        return True
    return isinstance(batches, tuple) and (len(batches) == 2 or _differ(batches))


def _differ(batches: Sequence[torch.Tensor]) -> bool:
    """Whether they have different shapes, the first dimension aside."""
    return len({x.shape[1:] for x in batches}) > 1


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
    wrong = next((x for x in tree.leaves(state) if callable(x) or isinstance(x, str)), None)
    if wrong is not None or state is None or hasattr(state, "__next__"):
        state = state if wrong is None else wrong
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
    if isinstance(x, torch.Tensor):
        return f"a tensor of shape {tuple(x.shape)} in {x.dtype}."
    if isinstance(x, (str, int, float)) or x is None:
        return f"{x!r}."
    return f"an empty {name}." if isinstance(x, Sized) and not len(x) else f"{name}."


def _kind(x: Any) -> str:
    return "optimizer" if isinstance(x, torch.optim.Optimizer) else "module"


def leaves_like(who: str, spec: tree.Spec[Any], other: Any) -> list[Any]:
    """What stands in a tree where the leaves of a structure are.

    Raises:
        StructureError: If the tree has another structure: `who` was given it.
    """
    try:
        return spec.flatten_up_to(other)
    except StructureError as error:
        raise StructureError(f"`{who}`: {error}") from None
