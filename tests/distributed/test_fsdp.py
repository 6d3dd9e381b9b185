"""Contract 42, 43: parameters that are cut over the ranks, and their checkpoints."""

from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)

import funcopt as fo
from funcopt import optim
from funcopt.errors import StructureError

from ..contract.common import OPTIMIZERS, loss_of, model, train
from .work import alone, gap, loss_of_part, params_of, step


def cut_model():
    """Each layer is a unit; the last one has a single row, so one rank has nothing of it."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    net = model()
    for layer in (net[0], net[2]):
        fully_shard(layer, mesh=mesh)
    return fully_shard(net, mesh=mesh)


def trained(name, steps):
    net = cut_model()
    opt = OPTIMIZERS[name](net)
    for _ in range(steps):
        step(net, opt)
    kept = [(p, value) for p, stored in opt.state.items() for value in stored.values()]
    slots = {type(value).__name__ for p, value in kept if value.shape == p.shape}
    others = {type(value).__name__ for p, value in kept if value.shape != p.shape}
    return params_of(net), slots, others


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_cut_parameters_step_as_whole_ones(two, name):
    """Contract 43: sums over tensors included; the state is cut as the parameters are."""
    (first, slots, others), (second, *_) = two(trained, name, 6)
    assert gap(first, second) == 0.0
    assert gap(first, alone(name, 6)) <= 1e-9
    assert slots <= {"DTensor"}
    assert others == {"Tensor"}


def without_some_gradients(name, steps):
    """The second layer is frozen; the ranks still meet in every sum."""
    net = cut_model()
    net[2].requires_grad_(False)
    opt = OPTIMIZERS[name](net)
    for _ in range(steps):
        step(net, opt)
    return params_of(net)


@pytest.mark.parametrize("name", ["AdamW", "chain", "skip outliers"])
def test_frozen_layers_are_left_alone(two, name):
    """Contract 12, 43."""
    first, second = two(without_some_gradients, name, 4)
    net = model()
    net[2].requires_grad_(False)
    train(net, OPTIMIZERS[name](net), 4)
    assert gap(first, second) == 0.0
    assert gap(first, params_of(net)) <= 1e-9


def clipped_by_torch():
    net = cut_model()
    opt = OPTIMIZERS["AdamW"](net)
    for _ in range(4):
        opt.zero_grad()
        loss_of_part(net).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.05)
        opt.step()
    return params_of(net)


def test_clipping_by_torch_and_by_the_chain_are_one(two):
    """Contract 43."""
    first, _ = two(clipped_by_torch)
    assert gap(first, alone("chain", 4)) <= 1e-9


MODES = {
    "plain": {},
    "flattened": {"flatten_optimizer_state_dict": True},
    "full": {"full_state_dict": True},
    "from rank 0": {"full_state_dict": True, "broadcast_from_rank0": True},
}


def round_trip(name, mode):
    options = StateDictOptions(**mode)
    net = cut_model()
    opt = OPTIMIZERS[name](net)
    for _ in range(3):
        step(net, opt)
    opt.zero_grad()
    of_net, of_opt = get_state_dict(net, opt, options=options)
    if mode.get("broadcast_from_rank0") and dist.get_rank():
        of_net, of_opt = {}, {}
    again = cut_model()
    other = OPTIMIZERS[name](again)
    set_model_state_dict(again, of_net, options=options)
    set_optimizer_state_dict(again, other, of_opt, options=options)
    for _ in range(3):
        step(net, opt)
        step(again, other)
    return gap(params_of(net), params_of(again))


@pytest.mark.parametrize(
    "name",
    ["AdamW", "SGD", "chain", "schedule", "skip outliers", "partition", "Muon", "SOAP"],
)
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_a_state_makes_the_round_trip(two, name, mode):
    """Contract 42, 43: a fresh optimizer of a fresh model goes on to the bit."""
    assert two(round_trip, name, mode) == [0.0, 0.0]


def probed(name):
    net = cut_model()
    opt = OPTIMIZERS[name](net)
    before = params_of(net)
    get_state_dict(net, opt)
    steps = {float(stored["step"]) for stored in opt.state.values()}
    return gap(before, params_of(net)), steps


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_asking_a_fresh_optimizer_for_its_state_changes_nothing(two, name):
    """Contract 41, 43."""
    assert two(probed, name) == [(0.0, {0.0})] * 2


def saved(name, folder):
    net = cut_model()
    opt = OPTIMIZERS[name](net)
    for _ in range(3):
        step(net, opt)
    opt.zero_grad()
    of_net, of_opt = get_state_dict(net, opt)
    dcp.save({"net": of_net, "opt": of_opt}, checkpoint_id=folder)
    for _ in range(3):
        step(net, opt)
    return params_of(net)


def loaded(name, folder):
    net = cut_model()
    opt = OPTIMIZERS[name](net)
    of_net, of_opt = get_state_dict(net, opt)
    dcp.load({"net": of_net, "opt": of_opt}, checkpoint_id=folder)
    set_state_dict(net, opt, model_state_dict=of_net, optim_state_dict=of_opt)
    for _ in range(3):
        step(net, opt)
    return params_of(net)


every_chain = pytest.mark.parametrize(
    "name", ["AdamW", "SGD", "chain", "skip outliers", "average", "Muon", "SOAP"]
)


@every_chain
def test_two_ranks_load_what_two_ranks_saved(two, name, tmp_path):
    """Contract 42."""
    first, _ = two(saved, name, tmp_path)
    again, _ = two(loaded, name, tmp_path)
    assert gap(first, again) == 0.0


@every_chain
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_one_process_loads_what_two_ranks_saved(two, name, tmp_path):
    """Contract 42: 2 -> 1."""
    first, _ = two(saved, name, tmp_path)
    net = model()
    opt = OPTIMIZERS[name](net)
    of_net, of_opt = get_state_dict(net, opt)
    dcp.load({"net": of_net, "opt": of_opt}, checkpoint_id=tmp_path, no_dist=True)
    set_state_dict(net, opt, model_state_dict=of_net, optim_state_dict=of_opt)
    for _ in range(3):
        step(net, opt, loss=loss_of)
    assert gap(first, params_of(net)) <= 1e-9


@every_chain
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_two_ranks_load_what_one_process_saved(two, name, tmp_path):
    """Contract 42: 1 -> 2."""
    net = model()
    opt = OPTIMIZERS[name](net)
    train(net, opt, 3)
    opt.zero_grad()
    of_net, of_opt = get_state_dict(net, opt)
    dcp.save({"net": of_net, "opt": of_opt}, checkpoint_id=tmp_path, no_dist=True)
    train(net, opt, 3)
    again, _ = two(loaded, name, tmp_path)
    assert gap(again, params_of(net)) <= 1e-9


def saved_in_eval_mode(name, folder):
    net = cut_model()
    opt = OPTIMIZERS[name](net)
    for _ in range(3):
        step(net, opt)
    opt.zero_grad()
    opt.eval()
    averages = params_of(net)
    of_net, of_opt = get_state_dict(net, opt)
    dcp.save({"net": of_net, "opt": of_opt}, checkpoint_id=folder)
    opt.train()
    for _ in range(3):
        step(net, opt)
    return averages, params_of(net)


def loaded_in_eval_mode(name, folder):
    net = cut_model()
    opt = OPTIMIZERS[name](net)
    opt.eval()
    of_net, of_opt = get_state_dict(net, opt)
    dcp.load({"net": of_net, "opt": of_opt}, checkpoint_id=folder)
    set_state_dict(net, opt, model_state_dict=of_net, optim_state_dict=of_opt)
    averages = params_of(net)
    opt.train()
    for _ in range(3):
        step(net, opt)
    return averages, params_of(net)


@pytest.mark.parametrize("name", ["average", "schedule_free", "lookahead"])
def test_a_checkpoint_of_eval_mode_goes_on_to_the_bit(two, name, tmp_path):
    """Contract 42: what is loaded has to find the mode that was saved."""
    first, _ = two(saved_in_eval_mode, name, tmp_path)
    again, _ = two(loaded_in_eval_mode, name, tmp_path)
    assert gap(first[0], first[1]) > 0.0
    assert [gap(*pair) for pair in zip(first, again, strict=True)] == [0.0, 0.0]


def placed(of_param, of_grad):
    """A parameter of four zeros and its gradient, whose parts on the ranks are put together so."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

    places = {"copies": Replicate(), "parts": Shard(0), "summands": Partial()}
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    whole = torch.arange(4.0)
    local = {"copies": whole, "parts": whole.chunk(2)[dist.get_rank()], "summands": whole / 2}
    zeros = torch.zeros_like(local[of_param])
    p = torch.nn.Parameter(DTensor.from_local(zeros, mesh, [places[of_param]]))
    p.grad = DTensor.from_local(local[of_grad], mesh, [places[of_grad]])
    opt = fo.Optimizer([p], fo.chain(fo.clip_by_global_norm(1e3), fo.sgd(1.0)))
    opt.step()
    return p.detach().full_tensor().tolist(), float(opt.metrics()["grad_norm"])


