"""Arguments under other libraries' names: data.

What an argument is called here depends on what the call takes: `b1` is part of `betas` in Adam, and
`momentum` where there is one. Where the call takes none of these, the thing may be a stage or a
wrapper of its own.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

OPTAX = "Optax's"
KERAS = "Keras's"
TORCH = "torch's"
HF = "Transformers'"
MANY = "another library's"


class Keyword(NamedTuple):
    """What an argument is called here."""

    of: str
    here: Mapping[str, str]  # by argument of ours, the way to write it
    else_: str = ""  # where the call takes none of these

    def among(self, known: Iterable[str]) -> str:
        """The way to write it where there are these arguments; empty if there is none."""
        return next((f"`{way}`" for key, way in self.here.items() if key in known), self.else_)


def _same(*names: str) -> Mapping[str, str]:
    return {name: name for name in names}


def _all(names: str, keyword: Keyword) -> Mapping[str, Keyword]:
    return dict.fromkeys(names.split(), keyword)


LR_STAGE = "`fo.scale_by_learning_rate(lr)`, the last stage of a chain"
DECAY_STAGE = "`fo.add_decayed_weights(weight_decay)`, a stage of a chain"
CLIP_STAGE = "`fo.clip_by_global_norm(max_norm)`, the first stage of a chain"
OPTIMIZER = "an argument of `fo.Optimizer(params, tx)` and of the classes of `fo.optim`"
MASKED = "`fo.masked(tx, mask)` around the stage"
VALUE_STAGE = "`fo.clip(clip_value)`, the first stage of a chain"
ACCUMULATE_STAGE = "`fo.accumulate(tx, steps)` around the chain"
EMA_STAGE = "`fo.ema_of_params(decay)`, the last stage of a chain"
CLASSES = "a keyword of the classes of `fo.optim`"
SCHEDULE = "a schedule as the `lr`, such as `fo.warmup_cosine_decay_schedule`"

_BETAS = {"betas": "betas=(b1, b2)", "momentum": "momentum=b1"}
_BETAS_HF = {"betas": "betas=(beta1, beta2)", "momentum": "momentum=beta1"}
_STEPS = {"steps": "steps", "sync_period": "sync_period"}
_CLIP = {"max_norm": "max_norm", "max_grad_norm": "max_grad_norm"}
_VALUE = {"clip_value": "clip_value"}
_ACCUMULATE = {"steps": "steps", "accumulate": "accumulate"}
_EMA = {"ema": "ema=decay", "decay": "decay"}
_USE_EMA = {"ema": "ema=0.999"}
_RATE = {
    "lr": "lr",
    "init_value": "init_value",
    "peak_value": "peak_value",
    "value": "value",
}

KEYWORDS: dict[str, Keyword] = {
    # the learning rate
    "lr": Keyword("the learning rate", {k: v for k, v in _RATE.items() if k != "lr"}, LR_STAGE),
    "learning_rate": Keyword("Optax's and Keras's", _RATE, LR_STAGE),
    "peak_lr": Keyword(MANY, _RATE),
    "max_lr": Keyword(TORCH, {"peak_value": "peak_value"}),
    "base_lr": Keyword(TORCH, {"init_value": "init_value"}),
    "initial_lr": Keyword(TORCH, {"init_value": "init_value"}),
    "adam_learning_rate": Keyword(OPTAX, _same("adamw_lr")),
    "max_learning_rate": Keyword(OPTAX, _same("lr")),
    "step_size": Keyword(OPTAX, _same("factor")),
    # decay rates
    "b1": Keyword(OPTAX, _BETAS),
    "b2": Keyword(OPTAX, {**_BETAS, "beta2": "beta2"}),
    "b3": Keyword(OPTAX, _same("beta3")),
    "beta1": Keyword(MANY, _BETAS_HF),
    "beta2": Keyword(MANY, {"betas": "betas=(beta1, beta2)"}),
    "beta_1": Keyword(KERAS, _BETAS_HF),
    "beta_2": Keyword(KERAS, {"betas": "betas=(beta1, beta2)"}),
    "beta": Keyword(OPTAX, {"momentum": "momentum", "decay": "decay", "betas": "betas"}),
    "adam_b1": Keyword(OPTAX, {"adamw_betas": "adamw_betas=(b1, b2)"}),
    "adam_b2": Keyword(OPTAX, {"adamw_betas": "adamw_betas=(b1, b2)"}),
    "adam_beta1": Keyword(HF, {"adamw_betas": "adamw_betas=(beta1, beta2)", **_BETAS_HF}),
    "adam_beta2": Keyword(HF, {"adamw_betas": "adamw_betas=(beta1, beta2)", **_BETAS_HF}),
    "decay": Keyword(OPTAX, {"alpha": "alpha", "momentum": "momentum"}),
    "rho": Keyword(KERAS, _same("alpha")),
    "decay_rate": Keyword(OPTAX, {"beta2_decay": "beta2_decay=-decay_rate", "gamma": "gamma"}),
    "gamma": Keyword(TORCH, {"decay_rate": "decay_rate=gamma"}),
    "alpha": Keyword(
        OPTAX, {"end_value": "end_value=alpha * init_value", "slow_step_size": "slow_step_size"}
    ),
    # small numbers, dtypes, seeds
    "epsilon": Keyword("Keras's and Optax's", _same("eps")),
    "adam_epsilon": Keyword(HF, {"adamw_eps": "adamw_eps", "eps": "eps"}),
    "adam_eps": Keyword(OPTAX, _same("adamw_eps")),
    "eps_root": Keyword(OPTAX, {}, "an argument of the stage, `fo.scale_by_adam(eps_root=1e-8)`"),
    "eps_in_sqrt": Keyword(OPTAX, {}, "an argument of the stage, `fo.scale_by_rms`"),
    "mu_dtype": Keyword(OPTAX, _same("state_dtype")),
    "accumulator_dtype": Keyword(OPTAX, _same("state_dtype")),
    "dtype_momentum": Keyword(OPTAX, _same("state_dtype")),
    "storage_dtype": Keyword("HeavyBall's", _same("state_dtype")),
    "key": Keyword(OPTAX, _same("seed")),
    "rng": Keyword(OPTAX, _same("seed")),
    "generator": Keyword(TORCH, _same("seed")),
    # weight decay and masks
    "wd": Keyword(MANY, _same("weight_decay"), DECAY_STAGE),
    "l2": Keyword(MANY, _same("weight_decay"), DECAY_STAGE),
    "weight_decay_rate": Keyword(OPTAX, _same("weight_decay"), DECAY_STAGE),
    "weight_decay": Keyword("the decay", {}, DECAY_STAGE),
    "adam_weight_decay": Keyword(OPTAX, _same("adamw_weight_decay")),
    "weight_decouple": Keyword(MANY, _same("decouple", "decoupled_weight_decay")),
    "mask": Keyword(OPTAX, {}, MASKED),
    "weight_decay_mask": Keyword(OPTAX, {}, MASKED),
    "trust_ratio_mask": Keyword(OPTAX, {}, MASKED),
    # clipping and privacy
    "max_norm": Keyword("the bound", {"max_grad_norm": "max_grad_norm"}, CLIP_STAGE),
    "max_grad_norm": Keyword(CLASSES, _same("max_norm"), CLIP_STAGE),
    "clip_grad": Keyword("timm's", _CLIP, CLIP_STAGE),
    "gradient_clip_val": Keyword("Lightning's", _CLIP, CLIP_STAGE),
    "gradient_clipping": Keyword("DeepSpeed's", _CLIP, CLIP_STAGE),
    "clip_grad_norm_": Keyword(TORCH, _CLIP, CLIP_STAGE),
    "global_clipnorm": Keyword(KERAS, _CLIP, CLIP_STAGE),
    **_all(
        "clip clipping clip_norm clip_grad_norm clip_gradient clip_gradients clip_gradient_norm "
        "clip_global_norm grad_clip grad_clip_norm grad_clip_val grad_clipping grad_norm "
        "grad_norm_clip gradient_clip gradient_clip_norm max_gradient_norm max_norm_grad",
        Keyword(MANY, _CLIP, CLIP_STAGE),
    ),
    "clip_grad_value_": Keyword(TORCH, _VALUE, VALUE_STAGE),
    **_all(
        "clip_value clip_val clip_grad_value grad_clip_value gradient_clip_value",
        Keyword(MANY, {}, VALUE_STAGE),
    ),
    "clipnorm": Keyword(KERAS, _same("max_norm"), "`fo.clip_by_block_rms(threshold)`, by tensor"),
    "clipvalue": Keyword(KERAS, _same("clip_value"), "`fo.clip(clip_value)`, a stage of a chain"),
    "max_delta": Keyword(OPTAX, _same("clip_value")),
    "l2_norm_clip": Keyword(OPTAX, _same("max_norm")),
    "clip_threshold": Keyword(HF, _same("d", "threshold")),
    "clipping_threshold": Keyword(OPTAX, _same("d", "threshold")),
    "axis": Keyword(OPTAX, _same("dims")),
    # algorithms one by one
    "nesterov": Keyword("the variant", {}, "an argument of `fo.scale_by_adam` and `fo.trace`"),
    "initial_scale": Keyword(OPTAX, _same("initial_accumulator_value")),
    "eta_minus": Keyword(OPTAX, {"etas": "etas=(eta_minus, eta_plus)"}),
    "eta_plus": Keyword(OPTAX, {"etas": "etas=(eta_minus, eta_plus)"}),
    "min_step_size": Keyword(OPTAX, {"step_sizes": "step_sizes=(min_step_size, max_step_size)"}),
    "max_step_size": Keyword(OPTAX, {"step_sizes": "step_sizes=(min_step_size, max_step_size)"}),
    "min_dim_size_to_factor": Keyword(OPTAX, {}, "an argument of `fo.scale_by_factored_rms`"),
    "multiply_by_parameter_scale": Keyword(
        OPTAX, {}, "`fo.scale_by_param_block_rms()`, a stage of a chain"
    ),
    "scale_parameter": Keyword(HF, {}, "`fo.scale_by_param_block_rms()`, a stage of a chain"),
    "relative_step": Keyword(HF, {}, "`fo.scale_by_relative_step(lr)`, a stage of a chain"),
    "ns_coeffs": Keyword(OPTAX, _same("ns_coefficients")),
    "backend_steps": Keyword("Jordan's", _same("ns_steps")),
    "weight_dimension_numbers": Keyword(OPTAX, _same("dims")),
    "muon_weight_dimension_numbers": Keyword(OPTAX, _same("dims")),
    "max_precondition_dim": Keyword(MANY, _same("max_precond_dim")),
    "preconditioning_compute_steps": Keyword(MANY, _same("precondition_frequency")),
    "caution": Keyword("timm's and HeavyBall's", {}, "`fo.cautious(tx)` around the chain"),
    "estim_lr0": Keyword(OPTAX, _same("d0")),
    "estim_lr_coef": Keyword(OPTAX, _same("d_coef")),
    "memory_size": Keyword(OPTAX, _same("history_size")),
    "linesearch": Keyword(OPTAX, {"line_search": "line_search=fo.strong_wolfe()"}),
    "line_search_fn": Keyword(TORCH, {"line_search": "line_search=fo.strong_wolfe()"}),
    "max_linesearch_steps": Keyword(OPTAX, _same("max_steps")),
    "max_backtracking_steps": Keyword(OPTAX, _same("max_steps")),
    "decrease_factor": Keyword(OPTAX, _same("decay")),
    "slope_rtol": Keyword(OPTAX, _same("c1")),
    "curv_rtol": Keyword(OPTAX, _same("c2")),
    **_all(
        "gradient_release optimizer_in_bwd optimizer_in_backward fused_backward_pass",
        Keyword(MANY, {}, "`opt.step_in_backward()`, once it is made"),
    ),
    # wrappers
    "params": Keyword("what is trained", {}, OPTIMIZER),
    "opt": Keyword(OPTAX, _same("inner", "tx")),
    "optimizer": Keyword(OPTAX, _same("inner", "tx")),
    "base_optimizer": Keyword(OPTAX, _same("inner", "tx")),
    "fast_optimizer": Keyword(OPTAX, _same("inner")),
    "k": Keyword(MANY, _STEPS),
    "every_k_schedule": Keyword(OPTAX, _STEPS),
    "every": Keyword(MANY, _STEPS),
    "accumulate": Keyword(CLASSES, {}, ACCUMULATE_STAGE),
    "gradient_accumulation_steps": Keyword("Accelerate's", _ACCUMULATE, ACCUMULATE_STAGE),
    "accumulate_grad_batches": Keyword("Lightning's", _ACCUMULATE, ACCUMULATE_STAGE),
    **_all(
        "accumulation accumulation_steps accumulate_steps accumulate_gradients accum accum_iter "
        "accum_steps accum_grad grad_accum grad_accum_steps grad_accumulation "
        "grad_accumulation_steps gradient_accumulation iters_to_accumulate n_accumulate "
        "update_freq",
        Keyword(MANY, _ACCUMULATE, ACCUMULATE_STAGE),
    ),
    # averages of the weights
    "ema": Keyword(CLASSES, {}, EMA_STAGE),
    "use_ema": Keyword(KERAS, _USE_EMA, EMA_STAGE),
    "ema_momentum": Keyword(KERAS, _EMA, EMA_STAGE),
    "model_ema": Keyword("timm's", _USE_EMA, EMA_STAGE),
    "model_ema_decay": Keyword("timm's", _EMA, EMA_STAGE),
    **_all(
        "ema_decay ema_rate ema_beta ema_alpha ema_factor ema_weight ema_coeff weight_ema "
        "weight_averaging moving_average_decay polyak",
        Keyword(MANY, _EMA, EMA_STAGE),
    ),
    "use_grad_mean": Keyword(OPTAX, _same("mean")),
    "reset_state": Keyword(OPTAX, _same("reset")),
    "should_skip_update_fn": Keyword(OPTAX, _same("when")),
    "max_consecutive_errors": Keyword(OPTAX, {}, "no such bound: a bad update is never made"),
    "param_labels": Keyword(OPTAX, _same("labels")),
    "maximize": Keyword(TORCH, {}, OPTIMIZER),
    "capturable": Keyword(TORCH, {}, OPTIMIZER),
    "differentiable": Keyword(TORCH, {}, OPTIMIZER),
    "foreach": Keyword(TORCH, {}, "`engine`, " + OPTIMIZER),
    "fused": Keyword(TORCH, {}, "`engine`, " + OPTIMIZER),
    # schedules
    "T_max": Keyword(TORCH, _same("decay_steps")),
    "T_0": Keyword(TORCH, _same("first_decay_steps")),
    "T_mult": Keyword(TORCH, _same("t_mult")),
    "eta_min": Keyword(TORCH, _same("end_value")),
    "min_lr": Keyword(MANY, _same("end_value")),
    "total_iters": Keyword(TORCH, _same("transition_steps", "warmup_steps")),
    "num_warmup_steps": Keyword(HF, _same("warmup_steps"), SCHEDULE),
    "warmup_steps": Keyword("the warm-up", {}, SCHEDULE),
    "warmup": Keyword("the warm-up", {"warmup_steps": "warmup_steps"}, SCHEDULE),
    "scheduler": Keyword("a schedule", {}, SCHEDULE),
    "schedule": Keyword("a schedule", {}, SCHEDULE),
    "lr_scheduler": Keyword("a schedule", {}, SCHEDULE),
    "num_training_steps": Keyword(HF, _same("total_steps", "decay_steps"), SCHEDULE),
    "num_stable_steps": Keyword(HF, _same("stable_steps")),
    "num_decay_steps": Keyword(HF, _same("decay_steps")),
    "milestones": Keyword(TORCH, _same("boundaries")),
    "exponent": Keyword(OPTAX, {}, "no such option: any function of the step is a schedule"),
}
"""By the name elsewhere. What is known to the call is never looked up."""
