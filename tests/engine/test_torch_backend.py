"""Where torch has a kernel for a chain, it makes the same steps as the operations one by one."""

import pytest
import torch

import funcopt as fo
from funcopt import optim
from funcopt.engine._torch_backend import TorchBackend

from .common import Run, gap, parameters

SHAPES = {"a": (3, 4), "b": (), "c": (7,)}

ROWS = [
    fo.adamw(0.1),
    fo.adamw(fo.linear_schedule(0.1, 0.0, 9), (0.8, 0.95), 1e-3, 0.3, amsgrad=True),
    fo.adam(0.1, weight_decay=0.2),
    fo.adam(0.1, amsgrad=True),
    fo.sgd(0.1),
    fo.sgd(0.1, weight_decay=0.2),
    fo.sgd(0.1, 0.9, 0.1, 0.2),
    fo.sgd(0.1, 0.9, nesterov=True),
    fo.adagrad(0.1, lr_decay=0.1, weight_decay=0.2, initial_accumulator_value=0.1),
]

every_row = pytest.mark.parametrize("tx", ROWS, ids=lambda tx: " ".join(repr(tx).split()))


@pytest.fixture
def calls(monkeypatch):
    """How many steps the kernels of torch have made."""
    made = []
    step = TorchBackend.step

    def counted(self, inputs):
        made.append(inputs)
        return step(self, inputs)

    monkeypatch.setattr(TorchBackend, "step", counted)
    return made


def by_operations(tx, params):
    run = Run(tx, "eager", params)
    for _ in range(6):
        run.step()
    assert run.engine.name == "eager"
    return run.tensors()


@every_row
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_is_the_chain(tx, dtype, calls):
    run = Run(tx, "torch", parameters(dtype, SHAPES))
    for _ in range(6):
        run.step()
    assert len(calls) == 6
    limit = 2e-6 if dtype is torch.float32 else 2e-15
    assert gap(run.tensors(), by_operations(tx, parameters(dtype, SHAPES))) <= limit


@pytest.mark.parametrize(
    "tx",
    [
        fo.chain(fo.scale_by_adam(eps_root=1e-3), fo.add_decayed_weights(0.1), fo.scale(-0.1)),
        fo.chain(fo.scale_by_adam(nesterov=True), *fo.adamw(0.1).stages[1:]),
        fo.chain(fo.scale_by_adam(eps_root=1e-3), *fo.adamw(0.1).stages[1:]),
        fo.chain(fo.scale_by_adam((0.0, 0.9), first_moment=False), *fo.adamw(0.1).stages[1:]),
        fo.chain(*fo.adamw(0.1).stages[:2], fo.scale_by_learning_rate(0.1, flip_sign=False)),
        fo.chain(fo.add_decayed_weights(0.0), fo.scale_by_adagrad(eps_in_sqrt=True), fo.sgd(0.1)),
    ],
    ids=repr,
)
def test_what_is_not_quite_a_row_is_none(tx, calls):
    Run(tx, "torch", parameters(torch.float32, SHAPES)).step()
    assert calls == []


@pytest.mark.parametrize("what", ["empty", "order", "complex", "mixed"])
def test_tensors_that_the_kernel_would_get_wrong_are_worked_on_beside_it(what, calls):
    def made():
        params = parameters(torch.float32, SHAPES)
        if what == "empty":
            params["a"] = torch.zeros(0, 3)
        elif what == "order":  # gradients will be contiguous
            params["a"] = torch.arange(12.0).reshape(4, 3).t()
        elif what == "mixed":
            params["a"] = params["a"].double()
        else:
            params = {k: v.to(torch.complex64) for k, v in params.items()}
        return params

    def grads(params):
        return {k: torch.ones(v.shape, dtype=v.dtype) for k, v in params.items()}

    runs = [Run(fo.adamw(0.1), how, made()) for how in ("torch", "fused")]
    for run in runs:
        for _ in range(3):
            run.step(grads(made()))
    assert gap(*(run.tensors() for run in runs)) <= 1e-6
    assert calls


def in_narrow(tx, how, dtype):
    """Twenty steps of 4,096 random entries, with random gradients."""
    generator = torch.Generator().manual_seed(0)
    run = Run(tx, how, {"w": torch.randn(4096, generator=generator).to(dtype)})
    for _ in range(20):
        run.step({"w": torch.randn(4096, generator=generator).to(dtype)})
    return run


