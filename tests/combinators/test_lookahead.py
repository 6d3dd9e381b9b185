"""`lookahead`: several steps forward, one step back."""

import pytest
import torch

import funcopt as fo
from funcopt.errors import HyperparameterError, MissingParamsError

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
    step,
    the_optimizer_does_the_same,
    values,
    wrapped,
)

INNER = fo.adamw(fo.linear_schedule(0.1, 0.0, 30), weight_decay=0.1)


def of_the_paper(tx, steps, k, alpha, reset=False):
    """Algorithm 1: two loops. The fast and the slow parameters after so many inner steps."""
    slow, fast, state = dict(START), dict(START), tx.init(START)
    for t in range(steps):
        updates, state = tx.update(grads_at(fast, t), state, fast)
        fast = fo.apply_updates(fast, updates)
        if (t + 1) % k == 0:
            slow = {n: slow[n] + alpha * (fast[n] - slow[n]) for n in slow}
            fast = dict(slow)
            state = tx.init(fast) if reset else state
    return fast, slow


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(("k", "alpha"), [(6, 0.5), (1, 0.5), (5, 0.8), (3, 0.0), (4, 1.0)])
def test_it_is_the_algorithm_of_the_paper(k, alpha, reset):
    inner = fo.adamw(0.1) if reset else INNER
    tx = fo.lookahead(inner, k, alpha, reset=reset)
    fast, slow = of_the_paper(inner, 200, k, alpha, reset)
    params, state = purely(tx, 200)
    assert same(params, fast, 1e-12)
    assert same(fo.eval_params(tx, state, params), slow, 1e-12)


@pytest.mark.parametrize(("k", "alpha", "mu"), [(6, 0.7, 0.9), (1, 0.5, 0.5), (5, 1.0, 0.0)])
def test_with_momentum_the_slow_steps_are_those_of_sgd_of_torch(k, alpha, mu):
    """The outer optimizer of DiLoCo, with one worker: its gradient is the way that was gone."""
    slow = named_parameters()
    outer = torch.optim.SGD(slow.values(), alpha, momentum=mu, nesterov=mu > 0)
    fast, own = dict(START), INNER.init(START)
    for t in range(60):
        updates, own = INNER.update(grads_at(fast, t), own, fast)
        fast = fo.apply_updates(fast, updates)
        if (t + 1) % k == 0:
            step(outer, slow, {n: slow[n].detach() - fast[n] for n in slow})
            fast = values(slow)
    tx = fo.lookahead(INNER, k, alpha, slow_momentum=mu)
    params, state = purely(tx, 60)
    assert same(params, fast, 1e-12)
    assert same(fo.eval_params(tx, state, params), values(slow), 1e-12)
    assert the_optimizer_does_the_same(tx)
    assert resumes(tx, 4, 14)


def test_a_slow_momentum_out_of_range_is_an_error():
    with pytest.raises(HyperparameterError, match=r"`slow_momentum` must lie in \[0, 1\)"):
        fo.lookahead(INNER, slow_momentum=1.0)


def test_the_numbers_of_optax():
    """Step -0.5, gradient 2, three steps, a third of the way: its own test, and its edge cases."""

    def at(steps, *args):
        tx, start = fo.lookahead(fo.scale(-0.5), *args), {"p": torch.tensor([3.0])}
        params, state = purely(tx, steps, start, lambda params, t: {"p": torch.tensor([2.0])})
        return params["p"].item(), fo.eval_params(tx, state, params)["p"].item()

    found = [at(steps, 3, 1 / 3) for steps in range(7)]
    assert [fast for fast, _ in found] == pytest.approx([3, 2, 1, 2, 1, 0, 1])
    assert [slow for _, slow in found] == pytest.approx([3, 3, 3, 2, 2, 2, 1])
    for (k, alpha), fast in {(1, 0.5): 1, (1, 0.0): 3, (1, 1.0): -1, (2, 1.0): -1}.items():
        assert at(4, k, alpha)[0] == pytest.approx(fast)


def test_between_the_syncs_it_is_the_inner_one():
    assert same_bits(purely(fo.lookahead(INNER, 6), 5)[0], purely(INNER, 5)[0])


def test_between_the_syncs_nothing_is_done_besides(monkeypatch):
    """One set of slow parameters, handed on as it is."""
    monkeypatch.setenv("FUNCOPT_ENGINE", "eager")
    tx = fo.lookahead(fo.sgd(0.1), 3)
    made = []
    anew = torch.Tensor.__sub__
    monkeypatch.setattr(torch.Tensor, "__sub__", lambda a, b: made.append(a) or anew(a, b))
    state, params = tx.init(START), START
    for t in range(7):
        before = len(made)
        _, state = tx.update(grads_at(START, t), state, params)
        assert (len(made) > before) == ((t + 1) % 3 == 0)


