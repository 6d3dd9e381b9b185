"""Muon on a small transformer.

A transformer of two blocks learns the source of Python's `argparse`, letter by letter. Muon
orthogonalizes the momentum of every hidden weight matrix; embeddings, the head, norms and biases
are no such matrices and have AdamW. `optim.Muon` routes parameters by name and shape, and makes
one parameter group for each of the two.
Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/
"""

import argparse
import inspect
import math
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

import funcopt.optim as optim

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "0.6"
WIDTH, HEADS, CONTEXT = 64, 4, 32


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for part in self.qkv(self.norm_1(x)).chunk(3, dim=-1)
        )
        seen = scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.down(nn.functional.gelu(self.up(self.norm_2(x))))


class Transformer(nn.Module):
    def __init__(self, letters: int) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(letters, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(Block(), Block())
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, letters)

    def forward(self, text: Tensor) -> Tensor:
        x = self.embed(text) + self.position(torch.arange(text.shape[1]))
        return self.head(self.norm(self.blocks(x)))


# %%
# Both learning rates of Muon are those of parameter groups, so a scheduler moves the two together.
OPTIMIZERS: dict[str, Callable[[nn.Module], optim.Optimizer]] = {
    "AdamW, lr 0.003": lambda model: optim.AdamW(model.parameters(), lr=3e-3),
    "AdamW, lr 0.01": lambda model: optim.AdamW(model.parameters(), lr=1e-2),
    "Muon, lr 0.03": lambda model: optim.Muon(
        model.named_parameters(), lr=3e-2, weight_decay=0.01, adamw_lr=3e-3
    ),
}


def main(steps: int = 200) -> dict[str, list[float]]:
    """The cross-entropy at every step."""
    source = inspect.getsource(argparse)
    letters = sorted(set(source))
    text = torch.tensor([letters.index(letter) for letter in source])
    start = torch.randint(
        len(text) - CONTEXT - 1, (steps, 16, 1), generator=torch.Generator().manual_seed(0)
    )
    windows = text[start + torch.arange(CONTEXT + 1)]

    def share(step: int) -> float:  # of the learning rate: a short warmup, then a cosine
        return min(1.0, (step + 1) / 10) * (1 + math.cos(math.pi * step / steps)) / 2

    losses: dict[str, list[float]] = {}
    for name, make in OPTIMIZERS.items():
        torch.manual_seed(0)
        model = Transformer(len(letters))
        opt = make(model)
        scheduler = torch.optim.lr_scheduler.LambdaLR(opt, share)
        losses[name] = []
        for window in windows:
            opt.zero_grad()
            loss = cross_entropy(model(window[:, :-1]).flatten(0, 1), window[:, 1:].flatten())
            loss.backward()
            opt.step()
            scheduler.step()
            losses[name].append(loss.item())
        sizes = {group.get("name", "all"): len(group["params"]) for group in opt.param_groups}
        print(f"{name:16} loss {sum(losses[name][-20:]) / 20:.3f}, tensors by group: {sizes}")
    draw(losses, Path("out/muon_transformer.png"))
    return losses


def draw(losses: dict[str, list[float]], path: Path) -> None:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    ax = figure.subplots()
    for (name, values), color in zip(losses.items(), (GREY, ORANGE, BLUE), strict=True):
        smooth = torch.tensor(values).unfold(0, min(10, len(values)), 1).mean(1)
        ax.plot(smooth, color=color, label=name)
    ax.set(xlabel="step", ylabel="cross-entropy (mean of 10 steps)")
    ax.set_title("the next letter of argparse.py")
    ax.grid(alpha=0.3)
    ax.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
