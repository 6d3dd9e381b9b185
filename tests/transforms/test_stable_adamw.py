"""`scale_by_stable_adamw`: a step is shorter where the second moment is out of date."""

import pytest
import torch

import funcopt as fo

from .stepping import feed, numbers


def test_without_clipping_it_is_adam_with_decay():
    history = [numbers(1.0, -2.0), numbers(0.8, -1.5), numbers(0.6, -1.2)]
    params = numbers(3.0, 4.0)
    ours, state = feed(fo.scale_by_stable_adamw(weight_decay=0.5), history, params)
    adam = fo.chain(fo.scale_by_adam((0.9, 0.99), eps=1e-6), fo.add_decayed_weights(0.5))
    plain, of_adam = feed(adam, history, params)
    torch.testing.assert_close(ours, plain, rtol=1e-14, atol=0)
    inside = of_adam.slots[0].exp_avg_sq / (1 - 0.99**3)  # the slots are corrected
    torch.testing.assert_close(state.slots.exp_avg_sq, inside, rtol=1e-14, atol=0)


def test_a_sudden_gradient_shortens_the_step_of_its_tensor_and_the_decay():
    calm, sudden = numbers(1.0, 1.0), numbers(10.0, 1.0)
    tx, params = (
        fo.scale_by_stable_adamw(eps=1e-12, weight_decay=0.5),
        [numbers(3.0, 4.0), numbers(3.0, 4.0)],
    )
    state = tx.init(params)
    _, state = tx.update([calm, calm], state, params)
    updates, state = tx.update([calm, sudden], state, params)
    adam = fo.chain(fo.scale_by_adam((0.9, 0.99), eps=1e-12), fo.add_decayed_weights(0.5))
    (_, plain), _ = feed(adam, [[calm, calm.clone()], [calm, sudden]], params)
    v = (0.99 * 0.01 + 0.01 * 100) / (1 - 0.99**2)
    rms = ((100 / v + 1) / 2) ** 0.5
    torch.testing.assert_close(updates[0], plain[0], rtol=1e-9, atol=0)
    torch.testing.assert_close(updates[1], plain[1] / rms, rtol=1e-9, atol=0)


def test_zero_gradients_give_no_step():
    (u,), _ = feed(fo.scale_by_stable_adamw(), [numbers(0.0, 0.0)])
    assert u.tolist() == [0.0, 0.0]


def test_without_an_epsilon_the_rms_would_divide_by_zero():
    with pytest.raises(fo.errors.HyperparameterError, match=r"`eps` must be positive"):
        fo.scale_by_stable_adamw(eps=0.0)
