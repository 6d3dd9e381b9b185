"""`schedule_free`: the steps are averaged, so they need not shrink."""

import dataclasses
import inspect

import pytest
import torch

import funcopt as fo
from funcopt import optim
from funcopt.errors import HyperparameterError, MissingParamsError

from ..combinators.common import (
    START,
    drive,
    grads_at,
    named_parameters,
    purely,
    resumes,
    same,
    same_bits,
    the_optimizer_does_the_same,
    values,
    wrapped,
)

STEPS = 200


def by_the_authors(steps, lr, momentum, beta2=None, eps=1e-8, weight_decay=0.0, warmup_steps=0,
                   r=0.0, weight_lr_power=2.0, inner_momentum=0.0, store_average=None):  # fmt: skip
    """What SGDScheduleFree does, and with `beta2` AdamWScheduleFree: the values of y, and of x."""
    y, z = dict(START), dict(START)
    mean, mean_square = ({n: torch.zeros_like(p) for n, p in START.items()} for _ in range(2))
    weight_sum, lr_max = 0.0, -1.0
    for k in range(steps):
        rate = lr * ((k + 1) / warmup_steps if k < warmup_steps else 1.0)
        lr_max = max(rate, lr_max)
        weight = (k + 1) ** r * lr_max**weight_lr_power
        weight_sum += weight
        share = weight / weight_sum if weight_sum else 0.0
        for n, g in grads_at(y, k).items():
            if beta2 is not None:
                mean_square[n] = beta2 * mean_square[n] + (1 - beta2) * g * g
                mean[n] = inner_momentum * mean[n] + (1 - inner_momentum) * g
                g = mean[n] / (1 - inner_momentum ** (k + 1))
                g = g / ((mean_square[n] / (1 - beta2 ** (k + 1))).sqrt() + eps)
            g = g + weight_decay * y[n]  # the decay is that of y
            y[n] = (1 - share) * y[n] + share * z[n] + rate * (momentum * (1 - share) - 1) * g
            z[n] = z[n] - rate * g
    return y, {n: y[n] + (1 - 1 / momentum) * (z[n] - y[n]) for n in y}


ALL = {"weight_decay": 0.1, "warmup_steps": 20, "r": 0.5, "weight_lr_power": 1.0}
OPTIONS = [{}, *({key: value} for key, value in ALL.items()), ALL, {**ALL, "store_average": True}]
each_option = pytest.mark.parametrize("options", OPTIONS, ids=str)


def is_as_the_authors(tx, cls, arguments, expected):
    y, x = expected
    params, state = purely(tx, STEPS)
    assert same(params, y, 1e-12)
    assert same(fo.eval_params(tx, state, params), x, 1e-12)
    mine = named_parameters()
    opt = cls(mine.values(), **arguments)
    drive(opt, mine, STEPS)
    assert same(values(mine), y, 1e-12)
    opt.eval()
    assert same(values(mine), x, 1e-12)
    opt.train()
    assert same(values(mine), y, 1e-12)
    return True


@each_option
def test_it_is_the_sgd_of_the_authors(options):
    given = {"lr": 0.3, "momentum": 0.6 if "r" in options else 0.9, **options}
    tx = fo.schedule_free_sgd(**given)
    assert is_as_the_authors(tx, optim.SGDScheduleFree, given, by_the_authors(STEPS, **given))


@pytest.mark.parametrize("options", [*OPTIONS, {"inner_momentum": 0.9}], ids=str)
def test_it_is_the_adamw_of_the_authors(options):
    betas = (0.6, 0.9) if "r" in options else (0.9, 0.999)
    given = {"lr": 0.05, "betas": betas, **options}
    tx = fo.schedule_free_adamw(**given)
    momentum, beta2 = betas
    theirs = {"lr": 0.05, "momentum": momentum, "beta2": beta2, **options}
    assert is_as_the_authors(tx, optim.AdamWScheduleFree, given, by_the_authors(STEPS, **theirs))


def test_the_defaults_are_those_of_the_authors():
    mine = named_parameters()
    of_sgd = {"lr": 1.0, "momentum": 0.9}
    of_adamw = {"lr": 0.0025, "betas": (0.9, 0.999), "eps": 1e-8}
    of_both = {"weight_decay": 0.0, "warmup_steps": 0, "r": 0.0, "weight_lr_power": 2.0}
    for cls, own in ((optim.SGDScheduleFree, of_sgd), (optim.AdamWScheduleFree, of_adamw)):
        group = cls(mine.values()).param_groups[0]
        assert {key: group[key] for key in (*own, *of_both)} == {**own, **of_both}


