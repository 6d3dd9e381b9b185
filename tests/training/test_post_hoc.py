"""`post_hoc_ema`: averages of lengths that were not kept."""

import pytest
import torch

import funcopt as fo
from funcopt.errors import HyperparameterError, StructureError

STEPS, EVERY = 2000, 100
KEPT = (0.05, 0.1)
WALK = torch.randn(
    STEPS, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
).cumsum(0)


def snapshots(*lengths):
    """The averages of one walk, and those of these lengths that were saved on the way."""
    tx = fo.chain(*(fo.ema_of_params(fo.power_ema_schedule(x), name=str(x)) for x in lengths))
    p, saved = {"w": torch.zeros(3, dtype=torch.float64)}, []
    state = tx.init(p)
    for t, value in enumerate(WALK, 1):
        _, state = tx.update({"w": value - p["w"]}, state, p)
        p = {"w": value}
        if t % EVERY == 0:
            for x in lengths:
                average = fo.eval_params(tx, state, p, which=str(x))
                saved.append(fo.EmaSnapshot(average, t, x))
    return saved


@pytest.fixture(scope="module")
def saved():
    return snapshots(*KEPT)


@pytest.mark.parametrize("sigma_rel", [0.03, 0.07, 0.15, 0.2])
@pytest.mark.parametrize("step", [None, 1500])
def test_it_is_the_average_that_would_have_been_kept(saved, sigma_rel, step):
    exact = [x for x in snapshots(sigma_rel) if x.step == (step or STEPS)][-1].params["w"]
    given = [x for x in saved if x.step <= (step or STEPS)]
    found = fo.post_hoc_ema(given, sigma_rel, step)["w"]
    last = given[-1].params["w"]
    assert (found - exact).norm() < 0.03 * (last - exact).norm()


def test_what_was_saved_is_itself(saved):
    found = fo.post_hoc_ema(saved, 0.05)["w"]
    torch.testing.assert_close(found, saved[-2].params["w"], rtol=1e-8, atol=0)


def test_the_shares_are_those_of_the_paper():
    """Algorithm 3, in numpy, as its authors print it."""
    import numpy as np

    def p_dot_p(t_a, gamma_a, t_b, gamma_b):
        t_ratio = t_a / t_b
        t_exp = np.where(t_a < t_b, gamma_b, -gamma_a)
        t_max = np.maximum(t_a, t_b)
        num = (gamma_a + 1) * (gamma_b + 1) * t_ratio**t_exp
        den = (gamma_a + gamma_b + 1) * t_max
        return num / den

    steps, lengths = np.array([10.0, 10.0, 30.0, 40.0]), [0.05, 0.1, 0.1, 0.05]
    gammas = np.array([fo.power_ema_schedule(x).gamma for x in lengths])
    wanted = fo.power_ema_schedule(0.08).gamma
    a = p_dot_p(steps[:, None], gammas[:, None], steps[None], gammas[None])
    b = p_dot_p(steps[:, None], gammas[:, None], np.array([[40.0]]), np.array([[wanted]]))
    x = np.linalg.solve(a, b)[:, 0]
    units = torch.eye(4, dtype=torch.float64)
    given = [fo.EmaSnapshot(u, int(t), s) for u, t, s in zip(units, steps, lengths, strict=True)]
    found = fo.post_hoc_ema(given, 0.08)
    torch.testing.assert_close(found, torch.as_tensor(x / x.sum()), rtol=1e-10, atol=1e-12)
    assert found.sum().item() == pytest.approx(1.0, abs=1e-14)


def test_narrow_snapshots_come_back_as_they_were(saved):
    narrow = [fo.EmaSnapshot({"w": x.params["w"].bfloat16()}, x.step, x.sigma_rel) for x in saved]
    found = fo.post_hoc_ema(narrow, 0.05)["w"]
    assert found.dtype is torch.bfloat16
    torch.testing.assert_close(found, narrow[-2].params["w"])


def test_bad_arguments(saved):
    with pytest.raises(StructureError, match="`post_hoc_ema`: `snapshots` is empty"):
        fo.post_hoc_ema([], 0.1)
    with pytest.raises(HyperparameterError, match="`power_ema_schedule`: `sigma_rel` must lie"):
        fo.post_hoc_ema(saved, 0.5)
    with pytest.raises(HyperparameterError, match="`post_hoc_ema`: `step` must be a whole number"):
        fo.post_hoc_ema(saved, 0.1, step=0)
