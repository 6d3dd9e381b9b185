"""What functions of torch make of vectors and numbers, as to dtype and shape: tried once.

To try takes longer than all else that is done when a function is recorded, and some chains are
recorded in every step.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Form(NamedTuple):
    """Of a tensor while it is recorded."""

    dtype: torch.dtype
    vector: bool  # else a number

    def example(self) -> Tensor:
        return torch.empty(LENGTH if self.vector else (), dtype=self.dtype, device="meta")


LENGTH = 7
"""Of a vector while it is recorded; the real one is known when the recording runs."""


class Outcome(NamedTuple):
    """What a function gives back: one of its arguments, or a new tensor, or neither."""

    same: int | None = None  # which of the tensors that it was given
    form: Form | None = None
    error: str = ""


def outcome(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome:
    """What `func` makes of these arguments, in which a `Form` stands for a tensor."""
    key = (torch.get_default_dtype(), func, _key(args), _key(kwargs))
    if key not in _known:
        _known[key] = _tried(func, args, kwargs)
    return _known[key]


_known: dict[Any, Outcome] = {}


def _key(x: Any) -> Any:
    """What of the arguments makes a difference: of a number that is no integer, only its type."""
    if isinstance(x, dict):
        return tuple((k, _key(v)) for k, v in x.items())
    if isinstance(x, tuple) and not isinstance(x, Form):
        return tuple(map(_key, x))
    return float if type(x) is float else (type(x), x)


def _tried(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome:
    given: list[Tensor] = []

    def example(x: Any) -> Any:
        if isinstance(x, Form):
            given.append(x.example())
            return given[-1]
        return tuple(map(example, x)) if isinstance(x, tuple) else x

    try:
        out = func(*map(example, args), **{k: example(v) for k, v in kwargs.items()})
    except (TypeError, RuntimeError) as error:
        return Outcome(error=str(error))
    if not isinstance(out, Tensor):
        return Outcome(error=type(out).__name__)
    for i, x in enumerate(given):
        if _is_same(out, x):
            return Outcome(same=i)
    if out.shape not in ((LENGTH,), ()):
        return Outcome(error="makes a tensor of another shape")
    return Outcome(form=Form(out.dtype, out.dim() == 1))


def _is_same(out: Tensor, x: Tensor) -> bool:
    """Whether a function has given back what it was given, as `to` of the same dtype does."""
    return (out.dtype, out.shape, out.stride()) == (x.dtype, x.shape, x.stride()) and (
        out.untyped_storage()._cdata == x.untyped_storage()._cdata
    )
