"""What holds for every schedule."""

import dataclasses
import math
import pickle

import pytest
import torch

import funcopt.schedules
from funcopt import Record
from funcopt.typing import is_hyperparameter

from .cases import SCHEDULES, name

STEPS = range(-4, 70)
EVERY = pytest.mark.parametrize("schedule", SCHEDULES, ids=name)


def fields_with_numbers():
    for schedule in SCHEDULES:
        for field in dataclasses.fields(schedule):
            if is_hyperparameter(field.type) and isinstance(getattr(schedule, field.name), float):
                yield pytest.param(schedule, field.name, id=f"{field.name} of {name(schedule)}")


EVERY_FIELD = pytest.mark.parametrize(("schedule", "field"), list(fields_with_numbers()))


def public_names():
    return {key for key in vars(funcopt.schedules) if not key.startswith("_")}


def values(schedule, steps=STEPS):
    return torch.tensor([schedule(step) for step in steps], dtype=torch.float64)


def assert_close(got, expected):
    torch.testing.assert_close(got, expected, rtol=4e-15, atol=1e-16)


def test_every_schedule_has_a_case():
    assert {type(schedule).__name__ for schedule in SCHEDULES} == public_names()


@pytest.mark.parametrize("key", sorted(public_names()))
def test_every_schedule_is_a_record_that_says_what_it_is(key):
    schedule = getattr(funcopt.schedules, key)
    assert issubclass(schedule, Record)
    for section in ("Args:", "Raises:"):
        assert section in schedule.__doc__
    for field in dataclasses.fields(schedule):
        assert f"{field.name}:" in schedule.__doc__


@EVERY
def test_a_number_gives_a_finite_float(schedule):
    for step in (*STEPS, 0.5, 10**6, 2**40):
        assert type(schedule(step)) is float
        assert math.isfinite(schedule(step)) or "end_value" not in repr(schedule)


@EVERY
def test_a_tensor_gives_the_same_in_float64(schedule):
    for step in (*STEPS, 0.5, 1000):
        value = schedule(torch.tensor(step))
        assert value.dtype == torch.float64
        assert value.shape == ()
        assert_close(value, torch.tensor(schedule(step), dtype=torch.float64))


@EVERY
@pytest.mark.parametrize("dtype", [torch.int32, torch.float32, torch.float64])
def test_the_dtype_of_the_step_does_not_matter(schedule, dtype):
    assert_close(schedule(torch.tensor(8, dtype=dtype)), schedule(torch.tensor(8)))


@EVERY
def test_before_the_beginning_it_is_as_at_the_beginning(schedule):
    assert schedule(-1) == schedule(-100) == schedule(0)


@EVERY
def test_steps_may_be_batched(schedule):
    steps = torch.tensor(STEPS)
    assert_close(torch.func.vmap(schedule)(steps), values(schedule))
    assert_close(schedule(steps), values(schedule))


@EVERY
def test_it_is_one_graph_for_all_steps(schedule):
    torch._dynamo.reset()
    compiled = torch.compile(schedule, backend="eager", fullgraph=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        got = torch.stack([compiled(torch.tensor(step)) for step in STEPS])
    assert_close(got, values(schedule))


@EVERY_FIELD
def test_its_values_may_be_tensors(schedule, field):
    tensor = torch.tensor(getattr(schedule, field), dtype=torch.float64)
    for step in (3, torch.tensor(3)):
        value = schedule.replace(**{field: tensor})(step)
        assert value.dtype == torch.float64
        assert value.shape == ()
        assert_close(value, values(schedule, [3])[0])


@EVERY_FIELD
def test_its_values_may_be_batched(schedule, field):
    runs = torch.tensor([0.5, 0.9, 1.0], dtype=torch.float64) * getattr(schedule, field)
    each = torch.stack([values(schedule.replace(**{field: run})) for run in runs.tolist()])

    def of_run(run, step):
        return schedule.replace(**{field: run})(step)

    for step in (0, 3, 8, 30):
        now = each[:, STEPS.index(step)]
        assert_close(torch.func.vmap(of_run, in_dims=(0, None))(runs, step), now)
        assert_close(torch.func.vmap(of_run)(runs, torch.full((3,), step)), now)


@EVERY_FIELD
def test_its_values_may_be_traced(schedule, field):
    torch._dynamo.reset()

    @torch.compile(backend="eager", fullgraph=True)
    def compiled(value, step):
        return schedule.replace(**{field: value})(step)

    tensor = torch.tensor(getattr(schedule, field), dtype=torch.float64)
    got = torch.stack([compiled(tensor, torch.tensor(step)) for step in (0, 3, 8, 30)])
    assert_close(got, values(schedule, (0, 3, 8, 30)))


@EVERY_FIELD
def test_its_values_can_be_learned(schedule, field):
    """The derivative is finite at every step, and the slope that differences show."""
    value = getattr(schedule, field)
    far = [10**6] if math.isfinite(schedule(10**6)) else []
    steps = torch.tensor([*STEPS, *far])

    def of_value(x):
        return schedule.replace(**{field: x})(steps)

    got = torch.func.jacrev(of_value)(torch.tensor(value, dtype=torch.float64))
    assert got.isfinite().all()
    h = 1e-6 * max(value, 0.1)
    slope = values(schedule.replace(**{field: value + h}), steps.tolist()) - values(
        schedule.replace(**{field: max(value - h, 0.0)}), steps.tolist()
    )
    slope /= value + h - max(value - h, 0.0)
    torch.testing.assert_close(got, slope, rtol=1e-4, atol=1e-7)


@EVERY_FIELD
@pytest.mark.parametrize("step", [0, 5, 8])
def test_a_step_that_is_a_number_does_not_hinder_learning(schedule, field, step):
    value = torch.tensor(getattr(schedule, field), dtype=torch.float64)

    def of_value(x, now):
        return schedule.replace(**{field: x})(now)

    got = torch.func.grad(of_value)(value, step)
    assert_close(got, torch.func.grad(of_value)(value, torch.tensor(step)))


@EVERY
def test_a_hyperparameter_takes_it_from_step_zero_on(schedule):
    tx = funcopt.scale_by_learning_rate(schedule)
    grads = torch.ones(2, dtype=torch.float64)
    state = tx.init(grads)
    for step in range(12):
        updates, state = tx.update(grads, state)
        assert updates.tolist() == [-schedule(step)] * 2


@EVERY
def test_its_repr_builds_it_again(schedule):
    assert eval(repr(schedule), vars(funcopt.schedules)) == schedule


@EVERY
def test_it_equals_its_pickled_copy(schedule):
    copy = pickle.loads(pickle.dumps(schedule))
    assert copy == schedule
    assert hash(copy) == hash(schedule)


@EVERY
def test_it_cannot_be_changed(schedule):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(schedule, dataclasses.fields(schedule)[0].name, 1.0)
