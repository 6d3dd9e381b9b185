"""Weight decay that depends on the learning rate: its kinds, under schedules and schedulers."""

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

import funcopt as fo
from funcopt import optim
from funcopt.errors import HyperparameterError

from ..frameworks import needed
from .stepping import numbers

STEPS, LR, DECAY = 60, 0.03, 0.2
TOLERANCE = 1e-13  # of the largest entry
KINDS = {
    "decoupled": lambda lr, most: lr,
    "independent": lambda lr, most: lr / most,
    "corrected": lambda lr, most: lr * lr / most,
    "squared": lambda lr, most: lr * lr,
}


def parameters():
    generator = torch.Generator().manual_seed(0)
    shapes = [(5, 3), (7,)]
    return [
        torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))
        for shape in shapes
    ]


def trained(make, schedule):
    """The parameters after steps whose gradients depend on them, under a scheduler of torch."""
    params = parameters()
    opt = make(params)
    scheduler = schedule(opt)
    for t in range(STEPS):
        for p in params:
            p.grad = p.detach() - torch.cos(torch.arange(p.numel()) + 0.7 * t).reshape(p.shape)
        opt.step()
        scheduler.step()
    return torch.cat([p.detach().flatten() for p in params])


def cosine(opt):
    return CosineAnnealingLR(opt, STEPS)


def up_and_down(opt):
    return OneCycleLR(opt, LR, total_steps=STEPS + 1, cycle_momentum=False)


def apart(ours, theirs):
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def ours(decay, max_lr=None):
    stage = fo.scale_by_learning_rate_and_decay(LR, DECAY, decay, max_lr)
    return lambda params: fo.Optimizer(params, fo.chain(fo.scale_by_adam(), stage))


@pytest.mark.filterwarnings("ignore:You are using weight_decay up to")
@pytest.mark.parametrize(("schedule", "most"), [(cosine, None), (up_and_down, LR)])
def test_independent_decay_is_that_of_optimi(schedule, most):
    def theirs(params):
        options = {"decouple_lr": True, "max_lr": LR, "triton": False, "foreach": False}
        return needed("optimi").AdamW(params, LR, (0.9, 0.999), DECAY, 1e-8, **options)

    made = trained(ours("independent", most), schedule)
    assert apart(made, trained(theirs, schedule)) <= TOLERANCE


@pytest.mark.parametrize("schedule", [cosine, up_and_down])
def test_adamc_is_that_of_the_port(schedule):
    def theirs(params):
        groups = [{"params": params, "normalized": True}]
        port = needed("pytorch_optimizer").AdamC
        return port(groups, LR, weight_decay=DECAY, eps=1e-3, foreach=False)

    def adamc(params):
        """Its epsilons are added before the bias correction, one of them inside the root."""
        eps = {"eps": lambda t: 1e-3 / (1 - 0.999 ** (t + 1)) ** 0.5}
        eps["eps_root"] = lambda t: 1e-15 / (1 - 0.999 ** (t + 1))
        tx = fo.adamc(LR, weight_decay=DECAY, max_lr=None if schedule is cosine else LR)
        return fo.Optimizer(params, fo.with_hyperparams(tx, eps))

    made = trained(adamc, schedule)
    assert apart(made, trained(theirs, schedule)) <= TOLERANCE


def test_one_cycle_tells_the_class_its_largest_learning_rate():
    """The scheduler writes `max_lr` into the groups."""
    own = trained(lambda params: optim.AdamC(params, LR, weight_decay=DECAY), up_and_down)
    told = trained(lambda ps: optim.AdamC(ps, LR, weight_decay=DECAY, max_lr=LR), up_and_down)
    assert apart(own, told) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_decay_depends_on(kind):
    """By hand: the update is that without decay, less the share of the kind."""
    rates, params = [0.1, 0.3, 0.2, 0.0], numbers(1.0, -2.0)
    tx = fo.scale_by_learning_rate_and_decay(lambda c: torch.tensor(rates)[int(c)], 0.5, kind)
    state, grads = tx.init(params), numbers(0.3, 0.4)
    for t, lr in enumerate(rates):
        updates, state = tx.update(grads, state, params)
        k = KINDS[kind](lr, max(rates[: t + 1]))
        torch.testing.assert_close(updates, -lr * grads - 0.5 * k * params, rtol=1e-7, atol=0)


def test_at_a_constant_rate_the_correction_changes_nothing():
    schedule = lambda opt: CosineAnnealingLR(opt, STEPS, eta_min=LR)  # noqa: E731
    plain = trained(lambda params: optim.AdamW(params, LR, weight_decay=DECAY), schedule)
    assert apart(trained(ours("corrected"), schedule), plain) <= TOLERANCE


def test_each_group_has_a_largest_rate_of_its_own():
    first, second = parameters()
    groups = [{"params": [first]}, {"params": [second], "lr": LR / 10}]
    tx = fo.scale_by_learning_rate_and_decay(LR, DECAY, "independent")
    opt = fo.Optimizer(groups, tx)
    before = [p.detach().clone() for p in (first, second)]
    for p in (first, second):
        p.grad = torch.zeros_like(p)
    opt.step()
    for p, old in zip((first, second), before, strict=True):
        torch.testing.assert_close(p.detach(), (1 - DECAY) * old, rtol=1e-14, atol=0)


def test_the_largest_rate_is_part_of_a_checkpoint():
    params = parameters()
    opt = optim.AdamC(params, LR)
    for p in params:
        p.grad = torch.ones_like(p)
    opt.step()
    assert opt.state[params[0]]["max_lr"].item() == LR
    again = optim.AdamC(params, LR / 2)
    again.load_state_dict(opt.state_dict())
    assert again.state[params[0]]["max_lr"].item() == LR


def test_bad_arguments():
    with pytest.raises(HyperparameterError, match="`decay` must be one of 'decoupled',"):
        fo.scale_by_learning_rate_and_decay(0.1, 0.1, "cosine")
    with pytest.raises(HyperparameterError, match="`max_lr` must be positive"):
        fo.adamc(max_lr=0.0)


def test_towards_the_beginning_it_is_the_decay_of_heavyball():
    """Its rule moves the parameter by a share of the way to the first one, here without noise."""
    torch.manual_seed(0)
    init, grads = torch.randn(5, 3), [torch.randn(5, 3) for _ in range(5)]
    tx = fo.chain(fo.add_decay_towards_init(0.5), fo.scale_by_learning_rate(LR))
    params, state, theirs = init, tx.init(init), init.clone()
    utils = needed("heavyball").utils
    with torch.compiler.set_stance("force_eager"):
        for g in grads:
            updates, state = tx.update(g, state, params)
            params = fo.apply_updates(params, updates)
            utils.stochastic_lerp_([theirs], [init.clone()], 0.5 * LR)
            theirs -= LR * g
    torch.testing.assert_close(params, theirs, rtol=0, atol=1e-6)  # of float32
    assert torch.equal(state.slots[0].init_params, init)
