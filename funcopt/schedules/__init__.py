"""Schedules: hyperparameters as functions of the number of updates already made, 0 at the first.

A schedule is a record. It maps a Python number to a Python float, or a 0-d tensor to one in
float64, without reading its value: so it works under `torch.func` and in `torch.compile`. Its
values may be tensors too, to be swept over or learned, or themselves schedules; its lengths
integers or tensors. Any hyperparameter takes a schedule, or any other function of the step.
"""

from .._hints.names import explain_missing as _explain_missing
from ._constant import constant_schedule as constant_schedule
from ._cosine import cosine_cycles_schedule as cosine_cycles_schedule
from ._cosine import cosine_decay_schedule as cosine_decay_schedule
from ._cosine import cosine_restarts_schedule as cosine_restarts_schedule
from ._cyclic import cyclic_schedule as cyclic_schedule
from ._ema import ema_warmup_schedule as ema_warmup_schedule
from ._ema import power_ema_schedule as power_ema_schedule
from ._exponential import exponential_decay as exponential_decay
from ._exponential import multi_step_decay_schedule as multi_step_decay_schedule
from ._exponential import step_decay_schedule as step_decay_schedule
from ._half_life import half_life_schedule as half_life_schedule
from ._inverse_sqrt import inverse_sqrt_schedule as inverse_sqrt_schedule
from ._join import join_schedules as join_schedules
from ._one_cycle import one_cycle_schedule as one_cycle_schedule
from ._piecewise import piecewise_constant_schedule as piecewise_constant_schedule
from ._piecewise import piecewise_interpolate_schedule as piecewise_interpolate_schedule
from ._polynomial import linear_schedule as linear_schedule
from ._polynomial import polynomial_schedule as polynomial_schedule
from ._warmup import warmup_cosine_decay_schedule as warmup_cosine_decay_schedule
from ._warmup import warmup_stable_decay_schedule as warmup_stable_decay_schedule

__all__ = [
    "constant_schedule",
    "cosine_cycles_schedule",
    "cosine_decay_schedule",
    "cosine_restarts_schedule",
    "cyclic_schedule",
    "ema_warmup_schedule",
    "exponential_decay",
    "half_life_schedule",
    "inverse_sqrt_schedule",
    "join_schedules",
    "linear_schedule",
    "multi_step_decay_schedule",
    "one_cycle_schedule",
    "piecewise_constant_schedule",
    "piecewise_interpolate_schedule",
    "polynomial_schedule",
    "power_ema_schedule",
    "step_decay_schedule",
    "warmup_cosine_decay_schedule",
    "warmup_stable_decay_schedule",
]

_explain_missing(__name__)
