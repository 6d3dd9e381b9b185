"""Every transformation, and every kind of parameters, once."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

import funcopt as fo


def double(params):
    """A function of whole trees, at the top of a module so that it pickles."""
    return ()


def doubled(updates, state, params=None):
    return fo.tree.map(lambda u: 2 * u, updates), state


def is_matrix(name, p):
    return p.ndim > 1


def by_dimension(name, p):
    return "matrix" if p.ndim > 1 else "rest"


def bowl(params):
    """A loss of any tree: smooth, and lowest at a place where no entry is zero."""
    leaves = fo.tree.leaves(params)
    each = [((p - 0.4).square() + 0.1 * (p + 0.1 * i).pow(4)).sum() for i, p in enumerate(leaves)]
    apart = sum(each, torch.zeros(()))
    return apart + 0.1 * sum((p.sum() for p in leaves), torch.zeros(())).square()


BOWL = MappingProxyType({"value_fn": bowl})
VALUE = MappingProxyType({"value": 0.7})


class Case(NamedTuple):
    """A transformation, and which laws are not for it."""

    tx: fo.GradientTransformation
    differentiable: bool = True
    extra: Mapping[str, Any] = MappingProxyType({})

    def __str__(self):
        return " ".join(repr(self.tx).split())


CASES = [
    Case(fo.identity()),
    Case(fo.from_functions(double, doubled)),
    Case(fo.scale(-0.1)),
    Case(fo.scale(fo.linear_schedule(1.0, 0.5, 2))),
    Case(fo.scale_by_learning_rate(0.1)),
    Case(fo.scale_by_learning_rate(fo.cosine_decay_schedule(0.1, 3), flip_sign=False)),
    Case(fo.scale_by_sign()),
    Case(fo.clip(0.5)),
    Case(fo.clip_by_global_norm(1.0)),
    Case(fo.clip_by_global_norm(0.5, eps=0.0)),
    Case(fo.clip_by_block_norm(0.5)),
    Case(fo.normalize_by_update_norm()),
    Case(fo.normalize_by_update_norm(0.5, eps=1e-3)),
    Case(fo.zero_nans()),
    Case(fo.set_to_zero()),
    Case(fo.add_decayed_weights(0.1)),
    Case(fo.add_decayed_weights(0.0)),
    Case(fo.add_cautious_decayed_weights(0.1)),
    Case(fo.chain(fo.sgd(0.1), fo.project_onto_box(-0.5, 0.5))),
    Case(fo.chain(fo.sgd(0.1), fo.project_onto_l2_ball(0.5))),
    Case(fo.chain(fo.sgd(0.1), fo.project_onto_simplex())),
    Case(fo.trace(0.9)),
    Case(fo.trace(0.9, dampening=0.1, nesterov=True)),
    Case(fo.trace(0.0)),
    Case(fo.ema(0.9)),
    Case(fo.ema(0.9, debias=False)),
    Case(fo.scale_by_adam()),
    Case(fo.scale_by_adam((0.8, 0.99), eps_root=1e-6, amsgrad=True)),
    Case(fo.scale_by_adam(nesterov=True)),
    Case(fo.scale_by_adam((0.0, 0.99), first_moment=False)),
    Case(fo.scale_by_adam(state_dtype=torch.float32), differentiable=False),
    Case(fo.scale_by_adagrad()),
    Case(fo.scale_by_adagrad(lr_decay=0.1, initial_accumulator_value=0.1, eps_in_sqrt=True)),
    Case(fo.scale_by_rms()),
    Case(fo.scale_by_rms(0.9, initial_scale=1.0)),
    Case(fo.scale_by_rms(0.9, centered=True, eps_in_sqrt=True)),
    Case(fo.scale_by_adadelta()),
    Case(fo.scale_by_adamax()),
    Case(fo.scale_by_lion()),
    Case(fo.scale_by_nadam()),
    Case(fo.scale_by_radam()),
    Case(fo.scale_by_radam((0.8, 0.6))),
    Case(fo.nadam(weight_decay=0.1, decoupled_weight_decay=True)),
    Case(fo.radam()),
    Case(fo.adamax()),
    Case(fo.lion()),
    Case(fo.scale_by_asgd(0.1, lambd=0.1)),
    Case(fo.scale_by_rprop(0.1, etas=(0.5, 1.5), step_sizes=(1e-3, 0.2))),
    Case(fo.chain(fo.sgd(0.1), fo.mean_of_params(1.0))),
    Case(fo.mean_of_params(state_dtype=torch.float32), differentiable=False),
    Case(fo.asgd(0.1, t0=0.5, weight_decay=0.1)),
    Case(fo.rprop(etas=(0.5, 1.5))),
    Case(fo.scale_by_prodigy(d0=0.1)),
    Case(fo.scale_by_prodigy(d0=0.1, safeguard_warmup=True, use_bias_correction=True, beta3=0.9)),
    Case(fo.scale_by_dadapt_adam(d0=0.1)),
    Case(fo.scale_by_dadapt_adam(d0=0.1, use_bias_correction=True, growth_rate=1.5)),
    Case(fo.prodigy(weight_decay=0.1, decouple=False, d0=0.1, growth_rate=1.5)),
    Case(fo.dadapt_adamw(weight_decay=0.1, d0=0.1)),
    Case(fo.scale_by_belief()),
    Case(fo.scale_by_yogi()),
    Case(fo.adabelief(weight_decay=0.1)),
    Case(fo.yogi(weight_decay=0.1)),
    Case(fo.scale_by_ademamix(eps=1e-6)),
    Case(fo.ademamix(beta3_warmup=3, alpha_warmup=2, weight_decay=0.1)),
    Case(fo.scale_by_adopt()),
    Case(fo.scale_by_adopt((0.8, 0.9), eps=1e-3, clip_exp=None)),
    Case(fo.adopt(weight_decay=0.1, decoupled_weight_decay=True)),
    Case(fo.scale_by_adan(eps=1e-3)),
    Case(fo.adan(weight_decay=0.1)),
    Case(fo.scale_by_stable_adamw()),
    Case(fo.stable_adamw(eps=1e-3)),
    Case(fo.nadamw(weight_decay=0.1)),
    Case(fo.adamaxw(weight_decay=0.1)),
    Case(fo.amsgrad()),
    Case(fo.laprop(eps=1e-3, weight_decay=0.1)),
    Case(fo.ranger(weight_decay=0.1, sync_period=2)),
    Case(fo.sgdw(0.1, momentum=0.9, weight_decay=0.1)),
    Case(fo.signum(weight_decay=0.1)),
    Case(fo.sign_sgd(weight_decay=0.1)),
    Case(fo.centralize()),
    Case(fo.clip_by_block_rms(0.5)),
    Case(fo.scale_by_param_block_norm()),
    Case(fo.scale_by_param_block_rms()),
    Case(fo.scale_by_factored_rms()),
    Case(fo.scale_by_factored_rms(eps=1e-3)),
    Case(fo.scale_by_factored_rms(eps=1e-30, add_eps=True, min_dim_size_to_factor=2)),
    Case(fo.scale_by_factored_rms(-0.5, eps=1e-4, min_dim_size_to_factor=3)),
    Case(fo.scale_by_relative_step(0.6, weight_decay=0.1)),
    Case(fo.scale_by_trust_ratio()),
    Case(fo.scale_by_trust_ratio(0.1, trust_coefficient=0.5, eps=1e-3)),
    Case(fo.scale_by_trust_ratio(min_ratio=0.5, max_ratio=2.0)),
    Case(fo.scale_by_row_trust_ratio()),
    Case(fo.scale_by_row_trust_ratio(0.1, eps=1e-3, min_ratio=0.5, max_ratio=2.0)),
    Case(fo.chain(fo.sgd(0.1), fo.keep_norm())),
    Case(fo.chain(fo.adam(0.1), fo.keep_norm(2.0))),
    Case(
        fo.chain(fo.sgd(0.1), fo.reduce_on_plateau(0.5, patience=1, min_scale=0.1)),
        extra=MappingProxyType({"value": 1.5}),
    ),
    *(
        Case(fo.scale_by_learning_rate_and_decay(fo.linear_schedule(0.0, 0.1, 2), 0.1, decay))
        for decay in ("decoupled", "independent", "corrected", "squared")
    ),
    Case(fo.scale_by_learning_rate_and_decay(0.1, 0.2, max_lr=0.3)),
    Case(fo.scale_by_learning_rate_and_decay(0.1, 0.0)),
    Case(fo.chain(fo.add_decay_towards_init(0.3), fo.sgd(0.1, momentum=0.9))),
    Case(fo.add_decay_towards_init(0.1, torch.float32), differentiable=False),
    Case(fo.adamc()),
    Case(fo.adaptive_grad_clip(0.1)),
    Case(fo.adafactor(weight_decay=0.1)),
    Case(fo.lamb(weight_decay=0.1)),
    Case(fo.lars(weight_decay=0.1, nesterov=True)),
    Case(fo.add_noise(0.3, 0.55)),
    Case(fo.chain(fo.add_noise(fo.linear_schedule(0.3, 0.1, 3), 0.5), fo.adamw())),
    Case(fo.noisy_sgd(0.1)),
    Case(fo.dp_aggregate(1.0, 0.5)),
    Case(fo.dp_aggregate(1e3, 0.5, batch_size=4.0)),
    Case(fo.chain(fo.dp_aggregate(1.0, 1.0), fo.adamw())),
    Case(fo.dpsgd(0.1, 1.0, 1.0, momentum=0.9)),
    Case(fo.monitor()),
    # Distances, losses, and few second moments
    Case(fo.scale_by_dog()),
    Case(fo.dog(reps_rel=0.1, eps=1e-3, weight_decay=0.1)),
    Case(fo.ldog(weight_decay=0.1)),
    Case(fo.dowg()),
    Case(fo.scale_by_dowg(0.1, eps=1e-3)),
    Case(fo.cocob(weight_decay=0.1)),
    Case(fo.polyak_sgd(), extra=VALUE),
    Case(fo.scale_by_polyak(0.1, 0.2, eps=0.1, variant="sps+"), extra=VALUE),
    Case(fo.momo(), extra=VALUE),
    Case(fo.momo(0.1, weight_decay=0.1, adapt_lower_bound=True), extra=VALUE),
    Case(fo.momo_adam(eps=1e-3), extra=VALUE),
    Case(fo.momo_adam(0.1, eps=0.1, weight_decay=0.1, adapt_lower_bound=True), extra=VALUE),
    Case(fo.novograd(weight_decay=0.1)),
    Case(fo.scale_by_novograd((0.95, 0.98), eps=1e-3, grad_averaging=True)),
    Case(fo.madgrad(weight_decay=0.1)),
    Case(fo.acprop(eps=1e-3, weight_decay=0.1)),
    Case(fo.qhm(weight_decay=0.1)),
    Case(fo.qhadam(nus=(0.7, 0.8), eps=1e-3, weight_decay=0.1, decoupled_weight_decay=True)),
    Case(fo.adamp(eps=1e-3, weight_decay=0.1, delta=2.0)),
    Case(fo.adamp(eps=1e-3, weight_decay=0.1, delta=0.5, nesterov=True)),
    Case(fo.sgdp(momentum=0.9, weight_decay=0.1, delta=2.0)),
    Case(fo.sgdp(momentum=0.9, dampening=0.1, delta=0.5, nesterov=True)),
    Case(fo.adabound(eps=1e-3, weight_decay=0.1, gamma=0.5)),
    Case(fo.adabound(0.1, amsgrad=True, eps=1e-3, base_lr=0.2)),
    Case(fo.diffgrad(eps=1e-3, weight_decay=0.1)),
    Case(fo.padam(eps=1e-3, weight_decay=0.1)),
    Case(fo.padam(partial=0.125, eps=1e-3, amsgrad=False)),
    Case(fo.grams(eps=1e-3, weight_decay=0.1)),
    Case(fo.scale_by_ano(eps=1e-3)),
    Case(fo.ano(0.1, eps=1e-3, weight_decay=0.1)),
    Case(fo.adamod(betas=(0.9, 0.99, 0.5), eps=1e-3, weight_decay=0.1)),
    Case(fo.aggmo(weight_decay=0.1)),
    Case(fo.tiger()),
    Case(fo.simplified_ademamix(alpha=0.5, weight_decay=0.1)),
    Case(fo.optimistic_gradient_descent(alpha=0.8)),
    Case(fo.optimistic_adam(eps=1e-3)),
    Case(fo.fromage()),
    Case(fo.sm3(weight_decay=0.1)),
    Case(fo.scale_by_sm3(0.5, beta2=0.9, eps=1e-3)),
    Case(fo.came(eps=(1e-3, 1e-16), weight_decay=0.1)),
    Case(fo.adam_mini(labels="row", weight_decay=0.1)),
    Case(fo.adam_mini(eps=1e-3)),
    Case(fo.t5_adafactor(eps=(1e-3, 1e-3), weight_decay=0.1)),
    Case(fo.t5_adafactor(eps=(1e-3, 1e-3), beta1=0.9, weight_decay=0.1, warmup_init=True)),
    Case(fo.scale_by_relative_size(0.1, scale_parameter=False, relative_step=False)),
    Case(fo.rowwise_adagrad(eps=1e-3)),
    Case(fo.lazy_adam(eps=1e-3)),
    Case(fo.schedule_free_radam(0.1, (0.9, 0.5), weight_decay=0.1)),
    Case(fo.clip_by_zscore()),
    Case(fo.chain(fo.clip_by_zscore(0.1, max_norm=None, warmup=1, option="mean"), fo.adamw())),
    Case(fo.clip_by_zscore(0.1, warmup=1)),
    Case(fo.chain(fo.remove_radial_gradient(), fo.sgd(0.1))),
    Case(fo.chain()),
    Case(fo.chain(fo.scale(2.0), fo.from_functions(double, doubled), fo.trace(0.9))),
    Case(fo.sgd(0.1, momentum=0.9)),
    Case(fo.adam(weight_decay=0.1)),
    Case(fo.adamw()),
    Case(fo.rmsprop(momentum=0.9)),
    Case(fo.rmsprop_tf(momentum=0.9)),
    Case(fo.grokfast_adamw(0.01, weight_decay=0.1)),
    Case(fo.grokadamw(eps=1e-3)),
    Case(fo.grokadamw(0.01, weight_decay=0.1, alpha=0.8, gradient_clipping=None)),
    Case(fo.galore_adamw(0.01, rank=1, update_gap=2), differentiable=False),
    Case(fo.galore_adafactor(0.01, rank=1, update_gap=2), differentiable=False),
    Case(fo.apollo_adamw(0.01, rank=1, update_gap=2, scale_by_tensor=True)),
    Case(fo.fira_adamw(0.01, rank=1, update_gap=2), differentiable=False),
    Case(fo.adagrad()),
    Case(fo.adadelta()),
    Case(
        fo.chain(
            fo.clip_by_global_norm(1.0),
            fo.scale_by_adam(),
            fo.add_decayed_weights(fo.constant_schedule(0.01)),
            fo.scale_by_learning_rate(fo.warmup_cosine_decay_schedule(0.01, 0.1, 2, 10)),
        )
    ),
    Case(fo.chain(fo.sgd(0.1), fo.ema_of_params(0.9))),
    Case(fo.ema_of_params(state_dtype=torch.float32), differentiable=False),
    Case(fo.chain(fo.sgd(0.1), fo.ema_of_params(0.9, name="slow", sync_every=2))),
    Case(fo.schedule_free_sgd(0.1, weight_decay=0.1, warmup_steps=2)),
    Case(fo.schedule_free_adamw(0.1, r=0.5, store_average=True)),
    Case(fo.schedule_free_adamw(0.1, inner_momentum=0.9)),
    Case(
        fo.schedule_free(
            fo.chain(fo.scale_by_adam((0.1, 0.9)), fo.add_decayed_weights(0.01), fo.scale(-0.1)),
            fo.linear_schedule(0.0, 1.0, 2),
            fo.constant_schedule(0.8),
        )
    ),
    Case(fo.primal_averaging(state_dtype=torch.float32), differentiable=False),
    Case(fo.cautious(fo.scale_by_adam())),
    Case(fo.cautious(fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(0.1, momentum=0.9)), floor=0.5)),
    Case(fo.chain(fo.scale_by_lion(), fo.cautious(fo.chain(fo.trace(0.9), fo.clip(1.0))))),
    Case(fo.graft(fo.trace(0.9), fo.scale_by_adam(eps=1e-3))),
    Case(fo.graft(fo.trace(0.9), fo.scale_by_adam(eps=1e-3), start=2)),
    Case(fo.graft(fo.clip_by_global_norm(0.5), fo.sgd(0.1, momentum=0.9), "tree", 1e-3)),
    Case(fo.low_rank(fo.scale_by_adam(eps=1e-3), 1, 2), differentiable=False),
    Case(fo.low_rank(fo.trace(0.9), 1, 3, 0.5, projection="random", dim="larger", seed=3)),
    Case(fo.low_rank(fo.trace(0.9), 1, 2, projection="random", restore="channel")),
    Case(fo.low_rank(fo.trace(0.9), 1, 2, 0.5, projection="random", residual=True)),
    Case(
        fo.low_rank(fo.chain(fo.clip_by_global_norm(1.0), fo.scale_by_adam()), 1, restore="tensor"),
        differentiable=False,
    ),
    Case(fo.limit_norm_growth()),
    Case(fo.limit_norm_growth(1.5)),
    Case(fo.scale_by_sophia()),
    Case(fo.sophia(0.1, eps=0.5, weight_decay=0.1, debias=False)),
    Case(fo.weighted_sum((fo.identity(), fo.trace(0.9, dampening=0.9)), (1.0, 2.0))),
    Case(
        fo.weighted_sum(
            (fo.skip_if(fo.scale_by_adam()), fo.graft(fo.centralize(), fo.ema(0.9))),
            (fo.linear_schedule(1.0, 0.5, 2), -0.5),
        )
    ),
    Case(fo.add_mars_correction()),
    Case(fo.add_mars_correction(0.9, gamma=0.5, max_norm=1e3)),
    Case(fo.add_mars_correction(state_dtype=torch.float32), differentiable=False),
    Case(fo.mars(weight_decay=0.1)),
    Case(
        fo.skip_if(
            fo.chain(
                fo.cautious(fo.chain(fo.clip_by_global_norm(1.0), fo.scale_by_adam())),
                fo.add_decayed_weights(0.1),
                fo.scale_by_learning_rate(fo.linear_schedule(0.1, 0.05, 2)),
            )
        )
    ),
    Case(fo.masked(fo.add_decayed_weights(0.1), is_matrix)),
    Case(fo.masked(fo.scale_by_adam(), r"")),
    Case(fo.masked(fo.clip_by_global_norm(1.0), True)),
    Case(fo.freeze()),
    Case(fo.chain(fo.sgd(0.1), fo.freeze(is_matrix))),
    Case(
        fo.partition(
            {"matrix": fo.chain(fo.clip_by_global_norm(1.0), fo.trace(0.9)), "rest": fo.adam()},
            by_dimension,
        )
    ),
    Case(fo.scale_by_soap(precondition_frequency=1, precondition_1d=True)),
    Case(fo.scale_by_soap(shampoo_beta=0.8, correct_bias=False, max_precond_dim=2)),
    Case(fo.soap(merge_dims=True, normalize_grads=True, precondition_frequency=1)),
    Case(fo.scale_by_soap(eps=1e-2, precondition_frequency=2, correction="kl")),
    Case(fo.soap(block_size=2, precondition_frequency=1, merge_dims=True)),
    Case(fo.scale_by_shampoo()),
    Case(
        fo.scale_by_shampoo(
            0.9, beta1=0.8, block_size=2, precondition_1d=True, start_preconditioning_step=2
        )
    ),
    Case(fo.scale_by_shampoo(0.9, precondition_1d=True, graft=True, merge_dims=True)),
    Case(fo.shampoo(momentum=0.9, precondition_frequency=2, max_precond_dim=2)),
    Case(
        fo.distributed_shampoo(eps=1e-2, weight_decay=0.1, block_size=2, precondition_frequency=2)
    ),
    Case(fo.scale_by_kron()),
    Case(fo.scale_by_kron(0.5, 0.6, memory_save_mode="one_diag", balance_every=1)),
    Case(fo.scale_by_kron(min_ndim_triangular=1, momentum_into_precond_update=False)),
    Case(fo.kron(0.1, weight_decay=0.1, max_size_triangular=2, memory_save_mode="smart_one_diag")),
    Case(fo.muon(0.1, ns_dtype=None)),
    Case(fo.muon(nesterov=False, adjust_lr_fn="match_rms_adamw", dims="batch", ns_dtype=None)),
    Case(fo.masked(fo.scale_by_muon(dims="flatten", ns_dtype=None, ns_steps=2), is_matrix)),
    Case(
        fo.masked(
            fo.chain(
                fo.orthogonalize(
                    "polar_express",
                    ns_steps=2,
                    adjust_lr_fn="rms_to_rms",
                    ns_dtype=None,
                    normalization="add",
                    safety_factor=1.02,
                ),
                fo.orthogonalize(
                    ((2.0, -1.5, 0.5), (1.5, -0.5, 0.0)),
                    ns_dtype=None,
                    normalization="schatten4",
                    block_sizes=1,
                    ns_method="gram",
                ),
                fo.orthogonalize(ns_steps=2, ns_dtype=None, normalization="aol", dims="batch"),
            ),
            is_matrix,
        )
    ),
    *(
        Case(fo.masked(fo.chain(fo.orthogonalize(ns_dtype=None, ns_steps=2), tx), is_matrix))
        for tx in (
            fo.scale_by_normuon(moment_eps=1e-3),
            fo.scale_by_normuon(0.8, 1e-3, "longer_side", match_rms_adamw=True),
            fo.scale_by_normuon(moment_eps=1e-3, per="entry", dims="flatten"),
        )
    ),
    Case(fo.normuon(weight_decay=0.1, moment_eps=1e-3, ns_dtype=None)),
    Case(fo.adamuon(moment_eps=1e-3, ns_dtype=None)),
    Case(fo.namo(moment_eps=1e-3, ns_dtype=None)),
    Case(fo.scale_by_lmo(eps=1e-3)),
    *(
        Case(fo.masked(fo.scale_by_lmo(norm, 1e-3), is_matrix))
        for norm in ("sign", "rms", "column", "row", "embedding")
    ),
    Case(fo.scion(0.1, ns_dtype=None)),
    Case(
        fo.masked(
            fo.chain(
                fo.scale_by_namo(
                    moment_eps=1e-3, nesterov=False, correct_bias=False, dims="flatten"
                ),
                fo.orthogonalize(ns_dtype=None, ns_steps=2, magnitude="nuclear"),
            ),
            is_matrix,
        )
    ),
    Case(fo.partition({"all": fo.sgd(0.1, momentum=0.9), "none": fo.freeze()}, [(r"", "all")])),
    Case(fo.partition({"all": fo.rmsprop(), "none": fo.chain()}, "all")),
    Case(
        fo.scheduled(
            fo.adamw(), betas=(fo.linear_schedule(0.8, 0.9, 2), 0.99), lr=fo.constant_schedule(0.1)
        )
    ),
    Case(fo.accumulate(fo.scale(-0.1), 1)),
    Case(fo.accumulate(fo.adamw(fo.linear_schedule(0.1, 0.05, 2)), 2)),
    Case(fo.accumulate(fo.chain(fo.clip_by_global_norm(1.0), fo.trace(0.9)), 2, mean=False)),
    Case(
        fo.accumulate(fo.sgd(0.1, momentum=0.9), fo.piecewise_constant_schedule(1.0, (1,), (2.0,)))
    ),
    Case(fo.lookahead(fo.adamw(fo.linear_schedule(0.1, 0.05, 2)), 2)),
    Case(fo.lookahead(fo.chain(fo.clip_by_global_norm(1.0), fo.nadam()), 2, reset=True)),
    Case(fo.lookahead(fo.adam(), 2, 0.7, slow_momentum=0.9)),
    Case(fo.lookahead(fo.sgd(0.1), 1, fo.constant_schedule(0.8))),
    Case(fo.quantized(fo.adam())),
    *(
        Case(fo.rounded(fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(0.1)), how))
        for how in ("nearest", "kahan", "master")
    ),
    Case(fo.skip_if(fo.sgd(0.1, momentum=0.9))),
    Case(
        fo.skip_if(fo.adamw(fo.linear_schedule(0.1, 0.05, 2)), fo.norm_outlier(2.0, 0.9, warmup=1))
    ),
    Case(
        fo.skip_if(
            fo.accumulate(
                fo.partition({"matrix": fo.adam(), "rest": fo.sgd(0.1)}, by_dimension), 2
            ),
            fo.norm_outlier(),
        )
    ),
    Case(fo.sam(fo.sgd(0.1, momentum=0.9)), extra=BOWL),
    Case(fo.sam(fo.adam(), 0.1, adaptive=is_matrix), extra=BOWL),
    Case(
        fo.sam(fo.accumulate(fo.sgd(fo.linear_schedule(0.1, 0.05, 2)), 2), adaptive=True),
        extra=BOWL,
    ),
    Case(fo.skip_if(fo.sam(fo.skip_if(fo.sgd(0.1)), fo.linear_schedule(0.1, 0.05, 2))), extra=BOWL),
    Case(
        fo.lbfgs(max_iter=2, max_eval=1, history_size=2, line_search=fo.strong_wolfe()), extra=BOWL
    ),
    Case(fo.lbfgs(0.5, max_iter=2, history_size=2), extra=BOWL),
    Case(fo.lbfgs(0.1, max_iter=1, history_size=2)),
    Case(fo.newton_cg(max_cg_iter=2, line_search=fo.backtracking(max_steps=2)), extra=BOWL),
    Case(fo.newton_cg(0.5, max_cg_iter=2, line_search=None), extra=BOWL),
    Case(fo.line_search(fo.sgd(2.0), fo.backtracking(max_steps=3)), extra=BOWL),
    Case(
        fo.line_search(
            fo.partition({"matrix": fo.sgd(0.5, momentum=0.5), "rest": fo.adam(0.1)}, by_dimension),
            fo.strong_wolfe(max_steps=2),
            fo.linear_schedule(2.0, 1.0, 2),
            4.0,
        ),
        extra=BOWL,
    ),
    Case(
        fo.partition({"matrix": fo.sam(fo.sgd(0.1)), "rest": fo.adam()}, by_dimension), extra=BOWL
    ),
]


IN_FEWER_BITS = [
    *(Case(fo.rounded(fo.adamw(0.1), how)) for how in ("stochastic", "remainder8", "remainder")),
    Case(fo.quantized(fo.adamw(0.1), min_size=0), differentiable=False),
    Case(fo.quantized(fo.lion(0.1), "4bit", min_size=0), differentiable=False),
    Case(
        fo.masked(
            fo.quantized(
                fo.scale_by_muon(dims="flatten", ns_dtype=None, ns_steps=2), "fp8", min_size=0
            ),
            is_matrix,
        ),
        differentiable=False,
    ),
    Case(fo.quantized(fo.adamw(0.1), "bf16+8", {"exp_avg_sq": "bf16"}, 0), differentiable=False),
]
"""Whole numbers beside parameters, and codes; `test_storage` has the kernels for these."""


class Layer(NamedTuple):
    weight: torch.Tensor
    bias: torch.Tensor


def _numbers(*shape):
    count = torch.Size(shape).numel()
    return torch.linspace(-1.0, 1.3, count).reshape(shape) if count > 1 else torch.full(shape, 0.7)


PARAMS = {
    "a nested tree": {
        "layers": [Layer(_numbers(3, 2), _numbers(2)), Layer(_numbers(2, 1), _numbers(1))],
        "gain": _numbers(),
        "nothing": {},
    },
    "a bare 0-d tensor": _numbers(),
    "a bare matrix": _numbers(2, 3),
    "an empty tensor beside others": (_numbers(0, 3), _numbers(3)),
    "mixed dtypes": {"wide": _numbers(3).double(), "narrow": _numbers(2, 2)},
}
