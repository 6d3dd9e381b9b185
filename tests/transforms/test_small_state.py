"""CAME, Adam-mini and SM3: what is stored instead of a second moment of every entry."""

import pytest
import torch

import funcopt as fo
from funcopt import optim

from .stepping import feed, numbers


def sizes(tx, shape):
    state = tx.init(torch.zeros(shape))
    return sorted(x.numel() for x in fo.tree.leaves(state.slots))


@pytest.mark.parametrize(
    ("tx", "expected"),
    [
        (fo.scale_by_came(), [40, 40, 60, 60, 2400]),
        (fo.scale_by_adam_mini(), [40, 2400]),
        (fo.scale_by_adam_mini(blocks=1), [1, 2400]),
        (fo.scale_by_adam_mini(blocks=8), [8, 2400]),
        (fo.scale_by_sm3(), [40, 60, 2400]),
        (fo.scale_by_rowwise_adagrad(), [40]),
        (fo.scale_by_novograd(), [1, 2400]),
    ],
    ids=str,
)
def test_so_many_numbers_are_stored(tx, expected):
    assert sizes(tx, (40, 60)) == expected


def test_sm3_is_a_bound_of_adagrad():
    """Each accumulator is at least the sum of the squares that it stands for."""
    torch.manual_seed(0)
    history = [torch.randn(3, 4, 2, dtype=torch.float64) for _ in range(10)]
    _, state = feed(fo.scale_by_sm3(), history)
    sums = sum(g * g for g in history)
    a, b, c = state.slots.accumulators
    assert (torch.minimum(torch.minimum(a, b), c) >= sums).all()
    assert a.shape == (3, 1, 1)


def test_sm3_of_a_vector_is_adagrad():
    history = [numbers(1.0, -2.0, 0.0), numbers(3.0, 0.5, 0.0)]
    ours, _ = feed(fo.scale_by_sm3(0.0), history)
    adagrad, _ = feed(fo.scale_by_adagrad(eps=1e-8, eps_in_sqrt=True), history)
    torch.testing.assert_close(ours[1][:2], adagrad[1][:2], rtol=1e-14, atol=0)
    assert ours[1][2] == 0


def test_came_of_a_matrix_of_rank_one_is_adafactor_with_momentum_over_its_residual():
    """The residual of a gradient that stays the same falls, so the steps grow."""
    g = numbers([1.0, 2.0], [2.0, 4.0])
    updates, _ = feed(fo.scale_by_came((0.9, 0.999, 0.9)), [g] * 40)
    sizes = [u.abs().mean().item() for u in updates]
    assert sizes[-1] > 2 * sizes[2]
    torch.testing.assert_close(updates[0] / updates[0][0, 0], torch.ones_like(g))


def test_with_a_block_for_each_entry_adam_mini_is_adam():
    history = [numbers(1.0, -2.0, 3.0), numbers(0.5, 2.0, 0.0)]
    ours, _ = feed(fo.scale_by_adam_mini(), history)
    adam, _ = feed(fo.scale_by_adam(), history)
    torch.testing.assert_close(ours, adam, rtol=1e-14, atol=0)


def test_a_block_of_adam_mini_has_the_mean_of_its_squares():
    g = numbers([3.0, 4.0], [0.0, 2.0])
    (u,), _ = feed(fo.scale_by_adam_mini(eps=0.0), [g])
    torch.testing.assert_close(u, g / numbers([12.5**0.5], [2.0**0.5]))
    (u,), _ = feed(fo.scale_by_adam_mini(eps=0.0, blocks=1), [g])
    torch.testing.assert_close(u, g / 7.25**0.5)


def test_blocks_of_adam_mini_are_chosen_by_name():
    label = fo.adam_mini_blocks(heads=True)
    p = torch.zeros(2, 2)
    found = {
        "model.layers.0.self_attn.q_proj.weight": "query",
        "model.layers.0.self_attn.k_proj.weight": "key",
        "model.layers.0.self_attn.k_proj.bias": "bias",
        "model.layers.0.input_layernorm.weight": "norm",
        "transformer.h.0.ln_1.weight": "norm",
        "transformer.wte.weight": "row",
        "model.layers.0.MLP.up_proj.weight": "row",
        "conv1.weight": "tensor",
    }
    assert {name: label(name, p) for name in found} == found
    assert fo.adam_mini_blocks()("q_proj.weight", p) == "row"
    with pytest.raises(fo.errors.LabelError, match="blocks are chosen by name"):
        label(None, p)


def test_heads_that_do_not_divide_a_query_are_an_error_that_names_it():
    named = [("q_proj.weight", torch.nn.Parameter(torch.zeros(3, 3)))]
    with pytest.raises(fo.errors.LeafError, match=r"`q_proj.weight` of shape \(3, 3\) must have"):
        optim.AdamMini(named, n_heads=2)
