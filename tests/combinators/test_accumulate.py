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
def test_the_inner_one_runs_once_for_all(how, ran, monkeypatch):
    monkeypatch.setenv("FUNCOPT_ENGINE", "eager")  # kernels trace it once, for all updates
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


# A batch in pieces: against a loop written out


PATTERNS = {
    "in the first only": [(1, 0)] * 4,
    "in the last only": [(0, 1)] * 4,
    "in every other window": [(1, 0), (0, 0), (0, 1), (1, 1)],
    "late": [(0, 0), (0, 0), (0, 1), (1, 0)],
    "never": [(0, 0)] * 3,
    "always": [(1, 1)] * 3,
}


def in_pieces(pattern, zero=False):
    """The gradients of each call: those of "w" are there where the pattern says so."""
    flat = [there for window in pattern for there in window]

    def grads(params, t):
        found = fixed(params, t)
        if zero and flat[t]:
            found["w"] = torch.zeros_like(found["w"])
        return {n: g if n != "w" or flat[t] else None for n, g in found.items()}

    return grads


def by_a_loop(pattern, inner, zero=False, mean=True, opt=None):
    """What torch does: gradients add up in `p.grad`, and a step is made at the end of a window."""
    grads, params = in_pieces(pattern, zero), named_parameters()
    opt = opt(params)
    for t in range(2 * len(pattern)):
        for name, g in grads(None, t).items():
            if g is not None:
                p, part = params[name], g / 2 if mean else g
                p.grad = part.clone() if p.grad is None else p.grad + part
        if t % 2:
            opt.step()
            opt.zero_grad()
    return values(params)


PIECES = {
    "sgd": (fo.sgd(0.1, 0.9, weight_decay=0.1), lambda p: torch.optim.SGD(
        p.values(), 0.1, 0.9, weight_decay=0.1, foreach=False)),
    "adamw": (fo.adamw(0.1, weight_decay=0.1), lambda p: torch.optim.AdamW(
        p.values(), 0.1, weight_decay=0.1, foreach=False)),
}  # fmt: skip


@pytest.mark.parametrize("engine", ["eager", "fused", "foreach", "torch", "auto"])
@pytest.mark.parametrize("zero", [False, True], ids=["", "of zeros"])
@pytest.mark.parametrize("inner", PIECES)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_gradients_in_some_micro_batches_in_an_optimizer(pattern, inner, zero, engine):
    tx, opt = PIECES[inner]
    grads, calls = in_pieces(PATTERNS[pattern], zero), 2 * len(PATTERNS[pattern])
    for mean in (True, False):
        mine, _ = wrapped(fo.accumulate(tx, 2, mean=mean), calls, grads_at=grads, engine=engine)
        expected = by_a_loop(PATTERNS[pattern], tx, zero, mean, opt)
        assert same(values(mine), expected, 1e-12)


def by_pure_windows(pattern, inner):
    """The pure form of the loop: one update for each window, with `None` where nothing came."""
    grads = in_pieces(pattern)

    def mean(params, t):
        each = [grads(params, 2 * t + i) for i in range(2)]
        found = {n: [g[n] for g in each if g[n] is not None] for n in params}
        return {n: sum(gs) / 2 if gs else None for n, gs in found.items()}

    return purely(inner, len(pattern), grads_at=mean)[0]


