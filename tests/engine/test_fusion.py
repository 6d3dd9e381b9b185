"""Fusion: instructions of which one needs the other become one, and no bit of a result changes."""

import itertools
import math
import random

import pytest
import torch

import funcopt as fo
from funcopt.engine import _bytecode, _caches, _instructions
from funcopt.engine._fusion import fused
from funcopt.engine._translation import Instruction, Register, translate

from .common import lowered_graphs
from .test_bytecode import LENGTHS, bytecode, mapped, outcomes, values
from .test_every_chain import CASES

__all__ = ["bytecode"]

OPERATIONS = {
    "mul": torch.mul,
    "add": torch.add,
    "sub": torch.sub,
    "div": torch.div,
    "sqrt": torch.sqrt,
    "sign": torch.sign,
    "lerp": torch.lerp,
}
FLAGS = {"not": torch.logical_not, "isfinite": torch.isfinite}


def codes(lowered):
    code = _bytecode.assemble(translate(lowered)).code
    return [_instructions.CODES[x] for x in code[:: _bytecode.WORDS]]


def value(form, given):
    """The value of a pattern, by torch."""
    if isinstance(form, str):
        return given[form]
    return {**OPERATIONS, **FLAGS}[form[0]](*(value(x, given) for x in form[1:]))


def assert_the_same(monkeypatch, lowered, length):
    """What is written and measured with and without fusion: zeros have the same signs, too."""
    columns = [values(length, x.dtype, seed) for seed, x in enumerate(lowered.inputs)]
    row = torch.linspace(0.1, 0.9, lowered.num_scalars, dtype=lowered.compute_dtype)
    ours, _, measured, _ = outcomes(lowered, columns, row)
    with monkeypatch.context() as patch:
        patch.setattr(_bytecode, "fused", lambda body, results: list(body))
        patch.setattr(_caches, "hold", lambda *_: True)
        theirs, _, expected, _ = outcomes(lowered, columns, row)
    for x, y in zip((*ours, *measured), (*theirs, *expected), strict=True):
        torch.testing.assert_close(x, y, rtol=0.0, atol=0.0, equal_nan=True)
        assert torch.equal(torch.as_tensor(x).nan_to_num().signbit(), y.nan_to_num().signbit())


def registers(form, g, p, s):
    """What letters of a pattern may stand for: tensors, one of which is computed, and numbers."""
    capital = [x for x in _instructions.letters(form) if x.isupper()]
    numbers = {x: s if k == 0 else (k + 1.5) * s for k, x in enumerate(capital)}
    for order in itertools.permutations("xyz"):
        yield {**dict(zip(order, (g, p, g - p if capital else s), strict=True)), **numbers}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("code", _instructions.FUSED)
def test_it_rounds_as_the_instructions_do_one_by_one(monkeypatch, code, dtype):
    form, found = _instructions.FUSED[code], 0
    for k in range(6):

        def function(g, p, s, k=k):
            made = value(form, list(registers(form, g, p, s))[k])
            return torch.where(made, g, p) if made.dtype is torch.bool else made

        try:
            graphs = lowered_graphs(monkeypatch, mapped(function), dtype)
        except (TypeError, RuntimeError):  # torch has no such function of a number
            continue
        for lowered in graphs:
            found += code in codes(lowered)
            for length in LENGTHS:
                assert_the_same(monkeypatch, lowered, length)
    assert found >= 2


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_pass_of_a_chain_changes(monkeypatch, case, large):
    """Nor in short blocks, which are for passes that are larger than caches."""
    if large:
        monkeypatch.setattr(_caches, "hold", lambda *_: False)
    for lowered in lowered_graphs(monkeypatch, case.tx, torch.float32, case.extra):
        if lowered.inputs:
            assert_the_same(monkeypatch, lowered, 1500)


def test_adamw_is_three_instructions(monkeypatch):
    (lowered,) = lowered_graphs(monkeypatch, fo.adamw(0.1))
    assert codes(lowered) == ["lerp", "square_lerp", "decayed_over_root"]
    assert len(lowered.calls) == 12


X, Y, Z = (Register("tensor", k) for k in range(3))
PRODUCT, SUM, ROOT, OTHER = (Register("value", k) for k in range(4))
NUMBER = Register("scalar", 0)
MUL = Instruction("mul", PRODUCT, (X, Y))
ADD = Instruction("add", SUM, (PRODUCT, Z))


def test_a_value_is_made_within_the_only_one_that_needs_it():
    assert fused([MUL, ADD], [SUM]) == [Instruction("mul_add", SUM, (X, Z, Y))]


