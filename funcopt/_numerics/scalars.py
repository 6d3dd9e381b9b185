"""Functions of numbers and of one tensor that rules and schedules share.

Those of numbers take Python numbers, which stay float64 Python numbers, as well as 0-d tensors,
which stay tensors: the same formula runs eagerly, under `torch.func.vmap`, under `torch.func.grad`
and inside `torch.compile`.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def is_concrete(x: Any) -> bool:
    """Whether Python may look at the value of `x`: a number, or a plain 0-d tensor on the CPU.

    Not so for a tensor on a device (it would synchronise), under `torch.func` or `torch.compile`
    (there is no value yet), or one that autograd follows (the derivative would be lost).
    """
    if not isinstance(x, Tensor):
        return True
    if torch.compiler.is_compiling() or type(x) is not Tensor or x.requires_grad:
        return False
    return x.device.type == "cpu" and x.dim() == 0 and not is_traced(x)


def is_traced(x: Tensor) -> bool:
    """Whether `x` is seen by `torch.func`, or by something else that watches every operation."""
    return is_wrapped(x) or torch._C._len_torch_dispatch_stack() > 0


def is_wrapped(x: Tensor) -> bool:
    """Whether `torch.func` maps over `x` or differentiates by it."""
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(x))  # pyright: ignore[reportAttributeAccessIssue]


def is_mapped() -> bool:
    """Whether this runs inside of `torch.func`, whatever it is that is mapped or differentiated."""
    return torch._C._functorch.peek_interpreter_stack() is not None  # pyright: ignore[reportAttributeAccessIssue]


def number(x: Any) -> Any:
    """`x` as a Python number if it may be looked at, else as it is."""
    return x.item() if isinstance(x, Tensor) and is_concrete(x) else x


def is_zero(x: Any) -> bool:
    """Whether `x` is a Python number that is zero: then what it multiplies can be left out."""
    return not isinstance(x, Tensor) and not callable(x) and x == 0


def has_schedule(value: Any) -> bool:
    """Whether `value` is a schedule, or a tuple with one in it."""
    if type(value) is float:  # nearly always
        return False
    return any(map(callable, value)) if isinstance(value, (tuple, list)) else callable(value)


def at(value: Any, count: Any) -> Any:
    """`value` with its schedules after `count` updates."""
    if isinstance(value, (tuple, list)):
        return tuple(at(part, count) for part in value)
    return value(count) if callable(value) else value


def widen(dtype: torch.dtype) -> torch.dtype:
    """The dtype to compute in for tensors of `dtype`: itself, but at least float32."""
    return torch.promote_types(dtype, torch.float32)


def sqrt(x: Tensor) -> Tensor:
    """The square root, with derivative 0 at 0, so that meta-gradients are never NaN.

    What is filled in keeps the infinite slope from being met, and then from being passed on.
    Without autograd it is not needed, and the value is the same.
    """
    if not torch.is_grad_enabled():
        return x.sqrt()
    at_zero = x == 0
    return x.masked_fill(at_zero, 1.0).sqrt().masked_fill(at_zero, 0.0)


def shortening(norm: Tensor, most: Any, eps: Any = 0.0) -> Tensor:
    """The factor ``min(1, most / (norm + eps))``; 1 at a norm of 0, with finite slopes."""
    zero = norm == 0
    length = torch.where(zero, 1.0, norm + eps)  # an infinite slope must not reach the factor
    return torch.where(zero, 1.0, (most / length).clamp(max=1.0))


def count(x: Tensor) -> Tensor:
    """The number of entries, as a measure: those of the parts of a tensor add up to its own."""
    return torch.ones_like(x).sum()


def mix(old: Tensor, new: Tensor, weight: Any) -> Tensor:
    """One step of a moving average: ``(1 - weight) * old + weight * new``.

    The weight of the new is passed, not the decay of the old, because ``1 - 0.999`` loses four
    digits in float32: it is a scalar to prepare.
    """
    return torch.lerp(old, new, weight)


def bias_correction(decay: Any, step: Any) -> Any:
    """The total weight of an average begun at zero, ``1 - decay ** step``, in float64.

    One formula for numbers and tensors: where training is unstable, even a better rounding of
    either would be seen in a sweep. It cancels near 1, and for 0.999 loses two digits of sixteen.
    """
    return 1 - (double(decay) if isinstance(step, Tensor) else exact(decay)) ** step


def double(x: Any) -> Tensor:
    """`x` as a 0-d tensor in float64, where its device has that."""
    if isinstance(x, Tensor):
        return x.to(torch.float32 if x.device.type == "mps" else torch.float64)
    return torch.full((), x, dtype=torch.float64)  # an operation, where a trace is taken


def exact(x: Any) -> Any:
    """`x` without loss: a Python number as it is, a tensor in float64. Steps are whole numbers."""
    return double(x) if isinstance(x, Tensor) else x


def where(flag: Any, yes: Any, no: Any) -> Any:
    """``yes if flag else no``, for numbers and tensors alike."""
    if not isinstance(flag, Tensor):
        return yes if flag else no
    return torch.where(flag, double(yes), double(no))


def clamp(x: Any, low: Any, high: Any) -> Any:
    """`x`, but not below `low` nor above `high`."""
    return where(x < low, low, where(x > high, high, x))


def power(base: Any, exponent: Any) -> Any:
    """``base ** exponent`` of a base that is not negative; infinite where it is too great."""
    if isinstance(base, Tensor) or isinstance(exponent, Tensor):
        return base**exponent
    try:
        return base**exponent
    except OverflowError:
        return math.inf


def root(x: Any) -> Any:
    """The square root of a number that is not negative, with derivative 0 at 0."""
    return _apply(sqrt, math.sqrt, x)


def integer(x: Any) -> Any:
    """A whole number as an integer."""
    return x.to(torch.int64) if isinstance(x, Tensor) else int(x)


def log(x: Any) -> Any:
    return _apply(torch.log, math.log, x)


def cos(x: Any) -> Any:
    return _apply(torch.cos, math.cos, x)


def floor(x: Any) -> Any:
    return _apply(torch.floor, math.floor, x)


def _apply(of_tensor: Callable[[Tensor], Tensor], of_number: Callable[[Any], Any], x: Any) -> Any:
    return of_tensor(x) if isinstance(x, Tensor) else of_number(x)
