"""Steps of stages that decide are recorded: what follows from counts is one function of Python."""

import copy
import math
from typing import NamedTuple

import pytest
import torch
from torch import nn

import funcopt as fo
from funcopt.combinators import walk
from funcopt.engine import _ready
from funcopt.optim import _optimizer


@pytest.fixture(autouse=True)
def by_bytecode(monkeypatch):
    monkeypatch.delenv("FUNCOPT_KERNELS", raising=False)
    monkeypatch.delenv("FUNCOPT_ENGINE", raising=False)


def clipped():
    return fo.chain(fo.clip_by_global_norm(0.3), fo.adamw(1e-2))


def by_length(name, p):
    return "a" if p.numel() > 3 else "b"


def is_short(name, p):
    return p.numel() < 5


CHAINS = {
    "a clip in a window": lambda: fo.accumulate(clipped(), 3),
    "skip_if": lambda: fo.skip_if(fo.adamw(1e-2)),
    "accumulate": lambda: fo.accumulate(fo.adamw(1e-2), 3),
    "lookahead": lambda: fo.lookahead(fo.adamw(1e-2), 3),
    "a clip inside": lambda: fo.skip_if(clipped()),
    "a clip around": lambda: fo.chain(fo.clip_by_global_norm(0.3), fo.skip_if(fo.scale(-0.1))),
    "two windows": lambda: fo.accumulate(fo.accumulate(fo.adamw(1e-2), 2), 2),
    "one in another": lambda: fo.skip_if(fo.accumulate(fo.lookahead(clipped(), 2), 2)),
    "schedules inside": lambda: fo.accumulate(
        fo.adamw(fo.linear_schedule(0.1, 0.0, 9), betas=(fo.linear_schedule(0.5, 0.9, 9), 0.99)), 2
    ),
    "the sum": lambda: fo.accumulate(fo.sgd(0.1, momentum=0.9), 2, mean=False),
    "AdamW": lambda: fo.adamw(1e-2),
    "clip": clipped,
    "a norm of each tensor": lambda: fo.lamb(1e-2),
    "labels": lambda: fo.partition({"a": clipped(), "b": fo.sgd(0.1)}, by_length),
    "masked": lambda: fo.chain(fo.masked(fo.clip_by_global_norm(0.3), is_short), fo.adamw(1e-2)),
    "cautious": lambda: fo.chain(fo.cautious(fo.scale_by_adam()), fo.scale(-0.1)),
    "graft": lambda: fo.chain(fo.graft(fo.trace(0.9), fo.scale_by_adam(), start=3), fo.scale(-0.1)),
    "weighted": lambda: fo.chain(
        fo.weighted_sum((fo.identity(), fo.trace(0.9)), (0.5, 2.0)), fo.scale(-0.1)
    ),
    "kahan": lambda: fo.rounded(clipped(), "kahan"),
    "a norm of each, or not": lambda: fo.skip_if(fo.lamb(1e-2)),
    "Schedule-Free": lambda: fo.schedule_free(fo.adam(1.0), 1e-2, warmup_steps=4),
    "an average that is stored": lambda: fo.schedule_free(
        fo.sgd(1.0), fo.linear_schedule(0.0, 0.1, 9), momentum=0.0, store_average=True
    ),
    "a product in memory": lambda: fo.nadam(1e-2),
    "a product in a window": lambda: fo.accumulate(fo.nadam(1e-2), 2),
    "a rate in memory": lambda: fo.asgd(1e-2),
    "the first rate": lambda: fo.adabound(0.1),
    "a distance": lambda: fo.prodigy(),
    "sums that need no gradient": lambda: fo.accumulate(fo.prodigy(), 2),
    "a distance, skipped": lambda: fo.skip_if(fo.dog()),
    "means of norms": lambda: fo.chain(fo.clip_by_zscore(warmup=2), fo.adamw(1e-2)),
    "a condition that counts": lambda: fo.skip_if(fo.adamw(1e-2), every_third()),
}


class Job:
    """An optimizer of two groups, with gradients that depend on the step."""

    def __init__(self, tx, **group):
        self.params = [nn.Parameter(torch.linspace(-1, 1, n)) for n in (3, 4, 5)]
        groups = [{"params": self.params[:2]}, {"params": self.params[2:], **group}]
        self.opt, self.t = fo.Optimizer(groups, tx), 0

    def steps(self, count, spoiled=()):
        for _ in range(count):
            self.t += 1
            for i, p in enumerate(self.params):
                p.grad = torch.arange(1.0, p.numel() + 1).mul(self.t + i).sin()
            if self.t in spoiled and "skip_if" in repr(self.opt.tx):
                self.params[0].grad[0] = torch.nan
            self.opt.step()

    def tensors(self):
        states = (x for own in self.opt.state.values() for x in own.values())
        return [x.detach().clone() for x in (*self.params, *states)]


