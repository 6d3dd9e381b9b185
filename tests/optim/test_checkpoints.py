"""Checkpoints that cannot lie: matched by name, whole or not at all."""

import copy
import os
import pickle
import re
import signal
import subprocess
import sys
from typing import NamedTuple

import pytest
import torch

import funcopt as fo
from funcopt import optim

NAMES = ["a", "b", "c"]


def params(names=NAMES):
    """Parameters of one shape, so that only names tell them apart."""
    torch.manual_seed(0)
    made = {name: torch.nn.Parameter(torch.randn(4, dtype=torch.float64)) for name in NAMES}
    return [(name, made[name]) for name in names]


def step(named, opt, t):
    for i, name in enumerate(NAMES):
        p = dict(named)[name]
        p.grad = torch.sin(p.detach() * (i + 1) + t)
    opt.step()


CHAINS = {
    "AdamW": lambda named: optim.AdamW(named, lr=0.1),
    "momentum": lambda named: optim.SGD(named, lr=0.1, momentum=0.9),
    "a chain with a schedule": lambda named: fo.Optimizer(
        named,
        fo.chain(fo.scale_by_rms(), fo.scale_by_learning_rate(fo.linear_schedule(0.1, 0.0, 20))),
    ),
}


@pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS)
def test_another_order_of_the_names_changes_nothing(make):
    named = params()
    opt = make(named)
    for t in range(5):
        step(named, opt, t)
    saved = copy.deepcopy(opt.state_dict())
    values = {name: p.detach().clone() for name, p in named}
    permuted = params(["c", "a", "b"])
    other = make(permuted)
    other.load_state_dict(saved)
    for name, p in permuted:
        p.data.copy_(values[name])
    for t in range(5, 10):
        step(named, opt, t)
        step(permuted, other, t)
    for name, p in named:
        assert torch.equal(p, dict(permuted)[name])


def test_with_a_sum_over_tensors_another_order_changes_the_rounding_only():
    def make(named):
        return fo.Optimizer(named, fo.chain(fo.clip_by_global_norm(0.5), fo.adamw(0.1)))

    named, permuted = params(), params(["b", "c", "a"])
    opt, other = make(named), make(permuted)
    step(named, opt, 0)
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    for name, p in permuted:
        p.data.copy_(dict(named)[name])
    for t in range(1, 6):
        step(named, opt, t)
        step(permuted, other, t)
    for name, p in named:
        torch.testing.assert_close(p, dict(permuted)[name], rtol=1e-12, atol=1e-12)


def trained():
    named = params()
    opt = optim.AdamW(named, lr=0.1)
    step(named, opt, 0)
    return named, opt


def test_all_that_does_not_fit_is_in_one_error_and_nothing_changes():
    _, opt = trained()
    saved = copy.deepcopy(opt.state_dict())
    grown = [(n, torch.nn.Parameter(torch.zeros(6 if n == "b" else 4))) for n in ("b", "c", "d")]
    other = optim.AdamW(grown, lr=0.5)
    with pytest.raises(ValueError, match=r"Missing: \['d'\]. Unknown: \['a'\]") as caught:
        other.load_state_dict(saved)
    assert "b: exp_avg of (4,) instead of (6,)" in str(caught.value)
    assert not other.state
    assert other.param_groups[0]["lr"] == 0.5


def test_not_strict_what_does_not_fit_starts_afresh():
    _, opt = trained()
    grown = [(n, torch.nn.Parameter(torch.zeros(6 if n == "b" else 4))) for n in ("b", "c", "d")]
    other = optim.AdamW(grown, lr=0.5)
    with pytest.warns(UserWarning, match=r"Missing: \['d'\]. .*Initialized: \['b: all'\]"):
        other.load_state_dict(copy.deepcopy(opt.state_dict()), strict=False)
    assert list(other.state) == [grown[1][1]]
    assert other.param_groups[0]["lr"] == 0.1
    for _, p in grown:
        p.grad = torch.ones_like(p)
    other.step()
    assert [other.state[p]["step"].item() for _, p in grown] == [1, 2, 1]


def test_without_names_a_shape_that_differs_is_an_error_too():
    _, opt = trained()
    other = optim.AdamW([torch.nn.Parameter(torch.zeros(5)) for _ in NAMES])
    with pytest.raises(ValueError, match=r"a: exp_avg of \(4,\) instead of \(5,\)"):
        other.load_state_dict(opt.state_dict())
    assert not other.state


