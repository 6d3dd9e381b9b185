"""Functions of 0-d tensors on a device are made together, by one launch, to the same results."""

import array
import importlib.util

import pytest
import torch

import funcopt as fo
from funcopt._core.stage import Bucket
from funcopt.combinators import walk

from .common import Run, parameters
from .test_every_chain import CASES, has_to_run_as_it_is

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

from funcopt.engine.triton import _deferred, _launch

from .by_triton import by_triton

CPU = torch.device("cpu")
REPLAYED = [case for case in CASES if not has_to_run_as_it_is(case.tx)]


@pytest.fixture(autouse=True)
def interpreter(monkeypatch):
    with by_triton(monkeypatch):
        yield


@pytest.fixture
def launched(monkeypatch):
    """The launches that are made."""
    found, known = [], _launch._run

    def kept(call, table, device):
        found.append(call)
        known(call, table, device)

    monkeypatch.setattr(_launch, "_run", kept)
    return found


DTYPES = (torch.float64, torch.float32, torch.int64, torch.bool)
FUNCTIONS = {
    "sums": lambda x, y: x + 1 - 0.25 * y,
    "from a number": lambda x, y: 1 - x + 2.5,
    "products": lambda x, y: x * y * 3,
    "quotients": lambda x, y: x / (y + 1.5) + 1 / (x + 2.5) + x / 3,
    "powers": lambda x, y: 0.9**x + (x + 2) ** 2 + (y + 1.0) ** 0.5,
    "roots": lambda x, y: (x + 2.0).sqrt() + torch.rsqrt(y + 3.0),
    "exponentials": lambda x, y: torch.exp(-0.5 * x) + torch.log(y + 2.5) + torch.expm1(0.1 * x),
    "extremes": lambda x, y: torch.maximum(x + 0.5, y * 1.0) + torch.minimum(x * 2.0, y + 0.5),
    "bounds": lambda x, y: (x * 3.0).clamp(min=0.5, max=2.0) + (y * 1.0).clamp(max=1),
    "signs": lambda x, y: (x * 1.0).abs() + -(y * 2.0) + torch.sign(x * 1.0),
    "comparisons": lambda x, y: (x < y) | (x >= 1) & (y != 2) ^ ~(x == y),
    "choices": lambda x, y: torch.where(x > y, x * 1.0, y * 2.0) + (x * 1.0).where(y > x, y),
    "casts": lambda x, y: (x.to(torch.float64) + y.double()).to(torch.float32),
    "counts": lambda x, y: (x > 0).to(torch.int64) + 2**40,
    "finite": lambda x, y: (x / 1.0).isfinite() & ~(y / 1.0).isnan(),
    "made here": lambda x, y: x * torch.full((), 2.0, dtype=torch.float64, device=CPU),
}


@pytest.mark.parametrize("y", DTYPES, ids=str)
@pytest.mark.parametrize("x", DTYPES, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_waits_comes_to_what_torch_comes_to(name, x, y, launched):
    function = FUNCTIONS[name]
    given = torch.tensor(2.25).to(x), torch.tensor(-0.75).to(y)
    try:
        expected = function(*given)
    except (RuntimeError, NotImplementedError):  # of flags that are subtracted
        return
    with _deferred.scalars_together([CPU]):
        found = function(*given)
    assert (found.dtype, found.shape) == (expected.dtype, ())
    tolerance = 1e-14 if {x, y} == {torch.float64} else 1e-6
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=0)
    assert len(launched) == 1


def test_counts_are_exact_and_numbers_are_no_part_of_the_code(launched):
    """A new number compiles nothing."""
    count, codes = torch.tensor(2**52 - 9), set()
    for k in range(5):
        with _deferred.scalars_together([CPU]):
            found = torch.where(count > k, count + k, count)
        codes.add(launched[-1].function)
        assert found == 2**52 - 9 + k
    assert len(codes) == 1


def test_small_powers_are_a_part_of_it():
    x = torch.tensor(-1.5, dtype=torch.float64)
    with _deferred.scalars_together([CPU]):
        found = [x**2, x**3.0, torch.pow(x, 1)]
    assert list(map(float, found)) == pytest.approx([2.25, -3.375, -1.5], rel=1e-15)


@pytest.mark.parametrize(
    "reads",
    [
        lambda x: x.item(),
        lambda x: float(x),
        lambda x: bool(x > 2),
        lambda x: torch.stack([x, x]).sum().item(),
        lambda x: x.clone().add_(1).item() - 1,
        lambda x: torch.func.vmap(lambda y: y * x)(torch.ones(2, dtype=x.dtype))[1].item(),
        lambda x: (torch.ones(3, dtype=x.dtype) * x)[2].item(),
        lambda x: x.reshape(1)[0].item(),
    ],
)
def test_who_reads_a_value_gets_it(reads):
    x = torch.tensor(1.5, dtype=torch.float64)
    with _deferred.scalars_together([CPU]):
        found = reads(x + 1)
    assert found == reads(torch.tensor(2.5, dtype=torch.float64))


