"""The range test of the learning rate: what it finds, and that nothing is left of it."""

import copy
import math

import pytest
import torch

import funcopt as fo
from funcopt import optim
from funcopt.errors import HyperparameterError

from ..contract.common import assert_same_state

CURVATURE = 8.0


class Bowl(torch.nn.Module):
    """A quadratic function, on which gradient descent converges for lr < 2 / curvature."""

    def __init__(self):
        super().__init__()
        self.p = torch.nn.Parameter(torch.linspace(-1, 1, 6, dtype=torch.float64))

    def forward(self):
        return 0.5 * CURVATURE * self.p.square().sum()


def bowl_loss(model, batch):
    return model()


@pytest.mark.parametrize("cls", [torch.optim.SGD, optim.SGD])
def test_on_a_quadratic_the_suggestion_is_safe_and_divergence_is_where_it_is(cls):
    model = Bowl()
    found = optim.find_lr(
        cls(model.parameters(), lr=0.1), model, bowl_loss, [None], end=1e3, steps=200
    )
    assert 0.005 / CURVATURE < found.suggestion < 2 / CURVATURE
    assert found.lrs[-1] > 2 / CURVATURE
    assert found.lrs[found.losses.index(min(found.losses))] == pytest.approx(2 / CURVATURE, 0.3)
    assert found.lrs[-1] < 1e2  # stopped there


def test_losses_are_those_of_steps_at_these_rates():
    model = Bowl()
    found = optim.find_lr(
        optim.SGD(model.parameters(), lr=0.1),
        model,
        bowl_loss,
        [None],
        start=1e-3,
        end=0.1,
        steps=5,
    )
    assert found.lrs == pytest.approx([1e-3 * 10 ** (i / 2) for i in range(5)])
    p, expected = model.p.detach().clone(), []
    for lr in found.lrs:
        expected.append(float(0.5 * CURVATURE * p.square().sum()))
        p = p - lr * CURVATURE * p
    assert found.losses == pytest.approx(expected)


