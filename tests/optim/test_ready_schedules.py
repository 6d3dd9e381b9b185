"""Ready steps of chains with schedules: groups show what the next step will use, as otherwise."""

import copy

import pytest
import torch
from torch import nn

import funcopt as fo
from funcopt.errors import HyperparameterError
from funcopt.optim import _optimizer

from .test_ready_step import by_bytecode, same

__all__ = ["by_bytecode"]

RATE = fo.cosine_decay_schedule(1e-2, 40)


def warming(count):
    return 0.9 * min(1.0, (count + 1) / 20)


CHAINS = {
    "a rate": lambda: fo.adamw(RATE),
    "a function": lambda: fo.adamw(lambda count: 1e-2 / (1 + count)),
    "a pair": lambda: fo.adamw(1e-2, betas=(warming, 0.99)),
    "several": lambda: fo.adamw(RATE, weight_decay=lambda count: 0.1 * 0.9**count),
    "clip, average": lambda: fo.chain(
        fo.clip_by_global_norm(lambda count: 0.5 + 0.01 * count),
        fo.sgd(RATE),
        fo.ema_of_params(0.9),
    ),
    "memory": lambda: fo.nadam(RATE),
    "a distance": lambda: fo.prodigy(fo.linear_schedule(1.0, 0.1, 30)),
    "labels": lambda: fo.partition(
        {"a": fo.adamw(RATE), "b": fo.sgd(warming)}, lambda name, p: "a" if p.dim() > 1 else "b"
    ),
}
DECIDING = {
    "skip_if": lambda: fo.skip_if(fo.adamw(RATE)),
    "accumulate": lambda: fo.accumulate(fo.adamw(RATE), 3),
    "lookahead": lambda: fo.lookahead(fo.sgd(RATE), 3),
}


class Job:
    """An optimizer, which may get ready or not, and what its groups have shown."""

    def __init__(self, tx, ready, monkeypatch, **second):
        self.params = [
            nn.Parameter(torch.linspace(-1, 1, torch.Size(s).numel()).reshape(s))
            for s in ((3, 2), (4,), (5,))
        ]
        groups = [{"params": self.params[:2]}, {"params": self.params[2:], **second}]
        self.opt, self.t, self.made = fo.Optimizer(groups, tx), 0, 0
        self._ready, self._patch, self.shown = ready, monkeypatch, []

    def step(self, *without):
        self.t += 1
        for i, p in enumerate(self.params):
            wave = torch.arange(1.0, p.numel() + 1).mul(self.t + i).sin().reshape(p.shape)
            p.grad = None if i in without else wave
        with self._patch.context() as patch:
            if not self._ready:
                patch.setattr(_optimizer, "ready_step", lambda *_: None)
            self.opt.step()
        self.made += self.opt._ready is not None
        values = [{k: x for k, x in g.items() if k != "params"} for g in self.opt.param_groups]
        self.shown.append((values, {k: x.item() for k, x in self.opt.metrics().items()}))

    def steps(self, count, *without):
        for _ in range(count):
            self.step(*without)

    def tensors(self):
        states = (x for own in self.opt.state.values() for x in own.values())
        return [x.detach().clone() for x in (*self.params, *states)]


def pair(tx, monkeypatch, **second):
    return [Job(tx(), ready, monkeypatch, **second) for ready in (True, False)]


def check(jobs, gets_ready=True):
    one, other = jobs
    assert same(one.tensors(), other.tensors())
    assert one.shown == other.shown
    assert bool(one.made) is gets_ready
    assert not other.made


@pytest.mark.parametrize("second", [{}, {"weight_decay": 0.3}, {"lr": 0.02}], ids=str)
@pytest.mark.parametrize("name", [*CHAINS, *DECIDING])
def test_steps_values_and_metrics_are_those_of_the_usual_way(name, second, monkeypatch):
    made = pair({**CHAINS, **DECIDING}[name], monkeypatch)
    for job in made:
        if second.keys() <= job.opt.param_groups[1].keys() - job.opt._groups.schedules[1].keys():
            job.opt.param_groups[1].update(second)
        job.steps(50)
    check(made, gets_ready=made[0].made > 0)
    if name in ("a rate", "several", "clip, average", "labels", "memory"):
        assert made[0].made > 25
        assert made[0].opt._ready._contents.holds()  # nothing has to be found out


def test_groups_have_schedules_of_their_own(monkeypatch):
    made = pair(CHAINS["a rate"], monkeypatch, lr=fo.linear_schedule(0.1, 0.0, 30))
    for job in made:
        job.steps(50)
    check(made)
    first, second = (group["lr"] for group in made[0].opt.param_groups)
    assert first == RATE(50)
    assert second == 0.0


def test_a_value_that_is_set_is_refused(monkeypatch):
    made = pair(CHAINS["a rate"], monkeypatch)
    for job in made:
        job.steps(20)
        before = job.tensors()
        job.opt.param_groups[1]["lr"] = 0.5
        with pytest.raises(HyperparameterError, match="cannot be set"):
            job.step()
        assert same(before, job.tensors())
        job.opt.param_groups[1]["lr"] = RATE(20)
        job.steps(20)
    check(made)


def test_other_values_may_be_set(monkeypatch):
    made = pair(CHAINS["a rate"], monkeypatch)
    for job in made:
        for t in range(50):
            job.opt.param_groups[t % 2]["weight_decay"] = 0.1 + 0.01 * (t // 2)
            job.step()
    check(made)


@pytest.mark.parametrize("name", ["several", "memory"])
@pytest.mark.parametrize("one", [False, True], ids=["all", "of one parameter"])
def test_counts_that_are_written_are_read(one, name, monkeypatch):
    made = pair(CHAINS[name], monkeypatch)
    for job in made:
        job.steps(20)
        for own in list(job.opt.state.values())[: 1 if one else None]:
            own["updates"].fill_(33)
        job.steps(20)
        for own in job.opt.state.values():
            own["step"].fill_(3)
        job.steps(20)
    check(made)


def test_a_parameter_that_comes_later_sees_the_updates_of_all(monkeypatch):
    made = pair(CHAINS["several"], monkeypatch)
    for job in made:
        job.steps(15, 1)
        job.steps(25)
        job.steps(15, 0)
        job.steps(15)
    check(made)


def test_a_state_that_is_loaded_goes_on(monkeypatch):
    made = pair(CHAINS["several"], monkeypatch)
    for job in made:
        job.steps(20)
        kept = copy.deepcopy(job.opt.state_dict())
        job.steps(10)
        job.opt.load_state_dict(kept)
        job.steps(20)
    check(made)


def test_they_count_beyond_2_24(monkeypatch):
    made = pair(lambda: fo.adamw(lambda count: 1e-2 / (1 + count)), monkeypatch)
    for job in made:
        job.steps(3)
        for own in job.opt.state.values():
            own["updates"].fill_(2**24 - 20)
        job.steps(40)
    check(made)
    assert {own["updates"].item() for own in made[0].opt.state.values()} == {2**24 + 20}


def test_an_error_of_a_schedule_changes_nothing(monkeypatch):
    def ends(count):
        if count > 30:
            raise ValueError("as the test wants it")
        return 0.1

    made = pair(lambda: fo.sgd(ends), monkeypatch)
    errors = []
    for job in made:
        job.steps(20)
        with pytest.raises(HyperparameterError, match="as the test wants it") as error:
            job.steps(20)
        errors.append(str(error.value))
    check(made)
    assert errors[0] == errors[1]