def same(a, b):
    return len(a) == len(b) and all(map(equal, a, b))


def equal(x, y):
    return torch.allclose(x, y, rtol=0, atol=0, equal_nan=True) and x.dtype == y.dtype


def pair(tx, monkeypatch, work, **group):
    """Jobs that have done some work, with steps that are recorded, and not."""
    made = []
    for records in (True, False):
        with monkeypatch.context() as patch:
            if not records:
                patch.setattr(_ready, "record", refuse)
            job = Job(tx(), **group)
            work(job)
            made.append(job)
    return made


def refuse(*given):
    raise _ready.Unsupported("recorded steps, in this test")


def program_of(job):
    return job.opt._ready._kernels._program


@pytest.mark.parametrize("tx", CHAINS.values(), ids=CHAINS)
def test_they_are_those_of_the_stages_themselves(tx, monkeypatch):

    def work(job):
        job.steps(60, spoiled=(30, 41, 42))
        job.said = []
        for _ in range(4):  # metrics stay in a window
            job.steps(1, spoiled=(62,))
            job.said.append(job.opt.metrics())

    one, other = pair(tx, monkeypatch, work, weight_decay=0.3)
    assert same(one.tensors(), other.tensors())
    for found, expected in zip(one.said, other.said, strict=True):
        assert found.keys() == expected.keys()
        assert all(equal(found[k], expected[k]) for k in found)


@pytest.mark.parametrize("name", [x for x in CHAINS if x != "schedules inside"])
def test_no_stage_is_called(name, monkeypatch):
    """What `prepare` and `conclude` make of numbers is asked of them in each step."""
    job = Job(CHAINS[name]())
    job.steps(45, spoiled=(20,))
    assert program_of(job) is not None
    for cls in {type(stage) for _, stage in walk(job.opt.tx)}:
        for method in ("open", "run", "memory_after"):
            monkeypatch.setattr(cls, method, refuse)
    for count in (1, 2, 5):
        job.steps(count)
    assert program_of(job) is not None


def test_a_program_can_be_read():
    job = Job(fo.accumulate(fo.sgd(0.1), 3))
    job.steps(45)
    lines = [x.strip() for x in program_of(job).source.splitlines()]
    assert lines[0] == "def run(step):"
    assert lines[1].endswith("= words[0] + (1)")
    assert lines[2].endswith(">= (3)")
    assert lines[3].startswith("if ")
    assert lines.count("return True") == 2


def test_a_way_that_was_not_seen_is_found_out(monkeypatch):
    """The first gradient that is not finite, long after steps are recorded."""
    one, other = pair(CHAINS["a clip inside"], monkeypatch, lambda job: job.steps(90, (50, 80)))
    assert same(one.tensors(), other.tensors())
    assert int(one.opt.metrics()["skipped"]) == 2
    assert program_of(one) is not None


@pytest.mark.parametrize("every", [1, 3, 40])
def test_values_may_be_written(every, monkeypatch):
    """By a scheduler: what it writes is given to the program from then on."""

    def work(job):
        job.made = []
        for t in range(120):
            if t % every == 0:
                job.opt.param_groups[1]["lr"] *= 0.9
            job.steps(1, spoiled=(70,))
            job.made.append(job.opt._ready)

    one, other = pair(CHAINS["a clip inside"], monkeypatch, work)
    assert same(one.tensors(), other.tensors())
    assert one.made[-1] is one.made[80] is not None
    assert program_of(one) is not None


def test_memory_may_be_written(monkeypatch):
    def work(job):
        job.steps(40)
        for key, x in (("micro_step", 2), ("inner_step", 0), ("inner_updates", 5)):
            for own in job.opt.state.values():
                own[key].fill_(x)
            job.steps(20)

    one, other = pair(CHAINS["accumulate"], monkeypatch, work)
    assert same(one.tensors(), other.tensors())


def test_what_was_handed_out_goes_on():
    """As the clocks of torch do: they are the tensors of the state, and a copy is a copy."""
    job = Job(CHAINS["accumulate"]())
    job.steps(40)
    own = job.opt.state[job.params[0]]
    count, saved = own["micro_step"], copy.deepcopy(job.opt.state_dict())["state"][0]
    before = {k: x.clone() for k, x in saved.items()}
    for t in (41, 42, 43, 44):
        job.steps(1)
        assert program_of(job) is not None
        assert own["micro_step"] is count
        assert int(count) == t % 3
        assert int(own["inner_updates"]) == int(own["inner_step"]) == t // 3
    assert all(torch.equal(saved[k], before[k]) for k in before)


