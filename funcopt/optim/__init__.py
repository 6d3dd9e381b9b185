"""Real torch optimizers: ``import funcopt.optim as optim``."""

from .._hints.names import explain_missing as _explain_missing
from . import lr_scheduler as lr_scheduler
from . import swa_utils as swa_utils
from ._alias import optimizer_class as optimizer_class
from ._classes_adam import ADOPT as ADOPT
from ._classes_adam import LAMB as LAMB
from ._classes_adam import MARS as MARS
from ._classes_adam import AdaBelief as AdaBelief
from ._classes_adam import AdaBound as AdaBound
from ._classes_adam import AdamaxW as AdamaxW
from ._classes_adam import AdamC as AdamC
from ._classes_adam import AdaMod as AdaMod
from ._classes_adam import AdamP as AdamP
from ._classes_adam import Adan as Adan
from ._classes_adam import AdEMAMix as AdEMAMix
from ._classes_adam import AMSGrad as AMSGrad
from ._classes_adam import Ano as Ano
from ._classes_adam import DiffGrad as DiffGrad
from ._classes_adam import Grams as Grams
from ._classes_adam import GrokAdamW as GrokAdamW
from ._classes_adam import GrokFastAdamW as GrokFastAdamW
from ._classes_adam import LaProp as LaProp
from ._classes_adam import NAdamW as NAdamW
from ._classes_adam import Padam as Padam
from ._classes_adam import QHAdam as QHAdam
from ._classes_adam import Ranger as Ranger
from ._classes_adam import StableAdamW as StableAdamW
from ._classes_adam import Yogi as Yogi
from ._classes_free import COCOB as COCOB
from ._classes_free import AdamWScheduleFree as AdamWScheduleFree
from ._classes_free import DAdaptAdamW as DAdaptAdamW
from ._classes_free import DoG as DoG
from ._classes_free import DoWG as DoWG
from ._classes_free import LDoG as LDoG
from ._classes_free import MoMo as MoMo
from ._classes_free import MoMoAdam as MoMoAdam
from ._classes_free import PolyakSGD as PolyakSGD
from ._classes_free import Prodigy as Prodigy
from ._classes_free import RAdamScheduleFree as RAdamScheduleFree
from ._classes_free import SGDScheduleFree as SGDScheduleFree
from ._classes_matrix import NAMO as NAMO
from ._classes_matrix import SOAP as SOAP
from ._classes_matrix import AdaMuon as AdaMuon
from ._classes_matrix import DistributedShampoo as DistributedShampoo
from ._classes_matrix import Kron as Kron
from ._classes_matrix import Muon as Muon
from ._classes_matrix import NorMuon as NorMuon
from ._classes_matrix import Scion as Scion
from ._classes_matrix import Shampoo as Shampoo
from ._classes_matrix import Sophia as Sophia
from ._classes_optax import MADGRAD as MADGRAD
from ._classes_optax import ACProp as ACProp
from ._classes_optax import Fromage as Fromage
from ._classes_optax import NovoGrad as NovoGrad
from ._classes_optax import OptimisticAdam as OptimisticAdam
from ._classes_optax import OptimisticGradientDescent as OptimisticGradientDescent
from ._classes_optax import RMSpropTF as RMSpropTF
from ._classes_optax import SimplifiedAdEMAMix as SimplifiedAdEMAMix
from ._classes_sgd import LARS as LARS
from ._classes_sgd import QHM as QHM
from ._classes_sgd import SGDP as SGDP
from ._classes_sgd import SGDW as SGDW
from ._classes_sgd import AggMo as AggMo
from ._classes_sgd import Lion as Lion
from ._classes_sgd import SignSGD as SignSGD
from ._classes_sgd import Signum as Signum
from ._classes_sgd import Tiger as Tiger
from ._classes_small import CAME as CAME
from ._classes_small import SM3 as SM3
from ._classes_small import AdamMini as AdamMini
from ._classes_small import APOLLOAdamW as APOLLOAdamW
from ._classes_small import FiraAdamW as FiraAdamW
from ._classes_small import GaLoreAdafactor as GaLoreAdafactor
from ._classes_small import GaLoreAdamW as GaLoreAdamW
from ._classes_small import LazyAdam as LazyAdam
from ._classes_small import RowwiseAdagrad as RowwiseAdagrad
from ._classes_small import T5Adafactor as T5Adafactor
from ._classes_torch import ASGD as ASGD
from ._classes_torch import LBFGS as LBFGS
from ._classes_torch import SGD as SGD
from ._classes_torch import Adadelta as Adadelta
from ._classes_torch import Adafactor as Adafactor
from ._classes_torch import Adagrad as Adagrad
from ._classes_torch import Adam as Adam
from ._classes_torch import Adamax as Adamax
from ._classes_torch import AdamW as AdamW
from ._classes_torch import NAdam as NAdam
from ._classes_torch import RAdam as RAdam
from ._classes_torch import RMSprop as RMSprop
from ._classes_torch import Rprop as Rprop
from ._create import available as list
from ._create import create as create
from ._explain import explain as explain
from ._find_lr import LRRangeTest as LRRangeTest
from ._find_lr import find_lr as find_lr
from ._layer_decay import param_groups_layer_decay as param_groups_layer_decay
from ._mup import param_groups_mup as param_groups_mup
from ._optimizer import Optimizer as Optimizer
from ._param_groups import param_groups_by as param_groups_by
from ._param_groups import param_groups_weight_decay as param_groups_weight_decay
from ._plot_schedules import plot_schedules as plot_schedules