def test_the_format_has_a_version():
    _, opt = trained()
    assert opt.state_dict()["funcopt_format"] == 1


KILLED_WHILE_SAVING = """
import os, signal, torch
import funcopt.optim as optim

p = torch.nn.Parameter(torch.zeros(3))
opt = optim.AdamW([("p", p)], lr=0.1)


class Half:
    def __init__(self, file):
        self.file, self.written = file, 0

    def write(self, data):
        self.written += len(data)
        if self.written > 600:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.file.write(data)

    def flush(self):
        self.file.flush()


for t in (1, 2):
    p.grad = torch.ones(3)
    opt.step()
    with open("checkpoint.pt.new", "wb") as file:
        torch.save(opt.state_dict(), file if t == 1 else Half(file))
    os.replace("checkpoint.pt.new", "checkpoint.pt")
"""


def test_a_process_killed_while_saving_leaves_the_previous_checkpoint(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_SAVING],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "checkpoint.pt.new").exists()  # the half that was written
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    opt = optim.AdamW([("p", torch.nn.Parameter(torch.zeros(3)))])
    opt.load_state_dict(saved)
    (state,) = opt.state.values()
    assert state["step"] == 1


def test_names_that_two_parameters_share_do_not_decide():
    torch.manual_seed(0)
    models = [torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)]
    groups = [{"params": list(m.named_parameters())} for m in models]
    opt = optim.AdamW(groups)
    for i, p in enumerate(p for m in models for p in m.parameters()):
        p.grad = torch.full_like(p, i + 1.0)
    opt.step()
    before = copy.deepcopy(opt.state_dict())
    opt.load_state_dict(copy.deepcopy(before))
    after = opt.state_dict()["state"]
    for i, state in before["state"].items():
        assert all(torch.equal(value, after[i][key]) for key, value in state.items())


def test_a_later_format_is_refused():
    _, opt = trained()
    with pytest.raises(ValueError, match="has the format 2"):
        opt.load_state_dict({**opt.state_dict(), "funcopt_format": 2})


def test_a_later_format_is_refused_before_its_keys_are_looked_at():
    _, opt = trained()
    saved = opt.state_dict()
    state = {at: {"step": own["step"], "later": own["step"]} for at, own in saved["state"].items()}
    with pytest.raises(fo.errors.StructureError, match="has the format 2, made by a later version"):
        opt.load_state_dict({**saved, "state": state, "funcopt_format": 2})


def test_a_checkpoint_of_another_algorithm_is_told_with_what_that_parameter_keeps():
    labels = [("a", "sgd"), ("b", "adam")]
    tx = fo.partition({"sgd": fo.sgd(0.1, momentum=0.9), "adam": fo.adam()}, labels)
    named = [(name, torch.nn.Parameter(torch.ones(2))) for name in ("a", "b")]
    opt = fo.Optimizer(named, tx)
    for _, p in named:
        p.grad = torch.ones(2)
    opt.step()
    saved = opt.state_dict()
    (at,) = (i for i, own in saved["state"].items() if "momentum_buffer" in own)
    saved["state"][at] = {"step": torch.tensor(1.0), "sum": torch.ones(2)}
    expected = re.escape("different optimizer: [\"a: ['sum'] instead of ['momentum_buffer']\"].")
    with pytest.raises(fo.errors.StructureError, match=expected):
        opt.load_state_dict(saved)


class Mixed(NamedTuple):
    wide: torch.Tensor
    low: torch.Tensor
    signed: torch.Tensor
    unsigned: torch.Tensor
    counts: torch.Tensor


class keeping_every_kind(fo.TensorRule):
    """Slots of many dtypes, such as compressed states have."""

    elementwise = True

    def init_tensor(self, p):
        kinds = (torch.float32, torch.bfloat16, torch.int8, torch.uint8, torch.int64)
        return Mixed(*(torch.zeros_like(p, dtype=kind) for kind in kinds))

    def update_tensor(self, g, slots, p, s):
        new = Mixed(
            slots.wide + g / 3,
            slots.low + g / 3,
            slots.signed - 1,
            slots.unsigned + 255,
            slots.counts + 1_000_003,
        )
        return g, new


