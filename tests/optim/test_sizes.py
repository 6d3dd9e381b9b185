"""What an optimizer does for many parameters and groups: no call grows faster than their number.

Calls of functions are counted, not seconds.
"""

import copy
import pickle
import sys

import pytest
import torch

import funcopt as fo
from funcopt import optim

from ..engine.common import watched

SIZES = 20, 80


def calls(function):
    """How many functions it calls, those in C too."""
    count = 0

    def seen(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


def in_one_group(names):
    return names


def in_their_own(names):
    return [{"params": [x], "lr": 1e-3 * (1 + i % 7)} for i, x in enumerate(names)]


CLASSES = {
    "adamw": lambda groups, engine: optim.AdamW(groups, lr=1e-3, engine=engine),
    "clipped": lambda groups, engine: fo.Optimizer(
        groups, fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(1e-3)), engine=engine
    ),
    "averaged": lambda groups, engine: optim.AdamWScheduleFree(groups, lr=1e-3, engine=engine),
    "partition": lambda groups, engine: fo.Optimizer(
        groups,
        fo.partition({"a": fo.adamw(1e-3), "b": fo.sgd(0.1)}, [(r"[02468]$", "a"), (".*", "b")]),
        engine=engine,
    ),
}


def lifetime(make, grouped, size):
    """The calls of each thing that an optimizer does, with so many parameters."""
    names = [(f"layers.{i}", torch.ones(2, requires_grad=True)) for i in range(size)]
    found = {}

    def do(what, function):
        found[what] = calls(function)

    def gradients(every=1):
        for i, (_, p) in enumerate(names):
            p.grad = None if i % every else torch.ones_like(p)

    make(grouped(names))
    if grouped is in_one_group:  # torch's own looks at all groups for each
        do("made", lambda: make(grouped(names)))
    opt = make(grouped(names))
    gradients()
    do("first step", opt.step)
    do("second step", opt.step)
    do("step", opt.step)
    do("metrics", opt.metrics)
    gradients(every=2)
    do("step of half", opt.step)
    gradients()
    do("step of all again", opt.step)
    saved = opt.state_dict()
    do("saving", opt.state_dict)
    other = make(grouped(names[::-1]))
    do("loading by name", lambda: other.load_state_dict(saved))
    do("step after loading", other.step)
    do("copy", lambda: copy.deepcopy(opt))
    pickled = pickle.dumps(opt)
    do("pickling", lambda: pickle.dumps(opt))
    do("unpickling", lambda: pickle.loads(pickled))
    do("evaluating", opt.eval)
    do("training", opt.train)
    do("repr", lambda: repr(opt))
    late = {"params": [("late.1", torch.ones(2, requires_grad=True))]}
    do("adding", lambda: opt.add_param_group(late))
    do("dropping", lambda: opt.drop("late.1"))
    do("step after dropping", opt.step)
    return found


@pytest.mark.parametrize("make", CLASSES.values(), ids=CLASSES)
@pytest.mark.parametrize("grouped", [in_one_group, in_their_own], ids=["one group", "groups"])
@pytest.mark.parametrize("engine", ["eager", "fused"])
def test_nothing_grows_faster_than_the_parameters(make, grouped, engine):
    few, many = (lifetime(lambda x: make(x, engine), grouped, size) for size in SIZES)
    allowed = 1.1 * SIZES[1] / SIZES[0]
    assert {k: (few[k], many[k]) for k in few if many[k] > allowed * few[k]} == {}


def test_the_groups_of_torch_are_as_many_calls_as_of_its_own_class():
    """Its base class looks at all groups for each that is added; nothing else does."""

    def beyond(size):
        groups = [{"params": [torch.ones(2, requires_grad=True)]} for _ in range(size)]
        theirs = calls(lambda: torch.optim.AdamW([dict(g) for g in groups]))
        return calls(lambda: optim.AdamW([dict(g) for g in groups])) - theirs

    few, many = map(beyond, SIZES)
    assert many <= 1.1 * few * SIZES[1] / SIZES[0]


@pytest.mark.parametrize("engine", ["eager", "fused"])
def test_the_pure_form_grows_with_the_leaves(engine):
    def lifetime(size):
        params = {f"layers.{i}": torch.ones(2) for i in range(size)}
        tx = fo.chain(fo.clip_by_global_norm(1.0), fo.masked(fo.adamw(1e-3), r"[02468]$"))
        state = tx.init(params)
        with watched(engine) as by_kernels:
            first = calls(lambda: tx.update(params, state, params))
            again = calls(lambda: tx.update(params, state, params))
            updates, _ = tx.update(params, state, params)
        assert by_kernels == [engine == "fused"] * 3
        return {
            "init": calls(lambda: tx.init(params)),
            "first update": first,
            "update": again,
            "apply_updates": calls(lambda: fo.apply_updates(params, updates)),
        }

    lifetime(1)  # imports
    few, many = (lifetime(4 * size) for size in SIZES)
    allowed = 1.1 * SIZES[1] / SIZES[0]
    assert {k: (few[k], many[k]) for k in few if many[k] > allowed * few[k]} == {}