def test_what_something_else_needs_is_kept():
    root = Instruction("sqrt", ROOT, (PRODUCT,))
    assert fused([MUL, ADD], [SUM, PRODUCT]) == [MUL, ADD]
    assert fused([MUL, ADD, root], [SUM, ROOT]) == [MUL, ADD, root]
    twice = Instruction("add", SUM, (PRODUCT, PRODUCT))
    assert fused([MUL, twice], [SUM]) == [MUL, twice]


def test_the_last_argument_is_one_number_where_it_can_be():
    for args in itertools.permutations((X, NUMBER)):
        (one,) = fused([Instruction("mul", PRODUCT, args), ADD], [SUM])
        assert one.args == (X, Z, NUMBER)


def test_a_square_is_a_product():
    square = Instruction("square", PRODUCT, (X,))
    mixed = Instruction("lerp", SUM, (Y, PRODUCT, Z))
    assert fused([square, mixed], [SUM]) == [Instruction("square_lerp", SUM, (Y, X, Z))]
    other = Instruction("lerp", SUM, (Y, PRODUCT, Z))
    assert [x.code for x in fused([MUL, other], [SUM])] == ["mul", "lerp"]


def test_a_capital_letter_is_one_number():
    parts = [
        Instruction("mul", PRODUCT, (X, Z)),
        Instruction("mul", OTHER, (Y, NUMBER)),
        Instruction("add", SUM, (PRODUCT, OTHER)),
    ]
    (one,) = fused([parts[0]._replace(args=(X, NUMBER)), *parts[1:]], [SUM])
    assert one == Instruction("weighted_sum", SUM, (X, Y, NUMBER, NUMBER))
    assert "weighted_sum" not in [x.code for x in fused([parts[0], *parts[1:]], [SUM])]


def test_a_value_that_is_squared_is_made_once():
    root = Instruction("sqrt", ROOT, (X,))
    assert fused([root, Instruction("square", SUM, (ROOT,))], [SUM]) == [
        root,
        Instruction("mul", SUM, (ROOT, ROOT)),
    ]
    quotient = Instruction("div", ROOT, (X, Y))
    found = fused([quotient, Instruction("square", SUM, (ROOT,))], [SUM])
    assert [x.code for x in found] == ["div", "mul"]


@pytest.mark.parametrize("seed", range(40))
def test_random_expressions_keep_their_values(monkeypatch, seed):
    """With values that several need, and numbers."""

    def function(g, p, s):
        choose, found = random.Random(seed), [g, p]
        for _ in range(14):
            name = choose.choice([*OPERATIONS, "mul", "add"])
            count = {"sqrt": 1, "sign": 1, "lerp": 3}.get(name, 2)
            tensors = choose.sample([*found[:-1], *found[-2:]], count)
            last = s if count > 1 and choose.random() < 0.3 else tensors[-1]
            found.append(OPERATIONS[name](*tensors[:-1], last))
        return found[-1] + choose.choice(found)

    (lowered,) = lowered_graphs(monkeypatch, mapped(function))
    assert_the_same(monkeypatch, lowered, 700)


def test_sums_conversions_and_scales_keep_the_length_of_their_blocks(monkeypatch):
    def block(program):
        return program.head[-1]

    def programs(tx, *dtype):
        return [_bytecode.assemble(translate(x)) for x in lowered_graphs(monkeypatch, tx, *dtype)]

    measuring, clipping = programs(fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(0.1)))
    assert block(measuring.through_memory([])) == block(measuring)
    assert block(clipping.through_memory([])) == _bytecode.SHORT_BLOCK < block(clipping)
    (narrow,) = programs(fo.adamw(0.1), torch.bfloat16)
    assert block(narrow.through_memory([])) == block(narrow)
    (scaling,) = programs(fo.quantized(fo.adamw(0.1), min_size=0))
    assert block(scaling) == _bytecode.BLOCK_OF_SCALES == block(scaling.through_memory([]))
    assert math.gcd(_bytecode.BLOCK, _bytecode.SHORT_BLOCK) == 128  # a group of random bits


def test_memory_is_asked_ahead_where_more_is_computed_than_read(monkeypatch):
    def asks(tx):
        programs = [_bytecode.assemble(translate(x)) for x in lowered_graphs(monkeypatch, tx)]
        assert not any(x.head[-2] for x in programs)  # of which caches hold everything
        return [bool(x.through_memory([]).head[-2]) for x in programs]

    assert asks(fo.adamw(0.1)) == [False]
    assert asks(fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(0.1))) == [True, False]
    assert asks(fo.skip_if(fo.sgd(0.1, momentum=0.9)))[0]
    assert asks(fo.quantized(fo.adamw(0.1), "4bit", min_size=0)) == [True]
