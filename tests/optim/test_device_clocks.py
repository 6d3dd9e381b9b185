"""Step counts on a device: parameters that have made the same steps are one bucket, unseen."""

import pytest
import torch

import funcopt as fo
from funcopt.optim import _clocks

N = 20


def optimizer(tx, device="meta", **kwargs):
    ps = [torch.nn.Parameter(torch.empty(3, device=device)) for _ in range(N)]
    named = [(f"p{i}", p) for i, p in enumerate(ps)]
    return ps, fo.Optimizer(named, tx, capturable=True, **kwargs)


def step(ps, opt, without=()):
    for i, p in enumerate(ps):
        p.grad = None if i in without else torch.empty_like(p)
    opt.step()


def buckets(opt):
    return len(opt._plan.firsts)


CHAINS = [
    fo.adamw(1e-3),
    fo.nadam(1e-3),
    fo.skip_if(fo.adamw(1e-3)),
    fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(1e-3), fo.ema_of_params(0.99)),
    fo.schedule_free_adamw(1e-3),
    fo.adamw(fo.cosine_decay_schedule(1e-3, 10)),
]


@pytest.mark.parametrize("tx", CHAINS, ids=str)
def test_all_parameters_are_one_bucket(tx):
    ps, opt = optimizer(tx)
    step(ps, opt)  # which makes the state
    for _ in range(3):
        step(ps, opt)
        assert buckets(opt) == 1


@pytest.mark.parametrize("tx", CHAINS[:2], ids=str)
def test_those_that_have_missed_a_step_are_another(tx):
    ps, opt = optimizer(tx)
    step(ps, opt)
    step(ps, opt, without=(3, 4))
    step(ps, opt)
    assert buckets(opt) == 2
    step(ps, opt)
    assert buckets(opt) == 2
    step(ps, opt, without=range(5, N))
    assert buckets(opt) == 2


def test_groups_are_apart():
    ps = [torch.nn.Parameter(torch.empty(3, device="meta")) for _ in range(N)]
    opt = fo.optim.AdamW([{"params": ps[:5]}, {"params": ps[5:], "lr": 0.1}], capturable=True)
    for _ in range(2):
        step(ps, opt)
    assert buckets(opt) == 2


def test_a_number_that_somebody_writes_is_known_no_more():
    ps, opt = optimizer(fo.adamw(1e-3))
    step(ps, opt)
    opt.state[ps[7]]["step"].add_(1)
    step(ps, opt)
    assert buckets(opt) == 2


def test_a_number_that_takes_the_place_of_another_is_not_known():
    ps, opt = optimizer(fo.adamw(1e-3))
    step(ps, opt)
    opt.state[ps[7]]["step"] = torch.zeros((), device="meta")
    step(ps, opt)
    assert buckets(opt) == 2


def test_copies_are_not_known():
    x = torch.zeros((), device="meta")
    _clocks.note(x, _clocks.Known(0.0))
    assert _clocks.clock_key(x) == _clocks.Known(0.0)
    assert _clocks.clock_key(x.clone()) != _clocks.Known(0.0)


def test_values_are_looked_at_once_where_they_are_not_known(monkeypatch):
    """As after a checkpoint. Here the CPU is a device."""
    scalars = [torch.tensor(float(i // 2)) for i in range(4)]
    looked = []

    def stack(tensors, known=torch.stack):
        looked.append(len(tensors))
        return known(tensors)

    monkeypatch.setattr(_clocks, "_on_host", lambda x: False)
    monkeypatch.setattr(torch, "stack", stack)
    for _ in range(2):
        _clocks.look_once(scalars)
    assert looked == [4]
    known = [_clocks._known(x) for x in scalars]
    assert known[0] == known[1] != known[2] == known[3]


def test_after_steps_in_backward_clocks_are_looked_at(monkeypatch):
    """Each parameter was counted alone, so it is not known which are equal. Here the CPU is one."""
    monkeypatch.setattr(_clocks, "_on_host", lambda x: False)
    ps, opt = optimizer(fo.nadam(1e-3), "cpu")
    with opt.step_in_backward():
        for _ in range(3):
            for p in ps:
                p.backward(torch.ones_like(p))
            opt.step()
        clocks = [x for own in opt.state.values() for x in own.values() if not x.dim()]
        assert all(map(_clocks._known, clocks))
    assert not any(map(_clocks._known, clocks))


@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize("tx", [*CHAINS[:2], CHAINS[-1]], ids=str)
def test_steps_in_backward_of_a_device_are_made(tx, capturable):
    """On "meta": nothing is read there."""
    ps = [torch.nn.Parameter(torch.empty(3, device="meta")) for _ in range(4)]
    opt = fo.Optimizer(ps, tx, capturable=capturable)
    opt.step_in_backward()
    for _ in range(3):
        for p in ps:
            p.backward(torch.empty_like(p))
            assert p.grad is None
        opt.step()
    steps = [own["step"] for own in opt.state.values()]
    assert {x.is_meta for x in steps} == {capturable}
    assert capturable or {float(x) for x in steps} == {3.0}


@pytest.mark.parametrize("tx", CHAINS, ids=str)
def test_the_steps_are_those_of_clocks_on_the_host(tx):
    """On a CPU, where both can be computed."""
    found = []
    for capturable in (False, True):
        torch.manual_seed(0)
        ps = [torch.nn.Parameter(torch.randn(3, dtype=torch.float64)) for _ in range(4)]
        named = [(f"p{i}", p) for i, p in enumerate(ps)]
        opt = fo.Optimizer(named, tx, capturable=capturable)
        for t in range(5):
            for i, p in enumerate(ps):
                p.grad = None if (t, i) == (2, 1) else p.detach().sin()
            opt.step()
        found.append(torch.cat([p.detach() for p in ps]))
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


def test_a_schedule_sees_a_count_on_the_device():
    """So a graph that is replayed goes on with it."""
    ps, opt = optimizer(CHAINS[-1])
    assert opt.param_groups[0]["lr"].is_meta
    for without in ((), (3, 4), ()):
        step(ps, opt, without)
        assert {own["updates"].device.type for own in opt.state.values()} == {"meta"}
    assert opt.param_groups[0]["lr"].is_meta
    assert buckets(opt) == 2


def test_the_latest_count_is_found_without_a_look(monkeypatch):
    """Here the CPU is a device."""
    monkeypatch.setattr(_clocks, "_on_host", lambda x: False)
    monkeypatch.setattr(_clocks, "number", lambda x: x)
    monkeypatch.setattr(torch.Tensor, "__float__", None)
    counts = [torch.tensor(x) for x in (3.0, 5.0, 4.0)]
    assert torch.equal(_clocks.latest(counts), torch.tensor(5.0))
    for x in counts:
        _clocks.note(x, _clocks.Known("the same"))
    assert _clocks.latest(counts) is counts[-1]


def test_a_shown_value_that_was_exchanged_for_an_equal_one_is_no_other():
    """On a device, each is a tensor. Here the CPU is one."""
    p = torch.nn.Parameter(torch.ones(3))
    opt = fo.Optimizer([p], fo.sgd(lambda count: torch.as_tensor(0.1 + count)))
    p.grad = torch.ones(3)
    opt.step()
    shown = opt.param_groups[0]["lr"]
    opt.param_groups[0]["lr"] = torch.tensor(float(shown), dtype=torch.float64)
    opt.step()
    opt.param_groups[0]["lr"] = opt.param_groups[0]["lr"] + 1
    with pytest.raises(fo.errors.HyperparameterError, match="follows"):
        opt.step()