def test_a_reset_begins_anew_but_schedules_go_on():
    schedule = fo.linear_schedule(0.1, 0.0, 10)
    tx = fo.lookahead(fo.chain(fo.nadam(1.0), fo.scale(schedule)), 3, reset=True)
    params, state = purely(tx, 3)
    fresh = tx.init(params)
    assert same_bits(state.slots, fresh.slots)
    assert same_bits(state.memory.inner, fresh.memory.inner)
    assert state.memory.inner_updates == 3
    seen = []
    purely(fo.lookahead(fo.sgd(lambda t: seen.append(t) or 0.1), 3, reset=True), 7)
    assert seen == list(range(7))


def test_a_reset_begins_at_the_parameters_that_are_left():
    """What remembers a parameter, remembers the one after the step back."""

    class from_here(fo.TensorRule):
        elementwise = True

        def init_tensor(self, p):
            return fo.transforms.EmaOfParamsSlots(p.clone())

        def update_tensor(self, g, slots, p, s):
            return -0.1 * g, slots

        def sign(self):
            return -1

    tx = fo.lookahead(from_here(), 2, reset=True)
    start = {**START, "z": torch.tensor([1 + 2j], dtype=torch.complex128)}

    def grads(params, t):
        return {n: p * (t + 1) for n, p in params.items()}

    for bf16 in (False, True):
        begin = {n: p.bfloat16() for n, p in START.items()} if bf16 else start
        params, state = purely(tx, 2, begin, grads)
        for name, own in state.slots.items():
            assert own.inner.ema_params.dtype == begin[name].dtype
            torch.testing.assert_close(own.inner.ema_params, own.slow, rtol=0, atol=0)
            torch.testing.assert_close(params[name], own.slow, rtol=1e-15 if not bf16 else 1e-2,
                                       atol=0)  # fmt: skip


def test_a_reset_sees_parameters_as_they_were_given():
    """A complex vector is a vector, though rules see a matrix of two columns."""
    inner = fo.partition({"matrix": fo.adamw(0.1), "rest": fo.sgd(0.1, momentum=0.9)}, by_dimension)
    tx, start = fo.lookahead(inner, 2, reset=True), {"z": torch.tensor([1 + 2j, 3 - 1j])}
    _, state = purely(tx, 2, start, lambda params, t: params)
    assert fo.tree.names(state) == fo.tree.names(tx.init(start))


# In other surroundings

SURROUNDED = {
    "alone": fo.lookahead(INNER, 3),
    "with a reset": fo.lookahead(fo.chain(fo.clip(1.0), fo.nadam(0.1)), 3, reset=True),
    "in skip_if": fo.skip_if(fo.lookahead(INNER, 2)),
    "around skip_if": fo.lookahead(fo.skip_if(INNER), 2, reset=True),
    "in accumulate": fo.accumulate(fo.lookahead(INNER, 2), 2),
    "around accumulate": fo.lookahead(fo.accumulate(INNER, 2), 4, reset=True),
    "in a partition": fo.partition(
        {"matrix": fo.lookahead(fo.adamw(0.1), 2), "rest": fo.lookahead(fo.sgd(0.1), 3)},
        by_dimension,
    ),
    "around a partition": fo.lookahead(
        fo.partition({"matrix": fo.adamw(0.1), "rest": fo.sgd(0.1, momentum=0.9)}, by_dimension),
        3,
        fo.linear_schedule(0.5, 0.9, 8),
        reset=True,
    ),
    "below an average": fo.chain(fo.lookahead(INNER, 2), fo.ema_of_params(0.8)),
}  # fmt: skip


def test_in_two_branches_each_has_its_own_count_which_those_without_gradients_share():
    start = {"w": torch.ones(2, 2), "a": torch.ones(2), "b": torch.ones(2)}
    params = named_parameters(start)
    opt = fo.Optimizer(list(params.items()), SURROUNDED["in a partition"])
    for names in ["wab"] * 2 + ["wa"] * 3 + ["w"] * 4 + ["ab"] * 3:
        step(opt, params, {name: start[name] for name in names})
    counts = {name: int(opt.state[p]["inner_updates"]) for name, p in params.items()}
    assert counts == {"w": 9, "a": 8, "b": 8}


@pytest.mark.parametrize("how", SURROUNDED)
def test_the_optimizer_does_as_the_pure_form(how):
    assert the_optimizer_does_the_same(SURROUNDED[how], 9)


@pytest.mark.parametrize("how", SURROUNDED)
@pytest.mark.parametrize("stop", [1, 2, 6])
def test_a_checkpoint_resumes_to_the_bit(how, stop):
    assert resumes(SURROUNDED[how], stop, 9)


def test_it_evaluates_the_slow_parameters():
    mine, opt = wrapped(SURROUNDED["alone"], 5)
    with opt.averaged():
        assert same(values(mine), of_the_paper(INNER, 5, 3, 0.5)[1], 1e-14)


def test_groups_may_keep_another_share():
    params = named_parameters()
    groups = [
        {"params": [("b", params["b"]), ("gain", params["gain"])]},
        {"params": [("w", params["w"])], "slow_step_size": 0.9},
    ]
    opt = fo.Optimizer(groups, fo.lookahead(fo.sgd(0.1), 3))
    drive(opt, params, 7)
    for name, alpha in (("b", 0.5), ("gain", 0.5), ("w", 0.9)):
        expected = of_the_paper(fo.sgd(0.1), 7, 3, alpha)[0][name]
        torch.testing.assert_close(params[name].detach(), expected, rtol=1e-12, atol=0)


