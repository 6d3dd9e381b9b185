"""Contract F: mixed precision, `torch.compile`, functional use."""

import pytest
import torch

from funcopt import optim

from .common import (
    backward,
    copied,
    every_kind,
    every_optimizer,
    gap,
    loss_of,
    model,
    train,
    values,
)


def scaled(net, opt, scaler, spoil=False):
    opt.zero_grad()
    scaler.scale(loss_of(net)).backward()
    if spoil:
        next(net.parameters()).grad.view(-1)[0] = torch.inf
    scaler.step(opt)
    scaler.update()


@every_optimizer
def test_steps_of_a_grad_scaler_are_those_without_it(make):
    """Contract 48: gradients are unscaled before the step."""
    net, again = model(torch.float32), model(torch.float32)
    opt, plain = make(net), make(again)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    assert not getattr(opt, "_step_supports_amp_scaling", False)
    for _ in range(5):
        scaled(net, opt, scaler)
    train(again, plain, 5)
    assert gap(net, again) <= 1e-6


@every_optimizer
@pytest.mark.parametrize("first", [True, False])
def test_an_infinite_gradient_skips_the_step(make, first):
    """Contract 48: parameters and clocks stand, and the scale falls."""
    net, again = model(torch.float32), model(torch.float32)
    opt, plain = make(net), make(again)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    if not first:
        scaled(net, opt, scaler)
        train(again, plain, 1)
    before = values(net)
    scaled(net, opt, scaler, spoil=True)
    assert gap(net, before) == 0.0
    assert scaler.get_scale() == 2.0**9
    scaled(net, opt, scaler)
    train(again, plain, 1)
    assert gap(net, again) <= 1e-6
    assert all(stored["step"] == 2 - first for stored in opt.state.values())


@every_kind
def test_a_grad_scaler_unscales_on_request(kind):
    """Contract 48: to clip by hand."""
    net, again = model(torch.float32), model(torch.float32)
    opt, plain = kind.make(net.parameters()), kind.make(again.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for _ in range(3):
        opt.zero_grad()
        scaler.scale(loss_of(net)).backward()
        scaler.unscale_(opt)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        scaler.step(opt)
        scaler.update()
        backward(again, plain)
        torch.nn.utils.clip_grad_norm_(again.parameters(), 0.1)
        plain.step()
    assert gap(net, again) <= 1e-6


@pytest.fixture
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@every_kind
@pytest.mark.parametrize("warm", [False, True])
def test_a_compiled_step_is_the_step(kind, warm, fresh_dynamo):
    """Contract 49."""
    net, again = model(), model()
    opt, plain = kind.make(net.parameters()), kind.make(again.parameters())
    if warm:
        train(net, opt, 1)
        train(again, plain, 1)
    step = torch.compile(opt.step, backend="eager")
    for _ in range(4):
        backward(net, opt)
        step()
        train(again, plain, 1)
    assert gap(net, again) <= 1e-6
    assert all(stored["step"] == 4 + warm for stored in opt.state.values())


@every_kind
def test_a_compiled_step_follows_a_tensor_lr(kind, fresh_dynamo):
    """Contract 19, 49."""
    net, again = model(), model()
    lr = torch.tensor(0.01, dtype=torch.float64)
    opt = kind.make([{"params": net.parameters(), "lr": lr}])
    plain = kind.make(again.parameters())
    step = torch.compile(opt.step, backend="eager")
    for t in range(4):
        lr.fill_(0.01 / (1 + t))
        plain.param_groups[0]["lr"] = 0.01 / (1 + t)
        backward(net, opt)
        step()
        train(again, plain, 1)
    assert gap(net, again) <= 1e-6


def hyper(groups):
    return [{k: v for k, v in group.items() if k != "params"} for group in groups]


swaps = pytest.mark.skipif(
    not hasattr(torch.optim, "swap_in_optimizer_params_and_state"), reason="new in torch 2.13"
)


@swaps
@every_optimizer
def test_parameters_and_state_may_be_swapped_in_for_a_step(make):
    """Contract 51: the step goes to what was swapped in, and the rest is as it was."""
    net, again = model(), model()
    opt, other = make(net), make(again)
    train(net, opt, 2)
    train(again, other, 2)
    backward(net, opt)
    state = copied(opt.state_dict())
    params = {name: p.detach().clone() for name, p in net.named_parameters()}
    for name, p in net.named_parameters():
        params[name].grad = p.grad.clone()
    if len(opt.param_groups) > 1:  # in the order of the groups
        name_of = {p: name for name, p in net.named_parameters()}
        params = {
            name_of[p]: params[name_of[p]] for group in opt.param_groups for p in group["params"]
        }
    before, kept = values(net), copied(opt.state_dict())
    groups = hyper(opt.param_groups)
    with torch.optim.swap_in_optimizer_params_and_state(opt, params, state):
        opt.step()
    assert gap(net, before) == 0.0
    assert hyper(opt.param_groups) == groups
    for at, stored in opt.state_dict()["state"].items():
        assert all(torch.equal(value, kept["state"][at][key]) for key, value in stored.items())
    train(again, other, 1)
    for name, p in again.named_parameters():
        assert torch.equal(p, params[name])
    for at, stored in other.state_dict()["state"].items():
        assert all(torch.equal(value, state["state"][at][key]) for key, value in stored.items())
    train(net, opt, 2)  # and here it goes on
    train(again, other, 1)
    assert gap(net, again) == 0.0


@swaps
def test_hyperparameters_of_the_state_that_was_swapped_in_count():
    """Contract 51."""
    net, again = model(), model()
    opt, other = optim.AdamW(net.parameters()), optim.AdamW(again.parameters())
    train(net, opt, 1)
    train(again, other, 1)
    backward(net, opt)
    state = copied(opt.state_dict())
    state["param_groups"][0]["lr"] = 0.5
    params = {name: p.detach().clone() for name, p in net.named_parameters()}
    for name, p in net.named_parameters():
        params[name].grad = p.grad.clone()
    with torch.optim.swap_in_optimizer_params_and_state(opt, params, state):
        opt.step()
    other.param_groups[0]["lr"] = 0.5
    train(again, other, 1)
    assert all(torch.equal(p, params[name]) for name, p in again.named_parameters())
    assert opt.param_groups[0]["lr"] == 1e-3


def test_capturable_optimizers_count_on_the_device():
    """Contract 50: on a CPU, that their steps are the same."""
    net, again = model(), model()
    opt = optim.AdamW(net.parameters(), capturable=True)
    plain = optim.AdamW(again.parameters())
    train(net, opt, 5)
    train(again, plain, 5)
    assert opt.param_groups[0]["capturable"]
    assert gap(net, again) <= 1e-12