def test_a_rate_that_is_set_in_between_counts_in_the_weights():
    """By the greatest so far: a rate that falls again does not let later steps count less."""
    params = named_parameters()
    opt = optim.SGDScheduleFree(params.values(), lr=0.1)
    lr = lambda t: [0.1, 0.4, 0.2][t // 2]  # noqa: E731
    for t in range(6):
        opt.param_groups[0]["lr"] = lr(t)
        drive(opt, params, 1, first=t)
    expected, _ = purely(fo.schedule_free_sgd(lr), 6)
    assert same(values(params), expected, 1e-14)
    weights = [0.1**2, 0.1**2, 0.4**2, 0.4**2, 0.4**2, 0.4**2]
    kept = opt.state[params["w"]]["weight_sum"]
    assert kept.item() == pytest.approx(sum(weights), rel=1e-14)


@pytest.mark.parametrize("tx", [fo.adamw(0.1, (0.0, 0.99)), fo.sgd(0.1), fo.lion(0.01)])
def test_with_equal_weights_the_average_is_the_mean_of_what_the_steps_make(tx):
    """Around any chain: z by its updates, x the plain mean, p between them."""
    momentum = 0.8
    around = fo.schedule_free(tx, momentum=momentum)
    z, x, y, state = dict(START), dict(START), dict(START), tx.init(START)
    for t in range(20):
        updates, state = tx.update(grads_at(y, t), state, y)
        z = {n: z[n] + updates[n] for n in z}
        x = {n: x[n] + (z[n] - x[n]) / (t + 1) for n in z}
        y = {n: (1 - momentum) * z[n] + momentum * x[n] for n in z}
    params, state = purely(around, 20)
    assert same(params, y, 1e-12)
    assert same(fo.eval_params(around, state, params), x, 1e-12)
    assert the_optimizer_does_the_same(around)
    assert resumes(around, 3, 7)


@pytest.mark.parametrize("store_average", [False, True])
def test_the_momentum_may_change_from_step_to_step(store_average):
    """The average is unmoved by it: it is computed with the momentum that made the parameters."""
    momentum = fo.linear_schedule(0.95, 0.5, 10)
    tx = fo.schedule_free(fo.scale(-0.1), 1.0, momentum, store_average=store_average)
    z, x, y = dict(START), dict(START), dict(START)
    for t in range(12):
        g = grads_at(y, t)
        z = {n: z[n] - 0.1 * g[n] for n in z}
        x = {n: x[n] + (z[n] - x[n]) / (t + 1) for n in z}
        y = {n: (1 - momentum(t)) * z[n] + momentum(t) * x[n] for n in z}
    params, state = purely(tx, 12)
    assert same(params, y, 1e-12)
    assert same(fo.eval_params(tx, state, params), x, 1e-12)
    assert the_optimizer_does_the_same(tx, 12)


def test_a_stored_average_may_have_no_momentum():
    """Then gradients are taken at z, and the average is Polyak's."""
    tx = fo.schedule_free_sgd(0.1, momentum=0.0, store_average=True)
    assert same(purely(tx, 9)[0], purely(fo.sgd(0.1), 9)[0], 1e-14)


def test_a_first_rate_of_zero_moves_nothing():
    lr = fo.linear_schedule(0.0, 0.1, 4)
    tx = fo.schedule_free_adamw(lr)
    params, state = purely(tx, 1)
    assert same(params, START)
    assert same(fo.eval_params(tx, state, params), START)
    assert all(p.isfinite().all() for p in purely(tx, 5)[0].values())


def test_on_noise_the_average_is_better_than_the_parameters():
    """The point of it: at a constant rate, the noise of z averages out."""
    noise = torch.randn(400, 20, generator=torch.manual_seed(0), dtype=torch.float64)
    start = {"p": torch.ones(20, dtype=torch.float64)}

    def noisy(params, t):
        return {"p": params["p"] + noise[t]}

    tx = fo.schedule_free_sgd(0.5)
    params, state = purely(tx, 400, start, noisy)
    averaged = fo.eval_params(tx, state, params)["p"].norm()
    assert averaged < 0.5 * state.slots["p"][-1].z.norm()
    assert averaged < 0.5 * purely(fo.sgd(0.5), 400, start, noisy)[0]["p"].norm()


# bfloat16


def small_steps(store_average, state_dtype, steps=400):
    """A run whose steps are far below the spacing of bfloat16 at 1, which is 2^-7."""
    start = {"p": torch.ones(1, dtype=torch.bfloat16)}
    tx = fo.schedule_free_sgd(1.0, store_average=store_average, state_dtype=state_dtype)

    def up(params, t):
        return {"p": torch.full((1,), -(2.0**-12), dtype=torch.bfloat16)}

    params, state = purely(tx, steps, start, up)
    mine, opt = wrapped(tx, steps, start, up)
    opt.eval()
    assert same_bits(values(mine)["p"].float(), fo.eval_params(tx, state, params)["p"].float())
    return fo.eval_params(tx, state, params)["p"].item(), params["p"].item()


def test_in_bfloat16_the_average_is_exact_only_if_it_is_stored_wider():
    mean = 1 + 2.0**-12 * (400 + 1) / 2  # of z = 1 + 2^-12 t
    between = 0.1 * (1 + 400 * 2.0**-12) + 0.9 * mean
    x, y = small_steps(True, torch.float32)
    assert abs(x - mean) <= 2**-8
    assert abs(y - between) <= 2**-8
    x, y = small_steps(False, torch.float32)
    assert y == 1.0  # it stands still
    assert x < 1.0  # so, as z rises, what is computed falls
    x, y = small_steps(False, None)
    assert x == y == 1.0


def test_slots_have_the_dtype_that_was_asked_for():
    params = {"p": torch.ones(2, dtype=torch.bfloat16)}
    tx = fo.schedule_free_adamw(store_average=True, state_dtype=torch.float32)
    _, state = tx.update(params, tx.init(params), params)
    assert {x.dtype for x in fo.tree.leaves(state.slots)} == {torch.float32}
    assert fo.eval_params(tx, state, params)["p"].dtype == torch.bfloat16


# In other surroundings


def test_under_vmap_every_run_is_as_alone():
    rates = torch.tensor([0.1, 0.3], dtype=torch.float64)

    def run(lr):
        tx = fo.schedule_free_adamw(lr, warmup_steps=3)
        params, state = purely(tx, 5)
        return params, fo.eval_params(tx, state, params)

    together = torch.func.vmap(run)(rates)
    for i, lr in enumerate(rates.tolist()):
        for ours, alone in zip(together, run(lr), strict=True):
            assert same({n: p[i] for n, p in ours.items()}, alone, 1e-12)


def test_a_gradient_flows_through_the_average():
    def last(lr, momentum):
        tx = fo.schedule_free_sgd(lr, momentum, warmup_steps=2)
        params, state = purely(tx, 4)
        return sum(x.sum() for x in fo.eval_params(tx, state, params).values())

    numbers = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.1, 0.8)]
    assert torch.autograd.gradcheck(last, numbers)


