"""Contract B: `step`."""

import pytest
import torch
from torch.optim import lr_scheduler
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

import funcopt as fo
from funcopt import optim

from .common import KINDS, backward, every_kind, gap, loss_of, model, parameter, train, values

# 9 and 10: the arguments


CALLS = {
    "step()": lambda opt, closure: opt.step(),
    "step(None)": lambda opt, closure: opt.step(None),
    "step(closure=None)": lambda opt, closure: opt.step(closure=None),
    "step(closure)": lambda opt, closure: opt.step(closure),
    "step(closure=f)": lambda opt, closure: opt.step(closure=closure),
}


@every_kind
@pytest.mark.parametrize("call", CALLS)
def test_step_may_be_called_in_every_way(kind, call):
    """Contract 9."""
    net, again = model(), model()
    opt, plain = kind.make(net.parameters()), kind.make(again.parameters())
    backward(net, opt)
    CALLS[call](opt, lambda: backward(net, opt))
    train(again, plain, 1)
    assert gap(net, again) == 0.0


@every_kind
def test_a_closure_runs_once_with_gradients_and_its_value_comes_back(kind):
    """Contract 10: the gradients are read after it."""
    net, again, calls = model(), model(), []
    opt, plain = kind.make(net.parameters()), kind.make(again.parameters())

    def closure():
        calls.append(torch.is_grad_enabled())
        opt.zero_grad()
        loss = loss_of(net)
        loss.backward()
        calls.append(loss)
        return loss

    with torch.no_grad():
        loss = opt.step(closure)
    assert calls == [True, loss]
    assert loss is calls[1]
    train(again, plain, 1)
    assert gap(net, again) == 0.0


# 11 and 12: the gradients


@every_kind
@pytest.mark.parametrize("maximize", [False, True])
def test_gradients_are_neither_modified_nor_replaced(kind, maximize):
    """Contract 11."""
    net = model()
    opt = kind.make(net.parameters())
    for group in opt.param_groups:
        group["maximize"] = maximize
    for _ in range(3):
        backward(net, opt)
        before = [(p.grad, p.grad.clone(), p.grad._version) for p in net.parameters()]
        opt.step()
        for p, (grad, value, version) in zip(net.parameters(), before, strict=True):
            assert p.grad is grad
            assert grad._version == version
            assert torch.equal(grad, value)


@every_kind
def test_a_parameter_without_gradient_keeps_its_value_and_its_state(kind):
    """Contract 12."""
    a, b = parameter(3), parameter(2)
    opt = kind.make([a, b], weight_decay=0.3)
    opt.step()
    before = b.detach().clone(), {key: value.clone() for key, value in opt.state[b].items()}
    moved = a.detach().clone()
    b.grad = None
    opt.step()
    assert torch.equal(b, before[0])
    assert all(torch.equal(opt.state[b][key], value) for key, value in before[1].items())
    assert not torch.equal(a, moved)
    assert (opt.state[a]["step"], opt.state[b]["step"]) == (2, 1)


@every_kind
def test_without_any_gradient_nothing_happens(kind):
    """Contract 12: also not to what a schedule counts."""
    p = parameter(2)
    tx = fo.chain(fo.scale_by_adam(), fo.scale_by_learning_rate(fo.linear_schedule(0.1, 0.0, 10)))
    for opt in (kind.make([p], weight_decay=0.3), fo.Optimizer([p], tx)):
        p.grad = None
        opt.step()
        assert not opt.state
        p.grad = torch.ones_like(p)
        opt.step()
        before = p.detach().clone(), {key: value.clone() for key, value in opt.state[p].items()}
        p.grad = None
        opt.step()
        assert torch.equal(p, before[0])
        assert all(torch.equal(opt.state[p][key], value) for key, value in before[1].items())


@every_kind
def test_requires_grad_is_not_asked_for(kind):
    """Contract 12: a gradient is enough."""
    p = torch.ones(2)
    p.grad = torch.ones(2)
    opt = kind.make([p])
    opt.step()
    assert (p < 1).all()


@every_kind
def test_a_late_joiner_steps_as_with_a_fresh_optimizer(kind):
    """Contract 13: bias corrections count the steps of each parameter."""
    a, b, alone = parameter(3), parameter(2, grad=False), parameter(2)
    opt, fresh = kind.make([a, b]), kind.make([alone, parameter(3)])
    for _ in range(50):
        opt.step()
    b.grad = alone.grad.clone()
    opt.step()
    fresh.step()
    assert torch.equal(b, alone)


