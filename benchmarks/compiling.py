"""How long the first step of a process takes: with an empty cache on disk, and with a filled one.

Every measurement is a process of its own. Before those with an empty cache, another one lets
Inductor compile its headers, once for whatever comes; that is not ours to shorten.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from .chains import CHAINS
from .machine import only_cores
from .ours import engine_of, wrapped
from .problems import problem

ROOT = Path(__file__).parent.parent


COLD, WARM = 10.0, 1.5


class First(NamedTuple):
    """Seconds of the first step, over those of the next ones."""

    what: str
    seconds: float
    engine: str = ""
    at_most: float | None = None

    def __str__(self) -> str:
        return f"first step, {self.what}: {self.seconds:.2f} s"


def firsts(
    name: str = "GPT 22M", device: str = "cpu", engine: str | None = None
) -> Iterator[First]:
    """AdamW on two lists of tensors, each on its own and with the cache of the other.

    By kernels, if nothing else is said: left to itself, the smaller list is not compiled for.
    """
    engine = engine or ("fused" if device == "cpu" else None)
    for here, there in [(name, "4 tensors"), ("4 tensors", name)]:
        with tempfile.TemporaryDirectory() as folder:  # of all caches
            headers = _process(folder, "--headers", device)
            if here == name:
                yield First("a trivial function, with the headers", *headers)
            arguments = [folder, "adamw", here, device, engine]
            yield First(f"{here}, nothing cached", *_process(*arguments), COLD)
            yield First(f"{here}, cached", *_process(*arguments), WARM)
            arguments[2] = there
            yield First(f"{there}, cached by {here}", *_process(*arguments), WARM)


def _process(folder: str, *arguments: str | None) -> tuple[float, str]:
    caches = {"TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor", "XDG_CACHE_HOME": f"{folder}/cache"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.compiling", *(a for a in arguments if a)],
        env={**os.environ, **caches, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return found["seconds"], found["engine"]


def _here(chain: str, name: str, device: str, engine: str | None = None) -> tuple[float, str]:
    """In this process."""
    parameters = problem(name, device)
    run = wrapped(CHAINS[chain], engine).make(parameters)
    times = []
    for i in range(3):
        run.give(parameters.grads(i % 2))
        start = time.perf_counter()
        run.step()
        times.append(time.perf_counter() - start)
    return times[0] - min(times[1:]), engine_of(run)


def _headers(device: str) -> tuple[float, str]:
    start = time.perf_counter()
    torch.compile(lambda x: x.cos() + 1)(torch.ones(64, device=device))
    return time.perf_counter() - start, "torch.compile"


if __name__ == "__main__":
    only_cores(2)
    first, *rest = sys.argv[1:]
    seconds, engine = _headers(*rest) if first == "--headers" else _here(first, *rest)
    print(json.dumps({"seconds": seconds, "engine": engine}))
