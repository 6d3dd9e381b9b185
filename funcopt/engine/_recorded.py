"""The host's part of a step, recorded: how scalars, decisions and memory follow from counts.

What stages do with a few whole numbers takes many calls of Python, and longer than the kernels of a
small step. So they are called once for each way through their decisions, with numbers that note
what is made of them, and what was noted is printed as one function.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

from torch import Tensor

from .._core import precision
from .._core.stage import Bucket, Members, Node
from ..combinators import walk
from ._given_values import GivenValues
from ._guards import Unsupported
from ._memory_numbers import MemoryNumbers
from ._noted_numbers import Lines, leaves_of
from ._recording import KnownWay, Part, Recording, Run
from ._structure import follows_counts


class RecordedStep(NamedTuple):
    """A recorded step."""

    run: Callable[[Any], bool]
    """Makes the step of this number, and writes new memory; false if it is another than was
    recorded: then no result has been written."""

    changing: Set[int]
    """The nodes whose scalars may be others in each step, by index."""

    source: str


def record(
    ways: Sequence[KnownWay],
    run: Run,
    buckets: Sequence[Bucket],
    members: Members,
    nodes: Sequence[Node],
    memory: MemoryNumbers,
    values: GivenValues,
) -> RecordedStep:
    """The program of steps like one that was made.

    Args:
        ways: The ways that are known.
        run: Runs the transformation.
        buckets: Those of a step.
        members: What a stage sees of the tensors.
        nodes: Those of the step that was made, which are used again.
        memory: The numbers in the memory of every bucket, in order. The program reads and writes
            them here.
        values: Those of hyperparameters that may be others in each step: it reads them, too.

    Raises:
        Unsupported: If something else than arithmetic is done with the numbers.
    """
    _check(buckets, len(memory))
    lines = Lines()
    found: dict[tuple[bool, ...], Recording] = {}
    for way in ways:
        if tuple(way.decisions) not in found:  # the latest comes first
            one = Recording(lines, way, nodes)
            try:
                one.record(run, buckets, members, memory, values)
            except Unsupported:
                raise
            except Exception as error:  # of a number that is none
                raise Unsupported(f"{type(error).__name__}: {error}") from error
            finally:
                one.release()
            found[tuple(way.decisions)] = one
    every = list(found.values())
    return _printed(lines, every, nodes, {**memory.arrays(), "values": values.numbers})


def _check(buckets: Sequence[Bucket], count: int) -> None:
    if len({b.step for b in buckets}) != 1 or any(b.count != b.step - 1 for b in buckets):
        raise Unsupported("parameters that have made different numbers of steps")
    if any(len(precision.entries(b.memory)) != count for b in buckets):
        raise Unsupported("memory of which there is more than numbers")
    for b in buckets:
        for _, stage in walk(b.tx):
            if not follows_counts(stage):
                raise Unsupported(f"`{type(stage).__name__}` does not declare `follows_counts`")
            if any(isinstance(y, Tensor) for x in vars(stage).values() for y in leaves_of(x)):
                raise Unsupported("a hyperparameter that may be written into")


class _Printer:
    """The source of a program: what ways have in common is printed once, and only what is used."""

    def __init__(self, lines: Lines, nodes: Sequence[Node], changing: Set[int]) -> None:
        self._lines, self._nodes, self._changing = lines, nodes, changing
        self.out: list[str] = []

    def print(self, ways: Sequence[Recording], at: int, made: frozenset[Any], indent: str) -> None:
        """What these ways, which have been the same so far, do from an event on.

        Lines and nodes that were `made` are there.
        """
        first, here = ways[0], set(made)
        if any(way.events[at : at + 1] != first.events[at : at + 1] for way in ways):
            raise Unsupported("ways that part without a choice")
        if at == len(first.events):
            return self._print_end(first, here, indent)
        event = first.events[at]
        if isinstance(event, int):
            self._print_part(first, first.way.passes[event], here, indent)
            return self.print(ways, at + 1, frozenset(here), indent)
        self._need([event], here, indent)
        yes, no = ([x for x in ways if x.outcomes[event] is outcome] for outcome in (True, False))
        self.out.append(f"{indent}if {event}:" if no else f"{indent}if not {event}:")
        if yes and no:
            self.print(yes, at + 1, frozenset(here), indent + " ")
        else:
            self.out.append(f"{indent} return False")
        return self.print(no or yes, at + 1, frozenset(here), indent)

    def _print_end(self, way: Recording, made: set[Any], indent: str) -> None:
        changed = {k: x for k, x in zip(way.memory, way.after, strict=True) if x != k}
        # All that may fail comes before results are written.
        self._need(
            [*changed.values(), *(x for y in way.shown.values() for x in y.needs)], made, indent
        )
        for k, node in enumerate(self._nodes):
            if node.rules and node.rules[0].metrics:
                self._assign(way, k, made, indent)
        self._print_part(way, way.way.last, made, indent)
        for k, rows in way.shown.items():
            self.out.append(f"{indent}{self._lines.constant(self._nodes[k])}.rows = {rows.text}")
        if changed:
            self.out.append(f"{indent}{', '.join(changed)} = {', '.join(changed.values())}")
        self.out.append(f"{indent}return True")

    def _print_part(self, way: Recording, part: Part, made: set[Any], indent: str) -> None:
        guards = [x for x in part.guards if x.source.depends_on(self._changing)]
        reads = [part.reads, *(x.source.of for x in guards)]
        every = range(len(self._nodes))
        nodes = {k for some in reads for k in (every if some is None else some)}
        nodes |= set() if part.concludes is None else {part.concludes}
        for k in sorted(nodes):
            self._assign(way, k, made, indent)
        if part.concludes in way.given:
            self.out.append(f"{indent}{way.given[part.concludes]}")
        given = self._lines.constant(self._nodes)
        for guard in guards:
            self.out.append(f"{indent}if not {self._lines.constant(guard)}.holds({given}):")
            self.out.append(f"{indent} return False")
        self.out.append(f"{indent}{self._lines.constant(part.run)}({given})")

    def _assign(self, way: Recording, k: int, made: set[Any], indent: str) -> None:
        """Gives a node its scalars, if they may be others than in the step before."""
        if k in made or k not in self._changing:
            return
        made.add(k)
        rows = way.opened[k]
        self._need(rows.needs, made, indent)
        self.out.append(f"{indent}{self._lines.constant(self._nodes[k])}.rows = {rows.text}")

    def _need(self, names: Iterable[str], made: set[Any], indent: str) -> None:
        for name in names:
            if name in self._lines.text and name not in made:
                self._need(self._lines.needs[name], made, indent)
                made.add(name)
                self.out.append(f"{indent}{name} = {self._lines.text[name]}")


def _printed(
    lines: Lines,
    ways: Sequence[Recording],
    nodes: Sequence[Node],
    arrays: Mapping[str, Any],
) -> RecordedStep:
    if any(one.opened != ways[0].opened for one in ways):
        raise Unsupported("scalars that depend on a choice")
    concluding = {x.concludes for one in ways for x in one.way.passes}
    numbered = {k for k, rows in enumerate(ways[0].opened) if rows.needs}
    changing = frozenset(numbered | {k for k in concluding if k is not None})
    printer = _Printer(lines, nodes, changing)
    printer.print(ways, 0, frozenset(), " ")
    source = "\n".join(["def run(step):", *printer.out, ""])
    names = {**lines.constants, **arrays}
    exec(compile(source, "<a recorded step>", "exec"), names)
    return RecordedStep(names.pop("run"), changing, source)  # which would know itself
