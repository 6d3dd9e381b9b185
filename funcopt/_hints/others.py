"""Names of TorchOpt, Transformers, HeavyBall, timm, bitsandbytes and others: data."""

import re


def _all(names: str, text: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), text)


_NONE = "no counterpart"
_RELEASED = "its `step_in_backward()`, which frees each gradient"
_RULE = f"{_NONE}; it would be a `fo.TensorRule`, and a class by `fo.optim.optimizer_class`"
_QUANTIZED = (
    'any optimizer keeps its slots so: `fo.optim.AdamW(params, quantized="8bit")`, or "4bit" or '
    '"fp8"; `fo.quantized(fo.adamw())` is the transformation'
)

TORCHOPT = {
    **{
        f"Meta{name}": f"`fo.MetaOptimizer(module, fo.{ours}(lr))`"
        for name, ours in {
            "SGD": "sgd",
            "Adam": "adam",
            "AdaMax": "adamax",
            "Adamax": "adamax",
            "AdaDelta": "adadelta",
            "Adadelta": "adadelta",
            "RAdam": "radam",
            "AdamW": "adamw",
            "AdaGrad": "adagrad",
            "Adagrad": "adagrad",
            "RMSProp": "rmsprop",
            "RMSprop": "rmsprop",
        }.items()
    },
    "AdaMax": "`fo.optim.Adamax(params)`, or `fo.adamax(lr)`",
    "AdaDelta": "`fo.optim.Adadelta(params)`, or `fo.adadelta(lr)`",
    "AdaGrad": "`fo.optim.Adagrad(params)`, or `fo.adagrad(lr)`",
    "RMSProp": "`fo.optim.RMSprop(params)`, or `fo.rmsprop(lr)`",
    "FuncOptimizer": "`fo.train_step(loss, tx)`",
    "extract_state_dict": "`with inner.adapting():` of a `fo.MetaOptimizer`, or its `state`",
    "recover_state_dict": "`with inner.adapting():` of a `fo.MetaOptimizer`, or its `state`",
    "stop_gradient": "`fo.detach_state(state)`, or `detach()` of a `fo.MetaOptimizer`",
    "module_clone": "`copy.deepcopy(module)`, or the parameters of `fo.split_module(module)`",
    "module_detach_": "`fo.detach_state(state)`, or `detach()` of a `fo.MetaOptimizer`",
    "clip_grad_norm": "`fo.clip_by_global_norm(max_norm)`",
    "nan_to_num": "`fo.zero_nans()`, or `fo.skip_if(tx, fo.not_finite())`, for the whole update",
    "register_hook": f"{_NONE}; use `tensor.register_hook`",
    "accelerated_op_available": "nothing to ask: `engine` of a `fo.Optimizer` says how it steps",
    "ImplicitMetaGradientModule": "`fo.custom_root(optimality)`",
    "solve_inv": "`fo.solve_neumann()`",
    "linear_solve": "`fo.solve_cg()`, `fo.solve_normal_cg()` and `fo.solve_neumann()`",
    "pytree": "`fo.tree`",
}

TRANSFORMERS = {
    "get_constant_schedule": "`fo.constant_schedule(value)`",
    "get_constant_schedule_with_warmup": "`fo.linear_schedule(0.0, lr, warmup_steps)`, which stays "
    "at its end",
    "get_linear_schedule_with_warmup": "`fo.warmup_stable_decay_schedule(peak_value, warmup_steps, "
    "0, decay_steps)`",
    "get_cosine_schedule_with_warmup": "`fo.warmup_cosine_decay_schedule(0.0, peak_value, "
    "warmup_steps, decay_steps)`, where `decay_steps` includes the warm-up",
    "get_cosine_with_min_lr_schedule_with_warmup": "`fo.warmup_cosine_decay_schedule(0.0, "
    "peak_value, warmup_steps, decay_steps, end_value)`",
    "get_cosine_with_min_lr_schedule_with_warmup_lr_rate": "`fo.warmup_cosine_decay_schedule"
    "(init_value, peak_value, warmup_steps, decay_steps, end_value)`",
    "get_cosine_with_hard_restarts_schedule_with_warmup": "`fo.join_schedules(schedules, "
    "boundaries)` of `fo.linear_schedule` and `fo.cosine_cycles_schedule`",
    "get_polynomial_decay_schedule_with_warmup": "`fo.join_schedules(schedules, boundaries)` of "
    "`fo.linear_schedule` and `fo.polynomial_schedule`",
    "get_inverse_sqrt_schedule": "`fo.inverse_sqrt_schedule(peak_value, warmup_steps, timescale)`",
    "get_wsd_schedule": "`fo.warmup_stable_decay_schedule(peak_value, warmup_steps, stable_steps, "
    "decay_steps)`",
    "get_reduce_on_plateau_schedule": "`fo.reduce_on_plateau()`, a stage, or "
    "`fo.optim.lr_scheduler.ReduceLROnPlateau` on an optimizer",
    "get_greedy_schedule": f"{_NONE}; the nearest is `fo.reduce_on_plateau()`",
    "GreedyLR": f"{_NONE}; the nearest is `fo.reduce_on_plateau()`",
    "get_scheduler": "pass a schedule of `fo.schedules` as the `lr`; schedulers of torch work too",
    "AdafactorSchedule": "`fo.scale_by_relative_step(lr)`, which has the schedule inside",
    "get_adafactor_schedule": "`fo.scale_by_relative_step(lr)`, which has the schedule inside",
    "AdamWeightDecay": "`fo.optim.AdamW(params)`, or `fo.adamw(lr)`",
    "GradientAccumulator": "`fo.accumulate(tx, steps)`",
    "WarmUp": "`fo.linear_schedule(0.0, lr, warmup_steps)`, joined by `fo.join_schedules`",
    "create_optimizer": "take a class of `fo.optim`",
}

