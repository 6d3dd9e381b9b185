"""`Optimizer`: the pure form and torch's conventions, in one object."""

import copy
import pickle

import pytest
import torch

import funcopt as fo
from funcopt import optim


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)
    ).double()


DATA = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(8, 3)


def loss_of(net):
    return (net(DATA) - DATA.sum(1, keepdim=True).sin()).square().mean()


def backward(net, opt):
    opt.zero_grad()
    loss = loss_of(net)
    loss.backward()
    return loss


def train(net, opt, steps):
    for _ in range(steps):
        backward(net, opt)
        opt.step()


def params_of(net):
    return {name: p.detach().clone() for name, p in net.named_parameters()}


def gap(net, other):
    return max((p - other[name]).abs().max().item() for name, p in net.named_parameters())


def trained_purely(tx, steps, rates=None):
    net = model()
    params = params_of(net)
    state = tx.init(params)

    def value(params):
        out = torch.func.functional_call(net, params, (DATA,))
        return (out - DATA.sum(1, keepdim=True).sin()).square().mean()

    for t in range(steps):
        grads = torch.func.grad(value)(params)
        updates, state = tx.update(grads, state, params)
        if rates is not None:
            updates = fo.tree.map(lambda u, rate=rates[t]: rate * u, updates)
        params = fo.apply_updates(params, updates)
    return params


CHAIN = fo.chain(fo.clip_by_global_norm(0.1), fo.scale_by_adam(), fo.scale(-1e-2))


