"""`eval_params`: which parameters a model is evaluated with."""

import pytest
import torch

import funcopt as fo
from funcopt.errors import HyperparameterError, StructureError

P = {"w": torch.ones(2, dtype=torch.float64), "b": torch.zeros((), dtype=torch.float64)}
whole_tree = fo.from_functions(lambda p: (), lambda u, s, p: (u, s))

TWO = {
    "in a chain": fo.chain(fo.sgd(0.1), fo.ema_of_params(0.9), fo.mean_of_params()),
    "twice the same": fo.chain(fo.sgd(0.1), fo.ema_of_params(0.9), fo.ema_of_params(0.5)),
    "behind a whole tree": fo.chain(
        whole_tree, fo.sgd(0.1), fo.ema_of_params(0.9), fo.mean_of_params()
    ),
    "inside and outside": fo.chain(
        fo.skip_if(fo.chain(fo.sgd(0.1), fo.ema_of_params(0.9))), fo.mean_of_params()
    ),
    "around a partition": fo.chain(
        fo.partition({"w": fo.chain(fo.sgd(0.1), fo.ema_of_params()), "b": fo.sgd(0.1)},
                     {"w": "w", "b": "b"}),
        fo.mean_of_params(),
    ),
    "schedule-free": fo.chain(fo.schedule_free_sgd(0.1), fo.ema_of_params(0.9)),
}  # fmt: skip


def trained(tx, steps=3):
    params, state = P, tx.init(P)
    for _ in range(steps):
        updates, state = tx.update(fo.tree.map(torch.ones_like, params), state, params)
        params = fo.apply_updates(params, updates)
    return params, state


@pytest.mark.parametrize("how", TWO)
def test_of_two_averages_none_is_chosen(how):
    params, state = trained(TWO[how])
    with pytest.raises(StructureError, match=r"several stages keep an average of parameter `[wb]`"):
        fo.eval_params(TWO[how], state, params)


@pytest.mark.parametrize("how", ["in a chain", "schedule-free", "inside and outside"])
def test_nor_by_an_optimizer_which_stays_as_it_is(how):
    p = torch.nn.Parameter(torch.ones(2))
    opt = fo.Optimizer([p], TWO[how])
    p.grad = torch.ones(2)
    opt.step()
    before = p.detach().clone()
    with pytest.raises(StructureError, match="several stages keep an average"):
        opt.eval()
    with pytest.raises(StructureError, match="several stages keep an average"), opt.averaged():
        pass
    assert torch.equal(p, before)
    opt.step()


def test_one_for_each_label_is_fine():
    tx = fo.partition(
        {"w": fo.chain(fo.sgd(0.1), fo.ema_of_params(0.5)), "b": fo.lookahead(fo.sgd(0.1), 2)},
        {"w": "w", "b": "b"},
    )
    params, state = trained(tx)
    found = fo.eval_params(tx, state, params)
    assert not torch.equal(found["w"], params["w"])
    assert not torch.equal(found["b"], params["b"])


def test_behind_a_whole_tree_it_is_the_average():
    tx = fo.chain(whole_tree, fo.sgd(0.1), fo.ema_of_params(0.5))
    plain = fo.chain(fo.sgd(0.1), fo.ema_of_params(0.5))
    (params, state), (_, expected) = trained(tx), trained(plain)
    assert torch.equal(
        fo.eval_params(tx, state, params)["w"], fo.eval_params(plain, expected, params)["w"]
    )


def test_a_transformation_of_whole_trees_evaluates_the_parameters():
    params, state = trained(fo.chain(whole_tree, fo.scale(-0.1)))
    assert fo.eval_params(whole_tree, (), params) is params
    assert fo.eval_params(fo.chain(whole_tree, fo.scale(-0.1)), state, params)["w"] is params["w"]


def test_arguments_in_another_order_are_named():
    params, state = trained(fo.sgd(0.1))
    for given in ((state, fo.sgd(0.1), params), (params, state, fo.sgd(0.1))):
        with pytest.raises(
            HyperparameterError, match=r"The call is `eval_params\(tx, state, params\)`"
        ):
            fo.eval_params(*given)
    with pytest.raises(StructureError, match="was made by another transformation"):
        fo.eval_params(fo.sgd(0.1), params, state)
