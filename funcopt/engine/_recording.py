"""One way through the decisions of a step: what happens to the numbers of its stages, as lines."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

from torch import Tensor

from .._core import precision
from .._core.preparing import prepared_by
from .._core.record import unchecked
from .._core.reduction import Reduce, nothing_measured
from .._core.stage import Bucket, Members, Node
from .._core.tensor_rule import TensorRule
from ..typing import Memory
from ._given_values import GivenValues
from ._guards import Guard, Unsupported
from ._memory_numbers import MemoryNumbers
from ._noted_numbers import Lines, Number, has_number, leaves_of, mapped, numbers_in
from ._replay import STAND_IN
from ._step import flatten_nodes
from ._wide_numbers import Wide, as_before, has_wide, kinds
from ._withheld import prepared_of_no_step

Run = Callable[[Node, Reduce], Any]
"""Runs a transformation by a node, with stand-ins for tensors."""


class Part(NamedTuple):
    """A pass of a step, or what comes after all passes, as a function of its nodes."""

    guards: Sequence[Guard]  # what has to hold before it
    run: Callable[[Sequence[Node]], Any]
    reads: Set[int] | None  # the nodes whose scalars it reads, by index; `None` for all
    concludes: int | None = None  # the node whose `conclude` it calls
    by_kernel: bool = False  # which reads hyperparameters among the scalars, not of rules


class KnownWay(NamedTuple):
    """A way through the decisions of a step."""

    decisions: Sequence[bool]
    passes: Sequence[Part]
    last: Part


class Rows(NamedTuple):
    """The scalars of a node, as the program makes them."""

    text: str
    needs: Sequence[str]  # the numbers among them


class Recording:
    """One way through the decisions of a step."""

    def __init__(self, lines: Lines, way: KnownWay, nodes: Sequence[Node]) -> None:
        self.lines, self.way, self._nodes_before = lines, way, nodes
        self.events: list[Any] = []
        """What happens in turns: names of flags, and passes."""
        self.outcomes: dict[str, bool] = {}  # by the name of a flag
        self.opened: list[Rows] = []  # those of each node
        self.given: dict[int, str] = {}  # how nodes get the memory that they conclude from
        self.shown: dict[int, Rows] = {}  # those of nodes that only show numbers, afterwards
        self.memory: dict[str, Tensor] = {}  # by where it is
        self.after: list[str] = []  # what it becomes
        self._decided, self._asked = 0, ""
        self._nodes: list[Node] = []

    def record(
        self,
        run: Run,
        buckets: Sequence[Bucket],
        members: Members,
        memory: MemoryNumbers,
        values: GivenValues,
    ) -> None:
        """Notes what the stages do."""
        self.memory = {memory.text(k): memory.tensor(k) for k in range(len(memory))}
        before = [
            Number(self, text, memory[k], memory.whole[k], not memory.whole[k])
            for k, text in enumerate(self.memory)
        ]
        step: Any = Number(self, "step", buckets[0].step, False)
        txs = values.noted([b.tx for b in buckets], self)
        given = [
            Bucket(tx, step, step - 1, _filled(b.memory, before))
            for tx, b in zip(txs, buckets, strict=True)
        ]
        with prepared_by(self._prepare):
            root = given[0].tx.open(given, members)
        self._nodes = flatten_nodes(root)
        self._index = {id(node): k for k, node in enumerate(self._nodes)}
        self.opened = [self._rows(k) for k in range(len(self._nodes))]
        if any(map(_asks_for_more, (rule for node in self._nodes for rule in node.rules))):
            raise Unsupported("a rule that needs more than counts")
        for node in self._nodes:
            node.decide_hook, node.whole_hook, node.is_known = self._decide, _refuse, True
        run(root, self._reduce)
        if self._asked or self._decided != len(self.way.decisions):
            raise Unsupported("a choice that is not made by `select`")
        if len(self.passes_made()) != len(self.way.passes):
            raise Unsupported("another number of passes")
        after = [leaves_of(x) for x in given[0].tx.memory_after(root)]
        texts = [[self.text(x) for x in one] for one in after]
        if any(one != texts[0] or len(one) != len(memory) for one in texts):
            raise Unsupported("groups whose memory differs")
        if any(memory.whole[k] and not _is_whole(x) for k, x in enumerate(after[0])):
            raise Unsupported("a count that becomes a fraction")
        self.after = texts[0]
        shown = {k: self._rows(k, "after") for k, x in enumerate(self._nodes) if not x.rules}
        self.shown = {k: rows for k, rows in shown.items() if rows.needs}

    def release(self) -> None:
        """Drops its nodes, which know it and the tensors."""
        for node in self._nodes:
            node.decide_hook, node.whole_hook = None, None
            node.release()
        self._nodes = []

    def passes_made(self) -> list[int]:
        """The passes among what happened."""
        return [x for x in self.events if isinstance(x, int)]

    def _rows(self, k: int, when: str = "before") -> "Rows":
        """The scalars of a node as they are now."""
        rows = self._nodes[k].rows
        numbers = [x.name for row in rows for x in numbers_in(tuple(row.values()))]
        if not numbers:
            return Rows(self.lines.fixed((k, when), rows), ())
        made = []
        for b, row in enumerate(rows):
            fixed = {name: x for name, x in row.items() if not has_number(x)}
            others = [f"{name!r}: {self.text(x)}" for name, x in row.items() if has_number(x)]
            made.append(f"{{**{self.lines.fixed((k, when, b), fixed)}, {', '.join(others)}}}")
        return Rows(f"[{', '.join(made)}]", tuple(numbers))

    # What stages do with numbers.

    def text(self, x: Any) -> str:
        """How the program has a value."""
        if isinstance(x, Number):
            return x.name
        if type(x) is tuple and any(map(has_number, x)):
            return f"({', '.join(map(self.text, x))},)"
        if isinstance(x, (bool, int)) or (isinstance(x, float) and math.isfinite(x)):
            return f"({x!r})"
        return self.lines.constant(x)

    def line(
        self,
        text: str,
        needs: Sequence[Number],
        value: Any,
        whole: bool = False,
        wide: bool = False,
    ) -> Number:
        """What is made of numbers."""
        return Number(self, self.lines.line(text, [x.name for x in needs]), value, whole, wide)

    def decide(self, flag: Number) -> bool:
        """How this way goes on."""
        if flag.name not in self.outcomes:
            if self._asked or self._decided == len(self.way.decisions):
                raise Unsupported("a choice that is not made by `select`")
            self.outcomes[flag.name] = self.way.decisions[self._decided]
            self.events.append(flag.name)
            self._asked = flag.name
        return self.outcomes[flag.name]

    def _decide(self, flag: bool) -> None:
        if not self._asked or self.way.decisions[self._decided] is not flag:
            raise Unsupported("a choice that does not follow from counts")
        self._decided, self._asked = self._decided + 1, ""

    def _prepare(self, rule: Any, step: Any, memory: Memory) -> Mapping[str, Any]:
        if type(rule).prepare is TensorRule.prepare:
            return {}
        remembered = numbers_in(memory)
        if not isinstance(step, Number) or not all(x.wide for x in remembered):
            raise Unsupported("scalars that are prepared of more than numbers")
        fields = {k: x for k, x in vars(rule).items() if has_number(x)}
        if not remembered and not fields:
            prepared = prepared_of_no_step(rule, memory)
            if prepared is not None:
                return prepared
        numbers = [step, *remembered, *(x for value in fields.values() for x in numbers_in(value))]
        maker, example = self.lines.rule(rule, fields), rule
        if fields:
            inside = ", ".join(f"{k!r}: {self.text(x)}" for k, x in fields.items())
            maker = f"unchecked({maker}, {{{inside}}})"
            example = unchecked(rule, self._values_before(rule, fields))
        values = example.prepare(step.value, mapped(lambda x: Wide(x.value), memory))
        if remembered:
            text = f"prepared_of_wide({maker}, {step.name}, {self._memory_text(memory)})"
            made, value = self.line(text, numbers, None), "as_before({}, {})"
        else:
            text = f"{maker}.prepare({step.name}, {memory!r})"
            made, value = self.line(text, numbers, None), "{}"
        found = {}
        for k, x in values.items():
            text = value.format(f"{made.name}[{k!r}]", kinds(x))
            found[k] = self.line(text, [made], as_before(x, kinds(x)), wide=has_wide(x))
        return found

    def _memory_text(self, memory: Memory) -> str:
        """How the program has the memory of a rule."""
        if isinstance(memory, Number):
            return f"Wide({memory.name})"
        inside = "".join(f"{self._memory_text(x)}, " for x in memory)
        maker = self.lines.constant(type(memory)) if hasattr(memory, "_fields") else ""
        return f"{maker}({inside})"

    def _values_before(self, rule: Any, names: Iterable[str]) -> dict[str, Any]:
        """Fields of a rule as they were in the last step: schedules are not asked once more."""
        for node in self._nodes_before:
            for known, row in zip(node.rules, node.rows, strict=False):
                if type(known) is type(rule) and all(name in row for name in names):
                    return {name: row[name] for name in names}
        raise Unsupported("scalars that are prepared of more than a count")

    def _reduce(self, node: Node, parts: list[Any]) -> None:
        if not parts and nothing_measured(node) is None:
            return
        k = self._index[id(node)]
        self.events.append(len(self.passes_made()))
        part = self.way.passes[self.events[-1]]
        if not part.by_kernel and any(map(has_number, map(vars, node.rules))):
            raise Unsupported("a conclusion from schedules")
        if node.rules[0].measure_per == "tensor":  # of which no decision can be made
            if any(own != () for own in node.memory):
                raise Unsupported("a conclusion of each tensor that is remembered")
            names = {name for row in self._nodes_before[k].rows for name in row}
            node.rows = [{**dict.fromkeys(names, STAND_IN), **row} for row in node.rows]
            return
        self._conclude_memory(node, k)
        found = []
        for b, (row, known) in enumerate(zip(node.rows, self._nodes_before[k].rows, strict=True)):
            more = {name: x for name, x in known.items() if name not in row}
            rows = f"{self.lines.constant(self._nodes_before[k])}.rows[{b}]"
            made = {name: self.line(f"{rows}[{name!r}]", [], x) for name, x in more.items()}
            found.append({**row, **made})
        node.rows = found

    def _conclude_memory(self, node: Node, k: int) -> None:
        """Lets a node conclude from its memory, and have new memory."""
        if all(own == () for own in node.memory):
            return
        shared = len(node.memory) == 1 or node.rules[0].memory_per == "tree"
        if not shared or any(x.name not in self.memory for x in numbers_in(node.memory)):
            raise Unsupported("a conclusion that is remembered by each group, or from no numbers")
        at = f"{self.lines.constant(self._nodes_before[k])}.memory"
        before = mapped(lambda x: self.memory[x.name], node.memory)
        self.given[k] = f"{at} = list({self.lines.fixed((k, 'memory'), before)})"
        node.memory = [self._concluded(node.memory[0], f"{at}[0]")] * len(node.memory)

    def _concluded(self, memory: Memory, at: str) -> Memory:
        if isinstance(memory, Number):
            return self.line(at, [], None, memory.whole, memory.wide)
        made = [self._concluded(x, f"{at}[{i}]") for i, x in enumerate(memory)]
        return type(memory)(*made) if hasattr(memory, "_fields") else tuple(made)


def _asks_for_more(rule: Any) -> bool:
    if not isinstance(rule, TensorRule):
        return False
    return bool(rule.random or (rule.required_extra and not rule.measures))


def _refuse(*given: Any) -> Any:
    raise Unsupported("a rule that sees whole tensors")


def _is_whole(x: Any) -> bool:
    return x.whole if isinstance(x, Number) else isinstance(x, int)


def _filled(memory: Memory, numbers: Sequence[Number]) -> Memory:
    each = iter(numbers)
    return precision.map_slots(lambda _: next(each), memory)
