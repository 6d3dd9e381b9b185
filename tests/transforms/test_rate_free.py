"""Prodigy and D-Adaptation: one distance for all tensors, of which the rate is made."""

import math
import pickle

import pytest
import torch

import funcopt as fo
from funcopt import optim

from ..combinators.common import drive, named_parameters, purely, same_bits, values, wrapped

SHAPES = [(), (7,), (5, 3), (2, 3, 4)]
STEPS = 200


def beginning():
    torch.manual_seed(0)
    return [torch.randn(shape, dtype=torch.float64) for shape in SHAPES]


def gradient(p, t, i):
    """Of a bowl, whose bottom moves about."""
    entries = torch.arange(p.numel(), dtype=p.dtype).reshape(p.shape)
    return p - torch.cos(entries) + 0.3 * torch.sin(entries + 0.7 * t + i)


def prodigyopt(
    lr=1.0,
    betas=(0.9, 0.999),
    beta3=None,
    eps=1e-8,
    weight_decay=0.0,
    decouple=True,
    use_bias_correction=False,
    safeguard_warmup=False,
    d0=1e-6,
    d_coef=1.0,
    growth_rate=math.inf,
):
    """`step` of `prodigyopt.Prodigy` 1.1.2 for one group, line by line; yields the parameters."""
    (b1, b2), b3 = betas, math.sqrt(betas[1]) if beta3 is None else beta3
    params = beginning()
    p0 = [p.clone() for p in params]
    exp_avg, exp_avg_sq, sums = ([torch.zeros_like(p) for p in params] for _ in range(3))
    d = d_max = d0
    d_numerator = 0.0
    for t in range(STEPS):
        correction = (1 - b2 ** (t + 1)) ** 0.5 / (1 - b1 ** (t + 1)) if use_bias_correction else 1
        dlr = d * lr * correction
        d_numerator *= b3
        d_denom = 0.0
        for i, p in enumerate(params):
            g = gradient(p, t, i)
            if weight_decay and not decouple:
                g = g + weight_decay * p
            d_numerator += (d / d0) * dlr * torch.dot(g.flatten(), (p0[i] - p).flatten()).item()
            exp_avg[i].mul_(b1).add_(g, alpha=d * (1 - b1))
            exp_avg_sq[i].mul_(b2).addcmul_(g, g, value=d * d * (1 - b2))
            sums[i].mul_(b3).add_(g, alpha=(d / d0) * (d if safeguard_warmup else dlr))
            d_denom += sums[i].abs().sum().item()
        d_hat = d_coef * d_numerator / d_denom
        if d == d0:
            d = max(d, d_hat)
        d_max = max(d_max, d_hat)
        d = min(d_max, d * growth_rate)
        for i, p in enumerate(params):
            if weight_decay and decouple:
                p.add_(p, alpha=-weight_decay * dlr)
            p.addcdiv_(exp_avg[i], exp_avg_sq[i].sqrt().add_(d * eps), value=-dlr)
        yield [p.clone() for p in params], d


def dadaptation(
    lr=1.0,
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=0.0,
    decouple=True,
    use_bias_correction=False,
    d0=1e-6,
    growth_rate=math.inf,
    layer_scale=1.0,
):
    """`step` of `dadaptation.DAdaptAdam` 3.2 for one group, line by line."""
    b1, b2 = betas
    root, r = b2**0.5, layer_scale
    params = beginning()
    exp_avg, exp_avg_sq, sums = ([torch.zeros_like(p) for p in params] for _ in range(3))
    d, weighted = d0, 0.0
    for t in range(STEPS):
        correction = (1 - b2 ** (t + 1)) ** 0.5 / (1 - b1 ** (t + 1)) if use_bias_correction else 1
        dlr = d * lr * correction
        acum = sk_l1 = 0.0
        for i, p in enumerate(params):
            g = gradient(p, t, i)
            if weight_decay and not decouple:
                g = g + weight_decay * p
            denom = exp_avg_sq[i].sqrt().add_(eps)
            acum += r * dlr * torch.dot(g.flatten(), sums[i].div(denom).flatten()).item()
            exp_avg[i].mul_(b1).add_(g, alpha=r * dlr * (1 - b1))
            exp_avg_sq[i].mul_(b2).addcmul_(g, g, value=1 - b2)
            sums[i].mul_(root).add_(g, alpha=dlr * (1 - root))
            sk_l1 += r * sums[i].abs().sum().item()
        weighted = root * weighted + (1 - root) * acum
        d = max(d, min(weighted / ((1 - root) * sk_l1), d * growth_rate))
        for i, p in enumerate(params):
            if weight_decay and decouple:
                p.add_(p, alpha=-weight_decay * dlr)
            p.addcdiv_(exp_avg[i], exp_avg_sq[i].sqrt().add_(eps), value=-1)
        yield [p.clone() for p in params], d


