"""The entries of one parameter in a checkpoint: whether they fit, and as they are created."""

import copy
import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._numerics import shards
from ._averages import TRAIN_PARAMS
from ._clocks import EXACT
from ._options import Options
from ._state_layout import STEP, UPDATES, StateLayout, clock_dtype

CLOCKS = (STEP, UPDATES)

TORCHS = frozenset(
    {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "mu_product", "momentum_buffer"}
    | {"square_avg", "grad_avg", "acc_delta", "sum", "row_var", "col_var", "variance"}
    | {"eta", "mu", "ax", "prev", "step_size", "func_evals", "n_iter", "d", "t", "old_dirs"}
    | {"old_stps", "ro", "H_diag", "prev_flat_grad", "prev_loss", "al"}
)
"""What torch's optimizers keep of a parameter, other than the step."""

DIVISORS = frozenset({"exp_avg_sq", "exp_avg_var", "row_var", "col_var", "variance"})
"""Slots that updates are divided by, corrected by the step: zeros at a late step enlarge them."""

Numbers = Mapping[str, float | None]
"""The clocks of one parameter, by key; `None` for one that cannot be read, on the meta device."""


class Misfit(NamedTuple):
    """What does not fit, under a title of the error."""

    title: str
    what: str


def clocks_of(stored: Mapping[Any, Any]) -> dict[Any, dict[str, float | None]]:
    """The clocks of all parameters, by key; those on a device are read at once.

    One that is no number at all is NaN.
    """
    found: dict[Any, dict[str, float | None]] = {key: {} for key in stored}
    waiting: dict[torch.device, list[tuple[Any, str, Tensor]]] = {}
    for key, entries in stored.items():
        for clock in CLOCKS if isinstance(entries, Mapping) else ():
            x = entries.get(clock)
            if isinstance(x, Tensor) and x.numel() == 1 and not x.is_complex():
                if x.is_meta:
                    found[key][clock] = None
                else:
                    waiting.setdefault(x.device, []).append((key, clock, x))
            elif x is not None:
                number = isinstance(x, (int, float)) and not isinstance(x, bool)
                found[key][clock] = float(x) if number else math.nan
    for each in waiting.values():
        values = torch.stack([x.detach().reshape(()).double() for *_, x in each]).tolist()
        for (key, clock, _), value in zip(each, values, strict=True):
            found[key][clock] = value
    return found


def misfit(
    stored: Mapping[str, Any],
    expected: Mapping[str, Tensor],
    clocks: Numbers,
    p: Tensor,
    entries: Collection[str],
) -> Misfit | None:
    """What keeps the entries of a parameter from being its state; `None` if they can be.

    Args:
        stored: The entries.
        expected: What its state holds when it is created, on the meta device.
        clocks: The numbers of its clocks.
        p: The parameter.
        entries: The keys that the optimizer has written which was saved; others are notes.
    """
    unknown = sorted(key for key in stored if key in entries and key not in expected)
    missing = sorted(key for key in expected if key not in stored)
    for key, value in clocks.items():
        if not _is_count(value):
            return Misfit("Invalid", f"`{key}` must be a count, got {stored[key]!r}")
    step = clocks.get(STEP)
    if unknown:
        besides = f"instead of {missing}" if missing else f"in addition to {sorted(expected)}"
        return Misfit("Saved by a different optimizer", f"{unknown} {besides}")
    own = STEP in stored or len(missing) < len(expected)
    if missing and own and step != 0:
        clock = "" if step is None else f" at step {step:g}"
        return Misfit("Missing entries", f"{', '.join(f'`{key}`' for key in missing)}{clock}")
    shapes = {**expected, **({TRAIN_PARAMS: p} if TRAIN_PARAMS in stored else {})}
    for key, like in shapes.items():
        if key in stored and (wrong := _wrong_value(key, stored[key], like)):
            return wrong
    return None


