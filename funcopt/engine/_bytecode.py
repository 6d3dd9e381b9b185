"""Bytecode: a lowered graph as a program for a machine that is compiled only once.

The machine, in `_machine.cpp`, takes one instruction after the other, each over a block of entries
that stays in the cache. So memory is read and written once, as by machine code of its own, and no
chain waits for a compiler.
"""

import array
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch

from ._calls import Input
from ._fusion import fused
from ._guards import Unsupported
from ._instructions import CODES, MOST_ARGUMENTS, SHARED, STORED
from ._translation import KINDS, VARYING, Instruction, Listing, Register, storage

BLOCK, BLOCK_OF_SCALES, BLOCK_OF_SCALARS = 384, 512, 64
"""Entries that an instruction works on: whole vectors, whole blocks that share a scale, and a few
where there is mostly one."""

SHORT_BLOCK = 128
"""The same where memory is slower than what is computed: the less is computed at once, the less
memory waits for it, though every instruction costs some cycles to begin."""

STORAGES = ("", *STORED.values(), *SHARED.values())
"""How columns may be stored, by their numbers in a program."""

WORDS = 4 + MOST_ARGUMENTS
"""Of an instruction."""

MAX_REGISTERS = 96
"""As many blocks stay in the cache next to a core."""


STREAMED = 1 << 8
"""Beside the storage of a column that is written past the cache, where memory is slower."""


class Program(NamedTuple):
    """Instructions and what they work on, as the machine reads them."""

    head: "array.array[int]"
    code: "array.array[int]"
    storages: "array.array[int]"
    measures: "array.array[int]"
    constants: "array.array[float]"

    def through_memory(self, only_written: Sequence[int]) -> "Program":
        """The same for what no cache holds.

        In short blocks, if results are the same: a sum depends on its parts. Where columns are
        converted, there are more instructions and fewer bytes: it is not slower. What is only
        written goes past the cache, which would read it first. Where little is read for what is
        computed, the next blocks are asked for: processors see too late what comes next.
        """
        tensors, *head, measures, prologue, body, _, block = self.head
        if not (measures or block != BLOCK or any(self.storages)):
            block = SHORT_BLOCK
        storages = array.array("i", self.storages)
        for k in only_written:
            storages[k] |= STREAMED
        fetches = body >= 2 * tensors
        other = array.array("i", (tensors, *head, measures, prologue, body, fetches, block))
        return self._replace(head=other, storages=storages)


def assemble(listing: Listing, block: int = BLOCK) -> Program:
    """The program of a listing, whose instructions work on so many entries at once.

    Raises:
        Unsupported: If the machine has not the registers.
    """
    names = {x.to: Register("uniform", k) for k, x in enumerate(listing.uniform)}
    uniform = [x.renamed(names) for x in listing.uniform]
    reductions = [
        Instruction(x.code, x.register, (x.register,), at) for at, x in enumerate(listing.measures)
    ]
    results = [register for _, register in listing.writes] + [x.register for x in listing.measures]
    body = _with_writes([*fused(listing.body, results), *reductions], listing)
    body, scratch = _with_fewer_registers([x.renamed(names) for x in body])
    counts = (
        len(listing.tensors),
        listing.scalars,
        len(listing.constants),
        len(uniform),
        scratch,
    )
    total = sum(counts)
    if total > MAX_REGISTERS:
        raise Unsupported(f"{total} registers, more than stay in the cache")
    begins = itertools.accumulate(counts, initial=0)
    first: dict[str, int] = dict(zip(KINDS, begins, strict=False))

    def number(x: Register | None) -> int:
        return -1 if x is None else first[x.kind] + x.number

    code = array.array("i")
    for one in (*uniform, *body):
        args = [*map(number, one.args), *[0] * MOST_ARGUMENTS][:MOST_ARGUMENTS]
        last_is_uniform = one.args[-1].kind not in VARYING
        code.extend((CODES.index(one.code), number(one.to), one.measure, last_is_uniform, *args))
    measures = array.array("i")
    for x in listing.measures:
        factor = None if x.factor is None else names.get(x.factor, x.factor)
        measures.extend((CODES.index(x.code), number(factor)))
    names_of_256 = (x.code for x in (*uniform, *body) if x.code.endswith("256"))
    block = BLOCK_OF_SCALES if any(names_of_256) else block
    head = (*counts[:3], total, len(listing.measures), len(uniform), len(body), False, block)
    return Program(
        array.array("i", head),
        code,
        array.array("i", [_storage_code(x, listing) for x in listing.tensors]),
        measures,
        array.array("f" if listing.dtype is torch.float32 else "d", listing.constants),
    )


def _storage_code(x: Input, listing: Listing) -> int:
    return STORAGES.index(storage(x, listing.dtype))


def _with_writes(body: list[Instruction], listing: Listing) -> list[Instruction]:
    """The body, with what is written into tensors: by the last instruction, or by a copy."""
    written, copies = dict(listing.writes), []
    direct: dict[Register, Register] = {}
    for k, register in written.items():
        tensor, stored = Register("tensor", k), storage(listing.tensors[k], listing.dtype)
        made = next((i for i, x in enumerate(body) if x.to == register), len(body))
        later = {x for one in body[made + 1 :] for x in one.args} | set(written.values())
        if made < len(body) and tensor not in later and not stored:
            direct.setdefault(register, tensor)
        if direct.get(register) == tensor:
            continue
        code = f"store_{stored}" if stored else "copy"
        copies.append(Instruction(code, tensor, (register,)))
    return [x.renamed(direct) for x in (*body, *copies)]


def _with_fewer_registers(body: Sequence[Instruction]) -> tuple[list[Instruction], int]:
    """The same with registers of values used again, and their number."""
    last = {x: i for i, one in enumerate(body) for x in (*one.args, one.to)}
    names: dict[Register, Register] = {}
    free: list[int] = []
    count, made = 0, []
    for i, one in enumerate(body):
        args = [names.get(x, x) for x in one.args]
        for x in set(one.args):
            if x.kind == "value" and last[x] == i:
                free.append(names[x].number)
        to = one.to
        if to.kind == "value" and to not in names:
            if not free:
                free.append(count)
                count += 1
            names[to] = Register("value", free.pop())
            if last[to] == i:
                free.append(names[to].number)
        made.append(one._replace(to=names.get(to, to), args=tuple(args)))
    return made, count
