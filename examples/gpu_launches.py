"""Launches and bytes of a step on a GPU, counted without one.

A small model spends its step on launching kernels, a large one on moving bytes. Both can be counted
on the device "meta", whose tensors have shapes and no values: a mode sees every function that a
step calls. By functions of lists, a launch is for many tensors, and every operation goes through
memory; where Triton is installed, a chain is one kernel for each pass over memory.
Tillet et al., 2019, on Triton: https://doi.org/10.1145/3315508.3329973
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

import funcopt as fo

CHAINS = {
    "Lion": fo.lion(1e-4),
    "AdamW": fo.adamw(1e-3),
    "clip + AdamW": fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(1e-3)),
    "clip + AdamW + EMA": fo.chain(
        fo.clip_by_global_norm(1.0), fo.adamw(1e-3), fo.ema_of_params(0.999)
    ),
}

# %%
# Kernels of Triton are not functions of torch, so this mode does not see them. Of these chains,
# they launch so many, and move so many bytes for each parameter in float32, whatever the number of
# tensors: every gradient, parameter and slot is read once in each pass, and written once.
BY_TRITON = {
    "Lion": (1, 20),
    "AdamW": (1, 28),
    "clip + AdamW": (3, 32),
    "clip + AdamW + EMA": (3, 40),
}

# %%
# Views, and questions about shapes, launch nothing.
NAMES = (
    "__get__ __set__ as_strided data_ptr detach dim element_size empty empty_like is_complex "
    "is_contiguous is_floating_point is_neg numel requires_grad_ reshape select size stride type "
    "unbind unsqueeze untyped_storage view view_as"
)
FREE = frozenset(NAMES.split(" "))


class Counted(TorchFunctionMode):
    """Counts the functions of tensors that a step calls, and the bytes that they move."""

    def __init__(self) -> None:
        super().__init__()
        self.launches, self.bytes = 0, 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        given = [x for x in tree_leaves((args, kwargs or {})) if isinstance(x, Tensor)]
        made = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        name, known = getattr(func, "__name__", ""), {id(x) for x in given}
        returned = name == "to" and id(out) in known  # as it is, where it has that dtype
        if name not in FREE and any(x.is_meta for x in (*given, *made)) and not returned:
            self.launches += 1
            self.bytes += sum(x.nbytes for x in given if x.is_meta)
            self.bytes += sum(x.nbytes for x in made if id(x) not in known)
        return out


def counted(tx: fo.GradientTransformation, engine: Any, tensors: int) -> tuple[int, float]:
    """Launches of a step, and bytes for each parameter."""
    params = [nn.Parameter(torch.empty(256, 256, device="meta")) for _ in range(tensors)]
    opt = fo.Optimizer(params, tx, engine=engine)
    for p in params:
        p.grad = torch.empty_like(p)
    opt.step()  # which makes the state and the plan of further steps
    opt.step()
    with Counted() as mode:
        opt.step()
    return mode.launches, mode.bytes / sum(p.numel() for p in params)


def main(tensors: int = 148) -> dict[str, dict[str, tuple[float, float]]]:
    """Launches, and bytes for each parameter, of each chain by each way."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for name, tx in CHAINS.items():
        found[name] = {
            "one by one": counted(tx, "eager", tensors),
            "lists": counted(tx, "foreach", tensors),
            "Triton": BY_TRITON[name],
        }
        said = (f"{way} {n} launches, {b:.0f} bytes" for way, (n, b) in found[name].items())
        print(f"{name:18} {'; '.join(said)}")
    draw(found, Path("out/gpu_launches.png"))
    return found


def draw(found: dict[str, dict[str, tuple[float, float]]], path: Path) -> None:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    ways = ("one by one", "lists", "Triton")
    for k, (axis, label) in enumerate(
        zip(axes, ("launches in a step", "bytes moved for each parameter"), strict=True)
    ):
        for j, (way, color) in enumerate(zip(ways, ("0.7", "#0072b2", "#d55e00"), strict=True)):
            places = [i + 0.27 * (j - 1) for i in range(len(found))]
            values = [own[way][k] for own in found.values()]
            axis.barh(places, values, height=0.25, color=color, label=way)
        axis.set(xlabel=label, yticks=range(len(found)), yticklabels=list(found))
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_xscale("log")
    axes[0].invert_yaxis()
    axes[1].legend(loc="upper right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Launches and bytes of a step on a GPU.")
    parser.add_argument("--tensors", type=int, default=148)
    main(parser.parse_args().tensors)
