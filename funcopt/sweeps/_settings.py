"""Which hyperparameters to try: settings, each a dict of values by name."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, ExpTransform, TransformedDistribution, Uniform

from .. import tree
from .._core import checks
from .._core.compact import in_message
from .._core.kinds import check_iterable, check_values, described
from ..errors import HyperparameterError, StructureError

Setting = dict[str, Any]


def grid(values: Mapping[str, Iterable[Any]]) -> list[Setting]:
    """Every combination of the given values; the last name runs fastest.

        >>> grid({"lr": [0.1, 0.2], "weight_decay": [0.0, 1.0]})[1]
        {'lr': 0.1, 'weight_decay': 1.0}

    Raises:
        HyperparameterError: If there is no value for a name.
    """
    check_values("grid", values)
    columns = {name: _listed(name, column) for name, column in values.items()}
    return [dict(zip(columns, row, strict=True)) for row in itertools.product(*columns.values())]


def sample(
    values: Mapping[str, Distribution | Iterable[Any]], runs: int, *, seed: int = 0
) -> list[Setting]:
    """Random search: settings drawn at random, the same for the same seed.

        sample({"lr": loguniform(1e-4, 1.0), "betas": [(0.9, 0.999), (0.9, 0.99)]}, 64)

    Args:
        values: By name, a `torch.distributions.Distribution` of single numbers, or a list to choose
            from.
        runs: How many settings.
        seed: Of the numbers drawn; torch's own generator is left as it was.

    Raises:
        HyperparameterError: If an argument does not fit, or there is no value for a name.
    """
    check_values("sample", values)
    checks.whole_number("sample", "runs", runs, least=1)
    checks.whole_number("sample", "seed", seed)
    columns = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, source in values.items():
            if isinstance(source, Distribution):
                columns[name] = source.sample((runs,)).tolist()
            else:
                choices = _listed(name, source)
                columns[name] = [choices[i] for i in torch.randint(len(choices), (runs,)).tolist()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def loguniform(low: float, high: float) -> Distribution:
    """The log-uniform distribution between `low` and `high`, for `sample`.

    Raises:
        HyperparameterError: If not ``0 < low < high``.
    """
    if not all(isinstance(x, (int, float)) for x in (low, high)) or not 0 < low < high:
        raise HyperparameterError(
            f"`loguniform`: `low` and `high` must be numbers, 0 < low < high, got "
            f"{in_message(low)} and {in_message(high)}."
        )
    least, most = torch.tensor([math.log(low), math.log(high)], dtype=torch.float64)
    return TransformedDistribution(Uniform(least, most), ExpTransform())


def settings_of(values: Any) -> list[Setting]:
    """A grid for a dict of lists; else the list of settings that was passed, checked.

    Raises:
        HyperparameterError: If there is none, or they have different names.
    """
    check_iterable("sweep", "values", values, "a dict of lists, or a list of settings")
    if not isinstance(values, Mapping):
        if isinstance(values, Tensor):
            raise HyperparameterError(
                "`sweep`: `values` must be a dict of lists, or a list of settings, got "
                f"{described(values)} Name what is varied: `{{'lr': ...}}`."
            )
        for row in values:
            check_values("sweep", row)
    settings = grid(values) if isinstance(values, Mapping) else [dict(row) for row in values]
    if not settings:
        raise HyperparameterError("`sweep`: there are no settings to try.")
    for i, row in enumerate(settings):
        if row.keys() != settings[0].keys():
            raise HyperparameterError(
                f"`sweep`: all settings must have the same names; the first has "
                f"{list(settings[0])}, number {i} has {list(row)}."
            )
    return settings


def columns_of(settings: Sequence[Setting], device: torch.device) -> dict[str, Any]:
    """By name, the values of all settings as one tensor; of trees, a tree of tensors."""
    return {name: _column(name, [s[name] for s in settings], device) for name in settings[0]}


def _column(name: str, column: list[Any], device: torch.device) -> Any:
    first, spec = tree.flatten(column[0])
    try:
        rows = [first, *map(spec.flatten_up_to, column[1:])]
    except StructureError:
        raise HyperparameterError(
            f"`sweep`: all values of `{name}` must have one structure, that of {column[0]!r}."
        ) from None
    leaves = [_stacked(name, list(each), device) for each in zip(*rows, strict=True)]
    return spec.unflatten(leaves)


def _stacked(name: str, values: list[Any], device: torch.device) -> Tensor:
    """One leaf of all settings."""
    if all(isinstance(x, Tensor) and x.shape == values[0].shape for x in values):
        return torch.stack(values).to(device)
    try:
        numbers = [float(x) for x in values]
    except (TypeError, ValueError, RuntimeError):
        raise HyperparameterError(
            f"`sweep`: the values of `{name}` must be numbers, tensors of one shape, or trees of "
            f"them, got {values[0]!r}. Schedules, flags and other structure: pass for `tx` a "
            "function of hyperparameters that makes the transformation."
        ) from None
    return torch.tensor(numbers, dtype=torch.float64, device=device)


def _listed(name: str, column: Iterable[Any]) -> list[Any]:
    if isinstance(column, Tensor) and column.dim():
        return column.tolist() if column.dim() == 1 else list(column)
    single = isinstance(column, (str, int, float, Tensor))
    if single or not isinstance(column, Iterable):
        raise HyperparameterError(
            f"`{name}`: expected a list of values to try, got {in_message(column)}."
        )
    if not (listed := list(column)):
        raise HyperparameterError(f"`{name}`: the list of values to try is empty.")
    return listed
