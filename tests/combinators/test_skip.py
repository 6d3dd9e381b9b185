"""`skip_if`, `not_finite`, `norm_outlier`: bad steps never happen."""

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
    the_optimizer_does_the_same,
    values,
    wrapped,
)

INNER = fo.chain(
    fo.clip_by_global_norm(1.0), fo.adamw(fo.linear_schedule(0.1, 0.0, 20), weight_decay=0.1)
)


def bad(at, value=math.nan, where="w"):
    """Gradients with one bad entry, at some times."""

    def grads(params, t):
        found = grads_at(params, t)
        if t in at:
            found[where] = found[where].clone()
            found[where].view(-1)[-1] = value
        return found

    return grads


def without(at):
    """The same, as if those times had not been."""

    def grads(params, t):
        times = [s for s in range(t + len(at) + 1) if s not in at]
        return grads_at(params, times[t])

    return grads


def inner_of(state):
    return [
        state.memory.inner,
        state.memory.inner_updates,
        *(s.inner for s in state.slots.values()),
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [{0}, {3}, {0, 1, 5}])
def test_a_bad_step_is_as_if_it_had_not_been(at, value):
    tx = fo.skip_if(INNER)
    params, state = purely(tx, 8, grads_at=bad(at, value))
    expected, clean = purely(tx, 8 - len(at), grads_at=without(at))
    assert same_bits(params, expected)
    assert same_bits(inner_of(state), inner_of(clean))
    assert state.memory.skipped == len(at)
    assert clean.memory.skipped == 0
    assert the_optimizer_does_the_same(tx, 8, bad(at, value))


def test_without_bad_steps_it_is_the_inner_one():
    assert same_bits(purely(fo.skip_if(INNER), 8)[0], purely(INNER, 8)[0])


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [-0.0, 0.0, 1e-38, math.inf])
def test_on_a_bad_step_no_bit_of_a_parameter_changes(value, kind):
    start = {"p": torch.full((3,), value, dtype=kind)}
    tx = fo.skip_if(fo.adamw(0.1, weight_decay=0.5))

    def nans(params, t):
        return {"p": torch.full_like(start["p"], math.nan)}

    def bits(params):
        return params["p"].detach().view(torch.uint8)

    assert same_bits(bits(purely(tx, 2, start, nans)[0]), bits(start))
    mine, opt = wrapped(tx, 2, start, nans)
    assert same_bits(bits(mine), bits(start))
    assert not opt.state[mine["p"]]["exp_avg"].any()


def test_on_a_bad_step_the_optimizer_keeps_slots_clocks_and_rates():
    params, opt = wrapped(fo.skip_if(INNER), 3)
    before, numbers = state_of(opt), dict(opt.param_groups[0])
    kept = values(params)
    drive(opt, params, 2, bad({3, 4}), first=3)
    for old, new in zip(before.values(), state_of(opt).values(), strict=True):
        assert new.pop("skipped") == old.pop("skipped") + 2
        for own in (new, old):
            del own["step"], own["updates"]  # of calls
        assert same_bits(new, old)
    assert same_bits(values(params), kept)
    assert opt.param_groups[0]["lr"] == numbers["lr"] == fo.linear_schedule(0.1, 0.0, 20)(3)


def test_the_count_of_skipped_steps_can_be_read():
    _, opt = wrapped(fo.skip_if(INNER), 6, grads_at=bad({1, 4}))
    assert {state["skipped"].item() for state in opt.state.values()} == {2}
    assert {state["inner_updates"].item() for state in opt.state.values()} == {4}
    assert opt.metrics()["skipped"].item() == 2


def test_one_bad_tensor_skips_the_step_of_all():
    tx = fo.skip_if(fo.sgd(0.1))
    params, _ = purely(tx, 1, grads_at=bad({0}, where="gain"))
    assert same_bits(params, START)


