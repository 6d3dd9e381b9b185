"""State on the host: the same steps to the bit as without, for parameters on a device."""

import copy
import gc
import pickle
import weakref
from contextlib import nullcontext

import pytest
import torch
from torch.optim import lr_scheduler

import funcopt as fo
from funcopt import optim
from funcopt.errors import HyperparameterError
from funcopt.optim import _offload
from funcopt.optim._closure import ClosureLoss

from ..contract.common import told
from ..far import Arrivals, Far, values_of
from .test_memory import ENGINES, MAKES, net

pytestmark = pytest.mark.filterwarnings("ignore:Using backward.. with create_graph")
every_make = pytest.mark.parametrize("name", MAKES)


@pytest.fixture(autouse=True)
def far(monkeypatch):
    monkeypatch.setattr(_offload, "is_foreign", lambda x: isinstance(x, Far))


@pytest.fixture
def near(monkeypatch):
    """Parameters on the CPU count as foreign: what copies and pickles can be had of them."""
    is_one = lambda x: isinstance(x, torch.nn.Parameter) and not isinstance(x, Far)  # noqa: E731
    monkeypatch.setattr(_offload, "is_foreign", is_one)


def moved(model):
    """The model with its parameters on the device."""
    for module in model.modules():
        for name, p in list(module.named_parameters(recurse=False)):
            setattr(module, name, torch.nn.Parameter(Far(p.detach().clone())))
    return model


def loss_of(model, i, scale=1.0):
    torch.manual_seed(i)
    x = torch.randn(4, 3)
    p = next(model.parameters())
    out = model(Far(x) if isinstance(p, Far) else x)
    return scale * (out.square().mean() + 0.1 * out.sum())


def step(model, opt, i, name=""):
    def closure():
        opt.zero_grad()
        loss = loss_of(model, i)
        loss.backward(create_graph=name == "newton_cg")
        return loss

    if opt.tx.needs_closure:
        with Arrivals() if name == "newton_cg" else nullcontext():  # directions are sent back
            opt.step(closure)
    else:
        opt.step(**told(opt, closure().detach() + 5.0))  # above the lower bound of all methods


def same(one, other):
    """Whether two models have the same parameters to the bit."""
    each = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(values_of(p), values_of(q)) for p, q in each)


def same_state(one, other):
    """Whether two optimizers have the same state, all of it on the host."""
    saved, theirs = one.state_dict(), other.state_dict()
    assert saved["state"].keys() == theirs["state"].keys()
    for key, own in saved["state"].items():
        assert list(own) == list(theirs["state"][key])
        for entry, x in own.items():
            y = theirs["state"][key][entry]
            assert type(x) is type(y) is torch.Tensor
            assert (x.dtype, x.device) == (y.dtype, y.device)
            assert torch.equal(x, y), entry
    return True


def pair(name, **kwargs):
    """A model with its optimizer, and the same on the device with the state on the host."""
    one, other = net(), moved(net())
    make = MAKES[name]
    first = make(one.named_parameters(), **kwargs)
    second = make(other.named_parameters(), offload=True, **kwargs)
    return one, first, other, second


@every_make
def test_steps_are_the_same_to_the_bit(name):
    one, first, other, second = pair(name)
    before = [values_of(p).clone() for p in other.parameters()]
    for i in range(6):  # RAdam without a schedule waits for its variance
        step(one, first, i, name)
        step(other, second, i, name)
        assert same(one, other)
        assert first.engine == second.engine
    assert same_state(first, second)
    assert not all(map(torch.equal, before, map(values_of, other.parameters())))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["AdamW", "clip", "partition", "Muon", "lookahead"])
def test_with_every_engine(name, engine):
    one, first, other, second = pair(name, engine=engine)
    for i in range(3):
        step(one, first, i)
        step(other, second, i)
    assert same(one, other)
    assert first.engine == second.engine


def test_groups_schedules_and_schedulers():
    models, seen = [net(), moved(net())], []
    for model in models:
        groups = [
            {"params": list(model[0].named_parameters()), "lr": 0.1, "weight_decay": 0.1},
            {"params": list(model[2].named_parameters()), "betas": (0.8, 0.9)},
        ]
        opt = optim.AdamW(groups, lr=0.05, max_grad_norm=0.5, offload=model is models[1])
        schedulers = [
            lr_scheduler.OneCycleLR(opt, [0.1, 0.2], total_steps=10),
            lr_scheduler.ReduceLROnPlateau(opt, patience=0),
        ]
        for i in range(6):
            step(model, opt, i)
            schedulers[0].step()
            schedulers[1].step(float(i))
        seen.append([(group["lr"], group["betas"]) for group in opt.param_groups])
    assert same(*models)
    assert seen[0] == seen[1]