@pytest.mark.parametrize("of_grad", ["copies", "parts", "summands"])
@pytest.mark.parametrize("of_param", ["copies", "parts"])
def test_a_gradient_may_be_cut_otherwise_than_its_parameter(two, of_param, of_grad):
    """Contract 43."""
    for values, norm in two(placed, of_param, of_grad):
        assert values == [0.0, -1.0, -2.0, -3.0]
        assert norm == pytest.approx(14.0**0.5)


class Grams(NamedTuple):
    rows: torch.Tensor
    columns: torch.Tensor
    mean: torch.Tensor


class adding_grams(fo.TensorRule):
    """Slots of other shapes than the parameter, beside one of the same shape."""

    elementwise = False

    def init_tensor(self, p):
        rows, columns = (torch.zeros(n, n, dtype=p.dtype) for n in p.shape)
        return Grams(rows, columns, torch.zeros_like(p))

    def update_tensor(self, g, slots, p, s):
        new = Grams(slots.rows + g @ g.mT, slots.columns + g.mT @ g, slots.mean + g)
        return new.rows @ new.mean @ new.columns, new


def with_grams(cut, shape):
    whole = torch.arange(float(torch.Size(shape).numel())).reshape(shape) / 10
    p = torch.nn.Parameter(whole)
    if cut:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.tensor import Shard, distribute_tensor

        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        p = torch.nn.Parameter(distribute_tensor(whole, mesh, [Shard(0)]))
    opt = fo.Optimizer([p], fo.chain(adding_grams(), fo.scale(-1e-3)))
    for _ in range(3):
        p.grad = p.detach().cos()
        opt.step()
    value = p.detach().full_tensor() if cut else p.detach()
    slots = [x for x in opt.state[p].values() if x.dim()]
    found = [x.full_tensor() if hasattr(x, "full_tensor") else x for x in slots]
    return value, [type(x).__name__ for x in slots], found