def test_what_is_changed_in_place_was_read_before():
    x = torch.tensor(1.0, dtype=torch.float64)
    with _deferred.scalars_together([CPU]):
        before = x * 3
        x.add_(1)
        after = x * 3
    assert (before, after) == (3, 6)


def test_derivatives_are_taken_through_what_requires_them():
    x = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    with _deferred.scalars_together([CPU]):
        y = x * x
    assert y.requires_grad
    with torch.no_grad(), _deferred.scalars_together([CPU]):
        assert not (x * x).requires_grad


def test_an_argument_that_is_returned_is_the_same_tensor(launched):
    x = torch.tensor(1.5, dtype=torch.float64)
    with _deferred.scalars_together([CPU]):
        assert x.double() is x
        assert x.clone() is not x
    assert not launched


def test_other_devices_are_left_alone(launched):
    x = torch.tensor(1.5)
    with _deferred.scalars_together([torch.device("meta")]):
        assert x + 1 == 2.5
    assert not launched


def test_an_error_drops_what_waits(launched):
    x = torch.tensor(1.0)
    with pytest.raises(ZeroDivisionError), _deferred.scalars_together([CPU]):
        (x + 1) * (1 / 0)
    with _deferred.scalars_together([CPU]):
        pass
    assert not launched


# Launches that become one.


def call(*, reads=(), writes=(), joins=True, programs=1):
    rows = [list(reads)]
    return _launch.TableLaunch(None, programs, (), array.array("q"), rows, (), list(writes), joins)


def order(*calls):
    """By position, those that are launched together."""
    placed = [(one, k) for k, one in enumerate(calls)]
    return [[k for _, k in some] for some in _launch.arranged(placed)]


def test_scalars_wait_until_something_reads_them():
    a, b, c = (torch.zeros(2) for _ in range(3))
    prepared = call(writes=[a])
    measuring = call(writes=[b], joins=False)
    concluding = call(reads=[b[0]], writes=[c])
    results = call(reads=[a[0], c[1]], joins=False)
    assert order(prepared, measuring, concluding, results) == [[1], [0, 2], [3]]
    reads = call(reads=[a[1]], writes=[b], joins=False)
    assert order(prepared, reads, concluding, results) == [[0], [1], [2], [3]]


def test_they_do_not_wait_for_results_to_be_written():
    """Which may be what they read."""
    a, b = torch.zeros(2), torch.zeros(2)
    results = call(joins=False)
    assert order(call(writes=[a]), results, call(reads=[a[0]], writes=[b])) == [[0], [1], [2]]


def test_what_has_a_program_for_each_tensor_is_a_launch_of_its_own():
    a, b, c = (torch.zeros(2) for _ in range(3))
    each = call(reads=[b[0]], writes=[c], programs=7)
    assert order(call(writes=[a]), each, call(writes=[b])) == [[1], [0, 2]]
    each = call(reads=[a[0]], writes=[c], programs=7)
    assert order(call(writes=[a]), each, call(writes=[b])) == [[0], [1], [2]]


def test_so_many_become_one_and_no_more():
    calls = [call(writes=[torch.zeros(1)]) for _ in range(_launch.MOST + 3)]
    assert list(map(len, order(*calls))) == [_launch.MOST, 3]


# Chains whose step counts are on a device.


class OnDevice(Run):
    """Steps whose counts are tensors: on a device, nobody would look at them."""

    def step(self, grads=None):
        known = Bucket.__new__

        def counted(cls, tx, step, count, memory):
            step, count = (torch.tensor(float(x)) for x in (step, count))
            return known(cls, tx, step, count, memory)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tests.engine.common.Bucket", lambda *given: counted(Bucket, *given))
            return super().step(grads)


@pytest.mark.parametrize("case", REPLAYED, ids=str)
def test_every_chain_makes_the_same_steps(case, monkeypatch):
    """Flags are not read, although they are on the CPU."""
    eager = Run(case.tx, "eager", parameters(), case.extra)
    for _ in range(4):
        eager.step()
    for module in ("select", "stage"):
        monkeypatch.setattr(f"funcopt._core.{module}.number", lambda x: x)
    ours = OnDevice(case.tx, "fused", parameters(), case.extra)
    for _ in range(4):
        ours.step()
    assert ours.engine.name == "fused"
    stages = [type(node).__name__ for _, node in walk(case.tx)]
    found = [run.tensors() for run in (ours, eager)]
    if "scale_by_soap" in stages:  # eigenvectors of one eigenvalue are any
        found = [list(run.params.values()) for run in (ours, eager)]
    for x, y in zip(*found, strict=True):
        assert x.dtype == y.dtype
        torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-12)


def test_a_schedule_and_a_flag_are_no_operations_of_torch(launched):
    tx = fo.skip_if(fo.adamw(fo.linear_schedule(0.1, 0.0, 9)))
    run = OnDevice(tx, "fused", parameters())
    with pytest.MonkeyPatch.context() as patch:
        for module in ("select", "stage"):
            patch.setattr(f"funcopt._core.{module}.number", lambda x: x)
        for _ in range(3):
            launched.clear()
            run.step()
    assert len(launched) == 3
