"""Optax's names: data. A value that begins with code is what to write; others say what there is."""

import re

_LOSS = "losses are functions of PyTorch, in `torch.nn.functional`"
_PROJECTION = (
    "stages, the last of a chain: `fo.project_onto_box(lower, upper)`, "
    "`fo.project_onto_l2_ball(radius)`, `fo.project_onto_simplex(total)`"
)
_NONE = "no counterpart"
_TREE = "trees of tensors are mapped by `fo.tree.map`, with functions of torch"
_MOMENT = "no counterpart: a rule computes this for one tensor, such as by `torch.lerp`"
_SAFE = "`fo.safe_sqrt(x)` of a sum of squares, whose derivative at 0 is 0"


def _all(names: str, text: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), text)


NAMES = {
    # aliases
    "optimistic_adam_v2": "`fo.optimistic_adam(lr)`",
    "additive_weight_decay": "`fo.add_decayed_weights(weight_decay)`",
    # stages
    "scale_by_schedule": "`fo.scale(schedule)`: any hyperparameter takes a schedule",
    "scale_by_amsgrad": "`fo.scale_by_adam(amsgrad=True)`, computed as in torch",
    "scale_by_rss": "`fo.scale_by_adagrad(initial_accumulator_value=0.1, eps=1e-7, "
    "eps_in_sqrt=True)`",
    "scale_by_stddev": "`fo.scale_by_rms(0.9, centered=True, eps_in_sqrt=True)`",
    "scale_by_lbfgs": "`fo.lbfgs(lr)`, with its line search",
    "scale_by_backtracking_linesearch": "`fo.line_search(tx, fo.backtracking())`, around a chain",
    "scale_by_zoom_linesearch": "`fo.line_search(tx, fo.strong_wolfe())`, around a chain",
    "value_and_grad_from_state": "`fo.value_and_grad(value_fn)`",
    "scale_by_distance_over_gradients": "`fo.scale_by_ldog()`, or `fo.ldog()`",
    "apply_every": "`fo.accumulate(tx, steps, mean=False)`, around what follows it",
    "keep_params_nonnegative": "`fo.project_onto_box(lower=0.0)`, the last stage of a chain",
    "per_example_global_norm_clip": "`fo.dp_aggregate(max_norm, noise_multiplier=0.0)`, by example",
    "per_example_layer_norm_clip": f"{_NONE} by layer; by example there is "
    "`fo.dp_aggregate(max_norm, noise_multiplier=0.0)`",
    "stateless": "`fo.from_functions(init_fn, update_fn)`, or a `fo.TensorRule`",
    "stateless_with_tree_map": "`update_tensor` of a `fo.TensorRule`",
    # combinators
    "MultiSteps": "`fo.accumulate(tx, steps)`",
    "apply_if_finite": "`fo.skip_if(tx, fo.not_finite())`",
    "skip_not_finite": "`fo.skip_if(tx, fo.not_finite())`",
    "skip_large_updates": "`fo.skip_if(tx, fo.norm_outlier())`, by z-score instead of a bound",
    "inject_hyperparams": "nothing to inject: `fo.hyperparams(tx)` reads and "
    "`fo.with_hyperparams(tx, values)` sets those of any finished chain",
    "inject_stateful_hyperparams": "nothing to inject: see `fo.hyperparams` and "
    "`fo.with_hyperparams`; schedules see only the step",
    "multi_transform": "`fo.partition(transforms, labels)`",
    "selective_transform": "`fo.partition(transforms, labels)`, with `fo.set_to_zero()` for the "
    "frozen ones",
    "named_chain": "`fo.chain(*stages)`: stages are found by class, as in `fo.hyperparams(tx)`",
    "conditionally_transform": f"{_NONE}; the nearest is `fo.skip_if(tx, condition)`",
    "conditionally_mask": "`fo.scale(schedule)`, with a schedule that is 0 at times",
    "flatten": f"{_NONE}: kernels run over all tensors of a chain at once as it is",
    "LookaheadParams": "`fo.lookahead(tx)`, which takes the parameters; the slow ones are in its "
    "state: `fo.eval_params(tx, state, params)`",
    "snapshot": "`fo.monitor()`, or `metrics()` of a `fo.Optimizer`",
    "measure_with_ema": "`fo.monitor()`, which measures each step, without an average of it",
    "with_extra_args_support": "nothing to wrap: `update` of all takes extra arguments",
    "GradientTransformationExtraArgs": "`fo.GradientTransformation`: all take extra arguments",
    # schedules
    "cosine_onecycle_schedule": "`fo.one_cycle_schedule(peak_value, total_steps)`, torch's",
    "linear_onecycle_schedule": "`fo.one_cycle_schedule(peak_value, total_steps, "
    'anneal_strategy="linear")`',
    "sgdr_schedule": "`fo.cosine_restarts_schedule(init_value, first_decay_steps)`",
    "warmup_constant_schedule": "`fo.linear_schedule(init_value, peak_value, warmup_steps)`, which "
    "stays at its end",
    "warmup_exponential_decay_schedule": "`fo.join_schedules(schedules, boundaries)` of "
    "`fo.linear_schedule` and `fo.exponential_decay`",
    **_all(
        "WrappedSchedule StatefulSchedule", "schedules are functions of the step, `fo.Schedule`"
    ),
    # averages of parameters
    "incremental_update": "`fo.ema_of_params(decay)` at the end of a chain; `torch.lerp` for two "
    "tensors",
    "periodic_update": f"{_NONE}; the nearest is `fo.lookahead(tx)`",
    # contrib
    "contrib": "no such part: what there is stands in `fo` itself, such as `fo.muon`, `fo.prodigy`",
    "differentially_private_aggregate": "`fo.dp_aggregate(max_norm, noise_multiplier)`",
    "schedule_free_eval_params": "`fo.eval_params(tx, state, params)`",
    "split_real_and_imaginary": "nothing to wrap: complex entries are two reals in every stage",
    "normalize": f"{_NONE} by tensor; the nearest are `fo.normalize_by_update_norm()` and "
    "`fo.scale_by_sign()`; `fo.sam` normalizes by itself",
    "mechanize": f"{_NONE}; the nearest are `fo.prodigy()` and `fo.dadapt_adamw()`",
    "galore": "`fo.galore_adamw(lr)`",
    "scale_by_galore": "`fo.low_rank(tx, rank, update_gap)`",
    "hutchinson_estimator_diag_hessian": f"{_NONE}; use `torch.func.jvp` of `torch.func.grad`, and "
    "give it to `fo.sophia` as `hessian`",
    **_all(
        "MuonDimensionNumbers GaLoreDimensionNumbers",
        'layouts are torch\'s; `dims` of `fo.scale_by_muon` says "batch" or "flatten"',
    ),
    # trees and numbers
    **_all("tree_utils tree_map_params", _TREE),
    "global_norm": "`fo.tree.norm(updates)`",
    **_all("bias_correction update_moment update_infinity_moment", _MOMENT),
    "update_moment_per_elem_norm": _MOMENT,
    **_all("safe_increment safe_int32_increment", "steps are counted by the state itself"),
    **_all("safe_norm safe_root_mean_squares", _SAFE),
    "init_empty_state": "nothing to write: a stage without slots inherits its `init`",
    "scale_gradient": f"{_NONE}; use `tensor.register_hook`",
    "unitwise_norm": "it is part of `fo.adaptive_grad_clip(clipping)`",
    "unitwise_clip": "it is part of `fo.adaptive_grad_clip(clipping)`",
    "multi_normal": "`torch.distributions.Independent` of normals",
    "power_iteration": "`torch.linalg.eigvalsh`, or `torch.lobpcg`",
    "matrix_inverse_pth_root": "it is part of `fo.scale_by_shampoo()`",
    "nnls": f"{_NONE}; use `scipy.optimize.nnls`",
    # other parts
    **_all("losses", _LOSS),
    **_all("projections", _PROJECTION),
    **_all(
        "perturbations Gumbel Normal make_perturbed_fun",
        f"{_NONE}; gradients without differentiation are made by `fo.zero_order(fn)`",
    ),
    **_all(
        "assignment hungarian_algorithm base_hungarian_algorithm",
        f"{_NONE}; use `scipy.optimize.linear_sum_assignment`",
    ),
    **_all(
        "second_order hvp hessian_diag fisher_diag",
        f"{_NONE}; use `torch.func.hessian`, or `torch.func.jvp` of `torch.func.grad`",
    ),
    **_all("experimental aggregating", "`fo.dp_aggregate`, or `fo.accumulate`"),
    **_all(
        "microbatching microbatch micro_grad micro_vmap reshape_batch_axis Accumulator "
        "AccumulationType",
        "`fo.accumulate(tx, steps)` between steps; within one, `torch.func.vmap(fn, chunk_size=n)`",
    ),
    # types
    **_all("OptState", "`fo.State`"),
    "Params": "`fo.typing.Params`",
    "Updates": "`fo.typing.Updates`",
    "ArrayTree": "`fo.typing.Params`",
    "ScalarOrSchedule": "`fo.Scalar`",
    "MaskOrFn": "masks are trees, patterns or functions of (name, tensor): see `fo.masked`",
    "ConditionFn": "conditions are transformations, as `fo.not_finite` is",
    "ShouldSkipUpdateFunction": "conditions are transformations, as `fo.not_finite` is",
    **_all(
        "TransformInitFn TransformUpdateFn TransformUpdateExtraArgsFn",
        "it is the type of a function of `fo.from_functions(init_fn, update_fn)`",
    ),
    **_all(
        "MaskedNode NonNegativeParamsState ZoomLinesearchInfo ApplyEvery",
        "it is part of Optax's states; here they are `fo.State`, with named tuples of slots",
    ),
    # losses
    **_all(
        "convex_kl_divergence cosine_distance cosine_similarity ctc_loss "
        "ctc_loss_with_forward_probs "
        "generalized_kl_divergence hinge_loss huber_loss kl_divergence l2_loss log_cosh ntxent "
        "kl_divergence_with_log_targets poly_loss_cross_entropy safe_softmax_cross_entropy "
        "sigmoid_binary_cross_entropy sigmoid_focal_loss smooth_labels softmax_cross_entropy "
        "softmax_cross_entropy_with_integer_labels squared_error binary_dice_loss dice_loss "
        "multiclass_generalized_dice_loss multiclass_hinge_loss multiclass_perceptron_loss "
        "multiclass_sparsemax_loss perceptron_loss ranking_softmax_loss sparsemax_loss "
        "triplet_margin_loss make_fenchel_young_loss",
        _LOSS,
    ),
}

