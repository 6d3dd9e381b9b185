"""Functions of numbers and of one tensor that rules and schedules share.

Those of numbers take Python numbers, which stay float64 Python numbers, as well as 0-d tensors,
which stay tensors: the same formula runs eagerly, under `torch.func.vmap`, under `torch.func.grad`
and inside `torch.compile`.
"""

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function

from ..errors import FuncoptError, HyperparameterError, LeafError

_functorch: Any = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]


def is_concrete(x: Any) -> bool:
    """Whether `number` finds the value of `x`."""
    return not isinstance(number(x), Tensor)


def forward_levels() -> int:
    """How often `torch.func` differentiates forwards here, one inside of the other."""
    levels = _functorch.get_interpreter_stack() or []
    jvp = _functorch.TransformType.Jvp
    return sum(level.key() == jvp for level in levels)


def alive(x: Tensor) -> Tensor:
    """`x` as it is outside of a derivative by `torch.func` that has been taken already.

    `jacrev` goes back through a function after that; torch fails where a further one is nested.
    """
    found: Tensor = _functorch.unwrap_if_dead(x)
    return found


def number(x: Any) -> Any:
    """`x` as a Python number if it may be looked at, else as it is.

    A 0-d tensor may not on a device (it would synchronize), under `torch.compile` (there is no
    value yet), or where derivatives are taken of it (they would be lost). A count or a flag has no
    derivative, so `torch.func` does not hide it; nor does `vmap`, where it is the same in all runs.
    """
    if not isinstance(x, Tensor):
        return x
    if torch.compiler.is_compiling() or type(x) is not Tensor or x.requires_grad:
        return x
    if x.device.type != "cpu" or x.dim() or torch._C._len_torch_dispatch_stack() > 0:
        return x
    if not is_wrapped(x):
        return x.item()
    return x if x.is_floating_point() or x.is_complex() else _of_all_runs(x)


def _of_all_runs(x: Tensor) -> Any:
    """The value below the layers of `torch.func`, if it is one; else `x`."""
    inside = x
    while is_wrapped(inside):
        if _functorch.is_functionaltensor(inside):
            return x
        inside = _functorch.get_unwrapped(inside)
    with torch._C._DisableFuncTorch():
        values = inside.reshape(-1)
        first = values[:1]
        return first.item() if values.numel() and bool((values == first).all()) else x


def is_traced(x: Tensor) -> bool:
    """Whether `x` is seen by `torch.func`, or by something else that watches every operation."""
    return is_wrapped(x) or torch._C._len_torch_dispatch_stack() > 0


def is_plain(x: Any) -> bool:
    """Whether `x` is a tensor or parameter of no other class, which operations would be seen by."""
    return type(x) in (Tensor, torch.nn.Parameter)


def is_stand_in(x: Any) -> bool:
    """Whether `x` stands for a tensor or a number in a trace; it has no device of its own."""
    return getattr(type(x), "stands_in", False)


def is_wrapped(x: Tensor) -> bool:
    """Whether `torch.func` maps over `x` or differentiates by it."""
    return bool(_functorch.is_functorch_wrapped_tensor(x))


def is_mapped() -> bool:
    """Whether this runs inside of `torch.func`, whatever it is that is mapped or differentiated."""
    return _functorch.peek_interpreter_stack() is not None


def is_zero(x: Any) -> bool:
    """Whether `x` is a Python number that is zero: then what it multiplies can be left out."""
    return not isinstance(x, Tensor) and not callable(x) and x == 0


def has_schedule(value: Any) -> bool:
    """Whether `value` is a schedule, or a tuple with one in it."""
    if type(value) is float:  # nearly always
        return False
    return any(map(has_schedule, value)) if isinstance(value, (tuple, list)) else callable(value)


def at(value: Any, count: Any) -> Any:
    """`value` with its schedules after `count` updates, a whole number, exact in float64 too.

    Raises:
        HyperparameterError: If a schedule cannot take a number that is not known yet.
    """
    if isinstance(value, (tuple, list)):
        return tuple(at(part, count) for part in value)
    if not callable(value):
        return value
    if torch.compiler.is_compiling():
        return value(exact(count))
    if not isinstance(count, Tensor):
        if is_stand_in(count):  # what is made of it is noted
            return count.passed_to(value)
        return _evaluated(value, exact(count))
    try:
        return value(exact(count))
    except FuncoptError:
        raise
    except Exception as error:
        name = getattr(value, "__qualname__", None) or repr(value)
        raise HyperparameterError(
            f"the schedule {name} fails where the number of updates is a 0-d tensor, as in a "
            "compiled or traced step, or in a sweep whose runs have made different numbers of "
            "updates. Write it in arithmetic that numbers and tensors share, or with functions of "
            "torch: `torch.cos` for `math.cos`, `torch.where` for `if`. It says: "
            f"{type(error).__name__}: {error}"
        ) from error


def _evaluated(schedule: Any, count: Any) -> Any:
    """A schedule after a number of updates that is known."""
    try:
        found = schedule(count)
    except FuncoptError:
        raise
    except Exception as error:
        wrong = f"fails after {count:g} updates: {type(error).__name__}: {error}"
        raise HyperparameterError(_schedule_error(schedule, wrong)) from error
    if isinstance(found, (float, int, Tensor, Real)):
        return found
    raise HyperparameterError(
        _schedule_error(schedule, f"returns {found!r} after {count:g} updates")
    )


