"""Runs the README where funcopt's wheel alone is installed. Run it with ``python -I``."""

import contextlib
import io
import os
import pathlib
import re
import sys
import tempfile
import types
import warnings

import torch

ROOT = pathlib.Path(__file__).parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)

text = (ROOT / "README.md").read_text()
module = sys.modules["readme"] = types.ModuleType("readme")
blocks = list(BLOCK.finditer(text))
assert len(blocks) >= 3, "where are the blocks?"

warnings.simplefilter("error")
warnings.filterwarnings("ignore", "Guards may run slower on Python 3.13.0")
warnings.filterwarnings("ignore", "Failed to initialize NumPy")  # it is not needed
torch.manual_seed(0)
with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    for block in blocks:
        line = text.count("\n", 0, block.start()) + 1
        code = compile("\n" * line + block[1], "README.md", "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, vars(module))
        if block[2] is not None:
            assert printed.getvalue() == block[2], f"line {line}: {printed.getvalue()}"
    os.chdir(ROOT)

print(f"README.md: {len(blocks)} blocks run, on torch {torch.__version__} and funcopt alone")
