"""How the tensors of a step are sorted into blocks and cells, found once for as long as it fits."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import tree
from .._core import precision
from .._core.tensor_rule import TensorRule
from .._numerics import shards
from ..combinators import walk
from ._blocks import Block, is_alike, overlap, real
from ._guards import Unsupported
from ._step import StepInputs


class Cell(NamedTuple):
    """Leaves of a block that share a row of numbers; one of them stands for all when recorded."""

    block: int
    leaves: tuple[int, ...]
    first: int  # the place of the first one among the tensors of the step


class Layout:
    """Which tensors of a step are worked on by kernels, and which one by one."""

    def __init__(self, inputs: StepInputs) -> None:
        if inputs.tx.takes_examples():
            raise Unsupported("one gradient for each example")
        self.form = inputs.metadata_key
        self._in_order = list(range(len(inputs.ps)))
        self._last: tuple[Any, Any] = (None, None)
        self._where: Any = None
        self._plain = not any(shards.is_sharded(p) or p.is_complex() for p in inputs.ps)
        routes, raw = _routes(inputs), _raw(inputs)
        sorted_out: dict[Any, list[int]] = {}
        self.alone: list[int] = []
        self.reasons: dict[str, None] = {}
        for i, route in enumerate(routes):
            try:
                if inputs.tensor_extra:
                    raise Unsupported("extra arguments shaped like the parameters")
                outline = _outline(inputs.slots[i])
                key = (route.key, inputs.negate[i], outline, _signature(raw[i], route))
                sorted_out.setdefault(key, []).append(i)
            except Unsupported as reason:
                self.alone.append(i)
                self.reasons[str(reason)] = None
        self.blocks: list[Block] = []
        self.cells: list[Cell] = []
        self._staged: list[tuple[int, int]] = []
        for members in sorted_out.values():
            self._staged += [
                (len(self.blocks), leaf)
                for leaf, i in enumerate(members)
                if not is_alike(list(map(real, raw[i])))
            ]
            block = Block(members, self._columns(inputs, members))
            cells: dict[Any, list[int]] = {}
            for leaf, i in enumerate(members):
                cells.setdefault(inputs.bucket_of[i], []).append(leaf)
            for leaves in cells.values():
                self.cells.append(Cell(len(self.blocks), tuple(leaves), members[leaves[0]]))
            self.blocks.append(block)
        written = [col for b in self.blocks for k, col in enumerate(b.columns) if k != 1]
        if overlap(written):
            raise Unsupported("parameters that share memory")
        self.written = self._parameters(inputs)

    def load(self, inputs: StepInputs) -> list[tuple[Tensor, Tensor]]:
        """Hands the tensors of this step to the blocks.

        Returns the copies that stand in for tensors whose memory cannot be walked, each after the
        tensor that it is to be written back to.
        """
        same = inputs.ps is self._last[0] and inputs.slots is self._last[1]
        if same and self._plain and not self._staged:  # views would not follow `p.data = ...`
            stay = inputs.address_key is not None and inputs.address_key is self._where
            self._where = inputs.address_key
            for block in self.blocks:
                all_of_them = block.members == self._in_order
                gs = list(inputs.gs) if all_of_them else [inputs.gs[i] for i in block.members]
                block.renew(gs, stay)
            return []
        self._last, self._where = (inputs.ps, inputs.slots), inputs.address_key
        for block in self.blocks:
            block.set(self._columns(inputs, block.members))
        stand_ins = []
        for at, leaf in self._staged:
            block = self.blocks[at]
            for role, column in enumerate(block.columns):
                x = column[leaf]
                if not x.is_contiguous():
                    block.replace(role, leaf, x.contiguous())
                    if role != 1:
                        stand_ins.append((x, column[leaf]))
        self.written = self._parameters(inputs)
        return stand_ins

    def release(self) -> None:
        """Lets go of the gradients, until the next ones are loaded."""
        for block in self.blocks:
            block.renew([], stay=True)

    def _parameters(self, inputs: StepInputs) -> list[Tensor]:
        """What autograd is told of: it may have saved them, and their parts on this rank."""
        return [
            *(x for b in self.blocks for x in b.columns[0]),
            *filter(shards.is_sharded, inputs.ps),
        ]

    def _columns(self, inputs: StepInputs, members: Sequence[int]) -> list[list[Tensor]]:
        """Parameters, gradients and each of the slots of these tensors, as they lie on this rank.

        These have the same slots, so all slots in a row are found, and parted, at once.
        """
        ps, gs, own = ([x[i] for i in members] for x in (inputs.ps, inputs.gs, inputs.slots))
        slots = tree.leaves(own)
        count = len(slots) // len(members)
        columns = [ps, gs, *(slots[k::count] for k in range(count))]
        if self._plain:
            return columns
        columns[1] = list(map(shards.placed_as, gs, ps))
        return [[real(shards.part(x)) for x in column] for column in columns]


PLAIN = (Tensor, torch.nn.Parameter)


def _signature(parts: Sequence[Tensor], route: "_Route") -> Any:
    """The device and dtypes of the parts of one tensor, if a kernel can take them."""
    if route.whole:
        raise Unsupported(f"`{route.whole}`, which has to see whole tensors")
    p = parts[0]
    for x in parts:
        if x.device != p.device:
            raise Unsupported(f"tensors on {x.device} beside one on {p.device}")
        if x.layout is not torch.strided or type(x) not in PLAIN:
            raise Unsupported(f"tensors of {x.layout} and {type(x).__name__}")
        if x.shape != p.shape or x.is_complex() != p.is_complex() or x.is_conj() or x.is_neg():
            raise Unsupported("slots that are not shaped like the parameter")
    return (p.device, *(real(x).dtype for x in parts))


class _Route(NamedTuple):
    """The stages that have to do with one parameter."""

    key: Any
    whole: str | None  # one that has to see all entries of a tensor


def _routes(inputs: StepInputs) -> list[_Route]:
    chosen = any(node.chooses for _, node in walk(inputs.tx))
    if not chosen:
        return [_route(walk(inputs.tx))] * len(inputs.ps)
    names = inputs.names()
    return [_route(walk(inputs.tx, of=(name, p))) for name, p in zip(names, inputs.ps, strict=True)]


def _route(found: Sequence[Any]) -> _Route:
    rules = [node for _, node in found if isinstance(node, TensorRule)]
    return _Route(
        tuple(path for path, _ in found),
        next((type(rule).__name__ for rule in rules if not rule.elementwise or rule.random), None),
    )


def _raw(inputs: StepInputs) -> list[list[Tensor]]:
    """Parameter, gradient and slots of every tensor, as they lie on this rank."""
    return [
        list(map(shards.part, (p, shards.placed_as(g, p), *precision.entries(own))))
        for p, g, own in zip(inputs.ps, inputs.gs, inputs.slots, strict=True)
    ]


def _outline(slots: Any) -> Any:
    """The structure of slots, without their tensors."""
    if isinstance(slots, Tensor):
        return "tensor"
    return (type(slots), *map(_outline, slots)) if isinstance(slots, tuple) else None