@every_kind
def test_a_sparse_gradient_is_refused_and_nothing_changes(kind):
    """Contract 14."""
    a, b = parameter(2), parameter(3)
    b.grad = b.grad.to_sparse()
    opt = kind.make([a, b])
    before = a.detach().clone()
    with pytest.raises(RuntimeError, match="does not support sparse gradients"):
        opt.step()
    assert torch.equal(a, before)
    assert not opt.state


# 15 and 16: who wraps `step`


@every_kind
def test_hooks_run_once_and_in_order(kind):
    """Contract 15."""
    net, seen = model(), []
    opt = kind.make(net.parameters())
    backward(net, opt)

    def note(name):
        def hook(*args):
            if args[0] is opt:
                seen.append((name, torch.equal(net[0].weight, before)))

        return hook

    before = net[0].weight.detach().clone()
    handles = [
        register_optimizer_step_pre_hook(note("global pre")),
        opt.register_step_pre_hook(note("pre")),
        opt.register_step_post_hook(note("post")),
        register_optimizer_step_post_hook(note("global post")),
    ]
    try:
        opt.step()
    finally:
        for handle in handles:
            handle.remove()
    assert seen == [("global pre", True), ("pre", True), ("post", False), ("global post", False)]


@every_kind
def test_hooks_run_once_beside_an_instance_of_the_parent_class(kind):
    """Contract 15."""
    fo.Optimizer([parameter(1)], fo.sgd(0.1)).step()
    opt, seen = kind.make([parameter(2)]), []
    opt.register_step_post_hook(lambda *args: seen.append(1))
    opt.step()
    assert seen == [1]


@every_kind
def test_a_pre_hook_may_replace_the_arguments(kind):
    """Contract 15."""
    net, calls = model(), []
    opt = kind.make(net.parameters())
    opt.register_step_pre_hook(lambda opt, args, kwargs: ((opt, lambda: calls.append(1)), {}))
    opt.step()
    assert calls == [1]


@every_kind
def test_step_is_a_method_until_a_scheduler_wraps_it(kind):
    """Contract 16."""
    net = model()
    opt = kind.make(net.parameters())
    assert opt.step.__func__
    assert "step" not in vars(opt)
    lr_scheduler.ConstantLR(opt)
    train(net, opt, 2)
    assert opt._opt_called


# 17: differentiable


def stepped(kind, grad, lr, steps=2):
    """Parameters after some steps that stay on the tape."""
    p = torch.linspace(0.5, 1.5, 3, dtype=torch.float64).clone()
    opt = kind.make([torch.zeros(3, dtype=torch.float64)])
    opt.defaults["differentiable"] = opt.param_groups[0]["differentiable"] = True
    opt.param_groups[0]["params"] = [p]
    opt.param_groups[0]["lr"] = lr
    for t in range(steps):
        p.grad = grad * (t + 1)
        opt.step()
    return p


@every_kind
def test_steps_can_be_differentiated(kind):
    """Contract 17: with respect to gradients and hyperparameters."""
    grad = torch.tensor([0.3, -0.2, 0.4], dtype=torch.float64, requires_grad=True)
    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda g, rate: stepped(kind, g, rate), (grad, lr))


@pytest.mark.parametrize("cls", [optim.Adam, optim.AdamW])
def test_a_state_that_was_put_there_is_used_and_stays_on_the_tape(cls):
    """Contract 17, 24: as torch's own tests do it."""

    def after(p, grad, exp_avg):
        p = p.clone()
        p.grad = grad
        opt = cls([p], lr=0.9, differentiable=True, weight_decay=0.1)
        opt.state[p].update(
            step=torch.tensor(10.0, dtype=torch.float64),
            exp_avg=exp_avg.clone(),
            exp_avg_sq=torch.rand(4, dtype=torch.float64, generator=torch.manual_seed(0)),
        )
        opt.step()
        assert opt.state[p]["step"] == 11
        return p, *(v for v in opt.state[p].values() if v.requires_grad)

    def leaf(seed):
        made = torch.rand(4, dtype=torch.float64, generator=torch.manual_seed(seed))
        return made.requires_grad_()

    assert torch.autograd.gradcheck(after, (leaf(1), leaf(2), leaf(3)))


