"""Contract 41, 43, 46: what a rank sees alone decides nothing that all ranks have to do."""

import os

import pytest
import torch
import torch.distributed as dist
from torch import nn

import funcopt as fo
from funcopt.engine import _tracer
from funcopt.engine._guards import Unsupported
from funcopt.errors import HyperparameterError

WIDE = (64, 8)


def mesh():
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh("cpu", (dist.get_world_size(),))


def cut(whole, over=None):
    from torch.distributed.tensor import Shard, distribute_tensor

    return nn.Parameter(distribute_tensor(whole.clone(), over or mesh(), [Shard(0)]))


def whole_of(p):
    return p.detach().full_tensor() if hasattr(p, "full_tensor") else p.detach()


def given(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


SUMS = {
    "a norm": fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(0.1, momentum=0.9)),
    "two norms": fo.chain(fo.clip_by_global_norm(5.0), fo.clip_by_global_norm(1.0), fo.sgd(0.1)),
    "of each": fo.lamb(1e-2),
    "a condition": fo.skip_if(
        fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(0.1)), fo.norm_outlier()
    ),
    "micro-batches": fo.accumulate(fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(0.1)), 2),
    "whole matrices": fo.chain(fo.clip_by_global_norm(1.0), fo.scale_by_muon(), fo.scale(-0.1)),
    "whole matrices, row by row": fo.chain(
        fo.clip_by_global_norm(1.0), fo.scale_by_muon(), fo.scale_by_normuon(), fo.scale(-0.1)
    ),
    "some whole matrices": fo.partition(
        {
            "wide": fo.chain(fo.scale_by_muon(), fo.scale(-0.1)),
            "rest": fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(0.1)),
        },
        lambda name, p: "wide" if p.shape == WIDE else "rest",
    ),
    "labels": fo.partition(
        {
            "wide": fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(1e-2)),
            "rest": fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(0.1)),
        },
        lambda name, p: "wide" if p.shape == WIDE else "rest",
    ),
}
each_sum = pytest.mark.parametrize("name", SUMS)


def stepped(name, engines, wrong_at=None):
    """Four steps of cut parameters, each rank by its own engine; those of the whole ones too."""
    os.environ["FUNCOPT_KERNELS"] = "interpreted"
    dtype = torch.float64 if "whole matrices" in name else torch.float32
    wholes = [given(WIDE, 0).to(dtype), given((5, 3), 1).to(dtype)]
    mine, alone = list(map(cut, wholes)), [nn.Parameter(x.clone()) for x in wholes]
    known, calls = _tracer.kernel_for, []

    def kernel_for(*args):
        calls.append(args)
        if wrong_at is not None and len(calls) > wrong_at and dist.get_rank() == 0:
            raise Unsupported("no kernel, all of a sudden")
        return known(*args)

    _tracer.kernel_for = kernel_for
    try:
        engine = engines[dist.get_rank()]
        for params, opt in (
            (mine, fo.Optimizer(mine, SUMS[name], engine=engine)),
            (alone, fo.Optimizer(alone, SUMS[name], engine="eager")),
        ):
            for t in range(4):
                for i, p in enumerate(params):
                    g = given(p.shape, 10 * t + i).to(dtype)
                    p.grad = g if params is alone else cut(g, p.device_mesh).detach()
                opt.step()
    finally:
        _tracer.kernel_for = known
    return [whole_of(p) for p in mine], [p.detach() for p in alone]


def close(found, expected):
    for p, q in zip(found, expected, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-5)


@each_sum
def test_ranks_may_make_their_steps_in_different_ways(two, name):
    """What crosses ranks has a form of its own, whatever the engine of each."""
    for found, expected in two(stepped, name, ["fused", "eager"]):
        close(found, expected)


@each_sum
@pytest.mark.parametrize("good", [0, 1, 2])
def test_a_kernel_that_cannot_be_made_repeats_no_sum(two, name, good):
    """The rank begins its step again, operation by operation, and the others do not wait."""
    for found, expected in two(stepped, name, ["fused", "fused"], good):
        close(found, expected)


def sums_of_narrow_numbers(engines):
    os.environ["FUNCOPT_KERNELS"] = "interpreted"
    p = cut(torch.ones(4))
    p.grad = cut(torch.tensor([1.0, 2.0, 3.0, 2.0**13]), p.device_mesh).detach()
    tx = fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(0.1))
    opt = fo.Optimizer([p], tx, engine=engines[dist.get_rank()])
    opt.step()
    return opt.metrics()["grad_norm"].item()


