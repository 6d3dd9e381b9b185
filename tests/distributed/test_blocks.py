"""Matrices for blocks, of parameters that are cut over two ranks: the blocks are of the whole."""

import pytest
import torch

import funcopt as fo

from ..combinators.common import START, grads_at, values, wrapped
from .test_nestings import cut, whole
from .work import gap

STEPS = 6
TXS = {
    "shampoo": fo.distributed_shampoo(0.1, eps=1e-2, block_size=2, precondition_frequency=2),
    "soap": fo.soap(0.1, block_size=2, precondition_frequency=2),
    "kron": fo.kron(0.1),
}


def on_shards(name):
    params = {n: torch.nn.Parameter(p) for n, p in cut(START).items()}
    opt = fo.Optimizer(list(params.items()), TXS[name])
    for t in range(STEPS):
        for key, g in cut(grads_at(whole(params), t)).items():
            params[key].grad = g
        opt.step()
    kinds = {k: type(x).__name__ for k, x in opt.state[params["w"]].items()}
    return whole(params), kinds


@pytest.mark.parametrize("name", TXS)
def test_the_steps_are_those_of_one_process(two, name):
    (first, kinds), (second, _) = two(on_shards, name)
    assert gap(first, second) == 0.0
    assert gap(first, values(wrapped(TXS[name], STEPS)[0])) <= 1e-12
    assert kinds["exp_avg"] == "DTensor"
    assert {kind for key, kind in kinds.items() if key[:2] in ("GG", "Q/")} == {"Tensor"}
