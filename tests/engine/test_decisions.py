"""What decides in every step is traced once for each way, and goes that way again."""

import logging

import pytest
import torch

import funcopt as fo
from funcopt._core import select, stage
from funcopt.combinators._accumulate import accumulate

from .common import Run, gap, gradients, parameters, watched

INNER = fo.chain(fo.clip_by_global_norm(0.5), fo.adamw(fo.linear_schedule(0.1, 0.02, 20)))
CHAINS = {
    "skip": (fo.skip_if(INNER), 2),
    "accumulate": (fo.accumulate(INNER, 4), 2),
    "lookahead": (fo.lookahead(INNER, sync_period=3), 2),
    "skip in accumulate": (fo.accumulate(fo.skip_if(INNER), 2), 3),
    "accumulate in skip": (fo.skip_if(fo.accumulate(INNER, 3)), 3),
    "lookahead in a partition": (
        fo.partition({"one": fo.lookahead(INNER, 2), "rest": fo.accumulate(INNER, 3)},
                     {k: "one" if k in "ab" else "rest" for k in "abcdef"}),
        4,
    ),
}  # fmt: skip
"""Each with the ways that there are through it."""

SPOILED = (7, 8, 15)


def both(tx, steps=26):
    runs = [Run(tx, how, parameters()) for how in ("eager", "fused")]
    for t in range(steps):
        for run in runs:
            grads = gradients(run.params, t)
            if t in SPOILED:
                grads["c"][2] = torch.nan
            run.step(grads)
    return runs


@pytest.mark.parametrize("name", CHAINS)
def test_each_way_is_traced_once(name, traces):
    tx, ways = CHAINS[name]
    eager, fused = both(tx)
    assert fused.engine.name == "fused"
    assert len(traces) == ways
    pairs = zip(eager.tensors(), fused.tensors(), strict=True)
    assert all(torch.equal(x.isnan(), y.isnan()) for x, y in pairs)
    assert gap(*([x.nan_to_num() for x in run.tensors()] for run in (eager, fused))) <= 1e-12


@pytest.mark.parametrize("name", ["skip", "accumulate", "lookahead"])
def test_out_of_place_too(name, traces):
    tx, ways = CHAINS[name]
    runs = {}
    for engine in ("eager", "fused"):
        params, state = parameters(), tx.init(parameters())
        with fo.pure_engine(engine):
            for t in range(13):
                grads = gradients(params, t)
                if t in SPOILED:
                    grads["c"][2] = torch.nan
                updates, state = tx.update(grads, state, params)
                params = fo.apply_updates(params, updates)
        runs[engine] = fo.tree.leaves((params, state))
    assert len(traces) == ways + 1  # of `apply_updates`
    found = ([x.nan_to_num() for x in runs[engine]] for engine in runs)
    assert gap(*found) <= 1e-12


def test_numbers_of_a_branch_stay_live(traces):
    """The share that a sync keeps is read when it is made, not when it was traced."""
    runs = []
    for engine in ("eager", "fused"):
        p = torch.nn.Parameter(torch.linspace(-1, 1, 5, dtype=torch.float64))
        opt = fo.Optimizer([p], fo.lookahead(fo.sgd(0.1), sync_period=2), engine=engine)
        for t in range(12):
            opt.param_groups[0]["slow_step_size"] = 0.5 - 0.03 * t
            p.grad = p.detach().sin() + t
            opt.step()
        runs.append(p.detach())
    assert gap([runs[0]], [runs[1]]) <= 1e-14
    assert len(traces) <= 4  # the first step makes the state, and is traced for itself


class curious(accumulate):
    """Looks at more of its tensors than may be seen."""

    def run(self, gs, slots, ps, node, reduce):
        assert all(g.dtype.is_floating_point for g in gs)
        return super().run(gs, slots, ps, node, reduce)

    decides = True


def test_who_looks_at_tensors_is_traced_in_every_step(traces, caplog):
    with caplog.at_level(logging.INFO, "funcopt"):
        eager, fused = both(curious(fo.sgd(0.1), 2), steps=7)
    assert len(traces) == 7
    assert gap(*([x.nan_to_num() for x in run.tensors()] for run in (eager, fused))) <= 1e-12
    lines = [r.getMessage() for r in caplog.records if "in every step" in r.getMessage()]
    assert lines == [
        "curious is traced in every step: `dtype` of a tensor, in a stage that decides"
    ]


@pytest.mark.parametrize("inner", [fo.adafactor(1e-2), fo.soap(1e-2)], ids=str)
def test_a_flag_that_is_not_read_chooses_slots_of_any_shape_out_of_place_too(inner, monkeypatch):
    """As on a device. Such slots are written by no kernel."""
    for module in (select, stage):
        monkeypatch.setattr(module, "number", lambda x: x)
    tx, found = fo.skip_if(inner, fo.norm_outlier(warmup=1)), []
    for engine in ("eager", "fused"):
        values = parameters()
        state = tx.init(values)
        for t in range(6):
            grads = {k: g * (1e3 if t == 4 else 1.0) for k, g in gradients(values, t).items()}
            with watched(engine) as made:
                updates, state = tx.update(grads, state, values)
            assert made == [engine == "fused"]
            values = fo.apply_updates(values, updates)
        assert 0 < state.memory.skipped < 6
        found.append([*values.values(), *fo.tree.leaves(state)])
    assert gap(*found) <= 1e-12
