"""A transformation whose rules cannot read their own hyperparameters, for a law."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .._core.record import unchecked
from .._core.reduction import Reduce
from .._core.stage import Bucket, Members, Node
from .._core.tensor_rule import PerTensor
from ..typing import Memory, Slots


class Read(Exception):
    """A poisoned field was read."""


class _Poison:
    """A hyperparameter that cannot be read."""

    def _fail(self, *args: Any, **kwargs: Any) -> Any:
        raise Read("in a method of tensors, such as `update_tensor`")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _fail
    __rtruediv__ = __pow__ = __rpow__ = __neg__ = __bool__ = __float__ = __eq__ = __ne__ = _fail
    __lt__ = __le__ = __gt__ = __ge__ = __iter__ = __getitem__ = __len__ = __call__ = _fail
    __hash__ = object.__hash__

    @classmethod
    def __torch_function__(cls, *args: Any, **kwargs: Any) -> Any:
        raise Read("in a method of tensors, such as `update_tensor`")


class Poisoned(PerTensor):
    """Prepares its scalars with `inner`, but runs a copy of it whose hyperparameters are poison."""

    inner: PerTensor

    @property
    def exact_updates(self) -> bool:  # type: ignore[override]
        return self.inner.exact_updates

    def init_slots(self, name: str | None, p: Tensor) -> Slots:
        return self.inner.init_slots(name, p)

    def init_memory(self, like: Tensor) -> Memory:
        return self.inner.init_memory(like)

    def extra_names(self) -> frozenset[str] | None:
        return self.inner.extra_names()

    def takes_examples(self) -> bool:
        return self.inner.takes_examples()

    def tensor_extra_names(self) -> frozenset[str]:
        return self.inner.tensor_extra_names()

    def open(self, buckets: Sequence[Bucket], members: Members) -> Node:
        return self.inner.open([b._replace(tx=b.tx.inner) for b in buckets], members)

    def run(
        self, gs: list[Tensor], slots: list[Slots], ps: list[Tensor], node: Node, reduce: Reduce
    ) -> tuple[list[Tensor], list[Slots]]:
        us, new = _poisoned(self.inner).run(gs, slots, ps, node, reduce)
        return us, new

    def memory_after(self, node: Node) -> list[Memory]:
        return self.inner.memory_after(node)


def _poisoned(tx: Any) -> Any:
    children = tx.children()
    if children:
        tx = tx.with_children({k: _poisoned(child) for k, child in children.items()})
    return unchecked(tx, {name: _Poison() for name in tx.hyperparameters})
