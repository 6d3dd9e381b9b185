"""What the documentation shows, runs, and prints what it says."""

import contextlib
import io
import os
import pathlib
import re
import subprocess
import sys
import types
import warnings

import pytest
import torch

from funcopt.combinators._hyperparams import walk

from .cases import CASES

ROOT = pathlib.Path(__file__).parent.parent
RECIPES = sorted((ROOT / "docs" / "recipes").glob("*.md"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *RECIPES]
BLOCK = re.compile(r"^```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)

SCRIPT = re.compile(
    r'^```python title="(.*?)"\n(.*?)^```$\n\n'
    r"```sh\n(torchrun .*?)\n```$\n\n```text\n(.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
"""A whole script, the command that starts it, and what that prints."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run_in_order(page, tmp_path, monkeypatch):
    """A block of text right after one of Python is what that prints."""
    text = page.read_text()
    module = types.ModuleType(f"page_{page.stem}")  # so that what is defined there pickles
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start()) + 1
        code = compile("\n" * line + block[1], str(page), "exec")  # so that lines are the page's
        printed = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(printed):
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", "Guards may run slower on Python 3.13.0")
            exec(code, vars(module))
        if block[2] is not None:
            assert printed.getvalue() == block[2], f"{page.name}, line {line}"


RUN = """import os, runpy, sys
runpy.run_path(sys.argv[1], run_name="__main__")
sys.stdout.flush()
os._exit(0)  # FSDP2 keeps gloo's threads, which now and then abort an interpreter that shuts down
"""


@pytest.mark.parametrize(
    "page", [p for p in PAGES if SCRIPT.search(p.read_text())], ids=lambda p: p.name
)
def test_the_scripts_of_a_page_run_by_torchrun(page, tmp_path):
    for name, code, command, printed in SCRIPT.findall(page.read_text()):
        (tmp_path / name).write_text(code)
        (tmp_path / "run.py").write_text(RUN)
        torchrun, *arguments, script = command.split()
        assert (torchrun, script) == ("torchrun", name)
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", *arguments, "run.py", name],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == printed


@pytest.mark.parametrize("page", RECIPES, ids=lambda page: page.name)
def test_a_recipe_is_in_the_table_of_questions_and_has_code(page):
    if page.name != "index.md":
        assert f"]({page.name})" in page.with_name("index.md").read_text()
        assert BLOCK.search(page.read_text()) or SCRIPT.search(page.read_text())


def test_there_are_blocks_to_run():
    assert sum(len(BLOCK.findall(page.read_text())) for page in PAGES) >= 10


def test_the_stages_that_turn_the_sign_are_those_of_the_page():
    page = (ROOT / "docs" / "concepts.md").read_text()
    said = page.split("## Chains and the sign of updates\n")[1].split("\n## ")[0]
    stages = [stage for case in CASES for _, stage in walk(case.tx) if not stage.children()]
    turning = {type(stage).__name__ for stage in stages if stage.sign() == -1}
    assert {"lbfgs", "newton_cg", "scale", "scale_by_learning_rate"} <= turning
    assert [name for name in turning if not re.search(rf"`{name}\b", said)] == []
