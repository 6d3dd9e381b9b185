"""`eval_params`: which parameters a model is evaluated with."""

import pytest
import torch

import funcopt as fo
from funcopt.errors import HyperparameterError, ModeError, StructureError

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


NAMED = fo.chain(
    fo.sgd(0.1), fo.ema_of_params(0.9, name="slow"), fo.ema_of_params(0.5), fo.mean_of_params()
)


def test_of_several_averages_one_is_chosen_by_name():
    params, state = trained(NAMED)
    alone = {
        "slow": fo.chain(fo.sgd(0.1), fo.ema_of_params(0.9)),
        "ema_of_params": fo.chain(fo.sgd(0.1), fo.ema_of_params(0.5)),
        "mean_of_params": fo.chain(fo.sgd(0.1), fo.mean_of_params()),
    }
    for which, tx in alone.items():
        _, own = trained(tx)
        expected = fo.eval_params(tx, own, params)
        got = fo.eval_params(NAMED, state, params, which=which)
        assert all(map(torch.equal, fo.tree.leaves(got), fo.tree.leaves(expected)))
        step = fo.train_step(lambda p: p["w"].sum(), NAMED)
        (seen,) = fo.TrainState(params, state, ()).evaluated(step.tx, which=which)
        assert torch.equal(seen["w"], expected["w"])


@pytest.mark.parametrize("how", [how for how in TWO if how != "twice the same"])
def test_names_are_found_at_any_depth(how):
    params, state = trained(TWO[how])
    names = {"schedule-free": "primal_averaging", "around a partition": "mean_of_params"}
    which = names.get(how, "mean_of_params")
    chosen = fo.eval_params(TWO[how], state, params, which=which)
    other = fo.eval_params(TWO[how], state, params, which="ema_of_params")
    assert not torch.equal(chosen["w"], other["w"])
    assert not torch.equal(chosen["w"], params["w"])


def test_an_optimizer_takes_the_name_too():
    params, state = trained(NAMED)
    ps = {k: torch.nn.Parameter(p.clone()) for k, p in P.items()}
    opt = fo.Optimizer(ps.items(), NAMED)
    for _ in range(3):
        for p in ps.values():
            p.grad = torch.ones_like(p)
        opt.step()
    expected = fo.eval_params(NAMED, state, params, which="slow")["w"]
    with opt.averaged("slow"):
        assert torch.equal(ps["w"].detach(), expected)
        opt.state_dict()
    assert torch.equal(ps["w"].detach(), params["w"])
    opt.eval(which="slow")
    opt.eval()  # it is there
    opt.eval("slow")
    assert torch.equal(ps["w"].detach(), expected)
    for other in (opt.eval, opt.averaged):
        with pytest.raises(ModeError, match="the parameters are `slow` now"):
            other("mean_of_params")
    opt.train()
    assert torch.equal(ps["w"].detach(), params["w"])


def test_what_is_evaluated_by_name_is_restored_from_a_checkpoint():
    p, q = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    opt, again = (fo.Optimizer([x], NAMED) for x in (p, q))
    p.grad = torch.ones(2)
    opt.step()
    trained_p = p.detach().clone()
    opt.eval("slow")
    again.load_state_dict(opt.state_dict())
    with pytest.raises(ModeError, match="the parameters are an average now"):
        again.eval("slow")
    again.train()
    assert torch.equal(q.detach(), trained_p)


def test_what_is_lost_in_eval_mode_is_an_error_with_several_averages_too():
    p = torch.nn.Parameter(torch.ones(2))
    opt = fo.Optimizer([p], NAMED)
    p.grad = torch.ones(2)
    opt.step()
    opt.eval("slow")
    del opt.state[p]["train_params"]
    with pytest.raises(ModeError, match="were not loaded"):
        opt.train()


def test_a_name_that_there_is_not():
    params, state = trained(NAMED)
    said = r"`eval_params`: no stage keeps an average named `fast`. It keeps `slow`, `ema_of_par"
    with pytest.raises(StructureError, match=said):
        fo.eval_params(NAMED, state, params, which="fast")
    opt = fo.Optimizer([torch.nn.Parameter(torch.ones(2))], fo.sgd(0.1))
    with pytest.raises(StructureError, match=r"`Optimizer.eval`: no stage .* It keeps none"):
        opt.eval("fast")
    with pytest.raises(HyperparameterError, match="`ema_of_params`: `name` must be a word, got 3"):
        fo.ema_of_params(name=3)


@pytest.mark.parametrize("sync_every", [1, 3])
def test_a_sync_sets_the_parameters_to_the_average(sync_every):
    """By hand, as in the paper; the average itself is of the parameters before."""
    tx = fo.chain(fo.sgd(0.1, momentum=0.9), fo.ema_of_params(0.8, sync_every=sync_every))
    inner = fo.sgd(0.1, momentum=0.9)
    params, state, by_hand, own = P["w"], tx.init(P["w"]), P["w"], inner.init(P["w"])
    average = None
    for t in range(1, 9):
        updates, state = tx.update(params - 0.3 * t, state, params)
        params = fo.apply_updates(params, updates)
        updates, own = inner.update(by_hand - 0.3 * t, own, by_hand)
        by_hand = by_hand + updates
        average = by_hand if average is None else 0.8 * average + 0.2 * by_hand
        by_hand = average if t % sync_every == 0 else by_hand
        torch.testing.assert_close(params, by_hand, rtol=1e-14, atol=0)
        torch.testing.assert_close(fo.eval_params(tx, state, params), average, rtol=1e-14, atol=0)


def test_what_follows_a_sync_sees_the_final_update():
    with pytest.raises(HyperparameterError, match="`mean_of_params` needs the final update"):
        fo.chain(fo.sgd(0.1), fo.mean_of_params(), fo.ema_of_params(sync_every=2))
    fo.chain(fo.sgd(0.1), fo.ema_of_params(sync_every=2), fo.mean_of_params())