def test_a_schedule_of_the_chain():
    one, first, other, second = pair("schedule")
    for i in range(12):
        step(one, first, i)
        step(other, second, i)
    assert same(one, other)
    assert second.param_groups[0]["lr"] == first.param_groups[0]["lr"] == 0.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.complex64])
def test_other_dtypes(dtype):
    start, *grads = (torch.ones(5, 4, dtype=dtype) * torch.randn(5, 4).to(dtype) for _ in range(5))
    one, other = torch.nn.Parameter(start.clone()), torch.nn.Parameter(Far(start.clone()))
    first, second = optim.AdamW([one]), optim.AdamW([other], offload=True)
    for g in grads:
        one.grad, other.grad = g.clone(), Far(g.clone())
        first.step()
        second.step()
    assert torch.equal(one.detach(), values_of(other))
    assert same_state(first, second)


class by_loss(fo.TensorRule):
    """Multiplies gradients by the loss."""

    elementwise = True

    def conclude(self, s, memory, total, *, value):
        return {"loss": value}, memory

    def update_tensor(self, g, slots, p, s):
        return g * s.loss, slots


def test_numbers_on_the_device_come_along():
    found = []
    for model, place in ((net(), torch.clone), (moved(net()), Far)):
        rate, offload = place(torch.tensor(0.1)), place is Far
        tx = fo.chain(by_loss(), fo.adam(rate))
        opt = fo.Optimizer(model.parameters(), tx, offload=offload)
        for i in range(3):
            opt.zero_grad()
            loss = loss_of(model, i)
            loss.backward()
            opt.step(value=loss)
            rate.mul_(0.5)
        found.append(model)
    assert same(*found)


@pytest.mark.parametrize("name", ["LBFGS", "sam", "newton_cg"])
def test_the_loss_of_a_closure_comes_to_the_host(name, monkeypatch):
    number, seen = ClosureLoss._number, []

    def spy(self, value):
        seen.append((type(value.detach()), type(found := number(self, value))))
        return found

    monkeypatch.setattr(ClosureLoss, "_number", spy)
    _, _, model, opt = pair(name)
    step(model, opt, 0, name)
    assert set(seen) == {(Far, torch.Tensor)}


# Parameters are the truth.


CHANGES = {
    "in place": lambda p: p.mul_(0.5),
    "past autograd": lambda p: p.data.mul_(0.5),
    "by another tensor": lambda p: setattr(p, "data", p.data * 0.5),
    "in another order": lambda p: (
        setattr(p, "data", (p.data.t() * 0.5).contiguous().t()) if p.dim() == 2 else None
    ),
}


@pytest.mark.parametrize("how", CHANGES)
def test_what_is_done_to_parameters_between_steps_is_seen(how, near):
    one, other = net(), net()
    first, second = MAKES["clip"](one.parameters()), MAKES["clip"](other.parameters(), offload=True)
    for i in range(5):
        step(one, first, i)
        step(other, second, i)
        with torch.no_grad():
            for p in (*one.parameters(), *other.parameters()):
                CHANGES[how](p)
    assert same(one, other)


def test_parameters_that_come_and_go():
    one, first, other, second = pair("AdamW")
    for model, opt in ((one, first), (other, second)):
        step(model, opt, 0)
        model[2].bias.requires_grad_(False)
        step(model, opt, 1)
        opt.drop("2.bias")
        step(model, opt, 2)
        wide = torch.ones(5, 3)
        wide = torch.nn.Parameter(Far(wide) if model is other else wide)
        opt.resize("0.weight", wide, torch.tensor([0, 1, -1, 2, 3]))
        assert all(not isinstance(x, Far) for x in opt.state[wide].values())
        wide.grad = torch.ones_like(wide)
        opt.step()
        model[0].weight = wide
        extra = torch.ones(2)
        extra = torch.nn.Parameter(Far(extra) if model is other else extra)
        opt.add_param_group({"params": [("extra", extra)], "lr": 1.0})
        extra.grad = torch.ones_like(extra)
        opt.step()
        model.extra = extra
    assert same(one, other)
    assert same_state(first, second)


def test_some_parameters_are_on_the_host():
    one, other = net(), net()
    moved(other[2])
    first, second = MAKES["clip"](one.parameters()), MAKES["clip"](other.parameters(), offload=True)
    for i in range(3):
        for p, q in zip(one.parameters(), other.parameters(), strict=True):
            torch.manual_seed(i)
            g = torch.randn(p.shape)
            p.grad, q.grad = g, Far(g.clone()) if isinstance(q, Far) else g.clone()
        first.step()
        second.step()
    assert same(one, other)
    assert same_state(first, second)
    assert len(second._store.offload._copies) == 4  # a parameter and a gradient, of two


