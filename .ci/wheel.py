"""What funcopt does where its wheel alone is installed. Run it with ``python -I``."""

import importlib.metadata
import pathlib
import sys

import torch

import funcopt as fo
from funcopt.cli import main

here = pathlib.Path(fo.__file__).parent
assert here.is_relative_to(sys.prefix), f"not the wheel, but {here}"

# All files are there, and the types count.
source = pathlib.Path(__file__).parent.parent / "funcopt"
files = {path.relative_to(source) for path in source.rglob("*.py")} | {pathlib.Path("py.typed")}
missing = sorted(str(path) for path in files if not (here / path).is_file())
assert not missing, missing

# A step in pure form, and the same in torch's.
params = {"w": torch.tensor([1.0, -2.0])}
tx = fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(lr=0.1))
updates, _ = tx.update(params, tx.init(params), params)
pure = fo.apply_updates(params, updates)["w"]

w = torch.nn.Parameter(params["w"].clone())
opt = fo.Optimizer([w], tx)
w.grad = params["w"].clone()
opt.step()

assert not torch.equal(w, params["w"])
torch.testing.assert_close(w.detach(), pure)

# The command line needs nothing besides.
assert main(["list"]) == main(["explain", "adamw"]) == 0

print(f"funcopt {importlib.metadata.version('funcopt')} works with torch {torch.__version__}")
