"""A learned optimizer that is itself a rule.

A tiny network decides on every entry of the update. It sees the gradient and two of its running
means, each divided by its size, and is trained through the training of others: it unrolls 20 steps
of small problems and descends on their losses. After that it is a rule like any other: in a chain,
under `vmap`, in a `torch.optim.Optimizer`. After Metz et al., 2020,
https://arxiv.org/abs/2009.11243, which learned optimizers of this kind.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.func import vmap
from tqdm import trange

import funcopt as fo


class Means(NamedTuple):
    fast: Tensor
    slow: Tensor
    square: Tensor


class learned(fo.TensorRule):
    """u = network(g, its fast mean, its slow mean), all divided by the root of the mean square."""

    hidden: Tensor  # (3, 8): the weights of the network
    out: Tensor  # (8,)
    elementwise = True

    def init_tensor(self, p):
        return Means(torch.zeros_like(p), torch.zeros_like(p), torch.zeros_like(p))

    def prepare(self, step, memory):
        age = [1 - decay**step for decay in (0.5, 0.9, 0.99)]
        return {"age": age, "hidden": self.hidden, "out": self.out}

    def update_tensor(self, g, slots, p, s):
        fast, slow, square = slots
        fast, slow = torch.lerp(fast, g, 0.5), torch.lerp(slow, g, 0.1)
        square = torch.lerp(square, g * g, 0.01)
        size = (square / s.age[2] + 1e-8).sqrt()
        seen = torch.stack([g, fast / s.age[0], slow / s.age[1]], -1) / size.unsqueeze(-1)
        return torch.tanh(seen @ s.hidden) @ s.out, Means(fast, slow, square)


def problems(count: int, seed: int) -> dict[str, Tensor]:
    """Least squares in ten dimensions, each with a curvature and a start of its own."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(count, 10, 10, generator=generator)
    return {"a": matrix / 10**0.5, "start": torch.randn(count, 10, generator=generator)}


def loss(x: Tensor, a: Tensor) -> Tensor:
    return (a @ x).square().sum() / 2 + 0.05 * (1 - torch.cos(3 * x)).sum()


def losses_of(tx: fo.GradientTransformation, some: dict[str, Tensor], steps: int) -> Tensor:
    """The loss on every problem after each step, as a share of the first."""

    def one(problem: dict[str, Tensor]) -> Tensor:
        state = fo.TrainState.start(tx, problem["start"])
        return fo.unroll(fo.train_step(loss, tx), state, [problem["a"]] * steps)[1]

    found = vmap(one)(some)
    return found / found[:, :1]


def main(iterations: int = 300, steps: int = 20) -> dict[str, Tensor]:
    """Mean losses on new problems, three times as long, of the learned rule and of Adam."""
    torch.manual_seed(0)
    weights = {"hidden": 0.5 * torch.randn(3, 8), "out": 0.02 * torch.randn(8)}

    def outer(weights: dict[str, Tensor], seed: int) -> Tensor:
        tx = fo.chain(learned(**weights), fo.scale(-1.0))
        return losses_of(tx, problems(16, seed), steps).clamp(max=10).log().mean()

    meta = fo.train_step(outer, fo.chain(fo.clip_by_global_norm(1.0), fo.adam(3e-3)))
    state = fo.TrainState.start(meta.tx, weights)
    for seed in trange(iterations, unit="step", mininterval=0.5, disable=None):
        state, _ = meta(state, seed)
    rules = {f"Adam, lr {lr}": fo.adam(lr) for lr in (0.03, 0.1, 0.3)}
    rules["learned"] = fo.chain(learned(**state.params), fo.scale(-1.0))
    found = {
        name: losses_of(tx, problems(64, 10**6), 3 * steps).log().mean(0).exp()
        for name, tx in rules.items()
    }
    for name, curve in found.items():
        print(f"{name:13} loss after {steps} steps: {curve[steps - 1]:.4f} of the first")
    draw(found, steps, Path("out/learned_optimizer.png"))
    return found


def draw(found: dict[str, Tensor], steps: int, path: Path) -> None:
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    ax = figure.subplots()
    for (name, curve), color in zip(found.items(), ("0.8", "0.6", "0.4", "#0072b2"), strict=True):
        ax.plot(curve, color=color, linewidth=2, label=name)
    ax.axvline(steps - 1, color="k", linestyle=":", linewidth=0.8, label="trained so far")
    ax.set(xlabel="step", ylabel="loss, as a share of the first", yscale="log")
    ax.set_title("64 new problems, geometric mean")
    ax.legend()
    ax.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
