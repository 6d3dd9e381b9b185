"""L-BFGS for a physics-informed neural network (PINN).

Burgers' equation, u_t + u u_x = nu u_xx, on x in [-1, 1] with u = -sin(pi x) at t = 0 and u = 0 at
both ends: the network is the solution, and the loss is how far it is from one. The loss is smooth
and has no noise, which is what quasi-Newton methods are for. Adam gets as many evaluations.
Raissi, Perdikaris and Karniadakis, 2019, https://doi.org/10.1016/j.jcp.2018.10.045
"""

import math
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import funcopt.optim as optim

BLUE, ORANGE = "#0072b2", "#d55e00"
NU = 0.05


# %%
# The start and the ends are built into the network, so the loss is the residual of the equation
# alone. Its derivatives by x and t are autograd's, and stay differentiable by the weights.
class Solution(nn.Module):
    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1)
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        bend = self.net(torch.stack([x, t], 1))[:, 0]
        return -torch.sin(math.pi * x) + t * (1 - x**2) * bend


def residual(model: nn.Module, x: Tensor, t: Tensor) -> Tensor:
    u = model(x, t)
    u_x, u_t = torch.autograd.grad(u.sum(), (x, t), create_graph=True)
    (u_xx,) = torch.autograd.grad(u_x.sum(), x, create_graph=True)
    return u_t + u * u_x - NU * u_xx


def train(
    make: Callable[[nn.Module], optim.Optimizer], x: Tensor, t: Tensor, evaluations: int
) -> tuple[nn.Module, list[float]]:
    """The network, and the loss at every evaluation."""
    torch.manual_seed(0)
    model = Solution().double()
    opt, losses = make(model), []

    def closure() -> Tensor:
        opt.zero_grad()
        loss = residual(model, x, t).square().mean()
        loss.backward()
        losses.append(loss.item())
        return loss

    while len(losses) < evaluations:
        opt.step(closure)
    return model, losses[:evaluations]


def finite_differences(nodes: int = 401, every: int = 100) -> Tensor:
    """A reference solution, at t = 0, 1 / every ... 1."""
    x = torch.linspace(-1, 1, nodes, dtype=torch.float64)
    u, h = -torch.sin(math.pi * x), 2 / (nodes - 1)
    substeps = math.ceil(2.5 * NU / h**2 / every)
    dt, found = 1 / every / substeps, [u]
    for _ in range(every):
        for _ in range(substeps):
            flux = (u[2:] ** 2 - u[:-2] ** 2) / (4 * h)
            second = (u[2:] - 2 * u[1:-1] + u[:-2]) / h**2
            u = nn.functional.pad(u[1:-1] + dt * (NU * second - flux), (1, 1))
        found.append(u)
    return torch.stack(found)


def main(evaluations: int = 1000, points: int = 400) -> dict[str, list[float]]:
    """The losses by optimizer."""
    torch.manual_seed(0)
    x = (2 * torch.rand(points, dtype=torch.float64) - 1).requires_grad_()
    t = torch.rand(points, dtype=torch.float64).requires_grad_()
    makers: dict[str, Callable[[nn.Module], optim.Optimizer]] = {
        "Adam, lr 0.01": lambda model: optim.Adam(model.parameters(), lr=0.01),
        "L-BFGS": lambda model: optim.LBFGS(
            model.parameters(), max_iter=20, history_size=50, line_search_fn="strong_wolfe"
        ),
    }
    truth = finite_differences()
    grid = torch.cartesian_prod(
        torch.linspace(0, 1, len(truth), dtype=torch.float64),
        torch.linspace(-1, 1, truth.shape[1], dtype=torch.float64),
    )
    losses, solutions = {}, {}
    for name, make in makers.items():
        model, losses[name] = train(make, x, t, evaluations)
        with torch.no_grad():
            solutions[name] = model(grid[:, 1], grid[:, 0]).reshape(truth.shape)
        error = (solutions[name] - truth).norm() / truth.norm()
        print(f"{name:14} loss {losses[name][-1]:.1e}, relative error of the solution {error:.1e}")
    draw(losses, solutions, truth, Path("out/pinn_lbfgs.png"))
    return losses


def draw(
    losses: dict[str, list[float]], solutions: dict[str, Tensor], truth: Tensor, path: Path
) -> None:
    figure = Figure(figsize=(12, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    image = left.imshow(
        solutions["L-BFGS"].T.numpy(),
        origin="lower",
        extent=(0, 1, -1, 1),
        aspect="auto",
        cmap="RdBu_r",
    )
    figure.colorbar(image, ax=left)
    left.set(xlabel="t", ylabel="x", title="u, by L-BFGS")
    x = torch.linspace(-1, 1, truth.shape[1])
    for step, shade in ((0, 0.4), (50, 0.7), (100, 1.0)):
        last = step == 100
        middle.plot(
            x,
            truth[step],
            color="k",
            alpha=shade,
            linestyle=":",
            label="finite differences" if last else None,
        )
        for (name, u), color in zip(solutions.items(), (ORANGE, BLUE), strict=True):
            middle.plot(x, u[step], color=color, alpha=shade, label=name if last else None)
    middle.set(xlabel="x", title="u at t = 0, 0.5 and 1")
    middle.legend(fontsize=8)
    for (name, values), color in zip(losses.items(), (ORANGE, BLUE), strict=True):
        right.plot(torch.tensor(values).cummin(0).values, color=color, label=name)
    right.set(
        xlabel="evaluations of the loss", yscale="log", title="mean squared residual, least so far"
    )
    right.legend()
    for ax in (middle, right):
        ax.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
