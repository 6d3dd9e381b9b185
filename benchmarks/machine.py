"""What the numbers were measured on, and how fast its memory is."""

import os
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path

import torch

FAMILIES = {"AVX512": "AVX-512"}
NUMBERS = {"family": "cpu family", "model": "model"}
MEGABYTE = 2**20
ELEMENTS = {"cpu": 20_000_000, "cuda": 200_000_000}  # too many for any cache


def only_cores(number: int) -> None:
    """Keeps this process, with all its libraries, to that many cores and threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:number])
    torch.set_num_threads(number)


def description(device: str = "cpu") -> str:
    """What matters for the numbers: the processor, but not whose it is."""
    versions = f"PyTorch {torch.__version__.partition('+')[0]}, Python {platform.python_version()}"
    if device != "cpu":
        return f"{torch.cuda.get_device_name(device)}; {versions}"
    vectors = torch.backends.cpu.get_cpu_capability()
    parts = [f"{os.cpu_count()} cores{processor()}", FAMILIES.get(vectors, vectors)]
    if size := cache_size():
        parts.append(f"{size // MEGABYTE} MB L3")
    return f"{', '.join(parts)}; {torch.get_num_threads()} threads; {versions}"


def processor(path: Path = Path("/proc/cpuinfo")) -> str:
    """What it calls itself, as "of ..."; nothing where nobody tells.

    With its numbers: virtual machines call several generations by one name.
    """
    text = path.read_text().partition("\n\n")[0] if path.exists() else ""
    told = dict(re.findall(r"^(.*?)\s*: *(.*)$", text, re.MULTILINE))
    if "model name" not in told:
        return ""
    numbers = [f"{x} {told[key]}" for x, key in NUMBERS.items() if key in told]
    return f" of {told['model name']}" + (f" ({', '.join(numbers)})" if numbers else "")


def cache_size() -> int:
    """Bytes of the cache of the last level; 0 where nobody tells."""
    path = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")
    return int(path.read_text().strip().removesuffix("K")) * 1024 if path.exists() else 0


class Others:
    """Everything else that runs on the machine, from now on."""

    def __init__(self) -> None:
        self.start = _spent()

    def share(self) -> float:
        """Of the cores, that was not left to us; NaN where nobody tells."""
        busy, own, now = (b - a for a, b in zip(self.start, _spent(), strict=True))
        return max(0.0, busy - own) / (now * (os.cpu_count() or 1))


def _spent() -> tuple[float, float, float]:
    """Seconds in which cores were busy, in which they were so for us, and by the clock."""
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    path = Path("/proc/stat")
    if not path.exists():
        return float("nan"), own, time.monotonic()
    user, nice, system, _, _, *rest = map(int, path.read_text().split()[1:9])  # not idle, not i/o
    busy = (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")
    return busy, own, time.monotonic()


def memory_left(device: str = "cpu") -> float:
    """Bytes that can be had without pushing others out."""
    if device != "cpu":
        return torch.cuda.mem_get_info()[0]
    path = Path("/proc/meminfo")
    lines = path.read_text().splitlines() if path.exists() else []
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    return found[0] if found else float("inf")


def bandwidth(device: str = "cpu", repeats: int = 20) -> float:
    """Bytes per second, read and written, of the fastest pass over memory that torch has.

    In place, as an optimizer works: a tensor that is only written costs a CPU one more read.
    """
    elements = ELEMENTS[device]
    a, b = (torch.ones(elements, device=device) for _ in range(2))
    passes = [(2, lambda: a.mul_(1.0)), (3, lambda: a.add_(b))]  # tensors read or written
    return max(
        moved * a.itemsize * elements / min(_time(one, device) for _ in range(repeats))
        for moved, one in passes
    )


def _time(work: Callable[[], object], device: str) -> float:
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
