"""The loops of machine code: in which of them each instruction of a listing stands."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from ._translation import VARYING, Instruction, Listing, Register, storage


class Loop(NamedTuple):
    """A loop over the vectors of a unit of entries, after what is done with the whole unit."""

    units: list[Instruction]
    vectors: list[Instruction]

    @property
    def given(self) -> set[Register]:
        """What its vectors are made of, and not in it: columns, and arrays of a unit."""
        made = {one.to for one in self.vectors if one.to.kind == "value"}
        needed = (one.args for one in self.vectors if not one.code.startswith("load_"))
        return {x for args in needed for x in args if x.kind in VARYING} - made


def loops_of(listing: Listing, of_units: Callable[[Instruction], bool]) -> list[Loop]:
    """The instructions of a listing in as few loops as there can be, stores and measures too.

    Args:
        listing: What is to be done with each unit.
        of_units: Whether an instruction works on a unit as a whole.
    """
    loops = [Loop([], [])]
    ready: dict[Register, int] = {}  # the first loop before which all entries of a value are there
    made: dict[Register, int] = {}  # the first loop in which one of its vectors can be used
    read: dict[Register, int] = {}  # the last loop that needs what a column holds

    def place(one: Instruction, at_least: int = 0) -> None:
        whole = of_units(one)
        at = max([at_least, *((ready if whole else made).get(x, 0) for x in one.args)])
        loops.extend(Loop([], []) for _ in range(at + 1 - len(loops)))
        (loops[at].units if whole else loops[at].vectors).append(one)
        if one.to.kind == "value":
            made[one.to], ready[one.to] = at, at if whole else at + 1
        read.update({x: max(at, read.get(x, 0)) for x in one.args if x.kind == "tensor"})

    for one in listing.body:
        place(one)
    for k, measure in enumerate(listing.measures):
        place(Instruction(measure.code, Register("measure", k), (measure.register,)))
    stores = list(_stores(listing))
    for one in stores:  # a column that is copied is read before another value is stored there
        for x in one.args:
            if x.kind == "tensor":
                read[x] = max(read.get(x, 0), read.get(one.to, 0))
    for one in stores:
        place(one, read.get(one.to, 0))
    return loops


def _stores(listing: Listing) -> Iterable[Instruction]:
    for k, register in listing.writes:
        code = f"store_{storage(listing.tensors[k], listing.dtype)}"
        yield Instruction(code, Register("tensor", k), (register,))


def in_arrays(loops: list[Loop]) -> set[Register]:
    """The values that lie in arrays of a unit: whole units work on them, or several loops do."""
    units = [one for loop in loops for one in loop.units]
    found = {x for loop in loops for x in loop.given} | {x for one in units for x in one.args}
    return {x for x in (*found, *(one.to for one in units)) if x.kind == "value"}
