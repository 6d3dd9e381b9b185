"""Every combinator in every other, on parameters that are cut over two ranks."""

import pytest
import torch
import torch.distributed as dist

import funcopt as fo
from funcopt.combinators import walk

from ..combinators.common import START, grads_at, values, wrapped
from ..combinators.nestings import AROUND, ROWS, gradients
from .work import gap

STEPS = 5


def cut(tensors):
    """Each over the ranks by rows; a single number as copies."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    places = {n: [Shard(0) if x.dim() else Replicate()] for n, x in tensors.items()}
    return {n: distribute_tensor(x.clone(), mesh, places[n]) for n, x in tensors.items()}


def whole(params):
    return {n: p.detach().full_tensor().clone() for n, p in params.items()}


AVERAGING = (fo.ema_of_params, fo.mean_of_params, fo.lookahead, fo.primal_averaging)
AVERAGED_TWICE = [
    row for row in ROWS if sum(isinstance(node, AVERAGING) for _, node in walk(row.make())) > 1
]


def steps_on_shards(tx, count):
    """The parameters after so many steps, whole; and what the state of a matrix is made of."""
    params = {n: torch.nn.Parameter(p) for n, p in cut(START).items()}
    opt = fo.Optimizer(list(params.items()), tx)
    for t in range(count):
        for name, g in cut(grads_at(whole(params), t)).items():
            params[name].grad = g
        opt.step()
    return whole(params), {k: type(x).__name__ for k, x in opt.state[params["w"]].items()}


def on_shards(outer):
    """The parameters of all rows of one combinator, trained and to evaluate, whole."""
    found = {}
    for row in (row for row in ROWS if row.outer == outer):
        params = {n: torch.nn.Parameter(p) for n, p in cut(START).items()}
        opt = fo.Optimizer(list(params.items()), row.make())
        for t in range(STEPS):
            grads = cut(gradients(row)(whole(params), t))
            for name, p in params.items():
                p.grad = grads[name]
            opt.step()
        trained = whole(params)
        if row in AVERAGED_TWICE:  # which of them to evaluate with is not known
            found[str(row)] = trained, trained
            continue
        opt.eval()
        found[str(row)] = trained, whole(params)
        opt.train()
        assert gap(whole(params), trained) == 0.0
    return found


def alone(row):
    mine, opt = wrapped(row.make(), STEPS, grads_at=gradients(row))
    trained = values(mine)
    if row in AVERAGED_TWICE:
        return trained, trained
    opt.eval()
    return trained, values(mine)


@pytest.mark.parametrize("outer", AROUND)
def test_a_nesting_is_the_same_on_shards(two, outer):
    first, second = two(on_shards, outer)
    for row in (row for row in ROWS if row.outer == outer):
        for mine, other, expected in zip(
            first[str(row)], second[str(row)], alone(row), strict=True
        ):
            assert gap(mine, other) == 0.0, row
            assert gap(mine, expected) <= 1e-12, row
