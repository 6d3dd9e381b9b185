"""Contract 46: what ranks decide by, such as the loss, is its mean over them, the same on all."""

import pytest
import torch
import torch.distributed as dist
from torch import nn

import funcopt as fo

from .test_alike import cut


class seen(fo.TensorRule):
    """Shows the loss that it is given."""

    elementwise = True
    metrics = ("loss",)

    def conclude(self, s, memory, total, *, value):
        return {"loss": value}, memory

    def update_tensor(self, g, slots, p, s):
        return -g, slots


def shown(params, value, tx=None, **options):
    """The loss that a rule of this rank is given."""
    opt = fo.Optimizer(params, tx or seen(), **options)
    for _, p in params:
        p.grad = torch.ones_like(p)
    opt.step(value=value)
    return opt.metrics()["loss"]


# Groups of equal size that cross.

GRIDS = {"in order": [[0, 1], [2, 3]], "out of order": [[0, 3], [1, 2]]}


def on_crossed_meshes(grid):
    """One parameter is cut over the rows of a grid of ranks, one over its columns."""
    from torch.distributed.device_mesh import DeviceMesh

    mesh = DeviceMesh("cpu", torch.tensor(grid), mesh_dim_names=("rows", "columns"))
    params = [(name, cut(torch.ones(4), mesh[name])) for name in mesh.mesh_dim_names]
    return shown(params, float(dist.get_rank()))


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_the_mean_over_crossed_meshes_is_that_over_all_ranks(four, grid):
    assert [float(x) for x in four(on_crossed_meshes, grid)] == [1.5] * 4


def in_crossed_groups():
    """The same for parameters of which other ranks hold others."""
    mine = {}
    for name, each in {"a": [[0, 1], [2, 3]], "b": [[0, 2], [1, 3]]}.items():
        for ranks in each:
            group = dist.new_group(ranks)
            if dist.get_rank() in ranks:
                mine[name] = group
    params = [(name, nn.Parameter(torch.ones(2))) for name in mine]
    value = float(dist.get_rank())
    return shown(params, value, measure_group=lambda name, p: mine[name])


def test_the_mean_over_crossed_groups_is_that_over_all_ranks(four):
    assert [float(x) for x in four(in_crossed_groups)] == [1.5] * 4