@pytest.mark.parametrize("shape", [(4, 2), (4, 4), (1, 1), (1, 3), (2, 4)], ids=str)
def test_slots_of_another_shape_are_whole_on_every_rank(two, shape):
    """Contract 43: also where they happen to have the shape of a part, or of the parameter."""
    expected, _, slots = with_grams(False, shape)
    for value, kinds, found in two(with_grams, True, shape):
        assert kinds == ["Tensor", "Tensor", "DTensor"]
        torch.testing.assert_close([value, *found], [expected, *slots], rtol=1e-6, atol=1e-6)


class summing_rows(fo.TensorRule):
    """Entries see one another, so a part of the tensor is not enough."""

    elementwise = False

    def update_tensor(self, g, slots, p, s):
        return g.flip(0).cumsum(0), slots


def with_rows_that_see_one_another(cut):
    net = cut_model() if cut else model()
    tx = fo.chain(summing_rows(), fo.trace(0.9), fo.scale(-1e-2))
    opt = fo.Optimizer(net.parameters(), tx)
    for _ in range(3):
        step(net, opt) if cut else train(net, opt, 1)
    return params_of(net)


def test_a_rule_that_is_not_elementwise_sees_whole_tensors(two):
    """Contract 43."""
    first, second = two(with_rows_that_see_one_another, True)
    assert gap(first, second) == 0.0
    assert gap(first, with_rows_that_see_one_another(False)) <= 1e-9


