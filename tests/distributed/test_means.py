"""Contract 46: what ranks decide by, such as the loss, is its mean over them, the same on all."""

import pytest
import torch
import torch.distributed as dist
from torch import nn

import funcopt as fo
from funcopt._core.ranks import Ranks
from funcopt._numerics import shards
from funcopt.errors import ExtraArgumentError

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


def on_crossed_meshes(grid, values=(0.0, 1.0, 2.0, 3.0)):
    """One parameter is cut over the rows of a grid of ranks, one over its columns."""
    from torch.distributed.device_mesh import DeviceMesh

    mesh = DeviceMesh("cpu", torch.tensor(grid), mesh_dim_names=("rows", "columns"))
    params = [(name, cut(torch.ones(4), mesh[name])) for name in mesh.mesh_dim_names]
    return shown(params, values[dist.get_rank()])


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


# Whatever a loss is.


def of_dtype(value):
    return shown([("w", cut(torch.ones(4)))], value)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (torch.tensor(4e4, dtype=torch.float16), torch.float16),  # the sum is beyond 65504
        (torch.tensor(2.0**25 + 1, dtype=torch.float64), torch.float64),
        (2.0**25 + 1, torch.float64),
        (torch.tensor(3), torch.float64),
    ],
    ids=["float16", "float64", "a number", "int64"],
)
def test_the_mean_of_equal_losses_is_that_loss(two, value, dtype):
    for found in two(of_dtype, value):
        assert (found.item(), found.dtype) == (float(value), dtype)


def test_a_mean_over_two_groups_is_rounded_once(four):
    """That over one of them, 1 + 2^-8, is no number of bfloat16."""
    losses = torch.tensor([1.0, 1 + 2**-7, 1 + 2**-7, 1 + 2**-7], dtype=torch.bfloat16)
    for found in four(on_crossed_meshes, GRIDS["in order"], list(losses)):
        assert torch.equal(found, losses.double().mean().bfloat16())


def in_parts(how):
    """A loss whose summands lie on the ranks, or copies of it."""
    from torch.distributed.tensor import DTensor, Partial, Replicate

    p = cut(torch.ones(4))
    mine, place = (1.0 + dist.get_rank(), Partial()) if how[0] == "sum" else (3.0, Replicate())
    loss = DTensor.from_local(torch.tensor(mine), p.device_mesh, [place])
    if how[1] == "given":
        return shown([("w", p)], loss)

    def by_value(updates, state, params, *, value_fn):
        value, _ = fo.value_and_grad(value_fn)(params)
        return fo.tree.map(lambda p: value * torch.ones_like(p), params), state

    def closure():
        p.grad = torch.ones_like(p)
        return loss

    opt = fo.Optimizer([("w", p)], fo.chain(fo.from_functions(lambda params: (), by_value)))
    opt.step(closure)
    return p.detach().to_local()[0] - 1.0


@pytest.mark.filterwarnings("ignore:.*would increase the loss")
@pytest.mark.parametrize("what", ["sum", "copies"])
@pytest.mark.parametrize("how", ["given", "evaluated"])
def test_a_loss_in_parts_is_put_together(two, what, how):
    assert [float(x) for x in two(in_parts, (what, how))] == [3.0, 3.0]


def followed(detach):
    x = torch.ones(2, requires_grad=True)
    p = 1.0 * x
    opt = fo.Optimizer([("w", p)], seen(), differentiable=True, measure_group=dist.group.WORLD)
    p.grad = torch.ones(2)
    loss = p.sum()
    try:
        opt.step(value=loss.detach() if detach else loss)
    except ExtraArgumentError as error:
        return str(error)
    return float(opt.metrics()["loss"])


def test_a_loss_that_autograd_follows_is_refused(two):
    """Its mean over ranks has no derivative here."""
    for message in two(followed, False):
        assert message.startswith("`Optimizer.step`: `value` requires grad, and is averaged over")
    assert two(followed, True) == [2.0, 2.0]


def without_gradients():
    """Rank 0 has none, and makes a step of no tensors."""
    p = nn.Parameter(torch.ones(2))
    opt = fo.Optimizer([("w", p)], seen(), measure_group=dist.group.WORLD)
    if dist.get_rank():
        p.grad = torch.ones(2)
    opt.step(value=float(dist.get_rank()))
    return float(opt.metrics()["loss"])


def test_a_rank_without_gradients_joins_with_its_loss(two):
    assert two(without_gradients) == [0.5, 0.5]


# Which numbers are means.


class own_names(fo.TensorRule):
    """Of its two numbers, the first is a mean."""

    elementwise = True
    metrics = ("accuracy", "batches")
    mean_extra = ("accuracy",)

    def conclude(self, s, memory, total, *, batches, accuracy):
        return {"accuracy": accuracy, "batches": batches}, memory

    def update_tensor(self, g, slots, p, s):
        return -g, slots


NESTED = {
    "alone": lambda: own_names(),
    "in a chain": lambda: fo.chain(own_names(), fo.scale(0.1)),
    "in a condition": lambda: fo.skip_if(fo.chain(own_names(), fo.scale(0.1))),
    "in a partition": lambda: fo.partition({"a": own_names()}, lambda name, p: "a"),
}


def with_own_names(name, engine):
    rank, p = dist.get_rank(), cut(torch.ones(4))
    opt = fo.Optimizer([("w", p)], NESTED[name](), engine=engine)
    p.grad = torch.ones_like(p)
    given = [("accuracy", 0.5 + rank), ("batches", 2 * rank)]
    opt.step(**dict(given if rank else given[::-1]))
    shown = opt.metrics()
    return [float(x) for key in own_names.metrics for k, x in shown.items() if k.endswith(key)]


@pytest.mark.parametrize("engine", ["eager", "foreach"])
@pytest.mark.parametrize("name", NESTED)
def test_a_rule_says_which_of_its_numbers_are_means(two, name, engine):
    assert two(with_own_names, name, engine) == [[1.0, 0.0], [1.0, 2.0]]


class by_itself(seen):
    """Decides by the loss of its own rank."""

    mean_extra = ()


def of_its_own():
    return shown([("w", cut(torch.ones(4)))], dist.get_rank(), fo.chain(by_itself(), fo.scale(1.0)))


def test_a_rule_may_have_the_loss_of_its_rank(two):
    assert [float(x) for x in two(of_its_own)] == [0.0, 1.0]


# Steps that are begun again.


def begun_again():
    known, count = shards.all_reduce, 0

    def all_reduce(*args):
        nonlocal count
        count += 1
        return known(*args)

    ranks = Ranks([(nn.Parameter(torch.ones(2)), dist.group.WORLD)])
    shards.all_reduce = all_reduce
    try:
        ranks.begin()
        first = ranks.mean(float(dist.get_rank()))
        ranks.again()
        return float(first), float(ranks.mean(float(dist.get_rank()))), count
    finally:
        shards.all_reduce = known


def test_a_step_that_is_begun_again_exchanges_no_mean_again(two):
    assert two(begun_again) == [(0.5, 0.5, 1)] * 2
