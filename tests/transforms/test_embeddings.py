"""Row-wise Adagrad and lazy Adam: rows without gradient are left untouched."""

import pytest
import torch

import funcopt as fo

from .stepping import feed, numbers


def test_rowwise_adagrad_adds_up_mean_squares_by_row():
    """As `EXACT_ROWWISE_ADAGRAD` of FBGEMM."""
    g = numbers([1.0, -3.0], [0.0, 0.0], [2.0, 2.0])
    tx = fo.scale_by_rowwise_adagrad(eps=0.1)
    (_, u), state = feed(tx, [g, g])
    assert state.slots.sum.tolist() == [[10.0], [0.0], [8.0]]
    torch.testing.assert_close(u[0], g[0] / (10.0**0.5 + 0.1))
    assert not u[1].any()


@pytest.mark.parametrize("name", ["rowwise_adagrad", "lazy_adam"])
def test_a_row_without_gradient_neither_moves_nor_changes(name):
    tx = getattr(fo, name)(0.1)
    p = torch.ones(4, 3, dtype=torch.float64)
    state = tx.init(p)
    for t in range(5):
        g = torch.zeros_like(p)
        g[t % 3] = 1.0 + t  # never the last one
        g[t % 3, 1] = 0.0  # a zero entry of a row that has a gradient
        before = state.slots
        u, state = tx.update(g, state, p)
        rows = [i for i in range(4) if i != t % 3]
        assert not u[rows].any()
        assert u[t % 3, 0] != 0
        for old, new in zip(fo.tree.leaves(before), fo.tree.leaves(state.slots), strict=True):
            assert torch.equal(old[rows], new[rows])
        p = fo.apply_updates(p, u)
    assert (p[3] == 1).all()


def test_an_entry_without_gradient_moves_if_its_row_has_one():
    """By its momentum, as in `torch.optim.SparseAdam`."""
    first, second = numbers([1.0, 1.0]), numbers([0.0, 1.0])
    (_, u), _ = feed(fo.scale_by_lazy_adam(), [first, second])
    assert u[0, 0] != 0


def test_where_all_rows_have_gradients_it_is_adam():
    history = [numbers([1.0 + t, -2.0], [0.5, 3.0 - t]) for t in range(3)]
    ours, _ = feed(fo.scale_by_lazy_adam(eps=0.0), history)
    adam, _ = feed(fo.scale_by_adam(eps=0.0), history)
    torch.testing.assert_close(ours, adam, rtol=1e-14, atol=0)
