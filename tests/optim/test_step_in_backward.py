"""Each parameter is stepped in `backward`: the results are those of the usual loop, exactly."""

import copy
import itertools
import pickle
import threading
import weakref

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import funcopt as fo
from funcopt import optim
from funcopt.engine import _traced_backend
from funcopt.errors import (
    ExtraArgumentError,
    HyperparameterError,
    ModeError,
    SparseGradientError,
    StructureError,
)

from ..contract.common import OPTIMIZERS, adamw, assert_same_state, loss_of, model, parameter
from ..test_errors import assert_says
from .test_memory import CLASSES, without_collector  # noqa: F401  # a fixture

ENGINES = ["eager", "torch", "foreach", "fused"]
NEED_OTHERS = {
    *("chain", "short ways", "short ways of labels", "skip_if", "skip outliers", "prodigy"),
    *("dadapt", "Prodigy", "DAdaptAdamW", "LBFGS", "Sophia"),
    *("DoG", "DoWG", "PolyakSGD", "MoMo", "MoMoAdam"),
}
MAKES = {
    **OPTIMIZERS,
    **{k: lambda net, c=c: c(net.named_parameters()) for k, c in CLASSES.items()},
}
ALONE = {name: make for name, make in MAKES.items() if name not in NEED_OTHERS}


def train(net, opt, steps, scheduler=None, loss=loss_of):
    for _ in range(steps):
        loss(net).backward()
        if opt._in_backward is not None:
            assert all(p.grad is None for p in net.parameters())
        opt.step()
        opt.zero_grad()
        if scheduler is not None:
            scheduler.step()


def both(make, steps=5, scheduler=None, loss=loss_of, net=model):
    """Model and optimizer after the usual loop, and after steps in `backward`."""
    found = []
    for how in ("usual", "in backward"):
        mine = net()
        opt = make(mine)
        if how == "in backward":
            opt.step_in_backward()
        train(mine, opt, steps, scheduler and scheduler(opt), loss)
        found.append((mine, opt))
    return found


def assert_same(one, other):
    (net, opt), (mine, own) = one, other
    for p, q in zip(net.parameters(), mine.parameters(), strict=True):
        assert torch.equal(p, q)
    assert_same_state(opt.state_dict(), own.state_dict())
    found, theirs = own.metrics("layer"), opt.metrics("layer")
    assert list(found) == list(theirs)
    for key in found:
        torch.testing.assert_close(found[key], theirs[key])


@pytest.mark.parametrize("name", ALONE)
def test_results_are_those_of_the_usual_loop(name):
    assert_same(*both(ALONE[name]))


@pytest.mark.parametrize("name", sorted(NEED_OTHERS))
def test_what_needs_all_gradients_is_refused(name):
    opt = MAKES[name](model())
    with pytest.raises(StructureError, match="each parameter is stepped before the others"):
        opt.step_in_backward()
    assert opt._in_backward is None


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_every_engine(engine, dtype):
    def make(net):
        return optim.AdamW(net.parameters(), lr=fo.linear_schedule(0.1, 0.0, 9), engine=engine)

    one, other = both(make, net=lambda: model(dtype))
    assert_same(one, other)
    assert other[1].engine == one[1].engine


def grouped(net, **more):
    groups = [
        {"params": [net[0].weight, net[2].bias], "lr": 0.1},
        {"params": [net[0].bias], "maximize": True},
        {"params": [net[2].weight], "weight_decay": 0.1},
    ]
    return optim.AdamW(groups, lr=0.01, **more)


def test_groups_schedulers_and_maximize():
    assert_same(*both(grouped, scheduler=lambda opt: torch.optim.lr_scheduler.LinearLR(opt)))
    assert_same(
        *both(
            lambda net: grouped(net, accumulate=2),
            scheduler=lambda opt: torch.optim.lr_scheduler.CosineAnnealingLR(opt, 4),
        )
    )


