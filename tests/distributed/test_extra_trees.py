"""Extra arguments with a tensor for each parameter, on parameters that are cut over two ranks."""

import pytest
import torch

from funcopt import optim
from funcopt.errors import StructureError

from ..combinators.common import START, grads_at, named_parameters, values
from .test_nestings import cut, whole
from .work import gap

STEPS = 5


def hessian(params):
    return {n: 40.0 + 30.0 * p.sin() for n, p in params.items()}


def on_shards():
    params = {n: torch.nn.Parameter(p) for n, p in cut(START).items()}
    opt = optim.Sophia(list(params.items()), 0.1)
    for t in range(STEPS):
        for name, g in cut(grads_at(whole(params), t)).items():
            params[name].grad = g
        opt.step(hessian=cut(hessian(whole(params))))
    with pytest.raises(StructureError, match="`hessian` of `b` must be sharded as it is, got one "):
        opt.step(hessian=hessian(whole(params)))
    return whole(params)


def test_they_are_cut_as_the_parameters_are(two):
    first, second = two(on_shards)
    params = named_parameters()
    opt = optim.Sophia(list(params.items()), 0.1)
    for t in range(STEPS):
        for name, g in grads_at(values(params), t).items():
            params[name].grad = g
        opt.step(hessian=hessian(values(params)))
    assert gap(first, second) == 0.0
    assert gap(first, values(params)) <= 1e-14
