"""Optimizers for PyTorch as composable, pure gradient transformations."""

from . import errors as errors
from . import optim as optim
from . import schedules as schedules
from . import sweeps as sweeps
from . import testing as testing
from . import tree as tree
from . import typing as typing

# The interface
from ._core.apply import apply_updates as apply_updates
from ._core.apply import apply_updates_ as apply_updates_
from ._core.apply import detach_state as detach_state
from ._core.apply import eval_params as eval_params
from ._core.apply import load_state_dict as load_state_dict
from ._core.apply import state_dict as state_dict
from ._core.apply import update_and_apply as update_and_apply
from ._core.functions import from_functions as from_functions
from ._core.functions import identity as identity
from ._core.loss import value_and_grad as value_and_grad
from ._core.record import Record as Record
from ._core.select import select as select
from ._core.stack import stack as stack
from ._core.stack import unstack as unstack
from ._core.stage import State as State
from ._core.tensor_rule import GradientTransformation as GradientTransformation
from ._core.tensor_rule import TensorRule as TensorRule
from ._hints.names import explain_missing as _explain_missing
from ._numerics.scalars import safe_sqrt as safe_sqrt
from .aliases import acprop as acprop
from .aliases import adabelief as adabelief
from .aliases import adabound as adabound
from .aliases import adadelta as adadelta
from .aliases import adafactor as adafactor
from .aliases import adagrad as adagrad
from .aliases import adam as adam
from .aliases import adam_mini as adam_mini
from .aliases import adam_mini_blocks as adam_mini_blocks
from .aliases import adamax as adamax
from .aliases import adamaxw as adamaxw
from .aliases import adamc as adamc
from .aliases import adamod as adamod
from .aliases import adamp as adamp
from .aliases import adamuon as adamuon
from .aliases import adamw as adamw
from .aliases import adan as adan
from .aliases import ademamix as ademamix
from .aliases import adopt as adopt
from .aliases import aggmo as aggmo
from .aliases import amsgrad as amsgrad
from .aliases import ano as ano
from .aliases import apollo_adamw as apollo_adamw
from .aliases import asgd as asgd
from .aliases import came as came

# Chains with a name in the literature
from .aliases import cocob as cocob
from .aliases import dadapt_adamw as dadapt_adamw
from .aliases import diffgrad as diffgrad
from .aliases import distributed_shampoo as distributed_shampoo
from .aliases import dog as dog
from .aliases import dowg as dowg
from .aliases import dpsgd as dpsgd
from .aliases import fira_adamw as fira_adamw
from .aliases import fromage as fromage
from .aliases import galore_adafactor as galore_adafactor
from .aliases import galore_adamw as galore_adamw
from .aliases import grams as grams
from .aliases import grokadamw as grokadamw
from .aliases import grokfast_adamw as grokfast_adamw
from .aliases import hidden_weights as hidden_weights
from .aliases import kron as kron
from .aliases import lamb as lamb
from .aliases import laprop as laprop
from .aliases import lars as lars
from .aliases import lazy_adam as lazy_adam
from .aliases import ldog as ldog
from .aliases import lion as lion
from .aliases import madgrad as madgrad
from .aliases import mars as mars
from .aliases import momo as momo
from .aliases import momo_adam as momo_adam
from .aliases import muon as muon
from .aliases import nadam as nadam
from .aliases import nadamw as nadamw
from .aliases import namo as namo
from .aliases import noisy_sgd as noisy_sgd
from .aliases import normuon as normuon
from .aliases import novograd as novograd
from .aliases import optimistic_adam as optimistic_adam
from .aliases import optimistic_gradient_descent as optimistic_gradient_descent
from .aliases import padam as padam
from .aliases import polyak_sgd as polyak_sgd
from .aliases import prodigy as prodigy
from .aliases import qhadam as qhadam
from .aliases import qhm as qhm
from .aliases import radam as radam
from .aliases import ranger as ranger
from .aliases import rmsprop as rmsprop
from .aliases import rmsprop_tf as rmsprop_tf
from .aliases import rowwise_adagrad as rowwise_adagrad
from .aliases import rprop as rprop
from .aliases import schedule_free_adamw as schedule_free_adamw
from .aliases import schedule_free_radam as schedule_free_radam
from .aliases import schedule_free_sgd as schedule_free_sgd
from .aliases import scion as scion
from .aliases import sgd as sgd
from .aliases import sgdp as sgdp
from .aliases import sgdw as sgdw
from .aliases import shampoo as shampoo
from .aliases import sign_sgd as sign_sgd
from .aliases import signum as signum
from .aliases import simplified_ademamix as simplified_ademamix
from .aliases import sm3 as sm3
from .aliases import soap as soap
from .aliases import sophia as sophia
from .aliases import stable_adamw as stable_adamw
from .aliases import t5_adafactor as t5_adafactor
from .aliases import tiger as tiger
from .aliases import yogi as yogi

