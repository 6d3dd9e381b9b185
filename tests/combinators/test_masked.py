"""`masked`, `freeze`, `set_to_zero`: only some of the parameters, and none of their bits."""

import math
from typing import NamedTuple

import pytest
import torch

import funcopt as fo
from funcopt.errors import HyperparameterError, LabelError

from ..cases import is_matrix
from .common import (
    START,
    drive,
    grads_at,
    named_parameters,
    purely,
    resumes,
    same,
    same_bits,
    the_optimizer_does_the_same,
    values,
    wrapped,
)

SIGNED = {
    "zeros": torch.tensor([0.0, -0.0, math.inf, -math.inf, math.nan]),
    "tiny": torch.tensor([1e-45, -1e-45, 1.0]),
    "half": torch.tensor([0.0, -0.0, 1.0], dtype=torch.bfloat16),
}


def awkward(params, t):
    """Gradients that would show in any parameter they reached."""
    return {n: torch.full_like(p, (-1.0) ** t * (t + 1)) for n, p in params.items()}


def bits(params):
    kinds = {2: torch.int16, 4: torch.int32}
    return {n: p.detach().view(kinds[p.element_size()]) for n, p in params.items()}


# masked


def test_what_the_mask_leaves_out_passes_as_it_came():
    tx = fo.masked(fo.scale_by_adam(), is_matrix)
    grads = grads_at(START, 0)
    updates, state = tx.update(grads, tx.init(START), START)
    assert same_bits([updates[n] for n in ("b", "gain")], [grads[n] for n in ("b", "gain")])
    alone, _ = fo.scale_by_adam().update(
        grads["w"], fo.scale_by_adam().init(START["w"]), START["w"]
    )
    assert torch.equal(updates["w"], alone)
    assert fo.tree.leaves((state.slots["b"], state.slots["gain"])) == []


@pytest.mark.parametrize(
    "mask",
    [
        r"^w$",
        is_matrix,
        lambda name, p: name == "w",
        [(r"w", True), (r"", False)],
        [(r"b|gain", False), (is_matrix, True)],
        {"b": False, "gain": False, "w": True},
    ],
)
def test_a_mask_is_a_pattern_a_predicate_pairs_or_a_tree(mask):
    tx = fo.masked(fo.scale(2.0), mask)
    grads = grads_at(START, 0)
    updates, _ = tx.update(grads, tx.init(START), START)
    assert same(updates, {**grads, "w": 2 * grads["w"]})
    assert the_optimizer_does_the_same(fo.chain(tx, fo.scale(-0.1)))


def test_one_bool_may_stand_for_a_subtree():
    params = {"body": [torch.ones(1), torch.ones(2)], "head": torch.ones(1)}
    tx = fo.masked(fo.scale(2.0), {"body": True, "head": False})
    updates, _ = tx.update(params, tx.init(params), params)
    assert fo.tree.map(lambda u: int(u[0]), updates) == {"body": [2, 2], "head": 1}


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (
            r"norm",
            "`masked`: the pattern 'norm' of label True fits none of the parameters "
            "['b', 'gain', 'w'].",
        ),
        (
            [(r"w", True)],
            "`masked`: nothing fits parameter `b` of shape (2,): end the list with a pair such as "
            "(r'.*', label).",
        ),
        (
            {"w": True},
            "`masked`: the tree of labels has none for parameter `b`; it has labels for ['w'].",
        ),
    ],
)
def test_a_mask_that_does_not_fit_says_so(mask, message):
    tx = fo.masked(fo.scale(2.0), mask)
    with pytest.raises(LabelError) as error:
        tx.init(START)
    assert str(error.value) == message
    with pytest.raises(LabelError) as error:
        fo.Optimizer(list(named_parameters().items()), fo.chain(tx, fo.sgd(0.1)))
    assert str(error.value) == f"`Optimizer`, in {message}"


def test_an_inner_one_that_sees_whole_trees_is_refused():
    with pytest.raises(HyperparameterError, match="'inner' must be a transformation that works"):
        fo.masked(fo.from_functions(len, pow), is_matrix)


def test_weight_decay_under_a_mask_is_that_of_two_groups():
    tx = fo.chain(
        fo.scale_by_adam(),
        fo.masked(fo.add_decayed_weights(0.5), is_matrix),
        fo.scale_by_learning_rate(0.01),
    )
    mine, _ = wrapped(tx, 10)
    theirs = named_parameters()
    opt = torch.optim.AdamW(
        [
            {"params": [theirs["b"], theirs["gain"]], "weight_decay": 0.0},
            {"params": [theirs["w"]]},
        ],
        0.01,
        weight_decay=0.5,
        foreach=False,
    )
    drive(opt, theirs, 10)
    assert same(values(mine), values(theirs), 1e-12)
    assert same(values(mine), purely(tx, 10)[0])


