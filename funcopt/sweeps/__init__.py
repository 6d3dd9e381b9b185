"""Many trainings at once: every model with its own hyperparameters, data and seed."""

from ._settings import draw as draw
from ._settings import grid as grid
from ._settings import log_uniform as log_uniform
from ._sweep import sweep as sweep
from ._sweep_result import Sweep as Sweep
