"""Every schedule, with each of its options: what the laws are tested on."""

from funcopt.schedules import (
    constant_schedule,
    cosine_cycles_schedule,
    cosine_decay_schedule,
    cosine_restarts_schedule,
    cyclic_schedule,
    ema_warmup_schedule,
    exponential_decay,
    half_life_schedule,
    inverse_sqrt_schedule,
    join_schedules,
    linear_schedule,
    multi_step_decay_schedule,
    one_cycle_schedule,
    piecewise_constant_schedule,
    piecewise_interpolate_schedule,
    polynomial_schedule,
    power_ema_schedule,
    step_decay_schedule,
    warmup_cosine_decay_schedule,
    warmup_stable_decay_schedule,
)

SCHEDULES: list = [
    constant_schedule(0.1),
    linear_schedule(0.0, 0.1, 10),
    linear_schedule(0.3, 0.1, 10, transition_begin=4),
    polynomial_schedule(0.3, 0.1, 2.0, 10),
    polynomial_schedule(0.3, 0.0, 0.5, 10, transition_begin=4),
    exponential_decay(0.3, 10, 0.7),
    exponential_decay(0.3, 10, 1.4, transition_begin=4),
    exponential_decay(0.3, 10, 0.7, staircase=True),
    exponential_decay(0.3, 10, 0.7, end_value=0.11),
    exponential_decay(0.3, 1, 1e30, end_value=0.9),
    half_life_schedule(0.3, 0.9, 10),
    half_life_schedule(0.99, 0.9, 10, transition_begin=4),
    ema_warmup_schedule(0.999),
    ema_warmup_schedule(0.9, 2.0, 0.75, 0.2, 4),
    power_ema_schedule(),
    step_decay_schedule(0.3, 7),
    step_decay_schedule(0.3, 7, gamma=0.5),
    multi_step_decay_schedule(0.3, (3, 10, 10, 17)),
    multi_step_decay_schedule(0.3, (), gamma=0.5),
    cosine_decay_schedule(0.3, 20),
    cosine_decay_schedule(0.3, 20, end_value=0.1),
    cosine_restarts_schedule(0.3, 7),
    cosine_restarts_schedule(0.3, 3, t_mult=2, end_value=0.1),
    one_cycle_schedule(0.3, 21),
    one_cycle_schedule(0.3, 21, anneal_strategy="linear"),
    one_cycle_schedule(
        0.3, 21, pct_start=0.4, div_factor=10.0, final_div_factor=100.0, three_phase=True
    ),
    one_cycle_schedule(0.3, 21, pct_start=0.02),
    one_cycle_schedule(0.3, 21, pct_start=0.98, three_phase=True),
    warmup_cosine_decay_schedule(0.0, 0.3, 5, 20),
    warmup_cosine_decay_schedule(0.2, 0.3, 0, 20, end_value=0.1),
    warmup_stable_decay_schedule(0.3, 5, 8, 10),
    warmup_stable_decay_schedule(
        0.3, 5, 8, 10, init_value=0.1, end_value=0.01, decay_type="cosine"
    ),
    warmup_stable_decay_schedule(0.3, 0, 0, 10, decay_type="1-sqrt"),
    warmup_stable_decay_schedule(
        0.3, 5, 8, 10, init_value=0.1, decay_type="1-square", warmup_type="cosine"
    ),
    warmup_stable_decay_schedule(0.3, 5, 8, 10, init_value=0.1, warmup_type="1-sqrt"),
    cosine_cycles_schedule(0.3, 20),
    cosine_cycles_schedule(0.3, 21, num_cycles=3, end_value=0.1),
    cyclic_schedule(0.1, 0.3, 7),
    cyclic_schedule(0.3, 0.1, 3, 8, mode="triangular2"),
    cyclic_schedule(0.1, 0.3, 7, 2, mode="exp_range", gamma=0.99),
    inverse_sqrt_schedule(0.3, 5),
    inverse_sqrt_schedule(0.3, 0),
    inverse_sqrt_schedule(0.3, 5, timescale=20, init_value=0.1),
    piecewise_constant_schedule(0.3, (3, 10, 10, 17), (0.5, 2.0, 0.1, 3.0)),
    piecewise_constant_schedule(0.3, (), ()),
    piecewise_interpolate_schedule(0.3, (3, 10, 10, 17), (0.5, 2.0, 0.1, 3.0)),
    piecewise_interpolate_schedule(0.3, (0, 9), (0.5, 2.0), interpolation="cosine"),
    join_schedules((linear_schedule(0.0, 0.3, 5), 0.3, cosine_restarts_schedule(0.3, 4)), (5, 11)),
    join_schedules(
        (
            exponential_decay(0.1, 1, 1e30),
            one_cycle_schedule(0.3, 9),
            polynomial_schedule(0.2, 0.1, 0.5, 9),
        ),
        (1, 9),
    ),
    # A value may be a schedule.
    linear_schedule(0.0, cosine_decay_schedule(0.3, 20), 5),
]


def name(case) -> str:
    """What a case is called in a report."""
    return repr(case).replace("\n", "").replace("    ", "")
