"""`piecewise_constant_schedule` and `piecewise_interpolate_schedule`."""

import optax
import pytest

from funcopt.errors import HyperparameterError
from funcopt.schedules import (
    multi_step_decay_schedule,
    piecewise_constant_schedule,
    piecewise_interpolate_schedule,
)

from .references import assert_same, of_optax

PIECES = [{}, {4: 0.5}, {4: 0.5, 9: 3.0, 30: 0.0}, {1: 2.0, 2: 0.1, 3: 0.7}]


@pytest.mark.parametrize("pieces", PIECES, ids=str)
def test_constants_are_those_of_optax(pieces):
    ours = piecewise_constant_schedule(0.3, tuple(pieces), tuple(pieces.values()))
    assert_same(ours, of_optax(optax.piecewise_constant_schedule(0.3, pieces), 40))


@pytest.mark.parametrize("interpolation", ["linear", "cosine"])
@pytest.mark.parametrize("pieces", PIECES[1:], ids=str)
def test_transitions_are_those_of_optax(pieces, interpolation):
    ours = piecewise_interpolate_schedule(
        0.3, tuple(pieces), tuple(pieces.values()), interpolation=interpolation
    )
    theirs = optax.piecewise_interpolate_schedule(interpolation, 0.3, pieces)
    assert_same(ours, [float(theirs(step)) for step in range(40)])


def test_with_one_factor_it_is_the_decay_at_milestones():
    ours = piecewise_constant_schedule(0.5, (3, 8), (0.5, 0.5))
    other = multi_step_decay_schedule(0.5, (3, 8), gamma=0.5)
    assert [ours(step) for step in range(12)] == [other(step) for step in range(12)]


def test_a_boundary_has_its_value_exactly():
    schedule = piecewise_interpolate_schedule(0.5, (3, 8, 8), (0.5, 4.0, 2.0))
    assert [schedule(step) for step in (0, 3, 8, 100)] == [0.5, 0.25, 2.0, 2.0]
    assert schedule(7) == pytest.approx(0.25 + 0.75 * 0.8, rel=1e-15)  # on the way to 1.0


@pytest.mark.parametrize("make", [piecewise_constant_schedule, piecewise_interpolate_schedule])
def test_there_is_a_scale_for_every_boundary(make):
    complaint = (
        f"`{make.__name__}`: `scales` must be a tuple of as many numbers as there are "
        "`boundaries`, 2, got (0.5,)."
    )
    with pytest.raises(HyperparameterError) as caught:
        make(0.3, (3, 8), (0.5,))
    assert str(caught.value) == complaint
    with pytest.raises(HyperparameterError, match=r"`scales\[1\]` must not be negative, got -1"):
        make(0.3, (3, 8), (0.5, -1.0))