def test_a_bad_gradient_of_one_label_is_the_business_of_that_label():
    tx = fo.partition({"matrix": fo.skip_if(fo.sgd(0.1)), "rest": fo.sgd(0.1)}, by_dimension)
    params, _ = purely(tx, 1, grads_at=bad({0}))
    assert same_bits(params["w"], START["w"])
    assert not torch.equal(params["b"], START["b"])
    both = fo.partition(
        {"matrix": fo.skip_if(fo.sgd(0.1)), "rest": fo.skip_if(fo.sgd(0.1))}, by_dimension
    )
    mine, opt = wrapped(both, 5, grads_at=bad({0, 2}))
    skipped = {name: opt.state[p]["skipped"].item() for name, p in mine.items()}
    assert skipped == {"b": 0, "gain": 0, "w": 2}


def test_all_gradients_missing_is_no_reason():
    tx = fo.skip_if(fo.sgd(0.1))
    _, state = tx.update(dict.fromkeys(START), tx.init(START), START)
    assert state.memory.skipped == 0


# norm_outlier


def norms(*sizes):
    """Gradients of these norms."""

    def grads(params, t):
        direction = {n: torch.ones_like(p) for n, p in params.items()}
        return {n: sizes[t] * g / fo.tree.norm(direction) for n, g in direction.items()}

    return grads


def skips(sizes, when):
    """At which times a step is skipped."""
    tx, grads = fo.skip_if(fo.sgd(0.0), when), norms(*sizes)
    state, found = tx.init(START), []
    for t in range(len(sizes)):
        before = state.memory.skipped
        _, state = tx.update(grads(START, t), state, START)
        if state.memory.skipped > before:
            found.append(t)
    return found


USUAL = [1.0 + 0.2 * math.sin(2.5 * t) for t in range(100)]


def test_a_spike_is_an_outlier_and_what_is_usual_is_not():
    assert skips(USUAL, fo.norm_outlier()) == []
    spiked = [*USUAL[:50], 10.0, *USUAL[50:80], 5.0, 7.0, *USUAL[80:]]
    assert skips(spiked, fo.norm_outlier()) == [50, 81, 82]


@pytest.mark.parametrize("growth", [0.99, 1.01])
def test_a_slow_drift_is_none(growth):
    drifting = [size * growth**t for t, size in enumerate(3 * USUAL)]
    assert skips(drifting, fo.norm_outlier()) == []


def test_a_small_norm_is_none():
    assert skips([*USUAL, 0.0, 1e-6, *USUAL], fo.norm_outlier()) == []


def test_in_the_beginning_every_finite_norm_counts():
    assert skips([1.0, 100.0, 1.0, 5.0], fo.norm_outlier(warmup=20)) == []
    assert skips([1.0, 1.1, 100.0, 1.0], fo.norm_outlier(warmup=2)) == [2]


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("at", [0, 3, 30])
def test_what_is_not_finite_is_an_outlier_always(value, at):
    sizes = [*USUAL[:at], value, *USUAL[at:40]]
    assert skips(sizes, fo.norm_outlier()) == [at]


def test_outliers_do_not_move_the_average():
    def remembered(sizes):
        tx = fo.skip_if(fo.sgd(0.0), fo.norm_outlier())
        return purely(tx, len(sizes), grads_at=norms(*sizes))[1].memory.when

    with_spikes = remembered([*USUAL[:30], 50.0, math.nan, *USUAL[30:40]])
    assert same_bits(with_spikes, remembered(USUAL[:40]))


def test_the_average_is_exponential_and_plain_while_young():
    sizes = [1.0, 2.0, 4.0, 3.0, 5.0]
    tx = fo.skip_if(fo.sgd(0.0), fo.norm_outlier(decay=0.75))
    _, state = purely(tx, 5, grads_at=norms(*sizes))
    mean, variance = 0.0, 0.0
    for n, size in enumerate(sizes):
        weight = max(0.25, 1 / (n + 1))
        off = size - mean
        mean, variance = mean + weight * off, (1 - weight) * (variance + weight * off * off)
    memory = state.memory.when
    assert memory.norms == 5
    assert memory.mean.item() == pytest.approx(mean, rel=1e-6)
    assert memory.variance.item() == pytest.approx(variance, rel=1e-6)


def test_the_zscore_is_the_number_of_deviations():
    # 1 and 3 in turn have mean 2 and deviation 1, while the average is a plain one.
    base = [1.0, 3.0] * 10
    when = fo.norm_outlier(zscore=4.0, decay=0.999)
    assert skips([*base, 5.9], when) == []
    assert skips([*base, 6.1], when) == [20]