def test_all_parameters_of_an_iteration_see_the_same_count():
    """Also a parameter that is stepped after others, and one that joins late."""
    net, grads = model(), {}
    opt = fo.Optimizer(net.parameters(), fo.sgd(lambda count: 1 / (1 + count)))
    opt.step_in_backward()
    for p in net.parameters():
        p.register_hook(lambda g, p=p: grads.update({p: g.clone()}))
    for t in range(4):
        net[0].requires_grad_(t > 1)
        grads.clear()
        before = {p: p.detach().clone() for p in net.parameters()}
        loss_of(net).backward()
        for p, g in grads.items():
            torch.testing.assert_close(p.detach(), before[p] - g / (1 + t), rtol=0, atol=1e-15)
        assert len(grads) == (4 if t > 1 else 2)
        assert opt.param_groups[0]["lr"] == 1 / (1 + t)
        opt.step()
        assert opt.param_groups[0]["lr"] == 1 / (2 + t)
    assert {float(own["updates"]) for own in opt.state.values()} == {4.0}


def thawed(net, opt):
    """Layers are frozen in turns."""
    for t in range(6):
        net[0].requires_grad_(t % 3 > 0)
        net[2].bias.requires_grad_(t != 4)
        train(net, opt, 1)


TURNS = {
    "AdamW": adamw,
    "schedule": lambda ps: fo.Optimizer(ps, fo.adamw(fo.linear_schedule(0.1, 0.0, 9))),
    "accumulate": lambda ps: fo.Optimizer(ps, fo.accumulate(fo.adamw(0.1), 2)),
    "inside": lambda ps: fo.Optimizer(ps, fo.chain(fo.accumulate(fo.adamw(0.1), 3), fo.trace(0.5))),
    "lookahead": lambda ps: fo.Optimizer(ps, fo.lookahead(fo.adamw(0.1), 2)),
    "noise": lambda ps: fo.Optimizer(ps, fo.noisy_sgd(0.1)),
    "partition": lambda ps: fo.Optimizer(
        ps,
        fo.partition(
            {"a": fo.accumulate(fo.adamw(fo.linear_schedule(0.1, 0.0, 9)), 2), "b": fo.sgd(0.1)},
            lambda name, p: "a" if p.dim() > 1 else "b",
        ),
    ),
}


@pytest.mark.parametrize("make", TURNS.values(), ids=TURNS)
def test_parameters_that_have_no_gradient_in_some_iterations(make):
    """They are skipped, join late, or are due at the end of a window."""
    one, other = model(), model()
    usual, opt = make(one.parameters()), make(other.parameters())
    opt.step_in_backward()
    thawed(one, usual)
    thawed(other, opt)
    assert_same((one, usual), (other, opt))


def test_names_go_with_their_parameters():
    """A stage that chooses by name, among parameters of one group."""
    tx = fo.chain(fo.masked(fo.clip(1e-3), r"2.weight"), fo.masked(fo.trace(0.9), r"0"))
    make = lambda net: fo.Optimizer(net.named_parameters(), fo.chain(tx, fo.scale(-0.1)))  # noqa: E731
    one, other = both(make)
    assert_same(one, other)
    assert "momentum_buffer" in other[1].state[other[0][0].bias]


def test_a_parameter_that_is_put_into_another_group():
    def run(in_backward):
        net = model()
        opt = grouped(net)
        if in_backward:
            opt.step_in_backward()
        train(net, opt, 2)
        opt.param_groups[2]["params"].append(opt.param_groups[0]["params"].pop())
        train(net, opt, 2)
        return net, opt

    assert_same(run(False), run(True))


def test_a_tied_weight_is_stepped_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.down, self.up = nn.Linear(3, 4), nn.Linear(4, 3)
            self.up.weight = nn.Parameter(self.down.weight.detach().T.clone())
            self.again = nn.Linear(4, 3)
            self.again.weight = self.up.weight
            self.double()

        def forward(self, x):
            return self.again(self.down(self.up(self.down(x).tanh())).tanh())

    one, other = both(adamw_of, net=Tied)
    assert_same(one, other)
    assert float(other[1].state[other[0].up.weight]["step"]) == 5.0


def adamw_of(net):
    return adamw(net.parameters())


def test_gradients_that_are_there_before_are_added_to():
    one, other = model(), model()
    for net in (one, other):
        opt = adamw_of(net)
        loss_of(net).backward()
        if net is other:
            opt.step_in_backward()
        train(net, opt, 1)
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


