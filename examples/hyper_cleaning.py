"""Data hyper-cleaning by implicit differentiation.

Half of the labels are wrong, and a few clean ones tell which. Every example gets a weight. The
classifier minimizes its weighted loss; the weights descend on the loss of that minimum on clean
examples, whose derivative comes from the equation that the minimum solves, not from its history.
Pedregosa, ICML 2016, https://arxiv.org/abs/1602.02355, and Franceschi et al., ICML 2017,
https://arxiv.org/abs/1703.01785, where the task is from.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import grad
from torch.nn.functional import cross_entropy
from tqdm import trange

import funcopt as fo

BLUE, ORANGE = "#0072b2", "#d55e00"


class Found(NamedTuple):
    """What came of it."""

    accuracy: list[float]  # on unseen digits, after every outer step
    clean_only: float  # trained on the clean ones alone
    weights: Tensor  # of the examples
    spoiled: Tensor  # which of them have a wrong label


def main(outer_steps: int = 40, examples: int = 500, clean: int = 100) -> Found:
    """Learns the weights of the examples, half of them with wrong labels."""
    pixels, labels = load_digits(return_X_y=True)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(labels), generator=generator)
    x, y = torch.tensor(pixels / 16, dtype=torch.float32)[order], torch.tensor(labels)[order]
    x = torch.cat([x, torch.ones(len(x), 1)], 1)
    train, held, test = slice(examples), slice(examples, examples + clean), slice(1000, None)
    spoiled = torch.rand(examples, generator=generator) < 0.5
    wrong = (y[train] + torch.randint(1, 10, (examples,), generator=generator)) % 10
    given = torch.where(spoiled, wrong, y[train])

    def inner(w: Tensor, logits: Tensor) -> Tensor:
        each = cross_entropy(x[train] @ w, given, reduction="none")
        return (logits.sigmoid() * each).mean() + 1e-3 * w.square().sum()

    @fo.custom_root(grad(inner), solve=fo.solve_cg(maxiter=50, tol=1e-4))
    def fit(start: Tensor, logits: Tensor) -> Tensor:
        tx = fo.sgd(1.0, momentum=0.9)
        step = fo.train_step(inner, tx)
        return fo.unroll(step, fo.TrainState.start(tx, start), [logits] * 60)[0].params

    def accuracy(w: Tensor) -> float:
        return ((x[test] @ w).argmax(1) == y[test]).float().mean().item()

    def outer(logits: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        w = fit(start, logits)
        return cross_entropy(x[held] @ w, y[held]), w

    tx = fo.adam(0.5)
    logits, w = torch.zeros(examples), torch.zeros(65, 10)
    state, found = tx.init(logits), []
    for _ in trange(outer_steps, unit="step", mininterval=0.5, disable=None):
        slope, (_, w) = torch.func.grad_and_value(outer, has_aux=True)(logits, w)
        found.append(accuracy(w))
        updates, state = tx.update(slope, state, logits)
        logits = fo.apply_updates(logits, updates)

    tx = fo.sgd(1.0, momentum=0.9)
    alone = fo.train_step(
        lambda w, _: cross_entropy(x[held] @ w, y[held]) + 1e-3 * w.square().sum(), tx
    )
    few = fo.unroll(alone, fo.TrainState.start(tx, torch.zeros(65, 10)), range(200))[0].params
    result = Found(found, accuracy(few), logits.sigmoid(), spoiled)
    print(f"accuracy with equal weights: {found[0]:.1%}; ", end="")
    print(f"trained on the clean examples alone: {accuracy(few):.1%}")
    print(f"accuracy with learned weights: {found[-1]:.1%}; ", end="")
    told = (result.weights < 0.5) == spoiled
    print(f"{told.float().mean():.1%} of the labels recognized as right or wrong")
    draw(result, x[train, :64], given, Path("out/hyper_cleaning.png"))
    return result


def draw(found: Found, images: Tensor, given: Tensor, path: Path) -> None:
    figure = Figure(figsize=(12, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.plot([100 * a for a in found.accuracy], color=BLUE, label="weights learned")
    label = "clean examples alone"
    left.axhline(100 * found.clean_only, color="k", linestyle=":", label=label)
    left.set(xlabel="outer step", ylabel="accuracy on held-out digits (%)", title="classifier")
    left.legend()
    left.grid(alpha=0.3)
    bins = torch.linspace(0, 1, 26).tolist()
    for which, color, name in ((~found.spoiled, BLUE, "right"), (found.spoiled, ORANGE, "wrong")):
        middle.hist(found.weights[which].tolist(), bins, color=color, alpha=0.6, label=name)
    middle.set(xlabel="learned weight", ylabel="examples", title="by what the label is")
    middle.legend()
    least = found.weights.argsort()[:12]
    tiles = nn.functional.pad(images[least].reshape(4, 3, 8, 8), (5, 1, 1, 1))
    tiles = tiles.permute(0, 2, 1, 3).reshape(40, 42)
    right.imshow(tiles.numpy(), cmap="gray_r")
    for k, i in enumerate(least.tolist()):
        right.text(
            14 * (k % 3) + 1,
            10 * (k // 3) + 1,
            str(given[i].item()),
            color=ORANGE,
            va="top",
            size=13,
        )
    right.set(xticks=[], yticks=[], title="least weight, and the given label")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
