"""An outer step of meta-learning against TorchOpt's: ``python -m benchmarks.meta``.

Sinusoids from ten points (Finn et al., 2017): a network of 40 and 40, some inner steps of Adam, the
loss after them on ten further points, and its derivative by the first parameters. By TorchOpt's
`MetaAdam`, by `funcopt.MetaOptimizer`, which is used in the same way, and by `funcopt.unroll`, for
one task and, under `vmap`, for 25. What the same operations take without any library, one by one
for each tensor, is the floor of both as long as nothing is compiled: Adam by hand, with a root that
has no derivative at zero. All must find the same derivative. Medians of interleaved rounds, as
shares of TorchOpt's.
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

import torch
import torchopt
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import mse_loss

import funcopt as fo

from . import machine

ROUNDS, RATE = 30, 1e-2
Task = tuple[Tensor, Tensor, Tensor, Tensor]


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 1))
    return nn.Sequential(*layers)


def draw(tasks: int) -> list[Task]:
    torch.manual_seed(1)
    made = []
    for _ in range(tasks):
        amplitude, phase = 0.1 + 4.9 * torch.rand(()), math.pi * torch.rand(())
        x, x_test = 10 * torch.rand(10, 1) - 5, 10 * torch.rand(10, 1) - 5
        made.append((x, amplitude * (x - phase).sin(), x_test, amplitude * (x_test - phase).sin()))
    return made


def by_torchopt(tasks: list[Task], steps: int) -> Callable[[], list[Tensor]]:
    net = network()

    def run() -> list[Tensor]:
        inner = torchopt.MetaAdam(net, lr=RATE)
        net_state = torchopt.extract_state_dict(net, by="reference")
        state = torchopt.extract_state_dict(inner, by="reference")
        params, total = list(net.parameters()), 0.0
        for x, y, x_test, y_test in tasks:
            for _ in range(steps):
                inner.step(mse_loss(net(x), y))
            total = total + mse_loss(net(x_test), y_test)
            torchopt.recover_state_dict(net, net_state)
            torchopt.recover_state_dict(inner, state)
        return list(torch.autograd.grad(total / len(tasks), params))

    return run


def by_meta_optimizer(tasks: list[Task], steps: int) -> Callable[[], list[Tensor]]:
    net = network()

    def run() -> list[Tensor]:
        params, total = list(net.parameters()), 0.0
        inner = fo.MetaOptimizer(net, fo.adam(RATE))
        for x, y, x_test, y_test in tasks:
            with inner.adapting():
                for _ in range(steps):
                    inner.step(mse_loss(net(x), y))
                total = total + mse_loss(net(x_test), y_test)
        return list(torch.autograd.grad(total / len(tasks), params))

    return run


def by_hand(tasks: list[Task], steps: int) -> Callable[[], list[Tensor]]:
    net = network()
    names, start = zip(*net.named_parameters(), strict=True)

    def loss(ps: Sequence[Tensor], x: Tensor, y: Tensor) -> Tensor:
        return mse_loss(functional_call(net, dict(zip(names, ps, strict=True)), (x,)), y)

    def after(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor) -> Tensor:
        ps = list(start)
        means, squares = ([torch.zeros_like(p) for p in ps] for _ in range(2))
        for t in range(1, steps + 1):
            gs = torch.autograd.grad(loss(ps, x, y), ps, create_graph=True)
            for i, g in enumerate(gs):
                means[i] = torch.lerp(means[i], g, 1 - 0.9)
                squares[i] = torch.lerp(squares[i], g * g, 1 - 0.999)
                root = (squares[i] / (1 - 0.999**t)).sqrt()
                ps[i] = ps[i] - RATE / (1 - 0.9**t) * means[i] / (root + 1e-8)
        return loss(ps, x_test, y_test)

    def run() -> list[Tensor]:
        total = torch.stack([after(*task) for task in tasks]).mean()
        return list(torch.autograd.grad(total, start))

    return run


def by_unroll(
    tasks: list[Task], steps: int, *, compile: bool = False
) -> Callable[[], list[Tensor]]:
    net = network()

    def loss(params: dict[str, Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
        return mse_loss(functional_call(net, params, (batch[0],)), batch[1])

    step = fo.train_step(loss, fo.adam(RATE))

    def after(params: dict[str, Tensor], task: Task) -> Tensor:
        x, y, x_test, y_test = task
        state, _ = fo.unroll(step, fo.TrainState.start(step.tx, params), [(x, y)] * steps)
        return loss(state.params, (x_test, y_test))

    params, stacked = fo.split_module(net).params, fo.stack(tasks)

    def total(params: dict[str, Tensor]) -> Tensor:
        if len(tasks) == 1:
            return after(params, tasks[0])
        return vmap(after, in_dims=(None, 0))(params, stacked).mean()

    if compile:
        outer = torch.compile(grad(total), fullgraph=True)
        return lambda: list(outer(params).values())
    live = {name: p.requires_grad_() for name, p in params.items()}
    return lambda: list(torch.autograd.grad(total(live), list(live.values())))


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    made.add_argument("--threads", type=int, default=2)
    made.add_argument("--rounds", type=int, default=ROUNDS)
    options = made.parse_args()
    others = machine.Others()
    machine.only_cores(options.threads)
    print(f"{machine.description()}; TorchOpt {torchopt.__version__}\n")
    names = "MetaAdam (ms) | by hand | MetaOptimizer | unroll | unroll, compiled"
    print(f"| tasks | inner steps | {names} |")
    print("|---|---|---|---|---|---|---|")
    for count, steps in ((1, 1), (1, 5), (25, 1), (25, 5)):
        tasks = draw(count)
        compiled = partial(by_unroll, compile=True)
        makers = (by_torchopt, by_hand, by_meta_optimizer, by_unroll, compiled)
        torch.compiler.reset()
        runs = [make(tasks, steps) for make in makers]
        expected = runs[0]()
        for run in runs[1:]:
            for a, b in zip(run(), expected, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
        times: list[list[float]] = [[] for _ in runs]
        for _ in range(options.rounds):
            for column, run in zip(times, runs, strict=True):
                start = time.perf_counter()
                run()
                column.append(1e3 * (time.perf_counter() - start))
        theirs, *ours = map(median, times)
        ratios = " | ".join(f"{time / theirs:.2f}" for time in ours)
        print(f"| {count} | {steps} | {theirs:.2f} | {ratios} |", flush=True)
    print(f"\nOther programs had {others.share():.0%} of the cores.")


if __name__ == "__main__":
    main()