ADAMS = [tx for tx in ROWS if any(isinstance(stage, fo.scale_by_adam) for stage in tx.stages)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tx", ADAMS, ids=repr)
def test_adam_in_16_bits_is_rounded_once(tx, dtype, calls):
    """As eagerly, where it is computed in float32: other roundings are rare, and by one unit.

    Of the kernel of SGD nine in ten entries are others.
    """
    eager, run = in_narrow(tx, "eager", dtype), in_narrow(tx, "torch", dtype)
    assert len(calls) == 20
    for x, y in zip(eager.tensors(), run.tensors(), strict=True):
        assert x.dtype is y.dtype is dtype
        assert (x != y).sum() <= 20  # of 4,096
        assert (x.double() - y.double()).abs().max() <= torch.finfo(dtype).eps * x.abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tx", [tx for tx in ROWS if tx not in ADAMS], ids=repr)
def test_the_other_kernels_are_not_for_16_bits(tx, dtype, calls):
    assert in_narrow(tx, "torch", dtype).engine.name == "eager"
    assert calls == []


def test_groups_that_ascend_and_clocks_that_differ_are_calls_of_their_own(calls):
    ps = [torch.nn.Parameter(torch.ones(3)) for _ in range(3)]
    theirs = [torch.nn.Parameter(torch.ones(3)) for _ in range(3)]

    def groups(params):
        return [{"params": params[:2]}, {"params": params[2:], "lr": 0.3, "maximize": True}]

    opt = optim.AdamW(groups(ps), lr=0.1, engine="torch")
    plain = torch.optim.AdamW(groups(theirs), lr=0.1)
    for t in range(5):
        for p, q in zip(ps, theirs, strict=True):
            p.grad = q.grad = None if t == 0 and p is ps[0] else torch.full((3,), 0.1 * t + 0.1)
        opt.step()
        plain.step()
    assert len(calls) == 5
    assert gap(ps, theirs) <= 1e-6


# On a GPU, for which "meta" stands.


@pytest.fixture
def launched(monkeypatch):
    """The kernels of Triton that are launched; those of torch are there for "meta"."""
    from funcopt.engine import _kernels, _torch_backend
    from funcopt.engine.triton import _launch

    found = []
    monkeypatch.setenv("FUNCOPT_KERNELS", "triton")
    monkeypatch.setattr(_kernels, "_cache", {})
    monkeypatch.setattr(_torch_backend, "DEVICES", {"meta"})
    for name in ("_fused_sgd_", "_fused_adagrad_"):  # those of Adam exist
        monkeypatch.setattr(torch, name, lambda *args, **kwargs: None)
    monkeypatch.setattr(_launch, "_run", lambda call, table, device: found.append(call))
    return found


def on_device(dtypes, tx, engine="auto"):
    """An engine that has made two steps of 148 tensors."""
    params = {
        f"{i:03}": torch.empty(5, dtype=dtypes[i % len(dtypes)], device="meta") for i in range(148)
    }
    run = Run(tx, engine, params)
    for _ in range(2):
        run.step({k: torch.empty_like(p) for k, p in params.items()})
    return run.engine.name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tx", [tx for tx in ROWS if tx not in ADAMS], ids=repr)
def test_on_a_gpu_one_kernel_of_triton_makes_the_steps_in_16_bits(tx, dtype, launched, calls):
    assert on_device([dtype], tx) == "fused"
    assert len(launched) == 2
    assert not calls


@pytest.mark.parametrize("tx", ROWS, ids=repr)
def test_on_a_gpu_no_tensor_is_stepped_eagerly_beside_the_kernel_of_torch(tx, launched, calls):
    """As norms in float32 beside matrices in bfloat16; those of Adam are kernels of torch all."""
    mixed = [torch.float32, torch.bfloat16]
    if tx in ADAMS:
        assert on_device(mixed, tx) == "torch"
        assert (len(launched), len(calls)) == (0, 2)
    else:
        assert on_device(mixed, tx) == "fused"
        assert (len(launched), len(calls)) == (4, 0), "one for each dtype"
        if not tx.stages[1].hyperparam_values().get("dampening"):  # which has to be read
            assert on_device([torch.float32], tx) == on_device(mixed, tx, "torch") == "torch"
