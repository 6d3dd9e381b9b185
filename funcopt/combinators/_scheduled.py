"""Schedules for hyperparameters, by name."""

from collections.abc import Mapping
from typing import Any

from .._hints.calls import explained
from ._hyperparams import Tx, set_hyperparams


@explained
def scheduled(tx: Tx, values: Mapping[str, Any] | None = None, /, **schedules: Any) -> Tx:
    """A copy of `tx` in which the named hyperparameters follow schedules.

        tx = scheduled(adamw(1e-3), weight_decay=cosine_decay_schedule(0.1, 1000))

    A schedule is a function of the number of updates already made; one for a tuple, such as
    `betas`, is a tuple that holds schedules, or a function that returns a tuple. It is the same as
    passing the schedule when the stage is made. Keys that are not Python names, such as
    "scale_by_adam/eps", go into a dict: ``scheduled(tx, {"scale_by_adam/eps": s})``.

    Raises:
        HyperparameterError: If `tx` has no hyperparameter of that name.
    """
    return set_hyperparams("scheduled", tx, values, schedules)
