"""The block layout: how the tensors of a step are grouped into blocks and cells for kernels."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import tree
from .._core import precision
from .._core.tensor_rule import TensorRule
from .._numerics import shards
from .._numerics.random import GROUP, bits_key
from .._numerics.scalars import is_plain
from ..combinators import walk
from ._blocks import GRADIENT, PARAMETER, Block, Roles, as_real, overlap, same_memory_order
from ._guards import Unsupported
from ._step import StepInputs


class Cell(NamedTuple):
    """Leaves of a block that share a row of scalars; one of them is traced for all."""

    block: int
    leaves: tuple[int, ...]
    representative: int  # the index, among the tensors of the step, of the leaf that is traced


class BlockLayout:
    """The blocks and cells of the tensors that kernels work on, and the tensors that are eager.

    It is made once for all steps in which the metadata of the tensors is the same.
    """

    def __init__(self, inputs: StepInputs) -> None:
        if inputs.tx.takes_examples():
            raise Unsupported("one gradient for each example")
        self.metadata_key = inputs.metadata_key
        self._out_of_place = inputs.out_of_place
        self._all = list(range(len(inputs.ps)))
        self._last: tuple[Any, Any] = (None, None)  # parameters and slots
        self._address_key: Any = None
        self._plain = not any(shards.is_sharded(p) or p.is_complex() for p in inputs.ps)
        counts = [len(tree.leaves(own)) for own in inputs.slots]
        self._begins = list(itertools.accumulate(counts, initial=0))  # of the entries of each
        routes, local = _routes(inputs), self._local_tensors(inputs)
        groups: dict[Any, list[int]] = {}
        self.eager: list[int] = []
        self._begins_at: dict[int, int] = {}  # in a whole tensor, by groups of random bits
        self._keys: Callable[[], Sequence[str]] = tuple
        self._words: dict[int, tuple[Sequence[str], dict[int, list[int]]]] = {}  # by the seed
        self._words_now: dict[int, dict[int, list[int]]] = {}  # those of this step
        self.reasons: dict[str, None] = {}  # why some are eager
        for i, route in enumerate(routes):
            try:
                structure = _slot_structure(inputs.slots[i])
                sharded = shards.is_sharded(inputs.ps[i])
                per = self._per(inputs.slots[i])
                kinds = _kinds(local[i], route, sharded, per)
                if route.draws:
                    self._begins_at[i] = _begin(inputs.ps[i])
                key = (route.key, inputs.negate[i], structure, kinds)
                groups.setdefault(key, []).append(i)
            except Unsupported as reason:
                self.eager.append(i)
                self.reasons[str(reason)] = None
        self.blocks: list[Block] = []
        self.cells: list[Cell] = []
        self._staged: list[tuple[int, int]] = []  # block and leaf: through contiguous copies
        for indices in groups.values():
            per = self._per(inputs.slots[indices[0]])
            in_order = routes[indices[0]].draws or any(x > 1 for x in per)
            self._staged += [
                (len(self.blocks), leaf)
                for leaf, i in enumerate(indices)
                if not _in_same_order(_alike(local[i]), in_order)
            ]
            roles = Roles(len(precision.entries(inputs.slots[indices[0]])), self._out_of_place)
            block = Block(indices, self._columns(inputs, indices), roles, per)
            cells: dict[Any, list[int]] = {}
            for leaf, i in enumerate(indices):
                cells.setdefault(inputs.bucket_of[i], []).append(leaf)
            for leaves in cells.values():
                self.cells.append(Cell(len(self.blocks), tuple(leaves), indices[leaves[0]]))
            self.blocks.append(block)
        if not self._out_of_place and overlap(  # else nothing that was given is written
            [
                column
                for block in self.blocks
                for role, column in enumerate(block.columns)
                if block.roles.is_written(role)
            ]
        ):
            raise Unsupported("parameters that share memory")
        self.written = self._parameters(inputs)

    def load(self, inputs: StepInputs) -> list[tuple[Tensor, Tensor]]:
        """Passes the tensors of this step to the blocks.

        Returns pairs of a tensor whose memory a kernel cannot walk, and the contiguous copy that
        takes its place and is to be written back.
        """
        self._keys, self._words_now = inputs.keys, {}
        same = inputs.ps is self._last[0] and inputs.slots is self._last[1]
        if same and self._plain and not self._staged:  # views would not follow `p.data = ...`
            key = inputs.address_key
            same_addresses = key is not None and key is self._address_key
            self._address_key = key
            for block in self.blocks:
                in_order = block.indices == self._all
                gs = list(inputs.gs) if in_order else [inputs.gs[i] for i in block.indices]
                block.set_gradients(gs, same_addresses)
            return []
        self._last, self._address_key = (inputs.ps, inputs.slots), inputs.address_key
        for block in self.blocks:
            block.set_columns(self._columns(inputs, block.indices))
        copies = []
        for at, leaf in self._staged:
            block = self.blocks[at]
            for role, column in enumerate(block.columns):
                x = column[leaf]
                if not x.is_contiguous():
                    block.replace(role, leaf, x.contiguous())
                    if block.roles.is_written(role):
                        copies.append((x, column[leaf]))
        self.written = self._parameters(inputs)
        return copies

    @property
    def is_simple(self) -> bool:
        """Whether kernels work on the memory of all tensors as it is, and draw no random bits."""
        return self._plain and not (self._staged or self.eager or self._begins_at)

    def place_of(self, role: int, i: int) -> int | None:
        """Which of the tensors that are others in each step stands in a column.

        In place, they are the gradients, of all parameters. Out of place, all are: parameters,
        gradients, entries of slots, updates and new entries. `None` for the others.
        """
        if not self._out_of_place:
            return i if role == GRADIENT else None
        count, entries = len(self._all), self._begins[-1]
        own = self._begins[i + 1] - self._begins[i]  # of the slots of one tensor
        kind, k = divmod(role - GRADIENT, own + 1)  # its entries follow a gradient, and an update
        if role < GRADIENT:
            return i
        begin = count + kind * (count + entries)
        return begin + i if not k else begin + count + self._begins[i] + k - 1

    def release(self) -> None:
        """Drops the references to the gradients, until the next ones are loaded.

        Out of place, to all tensors: nothing else says when they are gone.
        """
        self.drop_scratch()
        self._keys = tuple
        for block in self.blocks:
            if self._out_of_place:
                block.set_columns([[] for _ in block.columns])
            else:
                block.set_gradients([], same_addresses=True)
        if self._out_of_place:
            self._last = (None, None)

    def random_words(self, i: int, seed: int) -> Sequence[int]:
        """The key of the random bits of a tensor, and where those of its part begin, by 16 bits."""
        if seed not in self._words_now:
            names = self._keys()
            if seed not in self._words or self._words[seed][0] != names:
                found = {}
                for at, begin in self._begins_at.items():
                    words = (*bits_key(names[at], seed), begin)
                    found[at] = [x >> shift & 0xFFFF for x in words for shift in (0, 16)]
                self._words[seed] = (names, found)
            self._words_now[seed] = self._words[seed][1]
        return self._words_now[seed][i]

    def _per(self, slots: Any) -> list[int]:
        """How many entries share a number, by role."""
        spans = precision.spans(slots)
        return [1, 1, *spans, *((1, *spans) if self._out_of_place else ())]

    def drop_scratch(self) -> None:
        """Drops what was passed on between the kernels of a step."""
        for block in self.blocks:
            block.drop_scratch()

    def _parameters(self, inputs: StepInputs) -> list[Tensor]:
        """The tensors whose version is increased: autograd may have saved them, or local parts."""
        if self._out_of_place:
            return []
        return [
            *(x for b in self.blocks for x in b.columns[PARAMETER]),
            *filter(shards.is_sharded, inputs.ps),
        ]

    def _columns(self, inputs: StepInputs, indices: Sequence[int]) -> list[list[Tensor]]:
        """Parameters, gradients and each entry of the slots of these tensors, as local tensors.

        Their slots have the same structure.
        """
        begins = [self._begins[i] for i in indices]
        count = self._begins[indices[0] + 1] - begins[0]

        def of_all(tensors: Sequence[Any], entries: Sequence[Any]) -> list[list[Any]]:
            slots = ([entries[at + k] for at in begins] for k in range(count))
            return [[tensors[i] for i in indices], *slots]

        entries = tree.leaves(list(inputs.slots)) if inputs.entries is None else inputs.entries
        columns = of_all(inputs.ps, entries)
        columns.insert(GRADIENT, [inputs.gs[i] for i in indices])
        if inputs.results is not None:
            columns += of_all(inputs.results.us, inputs.results.entries)
        if self._plain:
            return columns
        return [[as_real(shards.part(x)) for x in column] for column in columns]

    def _local_tensors(self, inputs: StepInputs) -> list[list[Tensor]]:
        """Parameter, gradient and slots of every tensor, and its results, as local tensors."""
        found = [
            list(map(shards.part, (p, g, *precision.entries(own))))
            for p, g, own in zip(inputs.ps, inputs.gs, inputs.slots, strict=True)
        ]
        if inputs.results is not None:
            entries = inputs.results.entries
            for i, u in enumerate(inputs.results.us):
                found[i] += [u, *entries[self._begins[i] : self._begins[i + 1]]]
        return found


def _kinds(parts: Sequence[Tensor], route: "_Route", sharded: bool, per: Sequence[int]) -> Any:
    """The device, and the dtypes of parameter, gradient and slots, if kernels can take them.

    Of slots that have another shape, and are for a rule that sees whole tensors, `None`.
    """
    if route.random:
        raise Unsupported(f"`{route.random}`, which draws random numbers")
    p = parts[PARAMETER]
    if route.whole and (sharded or p.is_complex()):
        raise Unsupported(f"`{route.whole}`, which has to see whole tensors")
    for role, x in enumerate(parts):
        if x.device != p.device:
            raise Unsupported(f"tensors on {x.device} beside one on {p.device}")
        if x.layout is not torch.strided or not is_plain(x):
            raise Unsupported(f"tensors of {x.layout} and {type(x).__name__}")
        if x._is_zerotensor():  # which autograd makes where a derivative is zero
            raise Unsupported("zeros that have no memory")
        if (x.is_complex() != p.is_complex() and per[role] == 1) or x.is_conj() or x.is_neg():
            raise Unsupported("complex tensors beside real ones")
        if x.shape != p.shape and per[role] == 1 and not (route.whole and role > GRADIENT):
            raise Unsupported("slots that are not shaped like the parameter")
    alike = (x.shape == p.shape or n > 1 for x, n in zip(parts, per, strict=True))
    return (p.device, *(as_real(x).dtype if so else None for x, so in zip(parts, alike)))  # noqa: B905


def _alike(parts: Sequence[Tensor]) -> list[Tensor]:
    """Those of the tensors that are shaped like the parameter, as rules see them."""
    return [as_real(x) for x in parts if x.shape == parts[PARAMETER].shape]


def _in_same_order(parts: Sequence[Tensor], of_rows: bool) -> bool:
    """Whether their memory can be walked together, row by row if that order matters."""
    if of_rows:
        return all(x.is_contiguous() for x in parts)
    return same_memory_order(parts)


def _begin(p: Tensor) -> int:
    """How many groups of entries, which share random bits, come before the part of a tensor.

    Raises:
        Unsupported: If the part begins within one, or is no piece of the whole, row by row.
    """
    first = shards.first_index(p)
    if first is None or first % GROUP or first // GROUP >= 2**32:
        raise Unsupported("random bits of a part that does not begin with a group of entries")
    return first // GROUP


class _Route(NamedTuple):
    """The stages that transform one parameter."""

    key: Any
    whole: str | None  # one that has to see all entries of a tensor
    random: str | None  # one that draws random numbers
    draws: bool  # whether kernels draw random bits


def _routes(inputs: StepInputs) -> list[_Route]:
    chooses = any(node.chooses for _, node in walk(inputs.tx))
    if not chooses:
        return [_route(walk(inputs.tx))] * len(inputs.ps)
    each = zip(inputs.names(), inputs.given, strict=True)
    return [_route(walk(inputs.tx, of=[(name, p)])) for name, p in each]


def _route(found: Sequence[Any]) -> _Route:
    nodes = [node for _, node in found]
    rules = [node for node in nodes if isinstance(node, TensorRule)]
    return _Route(
        tuple(path for path, _ in found),
        next((type(rule).__name__ for rule in rules if not rule.elementwise), None),
        next((type(rule).__name__ for rule in rules if rule.random), None),
        any(getattr(node, "random", False) for node in nodes if node not in rules),
    )


def _slot_structure(slots: Any) -> Any:
    """The structure of slots, without their tensors."""
    if isinstance(slots, Tensor):
        return "tensor"
    return (type(slots), *map(_slot_structure, slots)) if isinstance(slots, tuple) else None
