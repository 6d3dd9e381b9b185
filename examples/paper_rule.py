"""A rule from a paper: laws, experiment and benchmark.

ADOPT is Adam in another order: it divides by the second moment of the steps *before*, so that the
two are independent, and converges for any `beta2` where Adam may not. What the paper shows on a toy
problem is shown here by one `fo.sweep`, with 20 seeds for every `beta2`. The second version, which
clips, is `fo.scale_by_adopt`.
Taniguchi et al., NeurIPS 2024, https://arxiv.org/abs/2411.02853
"""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from matplotlib.cm import viridis
from matplotlib.figure import Figure
from torch import Tensor, nn

import funcopt as fo

BLUE, GREY = "#0072b2", "0.6"
BETA2 = [0.1, 0.5, 0.9, 0.99, 0.999]


# %%
# Algorithm 1 of the paper, for one tensor: `s` has the hyperparameters, and what `prepare` makes of
# them for a step. The first step only measures. The root is that of a clamped square, for the root
# of 0 has no derivative: `check_transformation` would say so.
class AdoptSlots(NamedTuple):
    exp_avg: Tensor
    exp_avg_sq: Tensor


class adopt_rule(fo.TensorRule):
    betas: tuple[fo.Scalar, fo.Scalar] = (0.9, 0.9999)
    eps: fo.Scalar = 1e-6
    elementwise = True

    def init_tensor(self, p):
        return AdoptSlots(torch.zeros_like(p), torch.zeros_like(p))

    def prepare(self: Any, step, memory):
        moves, weight = fo.select(step == 1, (0.0, 1.0), (1.0, 1 - self.betas[1]))
        return {"moves": moves, "weight": weight}

    def update_tensor(self, g, slots, p, s):
        size = slots.exp_avg_sq.clamp(min=s.eps**2).sqrt()
        mean = torch.lerp(slots.exp_avg, s.moves * g / size, 1 - s.betas[0])
        return mean, AdoptSlots(mean, torch.lerp(slots.exp_avg_sq, g * g, s.weight))


# %%
# The paper's experiment: the loss is k^2 x with a chance of 1 / k and -k x otherwise, so it is x on
# average, and a good optimizer walks down. `value` is x, with the derivative of the drawn loss.
def value(x: Tensor, slope: Tensor) -> Tensor:
    return x.detach() + slope * (x - x.detach())


def walks(
    make: Callable[[fo.Scalar], fo.GradientTransformation], seeds: int, steps: int, k: int = 10
) -> Tensor:
    """The point x at every step, as (beta2, seed, step)."""

    def slopes(seed: int) -> Tensor:
        rare = torch.rand(steps, generator=torch.Generator().manual_seed(seed)) < 1 / k
        return torch.where(rare, float(k**2), -float(k))

    found = fo.sweep(
        value, make, {"beta2": BETA2}, torch.zeros(()), slopes, seeds=range(seeds), progress=False
    )
    return found.losses.reshape(len(BETA2), seeds, steps)


# %%
# The benchmark: the rule runs as one fused pass over memory, like those of the library.
def seconds(entries: int, repeats: int) -> dict[str, float]:
    """The median time of a step on four tensors, taken in turns."""

    def params() -> list[nn.Parameter]:
        return [nn.Parameter(torch.randn(entries // 4)) for _ in range(4)]

    tx = fo.chain(adopt_rule(), fo.scale_by_learning_rate(1e-3))
    optimizers = {
        "torch.optim.Adam": torch.optim.Adam(params()),
        "torch.optim.Adam, fused": torch.optim.Adam(params(), fused=True),
        "ADOPT, eager": fo.Optimizer(params(), tx, engine="eager"),
        "ADOPT": fo.Optimizer(params(), tx),
    }
    for opt in optimizers.values():
        for p in opt.param_groups[0]["params"]:
            p.grad = torch.randn_like(p)
    times: dict[str, list[float]] = {name: [] for name in optimizers}
    for _ in range(repeats):
        for name, opt in optimizers.items():
            start = time.perf_counter()
            opt.step()
            times[name].append(time.perf_counter() - start)
    return {name: median(values[repeats // 3 :]) for name, values in times.items()}


def main(seeds: int = 20, steps: int = 3000, entries: int = 2**21) -> dict[str, Tensor]:
    """Where every walk is, by optimizer, as (beta2, seed, step)."""
    fo.testing.check_transformation(adopt_rule(), {"w": torch.randn(3, 2), "b": torch.randn(())})
    print("keeps the laws:", adopt_rule())

    def rate(step: float) -> float:
        return 0.01 / (1 + 0.01 * step) ** 0.5

    def adopt(beta2: fo.Scalar) -> fo.GradientTransformation:
        return fo.chain(adopt_rule((0.9, beta2)), fo.scale_by_learning_rate(rate))

    def adam(beta2: fo.Scalar) -> fo.GradientTransformation:
        return fo.adam(rate, betas=(0.9, beta2))

    found = {name: walks(make, seeds, steps) for name, make in (("Adam", adam), ("ADOPT", adopt))}
    for name, x in found.items():
        ends = ", ".join(
            f"{b}: {end:.2f}" for b, end in zip(BETA2, x[:, :, -1].mean(1), strict=True)
        )
        print(f"{name:5} ends, by beta2, at {ends}")
    times = seconds(entries, 30)
    draw(found, times, entries, Path("out/paper_rule.png"))
    return found


def draw(found: dict[str, Tensor], times: dict[str, float], entries: int, path: Path) -> None:
    figure = Figure(figsize=(12, 4), layout="constrained")
    *walked, right = figure.subplots(1, 3)
    low = min(x.mean(1).min().item() for x in found.values())
    high = max(x.mean(1).max().item() for x in found.values())
    for ax, (name, x) in zip(walked, found.items(), strict=True):
        for beta2, each, shade in zip(BETA2, x, torch.linspace(0.1, 0.9, len(BETA2)), strict=True):
            ax.plot(each.mean(0), color=viridis(shade.item()), label=f"{beta2}")
        ax.set(xlabel="step", ylabel="x: down is right", title=name, ylim=(low - 0.1, high + 0.1))
        ax.grid(alpha=0.3)
    walked[0].legend(title="beta2", fontsize=8)
    colors = [BLUE if name.startswith("ADOPT") else GREY for name in times]
    right.barh(list(times), [1000 * t for t in times.values()], color=colors)
    right.invert_yaxis()
    right.set(xlabel="milliseconds", title=f"a step on {entries:,} entries")
    right.grid(alpha=0.3, axis="x")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
