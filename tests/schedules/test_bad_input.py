"""What a schedule says of arguments that it cannot take."""

import pytest
import torch

from funcopt.errors import HyperparameterError
from funcopt.schedules import (
    constant,
    cosine_decay,
    cosine_restarts,
    exponential_decay,
    join,
    linear,
    multi_step_decay,
    one_cycle,
    polynomial,
    step_decay,
    warmup_cosine_decay,
    warmup_stable_decay,
)

NO_STEPS = (
    "must be a positive whole number of updates, got {}. A schedule without steps is a `constant`."
)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (
            lambda: constant("fast"),
            "`constant`: `value` must be a number, a 0-d tensor or a schedule, got 'fast'.",
        ),
        (lambda: constant(float("nan")), "`constant`: `value` must be a number, got nan."),
        (
            lambda: constant(torch.ones(3)),
            "`constant`: `value` must be a single number, got a tensor of shape (3,). Inside "
            "`torch.func.vmap` each run sees its own 0-d tensor.",
        ),
        (
            lambda: linear(1.0, None, 5),
            "`linear`: `end_value` must be a number, a 0-d tensor or a schedule, got None.",
        ),
        (lambda: linear(1.0, 0.0, 0), "`linear`: `transition_steps` " + NO_STEPS.format(0)),
        (lambda: linear(1.0, 0.0, 2.5), "`linear`: `transition_steps` " + NO_STEPS.format(2.5)),
        (
            lambda: linear(1.0, 0.0, 5, -1),
            "`linear`: `transition_begin` must be a whole number, at least 0, got -1.",
        ),
        (
            lambda: polynomial(1.0, 0.0, 0.0, 5),
            "`polynomial`: `power` must be positive, got 0.0.",
        ),
        (
            lambda: polynomial(1.0, 0.0, 2, -1),
            "`polynomial`: `transition_steps` " + NO_STEPS.format(-1),
        ),
        (
            lambda: exponential_decay(1.0, 5, 0.0),
            "`exponential_decay`: `decay_rate` must be positive, got 0.0.",
        ),
        (
            lambda: exponential_decay(1.0, 5, 0.5, end_value="low"),
            "`exponential_decay`: `end_value` must be a number, a 0-d tensor or a schedule, got "
            "'low'.",
        ),
        (lambda: step_decay(1.0, 0), "`step_decay`: `step_size` " + NO_STEPS.format(0)),
        (lambda: step_decay(1.0, 5, -0.1), "`step_decay`: `gamma` must be positive, got -0.1."),
        (
            lambda: multi_step_decay(1.0, (5, 3)),
            "`multi_step_decay`: `milestones` must be a tuple of whole numbers of updates in "
            "ascending order, got (5, 3).",
        ),
        (
            lambda: multi_step_decay(1.0, 5),
            "`multi_step_decay`: `milestones` must be a tuple of whole numbers of updates in "
            "ascending order, got 5.",
        ),
        (
            lambda: multi_step_decay(1.0, (0.5, 3)),
            "`multi_step_decay`: `milestones` must be a tuple of whole numbers of updates in "
            "ascending order, got (0.5, 3).",
        ),
        (lambda: cosine_decay(1.0, True), "`cosine_decay`: `decay_steps` " + NO_STEPS.format(True)),
        (
            lambda: cosine_restarts(1.0, 0),
            "`cosine_restarts`: `first_decay_steps` " + NO_STEPS.format(0),
        ),
        (
            lambda: cosine_restarts(1.0, 5, 0),
            "`cosine_restarts`: `t_mult` must be a whole number, at least 1, got 0.",
        ),
        (
            lambda: one_cycle(1.0, 10, 1.2),
            "`one_cycle`: `pct_start` must lie in [0, 1], got 1.2.",
        ),
        (
            lambda: one_cycle(1.0, 10, anneal="cosine"),
            "`one_cycle`: `anneal` must be one of 'cos', 'linear', got 'cosine'.",
        ),
        (
            lambda: one_cycle(1.0, 10, div_factor=0.0),
            "`one_cycle`: `div_factor` must be positive, got 0.0.",
        ),
        (
            lambda: warmup_cosine_decay(0.0, 1.0, 10, 10),
            "`warmup_cosine_decay`: `decay_steps` must be more than `warmup_steps`, which it "
            "includes, got 10 and 10.",
        ),
        (
            lambda: warmup_cosine_decay(0.0, 1.0, -1, 10),
            "`warmup_cosine_decay`: `warmup_steps` must be a whole number, at least 0, got -1.",
        ),
        (
            lambda: warmup_stable_decay(1.0, 5, 5, 0),
            "`warmup_stable_decay`: `decay_steps` " + NO_STEPS.format(0),
        ),
        (
            lambda: warmup_stable_decay(1.0, 5, 5, 5, shape="sqrt"),
            "`warmup_stable_decay`: `shape` must be one of 'linear', 'cosine', '1-sqrt', got "
            "'sqrt'.",
        ),
        (
            lambda: join((1.0, 2.0), (5, 6)),
            "`join`: between 2 `schedules` there must be 1 `boundaries`, got (5, 6).",
        ),
        (
            lambda: join((1.0, 2.0, 3.0), (6, 5)),
            "`join`: `boundaries` must be a tuple of whole numbers of updates in ascending order, "
            "got (6, 5).",
        ),
        (
            lambda: join((1.0, "later"), (5,)),
            "`join`: `schedules[1]` must be a number, a 0-d tensor or a schedule, got 'later'.",
        ),
        (lambda: join((), ()), "`join`: `schedules` must be a tuple of schedules, got ()."),
        (
            lambda: join(constant(1.0), (5,)),
            "`join`: `schedules` must be a tuple of schedules, got constant(1.0).",
        ),
    ],
)
def test_the_mistake_is_named(make, complaint):
    with pytest.raises(HyperparameterError) as caught:
        make()
    assert str(caught.value) == complaint