PATTERNS = (
    (re.compile(r"projection_\w+"), _PROJECTION),
    (re.compile(r"tree_\w+"), _TREE),
    (
        re.compile(r"[A-Z]\w+State"),
        "it is the state of a stage; here all are `fo.State`, with named tuples of slots",
    ),
)

TREE_NAMES = {
    "add": "`fo.tree.map(torch.add, a, b)`",
    "sub": "`fo.tree.map(torch.sub, a, b)`",
    "mul": "`fo.tree.map(torch.mul, a, b)`",
    "div": "`fo.tree.map(torch.div, a, b)`",
    "scale": "`fo.tree.map(lambda x: scalar * x, tree)`",
    "add_scale": "`fo.tree.map(lambda x, y: x + scalar * y, a, b)`",
    "where": "`fo.tree.map(lambda x, y: torch.where(flag, x, y), a, b)`, or `fo.select`",
    "vdot": "`fo.tree.dot(a, b)`",
    "sum": "`sum(x.sum() for x in fo.tree.leaves(tree))`",
    "size": "`sum(x.numel() for x in fo.tree.leaves(tree))`",
    "max": "`max(x.max() for x in fo.tree.leaves(tree))`",
    "min": "`min(x.min() for x in fo.tree.leaves(tree))`",
    "clip": "`fo.tree.map(lambda x: x.clamp(low, high), tree)`",
    "conj": "`fo.tree.map(torch.conj, tree)`",
    "real": "`fo.tree.map(torch.real, tree)`",
    "ones_like": "`fo.tree.map(torch.ones_like, tree)`",
    "full_like": "`fo.tree.map(lambda x: torch.full_like(x, value), tree)`",
    "random_like": "`fo.tree.map(torch.randn_like, tree)`",
    "cast_like": "`fo.tree.map(lambda x, y: x.to(y.dtype), a, b)`",
    "allclose": "`all(map(torch.allclose, fo.tree.leaves(a), fo.tree.leaves(b)))`",
    "get": "`fo.state_dict(state)`, by path; in an optimizer `opt.state[p]`",
    "get_all_with_path": "`fo.state_dict(state)`, by path",
    "set": "`fo.load_state_dict(state, loaded)`, by path",
    "map_params": "`slots` of a `fo.State`, which has the structure of the parameters",
    "dtype": "`fo.tree.leaves(tree)[0].dtype`",
    "batch_shape": "`fo.tree.map(lambda x: x.expand(n, *x.shape), tree)`",
    "split_key_like": "transformations have seeds: random numbers are counted, by name",
    "unwrap_random_key_data": "transformations have seeds, which are numbers",
    **_all("bias_correction update_moment update_infinity_moment", _MOMENT),
    "update_moment_per_elem_norm": _MOMENT,
}
"""Of `optax.tree`."""