# Functions of transformations
from .combinators import accumulate as accumulate
from .combinators import cautious as cautious
from .combinators import chain as chain
from .combinators import freeze as freeze
from .combinators import graft as graft
from .combinators import hyperparams as hyperparams
from .combinators import line_search as line_search
from .combinators import lookahead as lookahead
from .combinators import low_rank as low_rank
from .combinators import masked as masked
from .combinators import norm_outlier as norm_outlier
from .combinators import not_finite as not_finite
from .combinators import partition as partition
from .combinators import quantized as quantized
from .combinators import reset_label as reset_label
from .combinators import rounded as rounded
from .combinators import sam as sam
from .combinators import schedule_free as schedule_free
from .combinators import scheduled as scheduled
from .combinators import skip_if as skip_if
from .combinators import update_with_metrics as update_with_metrics
from .combinators import weighted_sum as weighted_sum
from .combinators import with_hyperparams as with_hyperparams

# Execution in place
from .engine import donated as donated
from .engine import pure_engine as pure_engine

# Meta-learning and hypergradients
from .meta import Hypergradient as Hypergradient
from .meta import MetaOptimizer as MetaOptimizer
from .meta import custom_root as custom_root
from .meta import hypergrad as hypergrad
from .meta import solve_cg as solve_cg
from .meta import solve_neumann as solve_neumann
from .meta import solve_normal_cg as solve_normal_cg
from .meta import unroll as unroll
from .meta import zero_order as zero_order

# The stateful form
from .optim import Optimizer as Optimizer
from .optim import explain as explain

# Schedules
from .schedules import constant_schedule as constant_schedule
from .schedules import cosine_cycles_schedule as cosine_cycles_schedule
from .schedules import cosine_decay_schedule as cosine_decay_schedule
from .schedules import cosine_restarts_schedule as cosine_restarts_schedule
from .schedules import cyclic_schedule as cyclic_schedule
from .schedules import ema_warmup_schedule as ema_warmup_schedule
from .schedules import exponential_decay as exponential_decay
from .schedules import half_life_schedule as half_life_schedule
from .schedules import inverse_sqrt_schedule as inverse_sqrt_schedule
from .schedules import join_schedules as join_schedules
from .schedules import linear_schedule as linear_schedule
from .schedules import multi_step_decay_schedule as multi_step_decay_schedule
from .schedules import one_cycle_schedule as one_cycle_schedule
from .schedules import piecewise_constant_schedule as piecewise_constant_schedule
from .schedules import piecewise_interpolate_schedule as piecewise_interpolate_schedule
from .schedules import polynomial_schedule as polynomial_schedule
from .schedules import power_ema_schedule as power_ema_schedule
from .schedules import step_decay_schedule as step_decay_schedule
from .schedules import warmup_cosine_decay_schedule as warmup_cosine_decay_schedule
from .schedules import warmup_stable_decay_schedule as warmup_stable_decay_schedule
from .sweeps import Sweep as Sweep
from .sweeps import sweep as sweep
from .training import EmaSnapshot as EmaSnapshot
from .training import ModuleState as ModuleState
from .training import TrainState as TrainState
from .training import call_module as call_module
from .training import export_step as export_step
from .training import post_hoc_ema as post_hoc_ema
from .training import split_module as split_module
from .training import train_step as train_step
from .training import write_back as write_back
from .transforms import adaptive_grad_clip as adaptive_grad_clip
from .transforms import add_cautious_decayed_weights as add_cautious_decayed_weights
from .transforms import add_decay_towards_init as add_decay_towards_init
from .transforms import add_decayed_weights as add_decayed_weights
from .transforms import add_mars_correction as add_mars_correction
from .transforms import add_noise as add_noise
from .transforms import backtracking as backtracking
from .transforms import centralize as centralize
from .transforms import clip as clip
from .transforms import clip_by_block_norm as clip_by_block_norm
from .transforms import clip_by_block_rms as clip_by_block_rms
from .transforms import clip_by_global_norm as clip_by_global_norm
from .transforms import clip_by_zscore as clip_by_zscore
from .transforms import dp_aggregate as dp_aggregate
from .transforms import ema as ema
from .transforms import ema_of_params as ema_of_params
from .transforms import keep_norm as keep_norm
from .transforms import lbfgs as lbfgs
from .transforms import limit_norm_growth as limit_norm_growth
from .transforms import mean_of_params as mean_of_params
from .transforms import monitor as monitor
from .transforms import newton_cg as newton_cg
from .transforms import normalize_by_update_norm as normalize_by_update_norm
from .transforms import orthogonalize as orthogonalize
from .transforms import pcgrad as pcgrad
from .transforms import primal_averaging as primal_averaging
from .transforms import project_onto_box as project_onto_box
from .transforms import project_onto_l2_ball as project_onto_l2_ball
from .transforms import project_onto_simplex as project_onto_simplex
from .transforms import reduce_on_plateau as reduce_on_plateau
from .transforms import remove_radial_gradient as remove_radial_gradient
from .transforms import scale as scale