# While d is 1e-6, p0 - p keeps 10 of 16 digits; where the decay is rounded otherwise, d0 is larger.
OPTIONS = [
    ("Prodigy", {}),
    ("Prodigy", {"lr": 0.5, "safeguard_warmup": True}),
    ("Prodigy", {"use_bias_correction": True}),
    ("Prodigy", {"weight_decay": 0.1, "d0": 0.01}),
    ("Prodigy", {"weight_decay": 0.1, "decouple": False}),
    ("Prodigy", {"growth_rate": 1.02, "d0": 1e-3}),
    ("Prodigy", {"d_coef": 2.0, "beta3": 0.9, "betas": (0.8, 0.99), "eps": 1e-3, "d0": 1e-3}),
    ("DAdaptAdamW", {}),
    ("DAdaptAdamW", {"lr": 0.5, "use_bias_correction": True}),
    ("DAdaptAdamW", {"weight_decay": 0.1, "d0": 0.01}),
    ("DAdaptAdamW", {"weight_decay": 0.1, "decouple": False}),
    ("DAdaptAdamW", {"growth_rate": 1.02, "d0": 1e-3}),
    ("DAdaptAdamW", {"layer_scale": 0.5, "eps": 1e-3, "lr": 0.3, "weight_decay": 0.1, "d0": 0.01}),
]
ALIASES = {"Prodigy": fo.prodigy, "DAdaptAdamW": fo.dadapt_adamw}
OFFICIAL = {"Prodigy": prodigyopt, "DAdaptAdamW": dadaptation}

both = pytest.mark.parametrize("name", ALIASES)


