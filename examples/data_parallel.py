"""Distributed training with torchrun and FSDP2.

    torchrun --nproc-per-node 2 examples/data_parallel.py

FSDP2 cuts every parameter, its gradient and its optimizer state into one part for each process.
The chain is that of one process: a global clip, whose norm spans all parts, and Muon, which needs
whole matrices, give the same numbers on one process and on many. Started by `python`, the script
trains on one process, then starts `torchrun` with two, and compares.
Zhao et al., 2023, https://arxiv.org/abs/2304.11277
"""

import os
import subprocess
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy

import funcopt as fo

BLUE, GREY = "#0072b2", "0.6"


# %%
# Each process takes its part of every batch; FSDP2 averages their gradients. Nothing else depends
# on how many processes there are.
def train(steps: int) -> dict[str, list[float]]:
    """The loss at every step, and the bytes that this process keeps at the end."""
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    pixels, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )
    if world > 1:
        fully_shard(model, mesh=init_device_mesh("cpu", (world,)))
    tx = fo.chain(fo.clip_by_global_norm(1.0), fo.muon(0.02, adamw_lr=3e-3, ns_dtype=torch.float32))
    opt = fo.Optimizer(model.named_parameters(), tx)
    losses = []
    for i in torch.randint(1500, (steps, 64), generator=torch.Generator().manual_seed(0)):
        mine = i[rank::world]
        opt.zero_grad()
        loss = cross_entropy(model(x[mine]), y[mine])
        loss.backward()
        opt.step()
        losses.append(loss.detach())
    mean = torch.stack(losses)
    if world > 1:
        dist.all_reduce(mean)
    kept = [*model.parameters(), *(t for state in opt.state.values() for t in state.values())]
    local = [t.to_local() if hasattr(t, "to_local") else t for t in kept]
    return {
        "loss": (mean / world).tolist(),
        "bytes": [float(sum(t.numel() * t.element_size() for t in local))],
    }


# %%
# What `torchrun` starts: every process joins the group, trains, and the first one saves.
def work(steps: int = 60, path: str = "out/data_parallel.pt") -> None:
    dist.init_process_group("gloo")
    found = train(steps)
    if dist.get_rank() == 0:
        Path(path).parent.mkdir(exist_ok=True)
        torch.save(found, path)
    dist.barrier()  # all leave together, with nothing left to send
    dist.destroy_process_group()


def main(steps: int = 60) -> dict[str, dict[str, list[float]]]:
    """Trains on one process and on two; returns losses and bytes of both."""
    path = "out/data_parallel.pt"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    subprocess.run(
        [*torchrun, "--nproc-per-node", "2", __file__, str(steps), path],
        check=True,
        env={"OMP_NUM_THREADS": "1", **os.environ},
    )
    found = {"one process": train(steps), "two processes": torch.load(path)}
    one, two = found.values()
    gap = max(abs(a - b) for a, b in zip(one["loss"], two["loss"], strict=True))
    print(f"last loss: {one['loss'][-1]:.4f} on one process, {two['loss'][-1]:.4f} on two")
    print(f"largest difference of a loss on the way: {gap:.1e}")
    print(f"kept by each process: {one['bytes'][0]:,.0f} and {two['bytes'][0]:,.0f} bytes")
    draw(found, Path("out/data_parallel.png"))
    return found


def draw(found: dict[str, dict[str, list[float]]], path: Path) -> None:
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    one, two = found.values()
    left.plot(one["loss"], color=GREY, linewidth=4, label="one process")
    left.plot(two["loss"], color=BLUE, linewidth=1.2, label="two processes, FSDP2")
    left.set(xlabel="step", ylabel="loss", title="clip and Muon on whole and on sharded parameters")
    left.legend()
    left.grid(alpha=0.3)
    right.bar(list(found), [f["bytes"][0] / 2**10 for f in found.values()], color=[GREY, BLUE])
    right.set(ylabel="KiB", title="parameters and optimizer state of a process")
    right.grid(alpha=0.3, axis="y")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    if "RANK" in os.environ:
        work(int(sys.argv[1]), sys.argv[2]) if len(sys.argv) > 2 else work()
        os._exit(0)  # FSDP2 keeps gloo's threads, which may abort an interpreter that shuts down
    else:
        main()