# Stages
from .transforms import scale_by_acprop as scale_by_acprop
from .transforms import scale_by_adabound as scale_by_adabound
from .transforms import scale_by_adadelta as scale_by_adadelta
from .transforms import scale_by_adagrad as scale_by_adagrad
from .transforms import scale_by_adam as scale_by_adam
from .transforms import scale_by_adam_mini as scale_by_adam_mini
from .transforms import scale_by_adamax as scale_by_adamax
from .transforms import scale_by_adamod as scale_by_adamod
from .transforms import scale_by_adamp as scale_by_adamp
from .transforms import scale_by_adan as scale_by_adan
from .transforms import scale_by_ademamix as scale_by_ademamix
from .transforms import scale_by_adopt as scale_by_adopt
from .transforms import scale_by_ano as scale_by_ano
from .transforms import scale_by_asgd as scale_by_asgd
from .transforms import scale_by_belief as scale_by_belief
from .transforms import scale_by_came as scale_by_came
from .transforms import scale_by_cocob as scale_by_cocob
from .transforms import scale_by_dadapt_adam as scale_by_dadapt_adam
from .transforms import scale_by_diffgrad as scale_by_diffgrad
from .transforms import scale_by_dog as scale_by_dog
from .transforms import scale_by_dowg as scale_by_dowg
from .transforms import scale_by_factored_rms as scale_by_factored_rms
from .transforms import scale_by_grams as scale_by_grams
from .transforms import scale_by_kron as scale_by_kron
from .transforms import scale_by_lazy_adam as scale_by_lazy_adam
from .transforms import scale_by_ldog as scale_by_ldog
from .transforms import scale_by_learning_rate as scale_by_learning_rate
from .transforms import scale_by_learning_rate_and_decay as scale_by_learning_rate_and_decay
from .transforms import scale_by_lion as scale_by_lion
from .transforms import scale_by_lmo as scale_by_lmo
from .transforms import scale_by_madgrad as scale_by_madgrad
from .transforms import scale_by_momo as scale_by_momo
from .transforms import scale_by_momo_adam as scale_by_momo_adam
from .transforms import scale_by_muon as scale_by_muon
from .transforms import scale_by_nadam as scale_by_nadam
from .transforms import scale_by_namo as scale_by_namo
from .transforms import scale_by_normuon as scale_by_normuon
from .transforms import scale_by_novograd as scale_by_novograd
from .transforms import scale_by_optimistic_gradient as scale_by_optimistic_gradient
from .transforms import scale_by_padam as scale_by_padam
from .transforms import scale_by_param_block_norm as scale_by_param_block_norm
from .transforms import scale_by_param_block_rms as scale_by_param_block_rms
from .transforms import scale_by_polyak as scale_by_polyak
from .transforms import scale_by_prodigy as scale_by_prodigy
from .transforms import scale_by_qhadam as scale_by_qhadam
from .transforms import scale_by_qhm as scale_by_qhm
from .transforms import scale_by_radam as scale_by_radam
from .transforms import scale_by_relative_size as scale_by_relative_size
from .transforms import scale_by_relative_step as scale_by_relative_step
from .transforms import scale_by_rms as scale_by_rms
from .transforms import scale_by_row_trust_ratio as scale_by_row_trust_ratio
from .transforms import scale_by_rowwise_adagrad as scale_by_rowwise_adagrad
from .transforms import scale_by_rprop as scale_by_rprop
from .transforms import scale_by_sgdp as scale_by_sgdp
from .transforms import scale_by_shampoo as scale_by_shampoo
from .transforms import scale_by_sign as scale_by_sign
from .transforms import scale_by_simplified_ademamix as scale_by_simplified_ademamix
from .transforms import scale_by_sm3 as scale_by_sm3
from .transforms import scale_by_soap as scale_by_soap
from .transforms import scale_by_sophia as scale_by_sophia
from .transforms import scale_by_stable_adamw as scale_by_stable_adamw
from .transforms import scale_by_trust_ratio as scale_by_trust_ratio
from .transforms import scale_by_yogi as scale_by_yogi
from .transforms import set_to_zero as set_to_zero
from .transforms import shrink_by_learning_rate as shrink_by_learning_rate
from .transforms import strong_wolfe as strong_wolfe
from .transforms import trace as trace
from .transforms import zero_nans as zero_nans
from .typing import Scalar as Scalar
from .typing import Schedule as Schedule

