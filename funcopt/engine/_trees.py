"""The trees of a step in pure form: what is found of them holds for others like them."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

from torch import Tensor

from .. import tree
from .._core.names import names_of
from .._core.ranks import Ranks
from .._core.stage import Bucket
from .._core.tensor_rule import PerTensor
from .._numerics.names import plain_names
from .._numerics.scalars import number
from ..typing import Params
from ._step import Results, StepInputs
from ._tensor_guard import TensorGuard

Specs = tuple[tree.Spec[Any], tree.Spec[Any]]
"""The structures of parameters and of slots."""


class CheckedTrees(NamedTuple):
    """Trees that have been checked: those of the same structure and metadata need not be."""

    specs: Specs
    active: list[int]  # those with a gradient
    guard: TensorGuard
    names: list[str]
    keys: list[str]
    ranks: Ranks  # not those of others: a step begins them, and ends them
    bucket_of: list[int]
    negate: list[bool]
    positions: list[int]  # of the entries of their slots among those of all
    are_whole: bool  # whether no gradient is missing, and no entry of slots

    @classmethod
    def of(
        cls,
        params: Params,
        slots: Sequence[Any],
        specs: Specs,
        active: list[int],
        tensors: Sequence[Any],
    ) -> Self:
        """What is found of trees: `tensors` are all whose metadata matters."""
        names, keys = names_of(params), plain_names(tree.names(params))
        leaves = [tree.flatten(own)[0] for own in slots]
        begins = list(itertools.accumulate(map(len, leaves), initial=0))
        positions = [
            begins[i] + k for i in active for k, x in enumerate(leaves[i]) if x is not None
        ]
        return cls(
            specs,
            active,
            TensorGuard(tensors),
            [names[i] for i in active],
            [keys[i] for i in active],
            Ranks(()),
            [0] * len(active),
            [False] * len(active),
            positions,
            len(active) == len(names) and len(positions) == begins[-1],
        )

    def holds(self, specs: Specs, active: list[int], tensors: Sequence[Any]) -> bool:
        """Whether these trees have the same structure and metadata."""
        return self.specs == specs and self.active == active and self.guard.holds(tensors)

    def inputs(
        self,
        tx: PerTensor,
        columns: Sequence[Sequence[Any]],
        step: Tensor,
        memory: Any,
        extra: Mapping[str, Any],
        entries: Sequence[Tensor] | None = None,
        results: Results | None = None,
    ) -> StepInputs:
        """The inputs of step number `step`: of parameters, gradients and slots, the active ones."""
        (ps, gs, slots), now = columns, number(step)
        names = tx.tensor_extra_names() if extra else ()
        trees = {k: self.specs[0].flatten_up_to(v) for k, v in extra.items() if k in names}
        return StepInputs(
            tx=tx,
            buckets=[Bucket(tx, now, now - 1, memory)],
            bucket_of=self.bucket_of,
            ps=ps,
            gs=gs,
            slots=slots,
            negate=self.negate,
            names=lambda: self.names,
            keys=lambda: self.keys,
            extra={k: v for k, v in extra.items() if k not in trees},
            tensor_extra={k: [column[i] for i in self.active] for k, column in trees.items()},
            metadata_key=self,
            ranks=self.ranks,
            entries=entries,
            results=results,
        )
