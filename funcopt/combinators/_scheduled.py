"""Any field, any schedule."""

from typing import Any

from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ._hyperparams import set_hyperparams


@explained
def scheduled(tx: GradientTransformation, **schedules: Any) -> GradientTransformation:
    """A copy of `tx` in which the named hyperparameters follow schedules.

        tx = scheduled(adamw(1e-3), weight_decay=cosine_decay_schedule(0.1, 1000))

    A schedule is a function of the updates already made; one for a tuple, such as `betas`, is a
    tuple that holds schedules, or a function that returns a tuple. The same as to pass the schedule
    when the stage is made; keys that are no Python names go through `with_hyperparams`.

    Raises:
        HyperparameterError: If `tx` has no hyperparameter of that name.
    """
    return set_hyperparams("scheduled", tx, schedules)
