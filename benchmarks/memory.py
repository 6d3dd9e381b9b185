"""What a step needs for a moment, over what is there before and after it."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

from .contenders import Contender
from .ours import pure, wrapped
from .problems import Problem
from .table import Wanted, opponents, places

SETTLED = 3  # steps, after which nothing new stays


class Extra(NamedTuple):
    """For one contender."""

    problem: str
    chain: str
    name: str
    largest: int
    """Bytes of the largest tensor among the parameters."""
    bytes: int | None = None
    note: str = ""
    """Why it was not measured, if it was not."""

    def __str__(self) -> str:
        return f"{self.problem}, {self.chain}, {self.name}: {self.note or f'{self.bytes:,} bytes'}"


def extras(wanted: Wanted) -> Iterator[Extra]:
    """Of ours, and of all who race AdamW. The pure form has its results, which are new, in it."""
    for problem, chain in dict.fromkeys(place[:2] for place in places(wanted)):
        others = opponents(chain, wanted) if chain.name == "adamw" else []
        for one in [wrapped(chain, wanted.engine), pure(chain), *others]:
            if not one.name.startswith("Optax"):  # torch's allocator knows nothing of it
                yield extra(problem, chain.name, one)


def extra(problem: Problem, chain: str, contender: Contender) -> Extra:
    """Counts what the allocator of torch hands out and takes back."""
    largest = 4 * max(torch.Size(shape).numel() for shape in problem.shapes)
    row = Extra(problem.name, chain, contender.name, largest)
    if excuse := contender.excuse(problem):
        return row._replace(note=excuse)
    one = contender.make(problem)
    grads = [problem.grads(number) for number in range(2)]
    for i in range(SETTLED + 1):
        one.give(grads[i % 2])
        if i < SETTLED:
            one.step()
    peak = _peak_on_cuda if grads[0][0].is_cuda else _peak_on_cpu
    return row._replace(bytes=peak(one.step))


def _peak_on_cpu(work: Callable[[], None]) -> int:
    with profile(
        activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True
    ) as profiler:
        work()
    return highest(_handed_out(profiler))


def _handed_out(profiler: profile) -> Iterator[int]:
    """Bytes, negative where they are taken back, in their order."""
    events = profiler.profiler.kineto_results.events()
    events = [e for e in events if e.name() == "[memory]"]
    return (e.nbytes() for e in sorted(events, key=lambda e: e.start_ns()))


def highest(changes: Sequence[int] | Iterator[int]) -> int:
    """The highest sum of the first few."""
    now, most = 0, 0
    for change in changes:
        now += change
        most = max(most, now)
    return most


def _peak_on_cuda(work: Callable[[], None]) -> int:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    work()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