def test_step_makes_those_that_have_a_gradient_left():
    p, q = parameter(3, grad=False), parameter(2, grad=False)
    opt = adamw([p, q])
    opt.step_in_backward()
    (p.square().sum()).backward()
    q.grad = torch.ones_like(q)
    before = p.detach().clone(), q.detach().clone()
    opt.step()
    assert torch.equal(p, before[0])
    assert not torch.equal(q, before[1])
    assert q.grad is None
    assert [float(opt.state[x]["step"]) for x in (p, q)] == [1.0, 1.0]


def test_without_gradients_nothing_happens():
    net = model()
    opt = fo.Optimizer(net.parameters(), fo.adamw(fo.linear_schedule(0.1, 0.0, 3)))
    opt.step_in_backward()
    opt.step()
    assert not opt.state
    train(net, opt, 1)
    before = copy.deepcopy(opt.state_dict())
    opt.step()
    assert_same_state(before, opt.state_dict())


# iterations


def test_a_second_gradient_in_an_iteration_is_refused():
    net = model()
    opt = adamw(net.named_parameters())
    opt.step_in_backward()
    loss_of(net).backward()
    before = [p.detach().clone() for p in net.parameters()]
    with pytest.raises(ModeError, match="got a second gradient since the last `step") as error:
        loss_of(net).backward()
    assert "2.bias" in str(error.value) or "2.weight" in str(error.value)
    for p, value in zip(net.parameters(), before, strict=True):
        assert torch.equal(p, value)
        assert p.grad is None
    opt.step()
    train(net, opt, 1)
    assert {float(own["step"]) for own in opt.state.values()} == {2.0}


def test_losses_of_other_parameters_may_have_their_own_backward():
    def separate(net):
        class Both:
            def backward(self):
                net[0].weight.square().sum().backward()
                net[2].weight.square().sum().backward()

        return Both()

    assert_same(*both(adamw_of, loss=separate))