# 18 to 20: hyperparameters


SETTINGS = {
    "lr": (0.01, 0.05, 0.002),
    "weight_decay": (0.0, 0.1, 0.3),
    "maximize": (False, True, False),
    "betas": ((0.9, 0.999), (0.5, 0.99), (0.0, 0.9)),
    "eps": (1e-8, 1e-3, 1e-2),
    "momentum": (0.9, 0.5, 0.1),
    "dampening": (0.0, 0.3, 0.0),
}


HELD = [
    pytest.param(kind, key, id=f"{kind}-{key}")
    for kind in KINDS
    for key in SETTINGS
    if key in kind.theirs([parameter(1)]).param_groups[0]
]


@pytest.mark.parametrize(("kind", "key"), HELD)
def test_a_hyperparameter_set_in_a_group_counts_from_the_next_step(kind, key):
    """Contract 18: the groups differ, and change in mid-training."""
    nets = model(), model()
    for net, make, clips in zip(nets, (kind.make, kind.theirs), (False, kind.clips), strict=True):
        groups = [{"params": net[0].parameters()}, {"params": net[2].parameters()}]
        opt = make(groups)
        for t in range(12):
            opt.param_groups[0][key] = SETTINGS[key][t // 2 % 3]
            opt.param_groups[1][key] = SETTINGS[key][(t + 1) % 3]
            train(net, opt, 1, clips)
    assert gap(*nets) <= 1e-12


def rates(lr, dims):
    return torch.full((1,) * dims, lr, dtype=torch.float64)


@every_kind
@pytest.mark.parametrize("dims", [0, 1, 2])
def test_a_tensor_of_one_element_is_an_lr(kind, dims):
    """Contract 19."""
    nets = model(), model()
    lr = rates(0.02, dims)
    train(nets[0], kind.make([{"params": nets[0].parameters(), "lr": lr}]), 10)
    train(nets[1], kind.theirs(nets[1].parameters(), lr=0.02), 10, kind.clips)
    assert gap(*nets) <= 1e-9
    assert lr.shape == (1,) * dims


@pytest.mark.parametrize("dims", [0, 1, 2])
def test_a_class_takes_a_tensor_of_one_element(dims):
    """Contract 19."""
    nets = model(), model()
    lr = rates(0.02, dims)
    opt = optim.AdamW(nets[0].parameters(), lr=lr)
    train(nets[0], opt, 10)
    train(nets[1], torch.optim.AdamW(nets[1].parameters(), lr=0.02), 10)
    assert gap(*nets) <= 1e-9
    assert opt.param_groups[0]["lr"] is lr


@every_kind
@pytest.mark.parametrize("dims", [0, 1])
def test_a_tensor_lr_is_filled_by_schedulers_and_shared_by_groups(kind, dims):
    """Contract 19."""
    nets = model(), model()
    lr = rates(0.02, dims)
    for net, make, rate, clips in zip(
        nets, (kind.make, kind.theirs), (lr, 0.02), (False, kind.clips), strict=True
    ):
        opt = make([{"params": [p], "lr": rate} for p in net.parameters()])
        for _ in range(6):
            train(net, opt, 1, clips)
            if rate is lr:
                assert all(group["lr"] is lr for group in opt.param_groups)
                lr.fill_(lr.item() * 0.7)
            else:
                for group in opt.param_groups:
                    group["lr"] *= 0.7
    assert gap(*nets) <= 1e-9


@every_kind
def test_a_scheduler_keeps_a_tensor_lr_a_tensor(kind):
    """Contract 19."""
    nets = model(), model()
    for net, make, rate, clips in zip(
        nets, (kind.make, kind.theirs), (rates(0.02, 0), 0.02), (False, kind.clips), strict=True
    ):
        opt = make(net.parameters(), lr=rate)
        scheduler = lr_scheduler.ExponentialLR(opt, 0.7)
        for _ in range(6):
            train(net, opt, 1, clips)
            scheduler.step()
    assert gap(*nets) <= 1e-9


@every_kind
@pytest.mark.parametrize("lr", [1, 0])
def test_an_int_is_an_lr(kind, lr):
    """Contract 19."""
    nets = model(), model()
    train(nets[0], kind.make(nets[0].parameters(), lr=lr), 3)
    train(nets[1], kind.theirs(nets[1].parameters(), lr=lr), 3, kind.clips)
    assert gap(*nets) <= 1e-12


@every_kind
def test_a_numpy_float_is_an_lr(kind):
    """Contract 19."""
    numpy = pytest.importorskip("numpy")
    nets = model(), model()
    opt = kind.make(nets[0].parameters(), lr=numpy.float64(0.03))
    opt.param_groups[0]["weight_decay"] = numpy.float32(0.25)
    train(nets[0], opt, 3)
    train(nets[1], kind.theirs(nets[1].parameters(), lr=0.03, weight_decay=0.25), 3, kind.clips)
    assert gap(*nets) <= 1e-9


@every_kind
def test_unknown_keys_of_groups_are_carried(kind):
    """Contract 20."""
    nets = model(), model()
    foreign = {"initial_lr": 0.1, "swa_lr": 0.2, "lr_scale": 0.5, "name": "all", "tag": None}
    opt = kind.make([{"params": list(nets[0].parameters()), **foreign}])
    plain = kind.make(nets[1].parameters())
    for t in range(5):
        opt.param_groups[0]["lookahead_step"] = t
        train(nets[0], opt, 1)
        train(nets[1], plain, 1)
    assert gap(*nets) == 0.0
    saved = opt.state_dict()["param_groups"][0]
    assert {key: saved[key] for key in foreign} == foreign
    assert saved["lookahead_step"] == 4


SCHEDULERS = {
    "LambdaLR": lambda opt: lr_scheduler.LambdaLR(opt, lambda t: 1 / (1 + t)),
    "MultiplicativeLR": lambda opt: lr_scheduler.MultiplicativeLR(opt, lambda t: 0.9),
    "StepLR": lambda opt: lr_scheduler.StepLR(opt, 3, 0.5),
    "MultiStepLR": lambda opt: lr_scheduler.MultiStepLR(opt, [2, 5], 0.5),
    "ConstantLR": lambda opt: lr_scheduler.ConstantLR(opt, 0.5, 4),
    "LinearLR": lambda opt: lr_scheduler.LinearLR(opt, 0.1, 1.0, 6),
    "ExponentialLR": lambda opt: lr_scheduler.ExponentialLR(opt, 0.8),
    "PolynomialLR": lambda opt: lr_scheduler.PolynomialLR(opt, 10, 2.0),
    "CosineAnnealingLR": lambda opt: lr_scheduler.CosineAnnealingLR(opt, 10),
    "CosineAnnealingWarmRestarts": lambda opt: lr_scheduler.CosineAnnealingWarmRestarts(opt, 5),
    "CyclicLR": lambda opt: lr_scheduler.CyclicLR(opt, 0.001, 0.1, 4),
    "OneCycleLR": lambda opt: lr_scheduler.OneCycleLR(opt, 0.1, total_steps=20),
    "ReduceLROnPlateau": lambda opt: lr_scheduler.ReduceLROnPlateau(opt, patience=1, factor=0.5),
    "SequentialLR": lambda opt: lr_scheduler.SequentialLR(
        opt,
        [lr_scheduler.ConstantLR(opt, 0.1, 3), lr_scheduler.ExponentialLR(opt, 0.9)],
        milestones=[3],
    ),
    "ChainedScheduler": lambda opt: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(opt, 0.1, 3), lr_scheduler.ExponentialLR(opt, 0.9)]
    ),
    "SWALR": lambda opt: torch.optim.swa_utils.SWALR(opt, 0.005, anneal_epochs=5),
}


