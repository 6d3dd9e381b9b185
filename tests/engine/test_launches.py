"""Launches and bytes of a step on a device, over the whole case table, counted on "meta".

A kernel of Triton moves each tensor once, and functions of lists are one launch for many tensors.
What torch has no such function for is a launch for each tensor: which that is, is known here.
"""

import importlib.util
import math
from collections import Counter

import pytest
import torch
from torch.utils._pytree import tree_leaves

import funcopt as fo
from funcopt import scale_by_ldog, scale_by_novograd
from funcopt._core.tensor_rule import TensorRule
from funcopt.combinators import walk
from funcopt.engine import _foreach, _kernels, _replay

from ..cases import Case
from .as_on_cuda import AsOnCuda
from .common import Run, gap, parameters
from .test_every_chain import CASES, NOTHING, has_to_run_as_it_is

SLOT_PER_TENSOR = (scale_by_ldog, scale_by_novograd)
"""Elementwise rules that compute with a slot of another shape run operation by operation."""


def made_by_kernels(tx):
    own = any(isinstance(node, SLOT_PER_TENSOR) for _, node in walk(tx))
    return not (own or has_to_run_as_it_is(tx) or tx in NOTHING)


MADE = [case for case in CASES if made_by_kernels(case.tx)]
every_case = pytest.mark.parametrize("case", MADE, ids=str)


def wholes(tx):
    return [x for _, x in walk(tx) if isinstance(x, TensorRule) and not x.elementwise]


def reductions(tx):
    """How often a pass over memory is cut, at most."""
    return sum(x.measures_tree or x.measures_tensors for _, x in walk(tx))


def stepped(case, tensors, shape=(6, 5)):
    """A chain that has made two steps, and its gradients."""
    params = {f"{i:03}": torch.empty(shape, device="meta") for i in range(tensors)}
    grads = {k: torch.empty_like(p) for k, p in params.items()}
    run = Run(case.tx, "auto", params, case.extra)
    for _ in range(2):
        run.step(grads)
    return run, grads


# By kernels of Triton.

by_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed"
)


@pytest.fixture
def launched(monkeypatch):
    """The kernels of a step, and the bytes that its passes read and write."""
    from funcopt.engine.triton import _launch

    found = Counter()

    def counted(call, table, device):
        found["kernels"] += 1

    def passed(launch, nodes, known=_replay.Launch.__call__):
        lowered = launch.kernel._lowered
        read = {x.at for call in lowered.calls for x in call.refs}
        read |= {ref.at for _, ref in lowered.writes} | {ref.at for ref in lowered.measures}
        places = [k for k in range(len(launch.roles)) if k in read]
        places += [k for k, _ in lowered.writes]
        leaves = {leaf for leaf, *_ in launch.tasks}
        columns = [launch.block.columns[launch.roles[k]] for k in places]
        found["bytes"] += sum(column[leaf].nbytes for column in columns for leaf in leaves)
        return known(launch, nodes)

    monkeypatch.setenv("FUNCOPT_KERNELS", "triton")
    monkeypatch.setattr(_kernels, "_cache", {})
    monkeypatch.setattr(_launch, "_run", counted)
    monkeypatch.setattr(_replay.Launch, "__call__", passed)
    return found


@by_triton
@every_case
def test_by_triton_launches_do_not_depend_on_the_number_of_tensors(case, launched):
    """One for each pass, one for the conclusion of each, and one that prepares.

    Of bytes: parameters and slots are read and written once, gradients read; and all of them may
    be read once more for each sum over tensors. Rules of whole tensors get and return copies.
    """
    found = []
    for tensors in (3, 40):
        run, grads = stepped(case, tensors)
        launched.clear()
        run.step(grads)
        found.append(dict(launched))
    assert run.engine.name == "fused"
    few, many = found
    whole, cuts = len(wholes(case.tx)), reductions(case.tx)
    assert few.get("kernels") == many.get("kernels")
    assert many.get("kernels", 0) <= 2 * cuts + whole + 2
    tensors = [x for x in run.tensors() if x.numel() == 30]
    read = sum(x.nbytes for x in [*tensors, *grads.values()])
    least = read + sum(x.nbytes for x in tensors)
    copied = 3 * read * whole
    assert many.get("bytes", 0) <= least + cuts * read + copied + 64 * len(run.params)


# By functions of lists.


class Counting(AsOnCuda):
    """Also counts what is launched, and the bytes that are read and written."""

    def __init__(self):
        super().__init__()
        self.launches, self.bytes = Counter(), 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = super().__torch_function__(func, types, args, kwargs)
        name = getattr(func, "__name__", str(func))
        made = [x for x in tree_leaves(out) if isinstance(x, torch.Tensor)]
        given = [x for x in tree_leaves((args, kwargs or {})) if isinstance(x, torch.Tensor)]
        known = {id(x) for x in given}
        returned = name == "to" and id(out) in known
        if name not in FREE and any(x.is_meta for x in (*made, *given)) and not returned:
            self.launches[name] += 1
            self.bytes += sum(x.nbytes for x in given if x.is_meta)
            self.bytes += sum(x.nbytes for x in made if id(x) not in known)
        return out


