"""Any chain, any tree, any events: all engines and both forms do the same."""

import functools
import os

import pytest
from hypothesis import HealthCheck, given, settings

from .programs import mixed, programs, whole
from .runs import assert_close, purely, rounding, wrapped

SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
some = settings(max_examples=int(os.environ.get("FUZZ_EXAMPLES", 25)), suppress_health_check=SLOW)

ENGINES = ["fused", "foreach", "torch", "auto"]


def engines_agree(program, engine):
    eager, moved = wrapped(program, "eager"), wrapped(program, "eager", noise=True)
    assert_close(eager, wrapped(program, engine), moved, rounding(program))


def forms_agree(program):
    pure, moved = purely(program), purely(program, noise=True)
    assert_close(pure, wrapped(program, "eager"), moved, rounding(program))


PROPERTIES = {
    **{
        f"{engine} is eager": (programs(), functools.partial(engines_agree, engine=engine))
        for engine in ENGINES
    },
    "mixed dtypes": (programs(mixed), functools.partial(engines_agree, engine="auto")),
    "wrapped is pure": (whole, forms_agree),
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_it_holds(name, monkeypatch):
    monkeypatch.setenv("FUNCOPT_KERNELS", "interpreted")
    strategy, check = PROPERTIES[name]
    some(given(strategy)(lambda program: check(program)))()