def test_a_chain_without_lr_follows_a_scheduler_as_a_relative_one():
    net = model()
    opt = fo.Optimizer(net.parameters(), CHAIN)
    scheduler = torch.optim.lr_scheduler.StepLR(opt, step_size=5, gamma=0.5)
    for _ in range(20):
        loss = opt.step(lambda: backward(net, opt))
        assert loss.requires_grad
        scheduler.step()
    rates = [0.5 ** (t // 5) for t in range(20)]
    assert gap(net, trained_purely(CHAIN, 20, rates)) <= 1e-12


def test_a_schedule_inside_is_the_schedule_of_the_pure_form():
    tx = fo.chain(
        fo.scale_by_adam(betas=(fo.linear_schedule(0.8, 0.9, 10), 0.99)),
        fo.scale_by_learning_rate(fo.warmup_cosine_decay_schedule(0.0, 0.1, 3, 15)),
    )
    net = model()
    opt = fo.Optimizer(net.parameters(), tx)
    shown = []
    for _ in range(20):
        shown.append(opt.param_groups[0]["lr"])
        train(net, opt, 1)
    assert gap(net, trained_purely(tx, 20)) <= 1e-12
    assert shown == [tx.stages[1].lr(t) for t in range(20)]


def test_the_closure_is_called_once_with_gradients_enabled():
    net, calls = model(), []
    opt = optim.SGD(net.parameters(), lr=0.1)

    def closure():
        calls.append(torch.is_grad_enabled())
        return backward(net, opt)

    with torch.no_grad():
        opt.step(closure)
    assert calls == [True]


@pytest.mark.parametrize("maximize", [False, True])
def test_maximize_ascends(maximize):
    net = model()
    opt = fo.Optimizer(net.parameters(), fo.sgd(0.01), maximize=maximize)
    before = loss_of(net).item()
    train(net, opt, 3)
    assert (loss_of(net).item() > before) == maximize


def test_state_is_torchs_flat_dict_made_at_the_first_step_and_kept_in_place():
    net = model()
    opt = optim.AdamW(net.parameters())
    assert not opt.state
    train(net, opt, 1)
    first = {p: dict(s) for p, s in opt.state.items()}
    assert all(set(s) == {"step", "exp_avg", "exp_avg_sq"} for s in first.values())
    train(net, opt, 2)
    for p, state in opt.state.items():
        assert all(state[key] is value for key, value in first[p].items())
        assert state["step"] == 3


def test_a_later_stage_with_the_same_slot_gets_a_longer_key():
    p = torch.nn.Parameter(torch.ones(2))
    opt = fo.Optimizer([p], fo.chain(fo.ema(0.9), fo.scale_by_adam(), fo.ema(0.5), fo.scale(-1.0)))
    p.grad = torch.ones(2)
    opt.step()
    assert set(opt.state[p]) == {"step", "ema", "exp_avg", "exp_avg_sq", "ema_2/ema"}


def test_hyperparameters_are_read_at_every_step():
    p = torch.nn.Parameter(torch.ones(1))
    opt = optim.SGD([p], lr=0.1)
    for lr, momentum in ((0.1, 0), (0.5, 0), (0.5, 0.9), (0.25, 0.9)):
        opt.param_groups[0].update(lr=lr, momentum=momentum)
        p.grad = torch.ones(1)
        opt.step()
    expected = 1 - 0.1 - 0.5 - 0.5 - 0.25 * 1.9
    assert p.item() == pytest.approx(expected)


def test_groups_have_their_own_numbers_and_share_the_norm():
    torch.manual_seed(0)
    a, b = (torch.nn.Parameter(torch.randn(3, dtype=torch.float64)) for _ in range(2))
    tx = fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(0.1))
    opt = fo.Optimizer([{"params": [a]}, {"params": [b], "lr": 0.5}], tx)
    before = a.detach().clone(), b.detach().clone()
    a.grad, b.grad = torch.full_like(a, 3.0), torch.full_like(b, -4.0)
    norm = torch.cat([a.grad, b.grad]).norm()
    opt.step()
    factor = 1.0 / (norm + 1e-6)
    torch.testing.assert_close(a.detach(), before[0] - 0.1 * factor * 3.0)
    torch.testing.assert_close(b.detach(), before[1] + 0.5 * factor * 4.0)


def test_a_parameter_without_gradient_is_skipped_and_its_step_stands():
    a, b = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    opt = optim.AdamW([a, b], weight_decay=0.5)
    a.grad = torch.ones(2)
    opt.step()
    assert torch.equal(b, torch.ones(2))
    assert b not in opt.state
    b.grad = torch.ones(2)
    opt.step()
    assert (opt.state[a]["step"], opt.state[b]["step"]) == (2, 1)


def test_without_any_gradient_nothing_happens():
    p = torch.nn.Parameter(torch.ones(2))
    opt = optim.AdamW([p])
    opt.step()
    assert not opt.state


def test_a_tensor_put_into_the_group_is_the_one_that_is_stepped():
    x, other = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    opt = optim.SGD([x], lr=0.5)
    opt.param_groups[0]["params"][0] = other
    x.grad = other.grad = torch.ones(2)
    opt.step()
    assert torch.equal(x, torch.ones(2))
    assert torch.equal(other, torch.full((2,), 0.5))


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate")
def test_a_tensor_that_stands_twice_in_a_group_is_stepped_once():
    p = torch.nn.Parameter(torch.ones(2))
    opt = optim.SGD([p, p], lr=0.5)
    p.grad = torch.ones(2)
    opt.step()
    assert torch.equal(p, torch.full((2,), 0.5))


def test_gradients_are_not_touched():
    p = torch.nn.Parameter(torch.ones(2))
    opt = fo.Optimizer([p], fo.chain(fo.clip(0.1), fo.sgd(0.1, momentum=0.9)), maximize=True)
    p.grad = torch.ones(2)
    grad, version = p.grad, p.grad._version
    opt.step()
    assert p.grad is grad
    assert grad._version == version


def test_bfloat16_parameters_are_rounded_once():
    p = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.bfloat16))
    opt = optim.SGD([p], lr=1.0)
    p.grad = torch.tensor([2**-9], dtype=torch.bfloat16) * 1.5
    opt.step()
    assert p.item() == 1 - 2**-8  # 1 - 1.5 * 2^-9 lies nearer to it than to 1


def test_slots_may_be_wider_than_the_parameters_and_stay_so_on_loading():
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    tx = fo.chain(fo.scale_by_adam(state_dtype=torch.float32), fo.scale(-0.1))
    opt = fo.Optimizer([p], tx)
    p.grad = torch.full_like(p, 1 / 3)
    opt.step()
    saved = copy.deepcopy(opt.state_dict())
    opt.load_state_dict(saved)
    for key, value in saved["state"][0].items():
        assert opt.state[p][key].dtype == value.dtype
        assert torch.equal(opt.state[p][key], value)


