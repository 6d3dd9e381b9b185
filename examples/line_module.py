"""Linear regression with a module.

The optimizer is that of `torch.optim` under its name; the import is all that differs. It runs on
the GPU where there is one.
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import nn

import funcopt.optim as optim


class LinearRegression(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


def main(steps: int = 4000) -> tuple[float, float]:
    """Returns the slope and the intercept that were found."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    x = 4 * torch.rand(60, 1, device=device) - 2
    y = 3 * x + 0.8
    model, criterion = LinearRegression().to(device), nn.MSELoss()
    opt = optim.SGD(model.parameters(), lr=1e-3)
    loss = torch.tensor(torch.inf)
    for _ in range(steps):
        loss = criterion(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    slope, intercept = model.linear.weight.item(), model.linear.bias.item()
    print(f"y = {slope:.3f} x + {intercept:.3f}, with a loss of {loss.item():.1e}, on {device}")

    fig = Figure(figsize=(6, 4), layout="constrained")
    ax = fig.subplots()
    ax.plot(x.cpu(), y.cpu(), "o", color="0.75", markersize=7, label="y = 3 x + 0.8")
    ends = torch.tensor([-2.0, 2.0])
    ax.plot(ends, slope * ends + intercept, color="#d55e00", label="the line that was fitted")
    ax.set(xlabel="x", ylabel="y")
    ax.grid(alpha=0.3)
    ax.legend()
    Path("out").mkdir(exist_ok=True)
    fig.savefig("out/line_module.png", dpi=150)
    return slope, intercept


if __name__ == "__main__":
    main()
