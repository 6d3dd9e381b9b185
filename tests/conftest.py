"""Every run draws the same examples, so that what fails once fails again."""

import gc
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

PLACES = {"numerical": NUMERICAL, "enlarging": ENLARGING}
WHOLE = "WHOLE" in os.environ


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(config, items):
    for place in (*NUMERICAL, *COMPILED):
        if not (TESTS / place).exists():
            raise pytest.UsageError(f"tests/conftest.py: there is no tests/{place}")
    for item in items:
        if not inside(item.path, COMPILED):
            for mark, places in PLACES.items():
                if inside(item.path, places):
                    item.add_marker(mark)
    if not (WHOLE or any("::" in arg for arg in config.args)):
        left_out = [item for item in items if not in_part(item)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if in_part(item)]


def pytest_collection_finish():
    """Each collection of garbage would look at all of these tests: most of a second."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure():
    """Libraries complain of what is not collected at the end."""
    gc.unfreeze()


def in_part(item):
    """Whether it runs where grids do in part: one of so many, the same ones in every run."""
    mark = item.get_closest_marker("in_part")
    if mark is None or any(item.callspec.params[k] != v for k, v in mark.kwargs.items()):
        return True
    return zlib.crc32(item.nodeid.encode()) % mark.args[0] == 0


def pytest_ignore_collect(collection_path, config):
    """Files of which `-m` chooses nothing take half a minute to collect."""
    places = PLACES.get(config.option.markexpr)
    if places is not None and collection_path.suffix == ".py":
        return True if not inside(collection_path, places) else None
    return None


def inside(path, places):
    return any(path.is_relative_to(TESTS / place) for place in places)


def pytest_report_header():
    """Two runs with different bits were computed by different kernels."""
    matrix = torch.arange(33.0 * 33.0, dtype=torch.float64).sin().reshape(33, 33)
    bits = zlib.crc32((matrix @ matrix).numpy().tobytes())
    kernels, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    grids = "whole" if WHOLE else "in part (WHOLE=1 runs them whole)"
    product = f"kernels: {kernels}, threads: {threads}, bits of a product: {bits:08x}"
    return f"{product}; long grids: {grids}"


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
