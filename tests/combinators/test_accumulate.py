"""`accumulate`: several gradients, one update."""

import math

import pytest
import torch

import funcopt as fo
from funcopt.errors import HyperparameterError

from ..cases import by_dimension
from .common import (
    START,
    drive,
    grads_at,
    named_parameters,
    purely,
    resumes,
    same,
    same_bits,
    state_of,
    step,
    the_optimizer_does_the_same,
    values,
    wrapped,
)

INNER = fo.chain(
    fo.clip_by_global_norm(1.0), fo.adamw(fo.linear_schedule(0.1, 0.0, 10), weight_decay=0.1)
)


def fixed(params, t):
    """Gradients that do not depend on the parameters, so that a batch can be cut in pieces."""
    return grads_at(START, t)


def batches(steps, share=1.0):
    """The gradients of `steps` calls of `fixed`, as one: their mean, or a multiple of it."""

    def grads(params, t):
        found = [fixed(params, steps * t + i) for i in range(steps)]
        return {n: sum(g[n] for g in found) / steps * share for n in params}

    return grads


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_micro_batches_are_one_batch(steps):
    params, _ = purely(fo.accumulate(INNER, steps), 4 * steps, grads_at=fixed)
    assert same(params, purely(INNER, 4, grads_at=batches(steps))[0], 1e-12)


def test_the_sum_is_that_many_times_the_mean():
    params, _ = purely(fo.accumulate(INNER, 3, mean=False), 12, grads_at=fixed)
    assert same(params, purely(INNER, 4, grads_at=batches(3, share=3.0))[0], 1e-12)


def test_it_is_what_torch_does_with_gradients_that_add_up():
    tx = fo.accumulate(fo.adamw(0.1), 4, mean=False)
    mine, _ = wrapped(tx, 12, grads_at=fixed)
    theirs = named_parameters()
    opt = torch.optim.AdamW(theirs.values(), 0.1, foreach=False)
    for t in range(12):
        for name, g in fixed(None, t).items():
            theirs[name].grad = g if theirs[name].grad is None else theirs[name].grad + g
        if (t + 1) % 4 == 0:
            opt.step()
            opt.zero_grad()
    assert same(values(mine), values(theirs), 1e-12)


# Precision


@pytest.mark.parametrize("first", [[256.0], 256 * [1.0]])
def test_256_and_1_are_257_in_bfloat16_too(first):
    params = {"p": torch.zeros(1, dtype=torch.bfloat16)}
    tx = fo.accumulate(fo.sgd(1.0, momentum=0.9), 1000)
    state = tx.init(params)
    for g in [*first, 1.0]:
        _, state = tx.update({"p": torch.full_like(params["p"], g)}, state, params)
    assert state.slots["p"].grad_sum == 257  # which bfloat16 rounds to 256


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.complex64, torch.complex64),
    ],
)
def test_the_sum_is_kept_in_at_least_float32(dtype, kept):
    params = {"p": torch.ones(2, dtype=dtype)}
    tx = fo.accumulate(fo.trace(0.9), 2)
    _, state = tx.update(params, tx.init(params), params)
    assert state.slots["p"].grad_sum.dtype == kept
    assert state.slots["p"].inner.momentum_buffer.dtype == dtype
    mine, opt = wrapped(fo.accumulate(fo.sgd(0.1), 2), 1, params, lambda params, t: params)
    assert opt.state[mine["p"]]["grad_sum"].dtype == kept
    assert torch.equal(opt.state[mine["p"]]["grad_sum"], params["p"].to(kept))


# The inner transformation runs once


class tally(fo.TensorRule):
    """Counts how often it runs, and for which step."""

    elementwise = True
    ran = []  # noqa: RUF012  # not a field

    def prepare(self, step, memory):
        return {"now": step}

    def update_tensor(self, g, slots, p, s):
        self.ran.append(s.now)
        return -g, slots

    def sign(self):
        return None