def _schedule_error(schedule: Any, wrong: str) -> str:
    name = getattr(schedule, "__qualname__", None) or repr(schedule)
    return (
        f"the schedule {name} {wrong}. A schedule is a function of the number of updates that "
        "returns a number or a 0-d tensor, such as `lambda step: 0.1 * 0.99**step`."
    )


def widen(dtype: torch.dtype) -> torch.dtype:
    """The dtype to compute in for tensors of `dtype`: itself, but at least float32."""
    return torch.promote_types(dtype, torch.float32)


def safe_sqrt(x: Tensor) -> Tensor:
    """The square root, with derivative 0 at 0, where that of `torch.sqrt` is infinite.

        y = sqrt(x);  dy/dx = 1 / (2 sqrt(x)) for x > 0, and 0 at x = 0, as all higher derivatives

    For norms and second moments in a rule: gradients are exactly zero for parameters that take no
    part in the loss, and an infinite derivative times zero makes a meta-gradient NaN.

        def conclude(self, s, memory, total):
            return {"norm": safe_sqrt(total) + s.eps}, memory

    Shape and dtype are those of `x`. Works under `torch.func.vmap`, `torch.func.grad` and
    `torch.compile`; NaN for negative entries.

    Args:
        x: A floating-point tensor.

    Raises:
        LeafError: If `x` is no tensor.
    """
    if not isinstance(x, Tensor):
        raise LeafError(
            f"`safe_sqrt`: `x` must be a tensor, got {type(x).__name__}. The root of a Python "
            "number is `math.sqrt(x)`."
        )
    if not torch.is_grad_enabled():  # the value is the same
        return x.sqrt()
    at_zero = x == 0  # filled, the infinite slope is neither met nor passed on
    return x.masked_fill(at_zero, 1.0).sqrt().masked_fill(at_zero, 0.0)


sqrt = safe_sqrt
"""As formulas have it."""


def shortening(norm: Tensor, most: Any, eps: Any = 0.0) -> Tensor:
    """The factor ``min(1, most / (norm + eps))``; 1 at a norm of 0, with finite slopes."""
    zero = norm == 0
    length = torch.where(zero, 1.0, norm + eps)  # an infinite slope must not reach the factor
    return torch.where(zero, 1.0, (most / length).clamp(max=1.0))


def unset_like(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Zeros like `x` to begin a sum with, that differ from a sum of zeros by their minus sign."""
    return -torch.zeros_like(x, dtype=dtype)


def is_unset(x: Tensor) -> Tensor:
    """Where nothing has been added yet, if what is added is always ``y + 0.0``: no minus zero."""
    return torch.signbit(x) & (x == 0)


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
    if not isinstance(step, Tensor):
        return 1 - exact(decay) ** step
    wide = double(decay)  # of the CPU mostly: a number that a kernel takes as it is
    return 1 - (moved(wide, step.device) if step.device.type in NO_FLOAT64 else wide) ** step


NO_FLOAT64 = {"mps"}
"""The types of devices that have no float64."""


def double(x: Any) -> Tensor:
    """`x` as a 0-d tensor in float64, where its device has that."""
    if isinstance(x, Tensor):
        return x.to(torch.float32 if x.device.type in NO_FLOAT64 else torch.float64)
    return full(x, None)


def full(x: Any, device: torch.device | None, dtype: torch.dtype | None = None) -> Tensor:
    """A number as a 0-d tensor on a device, without a copy from the host that would be waited for.

    It is in a dtype, or in float64, where the device has that; an operation, where a trace is
    taken.
    """
    if dtype is None:
        lacks = device is not None and device.type in NO_FLOAT64
        dtype = torch.float32 if lacks else torch.float64
    if is_stand_in(x):  # a number, in a trace
        made: Tensor = handle_torch_function(torch.full, (x,), (), x, dtype=dtype, device=device)
        return made
    return torch.full((), x, dtype=dtype, device=device)


def exact(x: Any) -> Any:
    """`x` without loss: a Python number as it is, a tensor in float64. Steps are whole numbers."""
    return double(x) if isinstance(x, Tensor) else x


def where(flag: Any, yes: Any, no: Any) -> Any:
    """``yes if flag else no``, for numbers and tensors."""
    if not isinstance(flag, Tensor):
        return yes if flag else no
    return torch.where(flag, beside(flag, yes), beside(flag, no))


def beside(other: Tensor, x: Any) -> Tensor:
    """A number as a 0-d tensor in float64, on the device of another: that is not waited for."""
    if not isinstance(x, Tensor):
        return full(x, other.device)
    return moved(double(x), other.device)


def moved(x: Tensor, device: torch.device) -> Tensor:
    """A scalar, or a few, on a device, in a dtype that it has. Only the CPU is waited for."""
    if device.type in NO_FLOAT64 and x.dtype == torch.float64:
        x = x.float()
    return x if x.device == device else x.to(device, non_blocking=device.type != "cpu")


def on_each_device(x: Tensor) -> Callable[[torch.device], Tensor]:
    """A scalar by device: a device that it is not on gets one copy."""
    copies: dict[torch.device, Tensor] = {}

    def on(device: torch.device) -> Tensor:
        if device == x.device:
            return x
        if device not in copies:
            copies[device] = moved(x, device)
        return copies[device]

    return on


def near(x: Tensor, device: torch.device) -> Tensor:
    """A scalar where tensors on a device can meet it: there, or on the CPU, where it is read."""
    return x if x.device.type == "cpu" and not x.dim() else moved(x, device)


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
