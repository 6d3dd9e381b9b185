"""The memory that `explain` tells: exact, for any chain, before any of it is allocated."""

import pickle
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import funcopt as fo
from funcopt import optim
from funcopt._core.explanation import in_bytes

from ..cases import CASES
from .test_memory import MAKES, net


def size(tensors):
    return sum(x.numel() * x.element_size() for x in tensors if isinstance(x, Tensor))


class Allocations(TorchDispatchMode):
    """Counts the entries of tensors that operations make, but of those without memory."""

    def __init__(self):
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = [x for x in tree_leaves(out) if isinstance(x, Tensor) and not x.is_meta]
        self.entries += sum(x.numel() for x in made)
        return out


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_plan_of_a_tree_is_what_init_makes(case):
    params = {"w": torch.ones(40, 30), "v": torch.ones(5, dtype=torch.float64)}
    plan = fo.explain(case.tx, params).memory
    assert plan.state == size(fo.tree.leaves(case.tx.init(params)))
    assert plan.parameters == plan.gradients == size(fo.tree.leaves(params))


@pytest.mark.parametrize("name", MAKES)
def test_the_plan_of_an_optimizer_is_what_it_makes(name):
    model = net()
    model[0].bias.requires_grad_(False)
    opt = MAKES[name](model.named_parameters())
    plan = fo.explain(opt).memory
    assert plan.allocated == 0
    opt.init_state()
    names = dict(model.named_parameters())
    found = {(x.parameter, x.slot): (x.shape, x.dtype, x.bytes) for x in plan.entries}
    assert found == {
        (key, slot): (x.shape, x.dtype, size([x]))
        for key, p in names.items()
        for slot, x in opt.state.get(p, {}).items()
    }
    assert plan.state == sum(size(own.values()) for own in opt.state.values())
    assert plan.gradients == size(p for p in model.parameters() if p.requires_grad)
    again = fo.explain(opt)
    assert again.memory == plan._replace(allocated=plan.state)
    assert f"state {in_bytes(plan.state)} (allocated)" in again


BIG = 10_000_000_000

HUGE = {
    "adamw": (fo.adamw(), 8 * BIG),
    "in bfloat16": (fo.adamw(state_dtype=torch.bfloat16), 4 * BIG),
    "adafactor": (fo.adafactor(), 8 * 100_000),
    "prodigy": (fo.prodigy(), 16 * BIG),
    "soap": (fo.soap(max_precond_dim=200_000), 8 * BIG + 16 * BIG),
    "lookahead": (fo.lookahead(fo.lion()), 8 * BIG),
    "average": (fo.chain(fo.schedule_free_sgd(0.1)), 4 * BIG),
}


@pytest.mark.parametrize("name", HUGE)
def test_nothing_is_allocated(name):
    """Ten billion entries, and some more; beside slots, there are step counts."""
    tx, slots = HUGE[name]
    model = torch.nn.Linear(100_000, 100_000, bias=False, device="meta")
    with Allocations() as counted:
        plans = [fo.explain(tx, x).memory for x in (model, dict(model.named_parameters()))]
        plans.append(fo.explain(fo.Optimizer(model.named_parameters(), tx)).memory)
    assert counted.entries < 1000
    for plan in plans:
        assert sum(x.bytes for x in plan.entries if x.entries is not None) == slots
        assert plan.parameters == plan.gradients == 4 * BIG
        assert slots < plan.state < slots + 100


def test_nothing_is_allocated_for_parameters_that_are():
    p = torch.ones(1000, 100, requires_grad=True)
    opts = [fo.Optimizer([("p", p)], tx) for tx in (fo.adamw(), fo.soap(), fo.lookahead(fo.lion()))]
    with Allocations() as counted:
        for opt in opts:
            assert fo.explain(opt).memory.state > 400_000
    assert counted.entries < 1000