@pytest.fixture
def ran():
    tally.ran.clear()
    return tally.ran


@pytest.mark.parametrize("how", [purely, wrapped])
def test_the_inner_one_runs_once_for_all(how, ran):
    how(fo.accumulate(tally(), 3), 10, {"w": START["w"]})
    assert ran == [1, 2, 3]


@pytest.mark.parametrize("how", [purely, wrapped])
def test_schedules_inside_see_the_updates_that_were_made(how):
    seen = []

    def lr(count):
        seen.append(count)
        return 0.1

    how(fo.accumulate(fo.sgd(lr), 3), 9, {"w": START["w"]})
    assert sorted(set(seen)) in ([0, 1, 2], [0, 1, 2, 3])  # a group shows the next one
    rates = [fo.linear_schedule(0.1, 0.0, 4)(t) for t in range(3)]
    params, _ = purely(fo.accumulate(fo.sgd(fo.linear_schedule(0.1, 0.0, 4)), 3), 9, grads_at=fixed)
    expected = START
    for t, lr in enumerate(rates):
        expected = {n: p - lr * batches(3)(START, t)[n] for n, p in expected.items()}
    assert same(params, expected, 1e-12)


def test_the_group_shows_the_rate_of_the_next_update():
    schedule, shown = fo.linear_schedule(1.0, 0.0, 10), []
    params, opt = wrapped(fo.accumulate(fo.sgd(schedule), 2), 0)
    drive(opt, params, 6, after=lambda: shown.append(opt.param_groups[0]["lr"]))
    assert shown == [schedule(n) for n in (0, 1, 1, 2, 2, 3)]


@pytest.mark.parametrize("value", [-0.0, 0.0, math.nan, math.inf, 1e-45])
def test_in_between_no_bit_of_a_parameter_changes(value):
    start = {"p": torch.full((2,), value)}
    tx = fo.accumulate(fo.adamw(0.1, weight_decay=0.5), 3)

    def ones(params, t):
        return {"p": torch.ones(2)}

    for t in (1, 2):
        params, _ = purely(tx, t, start, ones)
        assert same_bits(params["p"].view(torch.int32), start["p"].view(torch.int32))
        mine, _ = wrapped(tx, t, start, ones)
        assert same_bits(mine["p"].view(torch.int32), start["p"].view(torch.int32))


def test_slots_and_clock_of_the_inner_one_rest_in_between():
    tx = fo.accumulate(INNER, 3)
    params, state = purely(tx, 3, grads_at=fixed)
    _, later = purely(tx, 2, params, fixed, state, first=3)
    inner = lambda state: [state.memory.inner, *(own.inner for own in state.slots.values())]  # noqa: E731
    assert same_bits(inner(state), inner(later))
    assert later.memory.micro_step == 2
    assert (later.memory.inner_updates, later.step) == (1, 5)


# What goes wrong


def spoiled(at, value=math.nan):
    def grads(params, t):
        found = fixed(params, t)
        return {n: torch.full_like(g, value) for n, g in found.items()} if t == at else found

    return grads


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_nan_does_not_spoil_the_next_update(at):
    tx = fo.accumulate(fo.scale(-0.1), 3)
    state = tx.init(START)
    for t in range(3):
        spoilt, state = tx.update(spoiled(at)(START, t), state, START)
    assert all(u.isnan().all() for u in spoilt.values())
    for t in range(3, 6):
        updates, state = tx.update(fixed(START, t), state, START)
    assert same(updates, {n: -0.1 * g for n, g in batches(3)(START, 1).items()}, 1e-12)


