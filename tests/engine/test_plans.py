"""What a rule does with whole tensors by entries is made in passes over tiles of matrices."""

import collections
import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

import funcopt as fo
from funcopt._core.stage import Scalars
from funcopt.combinators import walk
from funcopt.engine import _kernels, _planner, _plans, _tiles
from funcopt.engine._call_log import CallLog
from funcopt.engine._graph import Graph
from funcopt.engine._guards import Unsupported
from funcopt.engine._plan import PassStep
from funcopt.engine._tiles import Extent, TilePass, Tiling

from .common import Run, gap, parameters
from .test_every_chain import CASES

SHAPES = {"a": (5, 4), "b": (2, 3, 7), "c": (6, 6), "d": (3,), "e": ()}


@pytest.fixture(autouse=True)
def bytecode(monkeypatch):
    if not _kernels.has_machine():
        pytest.skip("no C++ compiler")
    monkeypatch.setenv("FUNCOPT_KERNELS", "bytecode")


@pytest.fixture
def ways(monkeypatch):
    """The ways of rules that were followed: all of those that have a plan take it."""
    found, known = [], _plans._followed

    def followed(rule, *given):
        made, way = known(rule, *given)
        found.append((type(rule).__name__, tuple(given[0][0].shape), way))
        return made, way

    monkeypatch.setattr(_plans, "_followed", followed)
    monkeypatch.setattr(_plans, "LEAST_COLUMNS", 1)
    monkeypatch.setattr(_plans, "LEAST_ENTRIES", 1)
    monkeypatch.setattr(_planner, "LEAST_SAVED", -(10**9))
    return found


def planned(ways):
    """How often a rule has a plan."""
    return collections.Counter(name for name, _, way in ways if way.plan is not None)


def sees_whole(tx):
    """Whether a rule sees whole tensors, and may be called otherwise than it is written."""
    nodes = [node for _, node in walk(tx) if isinstance(node, fo.TensorRule)]
    return any(node.batched and not node.elementwise for node in nodes)


