"""Fusion: instructions of which one needs the other, as one that passes over a block once.

What lies between them stays in registers of the processor, and is rounded as before.
"""

import collections
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from ._instructions import COMMUTATIVE, FUSED, Pattern, letters
from ._translation import VARYING, Instruction, Register

Made = Mapping[Register, Instruction]


def fused(body: Sequence[Instruction], results: Collection[Register]) -> list[Instruction]:
    """The same in fewer instructions: a value that only one other needs is made within that.

    Args:
        body: In order, each with a register of its own for its result.
        results: What is needed after them.
    """
    made = {one.to: one for one in map(_as_product, body)}
    uses = collections.Counter([*(x for one in made.values() for x in one.args), *results])
    for_one = {x: one for x, one in made.items() if uses[x] == 1}
    needed, found = set(results), []
    for one in reversed(made.values()):
        if one.to in needed:
            found.append(_with_its_own(one, for_one))
            needed.update(found[-1].args)
    return found[::-1]


def _as_product(one: Instruction) -> Instruction:
    return one._replace(code="mul", args=one.args * 2) if one.code == "square" else one


def _with_its_own(one: Instruction, for_one: Made) -> Instruction:
    """The instruction, with what only it needs if there is one that makes both."""
    for code, pattern in FUSED.items():
        names = letters(pattern)
        matches = [tuple(x[name] for name in names) for x in _matches(pattern, one, for_one, {})]
        if matches:  # the machine is faster where the last one is uniform
            args = min(matches, key=lambda x: x[-1].kind in VARYING)
            return one._replace(code=code, args=args)
    return one


def _matches(
    pattern: Pattern, one: Instruction, for_one: Made, names: Mapping[str, Register]
) -> Iterator[Mapping[str, Register]]:
    """What its letters stand for, in every way in which the instruction has this form."""
    code, *parts = pattern
    if one.code == code:
        for args in (one.args, one.args[::-1]) if code in COMMUTATIVE else (one.args,):
            yield from _all_match(list(zip(parts, args, strict=True)), for_one, names)


def _all_match(
    pairs: Iterable[tuple[str | Pattern, Register]], for_one: Made, names: Mapping[str, Register]
) -> Iterator[Mapping[str, Register]]:
    if not pairs:
        yield names
        return
    (part, register), *rest = pairs
    if isinstance(part, str):
        fits = part.islower() or register.kind not in VARYING
        if fits and names.get(part, register) == register:
            yield from _all_match(rest, for_one, {**names, part: register})
    elif register in for_one:
        for found in _matches(part, for_one[register], for_one, names):
            yield from _all_match(rest, for_one, found)
