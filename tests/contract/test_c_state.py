"""Contract C: the layout of `state`."""

import copy
import io

import pytest
import torch

import funcopt as fo
from funcopt.optim._state import StateStore

from .common import (
    OF_OTHER_SHAPES,
    OPTIMIZERS,
    every_kind,
    every_optimizer,
    gap,
    model,
    parameter,
    train,
)


@every_optimizer
def test_state_is_a_flat_dict_of_tensors_for_parameters_alone(make):
    """Contract 23."""
    net = model()
    opt = make(net)
    train(net, opt, 5)
    assert set(opt.state) <= set(net.parameters())
    for stored in opt.state.values():
        assert type(stored) is dict
        assert all(type(key) is str for key in stored)
        assert all(type(value) is torch.Tensor for value in stored.values())
        assert not any("." in key for key in stored)  # by which checkpoints join their keys


@every_optimizer
def test_a_saved_state_loads_with_weights_only(make):
    """Contract 23, 32."""
    net = model()
    opt = make(net)
    train(net, opt, 5)
    file = io.BytesIO()
    torch.save(opt.state_dict(), file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    net2 = copy.deepcopy(net)
    opt2 = make(net2)
    opt2.load_state_dict(saved)
    train(net, opt, 5)
    train(net2, opt2, 5)
    assert gap(net, net2) == 0.0


@every_optimizer
def test_there_is_no_state_before_the_first_step(make):
    """Contract 24."""
    opt = make(model())
    assert not opt.state
    assert opt.state_dict()["state"] == {}


@every_kind
def test_only_missing_entries_are_filled(kind):
    """Contract 24: what a user put there is used, not replaced."""
    net, again = model(), model()
    opt, plain = kind.make(net.parameters()), kind.make(again.parameters())
    train(again, plain, 3)
    net.load_state_dict(again.state_dict())
    kept = {}
    for p, q in zip(net.parameters(), again.parameters(), strict=True):
        opt.state[p].update({key: value.clone() for key, value in plain.state[q].items()})
        kept[p] = dict(opt.state[p])
    train(net, opt, 2)
    train(again, plain, 2)
    assert gap(net, again) == 0.0
    for p, entries in kept.items():
        assert all(opt.state[p][key] is value for key, value in entries.items())


@every_optimizer
def test_parameters_may_be_replaced_before_the_first_step(make):
    """Contract 24, 25: as accelerate does, first by placeholders and then by other tensors."""
    net, plain = model(), model()
    opt, expected = make(net), make(plain)
    for group in opt.param_groups:
        group["params"] = [torch.nn.Parameter(torch.empty(1)) for _ in group["params"]]
    assert opt.state_dict()["state"] == {}
    opt.load_state_dict(opt.state_dict())
    again = model()
    by_name = dict(again.named_parameters())
    for group, like in zip(opt.param_groups, expected.param_groups, strict=True):
        place = {id(p): name for name, p in plain.named_parameters()}
        group["params"] = [by_name[place[id(p)]] for p in like["params"]]
    train(again, opt, 4)
    train(plain, expected, 4)
    assert gap(again, plain) == 0.0
    assert len(opt.state_dict()["state"]) == len(opt.state)


@every_kind
def test_parameters_may_be_replaced_in_mid_training(kind):
    """Contract 25: the new one starts afresh, and keys of the old one do no harm to steps."""
    a, b = parameter(3), parameter(3)
    opt, fresh = kind.make([a]), kind.make([b])
    opt.step()
    other = parameter(3)
    opt.state.pop(a)
    opt.param_groups[0]["params"][0] = other
    before = a.detach().clone()
    opt.step()
    fresh.step()
    assert torch.equal(other, b)
    assert torch.equal(a, before)


@every_kind
def test_the_data_of_a_parameter_may_move(kind):
    """Contract 25: nothing is remembered by address."""
    net, again = model(), model()
    opt, plain = kind.make(net.parameters()), kind.make(again.parameters())
    for _ in range(4):
        for p in net.parameters():
            p.data = p.data.clone()
        train(net, opt, 1)
        train(again, plain, 1)
    assert gap(net, again) == 0.0


@every_optimizer
def test_tensors_of_the_state_keep_identity_and_storage(make):
    """Contract 26."""
    net = model()
    opt = make(net)
    train(net, opt, 1)
    before = {p: dict(stored) for p, stored in opt.state.items()}
    places = {p: {k: v.data_ptr() for k, v in stored.items()} for p, stored in before.items()}
    train(net, opt, 5)
    for p, stored in opt.state.items():
        assert stored.keys() == before[p].keys()
        for key, value in stored.items():
            assert value is before[p][key], key
            assert value.data_ptr() == places[p][key], key


@every_optimizer
def test_parameters_keep_identity_and_storage(make):
    """Contract 26."""
    net = model()
    opt = make(net)
    before = [(p, p.data_ptr()) for group in opt.param_groups for p in group["params"]]
    train(net, opt, 3)
    after = [(p, p.data_ptr()) for group in opt.param_groups for p in group["params"]]
    assert all(p is q and at == now for (p, at), (q, now) in zip(before, after, strict=True))


@every_optimizer
def test_there_are_no_empty_entries(make):
    """Contract 27: neither after a step nor after loading, saving and looking."""
    net = model()
    opt = make(net)
    for p in list(net.parameters())[2:]:
        p.requires_grad_(False)
    train(net, opt, 1)
    opt.metrics()
    opt.load_state_dict(opt.state_dict())
    train(net, opt, 1)
    assert len(opt.state) == 2
    assert all(opt.state.values())
    assert all(opt.state_dict()["state"].values())


@every_optimizer
def test_foreign_entries_survive(make):
    """Contract 28: steps, saving and loading."""
    net = model()
    opt = make(net)
    train(net, opt, 2)
    slow = {}
    for p in net.parameters():
        slow[p] = opt.state[p]["lookahead_slow_buff"] = torch.rand_like(p)
    train(net, opt, 2)
    assert all(opt.state[p]["lookahead_slow_buff"] is value for p, value in slow.items())
    net2 = model()
    opt2 = make(net2)
    opt2.load_state_dict(opt.state_dict())
    for (p, value), q in zip(slow.items(), net2.parameters(), strict=True):
        assert torch.equal(opt2.state[q]["lookahead_slow_buff"], value)
        assert opt.state[p].keys() == opt2.state[q].keys()
    train(net2, opt2, 2)


@every_optimizer
def test_foreign_entries_before_the_first_step_do_no_harm(make):
    """Contract 24, 28: the number of entries says nothing."""
    net, again = model(), model()
    opt, plain = make(net), make(again)
    for p in net.parameters():
        opt.state[p]["lookahead_slow_buff"] = torch.rand_like(p)
    train(net, opt, 4)
    train(again, plain, 4)
    assert gap(net, again) == 0.0


@every_optimizer
def test_the_step_is_a_0d_tensor(make):
    """Contract 29."""
    net = model()
    opt = make(net)
    train(net, opt, 3)
    for stored in opt.state.values():
        assert stored["step"].shape == ()
        assert stored["step"].device.type == "cpu"
        assert stored["step"] == 3


@every_optimizer
def test_0d_tensors_may_be_moved_and_torn_apart(make):
    """Contract 29: copies are not taken for one tensor, and dtypes are not relied upon."""
    net, again = model(), model()
    opt, plain = make(net), make(again)
    for _ in range(4):
        train(net, opt, 1)
        train(again, plain, 1)
        for stored in opt.state.values():
            for key, value in stored.items():
                stored[key] = value.to("cpu", copy=True)
    assert gap(net, again) == 0.0


def test_capturable_steps_stand_where_the_parameters_are():
    """Contract 29, 50: shown on the device that holds no data, which a CPU has too."""
    p = torch.nn.Parameter(torch.empty(2, device="meta"))
    for capturable in (True, False):
        opt = fo.optim.AdamW([p], capturable=capturable)
        opt.init_state()
        assert opt.state[p]["step"].device.type == ("meta" if capturable else "cpu")
        assert opt.state[p]["exp_avg"].device == p.device


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in OF_OTHER_SHAPES])
def test_entries_are_shaped_like_the_parameter_or_0d(name):
    """Contract 30: of the same keys for all parameters, and without NaN."""
    net = model()
    opt = OPTIMIZERS[name](net)
    train(net, opt, 3)
    for group in opt.param_groups:
        keys = {tuple(sorted(opt.state[p])) for p in group["params"]}
        assert len(keys) == 1
        for p in group["params"]:
            for value in opt.state[p].values():
                assert value.shape in (p.shape, ())
                assert not value.isnan().any()


