"""`trace`, a decayed sum, and `ema`, a mean."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import funcopt as fo
from funcopt import tree
from funcopt.errors import StructureError

from .stepping import decays, feed, gradients, histories, numbers

ONES = [numbers(1.0)] * 3

# trace


@given(momentum=decays, grads=gradients, steps=st.integers(1, 20))
def test_a_steady_gradient_adds_up_to_the_geometric_series(momentum, grads, steps):
    updates, _ = feed(fo.trace(momentum), [grads] * steps)
    series = sum(momentum**k for k in range(steps))
    torch.testing.assert_close(updates[-1], series * grads, rtol=1e-14, atol=0)


@given(history=histories, momentum=decays, nesterov=st.booleans())
def test_the_trace_of_a_sum_is_the_sum_of_the_traces(history, momentum, nesterov):
    tx = fo.trace(momentum, dampening=0.3, nesterov=nesterov)
    other = [torch.sin(g) for g in history]
    both, _ = feed(tx, [a + b for a, b in zip(history, other, strict=True)])
    apart = [a + b for a, b in zip(feed(tx, history)[0], feed(tx, other)[0], strict=True)]
    torch.testing.assert_close(both, apart, rtol=1e-13, atol=1e-10)


def test_dampening_begins_at_the_second_step():
    updates, _ = feed(fo.trace(0.9, dampening=0.5), ONES)
    torch.testing.assert_close(updates, [numbers(1.0), numbers(1.4), numbers(1.76)])


def test_nesterov_adds_the_momentum_of_the_next_step():
    plain, _ = feed(fo.trace(0.9), ONES)
    ahead, _ = feed(fo.trace(0.9, nesterov=True), ONES)
    torch.testing.assert_close(ahead, [g + 0.9 * b for g, b in zip(ONES, plain, strict=True)])
    torch.testing.assert_close(ahead, [numbers(1.9), numbers(2.71), numbers(3.439)])


def test_no_gradient_leaves_a_parameter_but_a_zero_gradient_lets_it_roll_on():
    tx = fo.chain(fo.trace(0.9), fo.scale(-1.0))
    params = numbers(0.0), torch.zeros(1, dtype=torch.float64)
    state = tx.init(params)
    for grads in [(numbers(1.0), numbers(1.0)), (None, numbers(0.0))]:
        updates, state = tx.update(grads, state)
        params = fo.apply_updates(params, updates)
    torch.testing.assert_close(params, (numbers(-1.0), numbers(-1.9)), rtol=1e-15, atol=0)


@pytest.mark.parametrize("momentum", [0, 0.0])
def test_a_momentum_of_zero_takes_no_memory_and_changes_nothing(momentum):
    updates, state = feed(fo.trace(momentum), ONES)
    assert tree.leaves(state.slots) == []
    assert updates == ONES


@pytest.mark.parametrize("momentum", [torch.tensor(0.0), lambda count: 0.0])
def test_a_momentum_that_may_grow_takes_memory(momentum):
    _, state = feed(fo.trace(momentum), ONES)
    assert state.slots.momentum_buffer.shape == (1,)


def test_a_momentum_that_grew_from_zero_after_init_has_no_buffer_and_says_so():
    state = fo.trace(0.0).init(ONES[0])
    with pytest.raises(StructureError, match=r"`trace`.*has no buffer.*init\(params\)"):
        fo.trace(0.9).update(ONES[0], state)


def test_a_momentum_that_fell_to_zero_forgets_the_buffer():
    _, state = feed(fo.trace(0.9), ONES)
    updates, _ = fo.trace(0.0).update(ONES[0], state)
    assert torch.equal(updates, ONES[0])


def test_only_the_buffer_is_rounded_to_the_storage_dtype():
    fine = torch.tensor([1.0 + 2**-10])  # 1 in bfloat16
    (update,), state = feed(fo.trace(0.9, state_dtype=torch.bfloat16), [fine])
    assert torch.equal(update, fine)
    assert torch.equal(state.slots.momentum_buffer, torch.ones(1, dtype=torch.bfloat16))


def test_a_negative_momentum_is_named():
    with pytest.raises(ValueError, match=r"`trace`: `momentum` must not be negative, got -0.9"):
        fo.trace(-0.9)


# ema


def test_a_mean_begun_at_zero_is_too_small_unless_it_is_debiased():
    history = [numbers(5.0), numbers(7.0)]
    plain, state = feed(fo.ema(0.9, debias=False), history)
    torch.testing.assert_close(plain, [numbers(0.5), numbers(1.15)], rtol=1e-15, atol=0)
    debiased, same = feed(fo.ema(0.9), history)
    expected = [numbers(5.0), numbers(1.15 / 0.19)]
    torch.testing.assert_close(debiased, expected, rtol=1e-14, atol=0)
    torch.testing.assert_close(same, state, rtol=0, atol=0)  # the state is never debiased


@given(grads=gradients, decay=decays, steps=st.integers(1, 20))
def test_the_debiased_mean_of_a_steady_update_is_that_update(grads, decay, steps):
    updates, _ = feed(fo.ema(decay), [grads] * steps)
    torch.testing.assert_close(updates[-1], grads, rtol=1e-12, atol=0)  # 1 - 0.999 loses 3 digits


@given(history=histories, decay=decays)
def test_the_debiased_mean_lies_between_the_least_and_the_greatest_update(history, decay):
    updates, _ = feed(fo.ema(decay), history)
    seen = torch.stack(history)
    slack = 1e-12 * seen.abs().amax(0)
    assert (updates[-1] >= seen.amin(0) - slack).all()
    assert (updates[-1] <= seen.amax(0) + slack).all()


@given(history=histories)
def test_at_decay_zero_the_mean_is_the_last_update(history):
    for debias in (True, False):
        updates, _ = feed(fo.ema(0.0, debias=debias), history)
        torch.testing.assert_close(updates, history, rtol=0, atol=0)


def test_in_bfloat16_the_mean_stands_still_and_in_float32_it_does_not():
    # Half a unit in the last place of 1 in bfloat16 is 2^-9, more than 0.001.
    zero, decay = torch.zeros(1, dtype=torch.bfloat16), 0.999

    def mean_after(tx):
        state = tx.init(zero)
        state = state._replace(slots=tree.map(torch.ones_like, state.slots))
        for _ in range(100):
            _, state = tx.update(zero, state)
        return state.slots.ema.float().item()

    assert mean_after(fo.ema(decay)) == 1.0
    wide = mean_after(fo.ema(decay, state_dtype=torch.float32))
    assert wide == pytest.approx(decay**100, rel=1e-5)


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_a_decay_outside_its_range_is_named(decay):
    with pytest.raises(ValueError, match=rf"`ema`: `decay` must lie in \[0, 1\), got {decay}"):
        fo.ema(decay)


@pytest.mark.parametrize("engine", ["eager", "fused", "foreach", "torch", "auto"])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("dampening", [0.0, 0.5])
def test_momentum_begins_with_the_gradient_whenever_it_begins(dampening, nesterov, engine):
    """As in torch: whoever sets a momentum later does not find the first gradient dampened."""
    if nesterov and dampening:
        pytest.skip("refused by torch")
    mine, theirs = (
        [torch.nn.Parameter(torch.linspace(-1, 1, n, dtype=torch.float64)) for n in (3, 0, 5)]
        for _ in range(2)
    )
    options = {"lr": 0.1, "dampening": dampening, "weight_decay": 0.1}
    tx = fo.sgd(0.1, dampening=dampening, weight_decay=0.1, nesterov=nesterov and not dampening)
    opt, ref = fo.Optimizer(mine, tx, engine=engine), torch.optim.SGD(theirs, **options)
    for t in range(7):
        if t in (2, 5):
            for o in (opt, ref):
                o.param_groups[0]["momentum"] = 0.9
                o.param_groups[0]["nesterov"] = nesterov
        for k, (p, q) in enumerate(zip(mine, theirs, strict=True)):
            late = k == 2 and t < 4  # it joins when the others have momentum
            q.grad = None if late else torch.cos(q.detach() + t) * (t != 3)
            p.grad = None if late else q.grad.clone()
        opt.step(), ref.step()
        for p, q in zip(mine, theirs, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)


def test_a_buffer_of_zeros_is_no_beginning():
    """Gradients of zero, of either sign, are gradients: what comes after them is dampened."""
    for zero in (0.0, -0.0):
        updates, _ = feed(fo.trace(0.9, dampening=0.5), [numbers(zero), numbers(1.0)])
        torch.testing.assert_close(updates[1], numbers(0.5))


def test_torchs_checkpoint_without_a_buffer_begins_with_the_gradient():
    p, q = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    ref = torch.optim.SGD([q], 0.1, dampening=0.5)
    q.grad = torch.ones(2)
    ref.step()
    opt = fo.optim.SGD([p], 0.1, dampening=0.5)
    opt.load_state_dict(ref.state_dict())
    p.data.copy_(q.data)
    for o in (opt, ref):
        o.param_groups[0]["momentum"] = 0.9
    for _ in range(2):
        p.grad, q.grad = torch.ones(2), torch.ones(2)
        opt.step(), ref.step()
    torch.testing.assert_close(p, q)
