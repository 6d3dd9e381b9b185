"""Parameters in 16 bits, slots in 8.

A network that is stored in bfloat16 learns a picture, and loses every update that is smaller than
half of the spacing of its parameters: rounded to the nearest, they do not move any more where those
in float32 do. `rounding=` says how parameters are written, `quantized=` how slots are stored; both
go around any optimizer.
Zamirai et al., 2020, https://arxiv.org/abs/2010.06192;
Dettmers et al., 2022, https://arxiv.org/abs/2110.02861
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import functional_call

import funcopt.optim as optim

WIDTH = 128
COLORS = {"parameters": "#0072b2", "gradients": "0.7", "state": "#d55e00"}

# %%
# Five ways to store the same training. Gradients have the dtype of their parameters.
WAYS: dict[str, tuple[torch.dtype, dict[str, Any]]] = {
    "fp32": (torch.float32, {}),
    "bf16, nearest": (torch.bfloat16, {"rounding": "nearest"}),
    "bf16, kahan": (torch.bfloat16, {"rounding": "kahan"}),
    "bf16, stochastic": (torch.bfloat16, {"rounding": "stochastic"}),
    "bf16, stochastic, 8bit": (torch.bfloat16, {"rounding": "stochastic", "quantized": "8bit"}),
}


def picture() -> tuple[Tensor, Tensor]:
    """Waves at the points of a square, and how bright a ring of them is."""
    line = torch.linspace(-1, 1, 24)
    points = torch.cartesian_prod(line, line)
    waves = points @ torch.randn(2, WIDTH // 2, generator=torch.manual_seed(0)) * 3
    radius = points.norm(dim=1, keepdim=True)
    return torch.cat([waves.sin(), waves.cos()], 1), torch.sin(9 * radius) * torch.exp(-radius)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, 1)
    )


def train(dtype: torch.dtype, options: dict[str, Any], steps: int) -> tuple[list[float], Any]:
    """The loss at every step, and the optimizer."""
    model = network().to(dtype)
    opt = optim.AdamW(model.named_parameters(), lr=2e-3, weight_decay=0.01, **options)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, steps)
    x, y = picture()
    losses = []
    for _ in range(steps):
        opt.zero_grad()
        wide = {name: p.float() for name, p in model.named_parameters()}
        loss = (functional_call(model, wide, (x,)) - y).square().mean()
        loss.backward()
        opt.step()
        scheduler.step()
        losses.append(loss.item())
    return losses, opt


def main(steps: int = 400) -> dict[str, list[float]]:
    """The loss of each way at every step."""
    losses, sizes = {}, {}
    for name, (dtype, options) in WAYS.items():
        losses[name], opt = train(dtype, options, steps)
        params = [p for group in opt.param_groups for p in group["params"]]
        count = sum(p.numel() for p in params)
        state = sum(x.nbytes for p in params for x in opt.state[p].values() if x.dim())
        sizes[name] = [dtype.itemsize, dtype.itemsize, state / count]
        last = sum(losses[name][-20:]) / len(losses[name][-20:])
        print(f"{name:24} loss {last:.1e}, bytes for each parameter: {sum(sizes[name]):5.2f}")
    draw(losses, sizes, Path("out/few_bits.png"))
    return losses


def draw(losses: dict[str, list[float]], sizes: dict[str, list[float]], path: Path) -> None:
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for (name, values), color in zip(
        losses.items(), ("black", "#d55e00", "#009e73", "#0072b2", "#cc79a7"), strict=True
    ):
        smooth = torch.tensor(values).unfold(0, min(10, len(values)), 1).mean(1)
        left.semilogy(smooth, color=color, label=name)
    left.set(xlabel="step", ylabel="squared error (mean of 10 steps)")
    left.grid(alpha=0.3)
    left.legend()
    begin = torch.zeros(len(sizes))
    for k, (part, color) in enumerate(COLORS.items()):
        width = torch.tensor([row[k] for row in sizes.values()])
        right.barh(list(sizes), width, left=begin, color=color, label=part)
        begin = begin + width
    right.invert_yaxis()
    right.set_xlabel("bytes for each parameter")
    right.legend(loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Parameters in 16 bits, slots in 8.")
    parser.add_argument("--steps", type=int, default=400)
    main(parser.parse_args().steps)
