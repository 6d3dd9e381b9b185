"""Fine-tuning with layer-wise learning rate decay and EMA.

A residual network has learned the digits 0 to 6, and is to tell 7, 8 and 9 apart from four examples
each. Early layers need less change than late ones: `param_groups_layer_decay` gives every block its
own learning rate, and no weight decay to norms and biases. `ema_of_params`, the last stage of the
chain, averages the weights; `with opt.averaged():` evaluates with them.

With layer decay the head takes a larger learning rate, since early layers keep what they know. On
so small a network, the best of both is about the same. The average is worth most where single steps
scatter, at large learning rates.
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import funcopt as fo
import funcopt.optim as optim

BLUE, ORANGE = "#0072b2", "#d55e00"
LRS = [0.003, 0.01, 0.03]


# %%
# The names of the parameters say where they belong: `stem`, then `blocks.0` to `blocks.3`, then
# `head`. That is all `param_groups_layer_decay` needs.
class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.up = nn.LayerNorm(width), nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.up(self.norm(x)).relu())


class Network(nn.Module):
    def __init__(self, classes: int, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Linear(64, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(4))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


# %%
# One chain for all: AdamW, then the average. A parameter group may differ in any hyperparameter of
# any stage; here they differ in `lr` and `weight_decay`.
def make(model: nn.Module, lr: float, layer_decay: float) -> fo.Optimizer:
    groups = optim.param_groups_layer_decay(
        model, lr=lr, layer_decay=layer_decay, weight_decay=0.05
    )
    return fo.Optimizer(groups, fo.chain(fo.adamw(lr), fo.ema_of_params(0.95)))


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return (model(x).argmax(1) == y).float().mean().item()


def main(pretrain: int = 600, steps: int = 48, seeds: int = 10) -> dict[float, Tensor]:
    """The accuracy by layer decay, as (learning rate, last or EMA, every 4th step)."""
    pixels, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels)
    old = y < 7
    torch.manual_seed(0)
    model = Network(7)
    opt = optim.AdamW(model.parameters(), lr=1e-3)
    for i in torch.randint(int(old.sum()), (pretrain, 64)):
        opt.zero_grad()
        cross_entropy(model(x[old][i]), y[old][i]).backward()
        opt.step()
    learned = {name: p for name, p in model.state_dict().items() if "head" not in name}
    x, y = x[~old], y[~old] - 7

    def tune(seed: int, lr: float, layer_decay: float) -> tuple[list[float], list[float]]:
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(y), generator=generator)
        few = torch.cat([order[y[order] == digit][:4] for digit in range(3)])
        unseen = order[~torch.isin(order, few)]
        torch.manual_seed(seed)
        tuned = Network(3)
        tuned.load_state_dict(learned, strict=False)  # all but the head
        opt = make(tuned, lr, layer_decay)
        last, averaged = [], []
        for step in range(steps):
            i = few[torch.randint(len(few), (8,), generator=generator)]
            opt.zero_grad()
            cross_entropy(tuned(x[i]), y[i]).backward()
            opt.step()
            if step % 4 == 3:
                last.append(accuracy(tuned, x[unseen], y[unseen]))
                with opt.averaged():
                    averaged.append(accuracy(tuned, x[unseen], y[unseen]))
        return last, averaged

    found = {}
    for decay in (1.0, 0.75):
        runs = [[tune(seed, lr, decay) for seed in range(seeds)] for lr in LRS]
        found[decay] = torch.tensor(runs).mean(1)
        for lr, (last, averaged) in zip(LRS, found[decay][:, :, -1], strict=True):
            print(f"layer decay {decay:4}, lr {lr:5}: {last:.1%}, with the EMA {averaged:.1%}")
    draw(found, Path("out/fine_tuning.png"))
    return found


def draw(found: dict[float, Tensor], path: Path) -> None:
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (decay, curves), color in zip(found.items(), (ORANGE, BLUE), strict=True):
        name = f"layer decay {decay}" if decay < 1 else "one learning rate for all layers"
        left.plot(LRS, 100 * curves[:, 1, -1], "o-", color=color, label=name)
        steps = range(4, 4 * curves.shape[2] + 1, 4)
        right.plot(steps, 100 * curves[-1, 0], color=color, linewidth=0.8, alpha=0.6)
        right.plot(steps, 100 * curves[-1, 1], color=color, linewidth=2)
    left.set(xscale="log", xlabel="learning rate of the head", ylabel="accuracy (%)")
    left.set_title("3 new classes from 12 examples, with the EMA")
    left.set_xticks(LRS, [f"{lr}" for lr in LRS])
    left.minorticks_off()
    left.legend()
    right.set(xlabel="step", title=f"learning rate {LRS[-1]}: the last weights, thin, and the EMA")
    for ax in (left, right):
        ax.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
