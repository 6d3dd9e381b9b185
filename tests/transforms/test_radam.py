"""`scale_by_radam`: rectified from the step on at which the variance can be trusted."""

import pytest
import torch

import funcopt as fo


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_rectification_begins_at_step_six_in_every_dtype(dtype):
    """In float32 the textbook formula cancels, and begins at step 2."""
    tx = fo.scale_by_radam((0.9, 0.9999))
    g = torch.full((1,), 0.01, dtype=dtype)
    state, updates = tx.init(g), []
    for _ in range(8):
        u, state = tx.update(g, state)
        updates.append(u.item())
    assert updates[:5] == pytest.approx([0.01] * 5, rel=1e-5)  # the plain mean
    assert 0.005 < updates[5] < updates[6] < updates[7] < 0.05  # rectified, and growing


def test_the_step_may_be_a_tensor_too():
    """A rounding of 0.9999**6 moves the first rectified update by 1.1e-9: two powers, two of them.

    Each is right to the last bit, whichever way its processor computes it.
    """
    tx = fo.scale_by_radam((0.9, 0.9999))
    g = torch.full((3, 1), 0.01, dtype=torch.float64)
    state = torch.func.vmap(tx.init)(g)
    one = tx.init(g[0])
    for _ in range(8):
        u, state = torch.func.vmap(tx.update)(g, state)
        v, one = tx.update(g[0], one)
        torch.testing.assert_close(u[1], v, rtol=2.5e-9, atol=0)


def test_rectification_in_float32_is_that_of_float64():
    """At b2 = 0.9999 the textbook formula in float32 is off by percents for many steps."""
    tx, updates = fo.scale_by_radam((0.9, 0.9999)), {}
    for dtype in (torch.float32, torch.float64):
        state, updates[dtype] = tx.init(torch.zeros(4, dtype=dtype)), []
        for t in range(200):
            g = torch.sin(torch.arange(4, dtype=torch.float64) + 0.7 * t).to(dtype)
            u, state = tx.update(g, state)
            updates[dtype].append(u.double())
    ours, truth = torch.stack(updates[torch.float32]), torch.stack(updates[torch.float64])
    assert (ours - truth).abs().max() <= 1e-6