class Fails(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        raise RuntimeError("out of memory")


def test_a_backward_that_fails_leaves_those_that_were_stepped():
    net = model()
    opt = adamw_of(net)
    opt.step_in_backward()
    train(net, opt, 1)
    before = [p.detach().clone() for p in net.parameters()]
    with pytest.raises(RuntimeError, match="out of memory"):
        net[2](Fails.apply(net[:2](torch.ones(3, dtype=torch.float64)))).sum().backward()
    moved = [not torch.equal(p, x) for p, x in zip(net.parameters(), before, strict=True)]
    assert moved == [False, False, True, True]
    opt.step()
    assert [float(opt.state[p]["step"]) for p in net.parameters()] == [1.0, 1.0, 2.0, 2.0]
    train(net, opt, 1)
    assert [float(opt.state[p]["step"]) for p in net.parameters()] == [2.0, 2.0, 3.0, 3.0]


def test_a_graph_that_is_kept_meets_parameters_that_have_changed():
    """Autograd says so itself."""
    net = model()
    opt = adamw_of(net)
    opt.step_in_backward()
    loss = loss_of(net)
    loss.backward(retain_graph=True)
    opt.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_weight_that_is_needed_later_has_changed(engine):
    """Autograd notices a change by any engine."""
    first, w = parameter(3, 3, grad=False), parameter(3, 3, grad=False)
    opt = optim.SGD([first, w], engine=engine)
    opt.step_in_backward()
    loss = (first @ w.detach() @ w).sum()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_gradients_with_graphs_are_refused():
    net = model()
    opt = adamw_of(net)
    handle = opt.step_in_backward()
    before = [p.detach().clone() for p in net.parameters()]
    with pytest.raises(ModeError, match="create_graph"):
        loss_of(net).backward(create_graph=True)
    assert all(torch.equal(p, x) for p, x in zip(net.parameters(), before, strict=True))
    opt.zero_grad()
    handle.remove()
    loss_of(net).backward(create_graph=True)


@pytest.mark.parametrize("reentrant", [True, False])
def test_activations_may_be_computed_again(reentrant):
    def loss(net):
        x = torch.linspace(-1, 1, 3, dtype=torch.float64, requires_grad=True)
        return checkpoint(net, x, use_reentrant=reentrant).square().sum()

    assert_same(*both(adamw_of, loss=loss))


def twice(net, reentrant):
    """One layer in two checkpoints."""
    x = torch.linspace(-1, 1, 3, dtype=torch.float64, requires_grad=True)
    for _ in range(2):
        x = checkpoint(lambda x: net[2](net[1](net[0](x))) + x, x, use_reentrant=reentrant)
    return x.square().sum()


def test_a_tied_weight_in_two_checkpoints():
    """Reentrant ones have gradients of their own, and the first is not complete."""
    assert_same(*both(adamw_of, loss=lambda net: twice(net, False)))
    net = model()
    opt = adamw_of(net)
    opt.step_in_backward()
    with pytest.raises(ModeError, match="use_reentrant=False"):
        twice(net, True).backward()


def test_backward_may_be_called_in_another_thread():
    def threaded(net):
        class Elsewhere:
            def backward(self):
                thread = threading.Thread(target=loss_of(net).backward)
                thread.start()
                thread.join()

        return Elsewhere()

    assert_same(*both(adamw_of, loss=threaded))


def test_backward_in_autocast():
    """Steps are computed without it, as usual."""

    def cast(net):
        class Around:
            def backward(self):
                with torch.autocast("cpu", torch.bfloat16):
                    loss_of(net).backward()

        return Around()

    def make(net):
        return optim.SOAP(net.named_parameters(), precondition_frequency=1, engine="eager")

    assert_same(*both(make, loss=cast, net=lambda: model(torch.float32)))


def test_a_model_that_is_compiled():
    """Its gradients come at once, after its backward pass."""

    class Compiled(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = model()
            self.run = torch.compile(self.net, backend="aot_eager")

        def forward(self, x):
            return self.run(x)

    assert_same(*both(adamw_of, steps=3, net=Compiled))


def test_a_closure_contains_the_backward():
    net, other = model(), model()
    opt, usual = adamw_of(net), adamw_of(other)
    opt.step_in_backward()
    for _ in range(3):

        def closure():
            opt.zero_grad()
            loss = loss_of(net)
            loss.backward()
            return loss

        loss = opt.step(closure)
    train(other, usual, 3)
    assert_same((other, usual), (net, opt))
    assert loss.dim() == 0


def test_hooks_of_steps_are_called_once_in_an_iteration():
    net = model()
    opt = adamw_of(net)
    called = []
    opt.register_step_pre_hook(lambda *_: called.append("before"))
    opt.register_step_post_hook(lambda *_: called.append("after"))
    opt.step_in_backward()
    train(net, opt, 2)
    assert called == ["before", "after"] * 2


# what is kept


def test_nothing_is_traced_again(monkeypatch):
    traced, known = [], _traced_backend.TracedBackend._trace
    monkeypatch.setattr(
        _traced_backend.TracedBackend,
        "_trace",
        lambda self, inputs: traced.append(len(inputs.ps)) or known(self, inputs),
    )
    net = model(torch.float32)
    opt = fo.Optimizer(net.parameters(), fo.accumulate(fo.adamw(0.1), 2), engine="fused")
    opt.step_in_backward()
    train(net, opt, 4)  # each way of a window, with state that begins, and then is there
    assert set(traced) == {1}
    count = len(traced)
    train(net, opt, 6)
    assert len(traced) == count <= 3 * 4


def test_a_checkpoint_is_taken_after_a_step():
    net = model()
    opt = fo.Optimizer(net.parameters(), fo.adamw(fo.linear_schedule(0.1, 0.0, 9)))
    opt.step_in_backward()
    train(net, opt, 2)
    saved, values = copy.deepcopy(opt.state_dict()), copy.deepcopy(net.state_dict())
    loss_of(net).backward()
    for action in (opt.state_dict, lambda: copy.deepcopy(opt), lambda: pickle.dumps(opt)):
        with pytest.raises(ModeError, match="call `step\\(\\)` before"):
            action()
    opt.load_state_dict(saved)  # which ends the iteration
    net.load_state_dict(values)
    assert_same_state(opt.state_dict(), saved)
    train(net, opt, 2)
    other = model()
    usual = fo.Optimizer(other.parameters(), fo.adamw(fo.linear_schedule(0.1, 0.0, 9)))
    train(other, usual, 4)
    assert_same((other, usual), (net, opt))


@pytest.mark.parametrize("how", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_have_no_hooks(how):
    net = model()
    opt = adamw_of(net)
    opt.step_in_backward()
    train(net, opt, 1)
    other, own = how((net, opt))
    assert own._in_backward is None
    loss_of(other).backward()
    assert all(p.grad is not None for p in other.parameters())
    own.step()
    train(net, opt, 1)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), other.parameters(), strict=True))