@pytest.mark.parametrize("engines", [["fused", "eager"], ["eager", "fused"], ["eager", "eager"]])
def test_all_ranks_have_the_same_norm_to_the_bit(two, engines):
    first, second = two(sums_of_narrow_numbers, engines)
    assert first == second
    assert first == pytest.approx((14 + 2.0**26) ** 0.5)


def placed_otherwise(engines):
    """Gradients that are summands, which are added up once, whatever the engine."""
    from torch.distributed.tensor import DTensor, Partial

    os.environ["FUNCOPT_KERNELS"] = "interpreted"
    p = cut(torch.zeros(4))
    opt = fo.Optimizer([p], SUMS["a norm"], engine=engines[dist.get_rank()])
    for _ in range(3):
        p.grad = DTensor.from_local(torch.arange(4.0) / 2, p.device_mesh, [Partial()])
        opt.step()
    return float(opt.metrics()["grad_norm"])


def test_gradients_are_placed_once_whatever_the_engine(two):
    assert two(placed_otherwise, ["fused", "eager"]) == pytest.approx([14.0**0.5] * 2)


def warm_up_from_zero(clip):
    from torch.distributed.fsdp import fully_shard

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    net[0].requires_grad_(False)
    fully_shard(net, mesh=mesh())
    tx = SUMS["a norm"] if clip else fo.adamw(1e-3)
    opt = fo.Optimizer([p for p in net.parameters() if p.requires_grad], tx)
    scheduler = torch.optim.lr_scheduler.LambdaLR(opt, lambda i: min(1.0, i / 10))
    for _ in range(3):
        opt.zero_grad()
        net(torch.ones(4, 6, dtype=torch.float64)).square().mean().backward()
        opt.step()
        scheduler.step()
    return [float(stored["step"]) for stored in opt.state.values()]


@pytest.mark.parametrize("clip", [False, True])
def test_a_warm_up_from_zero_is_no_probe(two, clip):
    """Of the head's one row, rank 1 has nothing: its gradients are zero, as is the rate."""
    assert two(warm_up_from_zero, clip) == [[3.0, 3.0]] * 2


def owed(shapes):
    """A window in whose second half the first parameter has no gradient; so for the whole ones."""
    tx = fo.accumulate(fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(0.1)), 2)
    wholes = [given(shape, i) for i, shape in enumerate(shapes)]
    mine, alone = list(map(cut, wholes)), [nn.Parameter(x.clone()) for x in wholes]
    for params in (mine, alone):
        opt = fo.Optimizer(params, tx, engine="eager")
        for t in range(4):
            for i, p in enumerate(params):
                g = given(p.shape, 10 * t + i)
                p.grad = g if params is alone else cut(g, p.device_mesh).detach()
            if t % 2:
                params[0].grad = None
            opt.step()
    return [whole_of(p) for p in mine], [p.detach() for p in alone]


@pytest.mark.parametrize("shapes", [[(1, 3), (4, 3)], [(1, 3)]], ids=["beside another", "alone"])
def test_an_update_is_owed_on_all_ranks_also_where_a_part_is_empty(two, shapes):
    """Of one row, rank 1 has nothing; whether a window has begun, rank 0 tells it."""
    for found, expected in two(owed, shapes):
        close(found, expected)


# Ranks that hold other parameters.


def without_gradients(name, engine, group):
    """Rank 0 has no gradient, as a frozen stage of a pipeline."""
    os.environ["FUNCOPT_KERNELS"] = "interpreted"
    measure = dist.group.WORLD if group == "all" else lambda name, p: dist.group.WORLD
    ps = [nn.Parameter(given(WIDE, 0)), nn.Parameter(given((5, 3), 1))]
    opt = fo.Optimizer(ps, SUMS[name], engine=engine, measure_group=measure)
    alone = [nn.Parameter(p.detach().clone()) for p in ps]
    other = fo.Optimizer(alone, SUMS[name], engine="eager")
    before = [p.detach().clone() for p in ps]
    for t in range(4):
        for i, (p, q) in enumerate(zip(ps, alone, strict=True)):
            q.grad = given(p.shape, 10 * t + i)
            p.grad = q.grad.clone() if dist.get_rank() else None
        opt.step()
        other.step()
    return ps, alone if dist.get_rank() else before


