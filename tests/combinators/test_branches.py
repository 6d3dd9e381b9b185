"""`graft` and `weighted_sum`: several transformations of the same updates, and one update of it."""

import pytest
import torch

import funcopt as fo
from funcopt.errors import HyperparameterError, StructureError

from ..frameworks import needed
from .common import (
    START,
    drive,
    grads_at,
    named_parameters,
    purely,
    resumes,
    same,
    the_optimizer_does_the_same,
    values,
)

STEPS = 200


def norm(*tensors):
    return torch.cat([x.reshape(-1) for x in tensors]).norm()


def trained(tx, steps=STEPS):
    return purely(fo.chain(tx, fo.scale_by_learning_rate(0.01)), steps)[0]


@pytest.mark.parametrize("per", ["tensor", "tree"])
def test_the_norm_is_of_one_and_the_direction_of_the_other(per):
    """The formula of Distributed Shampoo: the norm of the grafted method, over that + 1e-16."""
    magnitude, direction = fo.scale_by_adam(), fo.chain(fo.centralize(), fo.trace(0.9))
    tx = fo.graft(magnitude, direction, per)
    states = [x.init(START) for x in (tx, magnitude, direction)]
    for t in range(STEPS):
        grads = grads_at(START, t)
        (us, states[0]), (ms, states[1]), (ds, states[2]) = (
            x.update(grads, own, START)
            for x, own in zip((tx, magnitude, direction), states, strict=True)
        )
        for name in START:
            over = [name] if per == "tensor" else list(START)
            ratio = norm(*(ms[k] for k in over)) / (norm(*(ds[k] for k in over)) + 1e-16)
            torch.testing.assert_close(us[name], ds[name] * ratio, rtol=1e-13, atol=1e-15)


def test_grafting_the_norm_of_the_gradient_is_what_shampoo_has_built_in():
    built_in = fo.scale_by_shampoo(0.9, precondition_1d=True, graft=True)
    mine = fo.graft(fo.identity(), fo.scale_by_shampoo(0.9, precondition_1d=True))
    assert same(trained(mine), trained(built_in), 1e-12)


@pytest.mark.parametrize("per", ["tensor", "tree"])
def test_before_the_start_it_is_the_other_one(per):
    magnitude, direction = fo.scale_by_adam(), fo.chain(fo.centralize(), fo.trace(0.9))
    late, other = fo.graft(magnitude, direction, per, start=3), fo.graft(magnitude, direction, per)
    states = [x.init(START) for x in (late, magnitude, other)]
    for t in range(6):
        grads = grads_at(START, t)
        (us, states[0]), (ms, states[1]), (ds, states[2]) = (
            x.update(grads, own, START)
            for x, own in zip((late, magnitude, other), states, strict=True)
        )
        assert same(us, ms if t < 2 else ds, 1e-14)


def test_a_start_is_the_number_of_an_update():
    with pytest.raises(HyperparameterError, match="`graft`: `start` must be a whole number, at"):
        fo.graft(fo.identity(), fo.trace(0.9), start=0)


def test_a_direction_of_zero_makes_no_step():
    tx = fo.graft(fo.identity(), fo.scale(0.0))
    u, _ = tx.update(torch.ones(3), tx.init(torch.ones(3)))
    assert torch.equal(u, torch.zeros(3))


def test_a_sum_is_linear():
    tx = fo.weighted_sum((fo.trace(0.9), fo.scale_by_adam()), (0.5, -2.0))
    first, second = fo.trace(0.9), fo.scale_by_adam()
    states = [x.init(START) for x in (tx, first, second)]
    for t in range(5):
        (us, states[0]), (a, states[1]), (b, states[2]) = (
            x.update(grads_at(START, t), own, START)
            for x, own in zip((tx, first, second), states, strict=True)
        )
        assert same(us, {n: 0.5 * a[n] - 2.0 * b[n] for n in us})


def test_grokfast_is_that_of_the_authors():
    """By `gradfilter_ema`, whose average begins with the first gradient."""
    filtered = needed("pytorch_optimizer.optimizer.grokfast").gradfilter_ema
    model = torch.nn.ParameterDict({n: torch.nn.Parameter(p.clone()) for n, p in START.items()})
    ours, theirs = named_parameters(), dict(model.items())
    slow = fo.weighted_sum((fo.identity(), fo.trace(0.98, dampening=0.98)), (1.0, 2.0))
    opt = fo.Optimizer(list(ours.items()), fo.chain(slow, fo.adamw(0.01)))
    other, average = torch.optim.AdamW(theirs.values(), 0.01), None
    for t in range(STEPS):
        for name, g in grads_at(values(theirs), t).items():
            theirs[name].grad = g
        average = filtered(model, average)
        other.step()
        drive(opt, ours, 1, first=t)
    assert same(values(ours), values(theirs), 1e-12)


