"""What a schedule says of arguments that it cannot take."""

import pytest
import torch

from funcopt.errors import HyperparameterError
from funcopt.schedules import (
    constant_schedule,
    cosine_decay_schedule,
    cosine_restarts_schedule,
    exponential_decay,
    join_schedules,
    linear_schedule,
    multi_step_decay_schedule,
    one_cycle_schedule,
    polynomial_schedule,
    step_decay_schedule,
    warmup_cosine_decay_schedule,
    warmup_stable_decay_schedule,
)

NO_STEPS = (
    "must be a positive whole number of updates, got {}. "
    "A schedule without steps is a `constant_schedule`."
)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (
            lambda: constant_schedule("fast"),
            "`constant_schedule`: `value` must be a number, a 0-d tensor or a schedule, got "
            "'fast'.",
        ),
        (
            lambda: constant_schedule(float("nan")),
            "`constant_schedule`: `value` must be a number, got nan.",
        ),
        (
            lambda: constant_schedule(torch.ones(3)),
            "`constant_schedule`: `value` must be a single number, got a tensor of shape (3,). "
            "Inside "
            "`torch.func.vmap` each run sees its own 0-d tensor.",
        ),
        (
            lambda: linear_schedule(1.0, None, 5),
            "`linear_schedule`: `end_value` must be a number, a 0-d tensor or a schedule, got "
            "None.",
        ),
        (
            lambda: linear_schedule(1.0, 0.0, 0),
            "`linear_schedule`: `transition_steps` " + NO_STEPS.format(0),
        ),
        (
            lambda: linear_schedule(1.0, 0.0, 2.5),
            "`linear_schedule`: `transition_steps` " + NO_STEPS.format(2.5),
        ),
        (
            lambda: linear_schedule(1.0, 0.0, 5, -1),
            "`linear_schedule`: `transition_begin` must be a whole number, at least 0, got -1.",
        ),
        (
            lambda: polynomial_schedule(1.0, 0.0, 0.0, 5),
            "`polynomial_schedule`: `power` must be positive, got 0.0.",
        ),
        (
            lambda: polynomial_schedule(1.0, 0.0, 2, -1),
            "`polynomial_schedule`: `transition_steps` " + NO_STEPS.format(-1),
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
        (
            lambda: step_decay_schedule(1.0, 0),
            "`step_decay_schedule`: `step_size` " + NO_STEPS.format(0),
        ),
        (
            lambda: step_decay_schedule(1.0, 5, -0.1),
            "`step_decay_schedule`: `gamma` must be positive, got -0.1.",
        ),
        (
            lambda: multi_step_decay_schedule(1.0, (5, 3)),
            "`multi_step_decay_schedule`: `milestones` must be a tuple of whole numbers of "
            "updates in "
            "ascending order, got (5, 3).",
        ),
        (
            lambda: multi_step_decay_schedule(1.0, 5),
            "`multi_step_decay_schedule`: `milestones` must be a tuple of whole numbers of "
            "updates in "
            "ascending order, got 5.",
        ),
        (
            lambda: multi_step_decay_schedule(1.0, (0.5, 3)),
            "`multi_step_decay_schedule`: `milestones` must be a tuple of whole numbers of "
            "updates in "
            "ascending order, got (0.5, 3).",
        ),
        (
            lambda: cosine_decay_schedule(1.0, True),
            "`cosine_decay_schedule`: `decay_steps` " + NO_STEPS.format(True),
        ),
        (
            lambda: cosine_restarts_schedule(1.0, 0),
            "`cosine_restarts_schedule`: `first_decay_steps` " + NO_STEPS.format(0),
        ),
        (
            lambda: cosine_restarts_schedule(1.0, 5, 0),
            "`cosine_restarts_schedule`: `t_mult` must be a whole number, at least 1, got 0.",
        ),
        (
            lambda: one_cycle_schedule(1.0, 10, 1.2),
            "`one_cycle_schedule`: `pct_start` must lie in [0, 1], got 1.2.",
        ),
        (
            lambda: one_cycle_schedule(1.0, 10, anneal_strategy="cosine"),
            "`one_cycle_schedule`: `anneal_strategy` must be one of 'cos', 'linear', got 'cosine'.",
        ),
        (
            lambda: one_cycle_schedule(1.0, 10, div_factor=0.0),
            "`one_cycle_schedule`: `div_factor` must be positive, got 0.0.",
        ),
        (
            lambda: warmup_cosine_decay_schedule(0.0, 1.0, 10, 10),
            "`warmup_cosine_decay_schedule`: `decay_steps` must be more than `warmup_steps`, "
            "which it "
            "includes, got 10 and 10.",
        ),
        (
            lambda: warmup_cosine_decay_schedule(0.0, 1.0, -1, 10),
            "`warmup_cosine_decay_schedule`: `warmup_steps` must be a whole number, at least "
            "0, got -1.",
        ),
        (
            lambda: warmup_stable_decay_schedule(1.0, 5, 5, 0),
            "`warmup_stable_decay_schedule`: `decay_steps` " + NO_STEPS.format(0),
        ),
        (
            lambda: warmup_stable_decay_schedule(1.0, 5, 5, 5, decay_type="sqrt"),
            "`warmup_stable_decay_schedule`: `decay_type` must be one of 'linear', 'cosine', "
            "'1-sqrt', '1-square', got 'sqrt'.",
        ),
        (
            lambda: join_schedules((1.0, 2.0), (5, 6)),
            "`join_schedules`: between 2 `schedules` there must be 1 `boundaries`, got (5, 6).",
        ),
        (
            lambda: join_schedules((1.0, 2.0, 3.0), (6, 5)),
            "`join_schedules`: `boundaries` must be a tuple of whole numbers of updates in "
            "ascending order, "
            "got (6, 5).",
        ),
        (
            lambda: join_schedules((1.0, "later"), (5,)),
            "`join_schedules`: `schedules[1]` must be a number, a 0-d tensor or a schedule, "
            "got 'later'.",
        ),
        (
            lambda: join_schedules((), ()),
            "`join_schedules`: `schedules` must be a tuple of schedules, got ().",
        ),
        (
            lambda: join_schedules(constant_schedule(1.0), (5,)),
            "`join_schedules`: `schedules` must be a tuple of schedules, got "
            "constant_schedule(1.0).",
        ),
    ],
)
def test_the_mistake_is_named(make, complaint):
    with pytest.raises(HyperparameterError) as caught:
        make()
    assert str(caught.value) == complaint
