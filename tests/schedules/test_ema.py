"""`ema_warmup_schedule` and `power_ema_schedule`: decay rates of averages of parameters."""

import pytest
import torch

import funcopt as fo
from funcopt.errors import HyperparameterError


def diffusers(step, decay, inv_gamma, power, min_decay, update_after_step):
    """`EMAModel.get_decay` of diffusers 0.30, whose `step` is the number of the update."""
    step = max(0, step - update_after_step - 1)
    if step <= 0:
        return 0.0
    return max(min(1 - (1 + step / inv_gamma) ** -power, decay), min_decay)


@pytest.mark.parametrize(
    "options", [(0.9999, 1.0, 2 / 3, 0.0, 0), (0.9, 20.0, 0.75, 0.0, 7), (0.99, 1.0, 3.0, 0.95, 0)]
)
def test_the_warmup_is_that_of_diffusers(options):
    schedule = fo.ema_warmup_schedule(*options)
    for step in [*range(1, 300), 10**6]:
        assert schedule(step - 1) == pytest.approx(diffusers(step, *options), rel=1e-13)


def averages(schedule, values):
    """The average after each update, of parameters that take these values."""
    tx, p = fo.ema_of_params(schedule), torch.zeros((), dtype=torch.float64)
    state, found = tx.init(p), []
    for value in values:
        _, state = tx.update(value - p, state, p)
        p = value
        found.append(fo.eval_params(tx, state, p))
    return torch.stack(found)


VALUES = torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_with_a_power_of_one_it_is_the_mean():
    means = VALUES.cumsum(0) / torch.arange(1, 201)
    found = averages(fo.ema_warmup_schedule(power=1.0), VALUES)
    torch.testing.assert_close(found, means, rtol=0, atol=1e-14)


@pytest.mark.parametrize("sigma_rel", [0.02, 0.05, 0.1, 0.25])
def test_the_weights_are_as_long_as_they_should_be(sigma_rel):
    """Their standard deviation over the steps, as a share of the training."""
    steps, schedule = 20_000, fo.power_ema_schedule(sigma_rel)
    keep = torch.tensor([schedule(c) for c in range(steps)], dtype=torch.float64)
    after = torch.cat([keep[1:].flip(0).cumprod(0).flip(0), torch.ones(1)])
    weights = (1 - keep) * after
    at = torch.arange(1, steps + 1) / steps
    mean = (weights * at).sum()
    assert weights.sum().item() == pytest.approx(1.0, abs=1e-12)
    spread = (weights * (at - mean).square()).sum().sqrt().item()
    assert spread == pytest.approx(sigma_rel, rel=2e-3)  # of the limit of many steps


def test_the_power_is_the_root_of_the_cubic():
    for sigma_rel in (0.01, 0.05, 0.1, 0.25):
        g, inverse = fo.power_ema_schedule(sigma_rel).gamma, sigma_rel**-2
        assert g**3 + 7 * g**2 + (16 - inverse) * g + 12 - inverse == pytest.approx(
            0, abs=1e-12 * inverse**1.5
        )
    assert fo.power_ema_schedule(0.05).gamma == pytest.approx(16.97, abs=0.01)  # of the paper
    assert fo.power_ema_schedule(0.1).gamma == pytest.approx(6.94, abs=0.01)
    with pytest.raises(HyperparameterError, match=r"`sigma_rel` must lie between 0 and 0.28"):
        fo.power_ema_schedule(0.3)
