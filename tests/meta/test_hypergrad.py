"""Derivatives of a training, against finite differences."""

import pytest
import torch
from torch.func import grad, vmap

import funcopt as fo
from funcopt.sweeps._memory import peak_bytes

from ..training import common

EVERY = common.every_transformation()
STEPS = 5
HELD_OUT = common.batches(1, seed=9)[0]


def outer(params):
    return common.loss(params, HELD_OUT)


def difference(f, x, h):
    """The slope of `f` at `x`, up to terms of the fourth order in `h`."""
    return (8 * (f(x + h) - f(x - h)) - (f(x + 2 * h) - f(x - 2 * h))) / (12 * h)


def smooth_values(tx):
    """All hyperparameters, off defaults that are kinks, and no epsilon that makes a root steep."""

    def raised(name, value):
        if isinstance(value, tuple):
            return tuple(raised(name, part) for part in value)
        return max(value, 1e-3) if "eps" in name else 0.97 * value or 0.01

    return {name: raised(name, value) for name, value in common.numbers(tx).items()}


def room(number):
    """A distance that stays on the same side of 0 and, for decay rates, of 1."""
    return 1e-4 * min(1.0, 1 - number if 0.5 < number < 1 else 1.0, max(number, 1e-3))


@pytest.mark.parametrize("name", EVERY)
def test_derivatives_through_five_updates_by_every_hyperparameter(name):
    tx, values = EVERY[name], smooth_values(EVERY[name])
    params, batches = common.params(), common.batches(STEPS)
    found = fo.hypergrad(common.loss, tx, values, params, batches, outer)
    numbers, spec = fo.tree.flatten(values)
    at = torch.tensor(numbers, dtype=torch.float64)

    def after(numbers):
        live = fo.with_hyperparams(tx, spec.unflatten(list(numbers.unbind())))
        return outer(
            *common.trained(live, fo.TrainState.start(live, params), batches)[0].evaluated(live)
        )

    torch.testing.assert_close(found.value, after(at), rtol=1e-12, atol=0)
    # Every number moved by -2, -1, 1 and 2 times its distance: all trainings at once.
    away = torch.tensor([-2.0, -1.0, 1.0, 2.0], dtype=torch.float64)[:, None, None]
    h = torch.tensor([room(number) for number in numbers], dtype=torch.float64)
    f = vmap(vmap(after))(at + away * torch.diag(h))
    expected = (8 * (f[2] - f[1]) - (f[3] - f[0])) / (12 * h)
    off = torch.stack(fo.tree.leaves(found.values)) - expected
    assert (off.abs() <= 1e-6 * expected.abs().clamp(min=1)).all(), (values, off)


def tensors(values):
    return fo.tree.map(lambda x: torch.tensor(x, dtype=torch.float64), values)