NAMES = (
    "__get__ __len__ __set__ as_strided data_ptr detach dim element_size empty empty_like "
    "is_complex is_contiguous is_floating_point is_neg numel requires_grad_ reshape select "
    "size storage_offset stride type unbind unsqueeze untyped_storage view view_as"
)
FREE = frozenset(NAMES.split(" "))
"""Functions that launch nothing."""


def counted(case, tensors, shape=(6, 5)):
    run, grads = stepped(case, tensors, shape)
    with Counting() as mode:
        run.step(grads)
    assert run.engine.name == "foreach" or not mode.launches
    return mode


NAMES = (
    "__and__ __eq__ __invert__ add div full ge gt isfinite isnan lerp lt maximum mul ne signbit "
    "sum to where"
)
ONE_BY_ONE = frozenset(NAMES.split(" "))
"""What runs for one tensor after another, as torch has no function of lists: choices, comparisons
and sums; and arithmetic with scalars of the device that differ between tensors, or that torch takes
for one tensor only."""


@every_case
def test_by_functions_of_lists_few_functions_run_tensor_by_tensor(case):
    few, many = (counted(case, tensors) for tensors in (10, 20))
    each = {name for name, n in many.launches.items() if n != few.launches[name]}
    assert each <= ONE_BY_ONE
    assert not many.waits
    if wholes(case.tx):
        return  # tensors that are stacked look as one
    per_entry = [mode.bytes / (30 * tensors) for mode, tensors in ((few, 10), (many, 20))]
    assert per_entry[0] == pytest.approx(per_entry[1], rel=0.05), "but for scalars of the step"


ADAMW = fo.adamw(1e-3)
CLIPPED = fo.chain(fo.clip_by_global_norm(1.0), ADAMW)
PINNED = {
    "AdamW": (ADAMW, 15, 0, 144),
    "Lion": (fo.lion(1e-4), 7, 0, 68),
    "NAdam": (fo.nadam(1e-3), 15, 0, 144),
    "clip, AdamW": (CLIPPED, 32, 0, 156),
    "clip, AdamW, EMA": (fo.chain(CLIPPED, fo.ema_of_params(0.99)), 35, 0, 188),
    "Muon": (fo.chain(fo.scale_by_muon(), fo.sgd(0.1)), 30, 0, None),
    "LAMB": (fo.lamb(1e-3), 46, 1, 220),
    "Prodigy": (fo.prodigy(1.0), 64, 3, 248),
    "Rprop": (fo.rprop(1e-2), 15, 6, 174),
    "skip_if(AdamW)": (fo.skip_if(ADAMW), 52, 7, 204),
}
"""Launches, those more for each tensor, and bytes for each parameter in float32."""


@pytest.mark.parametrize("name", PINNED)
def test_by_functions_of_lists_these_launches_are_made(name):
    tx, most, each, moved = PINNED[name]
    for tensors in (4, 148):
        mode = counted(Case(tx), tensors, (100, 1000))
        assert sum(mode.launches.values()) == most + each * tensors, mode.launches
        if moved:
            assert mode.bytes / (1e5 * tensors) == pytest.approx(moved, abs=0.01)


def test_a_sum_of_squares_that_something_else_needs_is_made_with_them():
    """And one that is not needed otherwise is the square of a norm."""

    class both(fo.TensorRule):
        elementwise = True

        def measure_tensor(self, g, slots, p, s):
            square = g.square()
            return square.sum(), (square * g).sum()

        def conclude(self, s, memory, total):
            return {"a": total[0], "b": total[1]}, memory

        def update_tensor(self, g, slots, p, s):
            return g * s.a + s.b, slots

    for tx in (both(), fo.clip_by_global_norm(0.1)):
        runs = [Run(tx, how, parameters()) for how in ("eager", "foreach")]
        for run in runs:
            run.step()
        assert runs[1].engine.name == "foreach"
        assert gap(*(run.tensors() for run in runs)) <= 1e-12


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -2.5])
def test_lists_are_filled_with_a_number(value):
    tensors = [torch.full((3,), math.nan), torch.ones(2, 2)]
    for x in _foreach._filled(tensors, value):
        assert torch.equal(x, torch.full_like(x, value))
        assert torch.equal(x.signbit(), torch.full_like(x, value).signbit())


@by_triton
@pytest.mark.parametrize(
    ("name", "moved"),
    [
        ("AdamW", 28),
        ("NAdam", 28),
        ("Lion", 20),
        ("clip, AdamW", 32),
        ("clip, AdamW, EMA", 40),
        ("LAMB", 44),
        ("Prodigy", 52),
        ("Rprop", 28),
        ("skip_if(AdamW)", 32),
    ],
)
def test_by_triton_these_bytes_are_moved(name, moved, launched):
    """For each parameter, in float32."""
    run, grads = stepped(Case(PINNED[name][0]), 148, (100, 100))
    launched.clear()
    run.step(grads)
    assert launched["bytes"] == moved * 148 * 10_000