@pytest.mark.parametrize("inner", [fo.sgd(0.1, 0.9), INNER, fo.adamw(0.1, weight_decay=0.1)])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_gradients_in_some_micro_batches_in_the_pure_form(pattern, inner):
    tx, grads = fo.accumulate(inner, 2), in_pieces(PATTERNS[pattern])
    calls, expected = 2 * len(PATTERNS[pattern]), by_pure_windows(PATTERNS[pattern], inner)
    assert same(purely(tx, calls, grads_at=grads)[0], expected, 1e-12)
    # Where Python may not look: with a clock that differs between runs, and followed by autograd.
    scales = torch.tensor([1.0, 2.0], dtype=torch.float64)

    def run(scale):
        return purely(fo.chain(tx, fo.scale(scale)), calls, grads_at=grads)[0]

    assert same({n: p[0] for n, p in torch.func.vmap(run)(scales).items()}, expected, 1e-12)
    lr = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)

    def followed(params, t):
        return {n: g if g is None else g * lr for n, g in grads(params, t).items()}

    assert same(purely(tx, calls, grads_at=followed)[0], expected, 1e-12)
    steps = fo.donated(tx)
    params, state = fo.tree.map(torch.clone, START), tx.init(START)
    for t in range(calls):
        params, state = steps(params, grads(params, t), state)
    assert same(params, expected, 1e-12)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_stages_around_see_a_zero_within_the_window(pattern):
    """The rate behind has an update to scale where there is no gradient."""
    grads = in_pieces(PATTERNS[pattern])
    tx = fo.chain(
        fo.clip_by_global_norm(10.0),
        fo.accumulate(fo.trace(0.9), 2),
        fo.scale_by_learning_rate(0.1),
    )
    inner = fo.sgd(0.1, 0.9)
    calls, expected = 2 * len(PATTERNS[pattern]), by_pure_windows(PATTERNS[pattern], inner)
    assert same(purely(tx, calls, grads_at=grads)[0], expected, 1e-12)
    for engine in ("eager", "fused"):
        mine, _ = wrapped(tx, calls, grads_at=grads, engine=engine)
        assert same(values(mine), expected, 1e-12)


NESTED = {
    "in skip_if": fo.skip_if(fo.accumulate(fo.sgd(0.1), 2)),
    "around skip_if": fo.accumulate(fo.skip_if(fo.sgd(0.1)), 2),
    "in lookahead": fo.lookahead(fo.accumulate(fo.sgd(0.1), 2), 1, 1.0),
    "around a partition": fo.accumulate(
        fo.partition({"matrix": fo.sgd(0.1), "rest": fo.sgd(0.1)}, by_dimension), 2
    ),
    "in a partition": fo.partition(
        {"matrix": fo.accumulate(fo.sgd(0.1), 2), "rest": fo.accumulate(fo.sgd(0.1), 2)},
        lambda name, p: "matrix" if name in ("w", "b") else "rest",
    ),
    "masked": fo.chain(fo.masked(fo.accumulate(fo.sgd(0.1), 2), True)),
}


@pytest.mark.parametrize("how", NESTED)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_gradients_in_some_micro_batches_nested(pattern, how):
    grads, calls = in_pieces(PATTERNS[pattern]), 2 * len(PATTERNS[pattern])
    expected = by_pure_windows(PATTERNS[pattern], fo.sgd(0.1))
    assert same(purely(NESTED[how], calls, grads_at=grads)[0], expected, 1e-12)
    mine, _ = wrapped(NESTED[how], calls, grads_at=grads)
    assert same(values(mine), expected, 1e-12)


def test_a_window_that_is_resumed_goes_on_where_it_was():
    grads = in_pieces([(1, 0), (0, 0), (1, 0)])
    tx = fo.accumulate(fo.adamw(0.1), 2)
    for stop in range(1, 6):
        assert resumes(tx, stop, 6, grads)


def test_nothing_is_due_in_a_window_of_its_own():
    """A gradient after windows without one is one window, not all that have passed."""
    p, params = torch.zeros(2), named_parameters({"a": torch.zeros(2), "b": torch.zeros(2)})
    opt = fo.Optimizer(list(params.items()), fo.accumulate(fo.sgd(1.0), 2))
    for t in range(22):
        before = params["b"].detach().clone()
        step(opt, params, {"a": p + 1, "b": p + 1 if t % 2 == 0 or t == 21 else None})
    assert torch.equal(params["b"] - before, p - 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.complex64, torch.float64])
@pytest.mark.parametrize("shape", [(), (3,), (0,)])
def test_a_gradient_in_the_first_micro_batch_of_any_tensor(dtype, shape):
    start = {"p": torch.ones(shape, dtype=dtype), "q": torch.ones(2)}

    def grads(params, t):
        return {"p": torch.ones(shape, dtype=dtype) if t % 2 == 0 else None, "q": torch.ones(2)}

    tx = fo.accumulate(fo.sgd(1.0), 2)
    pure, _ = purely(tx, 2, start, grads)
    assert same(pure, {"p": start["p"] - 0.5, "q": start["q"] - 1.0})
    for engine in ("eager", "fused"):
        assert same(values(wrapped(tx, 2, start, grads, engine=engine)[0]), pure)
