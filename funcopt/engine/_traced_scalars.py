"""What a rule sees of the scalars of a step while it is traced, and of random bits."""

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from .._core.stage import Node, Scalars
from .._numerics import random
from .._numerics.scalars import near
from ._block_layout import BlockLayout
from ._graph import Graph
from ._guards import Guard, ScalarSource, Unsupported
from ._symbols import ScalarSymbol, Symbol


class TracedDraw:
    """Random bits for a symbol."""

    def __init__(self, graph: Graph, layout: BlockLayout) -> None:
        self._graph, self._layout = graph, layout

    def noise(self, seed: Any, low: Any, high: Any, like: Symbol) -> Any:
        """As by `Draw`."""
        graph, layout, seed = self._graph, self._layout, int(seed)

        def part(k: int) -> Any:
            source = ScalarSource(lambda nodes, i: layout.random_words(i, seed)[k], True)
            return graph.scalar(source, ("random", seed, k))

        def scalar(x: Any) -> Any:
            return graph.scalar(x.source, id(x.source)) if isinstance(x, ScalarSymbol) else x

        step = random.word(scalar(low), scalar(high))
        key, other, begin = (random.word(part(k), part(k + 1)) for k in (0, 2, 4))
        return random.bits16(like, key, random.mixed(other, step), begin)


class TracedScalars(Scalars):
    """The scalars of one rule, each traced when the rule reads it."""

    draw: "TracedDraw"

    def __init__(self, owner: str, values: Mapping[str, Any], trace: Callable[[str], Any]) -> None:
        super().__init__(owner, {})
        self._values, self._trace = values, trace

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._values:
            return Scalars(self._owner, self._values).__getattr__(name)
        found = self._trace(name)
        self.__dict__[name] = found
        return found


def traced_scalar(graph: Graph, value: Any, source: ScalarSource) -> Any:
    """What a traced rule sees of a scalar: a symbol, or a value with a guard."""
    if isinstance(value, (tuple, list)):
        return tuple(traced_scalar(graph, x, source.item(j)) for j, x in enumerate(value))
    if isinstance(value, Tensor):
        if value.dim() or value.is_complex():
            raise Unsupported("a scalar that has a shape, or is complex")
        if value.is_floating_point():
            return graph.scalar(source_near(source, graph.device))
        if value.dtype is torch.bool:
            return graph.flag(source_near(source, graph.device))
        raise Unsupported(f"a scalar of {value.dtype}")
    number: Any = value
    if isinstance(value, Real) and not isinstance(value, bool):  # of NumPy, too
        return ScalarSymbol(number, source, graph.guards)
    graph.guards.append(Guard(source, value))
    return value


def source_near(source: ScalarSource, device: torch.device) -> ScalarSource:
    """A scalar that is a tensor, where kernels of a device can read it."""
    read = source.read

    def read_near(nodes: Sequence[Node], i: int) -> Any:
        x = read(nodes, i)
        return near(x, device) if isinstance(x, Tensor) else x

    return ScalarSource(read_near, source.per_tensor, source.of)