def test_every_dtype_makes_the_round_trip_to_the_bit(tmp_path):
    def make():
        p = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
        return p, fo.Optimizer([("p", p)], fo.chain(keeping_every_kind(), fo.scale(-0.1)))

    p, opt = make()
    for _ in range(3):
        p.grad = torch.full_like(p, 0.7)
        opt.step()
    torch.save(opt.state_dict(), tmp_path / "x.pt")
    q, other = make()
    other.load_state_dict(torch.load(tmp_path / "x.pt", weights_only=True))
    for key, value in opt.state[p].items():
        assert other.state[q][key].dtype == value.dtype, key
        assert torch.equal(other.state[q][key], value), key
    assert other.state[q]["unsigned"].dtype == torch.uint8
    assert other.state[q]["counts"][0] == 3_000_009


@pytest.fixture(params=["device", "dtype"])
def another_default(request):
    """Makes another device or dtype the default, until the test ends."""
    if request.param == "device":
        yield lambda: torch.set_default_device("meta")
        torch.set_default_device(None)
    else:
        before = torch.get_default_dtype()
        yield lambda: torch.set_default_dtype(torch.float64)
        torch.set_default_dtype(before)


@pytest.mark.parametrize(
    "make", [*CHAINS.values(), lambda ps: optim.SOAP(ps, lr=0.1)], ids=[*CHAINS, "SOAP"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_state_goes_on_where_the_parameter_is_under_another_default(make, dtype, another_default):
    gradients = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(0)).to(dtype)

    def steps(p, opt, which):
        for g in gradients[which]:
            p.grad = g
            opt.step()

    p = torch.nn.Parameter(torch.ones(4, 3, dtype=dtype))
    opt = make([("weight", p)])
    steps(p, opt, slice(3))
    saved, q = copy.deepcopy(opt.state_dict()), torch.nn.Parameter(p.detach().clone())
    steps(p, opt, slice(3, None))
    another_default()
    other = make([("weight", q)])
    other.load_state_dict(saved)
    steps(q, other, slice(3, None))
    assert torch.equal(p, q)
    for key, value in opt.state[p].items():
        found = other.state[q][key]
        clock = key in ("step", "updates")  # which are in the default dtype, as torch's
        dtype = torch.get_default_dtype() if clock else value.dtype
        assert (found.device, found.dtype) == (value.device, dtype), key
        assert torch.equal(found.to(value.dtype), value), key


# A refused checkpoint changes nothing, and whatever does not fit is refused.


def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))


def train(model, opt, steps=3):
    for i in range(steps):
        opt.zero_grad()
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(i))
        model(x).square().sum().backward()
        opt.step()


def trained_checkpoint(make, steps=3):
    model = net()
    opt = make(model)
    train(model, opt, steps)
    return copy.deepcopy(opt.state_dict())


def adamw(model, **options):
    return optim.AdamW(model.named_parameters(), lr=0.01, **options)


def snapshot(opt):
    state = [{k: x.clone() for k, x in own.items()} for own in opt.state.values()]
    return state, [{k: v for k, v in g.items() if k != "params"} for g in opt.param_groups]


def refused(opt, saved, match, model, error=ValueError):
    """Loading is an error that says `match`; and the optimizer goes on as if nothing had been."""
    before, ids = snapshot(opt), [id(own) for own in opt.state.values()]
    values = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(error, match=match):
        opt.load_state_dict(saved)
    after = snapshot(opt)
    assert ids == [id(own) for own in opt.state.values()]
    assert repr(before[0]) == repr(after[0])
    assert before[1] == after[1]
    assert all(map(torch.equal, values, model.parameters()))


def set_entry(key, value):
    def spoil(saved):
        saved["state"][0][key] = value

    return spoil


def set_option(key, value):
    def spoil(saved):
        saved["param_groups"][0][key] = value

    return spoil


def without(*keys):
    def spoil(saved):
        for key in keys:
            del saved["state"][0][key]

    return spoil


