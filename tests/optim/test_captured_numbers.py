"""A step that is captured is the same in every replay.

No number of the host changes from step to step, and nothing is decided by one. That is seen on
"meta", where a capture is not possible.
"""

import importlib.util
import inspect
from collections import Counter

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

import funcopt as fo

from ..engine.test_every_chain import on_a_device

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

from funcopt.engine import _kernels
from funcopt.engine.triton import _launch


class Recorded(TorchFunctionMode):
    """The functions of a step on a device, with the numbers of the host that they are given."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        given = tree_leaves((args, kwargs or {}))
        if any(isinstance(x, Tensor) and x.is_meta for x in given) and func.__name__ != "__get__":
            numbers = [float(x) for x in given if isinstance(x, (int, float))]
            numbers += [float(x) for x in given if isinstance(x, Tensor) and is_number(x)]
            self.calls.append((func.__name__, *map(str, numbers)))
        return func(*args, **(kwargs or {}))


def is_number(x):
    return not (x.is_meta or x.dim())


@pytest.fixture
def launched(monkeypatch):
    """The kernels of a step, with the numbers of the host in their tables."""
    found, known = [], _launch.TableLaunches.make

    def kept(launches):
        found.extend((call.programs, str(call.function.fn)) for call, _ in launches._calls)
        found.append(tuple(map(str, launches._values)))
        known(launches)

    monkeypatch.setattr(_launch.TableLaunches, "make", kept)
    monkeypatch.setattr(_kernels, "_cache", {})
    return found


@pytest.mark.filterwarnings("ignore:(?s).*does not negate the updates")
@pytest.mark.parametrize("kernels", ["triton", "interpreted"])
@on_a_device
def test_every_step_is_the_same(case, kernels, monkeypatch, launched):
    monkeypatch.setenv("FUNCOPT_KERNELS", kernels)
    shapes = {"a": (4, 6), "b": (5,), "c": (6, 4)}
    ps = {k: torch.nn.Parameter(torch.empty(x, device="meta")) for k, x in shapes.items()}
    opt = fo.Optimizer(ps.items(), case.tx, capturable=True)
    steps = []
    for _ in range(7):
        for p in ps.values():
            p.grad = torch.empty_like(p)
        launched.clear()
        with Recorded() as mode:
            opt.step(**case.extra)
        steps.append((Counter(mode.calls), list(launched)))
    for one in steps[3:]:
        assert one == steps[2]


def test_all_counts_and_shared_scalars_are_on_the_device():
    """Of every class, from the first step on."""
    for name, made in vars(fo.optim).items():
        if not inspect.isclass(made) or "capturable" not in inspect.signature(made).parameters:
            continue
        if name == "Optimizer":
            continue
        model = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.Linear(6, 4)).to("meta")
        opt = made(model.named_parameters(), capturable=True)
        if opt.tx.needs_closure:
            continue
        opt.init_state()
        for p in model.parameters():
            assert all(x.is_meta for x in opt.state[p].values()), name
