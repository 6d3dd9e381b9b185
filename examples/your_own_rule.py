"""A custom optimizer in ten lines.

Write the mathematics of one tensor: its optimizer state, and what the update is. Trees, parameter
groups, checkpoints, `vmap`, derivatives and fused kernels follow, and `check_transformation` holds
the rule to the laws of all transformations.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.figure import Figure

import funcopt as fo


class Momentum(NamedTuple):
    momentum_buffer: torch.Tensor


class signum(fo.TensorRule):
    """The sign of the momentum (Bernstein et al., https://arxiv.org/abs/1802.04434)."""

    momentum: fo.Scalar = 0.9
    elementwise = True

    def init_tensor(self, p):
        return Momentum(torch.zeros_like(p))

    def update_tensor(self, g, slots, p, s):
        mean = torch.lerp(g, slots.momentum_buffer, s.momentum)
        return mean.sign(), Momentum(mean)


# %%
# In a chain it is an optimizer: here with a learning rate that falls to 0, as the schedule says.
def main(steps: int = 100) -> float:
    """Checks the rule, then trains with it; returns the last loss."""
    # Purity, dtypes, vmap, derivatives, compilation: whatever holds for our rules holds for yours.
    fo.testing.check_transformation(signum(), {"w": torch.randn(3, 2), "b": torch.randn(())})

    torch.manual_seed(0)
    x = torch.randn(256, 3)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]])
    model = torch.nn.Linear(3, 1)
    tx = fo.chain(signum(), fo.scale_by_learning_rate(fo.linear_schedule(0.1, 0.0, steps)))
    opt = fo.Optimizer(model.parameters(), tx)
    losses, rates = [], []
    for _ in range(steps):
        opt.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        opt.step()
        losses.append(loss.item())
        rates.append(opt.metrics()["lr"].item())
    print(tx)
    print(f"the loss is {losses[-1]:.1e}")
    draw(losses, rates, Path("out/your_own_rule.png"))
    return losses[-1]


def draw(losses: list[float], rates: list[float], path: Path) -> None:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    ax = figure.subplots()
    ax.plot(losses, color="#0072b2")
    ax.set(xlabel="step", yscale="log", title="the sign of the momentum, with a linear schedule")
    ax.set_ylabel("loss", color="#0072b2")
    ax.grid(alpha=0.3)
    other = ax.twinx()
    other.plot(rates, color="#d55e00")
    other.set_ylabel("learning rate", color="#d55e00")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
