"""Updates of the pure form that repeat those before: the same, whatever comes in between."""

import copy
import random

import pytest
import torch

import funcopt as fo
from funcopt.engine import _pure

from .common import by_kind

CHAINS = {
    "sgd": lambda: fo.sgd(0.1, momentum=0.9),
    "adamw": lambda: fo.adamw(1e-2),
    "clip, average": lambda: fo.chain(
        fo.clip_by_global_norm(0.3), fo.adamw(1e-2), fo.ema_of_params(0.9)
    ),
    "nadam": lambda: fo.nadam(1e-2),
    "scheduled": lambda: fo.adamw(fo.linear_schedule(0.1, 0.0, 20)),
    "a function of the count": lambda: fo.sgd(lambda count: 0.1 / (1 + count), momentum=0.9),
    "one of two": lambda: fo.chain(
        fo.clip_by_global_norm(0.3), fo.adamw(1e-2, betas=(fo.linear_schedule(0.5, 0.9, 20), 0.9))
    ),
    "cautious": lambda: fo.chain(fo.cautious(fo.scale_by_adam()), fo.scale_by_learning_rate(0.1)),
    "whole numbers in slots": lambda: fo.chain(by_kind(torch.int8), fo.scale(-0.1)),
    "counted": lambda: fo.chain(fo.skip_if(fo.scale_by_adam()), fo.scale_by_learning_rate(0.1)),
}


@pytest.fixture(autouse=True)
def by_bytecode(monkeypatch):
    monkeypatch.delenv("FUNCOPT_KERNELS", raising=False)


@pytest.fixture
def repeated(monkeypatch):
    """The updates that were repeated."""
    found, known = [], _pure._Known.repeated

    def repeat(self, *given):
        node = known(self, *given)
        found.extend([] if node is None else [node])
        return node

    monkeypatch.setattr(_pure._Known, "repeated", repeat)
    return found


def params():
    return {"a": torch.linspace(-1, 1, 9).reshape(3, 3), "b": torch.ones(4), "c": torch.tensor(0.5)}


def grads(ps, t):
    return {
        k: torch.arange(1.0, p.numel() + 1).mul(t + i).sin().reshape(p.shape).to(p.dtype)
        for i, (k, p) in enumerate(ps.items())
    }


class Job:
    """A transformation that is repeated, or, as a new one for each update, is not."""

    def __init__(self, tx, again):
        self.tx, self.again = tx, again
        self.params = params()
        self.state, self.t = tx.init(self.params), 0
        self.kept = []

    def step(self, t=None):
        tx = self.tx if self.again else copy.deepcopy(self.tx)
        self.t += 1
        gs = grads(self.params, self.t if t is None else t)
        with pytest.MonkeyPatch.context() as patch:
            if not self.again:
                patch.setattr(_pure._Known, "repeated", lambda *_: None)
            updates, self.state = tx.update(gs, self.state, self.params)
        self.params = fo.apply_updates(self.params, updates)
        self.kept.append((updates, self.state, self.params))

    def steps(self, count):
        for _ in range(count):
            self.step()

    def everything(self):
        return [x.clone() for x in fo.tree.leaves(self.kept)]


def same(a, b):
    return len(a) == len(b) and all(map(torch.equal, a, b))


def pair_of(tx):
    return Job(tx(), True), Job(tx(), False)


@pytest.mark.parametrize("tx", CHAINS.values(), ids=CHAINS)
def test_they_are_the_same(tx, repeated):
    """And what came out of those before stays as it is."""
    one, other = pair_of(tx)
    for job in (one, other):
        job.steps(8)
    assert same(one.everything(), other.everything())
    fresh = [x.data_ptr() for u, s, p in one.kept for x in fo.tree.leaves((u, s.slots, p))]
    assert len(set(fresh)) == len(fresh)


@pytest.mark.parametrize("name", sorted({*CHAINS} - {"nadam", "cautious"}))
def test_those_are_repeated(name, repeated):
    for count in (5, 10):  # of another transformation, like one that is gone
        job = Job(CHAINS[name](), True)
        job.steps(8)
        assert len(repeated) == count


def other_values(job):
    job.tx = fo.adamw(0.5)


def other_dtypes(job):
    job.params = {k: p.double() for k, p in job.params.items()}
    job.state = job.tx.init(job.params)


def transposed(job):
    job.params["a"] = job.params["a"].t()


def other_slots(job):
    job.state = fo.tree.map(lambda x: x.double() if x.dim() else x, job.state)


def another_step(job):
    job.state = job.state._replace(step=torch.tensor(100))


def a_step_in_float64(job):
    job.state = job.state._replace(step=job.state.step.double())


def in_one_pass(job):
    """As every other update."""
    for t in range(8):
        if t % 2:
            job.steps(1)
        gs = grads(job.params, t)
        job.params, job.state = fo.update_and_apply(job.tx, gs, job.state, job.params)


def other_trees(job):
    job.params["d"] = torch.ones(2)
    job.state = job.tx.init(job.params)


def in_turns(job):
    """With another tree."""
    for _ in range(3):
        ps, state = job.params, job.state
        job.params = {"x": torch.ones(5)}
        job.state = job.tx.init(job.params)
        job.steps(1)
        job.params, job.state = ps, state
        job.steps(1)