__version__ = "0.1.0"  # which pyproject.toml reads

__all__ = [
    "EmaSnapshot",
    "GradientTransformation",
    "Hypergradient",
    "MetaOptimizer",
    "ModuleState",
    "Optimizer",
    "Record",
    "Scalar",
    "Schedule",
    "State",
    "Sweep",
    "TensorRule",
    "TrainState",
    "accumulate",
    "acprop",
    "adabelief",
    "adabound",
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adam_mini",
    "adam_mini_blocks",
    "adamax",
    "adamaxw",
    "adamc",
    "adamod",
    "adamp",
    "adamuon",
    "adamw",
    "adan",
    "adaptive_grad_clip",
    "add_cautious_decayed_weights",
    "add_decay_towards_init",
    "add_decayed_weights",
    "add_mars_correction",
    "add_noise",
    "ademamix",
    "adopt",
    "aggmo",
    "amsgrad",
    "ano",
    "apollo_adamw",
    "apply_updates",
    "apply_updates_",
    "asgd",
    "backtracking",
    "call_module",
    "came",
    "cautious",
    "centralize",
    "chain",
    "clip",
    "clip_by_block_norm",
    "clip_by_block_rms",
    "clip_by_global_norm",
    "clip_by_zscore",
    "cocob",
    "constant_schedule",
    "cosine_cycles_schedule",
    "cosine_decay_schedule",
    "cosine_restarts_schedule",
    "custom_root",
    "cyclic_schedule",
    "dadapt_adamw",
    "detach_state",
    "diffgrad",
    "distributed_shampoo",
    "dog",
    "donated",
    "dowg",
    "dp_aggregate",
    "dpsgd",
    "ema",
    "ema_of_params",
    "ema_warmup_schedule",
    "errors",
    "eval_params",
    "explain",
    "exponential_decay",
    "export_step",
    "fira_adamw",
    "freeze",
    "from_functions",
    "fromage",
    "galore_adafactor",
    "galore_adamw",
    "graft",
    "grams",
    "grokadamw",
    "grokfast_adamw",
    "half_life_schedule",
    "hidden_weights",
    "hypergrad",
    "hyperparams",
    "identity",
    "inverse_sqrt_schedule",
    "join_schedules",
    "keep_norm",
    "kron",
    "lamb",
    "laprop",
    "lars",
    "lazy_adam",
    "lbfgs",
    "ldog",
    "limit_norm_growth",
    "line_search",
    "linear_schedule",
    "lion",
    "load_state_dict",
    "lookahead",
    "low_rank",
    "madgrad",
    "mars",
    "masked",
    "mean_of_params",
    "momo",
    "momo_adam",
    "monitor",
    "multi_step_decay_schedule",
    "muon",
    "nadam",
    "nadamw",
    "namo",
    "newton_cg",
    "noisy_sgd",
    "norm_outlier",
    "normalize_by_update_norm",
    "normuon",
    "not_finite",
    "novograd",
    "one_cycle_schedule",
    "optim",
    "optimistic_adam",
    "optimistic_gradient_descent",
    "orthogonalize",
    "padam",
    "partition",
    "pcgrad",
    "piecewise_constant_schedule",
    "piecewise_interpolate_schedule",
    "polyak_sgd",
    "polynomial_schedule",
    "post_hoc_ema",
    "power_ema_schedule",
    "primal_averaging",
    "prodigy",
    "project_onto_box",
    "project_onto_l2_ball",
    "project_onto_simplex",
    "pure_engine",
    "qhadam",
    "qhm",
    "quantized",
    "radam",
    "ranger",
    "reduce_on_plateau",
    "remove_radial_gradient",
    "reset_label",
    "rmsprop",
    "rmsprop_tf",
    "rounded",
    "rowwise_adagrad",
    "rprop",
    "safe_sqrt",
    "sam",
    "scale",
    "scale_by_acprop",
    "scale_by_adabound",
    "scale_by_adadelta",
    "scale_by_adagrad",
    "scale_by_adam",
    "scale_by_adam_mini",
    "scale_by_adamax",
    "scale_by_adamod",
    "scale_by_adamp",
    "scale_by_adan",
    "scale_by_ademamix",
    "scale_by_adopt",
    "scale_by_ano",
    "scale_by_asgd",
    "scale_by_belief",
    "scale_by_came",
    "scale_by_cocob",
    "scale_by_dadapt_adam",
    "scale_by_diffgrad",
    "scale_by_dog",
    "scale_by_dowg",
    "scale_by_factored_rms",
    "scale_by_grams",
    "scale_by_kron",
    "scale_by_lazy_adam",
    "scale_by_ldog",
    "scale_by_learning_rate",
    "scale_by_learning_rate_and_decay",
    "scale_by_lion",
    "scale_by_lmo",
    "scale_by_madgrad",
    "scale_by_momo",
    "scale_by_momo_adam",
    "scale_by_muon",
    "scale_by_nadam",
    "scale_by_namo",
    "scale_by_normuon",
    "scale_by_novograd",
    "scale_by_optimistic_gradient",
    "scale_by_padam",
    "scale_by_param_block_norm",
    "scale_by_param_block_rms",
    "scale_by_polyak",
    "scale_by_prodigy",
    "scale_by_qhadam",
    "scale_by_qhm",
    "scale_by_radam",
    "scale_by_relative_size",
    "scale_by_relative_step",
    "scale_by_rms",
    "scale_by_row_trust_ratio",
    "scale_by_rowwise_adagrad",
    "scale_by_rprop",
    "scale_by_sgdp",
    "scale_by_shampoo",
    "scale_by_sign",
    "scale_by_simplified_ademamix",
    "scale_by_sm3",
    "scale_by_soap",
    "scale_by_sophia",
    "scale_by_stable_adamw",
    "scale_by_trust_ratio",
    "scale_by_yogi",
    "schedule_free",
    "schedule_free_adamw",
    "schedule_free_radam",
    "schedule_free_sgd",
    "scheduled",
    "schedules",
    "scion",
    "select",
    "set_to_zero",
    "sgd",
    "sgdp",
    "sgdw",
    "shampoo",
    "shrink_by_learning_rate",
    "sign_sgd",
    "signum",
    "simplified_ademamix",
    "skip_if",
    "sm3",
    "soap",
    "solve_cg",
    "solve_neumann",
    "solve_normal_cg",
    "sophia",
    "split_module",
    "stable_adamw",
    "stack",
    "state_dict",
    "step_decay_schedule",
    "strong_wolfe",
    "sweep",
    "sweeps",
    "t5_adafactor",
    "testing",
    "tiger",
    "trace",
    "train_step",
    "tree",
    "typing",
    "unroll",
    "unstack",
    "update_and_apply",
    "update_with_metrics",
    "value_and_grad",
    "warmup_cosine_decay_schedule",
    "warmup_stable_decay_schedule",
    "weighted_sum",
    "with_hyperparams",
    "write_back",
    "yogi",
    "zero_nans",
    "zero_order",
]

_explain_missing(__name__)