@each_sum
@pytest.mark.parametrize("engine", ["eager", "fused"])
def test_a_rank_without_gradients_joins_with_nothing(two, name, engine):
    for found, expected in two(without_gradients, name, engine, "all"):
        close(found, expected)


def test_a_rank_without_gradients_joins_the_groups_of_its_parameters(two):
    for found, expected in two(without_gradients, "a norm", "eager", "each"):
        close(found, expected)


def without_a_label(engine):
    """Rank 0 has gradients for the one label, rank 1 for the other."""
    os.environ["FUNCOPT_KERNELS"] = "interpreted"
    ps = [nn.Parameter(torch.ones(WIDE)), nn.Parameter(torch.ones(5, 3))]
    opt = fo.Optimizer(ps, SUMS["labels"], engine=engine, measure_group=dist.group.WORLD)
    for _ in range(3):
        ps[dist.get_rank()].grad = torch.ones_like(ps[dist.get_rank()])
        opt.step()
    return sorted(float(x) for key, x in opt.metrics().items() if key.startswith("grad_norm"))


@pytest.mark.parametrize("engine", ["eager", "fused"])
def test_a_rank_without_gradients_of_a_label_joins_with_nothing(two, engine):
    for found in two(without_a_label, engine):
        assert found == pytest.approx([15.0**0.5, 512.0**0.5])


def began_late(name):
    """The gradients of rank 0 are there from the second step on."""
    p = nn.Parameter(torch.ones(4))
    opt = fo.Optimizer([p], SUMS[name], engine="eager", measure_group=dist.group.WORLD)
    for t in range(5):
        p.grad = torch.ones(4) if t or dist.get_rank() else None
        opt.step()
    return [float(v) for k, v in sorted(opt.state[p].items()) if v.dim() == 0 and k != "step"]


@pytest.mark.parametrize("name", ["a condition", "micro-batches"])
def test_what_all_share_goes_on_without_gradients(two, name):
    """Windows and averages are the same on all ranks, whenever each of them has begun."""
    first, second = two(began_late, name)
    late = sum(a != b for a, b in zip(first, second, strict=True))
    assert late <= 1  # the clock of the parameter itself


def experts(engine):
    """A dense weight in parts on all ranks, and on each rank experts of its own."""
    os.environ["FUNCOPT_KERNELS"] = "interpreted"
    dense = cut(torch.zeros(6))
    dense.grad = cut(torch.arange(6.0), dense.device_mesh).detach()
    copied = nn.Parameter(torch.zeros(2))
    copied.grad = torch.tensor([3.0, 1.0])
    expert = nn.Parameter(torch.zeros(3))
    expert.grad = torch.full((3,), 1.0 + dist.get_rank())
    params = [("dense", dense), ("copied", copied), ("experts.0", expert)]
    tx = fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(1.0))
    world = dist.group.WORLD
    opt = fo.Optimizer(
        params if dist.get_rank() else params[::-1],  # the order is another on each rank
        tx,
        engine=engine,
        measure_group=lambda name, p: world if "experts" in name else None,
    )
    opt.step()
    return float(opt.metrics()["grad_norm"])


@pytest.mark.parametrize("engine", ["eager", "fused"])
def test_the_group_may_be_that_of_a_parameter(two, engine):
    """Dense weights count once, and the experts of all ranks."""
    expected = (55.0 + 10.0 + 3 * 1.0 + 3 * 4.0) ** 0.5
    assert two(experts, engine) == pytest.approx([expected] * 2)


@pytest.mark.parametrize(
    "wrong", ["world", 3, lambda name, p: "world"], ids=["a name", "a number", "a function"]
)
def test_what_is_no_group_is_refused(wrong):
    p = nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    opt = fo.Optimizer([("w", p)], SUMS["a norm"], measure_group=wrong)
    with pytest.raises(HyperparameterError, match=r"`Optimizer`: `measure_group`.*process group"):
        opt.step()
    assert p.tolist() == [1.0, 1.0]