SPOILED = {
    "a negative rate": (set_option("lr", -1.0), "lr"),
    "a word for a rate": (set_option("lr", "fast"), "lr"),
    "three betas": (set_option("betas", (0.9, 0.99, 0.999)), "betas"),
    "a beta above 1": (set_option("betas", (0.9, 1.5)), "betas"),
    "a rate of two entries": (set_option("lr", torch.ones(2)), "lr"),
    "a name twice": (
        lambda saved: saved["param_groups"][0]["param_names"].__setitem__(1, "0.weight"),
        r"share the names \['0.weight'\]",
    ),
    "a name too few": (
        lambda saved: saved["param_groups"][0]["param_names"].pop(),
        "4 parameters and 3 names",
    ),
    "a parameter twice": (
        lambda saved: saved["param_groups"][0]["params"].__setitem__(1, 0),
        "in two places",
    ),
    "state of nobody": (
        lambda saved: saved["state"].__setitem__(9, saved["state"][0]),
        "Unknown: .'state of 9'",
    ),
    "no groups": (lambda saved: saved.pop("param_groups"), "`state` and `param_groups`"),
    "no state": (lambda saved: saved.pop("state"), "`state` and `param_groups`"),
    "no dict": (lambda saved: saved["state"].__setitem__(0, 5), "0.weight: int, no dict"),
    "a number for a matrix": (set_entry("exp_avg", 0.5), "0.weight: `exp_avg` must be a tensor"),
    "a word for a matrix": (set_entry("exp_avg", "x"), "0.weight: `exp_avg` must be a tensor"),
    "a list for a matrix": (set_entry("exp_avg", [1.0]), "0.weight: `exp_avg` must be a tensor"),
    "complex moments": (
        set_entry("exp_avg", torch.ones(4, 3, dtype=torch.complex64)),
        "0.weight: `exp_avg` must be torch.float32",
    ),
    "another shape": (set_entry("exp_avg_sq", torch.ones(3, 4)), r"exp_avg_sq of \(3, 4\)"),
    "a negative step": (set_entry("step", torch.tensor(-1.0)), "0.weight: `step` must be a count"),
    "half a step": (set_entry("step", 2.5), "0.weight: `step` must be a count"),
    "a step of NaN": (set_entry("step", torch.tensor(float("nan"))), "`step` must be a count"),
    "an endless step": (set_entry("step", float("inf")), "`step` must be a count"),
    "a word for a step": (set_entry("step", "x"), "0.weight: `step` must be a count"),
    "two steps": (set_entry("step", torch.ones(2)), "0.weight: `step` must be a count"),
    "no first moment": (without("exp_avg"), "Missing entries: .'0.weight: `exp_avg` at step 3'"),
    "no second moment": (without("exp_avg_sq"), "0.weight: `exp_avg_sq` at step 3"),
    "no step": (without("step"), r"0.weight: `step` beside \['exp_avg', 'exp_avg_sq'\]"),
    "a step alone": (without("exp_avg", "exp_avg_sq"), "`exp_avg`, `exp_avg_sq` at step 3"),
    "a moment of None": (set_entry("exp_avg", None), "0.weight: `exp_avg` at step 3"),
}


@pytest.mark.parametrize("begun", [False, True], ids=["fresh", "trained"])
@pytest.mark.parametrize(("spoil", "match"), SPOILED.values(), ids=SPOILED)
def test_what_does_not_fit_is_refused_and_nothing_changes(spoil, match, begun):
    saved = trained_checkpoint(adamw)
    spoil(saved)
    model = net()
    opt = optim.AdamW(model.named_parameters(), lr=0.5)
    if begun:
        train(model, opt, 2)
    refused(opt, saved, match, model)
    train(model, opt, 1)


def test_a_refused_checkpoint_leaves_schedules_as_they_were():
    def make(model):
        return fo.Optimizer(model.named_parameters(), fo.adamw(fo.linear_schedule(0.1, 0.0, 20)))

    saved = trained_checkpoint(make, 7)
    saved["state"][0]["exp_avg"] = "x"
    model, plain = net(), net()
    opt, other = make(model), make(plain)
    train(model, opt, 2)
    refused(opt, saved, "exp_avg", model)
    train(plain, other, 2)
    train(model, opt, 2)
    train(plain, other, 2)
    assert all(map(torch.equal, model.parameters(), plain.parameters()))


def test_a_count_for_schedules_that_is_missing_beside_a_step_is_refused():
    saved = trained_checkpoint(adamw)
    model = net()
    tx = fo.adamw(fo.linear_schedule(0.1, 0.0, 20))
    opt = fo.Optimizer(model.named_parameters(), tx)
    refused(opt, saved, "`updates`, the count that schedules see, at step 3", model)
    loaded(opt, saved, "`updates`, the count that schedules see")
    assert opt.param_groups[0]["lr"] is not None


