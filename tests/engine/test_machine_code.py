"""Machine code for GPUs, compiled without one: each byte is moved once, by accesses of 128 bit."""

import importlib.util
import json
import os
import re
import subprocess
import sys

import pytest

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Found in another process: in this one, kernels are interpreted."""
    environment = {
        **os.environ,
        "TRITON_INTERPRET": "0",
        "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton")),
    }
    command = [sys.executable, "-m", "tests.engine.machine_code"]
    made = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert not made.returncode, made.stderr
    return json.loads(made.stdout.splitlines()[-1])


def test_passes_have_wide_accesses_only_and_move_each_byte_once(found):
    assert len(found["passes"]) == 12
    for name, one in found["passes"].items():
        loads, stores = (one["accesses"].pop(f"{x}.E.128", 0) for x in ("LDG", "STG"))
        assert not one["accesses"], name
        turns = loads // one["loads"]  # of a loop that is unrolled
        assert (loads, stores) == (turns * one["loads"], turns * one["stores"]), name
        assert turns in (1, 2, 4), name


def test_nothing_is_spilled(found):
    for name, one in found["passes"].items():
        if not name.startswith("all functions"):
            assert not one["stack"], name
            assert one["registers"] <= 128, name


def test_divisions_and_roots_are_those_of_ieee(found):
    for name, one in found["passes"].items():
        assert not one["inexact"] or name.startswith("all functions"), name


def test_other_devices_have_the_same(found):
    assert all(found["others"].values())


def test_what_every_stage_concludes_is_compiled(found):
    assert found["concluded"] >= 12


def test_what_one_part_of_a_launch_has_written_the_next_reads_behind_a_barrier(found):
    assert len(found["joined"]) >= 2
    for order in found["joined"]:
        assert order.count("S") >= 3, order
        assert not re.search("S[^B]*L", order), order


def test_a_kernel_is_compiled_once_when_it_is_made(found):
    """Not in the middle of a run, for another number of tensors or another place of a table."""
    assert found["compiled"] == [1, 1]