def test_a_late_joiner_begins_its_own_average():
    tx = fo.schedule_free_sgd(0.1)
    params, opt = wrapped(tx, 4, {n: START[n] for n in ("b", "gain")})
    late = torch.nn.Parameter(START["w"].clone())
    opt.add_param_group({"params": [("w", late)]})
    drive(opt, {**params, "w": late}, 3)
    alone = purely(tx, 3, {"w": START["w"]})[0]["w"]
    assert torch.equal(late, alone)


def test_what_it_remembers_has_the_names_of_the_authors():
    params, opt = wrapped(fo.schedule_free_adamw(), 1)
    own = {"step", "exp_avg_sq", "z", "weight_sum", "lr_max", "last_momentum"}
    assert set(opt.state[params["w"]]) == own
    params, opt = wrapped(fo.schedule_free_adamw(inner_momentum=0.9), 1)
    assert set(opt.state[params["w"]]) == {*own, "exp_avg"}


@pytest.mark.parametrize(
    "given", [torch.tensor(0.9, dtype=torch.float64), lambda t: 0.9], ids=["tensor", "schedule"]
)
def test_an_inner_momentum_may_be_a_tensor_or_a_schedule(given):
    found, expected = (purely(fo.schedule_free_adamw(inner_momentum=x), 4)[0] for x in (given, 0.9))
    assert same(found, expected, 1e-12)
    mine, opt = wrapped(fo.schedule_free_adamw(inner_momentum=given), 4)
    assert same(mine, expected, 1e-12)
    assert "exp_avg" in opt.state[mine["w"]]


def test_all_groups_have_an_inner_momentum_or_none_has():
    own = [{"params": [p]} for p in named_parameters().values()]
    own[0]["inner_momentum"] = 0.9
    with pytest.raises(HyperparameterError, match="must be the same in all groups"):
        optim.AdamWScheduleFree(own)