def test_every_scheduler_of_torch_is_held():
    """Contract 4, 18."""
    found = {
        name
        for name, value in vars(lr_scheduler).items()
        if isinstance(value, type) and issubclass(value, lr_scheduler.LRScheduler)
    }
    assert found - {"LRScheduler", "_LRScheduler"} == set(SCHEDULERS) - {"SWALR"}


@every_kind
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_does_what_it_does_to_torchs(kind, name):
    """Contract 4, 18: the same rates, momenta and parameters, group by group."""
    nets, seen = (model(), model()), ([], [])
    for net, make, clips, log in zip(
        nets, (kind.make, kind.theirs), (False, kind.clips), seen, strict=True
    ):
        opt = make([{"params": net[0].parameters()}, {"params": net[2].parameters(), "lr": 0.03}])
        scheduler = SCHEDULERS[name](opt)
        for t in range(18):
            train(net, opt, 1, clips)
            scheduler.step(*((1.0 + (t > 4),) if name == "ReduceLROnPlateau" else ()))
            log.append([(group["lr"], group[kind.momentum]) for group in opt.param_groups])
    assert seen[0] == seen[1]
    assert gap(*nets) <= 1e-12


@every_kind
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_resumes_with_the_optimizer(kind, name):
    """Contract 4, 32."""

    def run(net, opt, scheduler, steps):
        for t in steps:
            train(net, opt, 1)
            scheduler.step(*((1.0 + (t > 4),) if name == "ReduceLROnPlateau" else ()))

    nets = model(), model()
    opts = kind.make(nets[0].parameters()), kind.make(nets[1].parameters())
    schedulers = [SCHEDULERS[name](opt) for opt in opts]
    run(nets[0], opts[0], schedulers[0], range(5))
    nets[1].load_state_dict(nets[0].state_dict())
    opts[1].load_state_dict(opts[0].state_dict())
    schedulers[1].load_state_dict(schedulers[0].state_dict())
    for net, opt, scheduler in zip(nets, opts, schedulers, strict=True):
        run(net, opt, scheduler, range(5, 14))
    assert gap(*nets) == 0.0