@pytest.mark.usefixtures("without_collector")
def test_neither_hooks_nor_the_handle_keep_anything_alive():
    net = model()
    opt = adamw_of(net)
    handle = opt.step_in_backward()
    train(net, opt, 2)
    gone, p, of_opt = weakref.ref(net), net[0].weight, weakref.ref(opt)
    dropped = weakref.ref(net[2].weight)
    del opt
    assert of_opt() is None
    assert not p._post_accumulate_grad_hooks
    handle.remove()
    del net
    assert gone() is None
    assert dropped() is None


def test_a_handle_ends_it():
    net, other = model(), model()
    opt, usual = adamw_of(net), adamw_of(other)
    handle = opt.step_in_backward()
    again = opt.step_in_backward()  # which is the same
    train(net, opt, 2)
    again.remove()
    handle.remove()
    assert not any(p._post_accumulate_grad_hooks for p in net.parameters())
    loss_of(net).backward()
    assert all(p.grad is not None for p in net.parameters())
    opt.step()
    opt.zero_grad()
    with opt.step_in_backward():
        loss_of(net).backward()
        assert all(p.grad is None for p in net.parameters())
    train(other, usual, 4)
    assert_same((other, usual), (net, opt))
    assert not opt._step_supports_amp_scaling


def test_parameters_that_are_added_dropped_and_resized():
    def run(in_backward):
        a, b, c = (parameter(n, grad=False) for n in (3, 2, 4))
        opt = optim.AdamW([("a", a), ("b", b)], lr=fo.linear_schedule(0.1, 0.0, 9))
        if in_backward:
            opt.step_in_backward()

        def once(*params):
            sum(p.square().sum() for p in params).backward()
            opt.step()
            opt.zero_grad()

        once(a, b)
        opt.add_param_group({"params": [("c", c)], "lr": 0.5})
        once(a, b, c)
        once(a, b, c)
        opt.drop("a")
        once(a, b, c)
        assert a.grad is not None or not in_backward
        a.grad = None
        new = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
        opt.resize("b", new, torch.tensor([1, -1, 0]))
        once(new, c)
        once(new, c)
        return [a, new, c], opt

    (one, usual), (other, opt) = run(False), run(True)
    assert all(torch.equal(p, q) for p, q in zip(one, other, strict=True))
    assert_same_state(usual.state_dict(), opt.state_dict())
    assert not opt._in_backward._hooks.keys() - {*other[1:]}


@pytest.mark.parametrize("action", ["drop", "resize"])
def test_parameters_stay_in_the_middle_of_an_iteration(action):
    net = model()
    opt = adamw(net.named_parameters())
    opt.step_in_backward()
    loss_of(net).backward()
    new = nn.Parameter(torch.ones(2, dtype=torch.float64))
    more = (new, torch.tensor([0, 1])) if action == "resize" else ()
    with pytest.raises(ModeError, match="call `step\\(\\)` before"):
        getattr(opt, action)("0.bias", *more)
    opt.step()
    getattr(opt, action)("0.bias", *more)
    assert net[0].bias not in opt.state


def test_a_group_is_added_in_the_middle_of_an_iteration():
    net, p = model(), parameter(2, grad=False)
    opt = adamw_of(net)
    opt.step_in_backward()
    loss_of(net).backward()
    opt.add_param_group({"params": [p]})
    with pytest.raises(HyperparameterError, match="lr"):
        opt.add_param_group({"params": [parameter(1)], "lr": -1.0})
    p.sum().backward()
    opt.step()
    assert {float(own["step"]) for own in opt.state.values()} == {1.0}
    assert p.grad is None


