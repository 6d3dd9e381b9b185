"""Real torch optimizers: ``import funcopt.optim as optim``."""

from .._hints.names import explain_missing as _explain_missing
from . import lr_scheduler as lr_scheduler
from . import swa_utils as swa_utils
from ._alias import optimizer_class as optimizer_class
from ._classes import ASGD as ASGD
from ._classes import LAMB as LAMB
from ._classes import LARS as LARS
from ._classes import LBFGS as LBFGS
from ._classes import MARS as MARS
from ._classes import SGD as SGD
from ._classes import SOAP as SOAP
from ._classes import AdaBelief as AdaBelief
from ._classes import Adadelta as Adadelta
from ._classes import Adafactor as Adafactor
from ._classes import Adagrad as Adagrad
from ._classes import Adam as Adam
from ._classes import Adamax as Adamax
from ._classes import AdamW as AdamW
from ._classes import AdamWScheduleFree as AdamWScheduleFree
from ._classes import DAdaptAdamW as DAdaptAdamW
from ._classes import Lion as Lion
from ._classes import Muon as Muon
from ._classes import NAdam as NAdam
from ._classes import Prodigy as Prodigy
from ._classes import RAdam as RAdam
from ._classes import RMSprop as RMSprop
from ._classes import Rprop as Rprop
from ._classes import SGDScheduleFree as SGDScheduleFree
from ._classes import Shampoo as Shampoo
from ._classes import Yogi as Yogi
from ._explain import explain as explain
from ._find_lr import LRRangeTest as LRRangeTest
from ._find_lr import find_lr as find_lr
from ._layer_decay import param_groups_layer_decay as param_groups_layer_decay
from ._optimizer import Optimizer as Optimizer
from ._param_groups import param_groups_by as param_groups_by
from ._param_groups import param_groups_weight_decay as param_groups_weight_decay
from ._plot_schedules import plot_schedules as plot_schedules

__all__ = [
    "ASGD",
    "LAMB",
    "LARS",
    "LBFGS",
    "MARS",
    "SGD",
    "SOAP",
    "AdaBelief",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "AdamWScheduleFree",
    "Adamax",
    "DAdaptAdamW",
    "LRRangeTest",
    "Lion",
    "Muon",
    "NAdam",
    "Optimizer",
    "Prodigy",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGDScheduleFree",
    "Shampoo",
    "Yogi",
    "explain",
    "find_lr",
    "lr_scheduler",
    "optimizer_class",
    "param_groups_by",
    "param_groups_layer_decay",
    "param_groups_weight_decay",
    "plot_schedules",
    "swa_utils",
]


def __getattr__(name: str) -> object:
    import sys

    import torch

    message = f"`funcopt.optim` has no `{name}`."
    if hasattr(torch.optim, name):
        message = (
            f"`funcopt.optim` has no `{name}`: take `torch.optim.{name}`, or make a class of a "
            "chain with `optimizer_class`."
        )
    # With the module at hand, Python asks "Did you mean ...?" where a name is almost right.
    raise AttributeError(message, name=name, obj=sys.modules[__name__])


_explain_missing(__name__)
