"""Four optimizers on a small regression network.

SGD, SGD with momentum, RMSprop and Adam learn a parabola, from the same start, with the batches in
the same order.
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import funcopt.optim as optim

OPTIMIZERS = {
    "SGD": lambda ps: optim.SGD(ps, lr=0.01),
    "momentum": lambda ps: optim.SGD(ps, lr=0.01, momentum=0.8),
    "RMSprop": lambda ps: optim.RMSprop(ps, lr=0.01, alpha=0.9),
    "Adam": lambda ps: optim.Adam(ps, lr=0.01, betas=(0.9, 0.99)),
}
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")


def train(make, data: TensorDataset, epochs: int) -> list[float]:
    """The loss of every batch, from the same beginning in the same order."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 20), nn.ReLU(), nn.Linear(20, 1))
    opt, losses = make(net.parameters()), []
    batches = DataLoader(data, 32, shuffle=True, generator=torch.Generator().manual_seed(0))
    for _ in range(epochs):
        for x, y in batches:
            opt.zero_grad()
            loss = nn.functional.mse_loss(net(x), y)
            loss.backward()
            opt.step()
            losses.append(loss.item())
    return losses


def main(epochs: int = 12) -> dict[str, list[float]]:
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 1000).reshape(-1, 1)
    data = TensorDataset(x, x**2 + 0.1 * torch.randn(x.shape))
    losses = {name: train(make, data, epochs) for name, make in OPTIMIZERS.items()}
    fig = Figure(figsize=(7, 4), layout="constrained")
    ax = fig.subplots()
    for (name, values), color in zip(losses.items(), COLORS, strict=True):
        ax.plot(values, color=color, linewidth=1.2, label=name)
    ax.set(xlabel="batch", ylabel="loss", ylim=(0, 0.2), title="y = x$^2$ + 0.1 noise")
    ax.grid(alpha=0.3)
    ax.legend()
    Path("out").mkdir(exist_ok=True)
    fig.savefig("out/curve_four_optimizers.png", dpi=150)
    print({name: round(sum(values[-32:]) / 32, 4) for name, values in losses.items()})
    return losses


if __name__ == "__main__":
    main()