# In other surroundings

SURROUNDED = {
    "alone": fo.skip_if(INNER),
    "by the norm": fo.skip_if(INNER, fo.norm_outlier(3.0, warmup=2)),
    "after a clip": fo.chain(fo.clip(10.0), fo.skip_if(fo.adamw(0.1))),
    "around accumulate": fo.skip_if(fo.accumulate(INNER, 2), fo.norm_outlier(3.0, warmup=2)),
    "around a partition": fo.skip_if(
        fo.partition({"matrix": fo.adamw(0.1), "rest": fo.sgd(0.1, momentum=0.9)}, by_dimension)
    ),
    "in a partition": fo.partition(
        {"matrix": fo.skip_if(INNER), "rest": fo.skip_if(fo.sgd(0.1), fo.norm_outlier())},
        by_dimension,
    ),
    "in itself": fo.skip_if(fo.skip_if(INNER, fo.norm_outlier(3.0, warmup=2))),
}
SPIKE = bad({4}, 1e3)


@pytest.mark.parametrize("grads", [bad({2, 5}), SPIKE], ids=["nan", "spike"])
@pytest.mark.parametrize("how", SURROUNDED)
def test_the_optimizer_does_as_the_pure_form(how, grads):
    assert the_optimizer_does_the_same(SURROUNDED[how], 9, grads)


@pytest.mark.parametrize("how", SURROUNDED)
@pytest.mark.parametrize("stop", [1, 3, 5])
def test_resuming_is_as_if_never_stopped(how, stop):
    assert resumes(SURROUNDED[how], stop, 9, bad({2, 5}))


@pytest.mark.parametrize("how", ["alone", "around accumulate", "around a partition", "in itself"])
def test_a_nan_leaves_parameters_finite(how):
    params, _ = purely(SURROUNDED[how], 9, grads_at=bad({2, 5}))
    assert all(p.isfinite().all() for p in params.values())


@pytest.mark.parametrize("when", [fo.not_finite(), fo.norm_outlier(warmup=2)])
@pytest.mark.parametrize("inner", [INNER, fo.accumulate(fo.adamw(0.1), 2)])
def test_under_vmap_every_run_skips_its_own_steps(inner, when):
    tx = fo.skip_if(inner, when)
    bad_at = torch.tensor([1, 3, -1])

    def run(at):
        state, params = tx.init(START), START
        for t in range(5):
            found = grads_at(params, t)
            spoiled = torch.where(at == t, math.nan, found["w"])
            updates, state = tx.update({**found, "w": spoiled}, state, params)
            params = fo.apply_updates(params, updates)
        return params, state.memory.skipped

    together, skipped = torch.func.vmap(run)(bad_at)
    assert skipped.tolist() == [1, 1, 0]
    for i, at in enumerate(bad_at):
        assert same({n: p[i] for n, p in together.items()}, run(at)[0], 1e-12)


def test_the_derivative_of_a_skipped_step_is_that_of_standing_still():
    def last(lr):
        params, _ = purely(fo.skip_if(fo.sgd(lr)), 2, grads_at=bad({1}))
        return params["b"].sum()

    def one(lr):
        return purely(fo.sgd(lr), 1)[0]["b"].sum()

    lr = torch.tensor(0.1, dtype=torch.float64)
    assert torch.func.grad(last)(lr) == torch.func.grad(one)(lr)


def test_a_schedule_of_the_condition_counts_the_updates_that_it_sees():
    zscore, shown = fo.linear_schedule(6.0, 3.0, 10), []
    tx = fo.accumulate(fo.skip_if(fo.sgd(0.1), fo.norm_outlier(zscore)), 2)
    params, opt = wrapped(tx, 0)
    drive(opt, params, 4, bad({1}), after=lambda: shown.append(opt.param_groups[0]["zscore"]))
    assert shown == [zscore(n) for n in (0, 1, 1, 2)]


