"""Differentially private training (DP-SGD).

DP-SGD clips the gradient of every example and adds noise to their sum, so no example changes the
model by more than the noise hides. `fo.dpsgd` is that as a transformation; `train_step` takes the
gradients of the examples by `torch.func.vmap`, and `fo.sweep` trains with twelve noise multipliers
at once: a map over a map. The privacy budget epsilon is computed by the moments accountant.
Abadi et al., 2016, https://arxiv.org/abs/1607.00133; Mironov et al., 2019,
https://arxiv.org/abs/1908.10530
"""

import math
from pathlib import Path

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import cross_entropy

import funcopt as fo

BLUE = "#0072b2"
TRAINED, BATCH, DELTA = 1200, 120, 1e-4


# %%
# The guarantee: epsilon at a given delta, from the Renyi divergence of integer orders. It assumes
# that every example is drawn into a batch by itself, with probability `q`. The batches below have a
# fixed size, as is common, so their epsilon is an approximation.
def epsilon(noise: float, q: float, steps: int, delta: float = DELTA) -> float:
    def renyi(order: int) -> float:
        terms = [
            math.log(math.comb(order, k))
            + k * math.log(q)
            + (order - k) * math.log1p(-q)
            + k * (k - 1) / (2 * noise**2)
            for k in range(order + 1)
        ]
        return torch.tensor(terms, dtype=torch.float64).logsumexp(0).item() / (order - 1)

    return min(steps * renyi(a) + math.log(1 / delta) / (a - 1) for a in range(2, 128))


def main(models: int = 12, steps: int = 100) -> dict[str, Tensor]:
    """Epsilon and accuracy for every noise multiplier, and the accuracy without privacy."""
    pixels, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor(pixels / 16, dtype=torch.float32)[order], torch.tensor(labels)[order]
    torch.manual_seed(0)
    rows = torch.stack([torch.randperm(TRAINED)[:BATCH] for _ in range(steps)])
    batches = [(x[i], y[i]) for i in rows]
    start = {"weight": torch.zeros(64, 10), "bias": torch.zeros(10)}

    def logits(params: dict[str, Tensor], x: Tensor) -> Tensor:
        return x @ params["weight"] + params["bias"]

    def loss(params: dict[str, Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
        return cross_entropy(logits(params, batch[0]), batch[1])

    def evaluate(params: dict[str, Tensor]) -> dict[str, Tensor]:
        right = logits(params, x[TRAINED:]).argmax(1) == y[TRAINED:]
        return {"accuracy": right.float().mean()}

    noise = torch.logspace(-0.3, 1.2, models)
    private = fo.sweep(
        loss,
        fo.dpsgd(lr=1.0, max_norm=1.0, noise_multiplier=1.0, seed=0),
        {"noise_multiplier": noise, "seed": range(5)},
        start,
        batches,
        evaluate=evaluate,
    )
    public = fo.sweep(loss, fo.sgd(), {"lr": [1.0]}, start, batches, evaluate=evaluate)
    found = {
        "epsilon": torch.tensor([epsilon(n.item(), BATCH / TRAINED, steps) for n in noise]),
        "accuracy": private.scores["accuracy"].reshape(models, -1),
        "without privacy": public.scores["accuracy"],
    }
    for n, eps, right in zip(noise, found["epsilon"], found["accuracy"], strict=True):
        print(f"noise {n:5.2f}  epsilon {eps:6.2f}  accuracy {right.mean():.1%}")
    print(f"without clipping and noise    accuracy {public.scores['accuracy'].item():.1%}")
    draw(found, Path("out/private_training.png"))
    return found


def draw(found: dict[str, Tensor], path: Path) -> None:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    ax = figure.subplots()
    right = 100 * found["accuracy"]
    low, high = right.min(1).values, right.max(1).values
    ax.fill_between(
        found["epsilon"], low, high, color=BLUE, alpha=0.25, label="5 seeds of the noise"
    )
    ax.plot(found["epsilon"], right.mean(1), "o-", color=BLUE, label="DP-SGD, mean")
    public = 100 * found["without privacy"].item()
    ax.axhline(public, color="k", linestyle=":", label="without privacy")
    ax.set(xscale="log", xlabel=f"privacy budget $\\epsilon$ at $\\delta$ = {DELTA:g}")
    ax.set(ylabel="accuracy on unseen digits (%)")
    ax.set_title("DP-SGD on handwritten digits")
    ax.legend(loc="lower right")
    ax.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
