"""Every combinator in every other: what it is in the pure form, under `vmap`, and wrapped."""

import pytest
import torch

import funcopt as fo
from funcopt.errors import HyperparameterError, StructureError

from .common import START, purely, resumes, same, same_bits, values, wrapped
from .nestings import AROUND, REFUSED, ROWS, gradients

each = pytest.mark.parametrize("row", ROWS, ids=str)
STEPS = 6


@each
def test_the_optimizer_does_as_the_pure_form(row):
    tx, grads = row.make(), gradients(row)
    params, state = purely(tx, STEPS, grads_at=grads)
    mine, opt = wrapped(tx, STEPS, grads_at=grads)
    assert same(values(mine), params, 1e-15)
    assert all(p.isfinite().all() for p in params.values())
    if row.averages > 1:
        for evaluate in (opt.eval, lambda: fo.eval_params(tx, state, params)):
            with pytest.raises(StructureError, match="several stages keep an average"):
                evaluate()
        return
    opt.eval()
    assert same(values(mine), fo.eval_params(tx, state, params), 1e-15)


@each
def test_under_vmap_every_run_is_as_alone(row):
    rates = torch.tensor([0.1, 0.3], dtype=torch.float64)

    def run(lr):
        tx = row.make(lr)
        params, state = purely(tx, STEPS, grads_at=gradients(row))
        return params, params if row.averages > 1 else fo.eval_params(tx, state, params)

    together = torch.func.vmap(run)(rates)
    for i, lr in enumerate(rates.tolist()):
        for found, alone in zip(together, run(lr), strict=True):
            assert same({n: p[i] for n, p in found.items()}, alone, 1e-12)


@each
def test_a_checkpoint_resumes_to_the_bit(row):
    assert resumes(row.make(), 3, STEPS, gradients(row))


ELSEWHERE = {"masked", "partition", "weighted_sum"}
"""Around it, they treat the others in their own way."""


@pytest.mark.parametrize(
    "row", [row for row in ROWS if "freeze" in row and row.outer not in ELSEWHERE], ids=str
)
def test_what_is_frozen_stands_still(row):
    params, _ = purely(row.make(), STEPS, grads_at=gradients(row))
    assert same_bits([params["b"], params["gain"]], [START["b"], START["gain"]])
    assert not torch.equal(params["w"], START["w"])


@pytest.mark.parametrize("row", [row for row in ROWS if row.outer == "skip_if"], ids=str)
def test_a_step_that_is_skipped_has_not_been(row):
    def without(params, t):
        return gradients(row)(params, t if t < 2 else t + 1)

    params, state = purely(row.make(), STEPS, grads_at=gradients(row))
    expected, clean = purely(row.make(), STEPS - 1, grads_at=without)
    assert same_bits(params, expected)
    assert same_bits(state.slots, clean.slots)
    assert same_bits(state.memory.inner, clean.memory.inner)


@pytest.mark.parametrize("row", [row for row in ROWS if row.outer == "accumulate"], ids=str)
def test_between_its_updates_no_bit_moves(row):
    params, state = purely(row.make(), 4, grads_at=gradients(row))
    later, after = purely(row.make(), 1, params, gradients(row), state, first=4)
    assert same_bits(later, params)
    assert same_bits(after.memory.inner, state.memory.inner)


def fields():
    """Every field of every combinator around AdamW."""
    for name, around in AROUND.items():
        tx = around(fo.adamw(0.1, weight_decay=0.1))
        for key, value in fo.hyperparams(tx).items():
            if isinstance(value, float):
                yield pytest.param(tx, key, value, id=f"{name}: {key}")


@pytest.mark.parametrize(("tx", "key", "value"), list(fields()))
def test_any_field_may_follow_a_schedule(tx, key, value):
    start = value or 0.1
    schedule = lambda count: start / (1.0 + 0.01 * count)  # noqa: E731
    scheduled = fo.scheduled(tx, **{key: schedule})
    params, state = purely(scheduled, STEPS)
    assert same(values(wrapped(scheduled, STEPS)[0]), params, 1e-15)
    found = params, fo.eval_params(scheduled, state, params)
    fixed, other = purely(fo.scheduled(tx, **{key: start}), STEPS)
    assert not same_bits(found, (fixed, fo.eval_params(tx, other, fixed))), "it is not seen"


@pytest.mark.parametrize("row", REFUSED, ids=str)
def test_what_makes_no_sense_is_refused(row):
    with pytest.raises(HyperparameterError, match=row.refused):
        row.make()
