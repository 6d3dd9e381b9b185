"""`scale_by_adamax`: the maximum decays, and never falls below the newest gradient."""

import torch

import funcopt as fo


def test_the_first_update_is_the_sign():
    g = torch.tensor([1e-3, -5.0, 0.0])
    u, _ = fo.scale_by_adamax(eps=1e-12).update(g, fo.scale_by_adamax().init(g))
    torch.testing.assert_close(u, torch.sign(g))


def test_the_maximum_decays_until_a_gradient_exceeds_it():
    tx = fo.scale_by_adamax((0.9, 0.5), eps=0.0)
    state = tx.init(torch.zeros(1))
    for g, expected in ((8.0, 8.0), (1.0, 4.0), (1.0, 2.0), (3.0, 3.0)):
        _, state = tx.update(torch.tensor([g]), state)
        assert state.slots.exp_inf.item() == expected
