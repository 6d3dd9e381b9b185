"""The base class of combinators that always run their one inner transformation."""

from collections.abc import Sequence

from torch import Tensor

from .._core.tensor_rule import GradientTransformation, PerTensor
from ..typing import Slots


class Around(PerTensor):
    """Takes the names and extra arguments that `inner` takes, and has its slots and no others."""

    inner: GradientTransformation

    @property
    def _inner(self) -> PerTensor:
        return self.inner  # type: ignore[return-value]  # as checked when made

    def children(self) -> dict[str, GradientTransformation]:
        return {"inner": self.inner}

    def extra_names(self) -> frozenset[str] | None:
        return self.inner.extra_names()

    def tensor_extra_names(self) -> frozenset[str]:
        return self._inner.tensor_extra_names()

    def params_needed_by(self) -> str | None:
        return self._inner.params_needed_by()

    def check_names(self, params: Sequence[tuple[str | None, Tensor]]) -> None:
        self._inner.check_names(params)

    def init_slots(self, name: str | None, p: Tensor) -> Slots:
        return self._inner.init_slots(name, p)
