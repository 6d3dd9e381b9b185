"""`scale_by_nadam`: a momentum that warms up, of which each parameter keeps its own product."""

import pytest
import torch

import funcopt as fo
import funcopt.optim as optim


def test_with_a_great_decay_of_the_momentum_it_is_nesterovs_adam():
    g = torch.tensor([0.3, -2.0], dtype=torch.float64)
    ours, theirs = fo.scale_by_nadam(momentum_decay=1e6), fo.scale_by_adam(nesterov=True)
    state, other = ours.init(g), theirs.init(g)
    for t in range(5):
        u, state = ours.update(g + t, state)
        v, other = theirs.update(g + t, other)
        torch.testing.assert_close(u, v, rtol=1e-12, atol=0)


def test_the_product_of_the_momenta_is_remembered():
    tx = fo.scale_by_nadam()
    state, product = tx.init(torch.ones(1)), 1.0
    for t in range(1, 4):
        _, state = tx.update(torch.ones(1), state)
        product *= 0.9 * (1 - 0.5 * 0.96 ** (t * 4e-3))
        assert state.memory.mu_product.item() == pytest.approx(product, rel=1e-12)


def test_a_late_joiner_has_a_product_of_its_own():
    early, late, fresh = (torch.nn.Parameter(torch.ones(2)) for _ in range(3))
    opt, other = optim.NAdam([early, late]), optim.NAdam([fresh])
    for t in range(5):
        early.grad = torch.ones(2)
        late.grad = torch.ones(2) if t == 4 else None
        opt.step()
    fresh.grad = torch.ones(2)
    other.step()
    assert torch.equal(late, fresh)
    assert opt.state[late]["mu_product"] == other.state[fresh]["mu_product"]
    assert opt.state[early]["mu_product"] < opt.state[late]["mu_product"]
