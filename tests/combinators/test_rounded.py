"""Parameters in 16 bits that learn."""

import copy

import pytest
import torch

import funcopt as fo
from funcopt import optim
from funcopt._numerics import narrow
from funcopt.errors import HyperparameterError, LeafError

from ..frameworks import needed

HOW = ["nearest", "stochastic", "kahan", "remainder8", "remainder", "master"]
ENGINES = ["eager", "fused"]
STEP = 1e-4


def many_small_steps(how, engine, steps=1000):
    """A parameter of 1, and a thousand steps of less than half of its spacing."""
    w = torch.nn.Parameter(torch.ones(1000, dtype=torch.bfloat16))
    opt = fo.Optimizer([("w", w)], fo.scale(-1.0), rounding=how, engine=engine)
    for _ in range(steps):
        w.grad = torch.full_like(w, STEP)
        opt.step()
    return w.detach().float()


def in_float32(steps=1000):
    w, step = torch.ones(()), torch.tensor(STEP, dtype=torch.bfloat16).float()
    for _ in range(steps):
        w = w - step
    return w


@pytest.mark.parametrize("engine", ENGINES)
def test_many_small_steps_go_as_far_as_in_float32(engine):
    expected, spacing = in_float32(), 2.0**-8
    found = {how: many_small_steps(how, engine) for how in HOW}
    assert bool(found["nearest"].eq(1).all())
    assert (found["kahan"] - expected).abs().max() <= spacing
    assert (found["remainder8"] - expected).abs().max() <= 2 * spacing
    assert bool(found["remainder"].eq(narrow.truncated(expected)).all())
    assert bool(found["master"].eq(expected.bfloat16().float()).all())
    chance = found["stochastic"]
    assert (chance.mean() - expected).abs() < 4 * chance.std() / 1000**0.5
    assert chance.std() > 0


def trained(how, engine, dtype=torch.bfloat16, steps=20, tx=None):
    """A model in `dtype`, by gradients that depend on it; what it is, in float32."""
    torch.manual_seed(0)
    start = torch.randn(40, 30).bfloat16()
    w = torch.nn.Parameter(start.to(dtype))
    tx = tx or fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(0.03, weight_decay=0.1))
    opt = fo.Optimizer([("w", w)], tx if how is None else fo.rounded(tx, how), engine=engine)
    for k in range(steps):
        w.grad = torch.randn(w.shape, generator=torch.manual_seed(k)).bfloat16().to(dtype)
        opt.step()
    return w.detach(), opt


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("how", ["remainder", "master"])
def test_it_is_training_in_float32_to_the_bit(how, engine):
    tx = fo.chain(fo.scale_by_lion(state_dtype=torch.float32), fo.add_decayed_weights(0.1),
                  fo.scale(-0.03))  # fmt: skip
    expected, _ = trained(None, engine, torch.float32, tx=tx)
    found, opt = trained(how, engine, tx=tx)
    stored = opt.state[opt.param_groups[0]["params"][0]]
    if how == "master":
        assert torch.equal(stored["master_param"], expected)
    else:
        wide = narrow.with_low_half(found.float(), stored["remainder"])
        assert torch.equal(wide, expected)


@pytest.mark.parametrize(
    "store", [narrow.truncated, lambda x: narrow.rounded_to(x, torch.bfloat16)]
)
def test_the_sum_with_an_update_is_what_was_rounded_also_where_it_cancels(store):
    """Both are multiples of the same unit, so that their difference has 24 bits."""
    torch.manual_seed(0)
    for spread in (1.0, 1e-2, 1e-4, 1e-6):
        p = torch.randn(100_000).bfloat16().float()
        x = p - p * (1 + spread * torch.randn(100_000))
        q = store(x)
        assert torch.equal(p + (q - p), q)


@pytest.mark.parametrize("how", HOW)
def test_the_pure_form_takes_the_same_steps(how):
    tx = fo.rounded(fo.adamw(0.03), how)
    torch.manual_seed(0)
    params = {"w": torch.randn(40, 30).bfloat16(), "b": torch.randn(7)}
    state = tx.init(params)
    mine = {k: torch.nn.Parameter(p.clone()) for k, p in params.items()}
    opt = fo.Optimizer(mine.items(), tx, engine="eager")
    with fo.pure_engine("eager"):
        for k in range(10):
            torch.manual_seed(k)
            grads = {k: torch.randn_like(p) for k, p in params.items()}
            updates, state = tx.update(grads, state, params)
            assert updates["w"].dtype == torch.float32
            params = fo.apply_updates(params, updates)
            for key, p in mine.items():
                p.grad = grads[key]
            opt.step()
    for key, p in mine.items():
        assert torch.equal(p, params[key])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("how", HOW)
def test_it_resumes_to_the_bit(how, engine):
    found, _ = trained(how, engine, steps=8)
    half, opt = trained(how, engine, steps=4)
    saved = copy.deepcopy(opt.state_dict())
    w = torch.nn.Parameter(half.clone())
    again = fo.Optimizer([("w", w)], opt.tx, engine=engine)
    again.load_state_dict(saved)
    for k in range(4, 8):
        w.grad = torch.randn(w.shape, generator=torch.manual_seed(k)).bfloat16()
        again.step()
    assert torch.equal(w, found)


