"""Whole steps of training under `torch.func.vmap`: every model with its own numbers and clock."""

import pytest
import torch
from torch.func import vmap

import funcopt as fo
from funcopt.testing._facts import scaled

from . import common

EVERY = common.every_transformation()
FACTORS = (1.0, 0.95, 0.9)


def values_of(tx):
    """All hyperparameters, three of each."""
    return {k: scaled(v, FACTORS) for k, v in common.numbers(tx).items()}


def alone(values, i):
    """The numbers of one model, as Python numbers."""
    return fo.tree.map(lambda x: x[i].item(), values)


@pytest.mark.parametrize("name", EVERY)
def test_models_with_numbers_of_their_own_train_as_if_alone(name):
    tx = EVERY[name]
    values, batches = values_of(tx), common.batches(5)
    starts = [common.params(seed) for seed in range(3)]

    def run(values, params):
        live = fo.with_hyperparams(tx, values)
        state, losses = common.trained(live, fo.TrainState.start(live, params), batches)
        return state.params, losses  # a rate that is zero, and no tensor, needs no slots

    together = vmap(run)(values, fo.stack(starts))
    for i, params in enumerate(starts):
        one = fo.tree.map(lambda x, i=i: x[i], together)
        assert common.close(one, run(alone(values, i), params))


@pytest.mark.parametrize("name", EVERY)
def test_models_at_different_steps_go_on_as_if_alone(name):
    tx, batches = EVERY[name], common.batches(6)
    starts = []
    for i in range(3):  # which have made 0, 1 and 2 steps
        start = fo.TrainState.start(tx, common.params(i))
        starts.append(common.trained(tx, start, batches[:i])[0] if i else start)
    assert [start.opt_state.step.item() for start in starts] == [0, 1, 2]
    step = vmap(fo.train_step(common.loss, tx), in_dims=(0, None))
    state = fo.stack(starts)
    for batch in batches[2:]:
        state, _ = step(state, batch)
    for one, start in zip(fo.unstack(state), starts, strict=True):
        assert common.close(one, common.trained(tx, start, batches[2:])[0])


@pytest.mark.parametrize(
    "shape",
    ["linear", "cosine_decay_schedule", "warmup_cosine_decay_schedule", "one_cycle_schedule"],
)
def test_schedules_with_numbers_of_their_own(shape):
    def make(peak):
        return {
            "linear": lambda: fo.linear_schedule(peak, 0.0, 4),
            "cosine_decay_schedule": lambda: fo.cosine_decay_schedule(peak, 4),
            "warmup_cosine_decay_schedule": lambda: fo.warmup_cosine_decay_schedule(
                0.0, peak, 2, 5
            ),
            "one_cycle_schedule": lambda: fo.one_cycle_schedule(peak, 6),
        }[shape]()

    params, batches = common.params(), common.batches(6)

    def run(peak):
        tx = fo.adamw(make(peak), weight_decay=fo.linear_schedule(peak, 0.0, 3))
        return common.trained(tx, fo.TrainState.start(tx, params), batches)

    peaks = torch.tensor([0.1, 0.02, 0.3], dtype=torch.float64)
    together = vmap(run)(peaks)
    for i, peak in enumerate(peaks.tolist()):
        assert common.close(fo.tree.map(lambda x, i=i: x[i], together), run(peak))
    assert not torch.equal(together[1][0], together[1][1])


def test_the_skipped_models_are_not_the_others():
    """One of two models sees an infinite gradient, and stands still; the other goes on."""
    tx = fo.skip_if(fo.adam(0.1))
    start = fo.TrainState.start(tx, torch.ones(2))
    step = fo.train_step(lambda p, batch: (p * batch).sum(), tx)
    state, _ = vmap(step)(fo.stack([start, start]), torch.tensor([1.0, torch.inf]))
    assert torch.equal(state.params[1], torch.ones(2))
    assert (state.params[0] < 1).all()
    assert state.opt_state.memory.skipped.tolist() == [0, 1]