def test_the_alias_is_that_of_pytorch_optimizer():
    """But for eps, which there is a lower bound of the denominator."""
    make = needed("pytorch_optimizer").GrokFastAdamW
    ours, theirs = named_parameters(), named_parameters()
    opt = fo.Optimizer(list(ours.items()), fo.grokfast_adamw(0.01, eps=0.0, weight_decay=0.1))
    other = make(theirs.values(), 0.01, eps=0.0, weight_decay=0.1, normalize_lr=False)
    drive(opt, ours, STEPS)
    drive(other, theirs, STEPS)
    assert same(values(ours), values(theirs), 1e-12)


CHAINS = [
    fo.chain(fo.graft(fo.scale_by_adam(), fo.trace(0.9)), fo.scale_by_learning_rate(0.1)),
    fo.chain(fo.graft(fo.nadam(0.1), fo.scale_by_lion(), "tree"), fo.scale(-1.0)),
    fo.weighted_sum((fo.adam(fo.linear_schedule(0.1, 0.0, 5)), fo.prodigy(d0=0.1)), (0.5, 0.5)),
    fo.chain(fo.graft(fo.scale_by_adam(), fo.trace(0.9), start=3), fo.scale(-0.1)),
]
chains = pytest.mark.parametrize("tx", CHAINS, ids=["tensor", "tree", "sum", "start"])


@pytest.mark.filterwarnings("ignore:(?s).*does not negate the updates")
@chains
def test_the_optimizer_does_the_same_and_resumes(tx):
    assert the_optimizer_does_the_same(tx)
    assert resumes(tx, 3, 6)


def test_hyperparameters_of_all_branches_are_keys_of_a_group():
    opt = fo.Optimizer(list(named_parameters().items()), CHAINS[2])
    keys = opt.param_groups[0]
    assert (keys["weights"], keys["scale_by_adam/betas"]) == ((0.5, 0.5), (0.9, 0.999))
    opt.init_state()
    state = opt.state_dict()["state"][0]
    assert {"exp_avg", "scale_by_prodigy/exp_avg", "d"} <= set(state)


def test_groups_have_weights_of_their_own():
    pair = lambda w: fo.weighted_sum((fo.scale(-0.1), fo.adam(0.1)), w)  # noqa: E731
    params = named_parameters()
    first, *rest = params.items()
    groups = [{"params": [first], "weights": (1.0, 0.0)}, {"params": rest}]
    opt = fo.Optimizer(groups, pair((0.25, 1.0)))
    drive(opt, params, 5)
    found = {**purely(pair((0.25, 1.0)), 5)[0]}
    found[first[0]] = purely(pair((1.0, 0.0)), 5)[0][first[0]]
    assert same(values(params), found)


@pytest.mark.parametrize(
    ("made", "sign"),
    [
        (lambda: fo.graft(fo.scale(2.0), fo.sgd(0.1)), -1),
        (lambda: fo.weighted_sum((fo.sgd(0.1), fo.adam()), (1.0, 2.0)), -1),
        (lambda: fo.weighted_sum((fo.trace(0.9), fo.ema(0.9)), (-1.0, -2.0)), -1),
        (lambda: fo.weighted_sum((fo.trace(0.9), fo.sgd(0.1)), (1.0, 2.0)), None),
        (lambda: fo.weighted_sum((fo.trace(0.9), fo.ema(0.9)), (1.0, -2.0)), None),
        (lambda: fo.weighted_sum((fo.trace(0.9),), (fo.constant_schedule(1.0),)), None),
    ],
)
def test_the_sign_is_known_where_it_can_be(made, sign):
    assert made().sign() == sign


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: fo.graft(fo.trace(0.9), fo.ema(0.9), "row"), "`per` must be one of 'tensor', "),
        (lambda: fo.graft(fo.trace(0.9), fo.ema(0.9), eps=0.0), "`eps` must be positive"),
        (lambda: fo.graft(fo.trace(0.9), 0.1), "`direction` must be a transformation"),
        (lambda: fo.graft(fo.ema_of_params(0.9), fo.ema(0.9)), "`ema_of_params` needs the final"),
        (lambda: fo.weighted_sum((fo.trace(0.9),), (1.0, 2.0)), "must be a tuple of 1 numbers"),
        (lambda: fo.weighted_sum(fo.trace(0.9), (1.0,)), "must be a tuple of transformations"),
        (lambda: fo.weighted_sum((), ()), "must be a tuple of transformations"),
        (lambda: fo.weighted_sum((0.1,), (1.0,)), "branch 0 must be a transformation"),
    ],
)
def test_what_makes_no_branch_is_refused(made, message):
    with pytest.raises(HyperparameterError, match=message):
        made()


def test_norms_over_the_tree_cannot_be_taken_one_gradient_at_a_time():
    opt = fo.Optimizer(list(named_parameters().items()), CHAINS[1])
    with pytest.raises(StructureError, match="`graft`"):
        opt.step_in_backward()
    fo.Optimizer(list(named_parameters().items()), CHAINS[0]).step_in_backward()