class Mean(NamedTuple):
    mean: torch.Tensor


class turned(fo.TensorRule):
    """Sees gradients and slots whole."""

    def init_tensor(self, p):
        return Mean(torch.zeros_like(p))

    def update_tensor(self, g, slots, p, s):
        mean = torch.lerp(slots.mean, g, 0.5)
        return mean.flip(0), Mean(mean)


class turned_with_params(turned):
    needs_params = True


class finished(turned):
    """Sees its update whole, and nothing else."""

    def update_tensor(self, g, slots, p, s):
        mean = torch.lerp(slots.mean, g, 0.5)
        return mean * 1.0, Mean(mean)

    def finish_tensor(self, u, p, s):
        return u.flip(0)


class finished_with_params(finished):
    needs_params = True


GATHERED = {
    "turned": (turned(), 2),
    "turned, with parameters": (turned_with_params(), 3),
    "finished": (finished(), 1),
    "finished, with parameters": (finished_with_params(), 2),
    "orthogonalize": (fo.orthogonalize(), 1),
    "muon": (fo.scale_by_muon(), 1),
}


def gathers(tx):
    """How many tensors a step gathers, for a single parameter, and what it makes of that."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor
    from torch.distributed.tensor.debug import CommDebugMode

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    whole = torch.arange(24.0).reshape(6, 4).sin()
    w = torch.nn.Parameter(distribute_tensor(whole, mesh, [Shard(0)]))
    opt = fo.Optimizer([w], fo.chain(tx, fo.scale(-0.1)))
    alone = torch.nn.Parameter(whole.clone())
    other = fo.Optimizer([alone], fo.chain(tx, fo.scale(-0.1)))
    for t in range(3):
        alone.grad = (whole + t).cos()
        w.grad = distribute_tensor(alone.grad, mesh, [Shard(0)])
        with CommDebugMode() as talk:
            opt.step()
        other.step()
    return talk.get_total_counts(), (w.full_tensor() - alone).abs().max().item()


@pytest.mark.parametrize(("tx", "count"), GATHERED.values(), ids=GATHERED)
def test_only_what_a_rule_sees_is_gathered(two, tx, count):
    for total, gap_to_alone in two(gathers, tx):
        assert total == count
        assert gap_to_alone <= 1e-6


def offloaded(when):
    """The error of an optimizer with its state on the host, for parameters that are sharded."""
    net = cut_model() if when == "before" else model()
    try:
        opt = optim.AdamW(net.named_parameters(), offload=True)
        for group in opt.param_groups:
            group["params"] = list(cut_model().parameters())
        opt.init_state()
    except StructureError as error:
        return str(error)
    return "none"


@pytest.mark.parametrize("when", ["before", "after"])
def test_shards_are_not_offloaded(two, when):
    for said in two(offloaded, when):
        assert said.startswith("`AdamW`: `offload=True` is for parameters that are whole")
        assert "`0.weight` is sharded" in said
        assert "CPUOffloadPolicy()" in said
