"""Parts of a tensor get the random numbers of the whole."""

import pytest
import torch
import torch.distributed as dist

import funcopt as fo

NOISE = fo.chain(fo.add_noise(1.0, 0.5, seed=3), fo.scale_by_learning_rate(1.0))


def noise_on_parts(shape, dim, dtype):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    place = [Replicate() if dim is None else Shard(dim)]
    p = torch.nn.Parameter(distribute_tensor(torch.zeros(shape, dtype=dtype), mesh, place))
    opt = fo.Optimizer([("w", p)], NOISE)
    for _ in range(2):
        p.grad = torch.zeros_like(p)
        opt.step()
    return p.detach().full_tensor()


def noise_on_the_whole(shape, dtype):
    p = torch.nn.Parameter(torch.zeros(shape, dtype=dtype))
    opt = fo.Optimizer([("w", p)], NOISE)
    for _ in range(2):
        p.grad = torch.zeros_like(p)
        opt.step()
    return p.detach()


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("dim", [None, 0, 1])
@pytest.mark.parametrize("shape", [(4, 6), (5, 3), (1, 2, 3)], ids=str)
def test_cut_in_any_way_it_is_the_noise_of_the_whole(two, shape, dim, dtype):
    first, second = two(noise_on_parts, shape, dim, dtype)
    assert torch.equal(first, second)
    assert torch.equal(first, noise_on_the_whole(shape, dtype))


KRON = fo.kron(0.1)


def fitted_on_parts(shape, dim):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    p = torch.nn.Parameter(distribute_tensor(torch.zeros(shape), mesh, [Shard(dim)]))
    opt = fo.Optimizer([("w", p)], KRON)
    for t in range(3):
        g = torch.arange(p.numel()).reshape(shape).add(t).sin()
        p.grad = distribute_tensor(g, mesh, [Shard(dim)])
        opt.step()
    return p.detach().full_tensor()


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("shape", [(4, 6), (5, 3), (1, 2)], ids=str)
def test_a_rule_that_sees_the_whole_draws_for_the_whole(two, shape, dim):
    first, second = two(fitted_on_parts, shape, dim)
    p = torch.nn.Parameter(torch.zeros(shape))
    opt = fo.Optimizer([("w", p)], KRON)
    for t in range(3):
        p.grad = torch.arange(p.numel()).reshape(shape).add(t).sin()
        opt.step()
    assert torch.equal(first, second)
    torch.testing.assert_close(first, p.detach(), rtol=1e-5, atol=1e-6)


def noise_on_a_grid(shape):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (1, dist.get_world_size()))
    p = torch.nn.Parameter(distribute_tensor(torch.zeros(shape), mesh, [Shard(0), Shard(0)]))
    opt = fo.Optimizer([("w", p)], NOISE)
    for _ in range(2):
        p.grad = torch.zeros_like(p)
        opt.step()
    return p.detach().full_tensor()


def test_on_a_mesh_of_two_dimensions_too(two):
    first, _ = two(noise_on_a_grid, (5, 2))
    assert torch.equal(first, noise_on_the_whole((5, 2), torch.float32))


GRADS = torch.sin(torch.arange(36.0).reshape(3, 4, 3))
PRIVATE = fo.dpsgd(0.1, 0.5, 1.0, momentum=0.9, seed=3)


def private_on_parts():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    p = torch.nn.Parameter(distribute_tensor(torch.ones(4, 3), mesh, [Shard(0)]))
    opt = fo.Optimizer([("w", p)], PRIVATE)
    for _ in range(3):
        p.grad_sample = distribute_tensor(GRADS, mesh, [Shard(1)])
        opt.step()
    return p.detach().full_tensor()


def test_examples_are_clipped_by_their_norm_over_all_parts(two):
    p = torch.nn.Parameter(torch.ones(4, 3))
    opt = fo.Optimizer([("w", p)], PRIVATE)
    for _ in range(3):
        p.grad_sample = GRADS
        opt.step()
    for found in two(private_on_parts):
        torch.testing.assert_close(found, p.detach())
