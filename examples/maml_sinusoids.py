"""MAML on sinusoids.

Meta-learning finds parameters from which one step on ten points of a new sinusoid leads to a good
fit. The setting of Finn, Abbeel and Levine, ICML 2017, section 5.1, https://arxiv.org/abs/1703.03400:
amplitudes in [0.1, 5], phases in [0, pi], x in [-5, 5]; two hidden layers of 40; one step of
gradient descent with lr 0.01 on 10 points; Adam with lr 1e-3 outside, 25 tasks at a time.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import mse_loss
from tqdm import tqdm

import funcopt as fo

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "0.6"
SHOTS, TASKS = 10, 25

Params = dict[str, Tensor]


class Task(NamedTuple):
    """Points to adapt to, and points to evaluate with."""

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor


def draw_tasks(count: int, generator: torch.Generator, tests: int = SHOTS) -> Task:
    """Sinusoids, stacked."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    amplitude, phase = uniform(0.1, 5.0, count, 1, 1), uniform(0.0, math.pi, count, 1, 1)
    x, x_test = uniform(-5, 5, count, SHOTS, 1), uniform(-5, 5, count, tests, 1)
    y, y_test = (amplitude * torch.sin(points - phase) for points in (x, x_test))
    return Task(x, y, x_test, y_test)


def learner(rate: float) -> tuple[nn.Module, Callable[..., tuple[Params, Tensor]]]:
    """A network, and how it adapts: the parameters after some steps, and the losses on the way."""
    model = nn.Sequential(
        nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1)
    )

    def loss(params: Params, batch: tuple[Tensor, Tensor]) -> Tensor:
        return mse_loss(functional_call(model, params, (batch[0],)), batch[1])

    step = fo.train_step(loss, fo.sgd(rate))

    def adapt(params: Params, task: Task, steps: int) -> tuple[Params, Tensor]:
        state, tests = fo.TrainState.start(step.tx, params), []
        tests.append(loss(params, (task.x_test, task.y_test)))
        for _ in range(steps):
            state, _ = step(state, (task.x, task.y))
            tests.append(loss(state.params, (task.x_test, task.y_test)))
        return state.params, torch.stack(tests)

    return model, adapt


def main(iterations: int = 5000, compile: bool = False, rate: float = 0.01) -> Tensor:
    """The mean loss on new tasks after 0, 1, ... 10 steps."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model, adapt = learner(rate)

    def outer(params: Params, tasks: Task) -> Tensor:
        after = vmap(lambda task: adapt(params, task, 1)[1][-1])(tasks)
        return after.mean()

    tx = fo.adam(1e-3)
    step: Callable = fo.train_step(outer, tx)
    if compile:
        step = torch.compile(step, fullgraph=True)
    state = fo.TrainState.start(tx, fo.split_module(model).params)
    with tqdm(total=iterations, unit="step", mininterval=0.5, disable=None) as bar:
        for _ in range(iterations):
            state, _ = step(state, draw_tasks(TASKS, generator))
            bar.update()
    unseen = draw_tasks(600, torch.Generator().manual_seed(1), tests=100)
    losses = vmap(lambda task: adapt(state.params, task, 10)[1])(unseen)
    mean, spread = losses.mean(0), 1.96 * losses.std(0) / len(losses) ** 0.5
    print(f"{iterations} iterations, mean squared error on 600 new tasks:")
    for steps in (0, 1, 5, 10):
        print(f"  after {steps:2} steps  {mean[steps]:.3f} +- {spread[steps]:.3f}")
    draw(model, adapt, state.params, mean, spread, Path("out/maml_sinusoids.png"))
    return mean


def draw(
    model: nn.Module,
    adapt: Callable[..., tuple[Params, Tensor]],
    params: Params,
    mean: Tensor,
    spread: Tensor,
    path: Path,
) -> None:
    figure = Figure(figsize=(12, 4), layout="constrained")
    left, *panels = figure.subplots(1, 3)
    left.fill_between(range(11), mean - spread, mean + spread, color=BLUE, alpha=0.3)
    left.plot(mean, "o-", color=BLUE)
    left.set(xlabel="steps on 10 points", ylabel="mean squared error", title="600 new sinusoids")
    left.set_ylim(bottom=0)
    left.grid(alpha=0.3)
    tasks = draw_tasks(2, torch.Generator().manual_seed(5))
    grid = torch.linspace(-5, 5, 200)[:, None]
    for ax, task in zip(panels, fo.unstack(tasks), strict=True):
        # Ten points of a sinusoid say which one it is.
        of = lambda x: torch.cat([x.sin(), x.cos()], 1)  # noqa: E731
        truth = of(grid) @ torch.linalg.lstsq(of(task.x), task.y).solution
        ax.plot(grid, truth, "k:", label="truth")
        for steps, color in ((0, GREY), (1, BLUE), (10, ORANGE)):
            after, _ = adapt(params, task, steps)
            guess = functional_call(model, after, (grid,)).detach()
            ax.plot(
                grid,
                guess,
                color=color,
                label="after 1 step" if steps == 1 else f"after {steps} steps",
            )
        ax.plot(task.x, task.y, "k^", label="the ten points")
        ax.set(xlabel="x", title="a new task")
        ax.grid(alpha=0.3)
    named = panels[0].get_legend_handles_labels()
    figure.legend(*named, loc="outside lower right", ncols=5, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--iterations", type=int, default=5000, help="the paper makes 70000")
    parser.add_argument("--compile", action="store_true")
    main(**vars(parser.parse_args()))
