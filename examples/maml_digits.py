"""Few-shot classification of digits by MAML.

Meta-learning happens on tasks made of the digits 0 to 6: tell three of them apart, whichever they
are called, after three steps on five examples each. It is evaluated on 7, 8 and 9, which it has
never seen. The learning rate of each layer is learned too, as in Meta-SGD.
Li et al., 2017, https://arxiv.org/abs/1707.09835
"""

from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import cross_entropy
from tqdm import tqdm

import funcopt as fo

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "0.6"
WAYS, SHOTS, TESTS, TASKS, STEPS = 3, 5, 15, 16, 3

Params = dict[str, Tensor]


def draw_tasks(
    by_digit: list[Tensor], digits: list[int], count: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Tasks, stacked: images to adapt to, images to evaluate with, and their labels."""
    tasks = []
    for _ in range(count):
        chosen = torch.randperm(len(digits), generator=generator)[:WAYS].tolist()
        rows = []
        for i in chosen:
            images = by_digit[digits[i]]
            picked = torch.randperm(len(images), generator=generator)[: SHOTS + TESTS]
            rows.append(images[picked])
        images = torch.stack(rows)
        seen, test = images.split((SHOTS, TESTS), dim=1)
        tasks.append({"x": seen.flatten(0, 1), "test": test.flatten(0, 1)})
    stacked: dict[str, Tensor] = fo.stack(tasks)
    names = torch.arange(WAYS)
    stacked["y"] = names.repeat_interleave(SHOTS).expand(count, -1)
    stacked["answer"] = names.repeat_interleave(TESTS).expand(count, -1)
    return stacked


def main(iterations: int = 400) -> dict[str, Tensor]:
    """Accuracy on unseen digits after 0, 1, ... 10 steps, with and without meta-learning."""
    pixels, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels)
    by_digit = [x[y == digit] for digit in range(10)]
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, WAYS)
    )
    layers = sorted({name.split(".")[0] for name, _ in model.named_parameters()})

    def loss(params: Params, batch: tuple[Tensor, Tensor]) -> Tensor:
        return cross_entropy(functional_call(model, params, (batch[0],)), batch[1])

    def learner(log_rates: Params) -> fo.GradientTransformation:
        branches = {layer: fo.sgd(log_rates[layer].exp()) for layer in layers}
        return fo.partition(branches, lambda name, p: name.split(".")[0])

    def adapt(meta: dict[str, Params], task: dict[str, Tensor], steps: int) -> Any:
        step = fo.train_step(loss, learner(meta["log_rates"]))
        state, answers = fo.TrainState.start(step.tx, meta["params"]), []
        for i in range(steps + 1):
            if i:
                state, _ = step(state, (task["x"], task["y"]))
            answers.append(functional_call(model, state.params, (task["test"],)))
        return torch.stack(answers)

    def outer(meta: dict[str, Params], tasks: dict[str, Tensor]) -> Tensor:
        last = vmap(lambda task: adapt(meta, task, STEPS)[-1])(tasks)
        return cross_entropy(last.flatten(0, 1), tasks["answer"].flatten())

    generator = torch.Generator().manual_seed(0)
    tx = fo.partition(
        {"params": fo.adam(1e-3), "log_rates": fo.adam(0.02)}, lambda name, p: name.split("/")[0]
    )
    step = fo.train_step(outer, tx)
    start = {
        "params": fo.split_module(model).params,
        "log_rates": {layer: torch.tensor(0.1).log() for layer in layers},
    }
    state = fo.TrainState.start(tx, start)
    with tqdm(total=iterations, unit="step", mininterval=0.5, disable=None) as bar:
        for _ in range(iterations):
            state, _ = step(state, draw_tasks(by_digit, list(range(7)), TASKS, generator))
            bar.update()

    unseen = draw_tasks(by_digit, [7, 8, 9], 100, torch.Generator().manual_seed(1))
    found = {}
    for name, meta in {"from scratch": start, "meta-learned": state.params}.items():
        answers = vmap(lambda task, meta=meta: adapt(meta, task, 10))(unseen)  # (task, step, ...)
        right = answers.argmax(-1) == unseen["answer"][:, None]
        found[name] = right.float().mean((0, 2))
        print(f"{name:13} accuracy {found[name][STEPS]:.1%} after {STEPS} steps on 7, 8 and 9")
    rates = {layer: value.exp().item() for layer, value in state.params["log_rates"].items()}
    draw(found, rates, unseen, Path("out/maml_digits.png"))
    return found


def draw(
    found: dict[str, Tensor], rates: dict[str, float], tasks: dict[str, Tensor], path: Path
) -> None:
    figure = Figure(figsize=(12, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(3, 2, 3))
    for (name, accuracy), color in zip(found.items(), (GREY, BLUE), strict=True):
        left.plot(100 * accuracy, "o-", color=color, label=name)
    left.axhline(100 / WAYS, color="k", linestyle=":", linewidth=0.8, label="chance")
    left.set(xlabel=f"steps on {SHOTS} examples each (learned for {STEPS})", ylabel="accuracy (%)")
    left.set_title("digits that were never seen: 7, 8, 9")
    left.legend()
    left.grid(alpha=0.3)
    names = [f"layer {i + 1}" for i in range(len(rates))]
    middle.bar_label(middle.bar(names, list(rates.values()), color=ORANGE), fmt="%.2g", padding=2)
    middle.margins(y=0.1)
    middle.axhline(0.1, color="k", linestyle=":", linewidth=0.8, label="at first")
    middle.set_title("learned learning rates")
    middle.legend()
    images = tasks["x"][0].reshape(WAYS, SHOTS, 8, 8)
    images = nn.functional.pad(images, (1, 1, 1, 1))
    tiles = images.permute(0, 2, 1, 3).reshape(WAYS * 10, SHOTS * 10)
    right.imshow(tiles.numpy(), cmap="gray_r")
    right.set_yticks([10 * i + 4.5 for i in range(WAYS)], [f"class {i}" for i in range(WAYS)])
    right.set_xticks([])
    right.set_title("a task: all that is seen of its classes")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
