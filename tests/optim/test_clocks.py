"""The clocks of an optimizer are float32, as torch's, and go on counting beyond what that can."""

import copy
import io

import pytest
import torch
from torch import nn

import funcopt as fo
from funcopt import optim

FAR = 2**24 - 2
ENGINES = ["eager", "torch", "foreach", "fused", "compiled"]


def as_float(t):
    return 1e-9 * t


CHAINS = {
    "alone": lambda: fo.sgd(as_float),
    "a decay of AdamW": lambda: fo.adamw(0.0, weight_decay=0.0, betas=(0.9, 0.5)),
    "in skip_if": lambda: fo.skip_if(fo.sgd(as_float)),
    "in partition": lambda: fo.partition({"a": fo.sgd(as_float), "b": fo.sgd(as_float)}, labels),
}


def labels(name, p):
    return "a" if p.numel() == 1 else "b"


def late(tx, engine="eager"):
    """An optimizer whose clocks stand shortly before 2^24."""
    params = [nn.Parameter(torch.zeros(n, dtype=torch.float64)) for n in (1, 2)]
    opt = fo.Optimizer(params, tx, engine=engine)
    with_gradients(params)
    opt.step()
    for _key, clock in clocks(opt):
        clock.fill_(FAR)
    with torch.no_grad():
        for p in params:
            p.zero_()
    return opt, params


def clocks(opt):
    return [
        (key, x)
        for stored in opt.state.values()
        for key, x in stored.items()
        if x.dim() == 0 and key in ("step", "updates", "count")
    ]


def with_gradients(params):
    for p in params:
        p.grad = torch.ones_like(p)


def all_at(opt, value):
    return {(key, float(x)) for key, x in clocks(opt)} == {(key, value) for key, _ in clocks(opt)}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS)
def test_clocks_count_on(make, engine):
    opt, _ = late(make(), engine)
    for i in range(8):
        opt.step()
        assert all_at(opt, FAR + i + 1)


@pytest.mark.parametrize("engine", ENGINES)
def test_schedules_see_what_the_clocks_say(engine):
    opt, (p, _) = late(fo.sgd(as_float), engine)
    before, seen = 0.0, []
    for _ in range(6):
        assert opt.param_groups[0]["lr"] == as_float(FAR + len(seen)) or not seen
        opt.step()
        seen.append((before - p.item()) / 1e-9)
        before = p.item()
    assert seen == pytest.approx([FAR + i for i in range(6)], abs=0.3)


def test_up_to_there_they_are_torchs():
    opt, _ = late(fo.adamw())
    dtypes = []
    for _ in range(4):
        opt.step()
        dtypes.append({x.dtype for _, x in clocks(opt)})
    assert dtypes == [{torch.float32}] * 2 + [{torch.float64}] * 2


def through_a_file(opt):
    buffer = io.BytesIO()
    torch.save(opt.state_dict(), buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    params = [nn.Parameter(p.detach().clone()) for p in opt.param_groups[0]["params"]]
    again = fo.Optimizer(params, opt.tx)
    again.load_state_dict(saved)
    return again


@pytest.mark.parametrize("move", [through_a_file, copy.deepcopy])
def test_they_are_copied_exactly(move):
    opt, _ = late(fo.sgd(as_float))
    for _ in range(5):
        opt.step()
    again = move(opt)
    with_gradients(again.param_groups[0]["params"])
    again.step()
    assert all_at(again, FAR + 6)


def test_torchs_class_goes_on_with_them():
    p = nn.Parameter(torch.zeros(2))
    opt, theirs = optim.AdamW([p]), torch.optim.AdamW([p])
    with_gradients([p])
    opt.step()
    opt.state[p]["step"].fill_(FAR)
    for _ in range(4):
        opt.step()
    theirs.load_state_dict(opt.state_dict())
    theirs.step()
    assert theirs.state[p]["step"] == FAR + 5


@pytest.mark.parametrize("late_one", [0, 1])
def test_the_clock_of_a_parameter_without_a_gradient_stands(late_one):
    """And goes on in float64 when it is time, whatever those of the others are in by then."""
    opt, params = late(fo.sgd(as_float))
    p, q = params[late_one], params[1 - late_one]
    p.grad = None
    for _ in range(5):
        opt.step()
    assert (opt.state[p]["step"], opt.state[q]["step"]) == (FAR, FAR + 5)
    with_gradients([p])
    for _ in range(5):
        opt.step()
    assert (opt.state[p]["step"], opt.state[q]["step"]) == (FAR + 5, FAR + 10)
    assert opt.state[p]["updates"] == opt.state[q]["updates"] == FAR + 10


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("other", ["a slot", "a note"])
def test_memory_may_have_the_name_of_something_else_of_another_parameter(other, engine):
    """`norm_outlier` remembers a `variance`; that of an unfactored second moment is a slot."""
    tx = fo.partition(
        {
            "a": fo.skip_if(fo.sgd(0.1), fo.norm_outlier(warmup=1)),
            "b": fo.chain(fo.scale_by_factored_rms(), fo.scale_by_learning_rate(0.1))
            if other == "a slot"
            else fo.sgd(0.1),
        },
        labels,
    )
    one, two = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(3))
    opt = fo.Optimizer([("one", one), ("two", two)], tx, engine=engine)
    opt.init_state()
    note = torch.full((3,), 7.0)
    if other == "a note":
        opt.state[two]["variance"] = note
    assert "variance" in opt.state[one].keys() & opt.state[two].keys()
    for _ in range(3):
        one.grad, two.grad = torch.ones(1), torch.ones(3)
        opt.step()
    torch.testing.assert_close(one.detach(), torch.full((1,), 0.7))
    assert opt.state[one]["variance"].shape == ()
    assert other == "a slot" or torch.equal(opt.state[two]["variance"], note)