__all__ = [
    "ADOPT",
    "ASGD",
    "CAME",
    "COCOB",
    "LAMB",
    "LARS",
    "LBFGS",
    "MADGRAD",
    "MARS",
    "NAMO",
    "QHM",
    "SGD",
    "SGDP",
    "SGDW",
    "SM3",
    "SOAP",
    "ACProp",
    "AMSGrad",
    "APOLLOAdamW",
    "AdEMAMix",
    "AdaBelief",
    "AdaBound",
    "AdaMod",
    "AdaMuon",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamC",
    "AdamMini",
    "AdamP",
    "AdamW",
    "AdamWScheduleFree",
    "Adamax",
    "AdamaxW",
    "Adan",
    "AggMo",
    "Ano",
    "DAdaptAdamW",
    "DiffGrad",
    "DistributedShampoo",
    "DoG",
    "DoWG",
    "FiraAdamW",
    "Fromage",
    "GaLoreAdafactor",
    "GaLoreAdamW",
    "Grams",
    "GrokAdamW",
    "GrokFastAdamW",
    "Kron",
    "LDoG",
    "LRRangeTest",
    "LaProp",
    "LazyAdam",
    "Lion",
    "MoMo",
    "MoMoAdam",
    "Muon",
    "NAdam",
    "NAdamW",
    "NorMuon",
    "NovoGrad",
    "OptimisticAdam",
    "OptimisticGradientDescent",
    "Optimizer",
    "Padam",
    "PolyakSGD",
    "Prodigy",
    "QHAdam",
    "RAdam",
    "RAdamScheduleFree",
    "RMSprop",
    "RMSpropTF",
    "Ranger",
    "RowwiseAdagrad",
    "Rprop",
    "SGDScheduleFree",
    "Scion",
    "Shampoo",
    "SignSGD",
    "Signum",
    "SimplifiedAdEMAMix",
    "Sophia",
    "StableAdamW",
    "T5Adafactor",
    "Tiger",
    "Yogi",
    "create",
    "explain",
    "find_lr",
    "list",
    "lr_scheduler",
    "optimizer_class",
    "param_groups_by",
    "param_groups_layer_decay",
    "param_groups_mup",
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
