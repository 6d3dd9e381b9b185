"""Feeding a transformation by hand, one gradient after another."""

import torch
from hypothesis import strategies as st


def feed(tx, history, params=None):
    """The update that `tx` makes of each gradient, and its state after the last one."""
    state = tx.init(history[0])
    updates = []
    for grads in history:
        update, state = tx.update(grads, state, params)
        updates.append(update)
    return updates, state


def numbers(*values):
    """A tensor in float64, so that a tolerance is about the formula."""
    return torch.tensor(values, dtype=torch.float64)


magnitudes = st.floats(1e-3, 1e3)
nonzero = st.builds(lambda size, sign: sign * size, magnitudes, st.sampled_from([-1.0, 1.0]))
gradients = st.lists(nonzero, min_size=2, max_size=4).map(lambda values: numbers(*values))
histories = st.lists(
    st.tuples(nonzero, nonzero).map(lambda values: numbers(*values)), min_size=1, max_size=6
)
decays = st.just(0.0) | st.floats(0.01, 0.999)  # 1 - (1 - 1e-7) would keep half of the digits