def test_two_optimizers_cannot_both_free_a_gradient():
    net = model()
    opt, other = adamw_of(net), optim.SGD(net.parameters())
    handle = opt.step_in_backward()
    other.step_in_backward()
    with pytest.raises(ModeError, match="by one only"):
        loss_of(net).backward()
    handle.remove()
    opt.zero_grad()
    other.step()
    train(net, other, 1)


def test_names_follow_parameters_that_are_put_into_another_order():
    """Nothing but the list of parameters is edited."""

    def run(in_backward):
        net = model()
        tx = fo.chain(fo.masked(fo.trace(0.9), r"0.weight"), fo.add_noise(0.1, 0.5), fo.sgd(0.1))
        opt = fo.Optimizer(net.named_parameters(), tx)
        if in_backward:
            opt.step_in_backward()
        train(net, opt, 2)
        opt.param_groups[0]["params"].reverse()
        train(net, opt, 2)
        return net, opt

    assert_same(run(False), run(True))


def test_a_parameter_that_is_no_leaf_is_stepped_by_step():
    p = parameter(3, grad=False)
    q = p * 2
    q.retain_grad()
    opt = optim.SGD([q, p], lr=0.1)
    opt.step_in_backward()
    q.sum().backward()
    assert p.grad is None
    before = q.detach().clone()
    opt.step()
    torch.testing.assert_close(q.detach(), before - 0.1)


def test_find_lr_leaves_all_as_it_was():
    found = []
    for in_backward in (False, True):
        net = model()
        opt = adamw_of(net)
        if in_backward:
            opt.step_in_backward()
        data = [torch.linspace(-1, 1, 3, dtype=torch.float64)]
        loss = lambda net, x: net(x).square().sum()  # noqa: E731
        found.append(optim.find_lr(opt, net, loss, data, steps=20))
        assert all(
            torch.equal(p, q) for p, q in zip(net.parameters(), model().parameters(), strict=True)
        )
        assert not opt.state
        train(net, opt, 2)
    assert found[0].losses == found[1].losses


# what is refused


def test_the_stage_is_named():
    net = model()
    sums = {
        fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(0.1)): "clip_by_global_norm",
        fo.accumulate(fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(0.1)), 2): "clip_by_global_norm",
        fo.skip_if(fo.adamw(0.1)): "not_finite",
        fo.skip_if(fo.adamw(0.1), fo.norm_outlier()): "norm_outlier",
        fo.chain(fo.adamw(0.1), fo.monitor()): "monitor",
        fo.prodigy(): "scale_by_prodigy",
        fo.dadapt_adamw(): "scale_by_dadapt_adam",
    }
    for tx, name in sums.items():
        with pytest.raises(StructureError, match=f"`{name}` sums over all tensors"):
            fo.Optimizer(net.parameters(), tx).step_in_backward()
    others = {
        fo.sam(fo.sgd(0.1)): "`sam` evaluates the loss again",
        fo.lbfgs(): "`lbfgs` takes all tensors as one vector",
        fo.dpsgd(0.1, 1.0, 1.0, 4): "`dp_aggregate` takes one gradient for each example",
        fo.chain(whole_tree(), fo.sgd(0.1)): "`from_functions` takes whole trees",
        fo.chain(by_value(), fo.sgd(0.1)): "`by_value` takes `value`, an argument of `step`",
        fo.chain(together(), fo.sgd(0.1)): "`together` concludes for all tensors together",
    }
    for tx, said in others.items():
        with pytest.raises(StructureError, match=said):
            fo.Optimizer(net.parameters(), tx).step_in_backward()


def whole_tree():
    return fo.from_functions(lambda params: (), lambda updates, state, params=None: (updates, ()))


class by_value(fo.TensorRule):
    elementwise = True

    def conclude(self, s, memory, total, *, value=None):
        return {"by": 1.0}, memory

    def update_tensor(self, g, slots, p, s):
        return g * s.by, slots


class together(fo.TensorRule):
    elementwise = True
    memory_per = "tree"

    def conclude(self, s, memory, total):
        return {"by": 1.0}, memory

    def update_tensor(self, g, slots, p, s):
        return g * s.by, slots