def closures():
    """Rank 0 has no gradients, and evaluates the loss as often as the other."""
    p = nn.Parameter(torch.ones(4))
    opt = fo.Optimizer([p], fo.sam(fo.sgd(0.1)), measure_group=dist.group.WORLD)
    calls = 0

    def closure():
        nonlocal calls
        calls += 1
        opt.zero_grad()
        loss = p.square().sum()
        if dist.get_rank():
            loss.backward()
        return loss.detach()

    for _ in range(2):
        opt.step(closure)
    return calls, float(p.detach().sum())


def test_the_loss_is_evaluated_on_ranks_without_gradients_too(two):
    (first, still), (second, moved) = two(closures)
    assert first == second == 4
    assert still == 4.0
    assert moved < 4.0


def searched(own):
    """Line searches, where each rank has other parameters, and another loss if `own`."""
    rank = dist.get_rank()
    p = nn.Parameter(given((3,), rank).double())
    group = dist.group.WORLD
    tx = fo.lbfgs(max_iter=6, line_search=fo.strong_wolfe())
    opt = fo.Optimizer([p], tx, measure_group=group, engine="eager")
    calls = 0

    def closure():
        nonlocal calls
        calls += 1
        opt.zero_grad()
        mine = (1.0 + 9.0 * rank) * p.square().sum() + p.pow(4).sum()
        mine.backward()
        if own:
            return 2.0 * mine.detach()  # the mean over both ranks is the whole loss
        loss = mine.detach().clone()
        dist.all_reduce(loss)
        return loss

    for _ in range(3):
        opt.step(closure)
    return calls, p.detach()


def test_searches_decide_alike_where_ranks_have_other_parameters(two):
    """By the mean of the losses; a rank that decided by its own would search on alone."""
    (first, p), (second, q) = two(searched, True)
    assert first == second > 6
    for (calls, found), expected in zip(two(searched, False), (p, q), strict=True):
        assert calls == first
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


class loss_above(fo.TensorRule):
    """A condition for `skip_if`: the loss is high."""

    limit: fo.typing.Scalar = 2.0
    elementwise = True
    memory_per = "tree"
    metrics = ("loss",)

    def conclude(self, s, memory, total, *, value):
        return {"skip": torch.as_tensor(value) > s.limit, "loss": value}, memory

    def update_tensor(self, g, slots, p, s):
        return g, slots


def skipped(how):
    """A condition on the loss, which each rank knows for its own part of the batch."""
    rank = dist.get_rank()
    group = dist.group.WORLD if how == "other parameters" else None
    p = nn.Parameter(torch.ones(3)) if group else cut(torch.ones(4))
    tx = fo.skip_if(fo.sgd(0.1), loss_above())
    opt = fo.Optimizer([p], tx, measure_group=group, engine="eager")
    found = []
    for mean in (1.5, 2.5, 1.0):
        p.grad = torch.ones_like(p)
        loss = mean + (1.0 if rank else -1.0)
        if mean == 1.0:
            opt.step(lambda loss=loss: torch.tensor(loss))
        else:
            opt.step(value=loss)
        found.append((float(opt.metrics()["loss"]), float(whole_of(p)[0])))
    return found


@pytest.mark.parametrize("how", ["other parameters", "other parts"])
def test_ranks_decide_alike_by_a_loss(two, how):
    """Each alone would skip another step: rank 1 the first, rank 0 none."""
    for found in two(skipped, how):
        losses, weights = zip(*found, strict=True)
        assert losses == (1.5, 2.5, 1.0)
        assert weights == pytest.approx([0.9, 0.9, 0.8])


