"""`update_with_metrics`: what the stages say of a pure update."""

import pytest
import torch

import funcopt as fo

from ..cases import CASES, by_dimension
from .common import START, grads_at, same_bits, wrapped

CLIPPED = fo.chain(fo.clip_by_global_norm(0.5), fo.adam(0.1))


def updated(tx, params=START, t=0, state=None):
    state = tx.init(params) if state is None else state
    return fo.update_with_metrics(tx, grads_at(params, t), state, params)


def test_norm_factor_and_rate_of_an_update():
    _, _, said = updated(CLIPPED)
    norm = torch.cat([g.flatten() for g in grads_at(START, 0).values()]).norm()
    assert list(said) == ["grad_norm", "clip_factor", "lr"]
    torch.testing.assert_close(said["grad_norm"], norm)
    torch.testing.assert_close(said["clip_factor"], 0.5 / (norm + 1e-6))
    assert said["lr"].item() == pytest.approx(0.1)


KINDS = {
    "a clip": CLIPPED,
    "a schedule": fo.adamw(fo.linear_schedule(0.1, 0.0, 9)),
    "labels": fo.partition({"matrix": CLIPPED, "rest": CLIPPED}, by_dimension),
    "a mask": fo.chain(fo.masked(fo.clip_by_global_norm(0.1), "w"), CLIPPED),
    "skip_if": fo.skip_if(CLIPPED, fo.norm_outlier()),
    "accumulate": fo.accumulate(CLIPPED, 1),
    "cautious": fo.cautious(CLIPPED),
    "whole trees": fo.chain(
        fo.clip_by_global_norm(0.5),
        fo.from_functions(lambda params: (), lambda updates, state, params: (updates, state)),
        fo.sgd(0.1),
    ),
}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "labels"])
def test_keys_and_numbers_are_those_of_an_optimizer(kind):
    tx = KINDS[kind]
    _, opt = wrapped(tx, 1)
    _, _, said = updated(tx)
    assert list(said) == list(opt.metrics())
    for key, value in opt.metrics().items():
        torch.testing.assert_close(said[key], value, check_dtype=False)


def test_labels_have_numbers_of_their_own():
    _, _, said = updated(KINDS["labels"])
    _, opt = wrapped(KINDS["labels"], 1)
    assert list(said) == list(opt.metrics())
    assert said["grad_norm/matrix"] != said["grad_norm/rest"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_updates_and_state_are_those_of_update(case):
    params = {"w": torch.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": torch.tensor([0.5, -1.0])}
    if case.tx.takes_examples():
        grads = {name: torch.stack([p, 2 * p]) for name, p in params.items()}
    else:
        grads = params
    state = case.tx.init(params)
    updates, new_state = case.tx.update(grads, state, params, **case.extra)
    mine, my_state, said = fo.update_with_metrics(case.tx, grads, state, params, **case.extra)
    assert same_bits(mine, updates)
    assert same_bits(my_state, new_state)
    assert all(value.dim() == 0 for value in said.values())


def test_what_a_stage_that_waits_has_not_measured_is_left_out():
    tx = fo.accumulate(CLIPPED, 2)
    _, state, first = updated(tx)
    _, _, second = updated(tx, state=state)
    assert list(first) == ["lr"]
    assert list(second) == ["grad_norm", "clip_factor", "lr"]


def test_many_runs_say_it_of_each():
    def said(rate):
        return updated(fo.with_hyperparams(CLIPPED, {"lr": rate}))[2]

    rates = torch.tensor([0.1, 0.2])
    found = torch.func.vmap(said)(rates)
    assert torch.equal(found["lr"], rates)
    assert found["grad_norm"].shape == (2,)


def test_metrics_have_derivatives():
    def norm(scale):
        grads = {name: scale * g for name, g in grads_at(START, 0).items()}
        return fo.update_with_metrics(CLIPPED, grads, CLIPPED.init(START), START)[2]["grad_norm"]

    one = torch.ones((), dtype=torch.float64)
    torch.testing.assert_close(torch.func.grad(norm)(one), norm(one))


def test_a_compiled_update_says_the_same():
    def step(grads, state, params):
        return fo.update_with_metrics(CLIPPED, grads, state, params)

    args = grads_at(START, 0), CLIPPED.init(START), START
    compiled = torch.compile(step, backend="eager", fullgraph=True)(*args)[2]
    for key, value in step(*args)[2].items():
        torch.testing.assert_close(compiled[key], value)


def test_the_order_of_the_arguments_is_said():
    with pytest.raises(
        fo.errors.HyperparameterError, match=r"update_with_metrics\(tx, updates, state"
    ):
        fo.update_with_metrics(START, CLIPPED, CLIPPED.init(START), START)