def test_a_norm_under_a_mask_spans_the_mask():
    tx = fo.masked(fo.clip_by_global_norm(1.0, eps=0.0), is_matrix)
    grads = {"a": torch.tensor([3.0]), "b": torch.tensor([[4.0]])}
    updates, _ = tx.update(grads, tx.init(grads), grads)
    assert same(updates, {"a": torch.tensor([3.0]), "b": torch.tensor([[1.0]])})


def test_masks_nest():
    tx = fo.masked(fo.masked(fo.scale(2.0), r"w"), {"w": True, "b": False, "gain": False})
    grads = grads_at(START, 0)
    updates, _ = tx.update(grads, tx.init(START), START)
    assert same(updates, {**grads, "w": 2 * grads["w"]})
    inside = fo.chain(fo.accumulate(fo.masked(fo.trace(0.9), is_matrix), 2), fo.scale(-0.1))
    assert the_optimizer_does_the_same(inside)
    assert resumes(inside, 3, 6)


class Total(NamedTuple):
    total: torch.Tensor


class grow(fo.TensorRule):
    """Multiplies by the sum of all gradients so far."""

    elementwise = True
    memory_per = "tree"

    def init_memory(self, like):
        return Total(like.clone())

    def measure_tensor(self, g, slots, p, s):
        return g.sum()

    def conclude(self, s, memory, total):
        return {"sum": memory.total + total}, Total(memory.total + total)

    def update_tensor(self, g, slots, p, s):
        return g * s.sum, slots


class count(fo.TensorRule):
    """Multiplies by the number of steps, which it counts in its memory."""

    elementwise = True

    def init_memory(self, like):
        return Total(like.clone())

    def conclude(self, s, memory, total):
        return {"steps": memory.total + 1}, Total(memory.total + 1)

    def update_tensor(self, g, slots, p, s):
        return g * s.steps, slots


@pytest.mark.parametrize(
    "tx",
    [
        fo.masked(grow(), is_matrix),
        fo.masked(count(), is_matrix),
        fo.chain(fo.masked(grow(), is_matrix), fo.masked(count(), r"^b$")),
        fo.chain(fo.masked(count(), r"^w$"), fo.masked(count(), r"^b$")),
        fo.masked(fo.skip_if(fo.trace(0.9), fo.norm_outlier()), is_matrix),
    ],
    ids=["one for all", "one for each", "both", "two for two", "skip_if"],
)
def test_memory_of_the_mask_is_not_that_of_the_parameters_beside_it(tx):
    tx = fo.chain(tx, fo.scale(-0.01))
    assert the_optimizer_does_the_same(tx)
    assert resumes(tx, 2, 5)


# set_to_zero, freeze


@pytest.mark.parametrize("tx", [fo.set_to_zero(), fo.freeze(), fo.freeze(r""), fo.freeze(True)])
def test_what_is_frozen_keeps_every_bit(tx):
    params, state = purely(tx, 2, SIGNED, awkward)
    assert same_bits(bits(params), bits(SIGNED))
    assert fo.tree.leaves(state.slots) == []
    mine, opt = wrapped(tx, 2, SIGNED, awkward)
    assert same_bits(bits(mine), bits(SIGNED))
    assert all(set(state) == {"step"} for state in opt.state.values())


def test_set_to_zero_makes_the_zero_that_adds_to_nothing():
    tx = fo.set_to_zero()
    updates, _ = tx.update(torch.tensor([1.0, math.nan]), tx.init(torch.ones(2)))
    assert updates.tolist() == [0.0, 0.0]
    assert torch.signbit(updates).all()


def test_frozen_last_stops_all_that_came_before():
    tx = fo.chain(fo.adamw(0.1, weight_decay=0.5), fo.freeze(is_matrix))
    params, _ = purely(tx, 3)
    assert same_bits(params["w"], START["w"])
    assert not torch.equal(params["b"], START["b"])
    assert the_optimizer_does_the_same(tx)


def test_frozen_first_does_not_stop_what_comes_after():
    tx = fo.chain(fo.freeze(is_matrix), fo.adamw(0.1, weight_decay=0.5))
    params, _ = purely(tx, 1)
    torch.testing.assert_close(params["w"], START["w"] * (1 - 0.1 * 0.5), rtol=1e-15, atol=0)


def test_frozen_gradients_count_in_a_norm_before_and_not_after():
    def w_of(*stages):
        tx = fo.chain(*stages, fo.scale(-1.0))
        return purely(tx, 1)[0]["w"]

    clip, freeze = fo.clip_by_global_norm(0.1), fo.freeze(r"^(b|gain)$")
    alone = purely(fo.chain(clip, fo.scale(-1.0)), 1, {"w": START["w"]})[0]["w"]
    assert not torch.allclose(w_of(clip, freeze), alone)
    torch.testing.assert_close(w_of(freeze, clip), alone, rtol=1e-15, atol=1e-15)
