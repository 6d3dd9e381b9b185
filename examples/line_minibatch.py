"""Linear regression on minibatches: SGD and Adam.

A line through noisy points, one point at a time, from a `DataLoader`. At the same learning rate,
Adam moves by about that much in a step, SGD by as much as the error asks for.
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch.utils.data import DataLoader, Dataset

import funcopt.optim as optim


class Line(Dataset):
    """Points of y = -5 x + 1, with noise."""

    def __init__(self, seed: int = 0) -> None:
        noise = torch.Generator().manual_seed(seed)
        self.x = torch.arange(-3, 3, 0.1).reshape(-1, 1)
        self.y = -5 * self.x + 1 + 0.4 * torch.randn(self.x.shape, generator=noise)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.x[i], self.y[i]


def train(make, data: Line, epochs: int) -> list[float]:
    """The mean squared error over all points, at the start and after every epoch."""
    w, b = torch.tensor(0.0, requires_grad=True), torch.tensor(0.0, requires_grad=True)
    opt = make([w, b])

    def error() -> float:
        return (w * data.x + b - data.y).square().mean().item()

    losses = [error()]
    for _ in range(epochs):
        for x, y in DataLoader(data, batch_size=1):
            opt.zero_grad()
            (w * x + b - y).square().mean().backward()
            opt.step()
        losses.append(error())
    return losses


def main(epochs: int = 20) -> dict[str, list[float]]:
    data = Line()
    losses = {
        "SGD": train(lambda ps: optim.SGD(ps, lr=0.01), data, epochs),
        "Adam": train(lambda ps: optim.Adam(ps, lr=0.01), data, epochs),
    }
    fig = Figure(figsize=(6, 4), layout="constrained")
    ax = fig.subplots()
    for (name, values), color in zip(losses.items(), ("#0072b2", "#d55e00"), strict=True):
        ax.plot(values, "o-", color=color, markersize=4, label=f"{name}, lr = 0.01")
    ax.set(
        xlabel="epoch", ylabel="mean squared error", yscale="log", title="y = -5 x + 1, with noise"
    )
    ax.set_xticks(range(0, epochs + 1, max(1, epochs // 10)))
    ax.grid(alpha=0.3)
    ax.legend()
    Path("out").mkdir(exist_ok=True)
    fig.savefig("out/line_minibatch.png", dpi=150)
    print({name: round(values[-1], 3) for name, values in losses.items()})
    return losses


if __name__ == "__main__":
    main()