def test_without_a_gradient_at_a_sync_a_parameter_waits_for_the_next():
    def holes(params, t):
        found = grads_at(params, t)
        return {n: None if (n, t) == ("w", 2) else g for n, g in found.items()}

    tx = fo.lookahead(fo.sgd(0.1), 3)
    _, state = purely(tx, 3, grads_at=holes)
    assert same_bits(state.slots["w"].slow, START["w"])
    assert not torch.equal(state.slots["b"].slow, START["b"])
    params, state = purely(tx, 6, grads_at=holes)
    assert not torch.equal(state.slots["w"].slow, START["w"])
    assert same(values(wrapped(tx, 6, grads_at=holes)[0]), params)


def test_a_late_joiner_syncs_with_the_others_and_has_their_rate():
    schedule = fo.linear_schedule(0.1, 0.0, 10)
    tx = fo.lookahead(fo.sgd(schedule), 3)
    params, opt = wrapped(tx, 2, {n: START[n] for n in ("b", "gain")})
    late = torch.nn.Parameter(START["w"].clone())
    opt.add_param_group({"params": [("w", late)]})
    drive(opt, {**params, "w": late}, 1, first=2)
    expected = START["w"] - 0.5 * schedule(2) * grads_at(START, 2)["w"]
    torch.testing.assert_close(late.detach(), expected, rtol=1e-12, atol=0)


def test_where_the_optimizer_adds_a_rate_it_is_inside():
    """So that the step back is of the step that was made."""
    tx = fo.lookahead(fo.chain(fo.scale_by_adam(), fo.scale(-0.1)), 2)
    params = named_parameters()
    opt = fo.Optimizer(params.values(), tx)
    opt.param_groups[0]["lr"] = 0.5
    drive(opt, params, 5)
    inside = fo.lookahead(fo.chain(fo.scale_by_adam(), fo.scale(-0.05)), 2)
    assert same(values(params), purely(inside, 5)[0], 1e-14)


def test_under_vmap_every_run_is_as_alone():
    shares = torch.tensor([0.5, 0.9], dtype=torch.float64)

    def run(share):
        return purely(fo.lookahead(fo.adamw(0.1), 2, share, reset=True), 5)[0]

    together = torch.func.vmap(run)(shares)
    for i, share in enumerate(shares.tolist()):
        assert same({n: p[i] for n, p in together.items()}, run(share), 1e-12)


def test_what_it_remembers_has_names():
    params, opt = wrapped(fo.lookahead(fo.sgd(0.1, momentum=0.9)), 1)
    own = {"step", "slow", "momentum_buffer", "inner_updates", "inner_step"}
    assert set(opt.state[params["w"]]) == own


def test_the_slow_parameters_may_be_kept_wider():
    params = {"p": torch.ones(2, dtype=torch.bfloat16)}
    tx = fo.lookahead(fo.sgd(0.1), 2, state_dtype=torch.float32)
    params, state = purely(tx, 3, params, lambda params, t: params)
    assert state.slots["p"].slow.dtype == torch.float32
    assert fo.eval_params(tx, state, params)["p"].dtype == torch.bfloat16


# Mistakes


def test_what_changes_the_step_comes_before():
    with pytest.raises(HyperparameterError) as error:
        fo.chain(fo.lookahead(fo.sgd(0.1)), fo.scale(0.5))
    assert str(error.value) == (
        "`chain`: `lookahead` needs the final update, and has to come after every stage that "
        "changes updates, as scale(0.5) does."
    )


@pytest.mark.parametrize("last", [fo.ema_of_params(), fo.primal_averaging()])
def test_what_comes_last_comes_after_it(last):
    name = type(last).__name__
    with pytest.raises(HyperparameterError) as error:
        fo.lookahead(fo.chain(fo.sgd(0.1), last))
    assert str(error.value) == (
        f"`lookahead`: `{name}` needs the final update, and `lookahead` changes it: put "
        f"`{name}` after it, `chain(lookahead(...), {name}(...))`."
    )


def test_it_needs_the_parameters():
    tx = fo.lookahead(fo.sgd(0.1))
    with pytest.raises(MissingParamsError, match="`lookahead` needs the parameters"):
        tx.update(grads_at(START, 0), tx.init(START))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sync_period": 0}, "`sync_period` must be a whole number, at least 1, got 0"),
        ({"sync_period": 2.5}, "`sync_period` must be a whole number, at least 1, got 2.5"),
        ({"slow_step_size": 1.5}, r"`slow_step_size` must lie in \[0, 1\], got 1.5"),
        ({"inner": fo.from_functions(len, pow)}, "`inner` must be a transformation that works"),
    ],
)
def test_a_bad_argument_is_named(options, message):
    with pytest.raises(HyperparameterError, match=message):
        fo.lookahead(**{"inner": fo.sgd(0.1), **options})