ALGORITHMS = {
    "sgd": lambda: fo.sgd(0.01, momentum=0.9),
    "plain sgd": lambda: fo.sgd(0.01),
    "adamw": lambda: fo.adamw(0.01),
    "amsgrad": lambda: fo.adamw(0.01, amsgrad=True),
    "nadam": lambda: fo.nadam(0.01),
    "adamax": lambda: fo.adamax(0.01),
    "adabelief": lambda: fo.adabelief(0.01),
    "lion": lambda: fo.lion(0.01),
    "rmsprop": lambda: fo.rmsprop(0.01),
    "adagrad": lambda: fo.adagrad(0.01),
    "adadelta": lambda: fo.adadelta(0.01),
    "rprop": lambda: fo.rprop(0.01),
    "asgd": lambda: fo.asgd(0.01),
    "averaged adamw": lambda: fo.chain(fo.adamw(0.01), fo.ema_of_params(0.9)),
    "soap": lambda: fo.soap(0.01),
}


@pytest.mark.parametrize("loaded", ALGORITHMS)
@pytest.mark.parametrize("saved", ALGORITHMS)
def test_the_checkpoint_of_another_algorithm_is_refused(saved, loaded):
    def make(which):
        return lambda model: fo.Optimizer(model.named_parameters(), ALGORITHMS[which]())

    checkpoint, model = trained_checkpoint(make(saved)), net()
    opt = make(loaded)(model)
    if saved == loaded:
        opt.load_state_dict(checkpoint)
        return
    if {saved, loaded} == {"sgd", "plain sgd"}:  # one algorithm, and its momentum is in the group
        opt.load_state_dict(checkpoint)
        assert opt.param_groups[0]["momentum"] == checkpoint["param_groups"][0]["momentum"]
        return
    refused(opt, checkpoint, "Saved by a different optimizer|Missing entries", model)


BOTH = [
    ("SGD", {"momentum": 0.9}),
    ("AdamW", {}),
    ("NAdam", {}),
    ("Adamax", {}),
    ("RMSprop", {}),
    ("Adagrad", {}),
    ("Adadelta", {}),
    ("ASGD", {}),
    ("Rprop", {}),
    ("LBFGS", {}),
]


@pytest.mark.parametrize("loaded", [name for name, _ in BOTH])
@pytest.mark.parametrize(("saved", "options"), BOTH, ids=[name for name, _ in BOTH])
def test_the_checkpoint_of_another_class_of_torch_is_refused(saved, options, loaded):
    if saved == loaded and saved != "LBFGS":
        return  # which the contract holds
    model = net()
    theirs = getattr(torch.optim, saved)(model.parameters(), lr=0.01, **options)

    def closure():
        theirs.zero_grad()
        loss = model(torch.ones(4, 3)).square().sum()
        loss.backward()
        return loss

    for _ in range(2):
        theirs.step(closure)
    other = net()
    opt = getattr(optim, loaded)(other.named_parameters())
    refused(opt, copy.deepcopy(theirs.state_dict()), f"`{loaded}`: the checkpoint", other)


def test_the_options_alone_tell_of_another_algorithm_where_nothing_was_kept():
    model = net()
    theirs = torch.optim.SGD(model.named_parameters(), lr=0.3)
    train(model, theirs)
    opt = adamw(net())
    match = r"group 0: \['dampening', 'momentum'\] instead of \['betas', 'eps'\]"
    refused(opt, theirs.state_dict(), match, model)


def loaded(opt, saved, warned):
    """The state by name, of what `strict=False` loads, and warns of."""
    with pytest.warns(UserWarning, match=warned) as caught:
        opt.load_state_dict(saved, strict=False)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    groups = opt.param_groups
    named = [x for g in groups for x in zip(g["param_names"], g["params"], strict=True)]
    return {name: opt.state[p] for name, p in named if p in opt.state}


WITHOUT = {
    "the maximum of AMSGrad": (fo.adamw, "max_exp_avg_sq", fo.adamw(0.01, amsgrad=True)),
    "the EMA of the weights": (
        fo.adamw,
        "ema_params",
        fo.chain(fo.adamw(0.01), fo.ema_of_params(0.9)),
    ),
    "the first moment": (
        lambda lr: fo.chain(
            fo.scale_by_adam((0.0, 0.999), first_moment=False), fo.scale_by_learning_rate(lr)
        ),
        "exp_avg",
        fo.chain(fo.scale_by_adam(), fo.scale_by_learning_rate(0.01)),
    ),
}


