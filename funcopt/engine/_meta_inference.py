"""Meta inference: the dtype and shape of what a function returns, without computing it.

A function is run once on the meta device for every kind of argument, and the result is cached: to
run it takes longer than the rest of tracing a call, and some chains are traced in every step.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class TensorMeta(NamedTuple):
    """The metadata of a traced tensor."""

    dtype: torch.dtype
    is_vector: bool  # else a 0-d tensor

    def example(self) -> Tensor:
        """A tensor of this kind on the meta device."""
        return torch.empty(
            EXAMPLE_LENGTH if self.is_vector else (), dtype=self.dtype, device="meta"
        )


EXAMPLE_LENGTH = 7
"""The length of a vector while it is traced; the real one is known when a kernel is launched."""


class Inferred(NamedTuple):
    """What a function returns: one of its arguments, or a new tensor, or nothing that is usable."""

    argument: int | None = None  # the index of the tensor argument that is returned as it is
    meta: TensorMeta | None = None
    error: str = ""


def infer(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Inferred:
    """What `func` returns for these arguments, in which a `TensorMeta` stands for a tensor."""
    key = (torch.get_default_dtype(), func, _key(args), _key(kwargs))
    if key not in _cache:
        _cache[key] = _run_on_meta(func, args, kwargs)
    return _cache[key]


_cache: dict[Any, Inferred] = {}


def _key(x: Any) -> Any:
    """The part of the arguments that matters: of a float, only the type."""
    if isinstance(x, dict):
        return tuple((k, _key(v)) for k, v in x.items())
    if isinstance(x, tuple) and not isinstance(x, TensorMeta):
        return tuple(map(_key, x))
    return float if type(x) is float else (type(x), x)


def _run_on_meta(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Inferred:
    given: list[Tensor] = []

    def example(x: Any) -> Any:
        if isinstance(x, TensorMeta):
            given.append(x.example())
            return given[-1]
        return tuple(map(example, x)) if isinstance(x, tuple) else x

    try:
        out = func(*map(example, args), **{k: example(v) for k, v in kwargs.items()})
    except (TypeError, RuntimeError) as error:
        return Inferred(error=str(error))
    if not isinstance(out, Tensor):
        return Inferred(error=type(out).__name__)
    for i, x in enumerate(given):
        if _is_alias(out, x):
            return Inferred(argument=i)
    if out.shape not in ((EXAMPLE_LENGTH,), ()):
        return Inferred(error="returns a tensor of another shape")
    return Inferred(meta=TensorMeta(out.dtype, out.dim() == 1))


def _is_alias(out: Tensor, x: Tensor) -> bool:
    """Whether a function has returned its argument `x`, as `to` of the same dtype does."""
    return (out.dtype, out.shape, out.stride()) == (x.dtype, x.shape, x.stride()) and (
        out.untyped_storage()._cdata == x.untyped_storage()._cdata
    )