def test_the_message_says_what_to_do():
    opt = optim.AdamW(model().parameters(), max_grad_norm=1.0)
    assert_says(
        opt.step_in_backward,
        StructureError,
        "`AdamW.step_in_backward`: `clip_by_global_norm` sums over all tensors, and each parameter "
        "is stepped before the others have gradients. Leave it out, or call `step()` without "
        "`step_in_backward()`. `clip`, `clip_by_block_rms` and `adaptive_grad_clip` clip each "
        "tensor by itself, and `lamb` and `adafactor` rescale its update.",
    )


def test_autograd_that_follows_steps_is_refused():
    opt = adamw_of(model())
    opt.defaults["differentiable"] = True
    with pytest.raises(StructureError, match="differentiable"):
        opt.step_in_backward()


def test_a_grad_scaler_is_refused():
    net = model(torch.float32)
    opt = adamw_of(net)
    opt.step_in_backward()
    scaler = torch.amp.GradScaler("cpu")
    for unscaled in (False, True):
        scaler.scale(loss_of(net)).backward()
        if unscaled:
            scaler.unscale_(opt)
        with pytest.raises(ModeError, match="GradScaler"):
            scaler.step(opt)
        assert not hasattr(opt, "found_inf")
        opt.step()
        scaler = torch.amp.GradScaler("cpu")
    disabled = torch.amp.GradScaler("cpu", enabled=False)
    disabled.scale(loss_of(net)).backward()
    disabled.step(opt)
    assert {float(own["step"]) for own in opt.state.values()} == {3.0}


def test_a_constant_loss_scale_is_the_way_out():
    scaled = fo.chain(fo.scale(1 / 1024), fo.adamw(0.1))
    one, other = model(), model()
    usual, opt = fo.Optimizer(one.parameters(), fo.adamw(0.1)), None
    train(one, usual, 3)
    opt = fo.Optimizer(other.parameters(), scaled)
    opt.step_in_backward()
    train(other, opt, 3, loss=lambda net: 1024 * loss_of(net))
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


def test_norms_are_not_recorded():
    net = model()
    opt = adamw_of(net)
    recorder = opt.record_norms()
    with pytest.raises(ModeError, match="norms=False"):
        opt.step_in_backward()
    recorder.remove()
    opt.step_in_backward()
    rows = []
    for wrong in (opt.record_norms, lambda: opt.log_to(rows.append)):
        with pytest.raises(ModeError, match="norms=False"):
            wrong()
    opt.log_to(lambda numbers, step: rows.append((step, numbers)), norms=False)
    train(net, opt, 2)
    assert rows == [(1, {"lr": 0.01}), (2, {"lr": 0.01})]


def test_in_eval_mode_nothing_is_stepped():
    net = model()
    opt = optim.AdamWScheduleFree(net.parameters(), lr=0.1)
    opt.step_in_backward()
    train(net, opt, 2)
    opt.eval()
    before = [p.detach().clone() for p in net.parameters()]
    with pytest.raises(ModeError, match="in eval mode"):
        loss_of(net).backward()
    assert all(torch.equal(p, x) for p, x in zip(net.parameters(), before, strict=True))
    opt.zero_grad()
    opt.train()
    train(net, opt, 1)


def test_values_of_all_groups_are_checked_before_the_first_step():
    net = model()
    opt = grouped(net)
    opt.step_in_backward()
    opt.param_groups[1]["betas"] = (2.0, 0.9)  # of the first layer, which comes last
    before = [p.detach().clone() for p in net.parameters()]
    with pytest.raises(HyperparameterError, match="parameter group 1"):
        loss_of(net).backward()
    assert all(torch.equal(p, x) for p, x in zip(net.parameters(), before, strict=True))


def test_hyperparameters_are_read_when_an_iteration_begins():
    net, other = model(), model()
    opt, usual = adamw_of(net), adamw_of(other)
    opt.step_in_backward()
    for lr in (0.1, 0.2):
        for one in (opt, usual):
            one.param_groups[0]["lr"] = lr
        loss_of(net).backward()
        opt.param_groups[0]["lr"] = 5.0  # too late
        opt.step()
        train(other, usual, 1)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), other.parameters(), strict=True))


