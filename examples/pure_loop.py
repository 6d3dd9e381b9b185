"""The functional training loop.

Parameters and optimizer state are plain trees of tensors: they go into `update` and come out of it,
and nothing is changed in place. So the loop can be compiled, mapped by `torch.func.vmap`, and
differentiated by `torch.func.grad`.
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure

import funcopt as fo

Point = dict[str, torch.Tensor]


def rosenbrock(point: Point) -> torch.Tensor:
    """A curved valley; its minimum is at (1, 1)."""
    x, y = point["x"], point["y"]
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def main(steps: int = 500) -> float:
    """Walks to the minimum, and returns the value there."""
    params = {"x": torch.tensor(-1.0), "y": torch.tensor(1.0)}
    tx = fo.chain(
        fo.clip_by_global_norm(1.0),
        fo.scale_by_adam(betas=(0.9, 0.99)),
        fo.scale_by_learning_rate(fo.cosine_decay_schedule(0.3, steps)),
    )
    state, path = tx.init(params), [params]
    for _ in range(steps):
        grads = torch.func.grad(rosenbrock)(params)
        updates, state = tx.update(grads, state, params)
        params = fo.apply_updates(params, updates)
        path.append(params)
    print(f"x = {params['x']:.3f}, y = {params['y']:.3f} (the minimum is at 1, 1)")
    draw(path, Path("out/pure_loop.png"))
    return rosenbrock(params).item()


def draw(points: list[Point], path: Path) -> None:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    ax = figure.subplots()
    x, y = torch.meshgrid(
        torch.linspace(-1.5, 1.5, 200), torch.linspace(-0.6, 1.8, 200), indexing="xy"
    )
    ax.contourf(x, y, rosenbrock({"x": x, "y": y}).log10(), levels=20, cmap="Blues_r")
    way = fo.stack(points)
    ax.plot(way["x"], way["y"], ".-", color="#d55e00", markersize=3, linewidth=1)
    ax.plot(1, 1, "*", color="k", markersize=12)
    ax.set(
        xlabel="x",
        ylabel="y",
        title="Rosenbrock's function (logarithm), and the way to its minimum",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