class Noisy(torch.nn.Module):
    """With buffers, of which one is made anew, and with dropout."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(3, 8)
        self.norm = torch.nn.BatchNorm1d(8)
        self.last = torch.nn.Linear(8, 1)
        self.register_buffer("seen", torch.zeros(3), persistent=False)

    def forward(self, x):
        self.seen = self.seen + x.detach().mean(0)
        return self.last(torch.dropout(self.norm(self.first(x)).tanh(), 0.3, self.training))


BATCHES = [torch.linspace(-1, 1, 24).reshape(8, 3).sin() * k for k in (1.0, 0.9, 1.1)]


def noisy_loss(model, batch):
    return (model(batch) - batch.sum(1, keepdim=True)).square().mean()


def train(model, opt, steps=3):
    def closure():
        opt.zero_grad()
        loss = noisy_loss(model, BATCHES[0])
        loss.backward()
        return loss

    for _ in range(steps):
        opt.step(closure)


def everything(model, opt):
    """Copies of all that a training depends on."""
    found = {
        "model": {k: v.clone() for k, v in model.state_dict().items()},
        "seen": model.seen.clone(),
        "grads": {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None},
        "opt": opt.state_dict(),
        "random": torch.get_rng_state(),
    }
    return listed(copy.deepcopy(found))


def listed(x):
    """With lists as dicts, so that tensors in them are compared."""
    if isinstance(x, dict):
        return {key: listed(value) for key, value in x.items()}
    return {i: listed(value) for i, value in enumerate(x)} if isinstance(x, list) else x


OPTIMIZERS = {
    "torch SGD": lambda ps: torch.optim.SGD(ps, lr=0.01, momentum=0.9),
    "torch AdamW": lambda ps: torch.optim.AdamW(ps, lr=0.01),
    "torch LBFGS": lambda ps: torch.optim.LBFGS(ps, lr=0.1, max_iter=2),
    "AdamW": lambda ps: optim.AdamW(ps, lr=0.01),
    "all short ways": lambda ps: optim.AdamW(ps, max_grad_norm=0.1, ema=0.9, accumulate=2),
    "LBFGS": lambda ps: optim.LBFGS(ps, lr=0.1, max_iter=2),
    "schedule free": lambda ps: optim.AdamWScheduleFree(ps, lr=0.01),
    "Prodigy": lambda ps: optim.Prodigy(ps),
    "a schedule elsewhere": lambda ps: fo.Optimizer(
        ps, fo.adamw(0.01, weight_decay=fo.linear_schedule(0.1, 0.0, 9))
    ),
    "a tensor": lambda ps: optim.AdamW(ps, lr=torch.tensor(0.01)),
}


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_everything_is_as_it_was(name, before):
    twins = [Noisy(), Noisy()]
    opts = [OPTIMIZERS[name](list(model.parameters())) for model in twins]
    for model, opt in zip(twins, opts, strict=True):
        torch.manual_seed(1)
        train(model, opt, before)
    (model, opt), tensors = (twins[0], opts[0]), list(twins[0].parameters())
    kept = everything(model, opt)
    rate = opt.param_groups[0]["lr"]
    found = optim.find_lr(opt, model, noisy_loss, BATCHES, start=1e-4, steps=20, progress=False)
    assert len(found.lrs) > 3
    assert_same_state(everything(model, opt), kept)
    assert all(a is b for a, b in zip(tensors, model.parameters(), strict=True))
    assert opt.param_groups[0]["lr"] is rate
    torch.manual_seed(2)
    train(model, opt)  # and goes on so
    torch.manual_seed(2)
    train(twins[1], opts[1])
    assert_same_state(everything(model, opt), everything(twins[1], opts[1]))


def test_an_error_restores_everything_too():
    model = Noisy()
    opt = optim.AdamW(model.parameters(), lr=0.01)
    train(model, opt)
    kept, calls = everything(model, opt), []

    def failing(model, batch):
        calls.append(None)
        if len(calls) == 4:
            raise RuntimeError("no more")
        return noisy_loss(model, batch)

    with pytest.raises(RuntimeError, match="no more"):
        optim.find_lr(opt, model, failing, BATCHES)
    assert_same_state(everything(model, opt), kept)


def test_groups_keep_their_ratios():
    model = Noisy()
    groups = [
        {"params": model.first.parameters(), "lr": 0.1},
        {"params": [*model.norm.parameters(), *model.last.parameters()], "lr": 0.01},
    ]
    opt, seen = optim.SGD(groups), []

    def watched(model, batch):
        seen.append([group["lr"] for group in opt.param_groups])
        return noisy_loss(model, batch)

    found = optim.find_lr(opt, model, watched, BATCHES, end=1e-3, steps=5)
    assert seen == [pytest.approx([lr, 0.1 * lr]) for lr in found.lrs]
    assert [group["lr"] for group in opt.param_groups] == [0.1, 0.01]


def test_logs_see_nothing_of_it():
    model, seen = Noisy(), []
    opt = optim.AdamW(model.parameters(), lr=0.01)
    opt.log_to(lambda values, step: seen.append(step))
    train(model, opt, 2)
    said = opt.metrics()
    optim.find_lr(opt, model, noisy_loss, BATCHES, steps=5)
    assert opt.metrics() == said
    train(model, opt, 1)
    assert seen == [1, 2, 3]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"start": 0.0}, "`start` must be positive"),
        ({"start": 1.0, "end": 0.1}, "`end` must"),
        ({"steps": 2}, "`steps` must be a whole number, at least 3"),
        ({"batches": []}, "there is no finite loss"),
        ({"loss": lambda model, batch: model(batch).sum() * math.nan}, "there is no finite loss"),
        ({"optimizer": 3}, "expected an optimizer"),
        ({"model": 3}, "module"),
    ],
)
def test_what_does_not_fit_is_said(wrong, said):
    model = Noisy()
    given = {"optimizer": optim.SGD(model.parameters(), lr=0.1), "model": model}
    given |= {"loss": noisy_loss, "batches": BATCHES}
    with pytest.raises(HyperparameterError, match=f"`find_lr`.*{said}"):
        optim.find_lr(**{**given, **wrong})


def test_a_rate_that_follows_a_schedule_cannot_be_tested():
    model = Noisy()
    opt = optim.AdamW(model.parameters(), lr=fo.linear_schedule(0.1, 0.0, 9))
    with pytest.raises(HyperparameterError, match=r"`lr` of parameter group 0 follows linear"):
        optim.find_lr(opt, model, noisy_loss, BATCHES)


def test_where_the_loss_never_falls_there_is_no_suggestion(tmp_path):
    found = optim.LRRangeTest([0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0])
    assert found.suggestion is None
    assert repr(found) == "LRRangeTest(4 steps from 0.1 to 0.4; suggestion: none)"
    found.plot(tmp_path / "lr.png")


def test_the_figure_marks_the_suggestion(tmp_path):
    model = Bowl()
    found = optim.find_lr(optim.SGD(model.parameters(), lr=0.1), model, bowl_loss, [None])
    figure = found.plot(tmp_path / "new" / "lr.png")
    (ax,) = figure.axes
    assert ax.get_xscale() == "log"
    assert f"suggestion: {found.suggestion:.2g}" in [t.get_text() for t in ax.get_legend().texts]
    assert (tmp_path / "new" / "lr.png").stat().st_size > 1000