def test_every_transformation_that_remembers_is_there():
    """Contract 23: what is public and keeps something stands in one of the optimizers above."""
    seen = "\n".join(repr(getattr(make(model()), "tx", "")) for make in OPTIMIZERS.values())
    for name in ("scale_by_adam", "trace", "ema_of_params", "accumulate", "skip_if", "partition"):
        assert f"{name}(" in seen


def test_what_all_parameters_share_is_the_same_in_all():
    """Contract 29: also in those that took no part in a step."""
    net = model()
    opt = OPTIMIZERS["skip outliers"](net)
    train(net, opt, 4)
    for p in net[0].parameters():
        p.requires_grad_(False)
    train(net, opt, 3)
    first, *others = opt.state.values()
    for key in ("norms", "mean", "variance"):
        assert all(torch.equal(first[key], other[key]) for other in others)


def test_memory_in_common_is_looked_for_as_often_with_many_parameters(monkeypatch):
    """Contract 29: copies in every parameter cost no square of their number."""

    def looks(count):
        made, look = [], StateStore.shared
        monkeypatch.setattr(StateStore, "shared", lambda *args: made.append(1) or look(*args))
        opt = fo.Optimizer([parameter(2) for _ in range(count)], fo.skip_if(fo.adamw(0.01)))
        opt.step()
        monkeypatch.undo()
        return len(made)

    assert looks(20) == looks(2)
