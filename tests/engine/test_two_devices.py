"""Parameters on two devices: the same steps as on one, and nothing of two devices meets."""

import pytest
import torch

import funcopt as fo
from funcopt.combinators import walk

from .common import Run, gap, gradients, parameters
from .test_every_chain import CASES, NOTHING, has_to_run_as_it_is
from .two_devices import Apart, on_host, spread

STEPS = 3


def draws(tx):
    """Random bits in integers, which lazy tensors do not have."""
    return any(getattr(node, "random", False) for _, node in walk(tx))


HERE = [c for c in CASES if not draws(c.tx) and not isinstance(c.tx, fo.lbfgs)]
every_case = pytest.mark.parametrize("case", HERE, ids=str)
every_engine = pytest.mark.parametrize("how", ["eager", "auto"])

TWO = ("lazy:0", "lazy:1")
OFFLOADED = [(("cpu", "lazy:0"), "eager"), (("lazy:0", "cpu"), "auto")]


def compared(tx, how, devices, extra=None):
    """A run on these devices, whose steps are those made on the CPU, and what it waited for."""
    plain = Run(tx, "eager", parameters(), extra)
    run = Run(tx, how, spread(parameters(), devices), extra)
    mode = Apart()
    for _ in range(STEPS):
        gs = gradients(plain.params, plain.t)
        plain.step(gs)
        gs = spread(gs, devices)
        with mode:
            run.step(gs)
    assert gap(plain.tensors(), list(map(on_host, run.tensors()))) <= 1e-12
    return run, mode.waits


@every_engine
@every_case
def test_two_devices_make_the_same_steps_and_nothing_waits(case, how):
    run, waits = compared(case.tx, how, TWO, case.extra)
    assert not waits
    alone = has_to_run_as_it_is(case.tx) or case.tx in NOTHING
    assert run.engine.name in ("foreach", "torch") or how == "eager" or alone


def sums(tx):
    """How many stages of a chain measure tensors, or conclude from a loss."""
    rules = [node for _, node in walk(tx) if isinstance(node, fo.TensorRule)]
    return sum(rule.measures or "value" in rule.extra for rule in rules)


@pytest.mark.parametrize(("devices", "how"), OFFLOADED, ids=str)
@every_case
def test_parameters_on_the_host_wait_for_what_was_concluded_and_nothing_else(case, how, devices):
    """For each sum, scalar by scalar."""
    _, waits = compared(case.tx, how, devices, case.extra)
    assert set(waits) <= {"to the host", "item", "__float__"}
    flags = 3 * any(isinstance(node, fo.skip_if) for _, node in walk(case.tx))
    assert sum(waits.values()) <= STEPS * 9 * (sums(case.tx) + flags)


@pytest.mark.parametrize("how", ["eager", "auto"])
def test_each_device_gets_one_copy_of_a_conclusion(how):
    """Not each tensor."""
    shapes = {f"p{i:02}": (3 + i,) for i in range(20)}
    run = Run(fo.clip_by_global_norm(1.0), how, spread(parameters(shapes=shapes), TWO))
    carried = []

    class Carried(Apart):
        def _run(self, func, name, args, kwargs):
            if name == "to" and isinstance(args[1], torch.device) and args[0].device != args[1]:
                carried.append((args[0].device, args[1]))
            return super()._run(func, name, args, kwargs)

    for t in range(2):
        gs = spread(gradients(parameters(shapes=shapes), t), TWO)
        carried.clear()
        with Carried():
            run.step(gs)
    # The measures of the other device, from there; and the norm and the factor, back.
    assert 2 <= len(carried) <= 3


@pytest.mark.filterwarnings("ignore:(?s).*does not negate the updates")
@pytest.mark.parametrize("capturable", [False, True])
@every_case
def test_an_optimizer_of_two_devices(case, capturable):
    def made(devices):
        params = {k: p.requires_grad_() for k, p in spread(parameters(), devices).items()}
        return params, fo.Optimizer(params.items(), case.tx, capturable=capturable)

    both = [(*made(devices), devices) for devices in (("cpu",), TWO)]
    for t in range(STEPS):
        gs = gradients({k: p.detach() for k, p in both[0][0].items()}, t)
        for params, opt, devices in both:
            for k, g in spread(gs, devices).items():
                params[k].grad = g
            with Apart() as mode:
                opt.step(**case.extra)
                opt.metrics()
            assert not mode.waits
    one, other = ([on_host(p.detach()) for p in params.values()] for params, _, _ in both)
    assert gap(one, other) <= 1e-12


def test_tensors_that_meet_are_seen():
    x, y = spread({"x": torch.ones(2), "y": torch.ones(2)}, TWO).values()
    with Apart() as mode:
        with pytest.raises(RuntimeError, match="add: expected all tensors on the same device"):
            torch.add(x, y)
        with pytest.raises(RuntimeError, match="same device"):
            x * torch.ones(2)
        x * torch.tensor(2.0)
        assert not mode.waits
        x.sum().item()
        x.to("cpu")
        torch.ones(2).to(torch.device("lazy:0"))
    assert sum(mode.waits.values()) == 3


def test_graphs_of_one_hash_have_values_of_their_own():
    """Lazy tensors alone would make the second as they made the first."""
    x, y = spread({"x": torch.tensor(3.0), "y": torch.tensor(10.0)}, TWO[:1]).values()
    with Apart():
        assert on_host(x - y + x).item() == -4.0
        assert on_host(x - y + y).item() == 3.0
