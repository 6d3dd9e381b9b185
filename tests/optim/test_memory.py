"""Memory: what is dropped is gone at once, nothing is kept that nobody asked for."""

import copy
import gc
import pickle
import weakref
from typing import NamedTuple

import pytest
import torch

import funcopt as fo
from funcopt import optim

ENGINES = ["eager", "torch", "foreach", "fused", "compiled"]
CLASSES = {
    name: cls
    for name, cls in vars(optim).items()
    if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer) and cls is not fo.Optimizer
}
LABELS = [(r"^0\.", "first"), (r".*", "rest")]
CHAINS = {
    "clip": lambda: fo.chain(fo.clip_by_global_norm(1.0), fo.adamw()),
    "schedule": lambda: fo.adamw(fo.linear_schedule(0.1, 0.0, 9)),
    "sam": lambda: fo.sam(fo.sgd(0.1)),
    "newton_cg": fo.newton_cg,
    "lookahead": lambda: fo.lookahead(fo.adamw()),
    "accumulate": lambda: fo.accumulate(fo.adamw(), 2),
    "skip_if": lambda: fo.skip_if(fo.adamw(), fo.norm_outlier()),
    "schedule_free": lambda: fo.schedule_free_sgd(0.1),
    "cautious": lambda: fo.cautious(fo.adamw()),
    "masked": lambda: fo.chain(fo.masked(fo.clip(1.0), r"weight"), fo.sgd(0.1)),
    "partition": lambda: fo.partition({"first": fo.sgd(0.1), "rest": fo.adamw()}, LABELS),
    "masked sam": lambda: fo.chain(fo.masked(fo.sam(fo.sgd(0.1)), r"weight")),
    "sam for a label": lambda: fo.partition(
        {"first": fo.sam(fo.sgd(0.1)), "rest": fo.adamw()}, LABELS
    ),
    "average": lambda: fo.chain(fo.adamw(), fo.ema_of_params(0.9)),
    "noise": lambda: fo.noisy_sgd(0.1),
}
MAKES = {
    **{name: lambda ps, cls=cls, **more: cls(ps, **more) for name, cls in CLASSES.items()},
    **{
        name: lambda ps, tx=tx, **more: fo.Optimizer(ps, tx(), **more)
        for name, tx in CHAINS.items()
    },
}
every_make = pytest.mark.parametrize("name", MAKES)


def net():
    torch.manual_seed(0)
    layers = torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)
    return torch.nn.Sequential(*layers)


def closure_of(model, opt, name):
    def closure():
        opt.zero_grad()
        loss = model(torch.ones(4, 3)).square().sum()
        loss.backward(create_graph=name == "newton_cg")
        return loss

    return closure


@pytest.fixture
def without_collector():
    optim.SGD([torch.nn.Parameter(torch.ones(1))]).step()  # torch imports what has circles
    gc.disable()
    yield
    gc.enable()


WAYS = {
    "plainly": lambda opt: None,
    "beside a scheduler": lambda opt: torch.optim.lr_scheduler.ConstantLR(opt),
    "beside a copy": copy.deepcopy,
    "read and saved": lambda opt: (opt.metrics(), opt.state_dict()),
    "evaluated": lambda opt: (opt.eval(), opt.train()),
}


@pytest.mark.in_part(6, engine="compiled")
@pytest.mark.filterwarnings("ignore:Using backward")  # of newton_cg, which needs the graph
@pytest.mark.parametrize(
    ("engine", "way"),
    [*((engine, "plainly") for engine in ENGINES), *(("fused", way) for way in list(WAYS)[1:])],
)
@every_make
def test_what_is_dropped_is_gone_without_the_collector(name, engine, way, without_collector):
    if (name, way) == ("schedule", "beside a scheduler"):
        return  # which is refused
    model = net()
    opt = MAKES[name](model.named_parameters(), engine=engine)
    kept = [WAYS[way](opt)]
    closure = closure_of(model, opt, name)
    for _ in range(2):
        opt.step(closure)
    kept.append(WAYS[way](opt))
    opt.zero_grad()
    tensors = [x for own in opt.state.values() for x in own.values() if x.dim()][:1]
    left = {"model": weakref.ref(model), "optimizer": weakref.ref(opt)}
    left |= {"parameter": weakref.ref(model[0].weight)}
    left |= {f"state {i}": weakref.ref(x) for i, x in enumerate(tensors)}
    del model, opt, closure, tensors, kept
    assert not [what for what, ref in left.items() if ref() is not None]


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.parametrize("engine", ["eager", "fused"])
@every_make
def test_no_gradient_outlives_zero_grad(name, engine, without_collector):
    model = net()
    opt = MAKES[name](model.named_parameters(), engine=engine)
    closure = closure_of(model, opt, name)
    for _ in range(3):
        opt.step(closure)
    left = [weakref.ref(p.grad) for p in model.parameters()]
    opt.zero_grad()
    opt.metrics()
    assert not any(ref() is not None for ref in left)


