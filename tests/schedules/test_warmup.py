"""`warmup_cosine_decay_schedule` and `warmup_stable_decay_schedule`."""

import math

import optax
import pytest

from funcopt.schedules import (
    constant_schedule,
    cosine_decay_schedule,
    join_schedules,
    linear_schedule,
    warmup_cosine_decay_schedule,
    warmup_stable_decay_schedule,
)

from ..frameworks import needed
from .references import assert_same, of_optax, of_torch


def test_it_goes_from_value_to_value():
    schedule = warmup_cosine_decay_schedule(0.2, 2.0, 100, 1000, end_value=-3.0)
    assert (schedule(0), schedule(100), schedule(1000), schedule(2000)) == (0.2, 2.0, -3.0, -3.0)


def test_with_a_peak_of_zero_the_end_value_counts_too():
    """In Optax it does not."""
    schedule = warmup_cosine_decay_schedule(0.2, 0.0, 100, 1000, end_value=-3.0)
    assert schedule(20) == pytest.approx(0.16, rel=1e-15)
    assert (schedule(0), schedule(100), schedule(1000)) == (0.2, 0.0, -3.0)


@pytest.mark.parametrize("warmup", [0, 1, 10])
@pytest.mark.parametrize(("start", "end"), [(0.0, 0.0), (0.02, 0.01), (0.3, 0.2)])
def test_warmup_cosine_decay_is_that_of_optax(start, end, warmup):
    expected = of_optax(optax.warmup_cosine_decay_schedule(start, 0.1, warmup, 50, end), 80)
    assert_same(warmup_cosine_decay_schedule(start, 0.1, warmup, 50, end), expected)


def test_warmup_cosine_decay_is_a_join():
    expected = join_schedules(
        (linear_schedule(0.02, 0.1, 10), cosine_decay_schedule(0.1, 40, 0.01)), (10,)
    )
    assert_same(
        warmup_cosine_decay_schedule(0.02, 0.1, 10, 50, 0.01), [expected(t) for t in range(80)], 0
    )


@pytest.mark.parametrize(
    ("shape", "fall"),
    [
        ("linear", lambda x: 1 - x),
        ("cosine", lambda x: 0.5 * (1 + math.cos(math.pi * x))),
        ("1-sqrt", lambda x: 1 - math.sqrt(x)),
        ("1-square", lambda x: 1 - x**2),
    ],
)
def test_warmup_stable_decay_has_the_cooldown_of_the_paper(shape, fall):
    expected = (
        [0.1 * n / 5 for n in range(5)]
        + [0.1] * 8
        + [0.1 * fall(n / 10) for n in range(10)]
        + [0.0] * 5
    )
    assert_same(warmup_stable_decay_schedule(0.1, 5, 8, 10, decay_type=shape), expected)


@pytest.mark.parametrize(("warmup", "stable"), [(5, 8), (0, 8), (5, 0), (0, 0)])
def test_warmup_stable_decay_is_a_join(warmup, stable):
    ours = warmup_stable_decay_schedule(0.1, warmup, stable, 10, 0.02, 0.01)
    parts = (
        linear_schedule(0.02, 0.1, warmup or 1),
        constant_schedule(0.1),
        linear_schedule(0.1, 0.01, 10),
    )
    expected = join_schedules(parts, (warmup, warmup + stable))
    assert_same(ours, [expected(t) for t in range(40)], roundings=0)


def test_the_stable_stretch_is_exactly_the_peak():
    schedule = warmup_stable_decay_schedule(0.1, 5, 8, 10, end_value=0.003, decay_type="1-sqrt")
    assert {schedule(step) for step in range(5, 14)} == {0.1}


@pytest.mark.parametrize("warmup_type", ["linear", "cosine", "1-sqrt"])
@pytest.mark.parametrize("decay_type", ["linear", "cosine", "1-sqrt"])
@pytest.mark.parametrize("least", [0.0, 0.1])
def test_warmup_stable_decay_is_that_of_transformers(warmup_type, decay_type, least):
    def scheduler(optimizer):
        return needed("transformers").get_wsd_schedule(
            optimizer,
            num_warmup_steps=7,
            num_stable_steps=5,
            num_decay_steps=11,
            warmup_type=warmup_type,
            decay_type=decay_type,
            min_lr_ratio=least,
        )

    low = 0.3 * least
    ours = warmup_stable_decay_schedule(0.3, 7, 5, 11, low, low, decay_type, warmup_type)
    assert_same(ours, of_torch(scheduler, 0.3, 40), roundings=6)
