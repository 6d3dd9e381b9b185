"""`cautious`: updates are left out where the gradient has another sign."""

import pytest
import torch

import funcopt as fo

from .common import purely, resumes, same, same_bits, the_optimizer_does_the_same

STEPS = 200
SHAPES = [(1,), (7,), (5, 3), (2, 3, 4)]


def beginning():
    torch.manual_seed(0)
    return [torch.randn(shape, dtype=torch.float64) for shape in SHAPES]


def gradient(p, t, i):
    entries = torch.arange(p.numel(), dtype=p.dtype).reshape(p.shape)
    return torch.sin(2.0 * p + entries + 0.7 * t + i)


def c_adamw(lr=1e-2, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.1):
    """`step` of the authors' `c_adamw.AdamW`, but that the decay is of the parameter before it."""
    b1, b2 = betas
    params = beginning()
    exp_avg, exp_avg_sq = ([torch.zeros_like(p) for p in params] for _ in range(2))
    for t in range(STEPS):
        for i, p in enumerate(params):
            grad = gradient(p, t, i)
            exp_avg[i].mul_(b1).add_(grad, alpha=1.0 - b1)
            exp_avg_sq[i].mul_(b2).addcmul_(grad, grad, value=1.0 - b2)
            root = (1.0 - b2 ** (t + 1)) ** 0.5
            denom = exp_avg_sq[i].sqrt().add_(eps * root)  # theirs has eps before the correction
            step_size = lr * root / (1.0 - b1 ** (t + 1))
            mask = (exp_avg[i] * grad > 0).to(grad.dtype)
            mask.div_(mask.mean().clamp_(min=1e-3))
            norm_grad = (exp_avg[i] * mask) / denom
            p.mul_(1 - lr * weight_decay).add_(norm_grad, alpha=-step_size)
        yield [p.clone() for p in params]


def c_lion(lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1):
    """The authors' `c_lion.Lion`, with the mean of the mask as their AdamW has it."""
    b1, b2 = betas
    params = beginning()
    exp_avg = [torch.zeros_like(p) for p in params]
    for t in range(STEPS):
        for i, p in enumerate(params):
            grad = gradient(p, t, i)
            p.mul_(1 - lr * weight_decay)
            update = exp_avg[i].clone().mul_(b1).add(grad, alpha=1 - b1).sign_()
            mask = (update * grad > 0).to(grad.dtype)
            mask.div_(mask.mean().clamp_(min=1e-3))
            p.add_(update * mask, alpha=-lr)
            exp_avg[i].mul_(b2).add_(grad, alpha=1 - b2)
        yield [p.clone() for p in params]


def chained(inner, decay=0.1, lr=1e-2):
    return fo.chain(
        fo.cautious(inner), fo.add_decayed_weights(decay), fo.scale_by_learning_rate(lr)
    )


ADAM = chained(fo.scale_by_adam(eps=1e-6))


@pytest.mark.parametrize(
    ("tx", "official"),
    [(ADAM, c_adamw), (chained(fo.scale_by_lion()), c_lion)],
    ids=["adam", "lion"],
)
def test_the_steps_are_those_of_the_official_formula(tx, official):
    params, masked = beginning(), 0
    state = tx.init(params)
    for t, expected in enumerate(official()):
        grads = [gradient(p, t, i) for i, p in enumerate(params)]
        updates, state = tx.update(grads, state, params)
        masked += sum(int((u + 1e-3 * p == 0).sum()) for u, p in zip(updates, params, strict=True))
        params = fo.apply_updates(params, updates)
        assert max((a - b).abs().max() for a, b in zip(params, expected, strict=True)) <= 1e-12
    assert masked > STEPS  # it has been at work


def test_what_is_left_has_the_sign_of_the_gradient_and_is_longer():
    tx = fo.cautious(fo.trace(0.5))
    state = tx.init(torch.zeros(4))
    _, state = tx.update(torch.tensor([1.0, 1.0, -1.0, 1.0]), state)
    u, _ = tx.update(torch.tensor([1.0, -0.1, 0.0, 2.0]), state)  # momentum: 1.5, 0.4, -0.5, 2.5
    assert torch.equal(u, torch.tensor([3.0, 0.0, 0.0, 5.0]))


