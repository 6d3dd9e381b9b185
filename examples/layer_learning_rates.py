"""A learning rate for each layer, by hypergradients.

How does the loss on held-out digits, after 30 steps of training, depend on the learning rate of
each layer? One backward pass through the training answers, and gradient descent on the logarithms
of the learning rates does the rest. The result is compared with one learning rate for all layers,
the best of a sweep.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from tqdm import trange

import funcopt as fo

BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "0.6"


class Found(NamedTuple):
    """What was learned."""

    losses: list[float]  # held out, after every training
    rates: list[dict[str, float]]  # of each layer, with which it was done
    best_single: float  # the least held-out loss with one learning rate


def main(trainings: int = 40, steps: int = 30) -> Found:
    """Learns the learning rates in `trainings` trainings of `steps` steps."""
    pixels, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor(pixels / 16, dtype=torch.float32)[order], torch.tensor(labels)[order]
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10)
    )
    params = fo.split_module(model).params
    layers = {"0": "first", "2": "second", "4": "third"}

    def loss(params: dict[str, Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
        return cross_entropy(functional_call(model, params, (batch[0],)), batch[1])

    def held_out(params: dict[str, Tensor]) -> Tensor:
        return loss(params, (x[1000:1400], y[1000:1400]))

    def learner(**log_rates: Tensor) -> fo.GradientTransformation:
        rates = {name: fo.sgd(log_rate.exp(), momentum=0.9) for name, log_rate in log_rates.items()}
        return fo.partition(rates, lambda name, p: layers[name[0]])

    def named(first: Tensor, second: Tensor, third: Tensor) -> fo.GradientTransformation:
        return learner(first=first, second=second, third=third)

    rows = torch.randint(1000, (steps, 64), generator=torch.Generator().manual_seed(0))
    batches = [(x[i], y[i]) for i in rows]
    single = fo.sweep(
        loss,
        fo.sgd(momentum=0.9),
        {"lr": torch.logspace(-2, 0, 40)},
        params,
        batches,
        evaluate=held_out,
        progress=False,
    )
    best = single.best("score")
    best_single = single.scores["score"][best].item()

    meta = fo.adam(0.15)
    log_rates = {name: torch.tensor(0.05).log() for name in layers.values()}
    state = meta.init(log_rates)
    losses, rates = [], []
    for _ in trange(trainings, unit="training", mininterval=0.5, disable=None):
        found = fo.hypergrad(loss, named, log_rates, params, batches, held_out)
        losses.append(found.value.item())
        rates.append({name: value.exp().item() for name, value in log_rates.items()})
        updates, state = meta.update(found.values, state)
        log_rates = fo.apply_updates(log_rates, updates)
    print(
        f"held-out loss, one learning rate of {single.settings[best]['lr']:.2g}: {best_single:.4f}"
    )
    shown = ", ".join(f"{name} {rate:.2g}" for name, rate in rates[-1].items())
    print(f"held-out loss, one learning rate per layer ({shown}): {losses[-1]:.4f}")
    result = Found(losses, rates, best_single)
    draw(result, Path("out/layer_learning_rates.png"))
    return result


def draw(found: Found, path: Path) -> None:
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(found.losses, color=BLUE, label="a learning rate for each layer, learned")
    label = "one learning rate, the best of 40"
    left.axhline(found.best_single, color="k", linestyle=":", label=label)
    left.set(xlabel="training", ylabel="held-out loss at its end", yscale="log")
    left.legend()
    for name, color in zip(found.rates[0], (BLUE, ORANGE, GREEN), strict=True):
        right.plot([row[name] for row in found.rates], color=color, label=f"{name} layer")
    right.set(xlabel="training", ylabel="learning rate", yscale="log")
    right.legend()
    for ax in (left, right):
        ax.yaxis.set(
            major_locator=LogLocator(subs=(1, 2, 5)),
            major_formatter=StrMethodFormatter("{x:g}"),
            minor_formatter=NullFormatter(),
        )
        ax.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
