"""`reset_label`: one label of a partition begins anew."""

import pytest
import torch

import funcopt as fo

from .common import START, grads_at, purely, same, same_bits

BRANCHES = {"matrix": fo.adam(0.1), "rest": fo.adam(0.1)}
LABELS = {"w": "matrix", "b": "rest", "gain": "rest"}
TX = fo.partition(BRANCHES, LABELS)
AROUND = {
    "alone": TX,
    "in a chain": fo.chain(fo.clip_by_global_norm(9.0), TX),
    "in skip_if": fo.skip_if(TX),
    "in accumulate": fo.accumulate(TX, 1),
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("times", [1, 2])
def test_its_next_updates_are_those_of_a_fresh_optimizer_and_the_others_go_on(around, times):
    tx = AROUND[around]
    params, state = purely(tx, 20)
    again = state
    for _ in range(times):
        again = fo.reset_label(tx, again, params, "rest")
    fresh = tx.init(params)
    for t in range(3):
        grads = grads_at(params, t)
        expected_rest, fresh = tx.update(grads, fresh, params)
        expected_matrix, state = tx.update(grads, state, params)
        updates, again = tx.update(grads, again, params)
        same(
            {n: updates[n] for n in ("b", "gain")},
            {n: expected_rest[n] for n in ("b", "gain")},
            1e-12,
        )
        rest = ("b", "gain")
        same({n: updates[n] for n in rest}, {n: expected_rest[n] for n in rest}, 1e-12)
        assert same_bits(updates["w"], expected_matrix["w"])


def test_both_labels_may_begin_anew_one_after_the_other():
    params, state = purely(TX, 20)
    state = fo.reset_label(TX, fo.reset_label(TX, state, params, "rest"), params, "matrix")
    grads = grads_at(params, 0)
    fresh, _ = TX.update(grads, TX.init(params), params)
    updates, _ = TX.update(grads, state, params)
    assert same(updates, fresh, 1e-12)


def test_a_label_that_is_not_there_is_refused():
    with pytest.raises(fo.errors.LabelError, match="no partition has the label 'head'"):
        fo.reset_label(TX, TX.init(START), START, "head")


def test_a_state_that_was_reset_is_saved_and_loaded():
    params, state = purely(TX, 5)
    again = fo.reset_label(TX, state, params, "rest")
    into = fo.reset_label(TX, TX.init(params), params, "rest")
    assert same_bits(fo.load_state_dict(into, fo.state_dict(again)), again)
    assert isinstance(again.step, torch.Tensor)
