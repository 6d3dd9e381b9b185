"""How many threads a pass is worth is measured on the computer, once, and kept."""

import pytest
import torch

import funcopt as fo
from funcopt.engine import _kernels, _measured, _threads

from .common import Run, parameters


@pytest.fixture(autouse=True)
def computer(monkeypatch, tmp_path):
    """One on which nothing has been measured, with four threads."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(_measured, "_found", {})
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    return tmp_path / "funcopt"


def clock(start, each):
    """The time of a pass where several threads take so long to start, and share the entries."""
    return lambda entries, threads: each * entries / threads + (start if threads > 1 else 0)


@pytest.mark.parametrize(
    ("start", "expected"), [(0.0, 0), (10.0, 8192), (20.0, 16384), (1e6, _threads.SIZES[-1])]
)
def test_one_thread_is_for_what_it_does_as_fast(start, expected):
    assert _measured.measured(_threads.SIZES, (1, 4), clock(start, 1e-3)) == expected


def test_an_odd_measurement_of_little_work_does_not_matter():
    def seconds(entries, threads):
        return 1.0 if (entries, threads) == (4096, 1) else clock(20.0, 1e-3)(entries, threads)

    assert _measured.measured(_threads.SIZES, (1, 4), seconds) == 16384


def test_it_is_measured_once_and_kept(monkeypatch, computer):
    made = []
    monkeypatch.setattr(_measured, "seconds", lambda work, *given: work(*given))

    def work():
        made.append(1)
        return clock(20.0, 1e-3)

    assert [_threads.threads_for(n, work) for n in (100, 4096, 2**18 + 1)] == [1, 1, 4]
    assert not made  # where there is nothing to find out
    assert [_threads.threads_for(n, work) for n in (16384, 16385)] == [1, 4]
    assert len(made) == 1
    _measured._found.clear()  # as in another process
    assert [_threads.threads_for(n, work) for n in (16384, 16385)] == [1, 4]
    assert len(made) == 1
    _measured._found.clear()
    (file,) = computer.glob("*.txt")
    file.write_bytes(b"99999999")  # which nobody has measured
    assert _threads.threads_for(16385, work) == 4
    assert len(made) == 2


def test_for_another_number_of_threads_it_is_measured_again(monkeypatch):
    monkeypatch.setattr(_measured, "seconds", lambda work, *given: work(*given))
    assert _threads.threads_for(16384, lambda: clock(20.0, 1e-3)) == 1
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert _threads.threads_for(16384, lambda: clock(2.0, 1e-3)) == 2
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert _threads.threads_for(16384, lambda: None) == 1


def test_the_pass_that_is_measured_is_one():
    work = _kernels.probe_of_threads()
    for entries in _threads.SIZES:
        for threads in (1, 2):
            assert _measured.seconds(work, entries, threads) > 0


def test_no_result_depends_on_it(monkeypatch):
    """Entries are computed alike, and sums by tasks, however many threads work on these."""
    monkeypatch.delenv("FUNCOPT_KERNELS")
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(_threads, "threads_for", lambda entries, work, n=threads: n)
        shapes = {"a": (300, 301), "b": (7,)}
        run = Run(
            fo.chain(fo.clip_by_global_norm(0.1), fo.adamw()), "fused", parameters(shapes=shapes)
        )
        for _ in range(3):
            run.step()
        found.append([x.clone() for x in run.tensors()])
    assert all(map(torch.equal, *found))
