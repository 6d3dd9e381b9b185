"""Sums of parameters and updates that repeat those before: the same, whatever comes in between."""

import gc
import weakref

import pytest
import torch
from torch.autograd import forward_ad

import funcopt as fo
from funcopt.engine import _ready_sum
from funcopt.errors import LeafError, StructureError

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def ready(monkeypatch):
    """The sums that were made by a kernel."""
    monkeypatch.delenv("FUNCOPT_KERNELS", raising=False)
    found, call = [], _ready_sum._ReadySum.__call__

    def noted(self, *trees):
        made = call(self, *trees)
        found.extend([] if made is None else [made])
        return made

    monkeypatch.setattr(_ready_sum._ReadySum, "__call__", noted)
    return found


def trees(dtype=torch.float32, seed=0):
    draw = torch.Generator().manual_seed(seed)
    shapes = {"a": [(3, 4), ()], "c": (5,), "b": (1, 7)}
    return [
        {
            key: [torch.randn(x, generator=draw).to(dtype) for x in own]
            if isinstance(own, list)
            else torch.randn(own, generator=draw).to(dtype)
            for key, own in shapes.items()
        }
        for _ in range(2)
    ]


def by_torch(ps, us):
    with fo.pure_engine("eager"):
        return fo.apply_updates(ps, us)


def repeat(ps, us, count=6):
    for _ in range(count):
        made = fo.apply_updates(ps, us)
    return made


def same(a, b):
    each = zip(fo.tree.leaves(a), fo.tree.leaves(b), strict=True)
    return all(torch.equal(x, y) and x.dtype is y.dtype for x, y in each)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_they_are_those_of_torch(dtype, ready):
    for seed in range(8):
        ps, us = trees(dtype, seed)
        before = fo.tree.map(torch.clone, (ps, us))
        made = fo.apply_updates(ps, us)
        assert same(made, by_torch(ps, us))
        assert same((ps, us), before)
        assert list(made) == list(ps)
    assert len(ready) >= 5


def test_signs_of_zeros_and_what_is_not_finite(ready):
    values = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1e-45, 3e38])
    ps, us = values.repeat(7), values.repeat_interleave(7)
    made = repeat([ps], [us])[0]
    assert ready
    assert made.isnan().equal((ps + us).isnan())
    finite = ~made.isnan()
    assert made[finite].equal((ps + us)[finite])
    assert made.signbit()[finite].equal((ps + us).signbit()[finite])


def test_results_are_in_memory_of_their_own(ready):
    ps, us = trees()
    made = [repeat(ps, us, 1) for _ in range(8)]
    assert ready
    begins = [x.data_ptr() for x in fo.tree.leaves([ps, us, made])]
    assert len(set(begins)) == len(begins)
    made[-1]["c"].add_(1)
    assert same(repeat(ps, us, 1), made[-2])


def test_no_tensor_is_kept(ready):
    """By what is ready, which lives as long as the thread."""
    ps, us = trees()
    made = repeat(ps, us)
    assert ready
    kept = [weakref.ref(x) for x in fo.tree.leaves((ps, us, made))]
    ready.clear()
    del ps, us, made
    gc.collect()
    assert all(x() is None for x in kept)


@pytest.mark.parametrize("both", [False, True])
def test_strides_are_those_of_the_parameters(both):
    ps = [torch.randn(3, 4).t()]
    us = [torch.randn(3, 4).t() if both else torch.randn(4, 3)]
    made = repeat(ps, us)[0]
    assert made.stride() == (ps[0] + us[0]).stride()
    assert made.equal(ps[0] + us[0])


def test_parameters_become_tensors(ready):
    """As where they are made one by one."""
    ps, us = [torch.nn.Parameter(torch.ones(3))], [torch.ones(3)]
    with torch.no_grad():
        made = repeat(ps, us)[0]
    assert type(made) is torch.Tensor
    assert not made.requires_grad


