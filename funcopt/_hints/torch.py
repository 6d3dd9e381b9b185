"""Names of `torch.optim` that are not ours: data, as in `optax.py`.

A class of `funcopt.optim` that is looked for in `funcopt` needs no line here.
"""

_AS_IT_IS = "which works on all optimizers here"

CLASSES = {
    "ACProp": "acprop",
    "ADOPT": "adopt",
    "AMSGrad": "amsgrad",
    "ASGD": "asgd",
    "AdEMAMix": "ademamix",
    "AdaBelief": "adabelief",
    "AdaMuon": "adamuon",
    "Adadelta": "adadelta",
    "Adafactor": "adafactor",
    "Adagrad": "adagrad",
    "Adam": "adam",
    "AdamMini": "adam_mini",
    "AdamW": "adamw",
    "AdamWScheduleFree": "schedule_free_adamw",
    "Adamax": "adamax",
    "AdamaxW": "adamaxw",
    "Adan": "adan",
    "CAME": "came",
    "COCOB": "cocob",
    "DAdaptAdamW": "dadapt_adamw",
    "DoG": "dog",
    "DoWG": "dowg",
    "Fromage": "fromage",
    "LAMB": "lamb",
    "LARS": "lars",
    "LBFGS": "lbfgs",
    "AdamC": "adamc",
    "LDoG": "ldog",
    "LaProp": "laprop",
    "LazyAdam": "lazy_adam",
    "Lion": "lion",
    "MADGRAD": "madgrad",
    "MARS": "mars",
    "MoMo": "momo",
    "MoMoAdam": "momo_adam",
    "Muon": "muon",
    "NAdam": "nadam",
    "NAdamW": "nadamw",
    "NAMO": "namo",
    "NorMuon": "normuon",
    "NovoGrad": "novograd",
    "OptimisticAdam": "optimistic_adam",
    "OptimisticGradientDescent": "optimistic_gradient_descent",
    "PolyakSGD": "polyak_sgd",
    "Prodigy": "prodigy",
    "RAdam": "radam",
    "RAdamScheduleFree": "schedule_free_radam",
    "RMSprop": "rmsprop",
    "RMSpropTF": "rmsprop_tf",
    "Ranger": "ranger",
    "RowwiseAdagrad": "rowwise_adagrad",
    "Rprop": "rprop",
    "SGD": "sgd",
    "SGDScheduleFree": "schedule_free_sgd",
    "SGDW": "sgdw",
    "SM3": "sm3",
    "SOAP": "soap",
    "Sophia": "sophia",
    "Scion": "scion",
    "Shampoo": "shampoo",
    "SignSGD": "sign_sgd",
    "Signum": "signum",
    "SimplifiedAdEMAMix": "simplified_ademamix",
    "StableAdamW": "stable_adamw",
    "T5Adafactor": "t5_adafactor",
    "Yogi": "yogi",
}
"""By class of `funcopt.optim`, the transformation that it steps by."""

SCHEDULERS = {
    "CosineAnnealingLR": "fo.cosine_decay_schedule(init_value, decay_steps, end_value)",
    "CosineAnnealingWarmRestarts": "fo.cosine_restarts_schedule(init_value, first_decay_steps)",
    "ConstantLR": "fo.join_schedules(schedules, boundaries)",
    "ExponentialLR": "fo.exponential_decay(init_value, 1, gamma)",
    "LinearLR": "fo.linear_schedule(init_value, end_value, transition_steps)",
    "MultiStepLR": "fo.multi_step_decay_schedule(init_value, milestones, gamma)",
    "OneCycleLR": "fo.one_cycle_schedule(peak_value, total_steps)",
    "PolynomialLR": "fo.polynomial_schedule(init_value, end_value, power, transition_steps)",
    "SequentialLR": "fo.join_schedules(schedules, boundaries)",
    "StepLR": "fo.step_decay_schedule(init_value, step_size, gamma)",
    "LambdaLR": "lambda step: lr * factor(step)",
    "ChainedScheduler": "lambda step: a(step) * b(step)",
    "CyclicLR": "fo.cyclic_schedule(base_value, max_value, step_size_up)",
    "MultiplicativeLR": "",
    "ReduceLROnPlateau": "",
    "LRScheduler": "",
}
"""By scheduler, the schedule that any hyperparameter takes instead; empty if there is none."""

NAMES = {
    "SparseAdam": "`fo.optim.LazyAdam(params)` for dense gradients with rows of zeros; sparse "
    "ones are refused",
    "swap_in_optimizer_params_and_state": "`opt.load_state_dict(state_dict)`",
    **{
        name: f"`fo.optim.lr_scheduler.{name}`, {_AS_IT_IS}"
        + (f"; as a hyperparameter, `{ours}`" if ours else "")
        for name, ours in SCHEDULERS.items()
    },
    "SWALR": f"`fo.optim.swa_utils.SWALR`, {_AS_IT_IS}",
    "AveragedModel": "`fo.ema_of_params(decay)` or `fo.mean_of_params()` at the end of a chain; "
    f"or `fo.optim.swa_utils.AveragedModel`, {_AS_IT_IS}",
    "update_bn": "`fo.optim.swa_utils.update_bn`",
    "get_ema_avg_fn": "`fo.ema_of_params(decay)` at the end of a chain",
    "get_ema_multi_avg_fn": "`fo.ema_of_params(decay)` at the end of a chain",
    "get_swa_avg_fn": "`fo.mean_of_params()` at the end of a chain",
    "get_swa_multi_avg_fn": "`fo.mean_of_params()` at the end of a chain",
    "clip_grad_norm_": "`fo.clip_by_global_norm(max_norm)`, the first stage of a chain",
    "clip_grad_value_": "`fo.clip(clip_value)`, the first stage of a chain",
    "GradScaler": "`torch.amp.GradScaler`, " + _AS_IT_IS,
}
