"""A GAN with two optimizers and an averaged generator.

A generator learns to draw points on a ring of eight clusters, a discriminator to tell them from
true ones. Each network has an optimizer of its own. The last iterate of such a game circles around
the solution; an EMA of the generator's weights is closer to it, and is one more stage of its chain.
Goodfellow et al., 2014, https://arxiv.org/abs/1406.2661; Yazici et al., 2019,
https://arxiv.org/abs/1806.04498
"""

import math
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import softplus

import funcopt as fo
import funcopt.optim as optim

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "0.6"


def network(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, outputs)
    )


def ring(count: int) -> Tensor:
    angle = math.pi / 4 * torch.randint(8, (count,))
    return torch.stack([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(count, 2)


def distance(points: Tensor) -> float:
    """The mean distance to the nearest center, plus the share of centers that are missed."""
    angle = math.pi / 4 * torch.arange(8)
    apart = torch.cdist(points, torch.stack([angle.cos(), angle.sin()], 1))
    share = apart.argmin(1).bincount(minlength=8) / len(points)
    return apart.min(1).values.mean().item() + (share - 1 / 8).abs().sum().item()


# %%
# The generator's loss goes through the discriminator: its backward pass fills gradients of both.
# Each optimizer zeroes its own before it takes its turn.
def main(steps: int = 3000, batch: int = 128) -> dict[str, list[float]]:
    """How far the samples are from the ring, every 50 steps: of the last weights and of the EMA."""
    torch.manual_seed(0)
    generator, discriminator = network(8, 2), network(2, 1)
    tx = fo.chain(fo.adam(1e-3, betas=(0.5, 0.9)), fo.ema_of_params(0.99))
    opt_g = fo.Optimizer(generator.named_parameters(), tx)
    opt_d = optim.Adam(discriminator.parameters(), lr=2e-3, betas=(0.5, 0.9))
    noise = torch.randn(2000, 8)
    found: dict[str, list[float]] = {"last weights": [], "EMA": []}
    shown = {}
    for step in range(steps):
        real, fake = ring(batch), generator(torch.randn(batch, 8))
        opt_d.zero_grad()
        (softplus(-discriminator(real)) + softplus(discriminator(fake.detach()))).mean().backward()
        opt_d.step()

        opt_g.zero_grad()
        softplus(-discriminator(fake)).mean().backward()
        opt_g.step()

        if (step + 1) % 50 == 0:
            with torch.no_grad():
                last = generator(noise)
                with opt_g.averaged():
                    averaged = generator(noise)
            found["last weights"].append(distance(last))
            found["EMA"].append(distance(averaged))
            shown[step + 1] = last, averaged
    for name, values in found.items():
        print(f"{name:12} distance to the ring, mean of the last ten: {sum(values[-10:]) / 10:.3f}")
    draw(found, shown, Path("out/gan.png"))
    return found


def draw(
    found: dict[str, list[float]], shown: dict[int, tuple[Tensor, Tensor]], path: Path
) -> None:
    figure = Figure(figsize=(12, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    real, (last, averaged) = ring(1000), shown[max(shown)]
    for ax, points, name in ((left, averaged, "EMA"), (middle, last, "last weights")):
        ax.scatter(*real.T, s=4, color=GREY, label="true points")
        ax.scatter(*points[:1000].T, s=4, color=BLUE if name == "EMA" else ORANGE, label=name)
        ax.set(
            xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), aspect="equal", title=f"{name}, step {max(shown)}"
        )
        ax.legend(loc="center", markerscale=3)
    for (name, values), color in zip(found.items(), (ORANGE, BLUE), strict=True):
        right.plot(list(shown), values, color=color, label=name)
    right.set(xlabel="step", ylabel="distance to the ring", yscale="log", title="the game")
    right.grid(alpha=0.3)
    right.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