WHOLE = [case for case in CASES if sees_whole(case.tx)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("case", WHOLE, ids=str)
def test_a_plan_makes_what_the_rule_makes(case, dtype, ways):
    runs = [Run(case.tx, one, parameters(dtype), case.extra) for one in ("eager", "fused")]
    for _ in range(5 if dtype is torch.float64 else 2):  # rounding grows in further steps
        for run in runs:
            run.step()
    eager, fused = (run.tensors() for run in runs)
    size = max((x.abs().max().item() for x in eager if x.numel()), default=1.0)
    assert gap(eager, fused) <= 4e3 * torch.finfo(dtype).eps * max(1.0, size)


PLANNED = {
    "scale_by_factored_rms": [fo.scale_by_factored_rms(), fo.scale_by_factored_rms(add_eps=True)],
    "scale_by_came": [fo.scale_by_came()],
    "scale_by_soap": [fo.scale_by_soap(precondition_frequency=2)],
    "scale_by_sm3": [fo.scale_by_sm3()],
    "scale_by_adam_mini": [fo.scale_by_adam_mini()],
    "scale_by_lazy_adam": [fo.scale_by_lazy_adam()],
}


@pytest.mark.parametrize("name", PLANNED)
def test_these_rules_have_plans_for_matrices(name, ways):
    """Each is followed once for every shape and way; only such tensors are."""
    for tx in PLANNED[name]:
        ways.clear()
        runs = [Run(tx, one, parameters(shapes=SHAPES)) for one in ("eager", "fused")]
        for _ in range(6):
            for run in runs:
                run.step()
        assert gap(*(run.tensors() for run in runs)) <= 1e-12
        of_matrices = [way for who, shape, way in ways if who == name]
        assert planned(ways)[name] >= 2
        assert {len(shape) for _, shape, _ in ways} <= {2, 3}
        assert len(of_matrices) <= 3 * (3 if name == "scale_by_soap" else 2)


def traffic(ways):
    """How many whole tensors each pass of a plan reads and writes."""
    (steps,) = [[step for step, _ in way.plan.steps] for _, _, way in ways if way.plan][:1]
    return [step.traffic for step in steps if isinstance(step, PassStep)]


@pytest.mark.parametrize(
    ("tx", "expected"),
    [
        (fo.scale_by_factored_rms(), [1, 2]),  # g^2 by rows and columns; u
        (fo.scale_by_came(), [1, 1, 3, 2]),  # g^2; n^2; the mean, and its residual; u
    ],
)
def test_what_is_read_and_written(tx, expected, ways):
    Run(tx, "fused", parameters(shapes={"a": (5, 4)})).step()
    assert traffic(ways) == expected


class Sizes(NamedTuple):
    largest: Tensor  # like p, but of length 1 where reduced
    means: Tensor  # the same
    least: Tensor  # (): of all entries


class reduced(fo.TensorRule):
    """Reductions of all kinds, over all dimensions, of what is computed by entries."""

    weight: fo.Scalar = 0.5
    batched = True

    def init_tensor(self, p):
        return Sizes(p[:1] * 0, p[..., :1] * 0, p.new_zeros(()))

    def update_tensor(self, g, slots, p, s):
        x = (g * s.weight).sigmoid()
        largest = torch.maximum(slots.largest, x.amax(0, keepdim=True))
        means = slots.means + x.mean(dim=-1, keepdim=True)
        least = slots.least + x.amin()
        u = x / (largest + means) + least * x.sum((-2, -1)).sum() + x.view_as(x).amax((-1,)).sum()
        return 1e-3 * u.where(u > 1, -u), Sizes(largest, means, least)


def test_reductions_of_all_kinds(ways):
    shapes = {k: v for k, v in SHAPES.items() if len(v) == 2}
    runs = [Run(reduced(), one, parameters(shapes=shapes)) for one in ("eager", "fused")]
    for _ in range(4):
        for run in runs:
            run.step()
    assert planned(ways) == {"reduced": 2}
    assert gap(*(run.tensors() for run in runs)) <= 1e-12


def test_between_functions_of_torch(ways):
    """Of what is computed by entries, and of views of it; over batches of matrices, too."""

    class between(fo.TensorRule):
        batched = True

        def update_tensor(self, g, slots, p, s):
            x = 0.1 * g * g
            y = x.clone().view_as(g).cumsum(-1) - x.view_as(g)
            over = [x.sum(0, keepdim=True), x.sum((0, 1)), x.sum((0, 2))[:, None]]
            over.append(x.mean((0, -1), keepdim=True))
            u = sum((x / (1 + z) for z in over), y.square())
            return u.tanh().reshape(g.shape), slots

    shapes = {"a": (2, 3, 7), "b": (3, 3, 3)}
    runs = [Run(between(), one, parameters(shapes=shapes)) for one in ("eager", "fused")]
    for _ in range(4):
        for run in runs:
            run.step()
    assert planned(ways) == {"between": 2}
    assert gap(*(run.tensors() for run in runs)) <= 1e-12


def test_flags(ways):
    """Of entries, of rows and of columns; all and any of them."""

    class flagged(fo.TensorRule):
        batched = True

        def update_tensor(self, g, slots, p, s):
            large = g.abs() > 0.5
            rows, columns = large.any(-1, keepdim=True), large.all(0) | (g > 0.6).any(dim=0)
            u = torch.where(rows, g * g, g) - torch.where(columns & large, g, 1.0)
            return u.where((g > 2).all(), 0.1 * u), slots

    runs = [Run(flagged(), one, parameters(shapes={"a": (5, 4)})) for one in ("eager", "fused")]
    for _ in range(6):
        for run in runs:
            run.step()
        assert gap(*(run.tensors() for run in runs)) <= 1e-12
    assert planned(ways) == {"flagged": 1}


def test_flags_that_another_function_needs(ways):
    class counted(fo.TensorRule):
        batched = True

        def update_tensor(self, g, slots, p, s):
            return g * g / (1 + (g > 0.5).sum(-1, keepdim=True)), slots

    runs = [Run(counted(), one, parameters(shapes={"a": (5, 4)})) for one in ("eager", "fused")]
    for _ in range(3):
        for run in runs:
            run.step()
    assert not planned(ways)
    assert gap(*(run.tensors() for run in runs)) == 0


class chooses(fo.TensorRule):
    """Goes another way in every third step, by a flag, and another by the size of a number."""

    weight: fo.Scalar = fo.linear_schedule(0.1, 0.9, 8)
    batched = True

    def prepare(self, step, memory):
        return {"third": step % 3 == 0, "pair": (0.5, step)}

    def update_tensor(self, g, slots, p, s):
        x = g * s.weight + s.pair[0] * g.abs()
        if s.third:
            x = x * x
        if s.weight > 0.5:
            x = x - g
        return x / (1 + x.square().sum(-1, keepdim=True)) * s.pair[1], slots


def test_each_way_has_a_plan_of_its_own(ways):
    runs = [Run(chooses(), one, parameters(shapes={"a": (5, 4)})) for one in ("eager", "fused")]
    for _ in range(14):
        for run in runs:
            run.step()
        assert gap(*(run.tensors() for run in runs)) <= 1e-12
    assert planned(ways) == {"chooses": 4}


def test_no_more_ways_are_followed_than_pay(ways, monkeypatch):
    class by_step(fo.TensorRule):
        batched = True

        def prepare(self, step, memory):
            return {"step": step}

        def update_tensor(self, g, slots, p, s):
            x = g * g + int(s.step)
            return x / (1 + x.sum()), slots

    monkeypatch.setattr(_plans, "MOST_WAYS", 3)
    runs = [Run(by_step(), one, parameters(shapes={"a": (5, 4)})) for one in ("eager", "fused")]
    for _ in range(6):
        for run in runs:
            run.step()
    assert len(ways) == 3
    assert gap(*(run.tensors() for run in runs)) <= 1e-12


def test_what_is_drawn_is_drawn_in_every_step(ways):
    """A tensor that a function makes of nothing is no constant; and in the same order."""

    class noisy(fo.TensorRule):
        batched = True

        def update_tensor(self, g, slots, p, s):
            x = g * g + torch.rand(g.shape, dtype=g.dtype)
            after = torch.rand_like(x.sum(-1, keepdim=True))
            return x / (1 + after) + torch.rand(g.shape, dtype=g.dtype), slots

    found = []
    for how in ("eager", "fused"):
        torch.manual_seed(3)
        run = Run(noisy(), how, parameters(shapes={"a": (5, 4)}))
        for _ in range(4):
            run.step()
        found.append(run.tensors())
    assert planned(ways) == {"noisy": 1}
    assert gap(*found) <= 1e-12


LEFT_ALONE = {
    "reads": lambda g, slots: g * g / (1 + float(g.sum())),
    "branches": lambda g, slots: g * g if g.sum() > 0 else -g,
    "writes": lambda g, slots: (g * g).add_(1).div_(2),
    "sets": lambda g, slots: _with_a_row_of_zeros(g * g),
    "knows": lambda g, slots: g * g + CONSTANT,
}
CONSTANT = torch.tensor(2.0)


def _with_a_row_of_zeros(x):
    x[0] = 0.0
    return x


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_looks_at_entries_or_changes_them_is_called_in_every_step(name, ways):
    class left_alone(fo.TensorRule):
        batched = True

        def update_tensor(self, g, slots, p, s):
            return LEFT_ALONE[name](g, slots), slots

    runs = [Run(left_alone(), one, parameters(shapes={"a": (5, 4)})) for one in ("eager", "fused")]
    for _ in range(4):
        for run in runs:
            run.step()
    assert [way.plan for _, _, way in ways] == [None]
    assert gap(*(run.tensors() for run in runs)) == 0


def test_only_a_rule_that_says_that_it_may_be_is_followed(ways):
    class counts(fo.TensorRule):
        calls = 0

        def update_tensor(self, g, slots, p, s):
            type(self).calls += 1
            return g * g / (1 + (g * g).sum()), slots

    run = Run(counts(), "fused", parameters(shapes={"a": (5, 4)}))
    for _ in range(5):
        run.step()
    assert not ways
    assert counts.calls == 5


@pytest.mark.parametrize("how", ["auto", "fused", "compiled", "foreach", "eager"])
def test_by_which_engines(how, ways, monkeypatch):
    """Only by those of the machine: others have their own functions and compilers."""
    for device in ("cpu", "cuda"):
        expected = how in ("auto", "fused") and device == "cpu"
        assert _tiles.is_chosen(how, torch.device(device)) is expected
    monkeypatch.setenv("FUNCOPT_KERNELS", "interpreted")
    assert not _tiles.is_chosen(how, torch.device("cpu"))


def test_nothing_is_followed_that_is_too_small():
    """By the bounds as they are."""
    shapes = {"few": (64, 64), "large": (1100, 1000), "narrow": (4096, 63), "vector": (20000,)}
    run = Run(fo.scale_by_came(), "fused", parameters(torch.float32, shapes))
    found, known = [], _plans._followed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_plans, "_followed", lambda *x: found.append(x[1][0].shape) or known(*x))
        for _ in range(3):
            run.step()
    assert set(found) == {(1100, 1000)}