def on_a_part_of_the_ranks():
    """An expert that lies on this rank alone comes first, and a weight in parts on all."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard

    both = init_device_mesh("cpu", (dist.get_world_size(), 1), mesh_dim_names=("ep", "dp"))
    expert = cut(given((3,), dist.get_rank()).double(), both["dp"])
    dense = cut(given((5,), 7).double())
    tx = fo.lbfgs(max_iter=6, line_search=fo.strong_wolfe())
    experts = dist.group.WORLD
    opt = fo.Optimizer(
        [("expert", expert), ("dense", dense)],
        tx,
        measure_group=lambda name, p: experts if name == "expert" else None,
        engine="eager",
    )
    calls = 0
    assert expert.placements == (Shard(0),)

    def closure():
        nonlocal calls
        calls += 1
        opt.zero_grad()
        of_expert = (1.0 + 9.0 * dist.get_rank()) * expert.to_local().square().sum()
        of_dense = dense.to_local().square().sum() + dense.to_local().pow(4).sum()
        (of_expert + of_dense).backward()
        return 2.0 * (of_expert + of_dense).detach()

    for _ in range(3):
        opt.step(closure)
    return calls, whole_of(dense)


def test_searches_decide_alike_whatever_the_mesh_of_the_first_parameter(two):
    (first, p), (second, q) = two(on_a_part_of_the_ranks)
    assert first == second > 6
    assert torch.equal(p, q)


def on_two_meshes(name, engine):
    """Two tensors whose parts are exchanged in different groups, in another order on each rank."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    os.environ["FUNCOPT_KERNELS"] = "interpreted"
    size, places = dist.get_world_size(), [Shard(0), Replicate()]
    params = []
    for i, shape in enumerate([(size, 1), (1, size)]):
        mesh = init_device_mesh("cpu", shape)
        own = places if i == 0 else places[::-1]
        p = nn.Parameter(distribute_tensor(given((4,), i), mesh, own))
        p.grad = distribute_tensor(given((4,), 10 + i), mesh, own)
        params.append((f"w{i}", p))
    order = params if dist.get_rank() else params[::-1]
    opt = fo.Optimizer(order, SUMS[name], engine=engine)
    opt.step()
    return [whole_of(p) for _, p in params]


@pytest.mark.parametrize("engine", ["eager", "fused"])
@pytest.mark.parametrize("name", ["a norm", "of each"])
def test_groups_are_gone_through_in_an_order_of_their_own(two, name, engine):
    """Not in that of the parameters."""
    alone = [nn.Parameter(given((4,), i)) for i in range(2)]
    for i, p in enumerate(alone):
        p.grad = given((4,), 10 + i)
    fo.Optimizer(alone, SUMS[name], engine="eager").step()
    for found in two(on_two_meshes, name, engine):
        close(found, [p.detach() for p in alone])


def on_two_dimensions(name):
    """One parameter is cut over the rows of a mesh, one over its columns; the order is a rank's."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    mesh, places = init_device_mesh("cpu", (2, 2)), [Shard(0), Replicate()]
    params = []
    for i, own in enumerate([places, places[::-1]]):
        p = nn.Parameter(distribute_tensor(given((4,), i), mesh, own))
        p.grad = distribute_tensor(given((4,), 10 + i), mesh, own)
        params.append((f"w{i}", p))
    turned = dist.get_rank() in (0, 3)  # so that each group has one of both
    opt = fo.Optimizer(params[::-1] if turned else params, SUMS[name], engine="eager")
    opt.step()
    return [whole_of(p) for _, p in params]


@pytest.mark.parametrize("name", ["a norm", "of each"])
def test_groups_do_not_wait_for_each_other(four, name):
    """All ranks would, if the order of their parameters were that of the exchanges."""
    alone = [nn.Parameter(given((4,), i)) for i in range(2)]
    for i, p in enumerate(alone):
        p.grad = given((4,), 10 + i)
    fo.Optimizer(alone, SUMS[name], engine="eager").step()
    for found in four(on_two_dimensions, name):
        close(found, [p.detach() for p in alone])


class skipped_by_one(fo.not_finite):
    """A condition that rank 0 alone finds to be true."""

    def conclude(self, s, memory, total):
        found, after = super().conclude(s, memory, total)
        return {**found, "skip": torch.tensor(dist.get_rank() == 0)}, after


def apart(name, engine):
    """One rank leaves a step out, or is elsewhere in its window."""
    os.environ["FUNCOPT_KERNELS"] = "interpreted"
    p = nn.Parameter(torch.zeros(4))
    inner = fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(1.0))
    tx = fo.accumulate(inner, 2) if name == "window" else fo.skip_if(inner, skipped_by_one())
    opt = fo.Optimizer([p], tx, measure_group=dist.group.WORLD, engine=engine)
    fresh = opt.state_dict()
    for t in range(4):
        if t == 1 and name == "window" and dist.get_rank() == 0:
            opt.load_state_dict(fresh)
        p.grad = torch.ones(4)
        opt.step()
    return float(p.detach().abs().sum())


@pytest.mark.parametrize("engine", ["eager", "fused"])
@pytest.mark.parametrize("name", ["window", "condition"])
def test_ranks_that_do_something_else_still_meet(two, name, engine):
    first, second = two(apart, name, engine)
    assert second > 0.0
    assert (first > 0.0) == (name == "window")
