"""Extra arguments of `Optimizer.step` with a tensor for each parameter."""

import pytest
import torch

import funcopt as fo
from funcopt.errors import ExtraArgumentError, StructureError

from ..combinators.common import START, named_parameters, same, values


class weighed(fo.TensorRule):
    """Multiplies the gradient by a tensor that is given."""

    elementwise = True
    tensor_extra = ("weight",)

    def update_tensor(self, g, slots, p, s):
        return g * s.weight, slots


TX = fo.chain(weighed(), fo.scale(-1.0))
WEIGHT = {n: torch.arange(p.numel(), dtype=p.dtype).reshape(p.shape) for n, p in START.items()}
EXPECTED = {n: p - WEIGHT[n] for n, p in START.items()}


def optimizer(tx=TX, named=True, **options):
    mine = named_parameters()
    for p in mine.values():
        p.grad = torch.ones_like(p)
    return mine, fo.Optimizer(list(mine.items()) if named else list(mine.values()), tx, **options)


def test_by_name_and_by_parameter():
    mine, opt = optimizer()
    opt.step(weight=WEIGHT)
    assert same(values(mine), EXPECTED)
    for named in (True, False):
        mine, opt = optimizer(named=named)
        opt.step(weight={p: WEIGHT[n] for n, p in mine.items()})
        assert same(values(mine), EXPECTED)


def test_names_may_have_the_prefix_of_a_compiled_module():
    mine, opt = optimizer()
    opt.step(weight={f"_orig_mod.{n}": x for n, x in WEIGHT.items()})
    assert same(values(mine), EXPECTED)


def test_order_and_groups_do_not_matter():
    mine = named_parameters()
    groups = [
        {"params": [x], "lr": lr} for x, lr in zip(mine.items(), (1.0, 2.0, 3.0), strict=True)
    ]
    opt = fo.Optimizer(groups, fo.chain(weighed(), fo.scale_by_learning_rate(1.0)))
    for p in mine.values():
        p.grad = torch.ones_like(p)
    opt.step(weight=dict(reversed(WEIGHT.items())))
    rates = dict(zip(mine, (1.0, 2.0, 3.0), strict=True))
    assert same(values(mine), {n: p - rates[n] * WEIGHT[n] for n, p in START.items()})


def test_what_has_no_gradient_needs_no_tensor_and_others_are_named():
    mine, opt = optimizer()
    mine["b"].grad = None
    opt.step(weight={"w": WEIGHT["w"], "gain": WEIGHT["gain"]})
    assert same(values(mine), {**EXPECTED, "b": START["b"]})
    mine, opt = optimizer()
    with pytest.raises(ExtraArgumentError, match=r"`weight` of every .* that of `b` is None"):
        opt.step(weight={"w": WEIGHT["w"], "gain": WEIGHT["gain"]})
    with pytest.raises(ExtraArgumentError, match="needs the extra argument `weight`"):
        opt.step()
    assert same(values(mine), START)
    assert not opt.state


def test_a_partition_asks_only_for_its_own():
    mine, opt = optimizer(fo.partition({"w": TX, "rest": fo.sgd(0.5)}, [("w", "w"), ("", "rest")]))
    opt.step(weight={"w": WEIGHT["w"]})
    assert same(values(mine), {**{n: p - 0.5 for n, p in START.items()}, "w": EXPECTED["w"]})


def test_by_parameters_without_names_an_error_says_so():
    _, opt = optimizer(named=False)
    with pytest.raises(StructureError, match="these have no names: use them as keys"):
        opt.step(weight=WEIGHT)


def test_it_is_the_argument_of_a_wrapper_too():
    """Of `accumulate`, at the end of a window."""
    mine, opt = optimizer(fo.accumulate(TX, 2))
    opt.step(weight=WEIGHT)
    opt.step(weight={n: 2 * x for n, x in WEIGHT.items()})
    assert same(values(mine), {n: p - 2 * WEIGHT[n] for n, p in START.items()})


def test_a_state_that_is_on_the_host_and_a_differentiable_step():
    mine, opt = optimizer(offload=True)
    opt.step(weight=WEIGHT)
    assert same(values(mine), EXPECTED)
    meta = torch.ones((), dtype=torch.float64, requires_grad=True)
    params = {n: p.clone() for n, p in START.items()}
    opt = fo.Optimizer(list(params.items()), TX, differentiable=True)
    for p in params.values():
        p.grad = torch.ones_like(p)
    opt.step(weight={n: meta * x for n, x in WEIGHT.items()})
    (slope,) = torch.autograd.grad(params["w"].sum(), meta)
    assert slope == -WEIGHT["w"].sum()


def test_complex_parameters_take_complex_tensors():
    p = torch.nn.Parameter(torch.tensor([1.0 + 2.0j]))
    p.grad = torch.tensor([1.0 + 1.0j])
    fo.Optimizer([("p", p)], TX).step(weight={"p": torch.tensor([2.0 + 3.0j])})
    assert p.item() == 1.0 + 2.0j - (2.0 + 3.0j)  # as two reals
