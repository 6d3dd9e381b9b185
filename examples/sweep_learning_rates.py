"""A sweep over 64 learning rates in one run.

The optimizer is a pure function, so `torch.func.vmap` trains all models at once, each with its own
learning rate: a classifier of handwritten digits, 64 times. Which learning rate is best, and how
wide the valley is, takes seconds.
"""

from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

import funcopt as fo

BLUE, ORANGE = "#0072b2", "#d55e00"


def digits() -> tuple[Tensor, Tensor]:
    """1,797 images of 64 pixels in [0, 1], and their labels, in a random order."""
    pixels, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return torch.tensor(pixels / 16, dtype=torch.float32)[order], torch.tensor(labels)[order]


def main(models: int = 64, steps: int = 200, compile: bool = False) -> fo.Sweep:
    """Trains with learning rates from 1e-4 to 1, and returns the sweep."""
    x, y = digits()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    rows = torch.randint(1500, (steps, 32))

    def loss(params: dict[str, Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
        return cross_entropy(functional_call(model, params, (batch[0],)), batch[1])

    def evaluate(params: dict[str, Tensor]) -> dict[str, Tensor]:
        guesses = functional_call(model, params, (x[1500:],)).argmax(1)
        return {"accuracy": (guesses == y[1500:]).float().mean()}

    result = fo.sweep(
        loss,
        fo.adam(),
        {"lr": torch.logspace(-4, 0, models, dtype=torch.float64)},
        fo.split_module(model).params,
        [(x[i], y[i]) for i in rows],
        evaluate=evaluate,
        compile=compile,
    )
    best = result.best("accuracy", largest=True)
    print(f"best of {models}: lr = {result.settings[best]['lr']:.2g}, ", end="")
    print(f"accuracy on held-out digits {result.scores['accuracy'][best]:.1%}")
    draw(result, Path("out/sweep_learning_rates.png"))
    return result


def draw(result: fo.Sweep, path: Path) -> None:
    """The losses of all runs, and where they lead."""
    from matplotlib.cm import ScalarMappable, viridis
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    rates = [row["lr"] for row in result.settings]
    norm = LogNorm(min(rates), max(rates))
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    smooth = result.losses.unfold(1, min(10, result.losses.shape[1]), 1).mean(2)
    for rate, losses in zip(rates, smooth, strict=True):
        left.plot(losses, color=viridis(norm(rate)), linewidth=0.8)
    left.set(yscale="log", xlabel="step", ylabel="loss (mean of 10 steps)")
    left.set_title("64 trainings at once" if len(rates) == 64 else f"{len(rates)} trainings")
    figure.colorbar(ScalarMappable(norm, viridis), ax=left, label="learning rate")
    right.plot(rates, result.score(), color=BLUE, label="loss at the end")
    right.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="loss at the end")
    right.yaxis.set(
        major_locator=LogLocator(subs=(1, 2, 5)),
        major_formatter=StrMethodFormatter("{x:g}"),
        minor_formatter=NullFormatter(),
    )
    right.yaxis.label.set_color(BLUE)
    other = right.twinx()
    other.plot(rates, 100 * result.scores["accuracy"], color=ORANGE)
    other.set_ylabel("accuracy on held-out digits (%)", color=ORANGE)
    right.set_title("after the last step")
    for ax in (left, right):
        ax.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