# 21 and 22: the parameters


@pytest.mark.parametrize("kind", ["AdamW", "SGD"])
def test_complex_parameters_are_two_reals(kind):
    """Contract 21."""
    make = {"AdamW": optim.AdamW, "SGD": lambda p: optim.SGD(p, 1e-3, momentum=0.9)}[kind]
    whole = torch.nn.Parameter(torch.randn(3, dtype=torch.complex128, generator=seeded()))
    parts = torch.nn.Parameter(torch.view_as_real(whole.detach()).clone())
    opts = make([whole]), make([parts])
    for _ in range(4):
        whole.grad = torch.randn(3, dtype=torch.complex128, generator=seeded())
        parts.grad = torch.view_as_real(whole.grad).clone()
        for opt in opts:
            opt.step()
    assert torch.equal(torch.view_as_real(whole.detach()), parts.detach())


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


SHAPES = {
    "0-d": lambda: torch.tensor(0.5),
    "empty": lambda: torch.empty(0, 3),
    "transposed": lambda: torch.randn(4, 3, generator=seeded()).t(),
    "strided": lambda: torch.randn(6, 4, generator=seeded())[::2, ::2],
    "channels last": lambda: torch.randn(2, 3, 2, 2, generator=seeded()).to(
        memory_format=torch.channels_last
    ),
}


@every_kind
@pytest.mark.parametrize("shape", SHAPES)
def test_parameters_of_every_layout_step_as_torchs(kind, shape):
    """Contract 21."""
    both = [torch.nn.Parameter(SHAPES[shape]().double()) for _ in range(2)]
    strides = both[0].stride()
    for p, make, clips in zip(both, (kind.make, kind.theirs), (False, kind.clips), strict=True):
        opt = make([p])
        for t in range(4):
            p.grad = torch.randn(p.shape, dtype=p.dtype, generator=seeded(t))
            if clips:
                torch.nn.utils.clip_grad_norm_([p], 0.05)
            opt.step()
    torch.testing.assert_close(*both, rtol=0, atol=1e-12)
    assert both[0].stride() == strides


@every_kind
def test_dtypes_may_be_mixed(kind):
    """Contract 21: each is stepped as it is alone."""
    dtypes = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
    together = [parameter(4, dtype=dtype) for dtype in dtypes]
    for p in together:
        p.grad.mul_(1e-3)  # so that nothing is clipped
    alone = [parameter(4, dtype=dtype) for dtype in dtypes]
    for p in alone:
        p.grad.mul_(1e-3)
    both = kind.make(together)
    each = [kind.make([p]) for p in alone]
    for _ in range(3):
        both.step()
        for opt in each:
            opt.step()
    for p, q in zip(together, alone, strict=True):
        assert p.dtype == q.dtype
        assert torch.equal(p, q)


@every_kind
def test_zero_grad_is_that_of_torch(kind):
    """Contract 22."""
    net = model()
    opt = kind.make(net.parameters())
    backward(net, opt)
    opt.zero_grad(set_to_none=False)
    assert all(p.grad is not None and not p.grad.any() for p in net.parameters())
    opt.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    assert len(values(net)) == 4
