"""The graph of a function of 0-d tensors: `conclude`, which runs once for all tensors or for each.

What is traced are 0-d tensors in their own dtypes, and numbers, which stay numbers: beside a tensor
in float32 they do not widen it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ._calls import Call, NumberInput, ScalarInput, op_name
from ._graph import Graph, refs_of
from ._guards import Guard, ScalarSource, Unsupported
from ._lowering import lower_graph
from ._meta_inference import TensorMeta
from ._symbols import ScalarSymbol, Symbol
from ._translation import Listing, translate_scalars

FACTORIES = {"zeros": 0.0, "ones": 1.0, "full": None}


class ScalarGraph(Graph):
    """The operations on 0-d tensors, in the order in which they were traced."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(torch.float64, device)
        self.metas: list[Any] = []  # of each input
        self._numbers: dict[int, NumberInput] = {}  # by source

    def tensor(self, source: ScalarSource | None, dtype: torch.dtype) -> Symbol:
        """A 0-d tensor that will be passed in; without a source, it is what was measured."""
        self.sources.append(source)  # type: ignore[arg-type]
        meta = TensorMeta(dtype, False)
        self.metas.append(meta)
        return self._append(ScalarInput(len(self.sources) - 1), meta)

    def number(self, x: ScalarSymbol) -> NumberInput:
        """A number that will be passed in."""
        if id(x.source) not in self._numbers:
            self.sources.append(x.source)
            self.metas.append(1 if isinstance(x.value, int) else 1.0)
            self.values.append(ScalarInput(len(self.sources) - 1))
            made = NumberInput(len(self.values) - 1, self.metas[-1])
            self._numbers[id(x.source)] = made
        return self._numbers[id(x.source)]

    def value(self, x: Any, source: ScalarSource) -> Any:
        """What a function sees of a value that is read from a source in every step."""
        if isinstance(x, (tuple, list)):
            made = [self.value(y, source.item(k)) for k, y in enumerate(x)]
            return type(x)(*made) if hasattr(x, "_fields") else tuple(made)
        if isinstance(x, Tensor):
            if x.dim() or x.is_complex():
                raise Unsupported("a scalar that has a shape")
            self.guards.append(Guard(_is_apart(source, self.device), False))
            if x.requires_grad and torch.is_grad_enabled():
                raise Unsupported("a scalar that derivatives are taken by")
            if self.device.type == "cpu" and x.device.type != "cpu":
                raise Unsupported("a scalar that would be waited for")
            return self.tensor(source, x.dtype)
        if isinstance(x, (int, float)) and not isinstance(x, bool):
            return ScalarSymbol(x, source, self.guards)
        self.guards.append(Guard(source, x))
        return x

    def _trace_args(self, x: Any, as_inputs: bool, floating: bool, name: str) -> Any:
        if isinstance(x, dict):
            return {k: self._trace_args(v, as_inputs, floating, name) for k, v in x.items()}
        if isinstance(x, (tuple, list)):
            return tuple(self._trace_args(v, as_inputs, floating, name) for v in x)
        if isinstance(x, ScalarSymbol):
            return self.number(x)
        if isinstance(x, Tensor) and not isinstance(x, Symbol):
            raise Unsupported(f"`{name}` of a tensor that was not passed to the rule")
        return x

    def made(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Symbol:
        """A 0-d tensor of a number, made within the function."""
        name = op_name(func)
        given = dict(zip(("size", "fill_value"), args, strict=False)) | dict(kwargs)
        fill = FACTORIES[name] if name != "full" else given["fill_value"]
        if tuple(given["size"]):
            raise Unsupported(f"`{name}` of a shape")
        dtype = given.get("dtype") or torch.get_default_dtype()
        x = self.number(fill) if isinstance(fill, ScalarSymbol) else fill
        call = Call(torch.full, ((), refs_of(x)), (("dtype", dtype),))
        return self._append(call, TensorMeta(dtype, False))

    def listing(self, outputs: Sequence[Symbol]) -> tuple[Listing, list[int]]:
        """The instructions that lead to the outputs, and which of the inputs they have."""
        lowered, scalars, _ = lower_graph(self, {}, outputs)
        return translate_scalars(lowered, [self.metas[k] for k in scalars]), list(scalars)


class Factories(TorchFunctionMode):
    """Within it, 0-d tensors that are made of numbers belong to a graph."""

    def __init__(self, graph: ScalarGraph) -> None:
        super().__init__()
        self._graph = graph

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if op_name(func) in FACTORIES:
            return self._graph.made(func, args, kwargs)
        return func(*args, **kwargs)


def traced(graph: ScalarGraph, function: Callable[[], Any]) -> Any:
    """What a function of values of a graph returns.

    Raises:
        Unsupported: If it reads the value of a tensor, or does more than arithmetic.
    """
    try:
        with torch.no_grad(), Factories(graph):
            return function()
    except Unsupported:
        raise
    except Exception as error:  # of a symbol that is no real tensor
        raise Unsupported(f"{type(error).__name__}: {error}") from error


def _is_apart(source: ScalarSource, device: torch.device) -> ScalarSource:
    """Whether derivatives are taken by a scalar, or the host would wait for it."""
    read, on_host = source.read, device.type == "cpu"

    def apart(nodes: Sequence[Any], i: int) -> bool:
        x = read(nodes, i)
        if not isinstance(x, Tensor):  # where a step is recorded
            return False
        waits = on_host and x.device.type != "cpu"
        return waits or (x.requires_grad and torch.is_grad_enabled())

    return ScalarSource(apart)
