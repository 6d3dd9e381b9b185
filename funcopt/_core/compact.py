"""Trees of tensors in few characters: shapes and dtypes, and the values of scalars."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from .._numerics.shards import is_sharded

WIDTH = 96
"""How long a line may be."""

SHOWN = 6
"""How many entries of one dict or sequence are shown."""


def compact(x: Any) -> str:
    """What `repr` would say, but of a tensor its dtype and shape; of a 0-d one, its value.

        State(step=3, memory=(), slots={'w': Momentum(momentum_buffer=float32[2, 3])})

    Of long dicts and sequences, the first entries are shown; fields of named tuples without a
    tensor are left out. Nothing is read from a device.
    """
    if isinstance(x, Tensor):
        return tensor_in_short(x)
    if isinstance(x, dict):
        return _listed("{", ((f"{k!r}: ", v) for k, v in x.items()), "}", len(x))
    if isinstance(x, tuple) and (names := getattr(x, "_fields", None)) is not None:
        each = zip(names, x, strict=True)
        fields = ((f"{name}=", value) for name, value in each if not _is_empty(value))
        return _listed(f"{type(x).__name__}(", fields, ")", 0)
    if isinstance(x, tuple):
        parts = [("", () if _is_empty(v) else v) for v in x] if not _is_empty(x) else []
        return _listed("(", parts, ",)" if len(x) == 1 else ")", len(x))
    if isinstance(x, list):
        return _listed("[", (("", v) for v in x), "]", len(x))
    return repr(x)


def in_message(x: Any) -> str:
    """`x` in an error message: its `repr`, unless that is long or has the entries of tensors."""
    if isinstance(x, (torch.optim.Optimizer, torch.nn.Module)):
        kind = "module" if isinstance(x, torch.nn.Module) else "optimizer"
        return f"the {kind} `{type(x).__name__}`"
    return compact(x) if _has_entries(x) else repr(x)


def _has_entries(x: Any) -> bool:
    if isinstance(x, Tensor):
        return x.dim() > 0
    parts = x.values() if isinstance(x, dict) else x
    return isinstance(x, (dict, list, tuple)) and any(map(_has_entries, parts))


def tensor_in_short(x: Tensor) -> str:
    """Dtype, shape and device; the value where that can be read at once."""
    plain = type(x) is Tensor and x.device.type == "cpu" and not torch.compiler.is_compiling()
    if plain and x.dim() == 0 and not x.requires_grad and not _is_mapped(x):
        return f"{x.item():.6g}" if x.is_floating_point() else repr(x.item())
    dtype = str(x.dtype).removeprefix("torch.")
    place = "" if x.device.type == "cpu" else f" on {x.device}"
    sharded = " in shards" if is_sharded(x) else ""
    return f"{dtype}{list(x.shape)}{place}{sharded}"


def _is_mapped(x: Tensor) -> bool:
    """Whether a transformation of `torch.func` follows it."""
    functorch: Any = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
    return bool(functorch.is_functorch_wrapped_tensor(x))


def _is_empty(x: Any) -> bool:
    """Whether there is nothing in it, such as the slots of stages that keep none."""
    return isinstance(x, tuple) and all(map(_is_empty, x))


def _listed(begin: str, entries: Iterable[tuple[str, Any]], end: str, count: int) -> str:
    """Entries in one line, or in lines of their own; `count` is 0 if all are shown."""
    parts = []
    for i, (key, value) in enumerate(entries):
        if count > SHOWN + 1 and i == SHOWN:
            parts.append(f"... and {count - SHOWN} more")
            break
        parts.append(key + compact(value))
    line = f"{begin}{', '.join(parts)}{end}"
    if len(line) <= WIDTH and "\n" not in line:
        return line
    body = ",\n".join(parts).replace("\n", "\n    ")
    return f"{begin}\n    {body},\n{end.lstrip(',')}"


def missing_attribute(state: Any, name: str) -> Any:
    """The `__getattr__` of named tuples of states: says which function gives what is looked for."""
    if name.startswith("_"):  # asked for by Python
        raise AttributeError(name)
    from .._hints.numbers import of_state  # only where there is no such attribute

    raise AttributeError(of_state(state, name))
