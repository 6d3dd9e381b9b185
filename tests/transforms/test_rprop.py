"""`scale_by_rprop`: steps grow while the sign of the gradient stays, and shrink when it turns."""

import pytest
import torch

import funcopt as fo
import funcopt.errors
import funcopt.optim as optim

from .stepping import feed, numbers


def lengths(tx, *gradients):
    updates, _ = feed(tx, [numbers(g) for g in gradients])
    return [u.item() for u in updates]


def test_only_signs_count():
    tx = fo.scale_by_rprop(0.1)
    assert lengths(tx, 1.0, 1e-3, 50.0) == lengths(tx, 7.0, 2e3, 1e-5)


def test_a_step_grows_rests_where_the_sign_turns_and_goes_on_at_half_the_size():
    tx = fo.scale_by_rprop(1.0, etas=(0.5, 2.0))
    assert lengths(tx, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0) == [1.0, 2.0, 4.0, 0.0, -2.0, -4.0]


def test_a_zero_gradient_stops_without_a_judgement():
    tx = fo.scale_by_rprop(1.0, etas=(0.5, 2.0))
    assert lengths(tx, 1.0, 0.0, -1.0, -1.0) == [1.0, 0.0, -1.0, -2.0]


def test_step_sizes_are_bounded_from_the_first_on():
    tx = fo.scale_by_rprop(8.0, etas=(0.1, 3.0), step_sizes=(1.0, 5.0))
    assert lengths(tx, 1.0, 1.0, -1.0, -1.0) == [5.0, 5.0, 0.0, -1.0]
    assert lengths(fo.scale_by_rprop(0.1, step_sizes=(1.0, 5.0)), 1.0) == [1.0]


def test_the_rate_of_the_first_step_counts_even_if_the_state_is_older():
    """So `torch.distributed.checkpoint` asks for a state: at a rate of zero."""
    from torch.distributed.checkpoint.state_dict import _init_optim_state

    p = torch.nn.Parameter(torch.zeros(2))
    opt = optim.Rprop([p], lr=0.1)
    _init_optim_state(opt)
    p.grad = torch.ones(2)
    opt.step()
    assert torch.equal(p.detach(), torch.full((2,), -0.1))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"etas": (0.5, 1.0)}, r"`etas\[1\]` must be greater than 1, got 1.0"),
        ({"etas": (0.0, 1.2)}, r"`etas\[0\]` must lie between 0 and 1, got 0.0"),
        ({"etas": 0.5}, r"`etas` must be a tuple of 2 numbers, got 0.5"),
        ({"step_sizes": (-1.0, 1.0)}, r"`step_sizes\[0\]` must not be negative, got -1.0"),
    ],
)
def test_numbers_out_of_range_are_refused(values, sentence):
    with pytest.raises(funcopt.errors.HyperparameterError, match="`scale_by_rprop`: " + sentence):
        fo.scale_by_rprop(**values)
