"""What `import funcopt` loads: itself, torch, optree, and nothing heavy."""

import subprocess
import sys

import pytest

HEAVY = {
    "jax",
    "matplotlib",
    "numpy",
    "pandas",
    "sympy",
    "torch._dynamo",
    "torch._inductor",
    "torch.distributed.tensor",
    "torch.fx.experimental.symbolic_shapes",
    "torch.onnx",
    "torch.testing",
    "torch.utils.checkpoint",
    "tqdm",
}


def loaded(statement: str) -> set[str]:
    """The modules that a fresh process has after `statement`."""
    script = f"{statement}\nimport sys\nprint(*sys.modules, sep='\\n')"
    command = [sys.executable, "-c", script]
    return set(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    )


@pytest.fixture(scope="module")
def of_torch():
    return loaded("import torch, optree")


def test_importing_loads_nothing_heavy(of_torch):
    """`torch._dynamo` alone takes as long as `import torch`."""
    assert (loaded("import funcopt") - of_torch) & HEAVY == set()


def test_importing_loads_nothing_of_others(of_torch):
    more = {name.partition(".")[0] for name in loaded("import funcopt") - of_torch}
    assert more - sys.stdlib_module_names == {"funcopt"}


def test_a_pure_step_loads_no_compiler(of_torch):
    step = (
        "import torch, funcopt as fo\n"
        "p = {'w': torch.ones(2)}\n"
        "tx = fo.chain(fo.add_noise(0.1, 0.5), fo.adamw())\n"
        "fo.apply_updates(p, tx.update(p, tx.init(p), p)[0])"
    )
    assert (loaded(step) - of_torch) & {"torch._dynamo", "sympy"} == set()
