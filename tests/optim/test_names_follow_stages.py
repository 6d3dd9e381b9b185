"""Numbers in a group go with their stages, also where these are called something else."""

import pytest
import torch

import funcopt as fo


@pytest.mark.parametrize("how", ["drop", "by hand"])
def test_numbers_go_with_their_stages_where_names_change(how):
    """With the last matrix, the clip of matrices is gone: the other one needs no other name."""
    clipped = fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(0.1))
    tx = fo.chain(fo.clip_by_global_norm(2.0), fo.masked(clipped, lambda name, p: p.dim() > 1))
    w, b = (torch.nn.Parameter(torch.ones(shape)) for shape in ((2, 3), (3,)))
    opt = fo.Optimizer([("w", w), ("b", b)], fo.chain(tx, fo.scale(-1.0)))
    for p in (w, b):
        p.grad = torch.ones_like(p)
    opt.step()
    (group,) = opt.param_groups
    group["clip_by_global_norm/max_norm"] = 0.5
    if how == "drop":
        opt.drop("w")
    else:
        del opt.state[group["params"].pop(0)], group["param_names"][0]
    before = b.detach().clone()
    opt.step()
    assert group["max_norm"] == 0.5
    assert "lr" in group  # which schedulers ask for
    torch.testing.assert_close((before - b).norm().item(), 0.5, rtol=1e-5, atol=0.0)


def test_a_parameter_of_another_size_may_be_for_other_stages():
    clipped = fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(0.1))
    masked = fo.masked(clipped, lambda name, p: p.numel() > 5)
    tx = fo.chain(fo.clip_by_global_norm(2.0), masked, fo.scale(-1.0))
    p = torch.nn.Parameter(torch.ones(6))
    opt = fo.Optimizer([("p", p)], tx)
    p.grad = torch.ones(6)
    opt.step()
    (group,) = opt.param_groups
    group["clip_by_global_norm/max_norm"] = 0.5
    new = torch.nn.Parameter(torch.ones(2))
    opt.resize("p", new, torch.tensor([0, 1]))
    new.grad = torch.ones(2)
    opt.step()
    assert group["max_norm"] == 0.5
    assert group["param_names"] == ["p"]
    torch.testing.assert_close((1 - new.detach()).norm().item(), 0.5, rtol=1e-5, atol=0.0)
