"""What is freed between two steps stays with the process: it does not come back page by page."""

import ctypes
import os
import subprocess
import sys

import pytest
import torch

import funcopt as fo
from funcopt.engine import _freed_memory, _huge_pages, _pure, _whole

PROGRAM = """
import resource

import torch

from funcopt.engine import _freed_memory


def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    made = [torch.ones(750_000) for _ in range(80)]
    del made
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


torch.set_num_threads(1)
_freed_memory.keep_freed_memory()
print([faults() for _ in range(5)][-1])
"""


def is_glibc():
    return sys.platform == "linux" and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")


@pytest.mark.skipif(not is_glibc(), reason="of glibc")
def test_what_was_freed_is_there_again():
    """240 MB: 60,000 pages, or 120 huge ones."""
    assert faults_with({}) < 60


@pytest.mark.skipif(not is_glibc(), reason="of glibc")
@pytest.mark.parametrize(
    "chosen",
    [
        {"MALLOC_TRIM_THRESHOLD_": "1000000"},
        {"MALLOC_MMAP_THRESHOLD_": "1000000"},
        {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=1000000"},
        {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=1000000"},
    ],
)
def test_what_the_environment_says_is_left(chosen):
    assert faults_with(chosen) > 60


def faults_with(chosen):
    """Page faults of a step of the program, with this in the environment."""
    others = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")  # another allocator, or another measure
    env = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=env | chosen, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.fixture
def asked(monkeypatch):
    """How often memory was to be kept."""
    calls = []
    for module in (_huge_pages, _whole):
        monkeypatch.setattr(module, "keep_freed_memory", lambda: calls.append(None))
    monkeypatch.setattr(_pure, "_cache", _pure._Cache())
    return calls


@pytest.mark.parametrize(("size", "is_large"), [(300, False), (2_000_000, True)])
def test_large_results_ask_for_it(size, is_large, asked):
    tx, p = fo.sgd(0.1), torch.ones(size)
    tx.update([p], tx.init([p]), [p])
    assert bool(asked) is is_large


def test_rules_that_see_whole_tensors_ask_for_it(asked):
    p = torch.nn.Parameter(torch.ones(3, 4))
    p.grad = torch.ones(3, 4)
    fo.Optimizer([p], fo.muon(0.1, labels="muon")).step()
    assert asked
    asked.clear()
    fo.Optimizer([p], fo.adamw(0.1)).step()
    assert not asked


def test_without_such_a_library_there_is_nothing_to_do(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    _freed_memory.keep_freed_memory.__wrapped__()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    _freed_memory.keep_freed_memory.__wrapped__()
