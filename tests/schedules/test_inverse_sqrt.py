"""`inverse_sqrt_schedule`."""

import pytest

from funcopt.schedules import inverse_sqrt_schedule

from ..frameworks import needed
from .references import assert_same, of_torch


@pytest.mark.parametrize(
    ("warmup", "timescale"), [(10, None), (10, 40), (10, 3), (0, None), (0, 7), (1, None)]
)
def test_it_is_that_of_transformers(warmup, timescale):
    def scheduler(optimizer):
        make = needed("transformers").get_inverse_sqrt_schedule
        return make(optimizer, warmup, timescale)

    assert_same(inverse_sqrt_schedule(0.3, warmup, timescale), of_torch(scheduler, 0.3, 200))


def test_after_the_warm_up_it_is_that_of_the_paper():
    schedule = inverse_sqrt_schedule(0.3, 16)
    for step in (16, 64, 400, 10**6):
        assert schedule(step) == pytest.approx(0.3 * (16 / step) ** 0.5, rel=1e-15)


def test_the_warm_up_starts_where_it_is_told():
    schedule = inverse_sqrt_schedule(0.3, 10, init_value=0.1)
    assert [schedule(0), schedule(5), schedule(10)] == pytest.approx([0.1, 0.2, 0.3], rel=1e-15)
