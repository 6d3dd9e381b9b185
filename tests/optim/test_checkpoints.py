"""Checkpoints that cannot lie: matched by name, whole or not at all."""

import copy
import os
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
    with pytest.raises(ValueError, match=r"0: exp_avg of \(4,\) instead of \(5,\)"):
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
    expected = re.escape("It has [\"a: ['sum'] instead of ['momentum_buffer']\"].")
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