@pytest.mark.parametrize(("every", "most"), [(6, 8), (60, 40)])
def test_what_does_not_pay_is_tried_less_and_less_often(every, most, monkeypatch):
    """Where a step soon differs from those before; where it does not, it is made ready at once."""
    tried, ready_step = [], _optimizer.ready_step
    monkeypatch.setattr(_optimizer, "ready_step", lambda *x: tried.append(x) or ready_step(*x))
    job = Job(CHAINS["lookahead"]())
    for _ in range(600 // every):
        job.steps(every - 1)
        job.params[0].requires_grad_(False)
        job.params[0].grad = None
        job.opt.step()
        job.params[0].requires_grad_()
    assert 2 <= len(tried) <= most
    if every == 60:
        assert len(tried) >= 600 // every


class counting(fo.TensorRule):
    """A rule whose scalars a test may spoil."""

    elementwise = True
    fails = False

    def prepare(self, step, memory):
        if counting.fails:
            raise ValueError("as the test wants it")
        return {"late": 1.0 / step}

    def update_tensor(self, g, slots, p, s):
        return g * s.late, slots


class declares_nothing(fo.accumulate):
    """A combinator of somebody else, that has numbers from elsewhere."""

    made = 0

    def open(self, *given):
        type(self).made += 1
        return super().open(*given)


def test_stages_that_do_not_say_so_are_called_in_each_step():
    job = Job(declares_nothing(fo.adamw(1e-2), 2))
    job.steps(40)
    declares_nothing.made = 0
    job.steps(10)
    assert declares_nothing.made == 10


def test_an_error_changes_nothing(monkeypatch):
    job = Job(fo.chain(fo.skip_if(counting()), fo.scale(-0.1)))
    job.steps(45)
    assert program_of(job) is not None
    before = job.tensors()
    monkeypatch.setattr(counting, "fails", True)
    with pytest.raises(ValueError, match="as the test wants it"):
        job.steps(1)
    assert same(before, job.tensors())
    monkeypatch.setattr(counting, "fails", False)
    job.steps(5)
    assert not same(before, job.tensors())


class Seen(NamedTuple):
    """The shared scalars of `every_third`."""

    gradients: torch.Tensor


class every_third(fo.TensorRule):
    """A condition that counts what it has seen."""

    elementwise = True
    memory_per = "tree"

    def init_memory(self, like):
        return Seen(torch.zeros((), dtype=torch.int64))

    def measure_tensor(self, g, slots, p, s):
        return g.isfinite().sum()

    def conclude(self, s, memory, total):
        seen = memory.gradients + (total > 0)
        return {"skip": seen % 3 == 0}, Seen(seen)

    def update_tensor(self, g, slots, p, s):
        return g, slots


class Product(NamedTuple):
    """The shared scalars of `scale_by_product`."""

    product: torch.Tensor


class scale_by_product(fo.TensorRule):
    """Divides by what follows from a product in memory."""

    of: object
    rate: fo.Scalar = 0.9
    elementwise = True

    def init_memory(self, like):
        return Product(torch.ones((), dtype=torch.float64))

    def prepare(self, step, memory):
        product = memory.product * self.rate
        return {"product": product, "divisor": self.of(product)}

    def conclude(self, s, memory, total):
        return {}, Product(s.product)

    def update_tensor(self, g, slots, p, s):
        if isinstance(s.divisor, tuple):  # parts
            (one, two), others = s.divisor
            return g / one / two * others[0], slots
        return g / s.divisor, slots


def scaled(of):
    return fo.chain(scale_by_product(of), fo.scale(-0.1))


SAME_IN_TORCH = {
    "arithmetic": lambda x: (1 - x) / (2 + x) - abs(-x),
    "comparisons": lambda x: 2.0 if 1.0 - x <= 0.5 or x == 0.25 else 1.0 + x,
    "nothing": lambda x: 2.0,
    "parts": lambda x: ((x + 2.0, 1.0), [1.0 - x]),
}


@pytest.mark.parametrize("of", SAME_IN_TORCH.values(), ids=SAME_IN_TORCH)
def test_what_python_and_torch_round_the_same_is_recorded(of, monkeypatch):
    one, other = pair(lambda: scaled(of), monkeypatch, lambda job: job.steps(45))
    assert same(one.tensors(), other.tensors())
    assert program_of(one) is not None


@pytest.mark.parametrize("of", [lambda x: 1 / (x - 0.9**30), lambda x: x**0.3, lambda x: x + 1])
def test_where_something_else_is_prepared_a_step_is_made_in_the_usual_way(of, monkeypatch):
    """Of tensors: these divide by zero, have powers, and may take the place of a number."""
    early = scaled(lambda x: of(x) if x > 0.9**30 - 1e-9 and x < 0.05 else 1.0)
    one, other = pair(lambda: early, monkeypatch, lambda job: job.steps(45))
    assert program_of(one) is not None
    for job in (one, other):
        for own in job.opt.state.values():
            for key in own:
                if "product" in key:
                    own[key].fill_(0.9**29)
        job.steps(1)
    assert same(one.tensors(), other.tensors())
    assert one.opt._ready is None


class damped(fo.TensorRule):
    """A factor that is concluded by a number of Python, which follows a schedule."""

    most: fo.Scalar = 1.0
    elementwise = True

    def measure_tensor(self, g, slots, p, s):
        return g.square().sum()

    def conclude(self, s, memory, total):
        return {"factor": 1.0 if float(total) < self.most else 0.5}, memory

    def update_tensor(self, g, slots, p, s):
        return g * s.factor, slots


class in_a_float(fo.TensorRule):
    """A count that is given in float64."""

    elementwise = True

    def init_memory(self, like):
        return Seen(torch.zeros((), dtype=torch.int64))

    def prepare(self, step, memory):
        return {"count": step}

    def conclude(self, s, memory, total):
        return {}, Seen(torch.full((), s.count, dtype=torch.float64, device=None))

    def update_tensor(self, g, slots, p, s):
        return g, slots


NOT_RECORDED = {
    "a schedule in a conclusion of torch": lambda: fo.accumulate(
        fo.chain(damped(lambda count: 1.0 + count), fo.sgd(0.1)), 2
    ),
    "what is not declared": lambda: declares_nothing(fo.adamw(1e-2), 2),
    "memory in float32": lambda: fo.skip_if(fo.adamw(1e-2), fo.norm_outlier(warmup=2)),
    "a power of memory": lambda: scaled(lambda product: product**0.3),
    "a power by memory": lambda: scaled(lambda product: 0.5**product),
    "a remainder": lambda: scaled(lambda product: 1.0 + product % 0.3),
    "a whole part": lambda: scaled(lambda product: 1.0 + product // 0.3),
    "an exponential": lambda: scaled(lambda product: math.exp(product)),
    "a function of torch": lambda: scaled(lambda product: torch.as_tensor(product).sin()),
    "a rate that may be written into": lambda: fo.skip_if(fo.sgd(torch.tensor(0.1))),
    "a window that grows": lambda: fo.accumulate(fo.sgd(0.1), lambda count: 1 + count // 3),
}


@pytest.mark.parametrize("tx", NOT_RECORDED.values(), ids=NOT_RECORDED)
def test_what_cannot_be_recorded_is_asked_in_each_step(tx, monkeypatch):
    one, other = pair(tx, monkeypatch, lambda job: job.steps(45, (21,)))
    assert same(one.tensors(), other.tensors())
    assert one.opt._ready is None or program_of(one) is None


def test_a_whole_number_in_memory_stays_one(monkeypatch):
    """Whatever is concluded: its state is written into."""

    def work(job):
        job.opt.init_state()
        job.steps(45)

    one, other = pair(lambda: fo.chain(in_a_float(), fo.sgd(0.1)), monkeypatch, work)
    assert same(one.tensors(), other.tensors())
    assert any(x.dtype is torch.int64 for x in one.tensors())


@pytest.mark.parametrize("tx", CHAINS.values(), ids=CHAINS)
def test_updates_of_the_pure_form_are_recorded_too(tx, monkeypatch):
    """And counts are new tensors, where they change."""

    def updates(records):
        with monkeypatch.context() as patch:
            if not records:
                patch.setattr(_ready, "record", refuse)
            one = tx()
            ps = {"a": torch.linspace(-1, 1, 5), "b": torch.ones(2, 2)}
            state, found = one.init(ps), []
            for t in range(40):
                gs = {k: p.cos() * (1 + t) for k, p in ps.items()}
                if t in (20, 31) and "skip_if" in repr(one):
                    gs["a"][0] = torch.inf
                us, state = one.update(gs, state, ps)
                ps = fo.apply_updates(ps, us)
                found += [us, state, ps]
            return fo.tree.leaves(found)

    one, other = updates(True), updates(False)
    assert same(one, other)
