"""Two recipes that hold records.

Speed runs and benchmarks of training find recipes, not algorithms: NorMuon with Polar Express,
cautious decay tied to the learning rate and a momentum that warms up, which holds the record of the
NanoGPT speed run; and Hyperball, which turns weights instead of moving them. Here each is one chain
of stages, trained on a small transformer, interrupted, and resumed exactly. Each learning rate,
that of AdamW too, is the best of four.
Jordan et al., https://github.com/KellerJordan/modded-nanogpt;
Li et al., 2025, https://arxiv.org/abs/2510.05491; Hyperball, 2026,
https://arxiv.org/abs/2606.16899
"""

import argparse
import inspect
import io
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import funcopt as fo

WIDTH, CONTEXT = 64, 32


class Transformer(nn.Module):
    def __init__(self, letters: int) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(letters, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        layer = nn.TransformerEncoderLayer(
            WIDTH, 4, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, 2, nn.LayerNorm(WIDTH), False)
        self.head = nn.Linear(WIDTH, letters)

    def forward(self, text: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(CONTEXT)
        x = self.embed(text) + self.position(torch.arange(CONTEXT))
        return self.head(self.blocks(x, mask, is_causal=True))


def label(name: str, p: Tensor) -> str:
    """Queries, keys and values share a matrix; the other matrices of the blocks are hidden ones."""
    if p.ndim != 2 or "blocks" not in name:
        return "rest"
    return "qkv" if "in_proj" in name else "hidden"


# %%
# Every hyperparameter may be a schedule. Blocks of rows are orthogonalized alone, and the decay of
# the record is times the learning rate once more. `rounded` trains bfloat16 weights as in float32.
def speed_run(steps: int) -> fo.GradientTransformation:
    lr = fo.warmup_stable_decay_schedule(0.05, steps // 20, steps // 2, steps // 2)
    end = fo.linear_schedule(0.95, 0.85, steps // 10)
    begin = fo.linear_schedule(0.85, 0.95, steps // 5)
    momentum = fo.join_schedules((begin, end), (9 * steps // 10,))

    def matrices(block: int | None = None) -> fo.GradientTransformation:
        return fo.chain(
            fo.scale_by_muon(momentum, ns_coefficients="polar_express", block_sizes=block),
            fo.scale_by_normuon(beta2=0.95, per="longer_side"),
            fo.add_cautious_decayed_weights(lambda step: 1.2 * lr(step)),
            fo.scale_by_learning_rate(lr),
        )

    rest = fo.adamw(lambda step: 0.2 * lr(step), betas=(0.8, 0.95), weight_decay=0.0)
    groups = {"qkv": matrices(WIDTH), "hidden": matrices(), "rest": rest}
    return fo.rounded(fo.partition(groups, label), "remainder")


# %%
# Hyperball: the step has the norm of the weights times the learning rate, which is an angle then,
# and the norm of the weights stays what it was in the beginning.
def hyperball(steps: int) -> fo.GradientTransformation:
    angle = fo.warmup_stable_decay_schedule(0.05, steps // 20, steps // 2, steps // 2)
    matrices = fo.chain(
        fo.scale_by_muon(momentum=0.95, ns_coefficients="polar_express"),
        fo.scale_by_trust_ratio(),
        fo.scale_by_learning_rate(angle),
        fo.keep_norm(),
    )
    rest = fo.adamw(lambda step: 0.2 * angle(step), weight_decay=0.0)
    return fo.partition({"qkv": matrices, "hidden": matrices, "rest": rest}, label)


def adamw(steps: int) -> fo.GradientTransformation:
    return fo.adamw(fo.warmup_stable_decay_schedule(0.01, steps // 20, steps // 2, steps // 2))


RECIPES: dict[str, Callable[[int], fo.GradientTransformation]] = {
    "AdamW": adamw,
    "speed run": speed_run,
    "Hyperball": hyperball,
}


def begun(name: str, letters: int, steps: int) -> tuple[Transformer, fo.Optimizer]:
    torch.manual_seed(0)
    model = Transformer(letters)
    if name == "speed run":  # weights in bfloat16; autocast computes
        model = model.bfloat16()
    return model, fo.Optimizer(model.named_parameters(), RECIPES[name](steps))


def train(model: Transformer, opt: fo.Optimizer, windows: Iterable[Tensor]) -> list[float]:
    losses = []
    for window in windows:
        opt.zero_grad()
        logits = model(window[:, :-1]).float()
        loss = cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return losses


def main(steps: int = 150) -> dict[str, list[float]]:
    """The cross-entropy at every step."""
    source = inspect.getsource(argparse)
    letters = sorted(set(source))
    text = torch.tensor([letters.index(letter) for letter in source])
    start = torch.randint(
        len(text) - CONTEXT - 1, (steps, 16, 1), generator=torch.Generator().manual_seed(0)
    )
    windows = text[start + torch.arange(CONTEXT + 1)]
    losses: dict[str, list[float]] = {}
    for name in RECIPES:
        model, opt = begun(name, len(letters), steps)
        losses[name] = train(model, opt, windows[: steps // 2])
        file = io.BytesIO()
        torch.save({"model": model.state_dict(), "optimizer": opt.state_dict()}, file)
        rest = train(model, opt, windows[steps // 2 :])

        file.seek(0)
        kept = torch.load(file, weights_only=True)
        model, opt = begun(name, len(letters), steps)
        model.load_state_dict(kept["model"])
        opt.load_state_dict(kept["optimizer"])
        resumed = train(model, opt, windows[steps // 2 :])
        losses[name] += resumed
        last = sum(resumed[-20:]) / len(resumed[-20:])
        print(f"{name:10} loss {last:.3f}, resumed exactly: {resumed == rest}")
    draw(losses, Path("out/record_recipes.png"))
    return losses


def draw(losses: dict[str, list[float]], path: Path) -> None:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    ax = figure.subplots()
    for (name, values), color in zip(losses.items(), ("0.6", "#0072b2", "#d55e00"), strict=True):
        smooth = torch.tensor(values).unfold(0, min(10, len(values)), 1).mean(1)
        ax.plot(smooth, color=color, label=name)
    ax.set(xlabel="step", ylabel="cross-entropy (mean of 10 steps)", ylim=(None, 4))
    ax.set_title("the next letter of argparse.py")
    ax.grid(alpha=0.3)
    ax.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Two recipes that hold records.")
    parser.add_argument("--steps", type=int, default=150)
    main(parser.parse_args().steps)