@pytest.mark.filterwarnings("ignore:.torch.jit.script")  # by torch's own jvp
def test_derivatives_are_followed(ready):
    ps, us = trees()
    repeat(ps, us)
    known = len(ready)
    assert known
    u = us["c"].clone().requires_grad_()
    fo.apply_updates(ps, {**us, "c": u})["c"].sum().backward()
    assert u.grad.equal(torch.ones(5))
    _, tangent = torch.func.jvp(lambda x: fo.apply_updates(ps, {**us, "c": x})["c"], (u,), (u,))
    assert tangent.equal(u)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(us["c"], torch.ones(5))
        made = fo.apply_updates(ps, {**us, "c": dual})["c"]
        assert forward_ad.unpack_dual(made).tangent.equal(torch.ones(5))
    grad = torch.func.grad(lambda x: fo.apply_updates({**ps, "c": x}, us)["c"].sum())(ps["c"])
    assert grad.equal(torch.ones(5))
    many = torch.func.vmap(lambda x: fo.apply_updates(ps, {**us, "c": x})["c"])(
        us["c"].expand(2, 5)
    )
    assert many.equal((ps["c"] + us["c"]).expand(2, 5))
    assert len(ready) == known


def test_modes_see_the_sums(ready):
    from torch.utils._python_dispatch import TorchDispatchMode

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    ps, us = trees()
    repeat(ps, us)
    seen = []
    with Seen():
        fo.apply_updates(ps, us)
    assert torch.ops.aten.add.Tensor in seen


def test_a_compiler_sees_them(ready):
    ps, us = trees()
    repeat(ps, us)
    function = torch.compile(fo.apply_updates, backend="eager", fullgraph=True)
    assert same(function(ps, us), by_torch(ps, us))


OTHERS = {
    "a missing update": lambda ps, us: (ps, {**us, "c": None}),
    "a missing parameter": lambda ps, us: ({**ps, "c": None}, us),
    "another dtype": lambda ps, us: ({**ps, "c": ps["c"].bfloat16()}, us),
    "a complex parameter": lambda ps, us: ({**ps, "c": ps["c"] * 1j}, us),
    "an empty tensor": lambda ps, us: ({**ps, "c": ps["c"][:0]}, {**us, "c": us["c"][:0]}),
    "an expanded update": lambda ps, us: (ps, {**us, "c": torch.ones(1).expand(5)}),
    "more leaves": lambda ps, us: ({**ps, "d": torch.ones(1)}, {**us, "d": torch.ones(1)}),
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_others_in_between(change):
    ps, us = trees()
    others = change(ps, us)
    for count in (6, 3):
        assert same(repeat(ps, us, count), by_torch(ps, us))
        assert same(repeat(*others, count), by_torch(*others))


REFUSED = {
    "another shape": (StructureError, lambda us: {**us, "c": torch.ones(1)}),
    "another tree": (StructureError, lambda us: {**us, "d": torch.ones(1)}),
    "a number": (StructureError, lambda us: {**us, "c": 1.0}),
    "a complex one": (LeafError, lambda us: {**us, "c": us["c"] * 1j}),
}


@pytest.mark.parametrize(("error", "change"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(error, change):
    """By the same words, whether or not sums were made before."""
    ps, us = trees()
    said = []
    for _ in range(2):
        with pytest.raises(error) as caught:
            fo.apply_updates(ps, change(us))
        said.append(str(caught.value))
        repeat(ps, us)
    assert said[0] == said[1]
    assert said[0].startswith("`apply_updates`: ")


def test_in_turns_each_is_ready(ready):
    jobs = [[trees()[k][key] for k in range(2)] for key in ("a", "b", "c")]
    for _ in range(4):
        for job in jobs:
            repeat(*job, 1)
    assert len(ready) == 3 * 3
    assert len(_ready_sum._sums.ready) == 3


def test_on_several_threads(ready):
    ps, us = [torch.randn(2**19 + 1)], [torch.randn(2**19 + 1)]
    assert same(repeat(ps, us), by_torch(ps, us))
    assert ready


@pytest.mark.parametrize("engine", ["eager", "torch"])
def test_an_engine_may_be_chosen(engine, ready):
    ps, us = trees()
    with fo.pure_engine(engine):
        repeat(ps, us)
    assert not ready


def test_without_machine_code_nothing_gets_ready(ready, monkeypatch):
    monkeypatch.setattr(_ready_sum, "has_machine", lambda: False)
    ps, us = trees()
    assert same(repeat(ps, us), by_torch(ps, us))
    assert not ready
