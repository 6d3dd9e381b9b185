"""Contract 42: a state is cut as the parameters are when it is loaded, or refused there."""

import pytest
import torch
import torch.distributed as dist

import funcopt as fo
from funcopt.errors import StructureError

from ..contract.common import OPTIMIZERS, copied, model, train
from .test_fsdp import cut_model
from .work import gap, params_of, step

every_chain = pytest.mark.parametrize(
    "name", ["AdamW", "SGD", "chain", "schedule", "average", "partition", "Muon", "SOAP"]
)


def whole_into_parts(name, steps=3):
    alone, net = model(), cut_model()
    opt = OPTIMIZERS[name](alone)
    train(alone, opt, steps)
    with torch.no_grad():
        for p, q in zip(net.parameters(), alone.parameters(), strict=True):
            p.copy_(as_cut(q.detach(), p))
    other = OPTIMIZERS[name](net)
    other.load_state_dict(copied(opt.state_dict()))
    for _ in range(steps):
        step(net, other)
    train(alone, opt, steps)
    return gap(params_of(net), params_of(alone))


def as_cut(whole, like):
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(whole, like.device_mesh, like.placements)


@every_chain
def test_the_state_of_one_process_goes_on_in_parts(two, name):
    assert max(two(whole_into_parts, name)) <= 1e-9


def cut_along(dim, mesh=None):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = mesh or init_device_mesh("cpu", (dist.get_world_size(),))
    whole = torch.arange(12.0, dtype=torch.float64).reshape(4, 3)
    p = torch.nn.Parameter(distribute_tensor(whole.clone(), mesh, [Shard(dim)]))
    p.grad = distribute_tensor(whole.cos(), mesh, [Shard(dim)])
    return p


def rows_into_columns():
    p = cut_along(0)
    q = cut_along(1, p.device_mesh)
    opt, other = (fo.optim.AdamW([("w", x)], lr=0.1) for x in (p, q))
    opt.step()
    with torch.no_grad():
        q.copy_(p.detach().redistribute(p.device_mesh, q.placements))
    other.load_state_dict(copied(opt.state_dict()))
    placements = [x.placements == q.placements for x in other.state[q].values() if x.dim()]
    for one in (opt, other):
        one.step()
    return placements, float((p.full_tensor() - q.full_tensor()).abs().max())


def test_parts_of_the_same_ranks_are_cut_anew(two):
    for placements, off in two(rows_into_columns):
        assert placements == [True, True]
        assert off <= 1e-13  # kernels round a vector as it lies in memory


def parts_into_a_whole(strict):
    p, q = cut_along(0), torch.nn.Parameter(torch.ones(4, 3))
    opt, other = (fo.optim.AdamW([("w", x)], lr=0.1) for x in (p, q))
    opt.step()
    q.grad = torch.ones(4, 3)
    other.step()
    before = {key: x.clone() for key, x in other.state[q].items()}
    try:
        other.load_state_dict(copied(opt.state_dict()), strict=strict)
    except StructureError as error:
        same = all(torch.equal(x, before[key]) for key, x in other.state[q].items())
        return str(error), same
    other.step()
    return "", float(other.state[q]["step"])


def test_parts_are_refused_by_whole_parameters(two):
    for sentence, same in two(parts_into_a_whole, True):
        assert "`AdamW`" in sentence
        assert "w: `exp_avg`" in sentence
        assert "full_tensor" in sentence
        assert same


def test_parts_that_do_not_fit_begin_afresh_if_asked(two):
    assert two(parts_into_a_whole, False) == [("", 1.0)] * 2