def test_where_nothing_agrees_it_stands_still():
    tx = fo.cautious(fo.trace(0.9))
    state = tx.init(torch.zeros(2))
    _, state = tx.update(torch.ones(2), state)
    u, _ = tx.update(torch.full((2,), -0.1), state)
    assert torch.equal(u, torch.zeros(2))


def test_few_that_agree_are_not_lengthened_beyond_the_floor():
    tx = fo.cautious(fo.trace(0.9), floor=0.5)
    state = tx.init(torch.zeros(4))
    _, state = tx.update(torch.ones(4), state)
    u, _ = tx.update(torch.tensor([0.1, -0.1, -0.1, -0.1]), state)
    torch.testing.assert_close(u, torch.tensor([2.0, 0.0, 0.0, 0.0]))


def test_it_may_stand_around_what_turns_the_sign():
    g = torch.tensor([1.0, -2.0])
    for inner in (fo.sgd(0.1, momentum=0.9), fo.chain(fo.trace(0.9), fo.scale(-0.1))):
        around = fo.cautious(inner)
        outside = fo.chain(fo.cautious(fo.trace(0.9)), fo.scale(-0.1))
        state, other = around.init(g), outside.init(g)
        for grads in (g, -0.1 * g, g.flip(0)):
            u, state = around.update(grads, state, g)
            v, other = outside.update(grads, other, g)
            torch.testing.assert_close(u, v)


def test_a_nan_is_not_hidden():
    tx = fo.cautious(fo.trace(0.9))
    u, _ = tx.update(torch.tensor([1.0, float("nan")]), tx.init(torch.zeros(2)))
    assert u[1].isnan()


def test_it_remembers_what_its_inner_does_and_nothing_else():
    params = {"w": torch.ones(3)}
    inner = fo.chain(fo.scale_by_adam(), fo.scale_by_nadam())
    assert same_bits(fo.cautious(inner).init(params), inner.init(params))


AROUND = {
    "masked": fo.masked(ADAM, r""),
    "partition": fo.partition({"all": ADAM, "none": fo.freeze()}, [(r"", "all")]),
    "accumulate": fo.accumulate(ADAM, 1),
    "skip_if": fo.skip_if(ADAM),
}


@pytest.mark.parametrize("tx", AROUND.values(), ids=AROUND)
def test_combinators_around_it_change_nothing(tx):
    assert same(purely(tx, 8)[0], purely(ADAM, 8)[0])
    assert the_optimizer_does_the_same(tx)


INSIDE = {
    "masked": fo.cautious(fo.masked(fo.scale_by_adam(), r"w")),
    "partition": fo.cautious(
        fo.partition({"w": fo.scale_by_adam(), "rest": fo.trace(0.9)}, [(r"w", "w"), (r"", "rest")])
    ),
    "accumulate": fo.cautious(fo.accumulate(fo.adamw(0.01), 2)),
    "skip_if": fo.cautious(fo.skip_if(fo.adamw(fo.linear_schedule(0.1, 0.01, 5)))),
}


@pytest.mark.parametrize("tx", INSIDE.values(), ids=INSIDE)
def test_combinators_inside_of_it(tx):
    tx = fo.chain(tx, fo.scale(-0.1)) if tx.sign() == 1 else tx
    assert the_optimizer_does_the_same(tx)
    assert resumes(tx, 3, 7)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: fo.cautious(fo.trace(0.9), floor=0.0), "`floor` must be positive, got 0.0"),
        (lambda: fo.cautious(0.9), "`inner` must be a transformation that works tensor by tensor"),
        (
            lambda: fo.cautious(fo.scale(torch.tensor(2.0))),
            "it must be known whether `inner` negates the updates",
        ),
    ],
)
def test_mistakes_get_a_sentence(make, sentence):
    with pytest.raises(fo.errors.HyperparameterError, match=sentence):
        make()