def test_an_inner_momentum_may_begin_later():
    """Then the mean of the gradients begins at 0, as it would in the authors' optimizer."""
    mine = named_parameters()
    opt = optim.AdamWScheduleFree(mine.values())
    drive(opt, mine, 3)
    opt.param_groups[0]["inner_momentum"] = 0.9
    drive(opt, mine, 1, first=3)
    assert set(opt.state[mine["w"]]) >= {"exp_avg", "exp_avg_sq"}


def test_it_comes_last():
    with pytest.raises(HyperparameterError) as error:
        fo.chain(fo.schedule_free_sgd(), fo.clip_by_global_norm(1.0))
    assert str(error.value) == (
        "`chain`: `primal_averaging` needs the final update, and has to come after every stage "
        "that changes updates, as clip_by_global_norm(1.0) does."
    )


def test_it_needs_the_parameters():
    tx = fo.schedule_free_sgd()
    with pytest.raises(MissingParamsError, match="`primal_averaging` needs the parameters"):
        tx.update(grads_at(START, 0), tx.init(START))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "`lr` must not be negative, got -1.0"),
        ({"momentum": 1.1}, r"`momentum` must lie in \[0, 1\], got 1.1"),
        ({"momentum": 0.0}, "take `store_average=True`"),
        ({"warmup_steps": -1}, "`warmup_steps` must be a whole number, at least 0, got -1"),
        ({"r": -1.0}, "`r` must not be negative"),
        ({"weight_lr_power": -1.0}, "`weight_lr_power` must not be negative"),
    ],
)
def test_a_bad_number_is_named(options, message):
    with pytest.raises(HyperparameterError, match=message):
        fo.primal_averaging(**options)


def test_its_arguments_are_those_of_the_average_with_its_defaults_and_types():
    arguments = dict(list(inspect.signature(fo.schedule_free).parameters.items())[1:])
    fields = {field.name: field for field in dataclasses.fields(fo.primal_averaging)}
    assert list(arguments) == list(fields)
    for name, argument in arguments.items():
        assert (argument.default, argument.annotation) == (fields[name].default, fields[name].type)


OTHER_VALUES = {
    "lr": 0.5,
    "momentum": 0.8,
    "warmup_steps": 3,
    "r": 1.0,
    "weight_lr_power": 1.0,
    "store_average": True,
    "rectify": 0.9,
    "state_dtype": torch.float64,
}


def test_it_passes_every_argument_on():
    inner = fo.scale(-0.1)
    averaging = fo.primal_averaging(**OTHER_VALUES)
    assert set(OTHER_VALUES) == {field.name for field in dataclasses.fields(averaging)}
    assert fo.schedule_free(inner, **OTHER_VALUES) == fo.chain(inner, averaging)


def test_a_wrong_keyword_is_refused_by_its_own_name():
    with pytest.raises(TypeError, match=r"^`schedule_free`: unknown argument `beta`"):
        fo.schedule_free(fo.scale(-0.1), beta=0.9)


@pytest.mark.parametrize("lr", [2e-3, torch.tensor(2e-3), fo.linear_schedule(0.0, 2e-3, 5)])
def test_a_learning_rate_inside_and_one_outside_are_refused(lr):
    inner = fo.chain(fo.scale_by_adam(), fo.scale_by_learning_rate(0.5))
    match = (
        r"`schedule_free`: `scale_by_learning_rate` inside has `lr=0\.5`, and `schedule_free` has "
        r"`lr=.*`: updates would be multiplied by both\. In `inner`, put `scale\(-1\.0\)`"
    )
    for tx in (inner, fo.cautious(inner), fo.skip_if(inner)):
        with pytest.raises(HyperparameterError, match=match):
            fo.schedule_free(tx, lr)
    with pytest.raises(HyperparameterError, match=r"`scale_by_prodigy` inside has `lr=0\.5`"):
        fo.schedule_free(fo.chain(fo.scale_by_prodigy(0.5), fo.scale(-1.0)), lr)


def test_one_learning_rate_is_enough_wherever_it_is():
    inside = fo.schedule_free(fo.chain(fo.scale_by_rms(), fo.scale_by_learning_rate(0.1)))
    assert fo.hyperparams(inside)["scale_by_learning_rate/lr"] == 0.1
    prodigy = fo.schedule_free(fo.chain(fo.scale_by_prodigy(), fo.scale(-1.0)), 0.5)
    assert fo.hyperparams(prodigy)["primal_averaging/lr"] == 0.5
