"""What holds of any program."""

import functools

from hypothesis import HealthCheck

from .programs import closures, mixed, programs, separate, whole
from .runs import alone, assert_close, closed, evaluated, purely, rounding, wrapped

SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]

ENGINES = ["fused", "foreach", "torch", "auto"]


def engines_agree(program, engine):
    eager, moved = wrapped(program, "eager"), wrapped(program, "eager", noise=True)
    assert_close(eager, wrapped(program, engine), moved, rounding(program))


eagerly = functools.partial(wrapped, engine="eager")


def same(pure, run, program):
    assert_close(pure(program), run(program), pure(program, noise=True), rounding(program))


PROPERTIES = {
    **{
        f"{engine} is eager": (programs(), functools.partial(engines_agree, engine=engine))
        for engine in ENGINES
    },
    "mixed dtypes": (programs(mixed), functools.partial(engines_agree, engine="auto")),
    "wrapped is pure": (whole, functools.partial(same, purely, eagerly)),
    "together is alone": (separate, functools.partial(same, alone, eagerly)),
    "a closure is a function": (closures, functools.partial(same, evaluated, closed)),
}
"""By name: programs, and what is checked of each."""