@pytest.mark.parametrize("at", [0, 1, 4])
def test_a_bad_micro_batch_that_is_skipped_is_as_if_it_had_not_been(at):
    tx = fo.skip_if(fo.accumulate(INNER, 3))
    params, state = purely(tx, 10, grads_at=spoiled(at))

    def without(params, t):
        return fixed(params, t if t < at else t + 1)

    expected, clean = purely(tx, 9, grads_at=without)
    assert same_bits(params, expected)
    assert same_bits(state.slots, clean.slots)
    assert (state.memory.skipped, clean.memory.skipped) == (1, 0)
    assert the_optimizer_does_the_same(tx, 10, spoiled(at))


def test_a_bad_update_that_is_skipped_inside_costs_all_its_micro_batches():
    tx = fo.accumulate(fo.skip_if(INNER), 2)
    params, _ = purely(tx, 6, grads_at=spoiled(3))

    def without(params, t):
        return batches(2)(params, [0, 2][t])

    assert same(params, purely(INNER, 2, grads_at=without)[0], 1e-12)
    assert the_optimizer_does_the_same(tx, 6, spoiled(3))


def test_a_missing_gradient_is_a_zero():
    def holes(params, t):
        found = fixed(params, t)
        return {n: None if (n, t) == ("w", 0) else g for n, g in found.items()}

    def zeros(params, t):
        found = fixed(params, t)
        return {n: torch.zeros_like(g) if (n, t) == ("w", 0) else g for n, g in found.items()}

    tx = fo.accumulate(fo.sgd(0.1), 2)
    assert same(purely(tx, 4, grads_at=holes)[0], purely(tx, 4, grads_at=zeros)[0])


@pytest.mark.parametrize("steps", [0, -1, 1.5, True])
def test_a_number_of_micro_batches_that_is_none_is_an_error(steps):
    with pytest.raises(HyperparameterError) as error:
        fo.accumulate(fo.sgd(0.1), steps)
    assert str(error.value) == (
        f"`accumulate`: `steps` must be a whole number, at least 1, got {steps!r}."
    )


def test_an_inner_one_that_sees_whole_trees_is_refused():
    with pytest.raises(HyperparameterError, match="`inner` must be a transformation that works"):
        fo.accumulate(fo.from_functions(len, pow), 2)


# In other surroundings

SURROUNDED = {
    "alone": fo.accumulate(INNER, 3),
    "after a clip": fo.chain(fo.clip_by_global_norm(0.5), fo.accumulate(fo.adamw(0.1), 2)),
    "in itself": fo.accumulate(fo.accumulate(fo.sgd(0.1, momentum=0.9), 2), 2),
    "around a partition": fo.accumulate(
        fo.partition({"matrix": fo.adamw(0.1), "rest": fo.sgd(0.1)}, by_dimension), 2
    ),
    "around nothing": fo.chain(fo.accumulate(fo.chain(), 2), fo.scale(-0.1)),
    "in skip_if": fo.skip_if(fo.accumulate(INNER, 2), fo.norm_outlier()),
}


@pytest.mark.parametrize("how", SURROUNDED)
def test_the_optimizer_does_as_the_pure_form(how):
    assert the_optimizer_does_the_same(SURROUNDED[how], 9)


@pytest.mark.parametrize("how", SURROUNDED)
@pytest.mark.parametrize("stop", [1, 2, 4])
def test_a_checkpoint_in_the_middle_resumes_to_the_bit(how, stop):
    assert resumes(SURROUNDED[how], stop, 9)


def test_a_pure_state_in_the_middle_resumes_to_the_bit():
    tx = SURROUNDED["alone"]
    params, state = purely(tx, 4)
    loaded = fo.load_state_dict(tx.init(START), fo.state_dict(state))
    assert same_bits(purely(tx, 5, params, state=loaded, first=4)[0], purely(tx, 9)[0])


def test_in_itself_it_is_the_product():
    twice = fo.accumulate(fo.accumulate(fo.sgd(0.1), 2), 3)
    once = fo.accumulate(fo.sgd(0.1), 6)
    assert same(purely(twice, 12)[0], purely(once, 12)[0], 1e-12)