def test_frozen_parameters_have_neither_gradients_nor_state():
    model = net()
    model[0].requires_grad_(False)
    opt = optim.AdamW(model.named_parameters())
    tree = {f"2.{name}": p for name, p in model[2].named_parameters()}
    of_opt, of_module = fo.explain(opt), fo.explain(fo.adamw(), model)
    assert of_opt.memory.by("parameter") == {"2.weight": 8 * 8 + 4, "2.bias": 2 * 8 + 4}
    assert of_module.memory.by("slot") == fo.explain(fo.adamw(), tree).memory.by("slot")
    for text in (of_opt, of_module):
        assert text.memory.gradients == size(model[2].parameters())
        assert text.memory.parameters == size(model.parameters())
        assert text.splitlines()[-1] == "2 frozen parameters have no state"
    detached = {name: p.detach() for name, p in model.named_parameters()}
    plan = fo.explain(fo.adamw(), detached).memory  # all that is in a tree is trained
    assert (plan.frozen, plan.gradients) == (0, plan.parameters)


def test_labels_that_know_parameters_by_identity_are_followed():
    model = net()
    chosen = [model[0].weight]

    def label(name, p):
        return "a" if any(p is x for x in chosen) else "b"

    tx = fo.partition({"a": fo.sgd(0.1, momentum=0.9), "b": fo.lion()}, label)
    assert fo.explain(tx, model).memory.by("slot") == {
        "momentum_buffer": size([model[0].weight]),
        "exp_avg": size([model[0].bias, *model[2].parameters()]),
        "step": 8,
    }
    plan = fo.explain(fo.Optimizer(model.named_parameters(), tx)).memory
    assert plan.by("group") == {"a": size([model[0].weight]) + 4, "b": 4 * (4 + 8 + 2) + 12}


class Mean(NamedTuple):
    mean: Tensor


class reads_values(fo.TensorRule):
    """Keeps a slot in a dtype that depends on a value."""

    def init_tensor(self, p):
        wide = bool(p.abs().max() > 100)
        return Mean(torch.zeros_like(p, dtype=torch.float64 if wide else torch.float32))

    def update_tensor(self, g, slots, p, s):
        return g, Mean(slots.mean + g)


def test_a_rule_that_reads_values_is_asked_for_its_slots():
    p = torch.full((10,), 1000.0, requires_grad=True)
    plan = fo.explain(fo.Optimizer([p], fo.chain(reads_values(), fo.scale(-1.0)))).memory
    assert plan.by("slot") == {"mean": 80, "step": 4}


def test_the_table_is_short_and_in_order():
    model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.LayerNorm(128))
    opt = optim.AdamW(optim.param_groups_weight_decay(model), lr=0.1)
    assert fo.explain(opt).split("\n\n")[-1].splitlines() == [
        "memory: state 68.6 kB (not yet allocated), parameters 34.3 kB, gradients 34.3 kB",
        "group     slot        per entry  bytes",
        "no_decay  exp_avg     4 B        1.54 kB",
        "          exp_avg_sq  4 B        1.54 kB",
        "          step                   12 B",
        "decay     exp_avg     4 B        32.8 kB",
        "          exp_avg_sq  4 B        32.8 kB",
        "          step                   4 B",
    ]
    for p in model[1].parameters():
        p.grad = torch.ones_like(p)
    opt.step()
    assert "state 68.6 kB (2.06 kB of it allocated)" in fo.explain(opt)
    text = fo.explain(fo.adafactor(), model)
    assert text.split("\n\n")[-1].splitlines()[:3] == [
        "memory: state 2.31 kB, parameters 34.3 kB, gradients 34.3 kB",
        "slot      per entry  bytes",
        "row_var   0.0625 B   512 B",
    ]
    assert "\n| slot | per entry | bytes |\n" in text.markdown()
    assert pickle.loads(pickle.dumps(text)).memory == text.memory


def test_many_groups_stay_short_and_empty_parameters_are_counted():
    params = [{"params": [torch.ones(3, i, requires_grad=True)]} for i in range(30)]
    text = fo.explain(optim.Adam(params))
    assert text.splitlines()[-1].strip() == "... and 66 more"
    assert len(text.split("\n\n")[-1].splitlines()) == 27
    assert text.memory.by("group")["0"] == 4  # nothing but the step
    assert text.memory.by("group")["29"] == 8 * 3 * 29 + 4


def test_what_torchs_optimizers_keep_is_known_when_it_is_there():
    p = torch.ones(10, requires_grad=True)
    opt = torch.optim.Adam([p])
    assert fo.explain(opt).memory is None
    p.grad = torch.ones_like(p)
    opt.step()
    plan = fo.explain(opt).memory
    assert plan.by("slot") == {"step": 4, "exp_avg": 40, "exp_avg_sq": 40}
    assert plan.allocated == plan.state == 84
