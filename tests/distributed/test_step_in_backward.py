"""Steps inside of `backward` on several ranks: by FSDP2, on shards; not by DDP."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.nn.parallel import DistributedDataParallel

from funcopt.errors import StructureError

from ..contract.common import OPTIMIZERS, model
from ..optim.test_step_in_backward import NEED_OTHERS
from .test_fsdp import cut_model
from .work import gap, loss_of_part, params_of, step

NAMES = [name for name in OPTIMIZERS if name not in NEED_OTHERS]


def trained(name, in_backward):
    net = cut_model()
    opt = OPTIMIZERS[name](net)
    if in_backward:
        opt.step_in_backward()
    for _ in range(4):
        loss_of_part(net).backward()
        assert all((p.grad is None) == in_backward for p in net.parameters())
        opt.step()
        opt.zero_grad()
    return params_of(net), sorted(float(own["step"]) for own in opt.state.values())


@pytest.mark.parametrize("name", NAMES)
def test_shards_are_stepped_after_their_reduction(two, name):
    usual, _ = two(trained, name, False)
    first, second = two(trained, name, True)
    assert gap(first[0], second[0]) == 0.0
    assert gap(first[0], usual[0]) == 0.0
    assert first[1] == second[1] == usual[1]


def without_sync(in_backward):
    """Two micro-batches, of which FSDP2 reduces the sum."""
    net = cut_model()
    opt = OPTIMIZERS["AdamW"](net)
    if in_backward:
        opt.step_in_backward()
    for _ in range(3):
        for sync in (False, True):
            net.set_requires_gradient_sync(sync)
            (loss_of_part(net) / 2).backward()
        opt.step()
        opt.zero_grad()
    return params_of(net)


def test_micro_batches_that_are_not_reduced_wait(two):
    usual, _ = two(without_sync, False)
    first, second = two(without_sync, True)
    assert gap(first, usual) == gap(first, second) == 0.0


def loaded():
    net, again = cut_model(), cut_model()
    opt, other = OPTIMIZERS["AdamW"](net), OPTIMIZERS["AdamW"](again)
    for one in (opt, other):
        one.step_in_backward()
    for _ in range(3):
        step(net, opt)
    of_net, of_opt = get_state_dict(net, opt)
    set_state_dict(again, other, model_state_dict=of_net, optim_state_dict=of_opt)
    for _ in range(3):
        step(net, opt)
        step(again, other)
    return gap(params_of(net), params_of(again))


def test_a_state_makes_the_round_trip_with_hooks(two):
    assert two(loaded) == [0.0, 0.0]


def tensor_parallel(in_backward):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    whole = torch.arange(12.0).reshape(4, 3) / 10
    w = torch.nn.Parameter(distribute_tensor(whole, mesh, [Shard(0)]))
    b = torch.nn.Parameter(distribute_tensor(whole[:, 0], mesh, [Replicate()]))
    opt = OPTIMIZERS["LAMB"](torch.nn.ParameterList([w, b]))
    if in_backward:
        opt.step_in_backward()
    x = DTensor.from_local(torch.linspace(-1, 1, 6).reshape(2, 3), mesh, [Replicate()])
    for _ in range(3):
        torch.nn.functional.linear(x, w, b).square().sum().backward()
        opt.step()
        opt.zero_grad()
    return w.detach().full_tensor(), b.detach().full_tensor()


def test_parameters_that_are_cut_by_hand(two):
    (usual, _), (first, second) = two(tensor_parallel, False), two(tensor_parallel, True)
    for x, y, z in zip(usual, first, second, strict=True):
        assert torch.equal(x, y)
        assert torch.equal(x, z)


def of_ddp(wrapped_first):
    net = model()
    opt = OPTIMIZERS["AdamW"](net)
    if not wrapped_first:
        opt.step_in_backward()
    whole = DistributedDataParallel(net)
    try:
        opt.step_in_backward()
        loss_of_part(whole).backward()
    except StructureError as error:
        return str(error)
    return None


@pytest.mark.parametrize("wrapped_first", [True, False])
def test_gradients_of_ddp_are_averaged_too_late(two, wrapped_first):
    for said in two(of_ddp, wrapped_first):
        assert "`DistributedDataParallel` averages gradients over ranks" in said
        assert "fully_shard(model)" in said


def beside_ddp():
    """Another model is of no importance."""
    other = DistributedDataParallel(model())
    net = model()
    opt = OPTIMIZERS["AdamW"](net)
    opt.step_in_backward()
    step(net, opt)
    return len(list(other.parameters()))


def test_another_model_may_be_one_of_ddp(two):
    assert two(beside_ddp) == [4, 4]
