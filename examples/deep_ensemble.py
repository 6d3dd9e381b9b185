"""A deep ensemble and its uncertainty.

All members train in one run. They differ by their seeds: where they start, and in which order they
see the data. Their mean is calibrated on held-out digits by one temperature, and is uncertain of
images that show two digits at once.
Lakshminarayanan et al., NeurIPS 2017, https://arxiv.org/abs/1612.01474
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import cross_entropy, nll_loss

import funcopt as fo

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "0.6"
FIT, CALIBRATE = 200, 400  # how many digits for each; the rest to test with


class Found(NamedTuple):
    """Negative log-likelihoods and calibration errors, and uncertainty in bits."""

    nll: dict[str, float]
    error: dict[str, float]
    uncertainty: dict[str, Tensor]  # entropy of the prediction for every image


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def members(
    x: Tensor, y: Tensor, count: int, steps: int
) -> tuple[nn.Module, fo.Sweep[dict[str, Tensor]]]:
    """Networks that differ in where they start, and in the order of the batches."""
    model = network()

    def loss(params: dict[str, Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
        return cross_entropy(functional_call(model, params, (batch[0],)), batch[1])

    def batches(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        rows = torch.randint(FIT, (steps, 32), generator=torch.Generator().manual_seed(seed))
        return ((x[i], y[i]) for i in rows)

    result = fo.sweep(
        loss,
        fo.adamw(fo.warmup_cosine_decay_schedule(0.0, 2e-2, steps // 10, steps)),
        {"weight_decay": [0.0]},
        lambda seed: fo.split_module(network()).params,
        batches,
        seeds=range(count),
    )
    return model, result


def calibration_error(probabilities: Tensor, y: Tensor, bins: int = 10) -> tuple[float, list]:
    """How far confidence is from accuracy, on average; and both, bin by bin."""
    confidence, guess = probabilities.max(1)
    right = (guess == y).float()
    which = (confidence * bins).long().clamp(max=bins - 1)
    found = [(confidence[which == b], right[which == b]) for b in range(bins)]
    rows = [(c.mean().item(), r.mean().item(), len(c)) for c, r in found if len(c)]
    error = sum(n * abs(c - r) for c, r, n in rows) / len(y)
    return error, [row for row in rows if row[2] >= 10]  # fewer say nothing


def temperature(logs: Tensor, y: Tensor) -> Tensor:
    """The one that makes held-out digits most likely, found by gradient descent."""

    def loss(log_t: Tensor, batch: None) -> Tensor:
        return cross_entropy(logs / log_t.exp(), y)

    tx = fo.adam(0.05)
    state = fo.TrainState.start(tx, torch.zeros(()))
    state, _ = fo.unroll(fo.train_step(loss, tx), state, [None] * 150)
    return state.params.exp()


def main(count: int = 16, steps: int = 300) -> Found:
    """Trains the members, and compares one of them with the mean of all."""
    pixels, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor(pixels / 16, dtype=torch.float32)[order], torch.tensor(labels)[order]
    model, result = members(x, y, count, steps)
    predict = vmap(lambda p, x: functional_call(model, p, (x,)).log_softmax(1), in_dims=(0, None))

    def logs(x: Tensor) -> dict[str, Tensor]:
        each = predict(result.params, x)
        return {"one network": each[0], f"mean of {count}": each.exp().mean(0).log()}

    held, test = slice(FIT, FIT + CALIBRATE), slice(FIT + CALIBRATE, None)
    two = (x[test] + x[test].roll(1, 0)).clamp(max=1)  # one digit over another
    t = temperature(logs(x[held])[f"mean of {count}"], y[held])
    found = {name: value.exp() for name, value in logs(x[test]).items()}
    strange = {name: value.exp() for name, value in logs(two).items()}
    name = f"mean of {count}, calibrated"
    found[name] = (logs(x[test])[f"mean of {count}"] / t).softmax(1)
    strange[name] = (logs(two)[f"mean of {count}"] / t).softmax(1)

    nll, error, curves = {}, {}, {}
    for name, p in found.items():
        nll[name] = nll_loss(p.clamp(min=1e-9).log(), y[test]).item()
        error[name], curves[name] = calibration_error(p, y[test])
        right = (p.argmax(1) == y[test]).float().mean()
        print(f"{name:26} accuracy {right:.1%}, nll {nll[name]:.4f}, ", end="")
        print(f"calibration error {error[name]:.2%}")
    uncertainty = {
        "digits": entropy(found[name]),
        "two digits in one image": entropy(strange[name]),
    }
    draw(curves, nll, uncertainty, Path("out/deep_ensemble.png"))
    return Found(nll, error, uncertainty)


def entropy(p: Tensor) -> Tensor:
    """In bits."""
    return -(p * p.clamp(min=1e-9).log2()).sum(1)


def draw(
    curves: dict[str, list], nll: dict[str, float], uncertainty: dict[str, Tensor], path: Path
) -> None:
    figure = Figure(figsize=(12, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.plot([0, 1], [0, 1], color="k", linewidth=0.8, linestyle=":", label="calibrated")
    for (name, rows), color in zip(curves.items(), (GREY, ORANGE, BLUE), strict=True):
        left.plot(
            [r[0] for r in rows], [r[1] for r in rows], "o-", color=color, label=name, alpha=0.7
        )
        middle.barh(name, nll[name], color=color)
    left.set(xlabel="confidence", ylabel="accuracy", title="calibration")
    left.legend(fontsize=8)
    middle.set(xlabel="negative log-likelihood", title="held-out digits")
    middle.invert_yaxis()
    bins = torch.linspace(0, 3.4, 35).tolist()
    for (name, bits), color in zip(uncertainty.items(), (BLUE, ORANGE), strict=True):
        right.hist(bits.tolist(), bins, color=color, alpha=0.6, label=name, density=True)
    right.set(
        xlabel="entropy of the prediction (bits)",
        ylabel="density",
        yscale="log",
        title="uncertainty of the calibrated mean",
    )
    right.legend(fontsize=8)
    for ax in (left, right):
        ax.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