@pytest.mark.parametrize(("before", "key", "tx"), WITHOUT.values(), ids=WITHOUT)
def test_not_strict_a_slot_that_is_missing_is_initialized_and_the_others_are_kept(before, key, tx):
    saved = trained_checkpoint(lambda m: fo.Optimizer(m.named_parameters(), before(0.01)))
    model = net()
    opt = fo.Optimizer(model.named_parameters(), tx)
    there = loaded(opt, saved, rf"Initialized: \['0.weight: `{key}`', '0.bias: `{key}`'")
    for i, own in enumerate(there.values()):
        assert own["step"] == 3
        for slot in saved["state"][i].keys() - {"step"}:
            assert torch.equal(own[slot], saved["state"][i][slot])
    train(model, opt, 1)
    assert all({"step", key} <= own.keys() and own["step"] == 4 for own in opt.state.values())


def test_not_strict_a_slot_of_another_shape_is_initialized_and_the_others_are_kept():
    saved = trained_checkpoint(adamw)
    saved["state"][1]["exp_avg"] = torch.ones(7)
    model = net()
    opt = adamw(model)
    there = loaded(opt, saved, r"Shape mismatch: .*Initialized: \['0.bias: `exp_avg`'\]")
    assert set(there["0.bias"]) == {"exp_avg_sq", "step"}
    assert torch.equal(there["0.bias"]["exp_avg_sq"], saved["state"][1]["exp_avg_sq"])
    train(model, opt, 1)
    assert there["0.bias"]["step"] == 4


def test_not_strict_slots_of_no_use_are_left_out_and_the_others_are_kept():
    saved = trained_checkpoint(lambda m: optim.AdamW(m.named_parameters(), amsgrad=True))
    saved["param_groups"][0]["amsgrad"] = False
    there = loaded(adamw(net()), saved, "Saved by a different optimizer")
    assert all(set(own) == {"exp_avg", "exp_avg_sq", "step"} for own in there.values())
    assert all(own["step"] == 3 for own in there.values())


LATE = {
    "Lion, which has no second moment": (fo.lion, fo.adamw),
    "RMSprop, which has nothing that fits": (fo.rmsprop, fo.adamw),
    "NAdam, whose product of momenta AdamW lacks": (fo.adamw, fo.nadam),
}


@pytest.mark.parametrize(("before", "after"), LATE.values(), ids=LATE)
def test_not_strict_no_bias_correction_is_that_of_a_late_step_on_slots_that_begin(before, after):
    saved = trained_checkpoint(lambda m: fo.Optimizer(m.named_parameters(), before(0.01)), 50)
    model = net()
    opt = fo.Optimizer(model.named_parameters(), after(0.01))
    assert not loaded(opt, saved, r"Initialized: \['0.weight: all'")
    before = [p.detach().clone() for p in model.parameters()]
    train(model, opt, 1)
    moved = [(p - q).abs().max() for p, q in zip(before, model.parameters(), strict=True)]
    assert max(moved) < 0.02


@pytest.mark.parametrize("key", ["exp_avg_sq", "step"])
def test_not_strict_a_parameter_without_its_divisor_or_step_starts_afresh_as_a_whole(key):
    saved = trained_checkpoint(adamw)
    del saved["state"][0][key]
    model = net()
    opt = adamw(model)
    loaded(opt, saved, r"Initialized: \['0.weight: all'\]")
    first, *others = model.parameters()
    assert first not in opt.state
    assert all(opt.state[p]["step"] == 3 for p in others)
    train(model, opt, 1)
    assert opt.state[first]["step"] == 1


def test_a_momentum_that_was_switched_on_before_saving_begins_with_the_next_step():
    model = net()
    opt = optim.SGD(model.named_parameters(), lr=0.1)
    train(model, opt, 2)
    opt.param_groups[0]["momentum"] = 0.9
    saved = copy.deepcopy(opt.state_dict())
    other_model = copy.deepcopy(model)
    other = optim.SGD(other_model.named_parameters(), lr=0.1)
    other.load_state_dict(saved)
    train(model, opt, 2)
    train(other_model, other, 2)
    assert all(map(torch.equal, model.parameters(), other_model.parameters()))


# Groups, by name.


def regrouped(model, rules=(("bias", {"weight_decay": 0.0}),)):
    groups = optim.param_groups_by(list(rules), model)
    return optim.AdamW(groups, lr=0.02, weight_decay=0.1)


