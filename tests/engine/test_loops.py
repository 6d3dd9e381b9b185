"""Loops of machine code: what is needed whole is made first, and nothing is lost too early."""

import torch

from funcopt.engine._calls import Input
from funcopt.engine._loops import in_arrays, loops_of
from funcopt.engine._translation import Instruction, Listing, Register

FLOAT, BYTE = torch.float32, torch.uint8
COLUMNS = (Input(0, FLOAT, 1), Input(1, FLOAT, 1), Input(2, BYTE, 1), Input(3, FLOAT, 256))
x0, x1, x2, x3 = (Register("tensor", k) for k in range(4))
v0, v1, v2, v3 = (Register("value", k) for k in range(4))


def loops(body, writes, units=()):
    """The loops of a listing in which an instruction of a block is one of a whole unit."""
    listing = Listing(FLOAT, COLUMNS, 0, (), (), tuple(body), tuple(writes), ())
    found = loops_of(listing, lambda one: one.code.startswith("block") or one.code in units)
    names = [[[one.to for one in part] for part in loop] for loop in found]
    return names, found


def amax(to, of):
    return Instruction("block_amax_256", to, (of,))


def test_what_is_needed_whole_is_made_in_the_loop_before():
    body = [Instruction("neg", v0, (x0,)), amax(v1, v0), Instruction("div", v2, (v0, v1))]
    found, these = loops(body, [(1, v2)])
    assert found == [[[], [v0]], [[v1], [v2, x1]]]
    assert in_arrays(these) == {v0, v1}


def test_what_is_made_of_a_column_alone_needs_no_loop_before():
    found, these = loops([amax(v0, x0), Instruction("div", v1, (x0, v0))], [(1, v1)])
    assert found == [[[v0], [v1, x1]]]
    assert in_arrays(these) == {v0}


def test_a_column_is_overwritten_when_no_loop_needs_it_any_more():
    body = [
        Instruction("neg", v0, (x0,)),
        amax(v1, v0),
        Instruction("mul", v2, (x1, v1)),  # in the last loop
    ]
    found, _ = loops(body, [(1, v0), (0, v2)])
    assert found == [[[], [v0]], [[v1], [v2, x1, x0]]]


def test_a_column_is_copied_before_it_is_overwritten():
    body = [Instruction("neg", v0, (x1,)), amax(v1, v0)]
    found, _ = loops(body, [(0, v0), (2, x0)], units=["store_uint8"])
    assert found == [[[x2], [v0, x0]], [[v1], []]]


def test_a_copy_waits_for_what_it_overwrites():
    """Column 0 goes to column 1, which the last loop needs: so column 0 stays until then."""
    body = [
        Instruction("neg", v0, (x0,)),
        amax(v1, v0),
        Instruction("mul", v2, (x1, v1)),
    ]
    found, _ = loops(body, [(0, v0), (1, x0), (2, v2)])
    assert found == [[[], [v0]], [[v1], [v2, x0, x1, x2]]]
