"""Methods that Optax has, and PyTorch has not: what their papers claim."""

import pytest
import torch

import funcopt as fo

from .stepping import feed, numbers


def test_novograd_normalizes_each_tensor_by_itself():
    grads = {"a": numbers(3.0, 4.0), "b": numbers(300.0, 400.0)}
    (u,), _ = feed(fo.scale_by_novograd(), [grads])
    torch.testing.assert_close(u["a"], u["b"])
    assert u["a"].norm().item() == pytest.approx(1.0)


def test_a_first_gradient_of_novograd_that_comes_late_is_normalized_too():
    tx, params = fo.scale_by_novograd(), {"a": numbers(1.0), "late": numbers(1.0)}
    state = tx.init(params)
    for late in (None, None, numbers(5.0)):
        updates, state = tx.update({"a": numbers(1.0), "late": late}, state, params)
    assert updates["late"].item() == pytest.approx(1.0)
    assert state.slots["late"].exp_avg_sq == 25.0


def test_madgrad_without_momentum_is_at_the_dual_average():
    tx, p = fo.madgrad(0.1, momentum=0.0), numbers(1.0, -2.0)
    p0, state = p, tx.init(p)
    total, squares = torch.zeros_like(p), torch.zeros_like(p)
    for t in range(5):
        g = numbers(1.0 + t, -0.5)
        u, state = tx.update(g, state, p)
        p = fo.apply_updates(p, u)
        weight = (0.1 + 1e-6) * (t + 1) ** 0.5
        total, squares = total + weight * g, squares + weight * g * g
        torch.testing.assert_close(p, p0 - total / (squares ** (1 / 3) + 1e-6), rtol=1e-13, atol=0)


def test_entries_without_gradients_of_madgrad_stay():
    tx, p = fo.madgrad(), numbers(1.0, -2.0)
    u, _ = tx.update(numbers(0.0, 1.0), tx.init(p), p)
    assert u[0] == 0
    assert u[1] < 0


def test_acprop_divides_by_what_was_known_before():
    (first, second), _ = feed(fo.scale_by_acprop(eps=0.0, eps_root=0.0), [numbers(2.0)] * 2)
    assert first == 2.0
    torch.testing.assert_close(second, numbers(1.0))  # g over the root of its own square


def test_optimistic_descent_ends_where_plain_descent_circles():
    """The saddle x y, of a player who descends and one who ascends."""

    def run(tx):
        p = numbers(1.0, 1.0)
        state = tx.init(p)
        for _ in range(2000):
            u, state = tx.update(torch.stack([p[1], -p[0]]), state, p)
            p = fo.apply_updates(p, u)
        return p.norm()

    assert run(fo.optimistic_gradient_descent(0.1)) < 1e-3
    assert run(fo.sgd(0.1)) > 1e3


def test_fromage_keeps_the_norm_where_the_gradient_is_perpendicular():
    tx, p = fo.fromage(0.5), numbers(3.0, 4.0)
    u, _ = tx.update(numbers(-4.0, 3.0), tx.init(p), p)
    assert fo.apply_updates(p, u).norm().item() == pytest.approx(5.0, rel=1e-14)


def test_simplified_ademamix_without_alpha_is_adam_of_another_learning_rate():
    """But for the bias correction of the first moment."""
    history = [numbers(1.0, -2.0), numbers(0.5, 3.0), numbers(2.0, 2.0)]
    ours, _ = feed(fo.scale_by_simplified_ademamix((0.9, 0.95)), history)
    adam, _ = feed(fo.scale_by_adam((0.9, 0.95)), history)
    for t, (u, v) in enumerate(zip(ours, adam, strict=True)):
        torch.testing.assert_close(u * (1 - 0.9) / (1 - 0.9 ** (t + 1)), v, rtol=1e-12, atol=0)


def test_the_scale_of_gradients_does_not_matter_to_cocob():
    torch.manual_seed(0)
    history = [torch.randn(3, dtype=torch.float64) for _ in range(20)]

    def run(factor):
        tx, p = fo.cocob(), numbers(1.0, 2.0, 3.0)
        state = tx.init(p)
        for g in history:
            u, state = tx.update(factor * g, state, p)
            p = fo.apply_updates(p, u)
        return p

    torch.testing.assert_close(run(1.0), run(1e4), rtol=1e-12, atol=0)
    assert (run(1.0) != numbers(1.0, 2.0, 3.0)).all()


def test_cocob_finds_a_bowl_that_is_far_away():
    tx, p = fo.cocob(), numbers(0.0)
    state = tx.init(p)
    for _ in range(800):
        u, state = tx.update((p - 30.0).sign(), state, p)
        p = fo.apply_updates(p, u)
    assert abs(p.item() - 30.0) < 3.0


def test_the_radial_part_of_a_gradient_is_removed_and_its_norm_kept():
    p, g = numbers(3.0, 4.0), numbers(1.0, 1.0)
    (u,), _ = feed(fo.remove_radial_gradient(), [g], p)
    assert (u * p).sum().abs() < 1e-14
    assert u.norm().item() == pytest.approx(2.0**0.5, rel=1e-14)
    (u,), _ = feed(fo.remove_radial_gradient(), [0.1 * p], p)
    assert not u.any()


def test_a_rectified_learning_rate_waits_until_the_variance_is_known():
    """And then it is RAdam's, which the weights of the average see."""
    p = numbers(1.0)
    tx = fo.schedule_free_radam(0.1)
    state, moved = tx.init(p), []
    for _ in range(8):
        u, state = tx.update(numbers(1.0), state, p)
        moved.append(bool(u != 0))
        p = fo.apply_updates(p, u)
    assert moved == [False] * 4 + [True] * 4  # from rho > 4 on, where RAdam has rho > 5
    assert 0 < state.memory[-1].lr_max < 0.01  # where the learning rate is 0.1
