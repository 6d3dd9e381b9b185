"""What is compared with Optax, and how far apart: ``python -m tests.parity`` prints the table."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
import optax
import torch

import funcopt as fo

SHAPES = [(), (1,), (7,), (5, 3), (2, 3, 4)]
STEPS = 200
SHARE = -0.01  # of the updates, by which the parameters move


def slower(count):
    """A schedule in plain arithmetic: Optax's own compute in float32."""
    return 1.0 / (1.0 + 0.1 * count)


def with_all_digits(count, power):
    """Adafactor's decay, for the same reason."""
    return 1.0 - (count + 1.0) ** -power


class Row(NamedTuple):
    """A transformation, and the expression that makes its equal in Optax."""

    ours: fo.GradientTransformation
    theirs: str
    shapes: Sequence[tuple[int, ...]] = SHAPES

    def __str__(self):
        return self.theirs


WITHOUT_SCALARS = SHAPES[1:]
"""For what fails in Optax for 0-d tensors."""

NAMES = {"slower": slower, "with_all_digits": with_all_digits}
"""What expressions may use besides those of Optax."""

ROWS = [
    # Plain arithmetic
    Row(fo.identity(), "identity()"),
    Row(fo.scale(-0.3), "scale(-0.3)"),
    Row(fo.scale_by_sign(), "scale_by_sign()"),
    Row(fo.scale_by_learning_rate(0.1), "scale_by_learning_rate(0.1)"),
    Row(
        fo.rmsprop_tf(0.1, 0.9, 1e-6, momentum=0.9),
        "rmsprop(0.1, 0.9, 1e-6, initial_scale=1.0, momentum=0.9)",
    ),
    Row(
        fo.rmsprop_tf(slower, centered=True),
        "rmsprop(slower, 0.9, 1e-10, initial_scale=1.0, centered=True)",
    ),
    Row(
        fo.scale_by_learning_rate(0.1, flip_sign=False),
        "scale_by_learning_rate(0.1, flip_sign=False)",
    ),
    Row(
        fo.scale_by_learning_rate(slower),
        "scale_by_learning_rate(slower)",
    ),
    Row(
        fo.scale(slower),
        "scale_by_schedule(slower)",
    ),
    Row(fo.add_decayed_weights(0.1), "add_decayed_weights(0.1)"),
    Row(
        fo.add_decayed_weights(slower),
        "add_decayed_weights(slower)",
    ),
    Row(fo.clip(0.5), "clip(0.5)"),
    Row(fo.clip_by_global_norm(1.0, eps=0.0), "clip_by_global_norm(1.0)"),
    Row(fo.clip_by_global_norm(1e3, eps=0.0), "clip_by_global_norm(1e3)"),
    Row(fo.normalize_by_update_norm(), "normalize_by_update_norm()"),
    Row(fo.normalize_by_update_norm(0.3, eps=1e-2), "normalize_by_update_norm(0.3, 1e-2)"),
    Row(fo.zero_nans(), "zero_nans()"),
    # Sums and means
    Row(fo.trace(0.9), "trace(0.9)"),
    Row(fo.trace(0.9, nesterov=True), "trace(0.9, nesterov=True)"),
    Row(fo.ema(0.9), "ema(0.9)"),
    Row(fo.ema(0.9, debias=False), "ema(0.9, debias=False)"),
    # Adam
    Row(fo.scale_by_adamax(), "scale_by_adamax()"),
    Row(fo.scale_by_radam(eps=0.0), "scale_by_radam(eps=0.0)"),
    Row(fo.scale_by_lion(), "scale_by_lion()"),
    Row(fo.lion(0.01, weight_decay=0.1), "lion(0.01, weight_decay=0.1)"),
    Row(fo.scale_by_adam(), "scale_by_adam()"),
    Row(fo.scale_by_adam((0.8, 0.95), eps=1e-3), "scale_by_adam(0.8, 0.95, eps=1e-3)"),
    Row(fo.scale_by_adam(eps_root=1e-2), "scale_by_adam(eps_root=1e-2)"),
    Row(fo.scale_by_adam(nesterov=True), "scale_by_adam(nesterov=True)"),
    Row(fo.scale_by_belief(), "scale_by_belief()"),
    Row(
        fo.scale_by_belief((0.8, 0.95), eps=1e-3, eps_root=1e-4),
        "scale_by_belief(0.8, 0.95, eps=1e-3, eps_root=1e-4)",
    ),
    Row(fo.adabelief(0.01), "adabelief(0.01)"),
    Row(fo.scale_by_yogi(), "scale_by_yogi()"),
    Row(
        fo.scale_by_yogi((0.8, 0.95), eps=1e-2, eps_root=1e-4, initial_accumulator_value=0.1),
        "scale_by_yogi(0.8, 0.95, 1e-2, 1e-4, 0.1)",
    ),
    Row(fo.yogi(0.01), "yogi(0.01)"),
    Row(fo.centralize(), "centralize()"),
    Row(fo.scale_by_ademamix(alpha=6.0), "contrib.scale_by_ademamix()"),
    Row(
        fo.scale_by_ademamix((0.8, 0.95, slower), alpha=slower, eps=1e-3),
        "contrib.scale_by_ademamix(0.8, 0.95, slower, slower, eps=1e-3)",
    ),
    Row(fo.ademamix(0.01, alpha=5.0), "contrib.ademamix(0.01)"),
    Row(fo.scale_by_adopt(), "contrib.scale_by_adopt()"),
    Row(
        fo.scale_by_adopt((0.8, 0.95), eps=1e-3, clip_exp=None),
        "contrib.scale_by_adopt(0.8, 0.95, 1e-3, use_clipping=False)",
    ),
    Row(fo.adopt(0.01), "contrib.adopt(0.01)"),
    # Optax has 1 - b2 where the authors have b2.
    Row(fo.scale_by_adan((0.98, 0.5, 0.99)), "scale_by_adan(b2=0.5)"),
    # Other adaptive scalings
    Row(
        fo.scale_by_adagrad(initial_accumulator_value=0.1, eps=1e-7, eps_in_sqrt=True),
        "scale_by_rss()",
    ),
    Row(
        fo.scale_by_adagrad(eps=1e-3, eps_in_sqrt=True),
        "scale_by_rss(initial_accumulator_value=0.0, eps=1e-3)",
    ),
    Row(fo.scale_by_rms(0.9, eps_in_sqrt=True), "scale_by_rms()"),
    Row(fo.scale_by_rms(0.99, eps=1e-3), "scale_by_rms(0.99, eps=1e-3, eps_in_sqrt=False)"),
    Row(
        fo.scale_by_rms(0.9, initial_scale=1.0, eps_in_sqrt=True), "scale_by_rms(initial_scale=1.0)"
    ),
    Row(
        fo.scale_by_rms(0.9, eps=1e-3, centered=True, eps_in_sqrt=True),
        "scale_by_stddev(eps=1e-3)",
    ),
    Row(
        fo.scale_by_rms(0.9, eps=1e-3, centered=True),
        "scale_by_stddev(eps=1e-3, eps_in_sqrt=False)",
    ),
    Row(fo.scale_by_adadelta(), "scale_by_adadelta()"),
    Row(fo.scale_by_adadelta(0.6, eps=1e-3), "scale_by_adadelta(0.6, eps=1e-3)"),
    # One distance for all tensors
    Row(fo.scale_by_prodigy(use_bias_correction=True), "chain(contrib.prodigy(), scale(-1.0))"),
    Row(
        fo.scale_by_prodigy(
            0.5,
            beta3=0.9,
            weight_decay=0.1,
            d0=1e-3,
            d_coef=2.0,
            use_bias_correction=True,
            safeguard_warmup=True,
        ),
        "chain(contrib.prodigy(0.5, beta3=0.9, weight_decay=0.1, estim_lr0=1e-3, "
        "estim_lr_coef=2.0, safeguard_warmup=True), scale(-1.0))",
    ),
    Row(
        fo.scale_by_dadapt_adam(use_bias_correction=True),
        "chain(contrib.dadapt_adamw(), scale(-1.0))",
    ),
    Row(
        fo.scale_by_dadapt_adam(0.5, weight_decay=0.1, d0=1e-3, use_bias_correction=True),
        "chain(contrib.dadapt_adamw(0.5, weight_decay=0.1, estim_lr0=1e-3), scale(-1.0))",
    ),
    # Norms of one tensor
    Row(fo.clip_by_block_rms(0.7), "clip_by_block_rms(0.7)"),
    Row(fo.scale_by_param_block_norm(), "scale_by_param_block_norm()"),
    Row(fo.scale_by_param_block_rms(0.1), "scale_by_param_block_rms(0.1)"),
    Row(fo.scale_by_trust_ratio(), "scale_by_trust_ratio()"),
    Row(
        fo.scale_by_trust_ratio(1.0, trust_coefficient=0.1, eps=1e-3),
        "scale_by_trust_ratio(1.0, 0.1, 1e-3)",
    ),
    Row(fo.lamb(0.01), "lamb(0.01)"),
    Row(
        fo.lamb(0.01, (0.8, 0.99), eps=1e-3, weight_decay=0.1),
        "lamb(0.01, 0.8, 0.99, eps=1e-3, weight_decay=0.1)",
    ),
    Row(fo.lars(0.1), "lars(0.1)"),
    Row(
        fo.lars(0.1, 0.8, weight_decay=0.1, trust_coefficient=0.01, eps=1e-3, nesterov=True),
        "lars(0.1, 0.1, trust_coefficient=0.01, eps=1e-3, momentum=0.8, nesterov=True)",
    ),
    Row(
        fo.scale_by_factored_rms(eps=1e-30, add_eps=True, min_dim_size_to_factor=3),
        "scale_by_factored_rms(True, 0.8, 0, 3, 1e-30, with_all_digits)",
    ),
    Row(
        fo.scale_by_factored_rms(-0.6, eps=1e-3, add_eps=True, min_dim_size_to_factor=128),
        "scale_by_factored_rms(True, 0.6, 0, 128, 1e-3, with_all_digits)",
    ),
    Row(
        fo.chain(
            fo.scale_by_factored_rms(eps=1e-30, add_eps=True, min_dim_size_to_factor=2),
            fo.clip_by_block_rms(1.0),
            fo.scale_by_learning_rate(0.05, flip_sign=False),
            fo.scale_by_param_block_rms(),
            fo.ema(0.9, debias=False),
            fo.add_decayed_weights(0.01),
            fo.scale(-1.0),
        ),
        "chain(scale_by_factored_rms(True, 0.8, 0, 2, 1e-30, with_all_digits), "
        "clip_by_block_rms(1.0), scale_by_learning_rate(0.05, flip_sign=False), "
        "scale_by_param_block_rms(), ema(0.9, debias=False), add_decayed_weights(0.01), "
        "scale(-1.0))",
    ),
    # Chains
    Row(
        fo.chain(
            fo.clip_by_global_norm(1.0, eps=0.0),
            fo.scale_by_adam(),
            fo.add_decayed_weights(0.1),
            fo.scale(-0.01),
        ),
        "chain(clip_by_global_norm(1.0), scale_by_adam(), add_decayed_weights(0.1), scale(-0.01))",
    ),
    Row(
        fo.chain(fo.add_decayed_weights(0.1), fo.trace(0.9), fo.scale_by_learning_rate(0.1)),
        "chain(add_decayed_weights(0.1), sgd(0.1, momentum=0.9))",
    ),
    Row(fo.adamw(0.01, weight_decay=0.1), "adamw(0.01, weight_decay=0.1)"),
    Row(fo.nadamw(0.01), "nadamw(0.01)"),
    Row(fo.adamaxw(0.01, weight_decay=0.1), "adamaxw(0.01, weight_decay=0.1)"),
    Row(fo.signum(0.01), "signum(0.01)"),
    Row(fo.sign_sgd(0.01), "sign_sgd(0.01)"),
    # Methods of Optax alone
    Row(fo.novograd(0.01), "novograd(0.01)"),
    Row(
        fo.novograd(slower, (0.8, 0.9), eps=1e-3, weight_decay=0.1),
        "novograd(slower, 0.8, 0.9, 1e-3, weight_decay=0.1)",
    ),
    Row(fo.scale_by_novograd(weight_decay=0.1), "scale_by_novograd(weight_decay=0.1)"),
    Row(fo.sm3(0.1), "sm3(0.1)", WITHOUT_SCALARS),
    Row(fo.scale_by_sm3(0.5, beta2=0.9, eps=1e-3), "scale_by_sm3(0.5, 0.9, 1e-3)", WITHOUT_SCALARS),
    Row(fo.optimistic_gradient_descent(0.1), "optimistic_gradient_descent(0.1)"),
    Row(
        fo.optimistic_gradient_descent(slower, 0.8, 0.3),
        "optimistic_gradient_descent(slower, 0.8, 0.3)",
    ),
    Row(fo.optimistic_adam(0.01), "optimistic_adam_v2(0.01)"),
    Row(
        fo.optimistic_adam(0.01, (0.8, 0.95), 1e-3, 0.8, 0.3, nesterov=False),
        "optimistic_adam_v2(0.01, alpha=0.8, beta=0.3, b1=0.8, b2=0.95, eps=1e-3, nesterov=False)",
    ),
    Row(fo.fromage(0.1), "fromage(0.1)"),
    Row(fo.fromage(0.5, min_norm=0.1), "fromage(0.5, 0.1)"),
    Row(
        fo.ldog(0.5),
        "chain(scale_by_distance_over_gradients(param_dtype=None), scale(-0.5))",
        WITHOUT_SCALARS,
    ),
    Row(
        fo.scale_by_ldog(1e-2, eps=1e-3),
        "scale_by_distance_over_gradients(1e-2, 1e-3, param_dtype=None)",
        WITHOUT_SCALARS,
    ),
    Row(fo.dog(), "contrib.dog()"),
    Row(
        fo.dog(slower, 1e-2, eps=1e-3, weight_decay=0.1),
        "contrib.dog(slower, ('heuristic', 1e-2), 1e-3, 0.1)",
    ),
    Row(fo.dowg(), "contrib.dowg()"),
    Row(fo.dowg(slower, 0.1, 1e-3, 0.1), "contrib.dowg(slower, 0.1**2, 1e-3, 0.1)"),
    Row(fo.cocob(), "contrib.cocob()"),
    Row(
        fo.cocob(slower, alpha=10.0, eps=1e-3, weight_decay=0.1),
        "contrib.cocob(slower, 10.0, 1e-3, 0.1)",
    ),
    Row(fo.acprop(0.01), "contrib.acprop(0.01)"),
    Row(
        fo.acprop(slower, (0.8, 0.95), 1e-3, 0.1, eps_root=1e-4),
        "contrib.acprop(slower, 0.8, 0.95, 1e-3, 1e-4, 0.1)",
    ),
    Row(fo.simplified_ademamix(0.01), "contrib.simplified_ademamix(0.01)"),
    Row(
        fo.simplified_ademamix(slower, (0.9, 0.8), 0.5, 1e-3, 0.1),
        "contrib.simplified_ademamix(slower, 0.9, 0.8, 0.5, 1e-3, weight_decay=0.1)",
    ),
    # Those that read the loss
    Row(fo.polyak_sgd(), "polyak_sgd()"),
    Row(
        fo.polyak_sgd(slower, 0.3, 0.2, 0.1, "sps+"),
        "chain(polyak_sgd(0.3, -1.0, 0.2, 0.1, 'sps+'), scale_by_learning_rate(slower))",
    ),
    Row(fo.momo(), "contrib.momo()"),
    Row(fo.momo(slower, 0.8, 0.5, 0.1, True), "contrib.momo(slower, 0.8, 0.5, 0.1, True)"),
    Row(fo.momo_adam(), "contrib.momo_adam()"),
    Row(
        fo.momo_adam(slower, (0.8, 0.95), 1e-3, 0.5, 0.1, True),
        "contrib.momo_adam(slower, 0.8, 0.95, 1e-3, 0.5, 0.1, True)",
    ),
    # Averages
    Row(fo.schedule_free(fo.sgd(0.1)), "contrib.schedule_free(sgd(0.1), 0.1)"),
    Row(
        fo.schedule_free(fo.adam(0.1, (0.0, 0.99)), momentum=0.8),
        "contrib.schedule_free(adam(0.1, b1=0.0, b2=0.99), 0.1, b1=0.8)",
    ),
]


