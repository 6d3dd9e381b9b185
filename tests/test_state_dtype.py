"""`state_dtype`: every stage, alias and class that stores tensors like the parameters takes it."""

import dataclasses
import inspect

import pytest
import torch

import funcopt as fo
from funcopt import aliases, optim
from funcopt.combinators import walk

from .cases import CASES

ALIASES = {
    name: value
    for name, value in vars(aliases).items()
    if inspect.isfunction(value) and not name.startswith("_")
}
CLASSES = {name: cls for name, cls in vars(optim).items() if hasattr(cls, "maker")}

REQUIRED = {
    "dpsgd": {"lr": 0.1, "max_norm": 1.0, "noise_multiplier": 1.0, "momentum": 0.9},
    "noisy_sgd": {"lr": 0.1},
}
"""The arguments without a default."""

STORES_ITS_OWN = {
    "lbfgs": "differences of gradients and of steps, in at least float32",
    **dict.fromkeys(
        ("scale_by_dog", "scale_by_dowg", "scale_by_ldog"), "the initial parameters, and numbers"
    ),
}
"""Stages with tensors like the parameters whose dtype cannot be chosen, and what these are."""

OTHERWISE = {"p0", "x0", "GG", "Q", "roots"}
"""Slots that `state_dtype` leaves alone: a copy of the parameters, matrices to be factorized."""

P = torch.linspace(-1, 1, 17)[:12].reshape(4, 3)  # multiples of 1/8, which bfloat16 can hold
PARAMS = {"weight": P, "bias": P[0]}


def of_state_dtype(tx):
    return [
        stage
        for _, stage in walk(tx)
        if any(field.name == "state_dtype" for field in dataclasses.fields(stage))
    ]


def arguments(make):
    """Arguments with which no stage does without its slots."""
    found = inspect.signature(make).parameters
    more = {name: value for name, value in (("momentum", 0.9), ("centered", True)) if name in found}
    return {**more, **REQUIRED.get(make.__name__, {})}


def gradients(tx, params):
    grads = {name: p.sin() for name, p in params.items()}
    if tx.takes_examples():
        return {name: torch.stack([g, -0.5 * g]) for name, g in grads.items()}
    return grads


def slots_of(tx, state, params):
    """The slots of the stages with a `state_dtype`, by stage and field."""
    return {
        (name, type(stage).__name__, field): slot
        for name, p in params.items()
        for stage, slots in tx.slot_parts(state.slots[name], name, p)
        if of_state_dtype(stage)
        for field, slot in zip(getattr(slots, "_fields", ()), slots, strict=True)
        if isinstance(slot, torch.Tensor) and field not in OTHERWISE
    }


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_stage_that_stores_tensors_like_the_parameters_takes_a_dtype(case):
    tx = case.tx
    if not tx.is_per_tensor():
        pytest.skip("its state is its own")
    for name, p in PARAMS.items():
        for stage, slots in tx.slot_parts(tx.init_slots(name, p), name, p):
            if any(isinstance(x, torch.Tensor) and x.shape == p.shape for x in slots):
                kind = type(stage).__name__
                assert kind in STORES_ITS_OWN or "state_dtype" in vars(stage), kind


@pytest.mark.parametrize("make", ALIASES.values(), ids=ALIASES)
def test_an_alias_takes_it_if_a_stage_does_and_passes_it_to_all(make):
    options = arguments(make)
    stages = of_state_dtype(make(**options))
    taken = inspect.signature(make).parameters.get("state_dtype")
    assert (taken is not None) == bool(stages)
    if taken is not None:
        assert (taken.kind, taken.default) == (taken.KEYWORD_ONLY, None)
        assert {stage.state_dtype for stage in stages} == {None}
        made = make(**options, state_dtype=torch.float16)
        assert {stage.state_dtype for stage in of_state_dtype(made)} == {torch.float16}


