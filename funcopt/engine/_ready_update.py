"""An update of the pure form that is like the one before: two calls for its trees, and its kernels.

It needs no more than the addresses of tensors, the step count, and numbers in memory.
"""

from typing import Any

import torch
from torch import Tensor

from .. import tree
from .._core.stage import Node, State
from .._numerics.scalars import number
from ._guards import Unsupported
from ._known_trees import KnownTrees
from ._memory_numbers import MemoryNumbers
from ._step import Results, StepInputs
from ._traced_backend import TracedBackend


class ReadyUpdate:
    """The next update, for trees that are like those of the last one.

    Args:
        backend: What has made the last one.
        inputs: What it was made of: all leaves of its trees.
        results: Where they were written.
        node: Its node.
        trees: Parameters, gradients and state.

    Raises:
        Unsupported: If its scalars do not follow from its number and from those in memory, or
            machine code does not know such trees.
    """

    def __init__(
        self,
        backend: TracedBackend,
        inputs: StepInputs,
        results: Results,
        node: Node,
        trees: tuple[Any, Any, State],
    ) -> None:
        params, updates, state = trees
        memory = tree.leaves(state.memory)
        if state.step.dtype is not torch.int64 or not all(map(_is_known, [state.step, *memory])):
            raise Unsupported("memory of which there is more than numbers")
        self.tx = inputs.tx
        self._numbers = MemoryNumbers(list(map(number, memory)))
        self._kernels = backend.ready(node, inputs.buckets, self._numbers)
        if not self._kernels.is_settled:
            raise Unsupported("scalars that are computed in every step")

        # A list of all tensors: parameters, gradients, the count, memory, slots; then those of the
        # results, updates, slots and the count.
        slots = tree.leaves(state.slots)
        count = 2 * len(inputs.ps)
        begin = count + 1 + len(memory)
        self._memory = range(count + 1, begin)
        fresh = [*results.us, *results.entries, state.step]
        first = begin + len(slots)
        new_slots, step = first + len(results.us), first + len(fresh) - 1
        made: Any = step, _numbered(state.memory, count + 1), _numbered(state.slots, new_slots)
        self._copied = [
            (begin + k, new_slots + k) for k, x in enumerate(slots) if not _is_written(x)
        ]
        self._trees = KnownTrees(
            (params, updates, state),
            fresh,
            (_numbered(updates, first), State(*made)),
            (count, step),
        )
        places = self._kernels.places()
        self._trees.pass_on_to([(to, k if k < count else k + 1 + len(memory)) for to, k in places])

    def __call__(self, updates: Any, state: State, params: Any) -> tuple[Any, State, Node] | None:
        """Updates, or new parameters, state and node; `None` if these trees are others.

        Raises:
            GuardFailed: If it is another update than was compiled.
        """
        found = self._trees.take((params, updates, state))
        if found is None:
            return None
        for old, new in self._copied:
            found[new].copy_(found[old])
        numbers = self._numbers
        for k, at in enumerate(self._memory):
            numbers[k] = number(found[at])
        before = numbers.words[:]
        node = self._kernels.repeat(self._trees.count[0])
        for k, at in enumerate(self._memory):
            if numbers.words[k] != before[k]:
                found[at] = _as_tensor(numbers[k])
        return (*self._trees.give(found), node)


def _numbered(it: Any, begin: int) -> Any:
    """A tree like this one, of numbers from `begin` on."""
    leaves, spec = tree.flatten(it)
    return spec.unflatten(range(begin, begin + len(leaves)))


def _is_written(slot: Tensor) -> bool:
    """Whether kernels write it in every step: they copy no integers."""
    return slot.is_floating_point() or slot.is_complex()


def _is_known(x: Any) -> bool:
    """Whether it is a number that may be looked at, a whole one or in float64."""
    is_exact = isinstance(x, Tensor) and x.dtype in (torch.int64, torch.float64)
    return is_exact and not isinstance(number(x), Tensor)


def _as_tensor(x: int | float) -> Tensor:
    return torch.full(
        (), x, dtype=torch.int64 if isinstance(x, int) else torch.float64, device="cpu"
    )
