"""A rule of your own, in ten lines, and all that follows from them."""

from typing import NamedTuple

import torch

import funcopt as fo


class Momentum(NamedTuple):
    momentum_buffer: torch.Tensor


class signum(fo.TensorRule):
    """The sign of the mean gradient (Bernstein et al., https://arxiv.org/abs/1802.04434)."""

    momentum: fo.Scalar = 0.9
    elementwise = True

    def init_tensor(self, p):
        return Momentum(torch.zeros_like(p))

    def update_tensor(self, g, slots, p, s):
        mean = torch.lerp(g, slots.momentum_buffer, s.momentum)
        return mean.sign(), Momentum(mean)


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
    loss = torch.tensor(torch.inf)
    for _ in range(steps):
        opt.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        opt.step()
    print(tx)
    print(f"the loss is {loss.item():.1e}")
    return loss.item()


if __name__ == "__main__":
    main()