TAKING = {
    name: make
    for name, make in ALIASES.items()
    if "state_dtype" in inspect.signature(make).parameters
}


def test_there_are_aliases_that_take_it():
    assert set(ALIASES) - set(TAKING) == {
        *("noisy_sgd", "sign_sgd", "fromage", "polyak_sgd"),
        *("dog", "ldog", "dowg"),
    }


@pytest.mark.parametrize("make", TAKING.values(), ids=TAKING)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("state_dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_slots_have_that_dtype_and_updates_that_of_the_gradients(make, dtype, state_dtype):
    params = {name: p.to(dtype) for name, p in PARAMS.items()}
    plain, tx = make(**arguments(make)), make(**arguments(make), state_dtype=state_dtype)
    grads, begun = gradients(tx, params), tx.init(params)
    told = {"value": 0.7} if "value" in tx.extra_names() else {}
    updates, state = tx.update(grads, begun, params, **told)
    same, state_of_plain = plain.update(grads, plain.init(params), params, **told)
    for slots in (slots_of(tx, begun, params), slots_of(tx, state, params)):
        assert {slot.dtype for slot in slots.values()} == {state_dtype}
        assert slots.keys() == slots_of(plain, state_of_plain, params).keys()
    for name, u in updates.items():
        assert u.dtype == dtype
        # What a state begins with, such as the step size of Rprop, is rounded once.
        torch.testing.assert_close(u, same[name], rtol=2**-6, atol=0.0)


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
def test_a_class_takes_it_as_its_alias_does(cls):
    taken = inspect.signature(cls).parameters.get("state_dtype")
    without = {*("LBFGS", "SignSGD", "Fromage", "PolyakSGD"), *("DoG", "LDoG", "DoWG")}
    assert (taken is None) == (cls.__name__ in without)
    if taken is None:
        return
    assert (taken.kind, taken.default) == (taken.KEYWORD_ONLY, None)
    params = [(name, torch.nn.Parameter(p.clone())) for name, p in PARAMS.items()]
    opt = cls(params, state_dtype=torch.bfloat16)
    assert opt.defaults["state_dtype"] == torch.bfloat16
    for _, p in params:
        p.grad = p.detach().sin()
    opt.step(**({"value": 0.7} if "value" in opt.tx.extra_names() else {}))
    for _, p in params:
        found = {
            key: x.dtype
            for key, x in opt.state[p].items()
            if x.dim() and key.split("/")[0] not in OTHERWISE
        }
        assert set(found.values()) <= {torch.bfloat16}, found
        assert p.dtype == torch.float32


def test_the_sum_of_gradients_can_be_stored_narrower():
    p = torch.ones(3)
    tx = fo.accumulate(fo.sgd(0.1), 2, state_dtype=torch.bfloat16)
    updates, state = tx.update(p / 3, tx.init(p), p)
    assert state.slots.grad_sum.dtype == torch.bfloat16
    assert torch.equal(state.slots.grad_sum, (p / 3).bfloat16())
    updates, state = tx.update(p / 3, state, p)
    assert updates.dtype == torch.float32
    torch.testing.assert_close(updates, -0.1 * p / 3, rtol=2**-8, atol=0.0)


def test_wide_second_moments_of_adafactor_go_on_where_bfloat16_ones_stand_still():
    """After 3,000 gradients of 1, gradients of 1.1 come: the mean square follows them."""
    found = {}
    for state_dtype in (None, torch.float32):
        tx = fo.scale_by_factored_rms(state_dtype=state_dtype)
        p = torch.zeros(2, dtype=torch.bfloat16)
        state = tx.init(p)
        state = state._replace(
            step=state.step + 3000, slots=state.slots._replace(variance=state.slots.variance + 1)
        )
        for _ in range(200):
            _, state = tx.update(torch.full_like(p, 1.1), state, p)
        found[state_dtype] = state.slots.variance[0].item()
    assert found[None] == 1.0
    assert found[torch.float32] > 1.05
