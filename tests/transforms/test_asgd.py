"""`scale_by_asgd` and `mean_of_params`: a rate that falls, and the mean of what it leads to."""

import pytest
import torch

import funcopt as fo
import funcopt.optim as optim

from .stepping import feed, numbers


def test_the_rate_falls_from_the_second_step_on():
    tx = fo.scale_by_asgd(0.5, lambd=0.2, alpha=2.0)
    updates, state = feed(tx, [numbers(1.0)] * 3, numbers(0.0))
    expected = [0.5, 0.5 / 1.1**2, 0.5 / 1.2**2]
    assert [u.item() for u in updates] == pytest.approx(expected, rel=1e-15)
    assert state.memory.eta.item() == pytest.approx(0.5 / 1.3**2, rel=1e-15)


def test_the_decay_has_the_rate_too():
    (u,), _ = feed(fo.scale_by_asgd(0.5, lambd=0.2), [numbers(1.0)], numbers(10.0))
    assert u.item() == 0.5 * (1.0 + 0.2 * 10.0)


def test_without_decay_it_needs_no_parameters():
    (u,), _ = feed(fo.scale_by_asgd(0.5, lambd=0.0), [numbers(3.0)])
    assert u.item() == 1.5


def test_the_mean_begins_two_steps_after_t0_and_then_all_count_alike():
    tx = fo.chain(fo.scale(1.0), fo.mean_of_params(2.0))
    params, state, seen = numbers(0.0), tx.init(numbers(0.0)), []
    for t in range(1, 8):
        updates, state = tx.update(numbers(float(t)), state, params)
        params = fo.apply_updates(params, updates)
        seen.append(params.item())
        expected = seen[-1] if t <= 4 else sum(seen[3:]) / (t - 3)
        assert fo.eval_params(tx, state, params).item() == pytest.approx(expected, rel=1e-15)


def test_before_the_first_step_the_mean_is_the_parameters():
    tx, params = fo.mean_of_params(), numbers(3.0, -1.0)
    assert torch.equal(fo.eval_params(tx, tx.init(params), params), params)


def test_the_optimizer_evaluates_with_the_mean_and_puts_the_parameters_back():
    p = torch.nn.Parameter(numbers(1.0, 2.0))
    opt = optim.ASGD([p], lr=0.1, t0=0)
    for _ in range(5):
        p.grad = p.detach().clone()
        opt.step()
    trained = p.detach().clone()
    with opt.averaged():
        assert torch.equal(p, opt.state[p]["ax"])
        assert not torch.equal(p, trained)
    assert torch.equal(p, trained)


@pytest.mark.parametrize("t0", [1e6, 20, 19.5])
def test_the_state_is_that_of_torch_under_a_scheduler_too(t0):
    """A new rate counts one step late, since each step makes that of the next."""
    torch.set_default_dtype(torch.float64)  # of torch's clocks
    try:
        states = []
        for cls in (optim.ASGD, torch.optim.ASGD):
            p = torch.nn.Parameter(torch.linspace(-1.0, 1.0, 5))
            opt = cls([p], lr=0.1, t0=t0, weight_decay=0.1)
            scheduler = torch.optim.lr_scheduler.StepLR(opt, 7, gamma=0.5)
            for t in range(200):
                p.grad = torch.sin(3 * p.detach() + t)
                opt.step()
                scheduler.step()
            states.append({**opt.state[p], "p": p.detach()})
    finally:
        torch.set_default_dtype(torch.float32)
    ours, theirs = states
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-12, atol=1e-12)


def test_a_late_joiner_has_a_rate_and_a_mean_of_its_own():
    early, late, fresh = (torch.nn.Parameter(torch.ones(2)) for _ in range(3))
    opt, other = optim.ASGD([early, late], t0=1), optim.ASGD([fresh], t0=1)
    for t in range(5):
        early.grad = torch.ones(2)
        late.grad = torch.ones(2) if t == 4 else None
        opt.step()
    fresh.grad = torch.ones(2)
    other.step()
    assert torch.equal(late, fresh)
    for key in ("eta", "mu", "ax"):
        assert torch.equal(opt.state[late][key], other.state[fresh][key])
    assert opt.state[early]["mu"] < opt.state[late]["mu"]


def test_a_probe_for_the_state_with_a_rate_of_zero_leaves_no_trace():
    """So `torch.distributed.checkpoint` asks; the first real step has the real rate."""
    from torch.distributed.checkpoint.state_dict import _init_optim_state

    p, q = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    opt, other = optim.ASGD([p], lr=0.1), optim.ASGD([q], lr=0.1)
    _init_optim_state(opt)
    for parameter, optimizer in ((p, opt), (q, other)):
        parameter.grad = torch.ones(2)
        optimizer.step()
    assert torch.equal(p, q)