class LossMemory(NamedTuple):
    loss: torch.Tensor


class remembering_the_loss(fo.TensorRule):
    """A rule that asks for the loss, shows it and keeps it."""

    elementwise = True
    memory_per = "tree"
    metrics = ("value",)

    def init_memory(self, like):
        return LossMemory(like)

    def conclude(self, s, memory, total, *, value):
        return {"value": value}, LossMemory(value)

    def update_tensor(self, g, slots, p, s):
        return g * 1.0, slots


@pytest.mark.parametrize("given", ["closure", "value"])
def test_no_graph_of_a_loss_outlives_the_step(given):
    model = net()
    opt = fo.Optimizer(model.parameters(), fo.chain(remembering_the_loss(), fo.sgd(0.1)))
    closure = closure_of(model, opt, given)
    if given == "closure":
        opt.step(closure)
    else:
        opt.step(value=closure())
    assert not opt.metrics()["value"].requires_grad
    assert not any(x.requires_grad for own in opt.state.values() for x in own.values())


@pytest.mark.parametrize("cls", [optim.AdamW, optim.NAdam, optim.SGD, optim.Prodigy])
def test_the_size_of_a_pickle_is_in_proportion_to_the_parameters(cls):
    def size(count):
        ps = [torch.nn.Parameter(torch.ones(2)) for _ in range(count)]
        opt = cls(ps)
        for p in ps:
            p.grad = torch.ones_like(p)
        opt.step()
        return len(pickle.dumps(opt)), len(pickle.dumps(opt.state_dict()))

    for large, small in zip(size(400), size(100), strict=True):
        assert large < 4.2 * small


@pytest.mark.parametrize("dropped", ["by hand", "by the optimizer"])
def test_a_parameter_that_was_taken_out_is_gone(dropped, without_collector):
    ps = [torch.nn.Parameter(torch.ones(3)) for _ in range(3)]
    opt = optim.AdamW(ps)
    for _ in range(2):
        for p in ps:
            p.grad = torch.ones_like(p)
        opt.step()
    last = ps.pop()
    if dropped == "by hand":
        opt.param_groups[0]["params"].pop()
        del opt.state[last]
    else:
        opt.drop(last)
    opt.step()
    ref = weakref.ref(last)
    del last, p
    assert ref() is None


# State for parameters that require gradients, and for no others.


@every_make
@pytest.mark.parametrize("probe", ["init_state", "torch.distributed.checkpoint"])
def test_state_made_on_demand_is_made_for_parameters_that_require_gradients(name, probe):
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

    model = net()
    model[0].requires_grad_(False)
    opt = MAKES[name](model.named_parameters())
    if probe == "init_state":
        opt.init_state()
    else:
        get_optimizer_state_dict(model, opt)
    assert not set(opt.state) & set(model[0].parameters())
    assert set(opt.state) == set(model[2].parameters())


def test_evaluating_at_once_makes_no_state_of_frozen_parameters():
    model = net()
    model[0].requires_grad_(False)
    opt = MAKES["average"](model.named_parameters())
    opt.eval()
    opt.train()
    assert set(opt.state) == set(model[2].parameters())


# Modules that exchange their tensors.


@pytest.fixture
def swapping():
    torch.__future__.set_swap_module_params_on_conversion(True)
    yield
    torch.__future__.set_swap_module_params_on_conversion(False)


@pytest.mark.parametrize("engine", [*ENGINES, "auto"])
@pytest.mark.parametrize("name", ["AdamW", "SGD", "Muon", "clip", "partition", "average", "sam"])
def test_a_module_may_swap_its_tensors_between_steps(name, engine, swapping):
    model, plain = net(), net()
    opt = MAKES[name](model.named_parameters(), engine=engine)
    other = MAKES[name](plain.named_parameters(), engine="eager")
    for _ in range(2):
        for _ in range(2):
            opt.step(closure_of(model, opt, name))
            other.step(closure_of(plain, other, name))
        opt.zero_grad()
        model.to(torch.float64)
        model.to(torch.float32)
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)  # of kernels and eager steps
