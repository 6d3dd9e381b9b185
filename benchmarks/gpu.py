"""What only a GPU can tell: time of a step beside the bandwidth of a copy, waits, CUDA graphs.

    python -m benchmarks.gpu table --output docs    # a page with a table, in less than ten minutes
    python -m benchmarks.gpu check                  # every chain for waits; every class as a graph

With ``--device cpu --quick``, both are smoke tests of themselves.
"""

import argparse
import datetime
import functools
import inspect
import math
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

STEPS = 100
SHAPES_OF_CHAINS = {"0.weight": (8, 6), "0.bias": (7,), "1.weight": (1,)}


def check(device: str, quick: bool) -> int:
    """Every chain without a wait; every class captured and replayed to the steps of eager."""
    failed = [*waits(device), *graphs(device, 6 if quick else STEPS)]
    print("\n".join([*failed, f"{len(failed)} failed"]))
    return bool(failed)


def waits(device: str) -> Iterator[str]:
    """The chains of the tests that fail, or wait. Those that look at the loss have to."""
    from tests.cases import CASES

    for case in CASES:
        if case.tx.needs_closure:
            continue
        ps = {k: nn.Parameter(torch.randn(x, device=device)) for k, x in SHAPES_OF_CHAINS.items()}
        try:
            opt = fo.Optimizer(ps.items(), case.tx)
            for k in range(6):
                for p in ps.values():
                    give_gradient(opt.tx, p, torch.randn_like(p))
                _waiting_is(device, "error" if k > 2 else "default")
                opt.step(**given(opt.tx, device))
        except Exception as error:  # whatever it is, it is shown
            yield f"waits: {case}: {type(error).__name__}: {error}"
        finally:
            _waiting_is(device, "default")


def _waiting_is(device: str, mode: str) -> None:
    if device == "cuda":
        torch.cuda.set_sync_debug_mode(mode)


def give_gradient(tx: Any, p: nn.Parameter, g: Tensor) -> None:
    """Sets the gradient of a parameter, or of each example, as a chain takes it."""
    if tx.takes_examples():
        p.grad_sample = torch.stack([g, -0.5 * g])  # type: ignore[attr-defined]
    elif p.grad is None:
        p.grad = g.clone()
    else:
        p.grad.copy_(g)


def given(tx: Any, device: str) -> dict[str, Any]:
    """What `step` has to be given: the loss, where a stage asks for it."""
    asked = "value" in (tx.extra_names() or ())
    return {"value": torch.full((), 0.5, device=device)} if asked else {}


def classes() -> dict[str, Any]:
    """All of `funcopt.optim` that are made of parameters alone."""
    found = {k: x for k, x in vars(fo.optim).items() if inspect.isclass(x)}
    asked = {k: inspect.signature(x).parameters for k, x in found.items()}
    return {k: found[k] for k, own in asked.items() if "capturable" in own and "tx" not in own}


def graphs(device: str, steps: int) -> Iterator[str]:
    """The classes whose steps are not replayed to the same numbers."""
    for name, made in classes().items():
        try:
            gap = replayed(made, device, steps)
            if gap is not None and not gap <= 1e-6:
                yield f"graph: {name}: {gap:.1e} apart after {steps} steps"
        except Exception as error:  # the same
            yield f"graph: {name}: {type(error).__name__}: {error}"


class Captured:
    """A step as a CUDA graph; on other devices, replays call it again."""

    def __init__(self, step: Callable[[], object], device: str) -> None:
        self.replay = step
        if device == "cuda":
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                step()
            self.replay = graph.replay


def replayed(made: Any, device: str, steps: int) -> float | None:
    """How far replays of a captured step, with another rate in each, come from eager steps.

    `None` for a class that evaluates the loss in a step: it decides by what it finds.
    """
    found, counts = [], []
    for captures in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 1)).to(device)
        lr = torch.tensor(1e-3, device=device)
        asked = inspect.signature(made).parameters
        keywords = {"lr": lr} if "lr" in asked else {}
        rate = asked["lr"].default if keywords else 0.0
        rate = rate if isinstance(rate, float) else 1e-3
        engine = "auto" if captures else "eager"
        opt = made(model.named_parameters(), **keywords, capturable=True, engine=engine)
        if opt.tx.needs_closure:
            return None
        ps = list(model.parameters())
        grads = [torch.randn(steps, *p.shape, device=device) for p in ps]
        more = given(opt.tx, device)
        step, captured = functools.partial(opt.step, **more), None
        for k in range(steps):
            lr.fill_(rate / (k + 1))
            for p, g in zip(ps, grads, strict=True):
                give_gradient(opt.tx, p, g[k])
            if captures and k >= 3:
                captured = captured or Captured(step, device)
                captured.replay()
            else:
                _beside(device, step)
        counts.append([float(opt.state[p].get("step", steps)) for p in ps])
        found.append(torch.cat([p.detach().flatten() for p in ps]))
    if counts[0] != counts[1]:
        return math.inf
    return ((found[0] - found[1]).abs().max() / found[0].abs().max()).item()


def _beside(device: str, step: Callable[[], object]) -> None:
    """A step on another stream, as it has to be before a capture."""
    if device != "cuda":
        step()
        return
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)


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
        return check(options.device, options.quick)
    return table(options.device, options.quick, options.output)


if __name__ == "__main__":
    sys.exit(main())
