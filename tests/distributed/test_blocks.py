"""Matrices for blocks, of parameters that are cut over two ranks: the blocks are of the whole."""

import pytest

import funcopt as fo

from ..combinators.common import values, wrapped
from .test_nestings import steps_on_shards
from .work import gap

STEPS = 6
TXS = {
    "shampoo": fo.distributed_shampoo(0.1, eps=1e-2, block_size=2, precondition_frequency=2),
    "soap": fo.soap(0.1, block_size=2, precondition_frequency=2),
    "kron": fo.kron(0.1),
}


@pytest.mark.parametrize("name", TXS)
def test_the_steps_are_those_of_one_process(two, name):
    (first, kinds), (second, _) = two(steps_on_shards, TXS[name], STEPS)
    assert gap(first, second) == 0.0
    assert gap(first, values(wrapped(TXS[name], STEPS)[0])) <= 1e-12
    assert kinds["exp_avg"] == "DTensor"
    assert {kind for key, kind in kinds.items() if key[:2] in ("GG", "Q/")} == {"Tensor"}