HEAVYBALL = {
    "SFAdamW": "`fo.optim.AdamWScheduleFree(params)`, or `fo.schedule_free_adamw()`",
    "MuonAdamW": "`fo.optim.Muon(model.named_parameters())`, or `fo.muon()`, which give what is "
    "no hidden matrix to AdamW",
    "SplitOpt": "`fo.partition(transforms, labels)`",
    "SAMWrapper": "`fo.sam(tx)`",
    "SignLaProp": f"{_NONE}; the nearest are `fo.signum()` and `fo.laprop()`",
    "KLSOAP": '`fo.optim.SOAP(params, correction="kl")`, or `fo.soap(correction="kl")`',
    "SOAPNAdam": f"{_NONE}; the nearest is `fo.soap()`",
    "SOAPAdEMAMix": f"{_NONE}; the nearest is `fo.soap()`",
    "capture_param_shapes": "nothing to capture: shapes are those of the parameters",
    **_all(
        "SOLP HeavySOAP HeavyKLSOAP HeavySOAPNAdam HeavySOAPAdEMAMix HeavySOLP",
        f"{_NONE}; the nearest is `fo.soap()`",
    ),
    "PSGDKron": "`fo.optim.Kron(params)`, or `fo.kron()`",
    **_all("KLShampoo HeavyKLShampoo", f"{_NONE}; the nearest is `fo.shampoo()`"),
    **_all("MuonLaProp OrthoLaProp LaPropOrtho LATHER", f"{_NONE}; the nearest is `fo.muon()`"),
    **_all(
        "PSGDPRO PSGDLRA QSGD PSGDBase",
        f"{_NONE}; the nearest is `fo.kron()`",
    ),
    **_all(
        "MSAMLaProp UnscaledAdamW SUDSAdamW",
        f"{_NONE}; the nearest is `fo.adamw()`",
    ),
    "HyperBallAdamW": "`fo.chain(fo.scale_by_adam(), fo.scale_by_trust_ratio(), "
    "fo.scale_by_learning_rate(lr), fo.keep_norm())`",
}