EXTREMES = [float("nan"), float("inf"), -float("inf"), torch.finfo(torch.bfloat16).max, 0.0, -0.0]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("how", HOW)
def test_extremes_stay_what_they_are(how, engine):
    w = torch.nn.Parameter(torch.tensor(EXTREMES * 40, dtype=torch.bfloat16))
    before = w.detach().clone()
    opt = fo.Optimizer([("w", w)], fo.scale(-1.0), rounding=how, engine=engine)
    for _ in range(3):
        w.grad = torch.zeros_like(w)
        opt.step()
    assert torch.equal(w.nan_to_num(7), before.nan_to_num(7))


def test_a_parameter_that_was_changed_in_between_counts():
    _, opt = trained("master", "fused", steps=2)
    (w,) = opt.param_groups[0]["params"]
    with torch.no_grad():
        w.zero_()
    w.grad = torch.zeros_like(w)
    for group in opt.param_groups:
        group["lr"] = 0.0
    opt.step()
    assert bool(w.eq(0).all())


def test_wide_parameters_are_stepped_as_ever():
    w, _ = trained("stochastic", "fused", torch.float32)
    v, _ = trained(None, "fused", torch.float32)
    assert torch.equal(w, v)


def test_random_bits_differ_between_steps_names_and_seeds():
    def step(name="w", seed=0, steps=1):
        w = torch.nn.Parameter(torch.ones(4096, dtype=torch.bfloat16))
        opt = fo.Optimizer([(name, w)], fo.rounded(fo.scale(-1.0), "stochastic", seed))
        for _ in range(steps):
            w.data.fill_(1.0)
            w.grad = torch.full_like(w, 1e-3)
            opt.step()
        return w.detach()

    first = step()
    assert torch.equal(first, step())
    for other in (step("v"), step(seed=1), step(steps=2)):
        assert 0.2 < (first != other).float().mean() < 0.8


def test_names_are_looked_up_once_for_all_steps(monkeypatch):
    """Random bits depend on them: by every tensor, and by each of its scalars."""
    from funcopt.optim import _step_plan

    calls, keys_of = [], _step_plan.keys_of

    def counted(*args):
        calls.append(args)
        return keys_of(*args)

    monkeypatch.setattr(_step_plan, "keys_of", counted)
    params = [torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16)) for _ in range(8)]
    opt = optim.AdamW(params, rounding="stochastic", engine="fused")
    for _ in range(4):
        for p in params:
            p.grad = torch.ones_like(p)
        opt.step()
        assert opt.engine == "fused"
    assert 1 <= len(calls) <= 2  # the state is there from the second step on


def test_kahan_is_as_near_as_that_of_optimi():
    theirs_of = needed("optimi").AdamW
    torch.manual_seed(0)
    start = torch.randn(1000).bfloat16()
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    exact = torch.nn.Parameter(start.double())
    options = {"lr": 1e-3, "betas": (0.9, 0.99), "eps": 1e-6, "weight_decay": 0.01}
    runs = [
        (ours, optim.AdamW([ours], rounding="kahan", state_dtype=torch.float32, **options)),
        (theirs, theirs_of([theirs], kahan_sum=True, foreach=False, triton=False, **options)),
        (exact, torch.optim.AdamW([exact], **options)),
    ]
    for k in range(100):
        torch.manual_seed(k)
        g = (start.float() + torch.randn(1000)).bfloat16()
        for p, opt in runs:
            p.grad = g.to(p.dtype, copy=True)
            opt.step()
    off, theirs_off = ((p - exact).detach().abs() for p in (ours, theirs))
    assert bool((off <= exact.detach().abs() * 2.0**-8 + 1e-4).all())
    assert off.mean() < 1.02 * theirs_off.mean()


def test_what_does_not_fit_is_refused():
    with pytest.raises(HyperparameterError, match=r"outermost: `rounded\(chain"):
        fo.chain(fo.rounded(fo.adam()))
    with pytest.raises(HyperparameterError, match="outermost"):
        fo.skip_if(fo.rounded(fo.adam()))
    with pytest.raises(HyperparameterError, match="must be one of 'nearest'"):
        fo.rounded(fo.adam(), "up")
    half = {"w": torch.zeros(3, dtype=torch.float16)}
    with pytest.raises(LeafError, match=r"`w` is in torch\.float16: use 'kahan'"):
        fo.rounded(fo.adam(), "stochastic").init(half)
    fo.rounded(fo.adam(), "kahan").init(half)


def test_a_scaler_may_leave_a_step_out(monkeypatch):
    """What was rounded stays as it was, to the bit."""
    w = torch.nn.Parameter(torch.ones(300, dtype=torch.bfloat16))
    opt = optim.AdamW([w], lr=0.1, rounding="kahan", capturable=True)
    w.grad = torch.ones_like(w)
    opt.step()
    before, kept = w.detach().clone(), copy.deepcopy(opt.state_dict()["state"])
    opt.found_inf, opt.grad_scale = torch.tensor(1.0), torch.tensor(8.0)
    w.grad = torch.full_like(w, float("inf"))
    opt.step()
    assert torch.equal(w, before)
    for key, value in opt.state_dict()["state"][0].items():
        assert torch.equal(value, kept[0][key]), key
