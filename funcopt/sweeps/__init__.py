"""Vectorized sweeps and ensembles: every model with its own hyperparameters, data and seed."""

from .._hints.names import explain_missing as _explain_missing
from ._settings import grid as grid
from ._settings import loguniform as loguniform
from ._settings import sample as sample
from ._sweep import sweep as sweep
from ._sweep_result import Sweep as Sweep

__all__ = [
    "Sweep",
    "grid",
    "loguniform",
    "sample",
    "sweep",
]

_explain_missing(__name__)