PACKAGES = {
    **_all("LRFinder lr_find lr_finder", "`fo.optim.find_lr(optimizer, model, loss, batches)`"),
    "AdaFactor": "`fo.optim.Adafactor(params)`, or `fo.adafactor()`",
    "Lamb": "`fo.optim.LAMB(params)`, or `fo.lamb()`",
    "FusedLAMB": "`fo.optim.LAMB(params)`, or `fo.lamb()`",
    "FusedAdam": "`fo.optim.AdamW(params)`, or `fo.adamw()`; every chain is fused",
    "DeepSpeedCPUAdam": "`fo.optim.AdamW(params)`, or `fo.adamw()`; every chain is fused",
    "FlashAdamW": "`fo.optim.AdamW(params)`, or `fo.adamw()`; every chain is fused",
    "SafeFP16Optimizer": f"{_NONE}: everything is computed in at least float32",
    "FusedSGD": "`fo.optim.SGD(params)`, or `fo.sgd()`; every chain is fused",
    "Lars": "`fo.optim.LARS(params)`, or `fo.lars()`",
    "Nadam": "`fo.optim.NAdam(params)`, or `fo.nadam()`",
    "NadamW": "`fo.optim.NAdam(params, decoupled_weight_decay=True)`, torch's, or "
    "`fo.optim.NAdamW(params)`, Optax's",
    "Mars": "`fo.optim.MARS(params)`, or `fo.mars()`",
    "Adopt": "`fo.optim.ADOPT(params)`, or `fo.adopt()`",
    "Adabelief": "`fo.optim.AdaBelief(params)`, or `fo.adabelief()`",
    "ScheduleFreeAdamW": "`fo.optim.AdamWScheduleFree(params)`, or `fo.schedule_free_adamw()`",
    "ScheduleFreeSGD": "`fo.optim.SGDScheduleFree(params)`, or `fo.schedule_free_sgd()`",
    "ScheduleFreeRAdam": "`fo.optim.RAdamScheduleFree(params)`, or `fo.schedule_free_radam()`",
    "ScheduleFreeWrapper": "`fo.schedule_free(tx)` around any chain",
    "DAdaptAdam": "`fo.optim.DAdaptAdamW(params)`, or `fo.dadapt_adamw()`",
    **_all(
        "DAdaptSGD DAdaptLion DAdaptAdaGrad DAdaptAdan",
        f"{_NONE}; the nearest is `fo.optim.DAdaptAdamW(params)`",
    ),
    **_all("SAM ASAM GSAM WSAM BSAM LookSAM FriendlySAM", "`fo.sam(tx)`, with `adaptive=True` too"),
    **_all("Lookahead", "`fo.lookahead(tx)`"),
    "Ranger21": f"{_NONE}; the nearest is `fo.ranger()`",
    "CAdamW": "`fo.cautious(fo.adamw())`",
    "CLion": "`fo.cautious(fo.lion())`",
    "ScalableShampoo": "`fo.optim.DistributedShampoo(params)`, or `fo.distributed_shampoo()`",
    **_all("SCION SCIONLight", "`fo.optim.Scion(model.named_parameters())`, or `fo.scion()`"),
    **_all(
        "DistributedMuon MuonClip Dion",
        "no counterpart; the nearest is `fo.optim.Muon(params)`",
    ),
    "PAdam": "`fo.optim.Padam(params)`, or `fo.padam()`",
    **_all("SophiaH SophiaG", "`fo.optim.Sophia(params)`, or `fo.sophia()`, given `hessian`"),
    **_all("AdaHessian Adahessian", f"{_NONE}; the nearest is `fo.sophia()`"),
    "NvNovoGrad": "`fo.optim.NovoGrad(params, betas=(0.95, 0.98))`, or `fo.novograd()`",
    "OrthoGrad": "`fo.remove_radial_gradient()`, the first stage of a chain",
    "ZClip": "`fo.clip_by_zscore()`, the first stage of a chain",
    "PCGrad": "`fo.pcgrad(grads)`, of a list of gradients",
    "Adam_mini": "`fo.optim.AdamMini(model.named_parameters())`, or `fo.adam_mini()`",
    **_all(
        "MuAdam MuAdamW MuSGD",
        "`fo.optim.param_groups_mup(model, base, lr=lr)`, for any optimizer",
    ),
    "Momo": "`fo.optim.MoMo(params)`, or `fo.momo()`",
    "MomoAdam": "`fo.optim.MoMoAdam(params)`, or `fo.momo_adam()`",
    "GaLore": "`fo.optim.GaLoreAdamW(params)`, or `fo.galore_adamw()`",
    "APOLLO": "`fo.optim.APOLLOAdamW(params)`, or `fo.apollo_adamw()`",
    "Fira": "`fo.optim.FiraAdamW(params)`, or `fo.fira_adamw()`",
    **_all(
        "ModelEmaV2 ModelEmaV3 ModelEma ExponentialMovingAverage EMA",
        "`fo.ema_of_params(decay)` at the end of a chain",
    ),
    **_all("Accelerator DPOptimizer PrivacyEngine", f"{_NONE}; optimizers here work with it"),
    "centralize_gradient": "`fo.centralize()`, a stage of a chain",
    "agc": "`fo.adaptive_grad_clip(clipping)`, a stage of a chain",
    **_all("create_optimizer_v2 load_optimizer get_optimizer", "take a class of `fo.optim`"),
    **_all(
        "get_optimizer_parameters no_decay_on_norms", "`fo.optim.param_groups_weight_decay(model)`"
    ),
    **_all("LOMO Lomo", f"`fo.optim.SGDW(params)`, and {_RELEASED}"),
    **_all(
        "AdaLOMO AdaLomo",
        f"`fo.optim.T5Adafactor(params, lr=1e-3, relative_step=False)`, and {_RELEASED}",
    ),
    "prepare_for_gradient_release": "`opt.step_in_backward()`, of any optimizer",
    "remove_gradient_release": "`remove()` of what `opt.step_in_backward()` returns",
    **_all(
        "A2Grad AccSGD AdaGC AdaGO AdaNorm AdaPNM AdaShift AdaSmooth AdaTAM Adai "
        "Adalite AdamG AdamS AdamWSN Aida AliG Alice Amos ApolloDQN AvaGrad BCOS "
        "Conda DASH DeMo DualAdam EXAdam EmoFact EmoLynx EmoNavi FAdam FOCUS FTRL "
        "Gravity Kate LoRARite MSVAG Magma Nero PID PNM RACS "
        "ROSE RotoGrad SGDSaI SPAM SPlus SRMM SWATS SaRA SpectralSphere StableSPAM TAM TRAC "
        "VSGD",
        _RULE,
    ),
}

PATTERNS = (
    (
        re.compile(r"(Paged)?\w+(8bit|4bit|32bit|Fp8)|\w+_(8|4)bit"),
        "bitsandbytes's or torchao's",
        _QUANTIZED,
    ),
    (
        re.compile(r"adamw_(torch|bnb|anyprecision|apex)\w*"),
        "Transformers'",
        "`fo.optim.AdamW(params)`, or `fo.adamw()`; pass the optimizer to the `Trainer`",
    ),
    (
        re.compile(r"get_\w+_schedule(_with_warmup)?"),
        "Transformers'",
        "take a schedule of `fo.schedules`",
    ),
)
