"""Line searches by themselves: one number at a time."""

import pytest
import torch
from torch.optim.lbfgs import _strong_wolfe

import funcopt as fo
from funcopt._core.vector import Vector
from funcopt.transforms._line_search import Point


def downhill(t):
    return torch.relu(t - 5000.0).square() - t


def rounded(f):  # the value, not its slope: many places are as low as others
    return f + (f.round() - f).detach()


CURVES = {
    "quartic": lambda t: (t - 3.0) ** 4 - t,
    "steep": lambda t: torch.exp(-8 * t) + torch.exp(t - 4),
    "waves": lambda t: torch.sin(3 * t) - 0.4 * t + 0.02 * t**2,
    "narrow": lambda t: (t - 0.37) ** 2 + 0.3 * torch.cos(40 * t),
    "edge": lambda t: torch.sqrt((t - 1.0) ** 2 + 1e-4) - 0.01 * t,
    # Straight down but for one rise, so that of three tries the last may be higher than the one
    # before, or as high, and still lower than the start, with a slope that goes on downwards.
    "rise": lambda t: downhill(t) + 95 * torch.sigmoid(t - 50),
    "level": lambda t: downhill(t) + 90 * torch.sigmoid(t - 50),
    "coarse": lambda t: rounded(5 * torch.sin(3 * t) - 2.0 * t + 0.1 * t**2),
}


def at(curve, t):
    t = torch.as_tensor(t, dtype=torch.float64).clone().requires_grad_()
    f = curve(t)
    (slope,) = torch.autograd.grad(f, t)
    return f.detach(), slope


@pytest.mark.parametrize("first", [1e-3, 0.1, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("most", [0, 2, 25])
@pytest.mark.parametrize("c2", [0.9, 0.1])
@pytest.mark.parametrize("name", CURVES)
def test_strong_wolfe_tries_what_torch_tries(name, c2, most, first):
    tried, expected = [], []

    def evaluate(x, t, d):
        expected.append(float(t))
        f, slope = at(CURVES[name], t)
        return float(f), slope.reshape(1)

    f, slope = at(CURVES[name], 0.0)
    d = -slope.sign().reshape(1)
    curve, sign = CURVES[name], float(d)
    evaluate_along = lambda x, t, d: evaluate(x, t * sign, d)  # noqa: E731
    _, _, best, _ = _strong_wolfe(
        evaluate_along, 0, first, d, float(f), slope.reshape(1), slope * d[0], c2=c2, max_ls=most
    )
    search = fo.strong_wolfe(c2=c2, max_steps=most)
    start = Point(f * 0, f, slope * d[0], Vector((slope.reshape(1),)))
    now = search.begin(start, f * 0 + first)
    while not now.done:
        tried.append(float(now.t) * sign)
        g, new = at(curve, now.t * sign)
        point = Point(now.t, g, new * d[0], Vector((new.reshape(1),)))
        now = search.advance(now, point, most, d.abs().max())
    assert tried == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert float(now.best.t) == pytest.approx(float(best), rel=1e-9, abs=1e-12)
