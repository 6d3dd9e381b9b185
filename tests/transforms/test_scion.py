"""`scale_by_lmo` and `scion`: steps to the lowest point of a ball, of the norm of each layer."""

import math

import pytest
import torch

import funcopt as fo
from funcopt import optim
from funcopt.errors import HyperparameterError, LeafError

from .stepping import feed
from .test_normuon import drawn


def rms(x, dim=None):
    return x.square().mean(dim).sqrt()


def applied(norm, g, eps=0.0):
    (u,), _ = feed(fo.scale_by_lmo(norm, eps), [g])
    return u


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (3, 4, 2)], ids=str)
def test_the_update_is_on_the_edge_of_its_ball(shape):
    g = drawn(*shape)
    n = math.prod(shape[1:])
    assert (applied("sign", g).abs() * n == 1).all()
    edges = {
        "column": rms(applied("column", g).flatten(1), 0),
        "embedding": rms(applied("embedding", g).flatten(1), 1),
        "row": n * rms(applied("row", g).flatten(1), 1),
        "rms": rms(applied("rms", g).flatten()),
    }
    for size in edges.values():
        torch.testing.assert_close(size, torch.ones_like(size), rtol=1e-12, atol=0)


@pytest.mark.parametrize("norm", ["sign", "rms", "column", "row", "embedding"])
def test_no_other_point_of_the_ball_is_lower(norm):
    """By the sign of the gradient: an update is subtracted."""
    g = drawn(5, 3)
    best = (g * applied(norm, g)).sum()
    others = [(g * applied(norm, drawn(5, 3, seed=k))).sum() for k in range(1, 30)]
    assert best > max(others)


def test_by_default_vectors_have_one_size_and_matrices_signs():
    assert torch.equal(applied("auto", drawn(4)), applied("rms", drawn(4)))
    assert torch.equal(applied("auto", drawn(4, 3)), applied("sign", drawn(4, 3)))
    scalar = torch.tensor(-3.0, dtype=torch.float64)
    assert applied("auto", scalar).item() == -1


def test_what_is_small_stays_so():
    """Below `eps`, so that noise is not enlarged."""
    g = 1e-12 * drawn(4, 3)
    assert rms(applied("embedding", g, 1e-8)) < 1e-3


def test_vectors_have_no_rows():
    with pytest.raises(LeafError) as error:
        fo.scale_by_lmo("row").init({"b": torch.zeros(3)})
    assert str(error.value) == (
        '`scale_by_lmo`: parameter `b` of shape (3,) must have rows and columns for "row": '
        '"rms" is for vectors.'
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"norm": "spectral"},
            "`norm` must be one of 'auto', 'sign', 'rms', 'column', 'row', 'embedding', got "
            "'spectral'.",
        ),
        ({"eps": -1.0}, "`eps` must not be negative, got -1.0."),
    ],
)
def test_fields_are_checked(fields, message):
    with pytest.raises(HyperparameterError) as error:
        fo.scale_by_lmo(**fields)
    assert str(error.value) == f"`scale_by_lmo`: {message}"


# Scion


def network():
    torch.manual_seed(0)
    return torch.nn.ModuleDict(
        {
            "embed": torch.nn.Embedding(11, 6),
            "up": torch.nn.Linear(6, 8),
            "norm": torch.nn.LayerNorm(8),
            "conv": torch.nn.Conv1d(8, 6, 3),
            "point": torch.nn.Conv1d(6, 6, 1),
            "head": torch.nn.Linear(6, 11, bias=False),
        }
    )


def roles(**options):
    opt = optim.Scion(network().named_parameters(), **options)
    return {name: group["name"] for group in opt.param_groups for name in group["param_names"]}


def test_parameters_are_routed_by_name_and_shape():
    vectors = {"up.bias", "norm.weight", "norm.bias", "conv.bias", "point.bias"}
    for dims, hidden in ((None, {"up.weight"}), ("flatten", CONVOLUTIONS | {"up.weight"})):
        found = roles(dims=dims)
        assert {name for name, role in found.items() if role == "vector"} == vectors
        assert {name for name, role in found.items() if role == "hidden"} == hidden
    assert {name for name, role in roles().items() if role == "other"} == {
        "embed.weight",
        "head.weight",
        *CONVOLUTIONS,
    }


CONVOLUTIONS = {"conv.weight", "point.weight"}


def test_vectors_may_have_a_label_of_their_own():
    role = fo.hidden_weights(None, "matrix", "rest", "vector")
    assert eval(repr(role), {"hidden_weights": fo.hidden_weights}) == role
    for shape in ((), (3,), (1, 3), (3, 1), (1, 3, 1)):
        assert role("layer.weight", torch.zeros(shape)) == "vector"
    assert role("layer.weight", torch.zeros(3, 3, 1)) == "rest"
    assert role("layer.weight", torch.zeros(3, 3)) == "matrix"
    assert fo.hidden_weights("flatten", "a", "b", "c")("w", torch.zeros(3, 1, 3)) == "a"
    assert fo.hidden_weights("flatten", "a", "b", "c")("w", torch.zeros(1, 3, 3)) == "c"
    with pytest.raises(HyperparameterError, match="`vectors` must be a label or None, got 3"):
        fo.hidden_weights(vectors=3)


def test_constrained_steps_stay_in_the_ball():
    """And end on its edge, where the gradient is always the same."""
    tx = fo.scion(0.1, radius=2.0, labels="hidden", ns_steps=40, ns_coefficients=(2.0, -1.5, 0.5))
    p, g = torch.zeros(6, 4, dtype=torch.float64), drawn(6, 4)
    state = tx.init(p)
    for _ in range(200):
        u, state = tx.update(g, state, p)
        p = p + u
        assert torch.linalg.matrix_norm(p, 2) <= 2.0 * (6 / 4) ** 0.5 * 1.02
    assert torch.linalg.matrix_norm(p, 2).item() == pytest.approx(2.0 * 1.5**0.5, rel=1e-2)


def test_unconstrained_ones_do_not():
    for constrained, count in ((True, 5), (False, 4)):
        tx = fo.scion(constrained=constrained)
        assert {len(part.stages) for part in tx.transforms.values()} == {count}


def test_radii_and_learning_rates_are_live():
    net = network()
    opt = optim.Scion(net.named_parameters(), lr=0.0, constrained=False, ns_dtype=None)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    for group in opt.param_groups:
        group["lr"] = 0.1
        group["factor"] = 2.0
    opt.step()
    moved = {name: before[name] - p.detach() for name, p in net.named_parameters()}
    torch.testing.assert_close(rms(moved["up.bias"]), torch.tensor(0.2))
    torch.testing.assert_close(moved["head.weight"], torch.full((11, 6), 0.2 / 6))


def test_an_argument_that_is_no_switch_is_refused():
    with pytest.raises(HyperparameterError, match="`scion`: `constrained` must be True or False"):
        fo.scion(constrained="yes")
