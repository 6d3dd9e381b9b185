"""`scale_by_lion`: the mean looks ahead by one share, and remembers with another."""

import torch

import funcopt as fo


def test_the_newest_gradient_counts_more_now_than_later():
    tx = fo.scale_by_lion((0.5, 0.9))
    state = tx.init(torch.zeros(1))
    u, state = tx.update(torch.tensor([1.0]), state)
    assert u == 1.0
    assert torch.allclose(state.slots.exp_avg, torch.tensor([0.1]))
    u, state = tx.update(torch.tensor([-0.2]), state)  # 0.5 * 0.1 - 0.5 * 0.2 < 0
    assert u == -1.0
    assert torch.allclose(state.slots.exp_avg, torch.tensor([0.07]))