def of_each(opt, key):
    return {name: g[key] for g in opt.param_groups for name in g["param_names"]}


CUTS = {
    "one into two": (adamw, regrouped),
    "two into one": (regrouped, adamw),
    "two into two others": (
        regrouped,
        lambda model: regrouped(model, [("^0", {"weight_decay": 0.2})]),
    ),
}


@pytest.mark.parametrize(("before", "after"), CUTS.values(), ids=CUTS)
def test_parameters_in_other_groups_than_before_are_refused_by_name(before, after):
    saved, model = trained_checkpoint(before), net()
    opt = after(model)
    refused(opt, saved, r"In other groups: .*0\.bias", model)
    loaded(opt, saved, r"In other groups: .*0\.bias")
    assert [g["lr"] for g in opt.param_groups] == [g["lr"] for g in after(net()).param_groups]
    assert of_each(opt, "weight_decay") == of_each(after(net()), "weight_decay")
    assert all(own["step"] == 3 for own in opt.state.values())
    assert len(opt.state) == 4


def test_the_same_groups_in_another_order_keep_their_options_and_state():
    model = net()
    opt = regrouped(model)
    opt.param_groups[0]["lr"], opt.param_groups[1]["lr"] = 0.3, 0.4
    train(model, opt)
    other = optim.AdamW(
        [
            {"params": list(zip(g["param_names"], g["params"], strict=True))[::-1]}
            for g in regrouped(net()).param_groups[::-1]
        ]
    )
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    assert of_each(other, "lr") == of_each(opt, "lr")
    assert of_each(other, "weight_decay") == of_each(opt, "weight_decay")


@pytest.mark.parametrize("strict", [True, False])
def test_other_groups_without_names_are_refused_with_the_way_to_match_by_name(strict):
    saved, model = trained_checkpoint(lambda m: optim.AdamW(m.parameters())), net()
    layers = [{"params": list(model[i].parameters())} for i in (0, 2)]
    opt = optim.AdamW(layers, lr=0.5)
    match = (
        r"`AdamW`: the checkpoint has 1 parameter group \(parameters: 4\), and here 2 parameter "
        r"groups \(parameters: 2, 2\). Parameters have no names on both sides"
    )
    with pytest.raises(fo.errors.StructureError, match=match) as caught:
        opt.load_state_dict(saved, strict=strict)
    assert "`model.named_parameters()`" in str(caught.value)
    assert not opt.state
    assert [g["lr"] for g in opt.param_groups] == [0.5, 0.5]


def test_groups_without_parameters_keep_their_options():
    model = net()
    *others, last = model.named_parameters()
    opt = optim.SGD([{"params": others}, {"params": [last], "lr": 0.7}], lr=0.1)
    opt.drop("2.bias")
    saved = copy.deepcopy(opt.state_dict())
    saved["param_groups"][1]["lr"] = 0.8
    opt.load_state_dict(saved)
    assert [g["lr"] for g in opt.param_groups] == [0.1, 0.8]


def test_names_that_parameters_share_must_be_the_same_at_each_place():
    model = net()
    layers = [model[0], model[2]]
    opt = optim.AdamW([{"params": list(layer.named_parameters())} for layer in layers])
    train(model, opt)
    saved = copy.deepcopy(opt.state_dict())
    for group in saved["param_groups"]:
        group["param_names"].reverse()
    refused(opt, saved, "matched by position, and its names are others", model)


# In memory.


@pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS)
def test_a_state_dict_kept_without_a_copy_is_all_of_now(make):
    named = params()
    opt = make(named)
    for t in range(2):
        step(named, opt, t)
    kept = opt.state_dict()["state"]
    for t in range(2, 6):
        step(named, opt, t)
    now = opt.state_dict()["state"]
    for at, own in kept.items():
        assert all(torch.equal(x, now[at][key]) for key, x in own.items())


def test_what_is_saved_of_one_parameter_is_no_vector_of_all():
    _, opt = trained()
    for own in opt.state_dict()["state"].values():
        assert own["step"].untyped_storage().nbytes() == own["step"].element_size()


@pytest.mark.parametrize("way", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_the_clocks_of_a_copy_are_side_by_side_again(way):
    _, opt = trained()
    other = way(opt)
    first, second, _ = (own["step"] for own in other.state.values())
    assert second.data_ptr() - first.data_ptr() == first.element_size()
    assert first.data_ptr() != next(iter(opt.state.values()))["step"].data_ptr()