def gap(ours, theirs):
    return max((a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
def test_the_steps_are_those_of_the_official_code(name, options, in_float64):
    tx, cls = ALIASES[name](**options), getattr(optim, name)
    params, wrapped = beginning(), [torch.nn.Parameter(p) for p in beginning()]
    state, opt = tx.init(params), cls(wrapped, **options)
    for t, (expected, d) in enumerate(OFFICIAL[name](**options)):
        updates, state = tx.update([gradient(p, t, i) for i, p in enumerate(params)], state, params)
        params = fo.apply_updates(params, updates)
        for i, p in enumerate(wrapped):
            p.grad = gradient(p.detach(), t, i)
        opt.step()
        assert gap(params, expected) <= 1e-12
        assert gap([p.detach() for p in wrapped], expected) <= 1e-12
        assert opt.metrics()["d"].item() == pytest.approx(d, rel=1e-12)
    assert d > 2 * options.get("d0", 1e-6)  # the estimate has been at work


@both
def test_zero_gradients_at_the_beginning_change_nothing(name):
    tx = ALIASES[name]()
    params = {"w": torch.ones(3), "b": torch.zeros(())}
    state = tx.init(params)
    for _ in range(3):
        updates, state = tx.update(fo.tree.zeros_like(params), state, params)
        assert all((u == 0).all() for u in updates.values())
    updates, state = tx.update(fo.tree.map(torch.ones_like, params), state, params)
    assert all(u.isfinite().all() for u in fo.tree.leaves((updates, state)))
    assert (updates["w"] < 0).all()


@both
def test_derivatives_at_zero_gradients_are_finite_with_the_defaults_too(name):
    fo.testing.has_finite_derivatives_at_zero(ALIASES[name](), {"w": torch.ones(2, 2)})


@both
def test_it_finds_a_rate_for_a_bowl_of_any_size(name):
    for size in (1e-2, 1e2):
        x = torch.nn.Parameter(torch.zeros(5, dtype=torch.float64))
        bottom = size * torch.linspace(0.5, 1.0, 5, dtype=torch.float64)
        opt = getattr(optim, name)([x], lr=fo.linear_schedule(1.0, 0.0, 600))
        for _ in range(600):
            opt.zero_grad()
            (x - bottom).abs().sum().backward()
            opt.step()
        assert 0.05 * size < float(opt.metrics()["d"]) < 2 * size
        assert (x - bottom).abs().max() < 0.02 * size


@both
def test_one_distance_for_all_groups(name):
    ps = [torch.nn.Parameter(p) for p in beginning()]
    groups = [{"params": ps[:2], "weight_decay": 0.1}, {"params": ps[2:], "eps": 1e-6}]
    opt, whole = getattr(optim, name)(groups, d0=0.01), None
    for t in range(20):
        for i, p in enumerate(ps):
            p.grad = gradient(p.detach(), t, i)
        opt.step()
        whole = opt.metrics()["d"]
        assert isinstance(whole, torch.Tensor)
    assert {opt.state[p]["d"].item() for p in ps} == {whole.item()}
    assert whole > 0.01


@both
def test_cut_into_groups_it_steps_as_one(name, in_float64):
    def run(cut):
        ps = [torch.nn.Parameter(p) for p in beginning()]
        opt = getattr(optim, name)([{"params": [p]} for p in ps] if cut else ps)
        for t in range(50):
            for i, p in enumerate(ps):
                p.grad = gradient(p.detach(), t, i)
            opt.step()
        return [p.detach() for p in ps]

    assert gap(run(True), run(False)) == 0.0


@both
def test_a_group_without_a_rate_stands_still_and_adds_nothing(name):
    def run(*others):
        x = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
        opt = getattr(optim, name)([{"params": [x]}, *others], weight_decay=0.1)
        for t in range(30):
            x.grad = gradient(x.detach(), t, 0)
            opt.step()
        return x.detach()

    still = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    still.grad = torch.ones_like(still)
    assert torch.equal(run(), run({"params": [still], "lr": 0.0}))
    assert torch.equal(still, torch.ones_like(still))


@both
def test_a_late_joiner_takes_the_distance_of_the_others(name):
    early, late = (torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2))
    opt = getattr(optim, name)([early, late])
    for t in range(40):
        early.grad = gradient(early.detach(), t, 0)
        late.grad = gradient(late.detach(), t, 0) if t == 39 else None
        before = opt.state[early].get("d", torch.zeros(())).item()
        opt.step()
    assert opt.state[late]["d"] == opt.state[early]["d"]
    assert opt.state[late]["step"] == 1
    moved = (1 - late.detach()).abs().max().item()
    assert 1e-3 * before < moved < 10 * before  # of the order of d, not of d0


@both
def test_what_d_depends_on_has_to_be_one_for_all_groups(name):
    ps = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    opt = getattr(optim, name)([{"params": [ps[0]]}, {"params": [ps[1]], "growth_rate": 1.1}])
    for p in ps:
        p.grad = torch.ones(2)
    with pytest.raises(
        fo.errors.HyperparameterError,
        match="shares scalars over all parameters, so `growth_rate` must be the same in all",
    ):
        opt.step()
    assert all(torch.equal(p, torch.ones(2)) for p in ps)


@both
def test_a_run_that_is_saved_and_loaded_goes_on_to_the_bit(name):
    def resumed(stop):
        mine = named_parameters()
        opt = getattr(optim, name)(list(mine.items()))
        drive(opt, mine, stop)
        saved = pickle.loads(pickle.dumps(opt.state_dict()))
        again = named_parameters(values(mine))
        other = getattr(optim, name)(list(again.items()))
        other.load_state_dict(saved)
        drive(other, again, 20 - stop, first=stop)
        return values(again)

    assert same_bits(resumed(8), resumed(20))


@pytest.mark.parametrize(
    "around",
    [
        lambda tx: fo.masked(tx, r""),
        lambda tx: fo.partition({"all": tx, "none": fo.freeze()}, [(r"", "all")]),
        lambda tx: fo.accumulate(tx, 1),
        lambda tx: fo.skip_if(tx),
        lambda tx: fo.chain(fo.clip_by_global_norm(1e6), tx),
    ],
)
@both
def test_combinators_around_it_change_nothing(name, around):
    tx = ALIASES[name](d0=1e-2)
    alone, _ = purely(tx, 12)
    inside, _ = purely(around(tx), 12)
    assert same_bits(alone, inside)
    mine, _ = wrapped(around(tx), 12)
    assert all(torch.equal(mine[k].detach(), alone[k]) for k in alone)


def test_a_skipped_step_leaves_the_distance_as_it_was():
    tx = fo.skip_if(fo.prodigy(d0=1e-2))
    params, state = purely(tx, 5)
    bad = fo.tree.map(lambda p: p * math.nan, params)
    _, after = tx.update(bad, state, params)
    assert same_bits(after.memory.inner, state.memory.inner)
    assert same_bits(
        [x.inner for x in after.slots.values()], [x.inner for x in state.slots.values()]
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"d0": 0.0}, "`d0` must be positive, got 0.0"),
        (
            {"d0": fo.linear_schedule(1.0, 2.0, 3)},
            "`d0` is used once, by `init`: it must be a number",
        ),
        ({"growth_rate": 0.5}, "`growth_rate` must be at least 1, got 0.5"),
        ({"eps": 0.0}, "`eps` must be positive, got 0.0"),
        ({"lr": -1.0}, "`lr` must not be negative, got -1.0"),
    ],
)
@both
def test_mistakes_get_a_sentence(name, options, sentence):
    with pytest.raises(fo.errors.HyperparameterError, match=sentence):
        ALIASES[name](**options)
