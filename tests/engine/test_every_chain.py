"""Every transformation makes the same steps by kernels as it makes operation by operation."""

import pytest
import torch

import funcopt as fo
from funcopt import adamw, chain, clip_by_global_norm
from funcopt._core.vector_rule import VectorRule
from funcopt.combinators import walk

from ..cases import CASES
from .as_on_cuda import AsOnCuda
from .common import Run, gap, parameters

STEPS = 7
CASES = [
    case
    for case in CASES
    if case.tx.is_per_tensor()
    and not case.tx.takes_examples()
    and "value_fn" not in case.tx.extra_names()
]

every_case = pytest.mark.parametrize("case", CASES, ids=str)


def has_to_run_as_it_is(tx):
    """A rule draws by place, makes new tensors while it runs, or sees whole trees."""
    return any(
        (isinstance(node, fo.TensorRule) and node.random)
        or getattr(node, "reset", False)
        or isinstance(node, VectorRule | fo.low_rank)
        for _, node in walk(tx)
    )


@pytest.mark.parametrize("how", ["fused", "foreach"])
@every_case
def test_kernels_make_the_steps_of_the_eager_engine(case, how):
    runs = [Run(case.tx, one, parameters(), case.extra) for one in ("eager", how)]
    for _ in range(STEPS):
        for run in runs:
            run.step()
    eager, fused = (run.tensors() for run in runs)
    size = max((x.abs().max().item() for x in eager if x.numel()), default=1.0)
    assert gap(eager, fused) <= 1e-12 * max(1.0, size), "some chains let entries grow to 1e38"
    assert runs[1].engine.name == how or has_to_run_as_it_is(case.tx)


on_a_device = pytest.mark.parametrize(
    "case",
    [case for case in CASES if not any(isinstance(node, VectorRule) for _, node in walk(case.tx))],
    ids=str,
)
"""Those that look at the loss have to wait."""


@on_a_device
def test_on_a_device_nothing_is_waited_for(case):
    """Tensors on "meta" have no values: who asks for one gets an error."""
    params = {k: p.to("meta") for k, p in parameters().items()}
    run = Run(case.tx, "auto", params, case.extra)
    with AsOnCuda() as mode:
        for _ in range(3):
            run.step({k: torch.empty_like(p) for k, p in params.items()})
    made = run.engine.name == "foreach" or case.tx in NOTHING
    assert made is not has_to_run_as_it_is(case.tx)
    assert not mode.waits


NOTHING = (fo.set_to_zero(), fo.masked(fo.set_to_zero(), True))
"""Chains that write nothing, and have no kernels."""


def test_a_flag_is_no_constant_of_a_trace():
    """What is made of it in one step does not hold in the next."""
    held = {}

    class closes(fo.TensorRule):
        elementwise = True

        def update_tensor(self, g, slots, p, s):
            return torch.where(held["flag"], g, -2.0 * g), slots

    runs = [Run(chain(closes(), fo.sgd(0.1)), how, parameters()) for how in ("eager", "fused")]
    for t in range(4):
        held["flag"] = torch.tensor(t % 2 == 0)
        for run in runs:
            run.step()
    assert gap(*(run.tensors() for run in runs)) == 0
    assert runs[1].engine.name == "eager"


@pytest.mark.filterwarnings("ignore:(?s).*does not negate the updates")
@on_a_device
def test_with_clocks_on_the_device_neither(case):
    params = [torch.nn.Parameter(p.to("meta")) for p in parameters().values()]
    opt = fo.Optimizer(zip(parameters(), params, strict=True), case.tx, capturable=True)

    def step():
        for p in params:
            p.grad = torch.empty_like(p)
        opt.step(**case.extra)

    step()  # which makes the state
    with AsOnCuda() as mode:
        for _ in range(3):
            step()
    assert not mode.waits


@pytest.mark.parametrize(
    ("work", "waits"),
    [
        (lambda x, s: torch.where(x > 0, s, s), 1),
        (lambda x, s: torch.where(x > 0, x, 1.0), 0),
        (lambda x, s: s.to(x.device), 1),
        (lambda x, s: s.to(x.device, non_blocking=True), 0),
        (lambda x, s: torch.tensor([1.0], device=x.device), 1),
        (lambda x, s: torch.full((), 1.0, device=x.device), 0),
        (lambda x, s: x[[0, 1]], 1),
        (lambda x, s: x * s, 0),
    ],
)
def test_what_the_mode_sees(work, waits):
    x, scalar = torch.empty(3, device="meta"), torch.tensor(2.0)
    with AsOnCuda() as mode:
        work(x, scalar)
    assert sum(mode.waits.values()) == waits
    with AsOnCuda(), pytest.raises(RuntimeError, match="same device"):
        x.clamp(min=scalar)


CPU = [torch.profiler.ProfilerActivity.CPU]


def launches(tensors):
    """How many functions of lists a step on a device calls, and how many of one tensor."""
    params = {str(i): torch.empty(3, device="meta") for i in range(tensors)}
    grads = {k: torch.empty_like(p) for k, p in params.items()}
    run = Run(chain(clip_by_global_norm(1.0), adamw(1e-3)), "auto", params)
    for _ in range(2):
        run.step(grads)
    with torch.profiler.profile(activities=CPU, acc_events=True) as profile:
        run.step(grads)
    return {e.key: e.count for e in profile.key_averages() if "_foreach_" in e.key}


def test_on_a_device_many_tensors_are_one_launch():
    assert launches(2) == launches(30)
    assert sum(launches(2).values()) <= 20
