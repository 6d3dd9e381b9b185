"""What only a GPU can tell: time of a step beside the bandwidth of a copy, waits, CUDA graphs.

    python -m benchmarks.gpu table --output docs    # a page with a table, in less than ten minutes
    python -m benchmarks.gpu check                  # every chain for waits; every class as a graph

With ``--device cpu --quick``, the first is a smoke test of itself.
"""

import argparse
import datetime
import inspect
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import funcopt as fo

from . import machine
from .problems import SHAPES, small_gpt, smaller

PROBLEMS = {
    "GPT-2 124M": small_gpt(width=768, words=50257),
    "1,000 x 64": SHAPES["1,000 x 64"],
    "1 x 1G": ((1_000_000_000,),),
}
LARGEST = 2e8
"""More entries are stepped by chains of few slots only: memory for the others may not be there."""


class Softened(NamedTuple):
    mean: Tensor


class softened(fo.TensorRule):
    """A custom rule, which knows nothing of kernels."""

    decay: fo.Scalar = 0.9
    elementwise = True

    def init_tensor(self, p: Tensor) -> Softened:
        return Softened(torch.zeros_like(p))

    def update_tensor(self, g: Tensor, slots: Any, p: Tensor, s: Any) -> tuple[Tensor, Softened]:
        mean = torch.lerp(g, slots.mean, s.decay)
        return torch.tanh(mean) / (mean.abs().sqrt() + 1e-3), Softened(mean)


class Entry(NamedTuple):
    """A chain, and who else makes the same steps, each from a list of parameters."""

    tx: fo.GradientTransformation
    reads: int  # tensors that are read or written: gradient, parameter twice, slots twice, ...
    rivals: Mapping[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = MappingProxyType(
        {}
    )
    matrices: bool = False


ENTRIES = {
    "AdamW": Entry(
        fo.adamw(1e-3),
        7,
        {
            "torch, fused": lambda ps: torch.optim.AdamW(ps, fused=True),
            "torch, foreach": lambda ps: torch.optim.AdamW(ps, foreach=True),
            "torch, fused, capturable": lambda ps: torch.optim.AdamW(
                ps, fused=True, capturable=ps[0].is_cuda
            ),
        },
    ),
    "Lion": Entry(fo.lion(1e-4), 5),
    "clip + AdamW + EMA": Entry(
        fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(1e-3), fo.ema_of_params(0.999)), 10
    ),
    "LAMB": Entry(fo.lamb(1e-3), 11),
    "Muon": Entry(fo.muon(1e-3, labels="muon"), 0, matrices=True),
    "SOAP": Entry(fo.soap(1e-3), 0, matrices=True),
    "custom rule": Entry(fo.chain(softened(), fo.scale(-1e-3)), 5),
}


def rivals_installed(entry: str) -> dict[str, Any]:
    """Those of other packages, where these are there."""
    found: dict[str, Any] = {}
    if entry in ("AdamW", "Lion", "Muon", "SOAP"):
        try:
            import heavyball

            found["heavyball"] = getattr(heavyball, f"Foreach{entry}", None)
        except ImportError:
            pass
        try:
            import optimi

            made = getattr(optimi, entry, None)
            found["optimi, triton"] = made and (lambda ps: made(ps, lr=1e-3, triton=True))
        except ImportError:
            pass
    return {name: make for name, make in found.items() if make is not None}


def stepped(make: Callable[[list[nn.Parameter]], Any], ps: list[Tensor]) -> tuple[Any, list[Any]]:
    """An optimizer of parameters with gradients, and these."""
    params = [nn.Parameter(p.clone()) for p in ps]
    for p in params:
        p.grad = torch.full_like(p, 1e-2)
    return make(params), params


