"""`orthogonalize`: coefficients by name, normalizations, ratios and blocks, without a momentum."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import funcopt as fo
from funcopt import optim
from funcopt._numerics import newton_schulz as iterations
from funcopt.combinators import walk
from funcopt.errors import HyperparameterError, LeafError

from ..frameworks import needed
from .stepping import feed

HALLEY = (2.0, -1.5, 0.5)
EXACT = {"ns_coefficients": HALLEY, "ns_steps": 60, "ns_dtype": None, "adjust_lr_fn": "unscaled"}


def drawn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def ill_conditioned(size=128):
    """Singular values from 1 to 1e-3, evenly by their logarithm."""
    left, right = (torch.linalg.qr(drawn(2, size, size)[i]).Q for i in (0, 1))
    return left @ torch.diag(torch.logspace(0, -3, size, dtype=torch.float64)) @ right


def applied(g, *args, **options):
    (u,), _ = feed(fo.orthogonalize(*args, **{"ns_dtype": None, **options}), [g])
    return u


def test_muon_is_this_behind_a_momentum():
    history = list(drawn(4, 5, 3))
    muon, _ = feed(fo.scale_by_muon(0.9, nesterov=False), history)
    chained, _ = feed(fo.chain(fo.ema(0.9, debias=False), fo.orthogonalize()), history)
    assert all(map(torch.equal, muon, chained))


def test_it_keeps_nothing():
    tx = fo.orthogonalize()
    assert tx.init({"w": torch.zeros(2, 3)}).slots == {"w": ()}


# Coefficients


@pytest.mark.parametrize(
    ("name", "steps", "low", "high"),
    [
        ("jordan", 5, 0.16, 1.20),
        ("quintic", 5, 0.16, 1.15),
        ("polar_express", 5, 0.31, 1.14),
        ("cans", 5, 0.33, 1.12),
        ("deepseek_v4", 10, 1.000, 1.001),
    ],
)
def test_singular_values_are_those_that_are_known_for_a_set(name, steps, low, high):
    """Of a matrix whose condition is 1e3; measured with other code, to two digits."""
    values = torch.linalg.svdvals(
        applied(ill_conditioned(), name, ns_steps=steps, adjust_lr_fn="unscaled")
    )
    assert values.min().item() == pytest.approx(low, abs=0.006)
    assert values.max().item() == pytest.approx(high, abs=0.006)


@pytest.mark.parametrize("name", iterations.COEFFICIENTS)
def test_every_set_pushes_singular_values_towards_one(name):
    options = {
        "cubic5": {},
        "polar_express_8": {"ns_steps": 8},
        "aol": {"normalization": "aol", "ns_steps": 4},
        "polar_express": {"normalization": "add", "safety_factor": 1.02, "eps": 1e-6},
    }.get(name, {})
    g = ill_conditioned()
    before, after = (
        torch.linalg.svdvals(x)
        for x in (g / g.norm(), applied(g, name, adjust_lr_fn="unscaled", **options))
    )
    assert after.min() > 90 * before.min()
    assert 0.9 < after.max() < 1.31


def test_eight_steps_of_polar_express_are_exact():
    g = ill_conditioned()
    u = applied(g, "polar_express_8", ns_steps=12, adjust_lr_fn="unscaled")
    torch.testing.assert_close(u @ u.mT, torch.eye(128, dtype=u.dtype), rtol=0, atol=1e-9)


def test_the_set_of_eight_is_that_of_the_paper_with_its_safety():
    """As Emerging-Optimizers has it, in four digits, cut off."""
    printed = [
        (8.2051, -22.9019, 16.4607),
        (4.0664, -2.8612, 0.5184),
        (3.9096, -2.8234, 0.5250),
        (3.2856, -2.4153, 0.4853),
        (2.2779, -1.6198, 0.3985),
        (1.8726, -1.2307, 0.3585),
        (1.8564, -1.2132, 0.3568),
        (1.8750, -1.2500, 0.3750),
    ]
    for ours, theirs in zip(iterations.COEFFICIENTS["polar_express_8"], printed, strict=True):
        assert ours == pytest.approx(theirs, rel=0, abs=1e-4)


def test_the_set_of_five_has_no_safety_in_its_last():
    needed("pytorch_optimizer")
    from pytorch_optimizer.optimizer.utils.matrix import NS_COEFFICIENTS

    *first, last = NS_COEFFICIENTS["polar_express_safer"][:5]
    expected = [*first, tuple(x * 1.02**k for x, k in zip(last, (1, 3, 5), strict=True))]
    ours = iterations.COEFFICIENTS["polar_express"]
    for theirs, mine in zip(expected, ours, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-12)


def test_the_last_triple_is_repeated_and_only_the_first_are_taken():
    one, two, three = (3.0, -3.0, 1.0), HALLEY, (1.875, -1.25, 0.375)
    g = drawn(5, 3)
    expected = applied(g, (one, two, two, two), ns_steps=4)
    assert torch.equal(applied(g, (one, two), ns_steps=4), expected)
    assert torch.equal(
        applied(g, (one, two, three), ns_steps=2), applied(g, (one, two), ns_steps=2)
    )
    assert not torch.equal(applied(g, (two, one), ns_steps=2), applied(g, (one, two), ns_steps=2))


def test_a_name_is_its_triples():
    g = drawn(5, 3)
    assert torch.equal(applied(g, "cans"), applied(g, iterations.COEFFICIENTS["cans"]))
    assert torch.equal(applied(g, "jordan"), applied(g))


def test_a_triple_whose_last_is_zero_costs_one_product_less():
    count = {}
    for name in ("cubic5", "quintic"):
        with torch.profiler.profile() as profile:
            applied(drawn(4, 3), name)
        count[name] = sum(e.count for e in profile.key_averages() if e.key in PRODUCTS)
    assert count["quintic"] - count["cubic5"] == 5


PRODUCTS = ("aten::mm", "aten::addmm")


def test_coefficients_are_hyperparameters_also_in_groups():
    tx = fo.orthogonalize("cans")
    assert fo.hyperparams(tx)["ns_coefficients"] == "cans"
    assert fo.with_hyperparams(tx, ns_coefficients=HALLEY).ns_coefficients == HALLEY
    p = torch.nn.Parameter(drawn(4, 3))
    opt = optim.Muon([("w", p)], 0.1, ns_coefficients="quintic", labels="muon")
    other = torch.nn.Parameter(p.detach().clone())
    again = optim.Muon([("w", other)], 0.1, labels="muon")
    (group,) = again.param_groups
    group["ns_coefficients"] = "quintic"
    for o in (opt, again):
        for q in (p, other):
            q.grad = drawn(4, 3)
        o.step()
    assert torch.equal(p, other)


def test_derivatives_by_the_triples_of_a_tuple_are_those_of_differences():
    g = drawn(3, 4)
    triples = torch.tensor([[3.0, -3.0, 1.0], [2.0, -1.5, 0.5]], dtype=torch.float64)

    def update(triples):
        return applied(g, tuple(tuple(t.unbind()) for t in triples.unbind()), ns_steps=2)

    assert torch.autograd.gradcheck(update, triples.requires_grad_())


# Normalizations


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (2, 4, 3)], ids=str)
@pytest.mark.parametrize("safety", [1.0, 1.02])
def test_normalizations_are_their_formulas(shape, safety):
    g, eps = 1e-3 * drawn(*shape), 1e-4
    options = {"dims": "batch", "ns_steps": 0, "eps": eps, "safety_factor": safety}
    norm = torch.linalg.matrix_norm(g, keepdim=True)
    wide = g.mT if shape[-2] > shape[-1] else g
    gram = wide @ wide.mT
    rows = wide / (safety * gram.abs().sum(-1, keepdim=True).sqrt()).clamp(min=eps)
    expected = {
        "clamp": g / (safety * norm).clamp(min=eps),
        "add": g / (safety * norm + eps),
        "schatten4": g
        / (safety * torch.linalg.svdvals(g).pow(4).sum(-1).pow(0.25))[..., None, None],
        "aol": rows.mT if shape[-2] > shape[-1] else rows,
    }
    for name, value in expected.items():
        u = applied(g, normalization=name, adjust_lr_fn="unscaled", **options)
        torch.testing.assert_close(u, value, rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", ["aol", "schatten4"])
def test_the_product_of_a_normalization_serves_the_first_iteration(name):
    g = drawn(5, 3)
    start = applied(g, ns_steps=0, normalization=name, adjust_lr_fn="unscaled")
    x = start.mT
    for a, b, c in ((3.0, -3.0, 1.0), HALLEY):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    u = applied(g, ((3.0, -3.0, 1.0), HALLEY), ns_steps=2, normalization=name)
    torch.testing.assert_close(u, (5 / 3) ** 0.5 * x.mT, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["clamp", "add", "aol", "schatten4"])
def test_after_a_normalization_no_singular_value_is_above_one(name):
    for scale in (1e-3, 1.0, 1e6):
        u = applied(scale * drawn(6, 9), normalization=name, ns_steps=0, adjust_lr_fn="unscaled")
        assert torch.linalg.svdvals(u).max() <= 1 + 1e-12


def test_a_matrix_of_zeros_stays_one():
    for name in ("clamp", "add", "aol", "schatten4"):
        assert torch.equal(applied(torch.zeros(3, 2), normalization=name), torch.zeros(3, 2))


@pytest.mark.parametrize("shape", [(4, 9), (2, 9, 4)], ids=str)
def test_two_iterations_may_be_made_at_once(shape):
    """What that is, is in `numerics/test_newton_schulz.py`; here, that it is asked for."""
    g, counts = drawn(*shape), []
    for method in ("standard", "gram"):
        with FlopCounterMode(display=False) as counted:
            u = applied(g, dims="batch", ns_method=method)
        counts.append(counted.get_total_flops())
        torch.testing.assert_close(u, applied(g, dims="batch"), rtol=0, atol=1e-12)
    assert counts[1] < counts[0]
    for make in (fo.muon, fo.normuon, fo.adamuon, fo.scion, fo.namo):
        made = [x for _, x in walk(make(ns_method="gram")) if hasattr(x, "ns_method")]
        assert {x.ns_method for x in made} == {"gram"}


# Ratios and blocks


@pytest.mark.parametrize(
    ("name", "ratio"),
    [
        (None, (6 / 4) ** 0.5),
        ("original", (6 / 4) ** 0.5),
        ("match_rms_adamw", 0.2 * 6**0.5),
        ("rms_to_rms", (6 / 4) ** 0.5),
        ("spectral", 6**0.5),
        ("unscaled", 1.0),
    ],
)
def test_the_ratio_is_that_of_the_name(name, ratio):
    u = applied(drawn(6, 4), **{**EXACT, "adjust_lr_fn": name})
    torch.testing.assert_close(u.mT @ u, ratio**2 * torch.eye(4, dtype=u.dtype))


def test_only_rms_to_rms_makes_wide_matrices_small():
    for name, ratio in (("original", 1.0), ("rms_to_rms", 4 / 6)):
        u = applied(drawn(4, 6), **{**EXACT, "adjust_lr_fn": name})
        torch.testing.assert_close(u @ u.mT, ratio * torch.eye(4, dtype=u.dtype))


@pytest.mark.parametrize("sizes", [4, (4, 4, 4), (6, 2, 4)], ids=str)
@pytest.mark.parametrize("ratio", ["match_rms_adamw", "original"])
def test_blocks_are_matrices_of_their_own(sizes, ratio):
    g = drawn(12, 3)
    u = applied(g, adjust_lr_fn=ratio, block_sizes=sizes)
    each = [applied(block, adjust_lr_fn=ratio) for block in g.split(sizes)]
    torch.testing.assert_close(u, torch.cat(each), rtol=1e-12, atol=1e-12)
    many = applied(torch.stack([g, g.cos()]), adjust_lr_fn=ratio, block_sizes=sizes, dims="batch")
    torch.testing.assert_close(many[0], u, rtol=1e-12, atol=1e-12)
    conv = applied(
        torch.stack([g, g.cos()], -1), adjust_lr_fn=ratio, block_sizes=sizes, dims="flatten"
    )
    flat = applied(torch.stack([g, g.cos()], -1).flatten(1), adjust_lr_fn=ratio, block_sizes=sizes)
    assert torch.equal(conv.flatten(1), flat)


def test_rows_that_are_not_those_of_the_blocks_are_refused_by_name():
    for sizes, said in ((4, "a multiple of 4"), ((4, 3), "7, their sum,")):
        with pytest.raises(LeafError) as error:
            fo.orthogonalize(block_sizes=sizes).init({"qkv": torch.zeros(6, 2)})
        assert str(error.value) == (
            f"`orthogonalize`: parameter `qkv` of shape (6, 2) must have {said} rows, since "
            f"`block_sizes` is {sizes}, got 6. `partition` gives such matrices a transformation "
            "of their own."
        )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"ns_coefficients": "jordon"},
            "`ns_coefficients` must be one of 'jordan', 'quintic', 'polar_express', "
            "'polar_express_8', 'cans', 'aol', 'deepseek_v4', 'cubic5', got 'jordon'.",
        ),
        (
            {"ns_coefficients": (HALLEY, (1.0, 2.0))},
            "`ns_coefficients[1]` must be a tuple of 3 numbers, got (1.0, 2.0).",
        ),
        ({"ns_coefficients": ()}, "`ns_coefficients` must be a tuple of 3 numbers, got ()."),
        (
            {"normalization": "fro"},
            "`normalization` must be one of 'clamp', 'add', 'aol', 'schatten4', got 'fro'.",
        ),
        ({"safety_factor": 0.0}, "`safety_factor` must be positive, got 0.0."),
        ({"block_sizes": 0}, "`block_sizes` must be a whole number, at least 1, got 0."),
        ({"block_sizes": (3, 0)}, "`block_sizes[1]` must be a whole number, at least 1, got 0."),
        ({"ns_method": "grams"}, "`ns_method` must be one of 'standard', 'gram', got 'grams'."),
    ],
)
def test_fields_are_checked(fields, message):
    for make in (fo.orthogonalize, fo.scale_by_muon):
        with pytest.raises(HyperparameterError) as error:
            make(**fields)
        assert str(error.value) == f"`{make.__name__}`: {message}"


# Parity


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (40, 24), (2, 6, 4)], ids=str)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("jordan", "original"),
        ("quintic", "quintic"),
        ("polar_express", list(iterations.COEFFICIENTS["polar_express"])),
        (((3.0, -3.0, 1.0), HALLEY), [(3.0, -3.0, 1.0), HALLEY]),
    ],
    ids=str,
)
def test_the_iterations_are_those_of_pytorch_optimizer(shape, ours, theirs):
    needed("pytorch_optimizer")
    from pytorch_optimizer.optimizer.utils.matrix import zero_power_via_newton_schulz_5

    for steps, safety in ((5, 1.0), (3, 1.02), (8, 1.0)):
        expected = zero_power_via_newton_schulz_5(
            drawn(*shape), steps, 1e-7, safety, theirs, torch.float64
        )
        u = applied(
            drawn(*shape),
            ours,
            ns_steps=steps,
            safety_factor=safety,
            adjust_lr_fn="unscaled",
            dims="batch",
        )
        torch.testing.assert_close(u, expected, rtol=0, atol=1e-12)