def with_gradients(job):
    job.params = {k: p.requires_grad_() for k, p in job.params.items()}
    job.steps(2)
    with torch.no_grad():
        job.steps(2)
    job.params = {k: p.detach() for k, p in job.params.items()}


CHANGES = (
    *(other_values, other_dtypes, transposed, other_slots, another_step, other_trees, in_turns),
    *(with_gradients, a_step_in_float64, in_one_pass),
)


@pytest.mark.parametrize("change", CHANGES)
def test_what_differs_is_seen(change):
    one, other = pair_of(CHAINS["adamw"])
    for job in (one, other):
        job.steps(5)
        change(job)
        job.steps(3)
    pairs = list(zip(one.everything(), other.everything(), strict=True))
    assert all(x.dtype == y.dtype and torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("seed", range(12))
def test_changes_one_after_another_are_seen(seed):
    """With updates in between, after which one is repeated or not."""
    draw = random.Random(seed)
    changes = [(draw.choice(CHANGES), draw.choice((1, 2, 5))) for _ in range(6)]
    one, other = pair_of(draw.choice(list(CHAINS.values())))
    for job in (one, other):
        job.steps(5)
        for change, count in changes:
            if change is not other_values:  # whose state is of another chain
                change(job)
            job.steps(count)
    assert same(one.everything(), other.everything())


def test_one_that_is_made_for_every_update_is_not_repeated(repeated, monkeypatch):
    made = []
    monkeypatch.setattr(_pure._Known, "_ready_for", lambda *given: made.append(given))
    job = Job(CHAINS["adamw"](), False)
    job.steps(20)
    assert not made
    assert not repeated


def test_memory_may_be_anything(repeated):
    """What is no count, or no plain tensor, is not taken for one."""
    one, other = pair_of(lambda: fo.accumulate(fo.adamw(1e-2), 3))
    for job in (one, other):
        job.steps(20)
        for dtype in (torch.int32, torch.float64, torch.int64):
            memory = fo.tree.map(lambda x, dtype=dtype: x.to(dtype), job.state.memory)
            job.state = job.state._replace(memory=memory)
            job.steps(3)
    pairs = list(zip(one.everything(), other.everything(), strict=True))
    assert all(x.dtype == y.dtype and torch.equal(x, y) for x, y in pairs)
    assert repeated


def test_autograd_follows_where_it_is_on(repeated):
    tx, ps = CHAINS["adamw"](), fo.tree.map(torch.Tensor.requires_grad_, params())
    state = fo.tree.map(torch.Tensor.detach, tx.init(ps))
    for t in range(6):
        with torch.no_grad():
            tx.update(grads(ps, t), state, ps)
    assert repeated
    updates, _ = tx.update(grads(ps, 6), state, ps)
    assert all(u.requires_grad for u in fo.tree.leaves(updates))


def test_a_tensor_may_stand_in_two_places(repeated):
    """Of which the guard of Dynamo says nothing."""
    tx, ps = fo.sgd(0.1, momentum=0.9), {"a": torch.ones(3), "b": torch.ones(3)}
    state = tx.init(ps)
    for t in range(8):
        g = torch.full((3,), float(t))
        updates, state = tx.update({"a": g, "b": g}, state, ps)
    assert len(repeated) == 5
    assert updates["a"].equal(updates["b"])
    assert updates["a"] is not updates["b"]
    other = tx.update({"a": g.double(), "b": g}, state, ps)
    assert other[0]["a"].dtype is torch.float64


def test_two_ways_in_turns_are_both_repeated(repeated):
    job = Job(CHAINS["sgd"](), True)
    job.steps(4)
    in_one_pass(job)
    known = len(repeated)
    for _ in range(3):
        in_one_pass(job)
    assert len(repeated) == known + 3 * 12


def test_a_missing_gradient(repeated):
    one, other = pair_of(CHAINS["sgd"])
    for job in (one, other):
        job.steps(5)
        tx = job.tx if job.again else copy.deepcopy(job.tx)
        updates, job.state = tx.update({**grads(job.params, 3), "b": None}, job.state, job.params)
        assert updates["b"] is None
        job.steps(2)
    assert same(one.everything(), other.everything())


def test_a_guard_on_a_number(repeated):
    """Of what a rule branches on."""

    class warmed(fo.TensorRule):
        elementwise = True

        def prepare(self, step, memory):
            return {"late": max(0.0, step - 6.0)}

        def update_tensor(self, g, slots, p, s):
            return (g if s.late > 0 else 0.1 * g) + s.late, slots

    one, other = pair_of(warmed)
    for job in (one, other):
        job.steps(12)
    assert same(one.everything(), other.everything())
    assert repeated


def test_what_a_stage_said_of_an_update_stays():
    tx = CHAINS["clip, average"]()
    ps = params()
    state, said = tx.init(ps), []
    for t in range(8):
        _, state, ran = tx.update_and_ran(grads(ps, t), state, ps)
        said.append(ran["0",].node.rows[0]["grad_norm"])
    norms = [float(fo.tree.norm(grads(ps, t))) for t in range(8)]
    assert list(map(float, said)) == pytest.approx(norms, rel=1e-6)
    nodes = [tx.update_and_ran(grads(ps, t), state, ps)[2]["0",].node for t in range(3)]
    assert [float(n.rows[0]["grad_norm"]) for n in nodes] == pytest.approx(norms[:3], rel=1e-6)