@pytest.mark.parametrize("make", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_go_on_as_the_original(make):
    net = model()
    opt = fo.Optimizer(net.parameters(), fo.chain(CHAIN, fo.trace(0.5)))
    train(net, opt, 3)
    net2, opt2 = make((net, opt))
    train(net, opt, 3)
    train(net2, opt2, 3)
    assert gap(net2, params_of(net)) == 0.0


def test_resuming_is_as_if_never_stopped(tmp_path):
    tx = fo.chain(
        CHAIN, fo.scale_by_learning_rate(fo.cosine_decay_schedule(1.0, 8), flip_sign=False)
    )
    net = model()
    opt = fo.Optimizer(net.parameters(), tx)
    train(net, opt, 4)
    torch.save({"net": net.state_dict(), "opt": opt.state_dict()}, tmp_path / "x.pt")
    train(net, opt, 4)
    again = model()
    opt = fo.Optimizer(again.parameters(), tx)
    saved = torch.load(tmp_path / "x.pt", weights_only=True)
    again.load_state_dict(saved["net"])
    opt.load_state_dict(saved["opt"])
    train(again, opt, 4)
    assert gap(again, params_of(net)) == 0.0


def test_it_prints_readably():
    opt = fo.Optimizer([torch.nn.Parameter(torch.ones(1))], CHAIN)
    assert str(opt) == (
        "Optimizer (\n"
        "Parameter Group 0\n"
        "    betas: (0.9, 0.999)\n"
        "    differentiable: False\n"
        "    eps: 1e-08\n"
        "    eps_root: 0.0\n"
        "    factor: -0.01\n"
        "    lr: 1.0\n"
        "    max_norm: 0.1\n"
        "    maximize: False\n"
        "Transformation: chain(clip_by_global_norm, scale_by_adam, scale, scale_by_learning_rate)\n"
        ")"
    )


def test_a_chain_that_ascends_is_announced():
    with pytest.warns(UserWarning, match="does not negate the updates") as caught:
        fo.Optimizer([torch.nn.Parameter(torch.ones(1))], fo.scale_by_adam())
    assert [w.filename for w in caught] == [__file__]


signum = optim.optimizer_class(
    "signum",
    lambda lr, beta=0.9: fo.chain(
        fo.ema(beta, debias=False), fo.scale_by_sign(), fo.scale_by_learning_rate(lr)
    ),
    lr=0.1,
)


def test_a_class_of_ones_own_takes_arguments_as_torchs_do():
    p = torch.nn.Parameter(torch.zeros(2))
    opt = signum([{"params": [p], "beta": 0.5}], 0.25, foreach=True)
    assert isinstance(opt, torch.optim.Optimizer)
    assert opt.defaults["lr"] == 0.25
    assert opt.defaults["beta"] == 0.9
    p.grad = torch.tensor([1.0, -2.0])
    opt.step()
    assert p.tolist() == [-0.25, 0.25]
    assert pickle.loads(pickle.dumps(opt)).param_groups[0]["beta"] == 0.5
    assert type(opt)([p], **opt.defaults).defaults == opt.defaults


def test_a_chain_takes_torchs_switches():
    p = torch.nn.Parameter(torch.ones(2))
    opt = fo.Optimizer([p], fo.adamw(0.1), capturable=True)
    p.grad = torch.ones(2)
    opt.step()
    assert opt.param_groups[0]["capturable"]
    q = torch.ones(2, requires_grad=True) * 1
    q.retain_grad()
    opt = fo.Optimizer([q], fo.sgd(0.1, momentum=0.9), differentiable=True)
    q.grad = torch.ones(2)
    opt.step()
    assert q.grad_fn is not None


@pytest.mark.parametrize(
    "tx",
    [
        fo.chain(fo.adamw(0.1), fo.scale(-0.1)),
        fo.chain(fo.scale_by_adam(), fo.scale(1e-2)),
    ],
    ids=["the sign turned twice", "a factor that does not turn it"],
)
def test_other_chains_that_ascend_are_announced_too(tx):
    with pytest.warns(UserWarning, match="would increase the loss"):
        fo.Optimizer([torch.nn.Parameter(torch.ones(1))], tx)


def test_schedulers_are_found_where_torch_has_them():
    from funcopt.optim.lr_scheduler import StepLR

    assert StepLR is torch.optim.lr_scheduler.StepLR
    assert optim.swa_utils.AveragedModel is torch.optim.swa_utils.AveragedModel


def test_a_second_stage_of_a_copy_still_checks_names():
    tx = fo.partition({"a": fo.sgd(0.1)}, [("^a", "a")])
    opt = copy.deepcopy(fo.Optimizer([("a", torch.nn.Parameter(torch.ones(1)))], tx))
    with pytest.raises(ValueError, match="nothing fits parameter `b`"):
        opt.add_param_group({"params": [("b", torch.nn.Parameter(torch.ones(1)))]})
