"""`pcgrad`: gradients of several losses, without what they take from one another."""

import pytest
import torch

import funcopt as fo

from .stepping import numbers


def test_gradients_that_agree_are_added():
    a, b = {"w": numbers(1.0, 2.0)}, {"w": numbers(2.0, 0.0)}
    torch.testing.assert_close(fo.pcgrad([a, b]), {"w": numbers(3.0, 2.0)})
    torch.testing.assert_close(fo.pcgrad((a, b), mean=True), {"w": numbers(1.5, 1.0)})
    torch.testing.assert_close(fo.pcgrad([a]), a)


def test_of_two_that_conflict_each_loses_its_part_against_the_other():
    a, b = numbers(1.0, 0.0), numbers(-1.0, 1.0)
    expected = (a + 0.5 * b) + (b + a)
    torch.testing.assert_close(fo.pcgrad([a, b]), expected)


def test_the_sum_of_two_hurts_neither_loss():
    torch.manual_seed(0)
    for _ in range(50):
        a, b = torch.randn(2, 5, dtype=torch.float64)
        u = fo.pcgrad([a, b])
        assert (u * a).sum() >= -1e-12
        assert (u * b).sum() >= -1e-12


def transcribed(grads, orders):
    """Algorithm 1 of the paper, on vectors."""
    total = torch.zeros_like(grads[0])
    for g, order in zip(grads, orders, strict=True):
        mine = g
        for j in order:
            if (inner := mine @ grads[j]) < 0:
                mine = mine - inner / (grads[j] @ grads[j]) * grads[j]
        total = total + mine
    return total


def test_a_seed_orders_the_projections_at_random():
    torch.manual_seed(0)
    grads = list(torch.randn(3, 4, dtype=torch.float64))
    grads[2] = -grads[0] - grads[1] + 0.1 * grads[2]
    pairs = [([1, 2], [2, 1]), ([0, 2], [2, 0]), ([0, 1], [1, 0])]
    wanted = [transcribed(grads, (a, b, c)) for a in pairs[0] for b in pairs[1] for c in pairs[2]]
    seen = set()
    for seed in range(40):
        found = fo.pcgrad(grads, seed)
        (which,) = {i for i, w in enumerate(wanted) if torch.allclose(found, w, rtol=1e-12)} or {-1}
        seen.add(which)
        assert torch.equal(found, fo.pcgrad(grads, seed))
    assert -1 not in seen
    assert len(seen) > 4


def test_a_parameter_that_a_loss_does_not_have_is_none_there():
    a, b = {"s": numbers(1.0), "a": numbers(2.0)}, {"s": numbers(-1.0), "a": None}
    torch.testing.assert_close(fo.pcgrad([a, b]), {"s": numbers(-0.8), "a": numbers(2.4)})
    assert fo.pcgrad([{"a": None}, {"a": None}]) == {"a": None}


def test_a_gradient_of_zeros_is_no_obstacle():
    a, zero = numbers(1.0, 2.0), numbers(0.0, 0.0)
    torch.testing.assert_close(fo.pcgrad([a, zero]), a)


def test_it_keeps_dtypes_maps_and_compiles():
    a, b = torch.tensor([1.0, 0.0]).bfloat16(), torch.tensor([-1.0, 1.0]).bfloat16()
    assert fo.pcgrad([a, b]).dtype == torch.bfloat16
    many = torch.randn(6, 2, 3)
    mapped = torch.func.vmap(lambda x: fo.pcgrad([x[0], x[1]]))(many)
    torch.testing.assert_close(mapped, torch.stack([fo.pcgrad([*x]) for x in many]))
    compiled = torch.compile(lambda x, y: fo.pcgrad([x, y]), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(many[0, 0], many[0, 1]), fo.pcgrad([*many[0]]))


@pytest.mark.parametrize(
    ("grads", "error", "sentence"),
    [
        ({"a": 1}, fo.errors.ArgumentError, "must be a list of trees of gradients"),
        ([], fo.errors.ArgumentError, "got list without entries"),
        ([{"a": torch.ones(1)}, {"b": torch.ones(1)}], fo.errors.StructureError, "differ"),
    ],
)
def test_mistakes_get_a_sentence(grads, error, sentence):
    with pytest.raises(error, match=sentence):
        fo.pcgrad(grads)
