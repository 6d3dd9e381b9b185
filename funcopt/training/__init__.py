"""A training step as a pure function: mapped, differentiated, compiled, exported."""

from ._export import export_step as export_step
from ._grad import live_slopes as live_slopes
from ._grad import slopes as slopes
from ._hyperparams import HyperparamRouting as HyperparamRouting
from ._hyperparams import MakesTx as MakesTx
from ._hyperparams import route_hyperparams as route_hyperparams
from ._module import ModuleState as ModuleState
from ._module import call_module as call_module
from ._module import split_module as split_module
from ._module import write_back as write_back
from ._post_hoc import EmaSnapshot as EmaSnapshot
from ._post_hoc import post_hoc_ema as post_hoc_ema
from ._step import TrainState as TrainState
from ._step import check_loss as check_loss
from ._step import train_step as train_step