def test_a_schedule_cannot_be_set():
    net = model()
    opt = optim.AdamW(net.parameters(), lr=fo.linear_schedule(0.1, 0.0, 9))
    opt.step_in_backward()
    train(net, opt, 1)
    opt.param_groups[0]["lr"] = 0.5
    with pytest.raises(HyperparameterError, match="cannot be set"):
        loss_of(net).backward()


def test_arguments_of_step_come_too_late():
    net = model()
    opt = adamw_of(net)
    opt.step_in_backward()
    with pytest.raises(ExtraArgumentError, match="value"):
        opt.step(value=1.0)


def test_a_sparse_gradient_is_refused():
    embedding = nn.Embedding(4, 2, sparse=True)
    opt = adamw(embedding.named_parameters())
    opt.step_in_backward()
    with pytest.raises(SparseGradientError, match="sparse=False"):
        embedding(torch.tensor([1])).sum().backward()


def test_flat_parameters_of_fsdp1_are_refused():
    p = parameter(3, grad=False)
    p._is_flat_param = True
    with pytest.raises(StructureError, match="FullyShardedDataParallel"):
        adamw([p]).step_in_backward()


# memory


class Gradients:
    """The bytes of the gradients that are alive, whenever one arrives; and the most there were."""

    def __init__(self, params):
        self.alive, self.most = [], 0
        for p in params:
            p.register_hook(self.arrived)

    def arrived(self, g):
        storage = StorageWeakRef(g.untyped_storage())
        self.alive = [(x, size) for x, size in self.alive if not x.expired()]
        self.alive.append((storage, g.untyped_storage().nbytes()))
        self.most = max(self.most, sum(size for _, size in self.alive))


def deep(widths=range(20, 71)):
    torch.manual_seed(0)
    each = itertools.pairwise(widths)
    return nn.Sequential(*[nn.Linear(n, m, bias=False) for n, m in each])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_backward", [False, True])
def test_of_fifty_layers_only_the_largest_gradient_is_alive(engine, in_backward):
    net = deep()
    sizes = [p.nbytes for p in net.parameters()]
    assert len(sizes) == 50
    opt = optim.AdamW(net.parameters(), engine=engine)
    if in_backward:
        opt.step_in_backward()
    for _ in range(2):
        train(net, opt, 1, loss=lambda net: net(torch.ones(1, 20)).square().sum())
    gradients = Gradients(net.parameters())
    train(net, opt, 1, loss=lambda net: net(torch.ones(1, 20)).square().sum())
    assert gradients.most == (max(sizes) if in_backward else sum(sizes))


class Storages(TorchDispatchMode):
    """The bytes of all that has been made since and is alive; and the most there were."""

    def __init__(self, *known):
        super().__init__()
        self.known = {x.untyped_storage()._cdata for x in known}
        self.alive, self.most = {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in fo.tree.leaves(out) if isinstance(out, (tuple, list)) else [out]:
            if isinstance(x, torch.Tensor) and x.untyped_storage()._cdata not in self.known:
                storage = x.untyped_storage()
                self.alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.alive = {k: v for k, v in self.alive.items() if not v[0].expired()}
        self.most = max(self.most, sum(size for _, size in self.alive.values()))
        return out


def most_in_an_iteration(in_backward):
    net = deep()
    opt = optim.AdamW(net.parameters(), engine="torch")  # which makes nothing in between
    if in_backward:
        opt.step_in_backward()
    x = torch.ones(1, 20)
    train(net, opt, 2, loss=lambda net: net(x).square().sum())
    state = [value for own in opt.state.values() for value in own.values()]
    with Storages(x, *net.parameters(), *state) as storages:
        train(net, opt, 1, loss=lambda net: net(x).square().sum())
    return storages.most


def test_an_iteration_of_fifty_layers_saves_all_gradients_but_the_largest():
    """The most bytes that are there at once, whatever they are: in forward, backward and step."""
    sizes = [p.nbytes for p in deep().parameters()]
    others = 2 * 4 * sum(range(20, 71))  # activations and their gradients
    usual, most = most_in_an_iteration(False), most_in_an_iteration(True)
    assert sum(sizes) <= usual <= sum(sizes) + others
    assert max(sizes) <= most <= max(sizes) + others
    assert usual - most >= sum(sizes) - max(sizes) - others
    assert usual > 10 * most
