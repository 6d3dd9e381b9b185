"""Steps of a rank without any gradient, which others wait for."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from .._core.ranks import Ranks
from .._core.stage import Bucket
from .._numerics.scalars import number
from ..engine import StepInputs
from ..typing import Memory
from ._groups import ParameterGroups
from ._options import Options, named_parameters
from ._ranks import with_means
from ._state import State, StateStore


class IdlePlan:
    """A step in which the sums of other ranks are joined, by the neutral element.

    No parameter moves, and no clock; what all parameters share goes on as on the other ranks.
    """

    lasting = False
    has_memory = True
    counts = False
    device = None

    def __init__(
        self,
        param_groups: list[Options],
        state: State,
        groups: ParameterGroups,
        store: StateStore,
        ranks: Ranks,
    ) -> None:
        index, p = next(
            (i, p) for i, group in enumerate(param_groups) for _, p in named_parameters(group)
        )
        self._tx = groups.transformation(param_groups, index).tx
        self._memory = store.idle_memory(param_groups, state, self._tx, p)
        self._who, self._ranks = groups.who, ranks
        self.firsts: Sequence[Any] = [p]
        self.group_of = [index]
        self.slots: Sequence[Any] = []

    def release(self) -> None:
        """There is no gradient to drop."""

    def buckets(self, updates: Tensor | None) -> list[Bucket]:
        """A bucket that no tensor belongs to."""
        count = 0 if updates is None else number(updates)
        return [Bucket(self._tx, count + 1, count, self._memory)]

    def inputs(
        self,
        param_groups: list[Options],
        buckets: Sequence[Bucket],
        extra: Mapping[str, Any],
        measure_group: Any,
    ) -> StepInputs:
        """What the engine is to do: to exchange, and no more."""
        del param_groups, measure_group
        return StepInputs(
            tx=buckets[0].tx,
            buckets=buckets,
            bucket_of=[],
            ps=[],
            gs=[],
            slots=[],
            negate=[],
            names=list,
            keys=list,
            extra=with_means(self._who, buckets[0].tx, extra, self._ranks),
            tensor_extra={},
            metadata_key=self,
            ranks=self._ranks,
        )

    def commit(
        self,
        param_groups: list[Options],
        state: State,
        store: StateStore,
        memories: Sequence[Memory],
        updates: Tensor | None,
        made: Any,
        replace: bool,
    ) -> None:
        """Writes what all parameters share."""
        del updates, made, replace
        store.keep_idle(param_groups, state, memories[0])