def masked(label):
    return fo.masked(fo.scale_by_sign(), lambda name, p: label(name, p) == "a")


CHOOSING = {
    "partition": lambda label: fo.partition(
        {"a": fo.sgd(0.1, momentum=0.9), "b": fo.lion(0.1)}, label
    ),
    "masked": lambda label: fo.chain(masked(label), fo.scale(-0.1)),
}


@pytest.mark.parametrize("kind", CHOOSING)
def test_labels_see_the_parameters_themselves(kind):
    square = net()
    square[0], square[2] = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    models, names = (square, moved(copy.deepcopy(square))), []
    for model in models:
        model[0].weight.special = True
        chosen = [model[2].bias]

        def label(name, p, chosen=chosen):
            special = hasattr(p, "special") or any(p is x for x in chosen)
            return "a" if special else "b"

        tx = CHOOSING[kind](label)
        opt = fo.Optimizer(model.named_parameters(), tx, offload=model is models[1])
        for i in range(3):
            step(model, opt, i)
        names.append([list(own) for own in opt.state.values()])
    assert same(*models)
    assert names[0] == names[1]


# Checkpoints.


@every_make
@pytest.mark.parametrize("to_device", [True, False], ids=["off the host", "to the host"])
def test_a_checkpoint_is_the_same_with_and_without(name, to_device):
    one, first, other, second = pair(name)
    source, saver, target, loader = (
        (other, second, one, first) if to_device else (one, first, other, second)
    )
    for i in range(2):
        step(source, saver, i, name)
    loader.load_state_dict(copy.deepcopy(saver.state_dict()))
    with torch.no_grad():
        for p, q in zip(source.parameters(), target.parameters(), strict=True):
            values_of(q).copy_(values_of(p))
    assert all(type(x) is torch.Tensor for own in loader.state.values() for x in own.values())
    for i in range(2, 4):
        step(one, first, i, name)
        step(other, second, i, name)
    assert same(one, other)
    assert same_state(first, second)


def test_distributed_checkpoints_hold_it(near):
    from torch.distributed.checkpoint.state_dict import (
        get_optimizer_state_dict,
        set_optimizer_state_dict,
    )

    one, other = net(), net()
    first = MAKES["clip"](one.named_parameters())
    second = MAKES["clip"](other.named_parameters(), offload=True)
    step(one, first, 0)
    set_optimizer_state_dict(other, second, get_optimizer_state_dict(one, first))
    other.load_state_dict(one.state_dict())
    for i in range(1, 3):
        step(one, first, i)
        step(other, second, i)
    assert same(one, other)
    assert same_state(first, second)
    set_optimizer_state_dict(one, first, get_optimizer_state_dict(other, second))
    assert same_state(first, second)


def test_state_made_on_demand_is_on_the_host():
    _, first, _, second = pair("average")
    first.init_state()
    second.init_state()
    assert same_state(first, second)


def test_state_that_was_moved_to_the_device_comes_back():
    one, first, other, second = pair("AdamW")
    for i in range(4):
        step(one, first, i)
        step(other, second, i)
        for own in second.state.values():
            own.update({key: Far(x) for key, x in own.items() if x.dim()})
    step(one, first, 5)
    step(other, second, 5)
    assert same(one, other)
    assert same_state(first, second)


@pytest.mark.parametrize("name", ["average", "SGDScheduleFree", "AdamWScheduleFree"])
def test_averages_stand_in_for_parameters_on_the_device(name):
    one, first, other, second = pair(name)
    for i in range(3):
        step(one, first, i)
        step(other, second, i)
    with first.averaged(), second.averaged():
        assert same(one, other)
    first.eval()
    second.eval()
    assert same(one, other)
    first.train()
    second.train()
    step(one, first, 3)
    step(other, second, 3)
    assert same(one, other)


def test_copies_and_pickles_go_on(near):
    model, plain = net(), net()
    opt = optim.AdamW(model.named_parameters(), lr=0.1, max_grad_norm=1.0, offload=True)
    reference = optim.AdamW(plain.named_parameters(), lr=0.1, max_grad_norm=1.0)
    for turn in range(3):
        for i in range(2):
            step(model, opt, 2 * turn + i)
            step(plain, reference, 2 * turn + i)
        assert opt._store.offload._copies
        again = copy.deepcopy if turn else lambda x: pickle.loads(pickle.dumps(x))
        model, opt = again((model, opt))
        assert opt._store.offload.wanted
        assert not opt._store.offload._copies
    assert same(model, plain)
    assert same_state(opt, reference)


