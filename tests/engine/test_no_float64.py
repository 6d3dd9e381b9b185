"""Devices that have no float64, as MPS: nothing is made there in it."""

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

import funcopt as fo
from funcopt._core import tensor_rule
from funcopt._numerics import scalars
from funcopt.engine import _kernels
from funcopt.engine._guards import Unsupported

from .common import Run, parameters
from .test_every_chain import on_a_device


class NoFloat64(TorchFunctionMode):
    """Within it, "meta" has no float64."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        # The engine itself makes empty ones on "meta", to find out dtypes.
        for x in tree_leaves(out) if func.__name__ != "empty" else ():
            if isinstance(x, Tensor) and x.is_meta and x.dtype == torch.float64:
                raise RuntimeError(f"{func.__name__}: the device has no float64")
        return out


@pytest.fixture
def meta_has_none(monkeypatch):
    monkeypatch.setattr(scalars, "NO_FLOAT64", kinds := {"mps", "meta"})
    monkeypatch.setattr(tensor_rule, "NO_FLOAT64", kinds)


@pytest.mark.parametrize("how", ["eager", "auto"])
@on_a_device
def test_a_step_makes_none(case, how, meta_has_none):
    params = {k: p.to("meta") for k, p in parameters(torch.float32).items()}
    run = Run(case.tx, how, params, case.extra)
    with NoFloat64():
        for _ in range(2):
            run.step({k: torch.empty_like(p) for k, p in params.items()})


@pytest.mark.filterwarnings("ignore:(?s).*does not negate the updates")
@pytest.mark.parametrize("capturable", [False, True])
@on_a_device
def test_neither_does_an_optimizer(case, capturable, meta_has_none):
    params = {k: p.to("meta").requires_grad_() for k, p in parameters(torch.float32).items()}
    opt = fo.Optimizer(params.items(), case.tx, capturable=capturable)
    for p in params.values():
        p.grad = torch.empty_like(p)
    with NoFloat64():
        opt.step(**case.extra)
        opt.step(**case.extra)


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_what_is_missing_on_a_device_is_its_own_compiler(kind, monkeypatch):
    monkeypatch.setattr(_kernels, "has_compiler", lambda: False)
    monkeypatch.setattr(_kernels.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unsupported, match=rf"Triton, .* for {kind}, is not installed"):
        _kernels.check_compiler(torch.device(kind))
    with pytest.raises(Unsupported, match=r"no C\+\+ compiler"):
        _kernels.check_compiler(torch.device("cpu"))
    monkeypatch.setattr(_kernels.importlib.util, "find_spec", lambda name: object())
    _kernels.check_compiler(torch.device(kind))
