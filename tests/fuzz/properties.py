"""What holds of any program."""

import functools

import torch
from hypothesis import HealthCheck

from .programs import closures, in_backward, mixed, programs, separate, whole
from .runs import alone, assert_close, closed, evaluated, purely, rounding, wrapped

SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]

ENGINES = ["fused", "foreach", "torch", "auto"]


def engines_agree(program, engine):
    eager, moved = wrapped(program, "eager"), wrapped(program, "eager", noise=True)
    assert_close(eager, wrapped(program, engine), moved, rounding(program))


def equal_in_backward(program, engine):
    one = wrapped(program, engine, backward="usual")
    other = wrapped(program, engine, backward="steps")
    assert other.error == one.error
    for x, y in zip(one.params, other.params, strict=True):
        assert torch.equal(x.nan_to_num(7.0), y.nan_to_num(7.0)), (x, y)


eagerly = functools.partial(wrapped, engine="eager")


def same(pure, run, program):
    assert_close(pure(program), run(program), pure(program, noise=True), rounding(program))


PROPERTIES = {
    **{
        f"{engine} is eager": (programs(), functools.partial(engines_agree, engine=engine))
        for engine in ENGINES
    },
    "mixed dtypes": (programs(mixed), functools.partial(engines_agree, engine="auto")),
    **{
        f"in backward, {engine}": (
            in_backward,
            functools.partial(equal_in_backward, engine=engine),
        )
        for engine in ("eager", "fused")
    },
    "wrapped is pure": (whole, functools.partial(same, purely, eagerly)),
    "together is alone": (separate, functools.partial(same, alone, eagerly)),
    "a closure is a function": (closures, functools.partial(same, evaluated, closed)),
}
"""By name: programs, and what is checked of each."""
