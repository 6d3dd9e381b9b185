"""Parameters in 16 bits, and slots in fewer, of sharded tensors."""

import os

import pytest
import torch
import torch.distributed as dist

import funcopt as fo

STEPS = 4
ROUNDINGS = ["stochastic", "kahan", "remainder8", "remainder", "master"]


def chain(how):
    return fo.rounded(fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(0.01)), how)


def grads(shape, k):
    return torch.randn(shape, generator=torch.manual_seed(k)).bfloat16()


def stepped(p, tx, engine, cut=lambda g: g):
    opt = fo.Optimizer([("w", p)], tx, engine=engine)
    for k in range(STEPS):
        p.grad = cut(grads(p.shape, k))
        opt.step()
    return opt


def start(shape):
    return torch.randn(shape, generator=torch.manual_seed(9)).bfloat16()


def on_parts(shape, dim, how, engine):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))

    def cut(x):
        return distribute_tensor(x, mesh, [Shard(dim)])

    p = torch.nn.Parameter(cut(start(shape)))
    opt = stepped(p, chain(how), engine, cut)
    return p.detach().full_tensor(), opt.engine


@pytest.mark.parametrize("engine", ["eager", "fused"])
@pytest.mark.parametrize("how", ROUNDINGS)
@pytest.mark.parametrize(("shape", "dim"), [((4, 128), 0), ((5, 3), 0), ((4, 6), 1)])
def test_parts_are_rounded_as_the_whole_is(two, shape, dim, how, engine):
    whole = torch.nn.Parameter(start(shape))
    stepped(whole, chain(how), engine)
    for found, _ in two(on_parts, shape, dim, how, engine):
        assert torch.equal(found, whole.detach())


def test_kernels_draw_random_bits_of_parts(two):
    for _, engine in two(on_parts, (4, 128), 0, "stochastic", "fused"):
        assert engine == "fused"


def quantized_on_parts(folder, form, engine, kernels):
    import torch.distributed.checkpoint as dcp
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    os.environ["FUNCOPT_KERNELS"] = kernels
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    shape = (67, 100)  # of which the second rank has fewer blocks

    def cut(x):
        return distribute_tensor(x, mesh, [Shard(0)])

    def run(p, opt, steps):
        for k in steps:
            p.grad = cut(grads(shape, k).float())
            opt.step()

    def fresh():
        p = torch.nn.Parameter(cut(start(shape).float()))
        return p, fo.Optimizer([("w", p)], fo.quantized(fo.adamw(0.01), form), engine=engine)

    p, opt = fresh()
    run(p, opt, range(2))
    saved = {"w": p.detach(), **opt.state_dict()["state"][0]}
    dcp.save(saved, checkpoint_id=f"{folder}/{form}")
    half = p.detach().full_tensor()
    run(p, opt, range(2, STEPS))
    q, again = fresh()
    again.init_state()
    loaded = {"w": q.detach(), **again.state_dict()["state"][0]}
    dcp.load(loaded, checkpoint_id=f"{folder}/{form}")
    state = again.state_dict()
    state["state"][0] = {k: x for k, x in loaded.items() if k != "w"}
    with torch.no_grad():
        q.copy_(loaded["w"])
    again.load_state_dict(state)
    assert torch.equal(q.detach().full_tensor(), half)
    run(q, again, range(2, STEPS))
    mine = q.detach().full_tensor()
    assert torch.equal(mine, p.detach().full_tensor())
    return mine


@pytest.mark.parametrize(
    ("engine", "kernels"),
    [("eager", ""), ("foreach", ""), ("fused", "bytecode"), ("fused", "interpreted")],
)
@pytest.mark.parametrize("form", ["8bit", "4bit", "bf16+8"])
def test_codes_of_parts_are_saved_and_loaded_exactly(two, form, engine, kernels, tmp_path):
    """And close to those of the whole, which has other blocks."""
    first, second = two(quantized_on_parts, str(tmp_path), form, engine, kernels)
    assert torch.equal(first, second)
    whole = torch.nn.Parameter(start((67, 100)).float())
    opt = fo.Optimizer([("w", whole)], fo.quantized(fo.adamw(0.01), form))
    for k in range(STEPS):
        whole.grad = grads(whole.shape, k).float()
        opt.step()
    assert (first - whole.detach()).abs().mean() < 2e-3


def accumulated_on_parts(on_parts):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))

    def cut(x):
        return distribute_tensor(x, mesh, [Shard(0)]) if on_parts else x

    shape = (67, 10)
    p = torch.nn.Parameter(cut(start(shape).float()))
    tx = fo.quantized(fo.accumulate(fo.adamw(0.01), 2), "bf16+8", min_size=0)
    opt = fo.Optimizer([("w", p)], tx)
    for k in range(4):
        p.grad = cut(grads(shape, k).float()) if k != 1 else None
        opt.step()
    return p.detach().full_tensor() if on_parts else p.detach()


def test_an_update_is_due_by_what_codes_say_on_parts_too(two):
    whole = accumulated_on_parts
    for parts, alone in zip(two(whole, True), two(whole, False), strict=True):
        assert torch.equal(parts, alone)
