"""What is left out has no part in a derivative, however it is taken and mapped."""

import math

import pytest
import torch
from torch.func import grad, hessian, jvp, vmap

import funcopt as fo

from ..training import common

# Forward mode of torch loads what it says is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

ZERO = torch.tensor(0.0, dtype=torch.float64)
ONE = torch.tensor(1.0, dtype=torch.float64)
NAN = tuple(torch.full_like(x, math.nan) for x in common.batches(1)[0])
BATCHES = common.batches(4)
PARAMS = common.params()
HELD_OUT = common.batches(1, seed=9)[0]


def matrix(name, p):
    return p.ndim > 1


def by_dimension(name, p):
    return "matrix" if p.ndim > 1 else "rest"


def adam(t):
    return fo.adam(0.1 * (1 + t), (0.8 + 0.1 * t, 0.9), eps=1e-2)


SKIPPING = {
    "skip_if": lambda t: fo.skip_if(adam(t)),
    "outliers": lambda t: fo.skip_if(adam(t), fo.norm_outlier(30.0 + t, 0.9, warmup=1)),
    "around a clip": lambda t: fo.skip_if(fo.chain(fo.clip_by_global_norm(0.3 + t), adam(t))),
    "around accumulate": lambda t: fo.skip_if(fo.accumulate(adam(t), 2)),
    "inside accumulate": lambda t: fo.accumulate(fo.skip_if(adam(t)), 2),
    "in a partition": lambda t: fo.partition(
        {"matrix": fo.skip_if(adam(t)), "rest": fo.skip_if(fo.sgd(0.1 + t, 0.9))}, by_dimension
    ),
    "around a search": lambda t: fo.skip_if(
        fo.lbfgs(0.5 + t, max_iter=2, history_size=2, line_search=fo.backtracking())
    ),
}

OTHERS = {
    "masked": lambda t: fo.chain(fo.masked(fo.add_decayed_weights(0.1 + t), matrix), adam(t)),
    "partition": lambda t: fo.partition({"matrix": adam(t), "rest": fo.sgd(0.1 + t)}, by_dimension),
    "freeze": lambda t: fo.chain(adam(t), fo.freeze(matrix)),
    "accumulate": lambda t: fo.accumulate(adam(t), 2),
    "lookahead": lambda t: fo.lookahead(adam(t), 2, 0.5 + t),
    "lookahead that forgets": lambda t: fo.lookahead(adam(t), 2, 0.5 + t, reset=True),
    "cautious": lambda t: fo.cautious(adam(t)),
    "average": lambda t: fo.chain(adam(t), fo.ema_of_params(0.5 + t)),
    "schedule-free": lambda t: fo.schedule_free_sgd(0.3 + t, warmup_steps=2),
    "sam": lambda t: fo.sam(adam(t), 0.1 + t),
    "soap": lambda t: fo.soap(0.1 + t, precondition_frequency=2),
    "newton": lambda t: fo.newton_cg(0.5 + t, max_cg_iter=3),
    "strong wolfe": lambda t: fo.lbfgs(
        0.5 + t, max_iter=2, history_size=2, line_search=fo.strong_wolfe()
    ),
}


def after(make, batches, checkpoint=None, params=None):
    """The loss of the averages after training, as a function of the number that makes the chain."""

    def f(t):
        def step(state, batch, t):
            return fo.train_step(common.loss, make(t))(state, batch)

        start = fo.TrainState.start(make(t), PARAMS if params is None else params)
        state, _ = fo.unroll(step, start, batches, args=(t,), checkpoint=checkpoint)
        return common.loss(*state.evaluated(make(t)), HELD_OUT)

    return f


def difference(f, h=1e-4):
    return (8 * (f(ZERO + h) - f(ZERO - h)) - (f(ZERO + 2 * h) - f(ZERO - 2 * h))) / (12 * h)


def by_autograd(f):
    t = ZERO.clone().requires_grad_()
    value = f(t)
    return torch.autograd.grad(value, t)[0] if value.requires_grad else torch.zeros_like(t)


def by_hypergrad(make, batches, checkpoint=None):
    return fo.hypergrad(
        common.loss,
        lambda t: make(t),
        {"t": ZERO},
        PARAMS,
        batches,
        lambda params: common.loss(params, HELD_OUT),
        checkpoint=checkpoint,
    ).values["t"]


WAYS = {
    "autograd": by_autograd,
    "grad": lambda f: grad(f)(ZERO),
    "jvp": lambda f: jvp(f, (ZERO,), (ONE,))[1],
    "vmap(grad)": lambda f: vmap(grad(f))(torch.stack([ZERO + 1e-3, ZERO]))[1],
    "grad(vmap)": lambda f: grad(lambda t: vmap(f)(torch.stack([t, t])).sum() / 2)(ZERO),
    "vmap(jvp)": lambda f: vmap(lambda t: jvp(f, (t,), (ONE,))[1])(torch.stack([ONE, ZERO]))[1],
}


