"""Optimizing bare tensors, without a module.

Two tensors, one function of them, one step of SGD. The parameter groups are read at every step: a
learning rate or a tensor that is exchanged there counts at once.
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure

import funcopt.optim as optim


def tensors() -> tuple[torch.Tensor, ...]:
    """The first two are learned, the others are not."""
    x, c = torch.tensor(5.0, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    return x, c, torch.tensor(2.0), torch.tensor(4.0)


def y(x: torch.Tensor, c: torch.Tensor, b: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
    return c * 3 * torch.exp(x) + b * x + d


def main() -> dict[str, float]:
    """Takes one step in three ways, and returns where the tensors are then."""
    x, c, b, d = tensors()
    op = optim.SGD([x, c], lr=1.0)
    print(op)
    y(x, c, b, d).backward()
    op.step()
    print(f"lr 1.0: x = {x.item():.4f}, c = {c.item():.4f}")
    found = {"x": x.item(), "c": c.item()}

    # A new learning rate in the group counts at once.
    x, c, b, d = tensors()
    op = optim.SGD([x, c], lr=1.0)
    op.param_groups[0]["lr"] = 0.1
    y(x, c, b, d).backward()
    op.step()
    print(f"lr 0.1: x = {x.item():.4f}, c = {c.item():.4f}")
    found["c at lr 0.1"] = c.item()

    # So does another tensor: what is in the group now is stepped, and x stays.
    x, c, b, d = tensors()
    other = torch.tensor(5.0, requires_grad=True)
    op = optim.SGD([x, c], lr=1.0)
    op.param_groups[0]["params"][0] = other
    y(other, c, b, d).backward()
    op.step()
    print(f"another tensor in the group: x = {x.item():.4f}, the other = {other.item():.4f}")
    draw(Path("out/bare_tensors.png"))
    return {**found, "x that was taken out": x.item(), "the other": other.item()}


# %%
# The function is so steep in x that a step of SGD needs a tiny learning rate.
def draw(path: Path) -> None:
    """The value of y along 40 steps, for four learning rates."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    ax = figure.subplots()
    for lr, color in zip(
        (1e-5, 1e-4, 3e-4, 1e-3), ("0.8", "#009e73", "#0072b2", "#d55e00"), strict=True
    ):
        x, c, b, d = tensors()
        op, values = optim.SGD([x, c], lr=lr), []
        for _ in range(40):
            op.zero_grad()
            value = y(x, c, b, d)
            value.backward()
            op.step()
            values.append(value.item())
        ax.plot(values, color=color, label=f"lr {lr:g}")
    ax.set(xlabel="step", ylabel="y", yscale="symlog", title=r"y = 3 c exp(x) + b x + d")
    ax.grid(alpha=0.3)
    ax.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
