"""Contract 43: kernels work on the parts of a tensor that lie on this rank."""

import contextlib
import importlib.util
import os

import pytest
from torch.utils._python_dispatch import TorchDispatchMode

import funcopt as fo

from ..contract.common import model as whole_model
from ..contract.common import train
from .test_fsdp import cut_model
from .work import gap, params_of, step

TX = fo.chain(fo.clip_by_global_norm(0.05), fo.adamw(0.01), fo.ema_of_params(0.9))


def trained(watch):
    """The parameters, and which operations were dispatched to sharded tensors in a late step."""
    from torch.distributed.tensor import DTensor

    os.environ["FUNCOPT_KERNELS"] = "interpreted"
    net = cut_model()
    opt = fo.Optimizer(net.parameters(), TX, engine="fused")
    for _ in range(3):
        step(net, opt)
    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if any(issubclass(kind, DTensor) for kind in types):
                seen.append(str(func))
            return func(*args, **(kwargs or {}))

    if watch:
        with Watch():
            net[0].weight.detach().sin()
        assert len(seen) > 0  # so it does watch
        seen.clear()
    with Watch() if watch else contextlib.nullcontext():
        opt.step()
    return params_of(net), seen, opt.engine


def test_a_step_dispatches_nothing_to_sharded_tensors(two):
    first, second = two(trained, True)
    assert first[1:] == second[1:] == ([], "fused")
    again, _ = two(trained, False)
    # Numbers are tensors where somebody watches every operation, and round otherwise.
    assert gap(first[0], again[0]) <= 1e-12
    net = whole_model()
    opt = fo.Optimizer(net.parameters(), TX, engine="eager")
    train(net, opt, 3)
    opt.step()
    assert gap(first[0], params_of(net)) <= 1e-9


def by_torch(name, engine):
    net = cut_model()
    opt = TORCHS[name](net.parameters(), engine)
    for _ in range(3):
        step(net, opt)
    return params_of(net), opt.engine, len(opt.state)


TORCHS = {
    "AdamW": lambda ps, engine: fo.optim.AdamW(ps, lr=0.01, engine=engine),
    "Adam": lambda ps, engine: fo.optim.Adam(ps, lr=0.01, amsgrad=True, engine=engine),
    "SGD": lambda ps, engine: fo.optim.SGD(ps, lr=0.01, momentum=0.9, engine=engine),
    "Adagrad": lambda ps, engine: fo.optim.Adagrad(ps, lr=0.01, engine=engine),
}


@pytest.mark.parametrize(("engine", "made"), [("torch", "torch"), ("auto", "fused")])
@pytest.mark.parametrize("name", TORCHS)
def test_parts_are_stepped_by_the_kernels_of_torch(two, name, engine, made):
    """Of the last layer, which has one row, one rank has an empty part."""
    first, second = two(by_torch, name, engine)
    assert first[1] == second[1] == made
    assert gap(first[0], second[0]) == 0.0
    net = whole_model()
    train(net, TORCHS[name](net.parameters(), "eager"), 3)
    assert gap(first[0], params_of(net)) <= 1e-9


def a_version_of_a_part():
    net = cut_model()
    opt = fo.optim.AdamW(net.parameters(), engine="torch")
    step(net, opt)
    p = net[0].weight
    before = p._version, p.to_local()._version
    opt.step()
    return p._version > before[0], p._local_tensor._version > before[1], opt.engine


def test_autograd_notices_what_the_kernels_of_torch_have_changed(two):
    assert two(a_version_of_a_part) == [(True, True, "torch")] * 2


# Kernels of Triton, interpreted.

SHARDED = {
    "AdamW": fo.adamw(0.01),
    "clip, AdamW, EMA": TX,
    "LAMB": fo.lamb(0.01),
    "skip_if": fo.skip_if(fo.adamw(fo.linear_schedule(0.01, 0.0, 9)), fo.norm_outlier(warmup=1)),
    "cautious": fo.cautious(fo.chain(fo.clip_by_global_norm(0.05), fo.adamw(0.01))),
}


def by_triton(name, capturable):
    """The parameters, how many launches a step has, and how many entries there are here."""
    from funcopt.engine.triton import TritonKernel, _launch

    kernels, run, launches = os.environ.get("FUNCOPT_KERNELS"), _launch._run, []
    whole = _launch.BLOCK, TritonKernel.chunk

    def counted(*given):
        launches.append(given)
        run(*given)

    try:
        os.environ["FUNCOPT_KERNELS"] = "triton"
        _launch.BLOCK, TritonKernel.chunk, _launch._run = 16, 48, counted
        net = cut_model()
        tx = SHARDED[name]
        opt = fo.Optimizer(net.parameters(), tx, engine="fused", capturable=capturable)
        for _ in range(4):
            launches.clear()
            step(net, opt)
        here = [p._local_tensor.numel() for p in net.parameters()]
        return params_of(net), opt.engine, len(launches), here
    finally:
        _launch._run = run
        _launch.BLOCK, TritonKernel.chunk = whole
        os.environ.pop("FUNCOPT_KERNELS")
        if kernels is not None:
            os.environ["FUNCOPT_KERNELS"] = kernels


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize("name", SHARDED)
def test_kernels_of_triton_work_on_parts(two, name, capturable):
    """Of the last layer, which has one row, one rank has an empty part."""
    first, second = two(by_triton, name, capturable)
    assert first[1] == second[1] == "fused"
    assert first[2] > 0
    assert 0 in second[3]
    assert first[3] != second[3]
    assert gap(first[0], second[0]) == 0.0
    net = whole_model()
    train(net, fo.Optimizer(net.parameters(), SHARDED[name], engine="eager"), 4)
    assert gap(first[0], params_of(net)) <= 1e-9