def agree(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("bad", [0, 2])
@pytest.mark.parametrize("checkpoint", [None, 2])
@pytest.mark.parametrize("name", SKIPPING)
def test_a_step_that_is_left_out_for_its_nan(name, checkpoint, bad):
    make = SKIPPING[name]
    batches = [*BATCHES[:bad], NAN, *BATCHES[bad:]]
    expected = difference(after(make, batches))
    f = after(make, batches, checkpoint)
    for way in WAYS.values():
        agree(way(f), expected)
    agree(by_hypergrad(make, batches, checkpoint), expected)
    by_params = grad(lambda p: after(make, batches, checkpoint, p)(ZERO))(PARAMS)
    assert all(x.isfinite().all() for x in fo.tree.leaves(by_params))


@pytest.mark.parametrize("name", [n for n in SKIPPING if n != "in a partition"])
def test_runs_that_leave_out_steps_of_their_own(name):
    """Where nobody may look, both are computed: the NaN of one run stays out of its derivative."""
    make = SKIPPING[name]

    def f(t, is_bad, params):
        def step(state, batch, t):
            x, y, at = batch
            poison = torch.where(is_bad & at, math.nan, 1.0)
            return fo.train_step(common.loss, make(t))(state, (poison * x, y))

        marked = [(*batch, torch.tensor(i == 1)) for i, batch in enumerate(BATCHES)]
        state, _ = fo.unroll(step, fo.TrainState.start(make(t), params), marked, args=(t,))
        return common.loss(state.params, HELD_OUT)

    ts, which = torch.stack([ZERO, ZERO]), torch.tensor([False, True])
    by = vmap(grad(f, argnums=(0, 2)), in_dims=(0, 0, None))(ts, which, PARAMS)
    for i, batches in enumerate((BATCHES, [BATCHES[0], NAN, *BATCHES[2:]])):
        agree(by[0][i], difference(after(make, batches)))
        by_params = grad(lambda p, b=batches: after(make, b, params=p)(ZERO))(PARAMS)
        assert common.close(fo.tree.map(lambda x, i=i: x[i], by[1]), by_params, 1e-9)


@pytest.mark.parametrize("checkpoint", [None, 2])
@pytest.mark.parametrize("name", OTHERS)
def test_what_chooses_otherwise_agrees_with_differences(name, checkpoint):
    expected = difference(after(OTHERS[name], BATCHES), 1e-5)
    f = after(OTHERS[name], BATCHES, checkpoint)
    for way in WAYS.values():
        agree(way(f), expected)
    agree(by_hypergrad(OTHERS[name], BATCHES, checkpoint), expected)


@pytest.mark.parametrize("name", [*SKIPPING, *OTHERS])
def test_zero_gradients_give_finite_derivatives(name):
    nothing = [tuple(map(torch.zeros_like, BATCHES[0]))] * 2
    zeros = fo.tree.map(torch.zeros_like, PARAMS)
    f = after({**SKIPPING, **OTHERS}[name], nothing, params=zeros)
    for way in WAYS.values():
        assert way(f).isfinite()


def test_a_derivative_of_zero_can_be_differentiated_again():
    """At a rate of 0 the gradient has no part in the parameters, but in the next derivative."""

    def f(lr, params):
        tx = fo.skip_if(fo.sgd(lr))
        state, _ = fo.unroll(
            lambda s, b, lr: fo.train_step(common.loss, fo.skip_if(fo.sgd(lr)))(s, b),
            fo.TrainState.start(tx, params),
            BATCHES[:2],
            args=(lr,),
        )
        return common.loss(state.params, HELD_OUT)

    def slope(lr):
        found = grad(f, argnums=1)(lr, PARAMS)
        return sum(x.sum() for x in fo.tree.leaves(found))

    h = 1e-4
    expected = (slope(ZERO + h) - slope(ZERO - h)) / (2 * h)
    assert expected.abs() > 1e-2
    torch.testing.assert_close(grad(slope)(ZERO), expected, rtol=1e-6, atol=0)


def test_a_loss_that_is_read_beside_one_that_is_nan():
    """The cotangent of the other loss is zero, and its graph would make NaN of it."""
    batches = [BATCHES[0], NAN, BATCHES[1]]

    def last(t, checkpoint=None):
        def step(state, batch, t):
            return fo.train_step(common.loss, fo.skip_if(adam(t)))(state, batch)

        start = fo.TrainState.start(fo.skip_if(adam(t)), PARAMS)
        return fo.unroll(step, start, batches, args=(t,), checkpoint=checkpoint)[1][-1]

    expected = difference(last)
    for checkpoint in (None, 2):
        for name, way in WAYS.items():
            if name != "grad(vmap)":
                agree(way(lambda t, c=checkpoint: last(t, c)), expected)


def test_second_derivatives_through_checkpoints():
    f, again = after(adam, BATCHES[:2]), after(adam, BATCHES[:2], 1)
    expected = (grad(f)(ZERO + 1e-4) - grad(f)(ZERO - 1e-4)) / 2e-4
    for found in (
        hessian(again)(ZERO),
        grad(grad(again))(ZERO),
        jvp(grad(again), (ZERO,), (ONE,))[1],
    ):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("search", [fo.strong_wolfe(), fo.backtracking()], ids=repr)
def test_tries_at_which_the_loss_is_infinite(search):
    """They are not taken, in one run or in the other, and have no part in the derivative."""

    def loss(p, theta):
        wall = torch.where(p > 1.0, math.inf, -torch.log1p(-p.clamp(max=0.999)))
        return (wall + theta * (p - 0.5).square() * 10).sum()

    def f(theta, lr):
        p = torch.tensor([0.2, -0.5], dtype=torch.float64)
        tx = fo.lbfgs(lr, max_iter=2, history_size=2, max_eval=8, line_search=search)
        state, step = fo.TrainState.start(tx, p), fo.train_step(loss, tx)
        return step(state, theta)[0].params.square().sum()

    theta, lrs = torch.tensor(2.0, dtype=torch.float64), torch.tensor([0.01, 40.0]).double()
    found = vmap(grad(f), in_dims=(None, 0))(theta, lrs)
    for lr, slope in zip(lrs, found, strict=True):
        h = 1e-6
        torch.testing.assert_close(
            slope, (f(theta + h, lr) - f(theta - h, lr)) / (2 * h), rtol=1e-5, atol=1e-7
        )
        torch.testing.assert_close(grad(f)(theta, lr), slope, rtol=1e-9, atol=1e-12)
