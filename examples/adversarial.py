"""Adversarial perturbations by projected gradient steps.

What is optimized here are not weights but images: each is changed by at most epsilon for every
pixel, so that the classifier is wrong. A step ascends along the sign of the gradient and is
projected back into the ball. The projection is a stage of four lines, the last of the chain; its
radius is a hyperparameter like any other, so `fo.sweep` attacks with all of them at once.
Madry et al., ICLR 2018, https://arxiv.org/abs/1706.06083
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import cross_entropy

import funcopt as fo
import funcopt.optim as optim

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "0.6"


# %%
# `p + g` is where the parameters would be after the step. The stage returns the step that ends at
# the nearest point of the ball instead.
class project(fo.TensorRule):
    """Keeps every entry of the parameters within [-radius, radius]."""

    radius: fo.Scalar
    elementwise = True
    needs_params = True
    comes_last = True  # it needs the final update

    def update_tensor(self, g, slots, p, s):
        return torch.clamp(p + g, -s.radius, s.radius) - p, slots


def attack(radius: float | Tensor, steps: int = 20) -> fo.GradientTransformation:
    """Ascends along signs, with steps that reach across the ball."""
    return fo.chain(fo.scale_by_sign(), fo.scale(2.5 * radius / steps), project(radius))


def main(steps: int = 20, epochs: int = 30) -> dict[str, Tensor]:
    """The accuracy on attacked images, by the radius, of projected steps and of random noise."""
    pixels, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor(pixels / 16, dtype=torch.float32)[order], torch.tensor(labels)[order]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    opt = optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for i in torch.randperm(1400).split(64):
            opt.zero_grad()
            cross_entropy(model(x[i]), y[i]).backward()
            opt.step()
    x, y, weights = x[1400:], y[1400:], fo.split_module(model).params

    def predict(images: Tensor) -> Tensor:
        return functional_call(model, weights, (images,))

    def loss(change: Tensor, batch: None) -> Tensor:  # a sum: the images do not see one another
        return cross_entropy(predict(x + change), y, reduction="sum")

    radii = torch.linspace(0, 0.3, 16)
    found = fo.sweep(
        loss,
        lambda radius: attack(radius, steps),
        {"radius": radii},
        torch.zeros_like(x),
        [None] * steps,
        progress=False,
    )
    noise = radii.reshape(-1, 1, 1) * (2 * torch.rand_like(x) - 1).sign()

    def accuracy(changes: Tensor) -> Tensor:
        return vmap(lambda change: (predict(x + change).argmax(1) == y).float().mean())(changes)

    result = {
        "radius": radii,
        "projected steps": accuracy(found.params),
        "random signs": accuracy(noise),
    }
    for k in range(0, len(radii), 3):
        shown = {name: f"{100 * result[name][k]:.0f}%" for name in list(result)[1:]}
        print(f"radius {radii[k]:.2f}: accuracy {shown}")
    k = 8
    fooled = predict(x + found.params[k]).argmax(1)
    which = ((fooled != y) & (predict(x).argmax(1) == y)).nonzero()[:5, 0]
    rows = torch.stack([x[which], found.params[k][which], (x + found.params[k])[which]])
    names = [f"{y[i]} → {fooled[i]}" for i in which]
    draw(result, rows, names, radii[k].item(), Path("out/adversarial.png"))
    return result


def draw(
    found: dict[str, Tensor], rows: Tensor, names: list[str], radius: float, path: Path
) -> None:
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, values), color in zip(list(found.items())[1:], (BLUE, GREY), strict=True):
        left.plot(found["radius"], 100 * values, "o-", color=color, markersize=4, label=name)
    left.set(xlabel="radius (largest change of a pixel)", ylabel="accuracy (%)", ylim=(-3, 103))
    left.grid(alpha=0.3)
    left.legend()
    tiles = nn.functional.pad(rows.reshape(3, -1, 8, 8), (1, 1, 1, 1), value=float("nan"))
    right.imshow(
        tiles.permute(0, 2, 1, 3).reshape(30, -1).numpy(), cmap="gray_r", vmin=-radius, vmax=1
    )
    right.set_xticks([10 * i + 4.5 for i in range(len(names))], names)
    right.set_yticks([4.5, 14.5, 24.5], ["image", "change", "sum"])
    right.tick_params(length=0)
    right.spines[:].set_visible(False)
    right.set_title(f"radius {radius:.2f}: label, and what the classifier says")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
