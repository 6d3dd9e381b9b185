"""A step count that is withheld: what a rule prepares without it is prepared once."""

import math

import pytest
import torch

import funcopt as fo
from funcopt.engine._withheld import prepared_of_no_step

from .test_recorded import Job, pair, program_of, same


@pytest.fixture(autouse=True)
def by_bytecode(monkeypatch):
    monkeypatch.setenv("FUNCOPT_KERNELS", "bytecode")


class scaled(fo.TensorRule):
    """Scales by what a function makes of the count, and counts how often it is asked."""

    of: object
    rate: fo.Scalar = 0.5
    elementwise = True
    asked = 0

    def prepare(self, step, memory):
        type(self).asked += 1
        return {"factor": self.of(step) * self.rate}

    def update_tensor(self, g, slots, p, s):
        return g * s.factor, slots


ASKING = {
    "arithmetic": lambda t: 1.0 / t,
    "a power": lambda t: 0.9**t,
    "a sign": lambda t: 1.0 + -t,
    "equality": lambda t: 2.0 if t == 9 else 1.0,
    "inequality": lambda t: 1.0 if t != 9 else 2.0,
    "order": lambda t: 2.0 if t > 9 else 1.0,
    "truth": lambda t: 1.0 if t else 2.0,
    "a remainder": lambda t: 1.0 + t % 3,
    "one of several": lambda t: 2.0 if t in (9, 20) else 1.0,
    "one of a set": lambda t: 2.0 if t in {9, 20} else 1.0,
    "a key": lambda t: {9: 2.0}.get(t, 1.0),
    "an index": lambda t: [1.0, 2.0][int(t) % 2],
    "a number": lambda t: float(t),
    "a function of numbers": lambda t: math.sqrt(t),
    "rounding": lambda t: 1.0 + round(t, -1),
    "the larger one": lambda t: max(1.0, t - 9.0),
    "an attribute": lambda t: 1.0 + t.real,
    "words": lambda t: 1.0 + len(f"{t}"),
    "its words": lambda t: 1.0 + len(repr(t)),
    "a tensor": lambda t: torch.tensor(float(1 + t)).item(),
    "itself": lambda t: t,
}


@pytest.mark.parametrize("of", ASKING.values(), ids=ASKING)
def test_what_asks_for_the_count_is_asked_in_each_step(of, monkeypatch):
    assert prepared_of_no_step(scaled(of), ()) is None
    one, other = pair(
        lambda: fo.chain(scaled(of), fo.scale(-0.1)), monkeypatch, lambda x: x.steps(45)
    )
    assert same(one.tensors(), other.tensors())
    assert program_of(one) is not None


def test_what_does_not_is_asked_once(monkeypatch):
    job = Job(fo.chain(scaled(lambda t: 1.0), fo.scale(-0.1)))
    job.steps(45)
    assert program_of(job) is not None
    monkeypatch.setattr(scaled, "asked", 0)
    job.steps(10)
    assert scaled.asked == 0


def test_values_that_are_written_arrive(monkeypatch):
    """They are inputs then, of which a rule prepares in each step."""

    def work(job):
        for k in range(4):
            job.steps(20)
            job.opt.param_groups[0]["lr"] = 0.1 / (k + 2)

    def tx():
        return fo.chain(scaled(lambda t: 1.0), fo.trace(0.9), fo.scale_by_learning_rate(0.1))

    one, other = pair(tx, monkeypatch, work)
    assert same(one.tensors(), other.tensors())


class stepped(fo.TensorRule):
    """Scales by what it makes of the size of its rate."""

    rate: fo.Scalar = 0.5
    elementwise = True

    def prepare(self, step, memory):
        return {"factor": 1.0 if self.rate > 0.3 else 2.0}

    def update_tensor(self, g, slots, p, s):
        return g * s.factor, slots


def test_a_rule_decides_nothing_while_it_is_asked(monkeypatch):
    """By a rate that is written, which is none of the choices of a window."""

    def work(job):
        for k in range(60):
            job.steps(1)
            job.opt.param_groups[0]["rate"] = 0.9 / (k + 1)

    def tx():
        return fo.accumulate(fo.chain(stepped(), fo.scale(-0.1)), 2)

    one, other = pair(tx, monkeypatch, work)
    assert same(one.tensors(), other.tensors())
    assert program_of(one) is not None


OTHERS = {
    "a tensor": lambda t: torch.tensor(1.0),
    "one in two": lambda t: (torch.tensor(1.0), 2.0),
    "the count, in a dict": lambda t: {"count": t},
    "the count, in a function": lambda t: lambda: t,
}


@pytest.mark.parametrize("of", OTHERS.values(), ids=OTHERS)
def test_no_more_than_numbers_are_kept(of):
    class of_others(fo.TensorRule):
        def prepare(self, step, memory):
            return {"factor": of(step)}

        def update_tensor(self, g, slots, p, s):
            return g, slots

    assert prepared_of_no_step(of_others(), ()) is None


@pytest.mark.parametrize("around", [fo.chain, lambda tx: fo.accumulate(tx, 2), fo.skip_if])
@pytest.mark.parametrize("inside", [fo.sgd(0.1, momentum=0.9), fo.lion(1e-3)], ids=["SGD", "Lion"])
def test_a_chain_without_counts_prepares_nothing(inside, around):
    job = Job(around(inside))
    job.steps(45)
    assert "prepare" not in program_of(job).source