def test_a_slot_that_is_returned_as_it_is_is_not_copied(ways):
    class unchanged(fo.TensorRule):
        batched = True

        def init_tensor(self, p):
            return Sizes(p[:1] * 0 + 1, p[..., :1] * 0 + 1, p.new_ones(()))

        def update_tensor(self, g, slots, p, s):
            x = g * g * slots.largest
            return x / (1 + x.sum()), slots

    rule, (u,) = unchanged(), [torch.randn(5, 4)]
    slots = rule.init_tensor(u)
    plans = _plans.Plans(fo.tree.flatten(slots)[1])
    for _ in range(3):
        _, new = plans.update(rule, 0, [u, *slots, u], Scalars("unchanged", {}))
    assert planned(ways) == {"unchanged": 1}
    assert all(x is y for x, y in zip(new, slots, strict=True))


# Passes over tiles.


def values(*shape, dtype=torch.float32):
    made = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=made, dtype=dtype)


def numbers_of(kernel):
    return [source.read([], 0) for source in kernel.scalars]


TILED = [
    (1, 64), (2, 383), (7, 384), (3, 385), (40, 1920), (5, 1921), (300, 700), (2, 9, 130),
    (3, 1, 4000), (1500, 65),
]  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", TILED, ids=str)
def test_tiles(shape, dtype, threads, monkeypatch):
    """Of any size: numbers of rows and columns are taken in, and measured."""
    monkeypatch.setattr(_tiles._threads, "threads_for", lambda entries, probe: threads)
    graph = Graph(dtype, torch.device("cpu"))
    x, rows, columns = (graph.input(k, dtype) for k in range(3))
    y = (x * rows).exp() - columns
    extents = [Extent.ENTRIES, Extent.ROWS, Extent.COLUMNS]
    kinds = [("sum", y), ("amax", y), ("amin", y)]
    kernel = TilePass(graph, extents, [y, x], kinds, kinds)
    *batch, n, m = shape
    given = [values(*shape, dtype=dtype), values(*batch, n, 1, dtype=dtype)]
    given.append(values(*batch, 1, m, dtype=dtype))
    before = [z.clone() for z in given]
    made, of_rows, of_columns = kernel(Tiling.of(shape), given, numbers_of(kernel))
    expected = (given[0] * given[1]).exp() - given[2]
    close = {"rtol": 2e-5, "atol": 2e-5} if dtype is torch.float32 else {}
    torch.testing.assert_close(made[0].view(shape), expected, **close)
    assert torch.equal(made[1].view(shape), given[0])
    for (name, _), a, b in zip(kinds, of_rows, of_columns, strict=True):
        size = {"rtol": 1e-4, "atol": 1e-3} if dtype is torch.float32 else {}
        reduce = getattr(torch, name)
        torch.testing.assert_close(a.view(*batch, n), reduce(expected, -1), **size)
        torch.testing.assert_close(b.view(*batch, m), reduce(expected, -2), **size)
    assert all(map(torch.equal, given, before))