def test_under_vmap_every_run_is_as_alone():
    rates = torch.tensor([0.1, 0.2], dtype=torch.float64)

    def run(lr):
        return purely(fo.accumulate(fo.adamw(lr), 2), 5)[0]

    together = torch.func.vmap(run)(rates)
    for i, lr in enumerate(rates.tolist()):
        assert same({n: p[i] for n, p in together.items()}, run(lr), 1e-12)


def test_groups_share_the_count_and_keep_their_rates():
    params = named_parameters()
    groups = [
        {"params": [("b", params["b"]), ("gain", params["gain"])]},
        {"params": [("w", params["w"])], "lr": 0.5},
    ]
    opt = fo.Optimizer(groups, fo.accumulate(fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(0.1)), 2))
    drive(opt, params, 4, fixed)
    expected = dict(START)
    for t in range(2):
        grads = batches(2)(START, t)
        factor = min(1.0, 1.0 / (fo.tree.norm(grads).item() + 1e-6))
        for name, lr in (("b", 0.1), ("gain", 0.1), ("w", 0.5)):
            expected[name] = expected[name] - lr * factor * grads[name]
    assert same(dict(sorted(values(params).items())), expected, 1e-12)


def test_around_nothing_it_works_in_groups_too():
    params = named_parameters()
    groups = [{"params": [("b", params["b"])]}, {"params": [("w", params["w"])], "lr": 0.5}]
    opt = fo.Optimizer(groups, fo.chain(fo.accumulate(fo.chain(), 2), fo.sgd(0.1)))
    drive(opt, {n: params[n] for n in ("b", "w")}, 2, fixed)
    grads = batches(2)(START, 0)
    expected = {n: START[n] - lr * grads[n] for n, lr in (("b", 0.1), ("w", 0.5))}
    assert same({n: params[n] for n in expected}, expected, 1e-12)


def test_a_parameter_that_misses_a_call_does_not_lose_count():
    params, opt = wrapped(
        fo.accumulate(fo.sgd(1.0), 2), 0, {"a": torch.zeros(1), "b": torch.zeros(1)}
    )
    one = torch.ones(1)
    at = []
    for a in (one, None, one, one):
        step(opt, params, {"a": a, "b": one})
        at.append(params["b"].item())
    assert at == [0.0, -1.0, -1.0, -2.0]
    assert {state["micro_step"].item() for state in opt.state.values()} == {0}


def test_a_late_joiner_takes_the_count_and_the_schedule_but_its_own_bias_correction():
    schedule = fo.linear_schedule(0.1, 0.0, 10)
    tx = fo.accumulate(fo.chain(fo.scale_by_adam(), fo.scale_by_learning_rate(schedule)), 2)
    early = {n: START[n] for n in ("b", "gain")}
    params, opt = wrapped(tx, 4, early)
    late = torch.nn.Parameter(START["w"].clone())
    opt.add_param_group({"params": [("w", late)]})
    params["w"] = late
    drive(opt, params, 1, fixed)
    assert torch.equal(late, START["w"])
    assert opt.state[late]["micro_step"] == 1
    grads = (fixed(None, 0)["w"] + fixed(None, 1)["w"]) / 2
    drive(opt, params, 1, fixed, first=1)
    expected = START["w"] - schedule(2) * grads / (grads.abs() + 1e-8)
    torch.testing.assert_close(late.detach(), expected, rtol=1e-12, atol=0)
    assert opt.state[late]["inner_step"] == 1


def test_what_it_remembers_has_names():
    params, opt = wrapped(fo.accumulate(fo.sgd(0.1, momentum=0.9), 2), 3)
    own = {"step", "grad_sum", "momentum_buffer", "micro_step", "inner_step", "inner_updates"}
    assert set(opt.state[params["w"]]) == own
    assert (opt.state[params["w"]]["micro_step"], opt.state[params["w"]]["inner_updates"]) == (1, 1)
    assert len(state_of(opt)) == 3