def what_fits(
    stored: Mapping[str, Any],
    layout: StateLayout,
    clocks: Numbers,
    p: Tensor,
    entries: Collection[str],
    reads_clock: bool,
) -> Options:
    """The entries that a parameter can go on with, where others do not fit, and are initialized.

    There are none where no slot fits; where the step count does not, or would be wrong of what is
    initialized: shared scalars that belong to it, and the `DIVISORS`.

    Args:
        stored: The entries.
        layout: That of its state when it is created.
        clocks: The numbers of its clocks.
        p: The parameter.
        entries: As in `misfit`.
        reads_clock: Whether its updates depend on the step count.
    """
    expected = {**layout.templates(), TRAIN_PARAMS: p}
    wrong = {k for k in stored if k in expected and _wrong_value(k, stored[k], expected[k])}
    if TRAIN_PARAMS in wrong or not all(map(_is_count, clocks.values())):
        return {}
    fits = {
        k: x
        for k, x in stored.items()
        if k not in wrong and (k in expected or _is_note(k, entries))
    }
    initialized = [key for key in layout.keys if key not in fits]
    own = [key for key in initialized if key in layout.memory_at and key not in layout.shared]
    corrected = [key for key in initialized if key.rpartition("/")[2] in DIVISORS]
    late = reads_clock and clocks.get(STEP) != 0
    if not any(key in layout.slot_at for key in fits):
        return {}
    return {} if late and (STEP not in fits or own or corrected) else fits


def _is_note(key: str, entries: Collection[str]) -> bool:
    return key in CLOCKS or key not in entries


def _is_count(value: float | None) -> bool:
    return value is None or (0 <= value < math.inf and value % 1 == 0)


def _wrong_value(key: str, value: Any, like: Tensor) -> Misfit | None:
    if not isinstance(value, Tensor):
        if like.dim() == 0 and isinstance(value, (int, float)):
            return None
        return Misfit("Invalid", f"`{key}` must be a tensor, got {value!r}")
    if not shards.can_be_cut_as(value, like):
        mesh = value.device_mesh  # type: ignore[attr-defined]
        whole = "load full tensors, as `full_tensor()` returns them: they are sharded here"
        return Misfit("Sharded differently", f"`{key}`, whose shards lie on {mesh}: {whole}")
    if value.shape != like.shape:
        shapes = f"{tuple(value.shape)} instead of {tuple(like.shape)}"
        return Misfit("Shape mismatch", f"{key} of {shapes}")
    if value.layout is not like.layout or not torch.can_cast(value.dtype, like.dtype):
        return Misfit("Invalid", f"`{key}` must be {like.dtype}, got {value.dtype}, {value.layout}")
    return None


def as_created(
    stored: Mapping[str, Any],
    expected: Mapping[str, Tensor],
    clocks: Numbers,
    dtype: torch.dtype,
    entries: Collection[str],
    device: torch.device,
    clock_device: torch.device,
) -> Options:
    """Copies of the entries that fit, in the dtypes of `expected`, on a device.

    `dtype` is that of the parameter. Notes of others are copied as they are, and `entries` that
    nothing is expected of left out.
    """
    out: Options = {}
    for key, value in stored.items():
        if key in CLOCKS:
            counts = torch.float64 if (clocks[key] or 0) > EXACT else clock_dtype()
            out[key] = _copied(value, counts, clock_device).reshape(())
        elif key in expected:
            found = _copied(value, expected[key].dtype, device)
            out[key] = shards.cut_as(found, expected[key])
        elif key == TRAIN_PARAMS:
            out[key] = _copied(value, dtype, device)
        elif isinstance(value, Tensor) and key not in entries:
            out[key] = _copied(value, value.dtype, device)
        elif key not in entries:
            out[key] = copy.deepcopy(value)
    return out


def _copied(value: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    if not isinstance(value, Tensor):
        return torch.tensor(value, dtype=dtype, device=device)
    value = value.detach()
    made: Tensor = (
        value.to(dtype).clone() if shards.is_sharded(value) else value.to(device, dtype, copy=True)
    )
    return made