def test_a_grad_scaler_skips_and_unscales(near):
    results = []
    for offload in (False, True):
        model = net()
        opt = optim.AdamW(model.parameters(), lr=0.1, offload=offload)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
        for i in range(5):
            opt.zero_grad()
            scaler.scale(loss_of(model, i, torch.inf if i == 2 else 1.0)).backward()
            scaler.unscale_(opt)
            scaler.step(opt)
            scaler.update()
        results.append((model, scaler.get_scale(), opt))
    assert same(results[0][0], results[1][0])
    assert results[0][1] == results[1][1] == 2.0**11
    assert same_state(results[0][2], results[1][2])


def test_norms_and_metrics_are_those_without():
    found = []
    for model, offload in ((net(), False), (moved(net()), True)):
        opt = optim.AdamW(
            model.named_parameters(), max_grad_norm=0.1, accumulate=2, offload=offload
        )
        opt.record_norms()
        with Arrivals():  # sums of gradients are sent to where the gradients are
            for i in range(4):
                step(model, opt, i)
        found.append({k: values_of(x).double() for k, x in opt.metrics("layer").items()})
    assert found[0].keys() == found[1].keys()
    for key, x in found[0].items():
        assert torch.equal(x, found[1][key]), key


# Copies.


def test_copies_are_kept_from_step_to_step_and_go_with_their_parameters():
    _, _, model, opt = pair("AdamW")
    step(model, opt, 0)
    kept = dict(opt._store.offload._copies)
    step(model, opt, 1)
    assert len(kept) == 8
    assert all(opt._store.offload._copies[key] is x for key, x in kept.items())
    gone = opt.param_groups[0]["params"].pop()
    del opt.state[gone]
    step(model, opt, 2)
    assert len(opt._store.offload._copies) == 6


def test_the_host_waits_for_what_it_reads_and_not_for_what_it_writes(near, monkeypatch):
    said = []

    class Stream:
        def synchronize(self):
            said.append("gradients are there")

        def record_event(self):
            said.append("parameters are sent")
            return Event()

    class Event:
        def synchronize(self):
            said.append("the copies are free")

    model = net()
    opt = optim.AdamW(model.parameters(), offload=True)
    made = opt._engine.step
    monkeypatch.setattr(_offload, "_streams", lambda tensors: [Stream()] * bool(list(tensors)))
    monkeypatch.setattr(opt._engine, "step", lambda inputs: said.append("step") or made(inputs))
    for i in range(2):
        step(model, opt, i)
    first = ["gradients are there", "step", "parameters are sent"]
    assert said == [*first, "the copies are free", *first]


def test_nothing_is_kept_of_gradients_on_the_device():
    _, _, model, opt = pair("AdamW")
    step(model, opt, 0)
    grads = [weakref.ref(p.grad) for p in model.parameters()]
    opt.zero_grad()
    gc.collect()
    assert [ref() for ref in grads] == [None] * 4


def test_a_step_that_fails_changes_nothing():
    _, _, model, opt = pair("AdamW")
    step(model, opt, 0)
    before = [values_of(p).clone() for p in model.parameters()]
    opt.param_groups[0]["lr"] = -1.0
    with pytest.raises(HyperparameterError):
        step(model, opt, 1)
    assert all(map(torch.equal, before, map(values_of, model.parameters())))


@pytest.mark.parametrize("key", ["capturable", "differentiable"])
def test_what_cannot_follow_is_refused(key):
    with pytest.raises(HyperparameterError, match=f"`offload=True` .* `{key}=True`"):
        optim.AdamW([torch.nn.Parameter(torch.ones(1))], offload=True, **{key: True})
    with pytest.raises(HyperparameterError, match=f"`Optimizer`: `offload=True` .* `{key}=True`"):
        fo.Optimizer([torch.nn.Parameter(torch.ones(1))], fo.adamw(), offload=True, **{key: True})


def test_the_plan_of_its_memory_says_where_it_is():
    _, first, _, second = pair("AdamW")
    assert fo.explain(second).memory == fo.explain(first).memory._replace(offloaded=True)
    assert "state 224 B on the CPU (not yet allocated)" in fo.explain(second)


def test_on_the_host_nothing_changes():
    one, other = net(), net()
    first, second = optim.AdamW(one.parameters()), optim.AdamW(other.parameters(), offload=True)
    for i in range(3):
        step(one, first, i)
        step(other, second, i)
    assert same(one, other)
    assert not second._store.offload._copies