@pytest.mark.parametrize("x", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_seen(x):
    graph = Graph(torch.float32, torch.device("cpu"))
    y = graph.input(0, torch.float32) * 1.0
    kinds = [(name, y) for name in ("sum", "amax", "amin")]
    kernel = TilePass(graph, [Extent.ENTRIES], [], kinds, kinds)
    given = values(200, 500)
    given[150, 70] = x
    _, of_rows, of_columns = kernel(Tiling.of(given.shape), [given], numbers_of(kernel))
    for (name, _), a, b in zip(kinds, of_rows, of_columns, strict=True):
        reduce = getattr(torch, name)
        close = {"equal_nan": True, "rtol": 1e-4, "atol": 1e-3}
        torch.testing.assert_close(a[0], reduce(given, -1), **close)
        torch.testing.assert_close(b[0], reduce(given, -2), **close)


# What is noted.


def test_a_tensor_that_is_given_twice_is_two():
    """In another step it may be two tensors."""
    x, log = torch.ones(2), CallLog()
    one, other = log.given(x), log.given(x)
    with log:
        y = one + other
    assert [log.of(one), log.of(other), log.of(y)] == [0, 1, 2]


def test_what_returns_its_argument_is_no_call():
    log = CallLog()
    x = log.given(torch.ones(2))
    with log:
        assert x.contiguous() is x
        assert x.shape == (2,)
        assert x.dim() == 1
        assert x.dtype is torch.float32
    assert len(log.values) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.sum()),
        lambda x: x.tolist(),
        lambda x: x.numpy(),
        lambda x: x.add_(1),
        lambda x: torch.add(x, 1, out=torch.empty(2)),
        lambda x: x.__setitem__(0, 1.0),
        lambda x: x + CONSTANT,
        lambda x: x.data_ptr(),
        lambda x: torch.equal(x, x),
    ],
)
def test_what_cannot_be_noted(call):
    log = CallLog()
    x = log.given(torch.ones(2))
    with log, pytest.raises(Unsupported):
        call(x)