@pytest.mark.parametrize("name", EVERY)
def test_derivatives_through_five_updates_by_parameters_and_gradients(name):
    tx = fo.with_hyperparams(EVERY[name], tensors(smooth_values(EVERY[name])))
    params = common.params()
    given = [fo.tree.map(lambda p, t=t: torch.cos(p + t), params) for t in range(STEPS)]
    if tx.takes_examples():
        given = [fo.stack([g, fo.tree.map(torch.sin, g)]) for g in given]
    way = fo.tree.map(torch.cos, (params, given))

    def after(inputs):
        params, given = inputs
        state = tx.init(params)
        for g in given:
            grads = fo.tree.map(lambda g, p: g + 0.1 * p, g, params)
            extra = {"value": outer(params)} if "value" in (tx.extra_names() or ()) else {}
            updates, state = tx.update(grads, state, params, **extra)
            params = fo.apply_updates(params, updates)
        return outer(params)

    def along(x):
        return after(fo.tree.map(lambda p, w: p + x * w, (params, given), way))

    zero = torch.tensor(0.0, dtype=torch.float64)
    slope, expected = grad(along)(zero), difference(along, zero, 1e-5)  # short of any kink
    assert abs(slope - expected) <= 1e-6 * max(1.0, abs(expected))
    by_each = grad(after)((params, given))
    torch.testing.assert_close(fo.tree.dot(by_each, way), slope, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_zero_gradients_give_finite_derivatives(name):
    """Where TorchOpt's Adam gives NaN: a parameter that the loss does not depend on."""
    tx, values = EVERY[name], common.numbers(EVERY[name])

    def loss(params, batch):
        return common.loss(params, batch) + 0 * params["unused"].sum()

    params = {**common.params(), "unused": torch.ones(3, dtype=torch.float64)}
    found = fo.hypergrad(loss, tx, values, params, common.batches(STEPS), outer)
    for slope in fo.tree.leaves((found.values, found.params)):
        assert slope.isfinite().all()


def test_it_is_the_gradient_of_a_loop():
    def after(lr, params):
        tx = fo.adam(lr)
        state, _ = common.trained(tx, fo.TrainState.start(tx, params), common.batches(STEPS))
        return outer(state.params)

    lr = torch.tensor(0.1, dtype=torch.float64)
    expected = grad(after, argnums=(0, 1))(lr, common.params())
    found = fo.hypergrad(
        common.loss, fo.adam(), {"lr": 0.1}, common.params(), common.batches(STEPS), outer
    )
    assert common.close((found.values["lr"], found.params), expected, 1e-12)
    assert found.losses.shape == (STEPS,)
    assert not any(x.requires_grad for x in fo.tree.leaves(found))


def test_checkpoints_change_nothing_but_memory():
    def run(steps=7, **options):
        values = {"lr": 0.1, "betas": (0.9, 0.99)}
        return fo.hypergrad(
            common.loss, fo.adam(), values, common.params(), common.batches(steps), outer, **options
        )

    assert common.close(run(checkpoint=3), run(), 1e-12)
    saved = peak_bytes(lambda: run(36, checkpoint=6))
    assert saved < peak_bytes(lambda: run(36)) / 2


def test_it_can_be_mapped_and_differentiated_again():
    params, batches = common.params(), common.batches(3)

    def slope(rate):
        return fo.hypergrad(common.loss, fo.sgd(), {"lr": rate}, params, batches, outer).values[
            "lr"
        ]

    rates = torch.tensor([0.1, 0.2], dtype=torch.float64)
    assert common.close(vmap(slope)(rates), torch.stack([slope(rate) for rate in rates]), 1e-12)
    assert abs(grad(slope)(rates[0]) - difference(slope, rates[0], 1e-3)) < 1e-8


def test_truncated_it_looks_at_the_last_steps_only():
    def run(steps=7, params=None, **options):
        params = common.params() if params is None else params
        return fo.hypergrad(
            common.loss, fo.sgd(), {"lr": 0.1}, params, common.batches(steps), outer, **options
        )

    whole, cut = run(), run(truncate=3)
    assert cut.params is None
    assert common.close(cut.state, whole.state, 1e-12)
    assert common.close(cut.losses, whole.losses, 1e-12)
    tx = fo.sgd(0.1)
    middle, _ = common.trained(tx, fo.TrainState.start(tx, common.params()), common.batches(4))
    rest = fo.hypergrad(common.loss, tx, {"lr": 0.1}, middle.params, common.batches(7)[4:], outer)
    assert common.close(cut.values, rest.values, 1e-12)
    assert common.close(run(truncate=7), whole, 0.0)


@pytest.mark.parametrize("truncate", [0, -1, 2.5])
def test_a_truncation_to_nothing_is_named(truncate):
    start, batches = common.params(), common.batches(3)
    wrong = f"^`hypergrad`: `truncate` must be a whole number, at least 1, got {truncate}.$"
    with pytest.raises(fo.errors.HyperparameterError, match=wrong):
        fo.hypergrad(common.loss, fo.sgd(), {"lr": 0.1}, start, batches, outer, truncate=truncate)


def test_weights_of_the_examples():
    """A tensor that the loss takes by keyword: one weight for each example."""

    def loss(params, batch, *, weights):
        x, y = batch
        each = torch.func.vmap(lambda x, y: common.loss(params, (x[None], y[None])))(x, y)
        return (weights * each).mean()

    weights = torch.linspace(0.5, 1.5, 8, dtype=torch.float64)
    found = fo.hypergrad(
        loss, fo.sgd(0.1), {"weights": weights}, common.params(), common.batches(3), outer
    )
    assert found.values["weights"].shape == (8,)

    def after(scale):
        moved = weights.clone()
        moved[2] = scale
        return fo.hypergrad(
            loss, fo.sgd(0.1), {"weights": moved}, common.params(), common.batches(3), outer
        ).value

    slope = difference(after, weights[2].item(), 1e-3)
    torch.testing.assert_close(found.values["weights"][2], slope, rtol=1e-8, atol=0)


def test_a_rate_for_each_layer():
    rates = {"first": 0.1, "second": 0.2}

    def make(first, second):
        branches = {"first": fo.sgd(first), "second": fo.sgd(second)}
        return fo.partition(branches, lambda name, p: "first" if name[0] == "0" else "second")

    found = fo.hypergrad(common.loss, make, rates, common.params(), common.batches(3), outer)
    for name in rates:

        def after(x, name=name):
            values = {**rates, name: x}
            return fo.hypergrad(
                common.loss, make, values, common.params(), common.batches(3), outer
            ).value

        slope = difference(after, rates[name], 1e-3)
        torch.testing.assert_close(found.values[name], slope, rtol=1e-8, atol=0)


def test_unknown_names():
    with pytest.raises(
        fo.errors.HyperparameterError, match="`hypergrad`: unknown hyperparameter `rate`"
    ):
        fo.hypergrad(common.loss, fo.sgd(), {"rate": 1.0}, common.params(), [], outer)


AVERAGES = {
    "schedule_free": fo.schedule_free_sgd(0.1),
    "ema": fo.chain(fo.sgd(0.1), fo.ema_of_params(0.9)),
    "mean": fo.chain(fo.sgd(0.1), fo.mean_of_params()),
    "lookahead": fo.lookahead(fo.sgd(0.1), 3, 0.5),
    "behind a whole tree": fo.chain(
        fo.from_functions(lambda p: (), lambda u, s, p: (u, s)), fo.sgd(0.1), fo.ema_of_params(0.9)
    ),
    "inside": fo.skip_if(fo.chain(fo.sgd(0.1), fo.ema_of_params(0.9))),
    "none": fo.sgd(0.1),
}


@pytest.mark.parametrize("checkpoint", [None, 2])
@pytest.mark.parametrize("truncate", [None, 2])
@pytest.mark.parametrize("name", AVERAGES)
def test_it_evaluates_what_a_sweep_evaluates(name, truncate, checkpoint):
    tx, params, batches = AVERAGES[name], common.params(), common.batches(STEPS)
    swept = fo.sweep(common.loss, tx, [{}], params, batches, evaluate=outer).scores["score"][0]
    found = fo.hypergrad(
        common.loss, tx, {}, params, batches, outer, truncate=truncate, checkpoint=checkpoint
    )
    torch.testing.assert_close(found.value, swept, rtol=1e-12, atol=0)
    state, _ = common.trained(tx, fo.TrainState.start(tx, params), batches)
    torch.testing.assert_close(
        outer(fo.eval_params(tx, state.opt_state, state.params)), swept, rtol=1e-12, atol=0
    )
    if name != "none":
        assert (outer(state.params) - swept).abs() > 1e-6


@pytest.mark.parametrize("name", ["schedule_free", "ema", "lookahead"])
def test_its_derivative_is_that_of_the_average(name):
    params, batches = common.params(), common.batches(STEPS)

    def value(lr):
        return fo.hypergrad(common.loss, AVERAGES[name], {"lr": lr}, params, batches, outer).value

    found = fo.hypergrad(common.loss, AVERAGES[name], {"lr": 0.1}, params, batches, outer)
    torch.testing.assert_close(
        found.values["lr"], difference(value, 0.1, 1e-3), rtol=1e-8, atol=1e-10
    )


def meta_sgd(rates):
    return fo.from_functions(
        lambda p: (), lambda u, s, p: (fo.tree.map(lambda g, a: -a * g, u, rates), s)
    )


@pytest.mark.parametrize("checkpoint", [None, 2])
def test_a_tree_of_learning_rates(checkpoint):
    """Meta-SGD: a rate for every entry, as one value."""
    params, batches = common.params(), common.batches(3)
    rates = fo.tree.map(lambda p: torch.full_like(p, 0.1), params)

    def after(rates):
        tx = meta_sgd(rates)
        return outer(common.trained(tx, fo.TrainState.start(tx, params), batches)[0].params)

    found = fo.hypergrad(
        common.loss, meta_sgd, {"rates": rates}, params, batches, outer, checkpoint=checkpoint
    )
    assert common.close(found.values["rates"], grad(after)(rates), 1e-12)


def test_a_tree_of_numbers():
    def make(rates):
        branches = {"first": fo.sgd(rates["first"]), "second": fo.sgd(rates["second"][0])}
        return fo.partition(branches, lambda name, p: "first" if name[0] == "0" else "second")

    params, batches = common.params(), common.batches(3)
    rates = {"first": 0.1, "second": [0.2]}
    found = fo.hypergrad(common.loss, make, {"rates": rates}, params, batches, outer).values
    flat = fo.hypergrad(
        common.loss,
        lambda a, b: make({"first": a, "second": [b]}),
        {"a": 0.1, "b": 0.2},
        params,
        batches,
        outer,
    ).values
    assert common.close(found["rates"], {"first": flat["a"], "second": [flat["b"]]}, 1e-12)


@pytest.mark.parametrize(
    "wrong", ["fast", {"w": None, "b": "x"}, True, [fo.constant_schedule(1.0)]]
)
def test_a_value_that_is_no_number_is_named(wrong):
    with pytest.raises(fo.errors.HyperparameterError, match="the value of `lr` must be a number"):
        fo.hypergrad(common.loss, fo.sgd(), {"lr": wrong}, common.params(), [], outer)


def test_a_loss_with_metrics_is_refused_with_the_way_out():
    def both(params, batch):
        value = common.loss(params, batch)
        return value, {"twice": 2 * value}

    with pytest.raises(fo.errors.StructureError, match="`loss` must return the value alone"):
        fo.hypergrad(both, fo.sgd(), {"lr": 0.1}, common.params(), common.batches(1), outer)