def test_groups_are_skipped_together():
    params = named_parameters()
    groups = [
        {"params": [("b", params["b"]), ("gain", params["gain"])]},
        {"params": [("w", params["w"])], "lr": 0.5},
    ]
    opt = fo.Optimizer(groups, fo.skip_if(fo.sgd(0.1), fo.norm_outlier()))
    drive(opt, params, 1, bad({0}))
    assert same_bits(values(params), START)
    drive(opt, params, 1, first=1)
    lrs = {"b": 0.1, "gain": 0.1, "w": 0.5}
    expected = {n: p - lrs[n] * grads_at(START, 1)[n] for n, p in START.items()}
    assert same(values(params), expected, 1e-15)


def test_groups_that_judge_differently_are_an_error():
    params = named_parameters()
    groups = [{"params": [params["b"]]}, {"params": [params["w"]], "zscore": 3.0}]
    opt = fo.Optimizer(groups, fo.skip_if(fo.sgd(0.1), fo.norm_outlier()))
    with pytest.raises(HyperparameterError) as error:
        drive(opt, {n: params[n] for n in ("b", "w")}, 1)
    assert str(error.value) == (
        "`norm_outlier` shares scalars over all parameters, so `zscore` must be the same in all "
        "parameter groups."
    )
    assert same_bits(values(params), START)


def test_a_late_joiner_takes_the_statistics_and_the_schedule():
    schedule = fo.linear_schedule(0.1, 0.0, 10)
    tx = fo.skip_if(
        fo.chain(fo.scale_by_adam(), fo.scale_by_learning_rate(schedule)), fo.norm_outlier()
    )
    params, opt = wrapped(tx, 4, {n: START[n] for n in ("b", "gain")}, bad({1}, where="b"))
    late = torch.nn.Parameter(START["w"].clone())
    opt.add_param_group({"params": [("w", late)]})
    assert opt.param_groups[1]["lr"] == opt.param_groups[0]["lr"] == schedule(3)
    drive(opt, {**params, "w": late}, 1, first=4)
    grads = grads_at(START, 4)["w"]
    expected = START["w"] - schedule(3) * grads / (grads.abs() + 1e-8)
    torch.testing.assert_close(late.detach(), expected, rtol=1e-12, atol=0)
    counts = ("skipped", "inner_updates", "norms")
    assert [opt.state[late][key].item() for key in counts] == [1, 4, 4]
    assert opt.state[late]["inner_step"] == 1


class large(fo.TensorRule):
    """A condition of one's own: the loss is not small."""

    elementwise = True
    memory_per = "tree"
    limit: fo.Scalar = 1.0

    def conclude(self, s, memory, total, *, value):
        return {"skip": value > s.limit}, memory

    def update_tensor(self, g, slots, p, s):
        return g, slots


def test_a_condition_may_be_a_rule_of_ones_own():
    tx = fo.skip_if(fo.sgd(0.1), large())
    grads = grads_at(START, 0)
    for value, skipped in ((2.0, True), (torch.tensor(2.0), True), (0.5, False)):
        updates, state = tx.update(grads, tx.init(START), START, value=value)
        assert state.memory.skipped == skipped
        assert bool(updates["b"].any()) != skipped
    params = named_parameters()
    opt = fo.Optimizer(list(params.items()), tx)
    for name, p in params.items():
        p.grad = grads[name]
    opt.step(lambda: torch.tensor(2.0))
    assert same_bits(values(params), START)


@pytest.mark.parametrize("when", [fo.clip_by_global_norm(1.0), fo.chain(fo.not_finite()), None])
def test_what_is_no_condition_is_an_error(when):
    with pytest.raises(HyperparameterError, match="`when` must be a condition such as"):
        fo.skip_if(fo.sgd(0.1), when)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fo.norm_outlier(zscore=0.0), "`zscore` must be positive, got 0.0"),
        (lambda: fo.norm_outlier(decay=1.0), r"`decay` must lie in \[0, 1\), got 1.0"),
        (lambda: fo.norm_outlier(warmup=0), "`warmup` must be a whole number, at least 1, got 0"),
        (lambda: fo.skip_if(fo.from_functions(len, pow)), "`inner` must be a transformation that"),
    ],
)
def test_a_bad_number_is_named(make, message):
    with pytest.raises(HyperparameterError, match=message):
        make()