def difference(row):
    """The largest one in any update or parameter, as a share of the largest entry in the run."""
    reference = eval(row.theirs, {**vars(optax), **NAMES})
    with jax.enable_x64(True):
        pairs = list(
            zip(our_run(row.ours, row.shapes), their_run(reference, row.shapes), strict=True)
        )
    assert all(ours.dtype == theirs.dtype == np.float64 for ours, theirs in pairs)
    return max(np.abs(ours - theirs).max() / np.abs(theirs).max() for ours, theirs in pairs)


def beginning(shapes=SHAPES):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape) for shape in shapes]


def gradients(params, t):
    """They depend on the parameters, but pull them together, so that rounding does not grow."""
    return [
        p + np.sin(np.arange(p.size).reshape(p.shape) + 0.7 * t + i) for i, p in enumerate(params)
    ]


def loss(params, t):
    """What methods that read the loss are told it is, about the size of the squared gradients."""
    return 0.5 * sum(float((p**2).sum()) for p in params) + 0.1 * float(np.sin(t))


def our_run(tx, shapes=SHAPES):
    """The updates and parameters of all steps, tensor by tensor."""
    told = "value" in tx.extra_names()
    params = [torch.as_tensor(p) for p in beginning(shapes)]
    state, steps = tx.init(params), []
    for t in range(STEPS):
        seen = [p.numpy() for p in params]
        grads = [torch.as_tensor(g) for g in gradients(seen, t)]
        extra = {"value": loss(seen, t)} if told else {}
        updates, state = tx.update(grads, state, params, **extra)
        params = fo.apply_updates(params, [SHARE * u for u in updates])
        steps.append([x.numpy() for x in (*updates, *params)])
    return [np.stack(column) for column in zip(*steps, strict=True)]


def their_run(tx, shapes=SHAPES):
    """The same, computed by JAX."""
    tx = optax.with_extra_args_support(tx)
    update, apply_updates = jax.jit(tx.update), jax.jit(optax.apply_updates)
    params = beginning(shapes)
    state, steps = tx.init(params), []
    for t in range(STEPS):
        seen = [np.asarray(p) for p in params]
        grads = gradients(seen, t)
        updates, state = update(grads, state, params, value=loss(seen, t))
        params = apply_updates(params, [SHARE * u for u in updates])
        steps.append([np.asarray(x) for x in (*updates, *params)])
    return [np.stack(column) for column in zip(*steps, strict=True)]


def table():
    """All rows in Markdown, with what was found."""
    lines = ["| funcopt | Optax | largest difference |", "|---|---|---|"]
    for row in ROWS:
        ours = " ".join(repr(row.ours).split()).replace("( ", "(").replace(", )", ")")
        lines.append(f"| `{ours}` | `{row.theirs}` | {difference(row):.0e} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