def timed(step: Callable[[], object], device: str, rounds: int) -> tuple[float, float]:
    """Seconds of a step on the device and, until the call returns, of the host: medians."""
    for _ in range(5):
        step()
    if device == "cpu":
        times = [_elapsed(step) for _ in range(rounds)]
        return sorted(times)[rounds // 2], sorted(times)[rounds // 2]
    torch.cuda.synchronize()
    host, marks = [], []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        host.append(_elapsed(step))
        end.record()
        marks.append((begin, end))
    torch.cuda.synchronize()
    on_device = sorted(begin.elapsed_time(end) / 1e3 for begin, end in marks)
    return on_device[rounds // 2], sorted(host)[rounds // 2]


def _elapsed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def lines(device: str, quick: bool, copy: float) -> Iterator[list[str]]:
    """The rows of the table."""
    for name, shapes in PROBLEMS.items():
        for dtype in (torch.float32, torch.bfloat16):
            shapes = smaller(shapes) if quick else shapes
            ps = [torch.randn(shape, device=device, dtype=dtype) * 0.02 for shape in shapes]
            for chain, entry in ENTRIES.items():
                mine = [p for p in ps if p.dim() == 2 and len(p) < 10_000] if entry.matrices else ps
                entries = sum(p.numel() for p in mine)
                if not mine or (entries > LARGEST and entry.reads != 5):
                    continue
                ours = {
                    f"funcopt, {engine}": lambda ps, tx=entry.tx, engine=engine: fo.Optimizer(
                        ps, tx, engine=engine
                    )
                    for engine in ("auto", "fused", "foreach")
                }
                for who, make in {**ours, **entry.rivals, **rivals_installed(chain)}.items():
                    try:
                        opt, _ = stepped(make, mine)
                        seconds, host = timed(opt.step, device, 5 if quick else 20)
                    except Exception as error:  # of anybody, on any device
                        yield [name, str(dtype)[6:], chain, who, f"{type(error).__name__}"]
                        continue
                    moved = entry.reads * dtype.itemsize * entries / seconds
                    engine = getattr(opt, "engine", "")
                    yield [
                        name,
                        str(dtype)[6:],
                        chain,
                        f"{who}: {engine}" if who == "funcopt, auto" else who,
                        f"{1e3 * seconds:.3f}",
                        f"{1e3 * host:.3f}",
                        f"{moved / 1e12:.2f}" if entry.reads else "",
                        f"{moved / copy:.0%}" if entry.reads else "",
                    ]
                    del opt


HEAD = ["parameters", "dtype", "chain", "who", "ms", "ms, host", "TB/s", "of a copy"]


def table(device: str, quick: bool, output: Path | None) -> int:
    """Measures, prints, and writes the page."""
    copy = machine.bandwidth(device)
    found = [HEAD, ["---"] * len(HEAD)]
    for line in lines(device, quick, copy):
        print(" | ".join(line), flush=True)
        found.append([*line, *[""] * (len(HEAD) - len(line))])
    if output is not None:
        rows = "\n".join("| " + " | ".join(line) + " |" for line in found)
        where = f"{machine.description(device)}; a copy moves {copy / 1e12:.2f} TB/s"
        date = datetime.datetime.now(tz=datetime.UTC).date()
        output.mkdir(exist_ok=True)
        path = output / "performance_gpu.md"
        path.write_text(f"# On a GPU\n\n{date}; {where}.\n\n{rows}\n")
        print(path)
    return 0


# Waits, and CUDA graphs.


def check() -> int:
    """Every chain without a wait; every class captured and replayed to the steps of eager."""
    from tests.cases import CASES

    failed = []
    for case in CASES:
        ps = [nn.Parameter(torch.randn(shape, device="cuda")) for shape in ((8, 6), (7,), (1,))]
        try:
            opt = fo.Optimizer(ps, case.tx)
            for k in range(4):
                for p in ps:
                    p.grad = torch.randn_like(p)
                torch.cuda.set_sync_debug_mode("error" if k == 3 else "default")
                opt.step()
        except Exception as error:  # whatever it is, it is shown
            failed.append(f"waits: {case}: {type(error).__name__}: {error}")
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for name, made in vars(fo.optim).items():
        if inspect.isclass(made) and "capturable" in inspect.signature(made).parameters:
            try:
                gap = replayed(made)
                if not gap <= 1e-6:
                    failed.append(f"graph: {name}: {gap:.1e} apart after 100 steps")
            except Exception as error:  # the same
                failed.append(f"graph: {name}: {type(error).__name__}: {error}")
    print("\n".join([*failed, f"{len(failed)} failed"]))
    return bool(failed)


def replayed(made: Any, steps: int = 100) -> float:
    """How far replays of a captured step, with another rate in each, come from eager steps."""
    found = []
    for captured in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 1)).cuda()
        lr = torch.tensor(1e-3, device="cuda")
        keywords = {"lr": lr, "capturable": True, "engine": "auto" if captured else "eager"}
        opt = made(model.named_parameters(), **keywords)
        ps = list(model.parameters())
        grads = [torch.randn(steps, *p.shape, device="cuda") for p in ps]
        for p in ps:
            p.grad = torch.zeros_like(p)
        graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        for k in range(steps):
            lr.fill_(1e-3 / (k + 1))
            for p, g in zip(ps, grads, strict=True):
                p.grad.copy_(g[k])
            if not captured or k < 3:
                side.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(side):
                    opt.step()
                torch.cuda.current_stream().wait_stream(side)
                continue
            if k == 3:
                with torch.cuda.graph(graph):
                    opt.step()
            graph.replay()
        found.append(torch.cat([p.detach().flatten() for p in ps]))
    return ((found[0] - found[1]).abs().max() / found[0].abs().max()).item()


def main() -> int:
    made = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    made.add_argument("what", choices=["table", "check"])
    made.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    made.add_argument("--quick", action="store_true", help="on smaller tensors: no result")
    made.add_argument("--output", type=Path, help="a folder for the page (default: none)")
    options = made.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("No CUDA device here, and this needs one.")
        return 1
    if options.what == "check":
        return check()
    return table(options.device, options.quick, options.output)


if __name__ == "__main__":
    sys.exit(main())
