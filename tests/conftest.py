"""Every run draws the same examples, so that what fails once fails again."""

import os
import zlib
from pathlib import Path

os.environ.setdefault("TRITON_INTERPRET", "1")  # before torch, which imports Triton

import pytest
import torch
from hypothesis import settings

from funcopt.engine import _pure, _ready_sum

settings.register_profile("tests", derandomize=True, deadline=None)
settings.load_profile("tests")

TESTS = Path(__file__).parent

ENLARGING = [
    "combinators/test_cautious.py",
    "combinators/test_lookahead.py",
    "combinators/test_partition.py",
    "combinators/test_sam.py",
    "combinators/test_whole.py",
    "contract/test_a_construction.py",
    "contract/test_b_step.py",
    "contract/test_g_frameworks.py",
    "optim/test_closures.py",
    "numerics/test_linalg.py",
    "optim/test_optimizer.py",
    "test_parity_authors.py",
    "test_parity_optax.py",
    "meta",
    "sweeps",
    "training",
    "transforms/test_lbfgs.py",
    "transforms/test_line_search.py",
    "transforms/test_muon.py",
    "transforms/test_newton_cg.py",
    "transforms/test_rate_free.py",
    "transforms/test_schedule_free.py",
    "transforms/test_shampoo.py",
    "transforms/test_soap.py",
]
"""Networks, searches, matrices: run as on other processors in CI too."""

NUMERICAL = [
    *ENLARGING,
    "combinators",
    "contract",
    "schedules",
    "core/test_apply.py",
    "optim/test_checkpoints.py",
    "numerics/test_scalars.py",
    "core/test_memory.py",
    "optim/test_metrics.py",
    "optim/test_modes.py",
    "test_parity_torch.py",
    "transforms",
]

COMPILED = ["contract/test_f_amp_compile.py", "training/test_compile.py"]
"""They take long, and compare what `numerical` tests compare."""


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items):
    for place in (*NUMERICAL, *COMPILED):
        if not (TESTS / place).exists():
            raise pytest.UsageError(f"tests/conftest.py: there is no tests/{place}")
    for item in items:
        if inside(item.path, NUMERICAL) and not inside(item.path, COMPILED):
            item.add_marker("numerical")
            if inside(item.path, ENLARGING):
                item.add_marker("enlarging")


def inside(path, places):
    return any(path.is_relative_to(TESTS / place) for place in places)


def pytest_report_header():
    """Two runs with different bits were computed by different kernels."""
    matrix = torch.arange(33.0 * 33.0, dtype=torch.float64).sin().reshape(33, 33)
    bits = zlib.crc32((matrix @ matrix).numpy().tobytes())
    kernels, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    return f"kernels: {kernels}, threads: {threads}, bits of a product: {bits:08x}"


@pytest.fixture(autouse=True)
def no_known_updates(monkeypatch):
    """Many tests share transformations, for which the kernels of pure updates are kept.

    What one had interpreted, by torch's functions, would stand in for the kernels of another.
    """
    monkeypatch.setattr(_pure, "_cache", _pure._Cache())
    monkeypatch.setattr(_ready_sum, "_sums", _ready_sum._Sums())


@pytest.fixture
def in_float64():
    """New tensors are float64, and so is what others keep in the default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
