"""`ema_of_params`, `eval_params`, `Optimizer.averaged`: the mean of where one has been."""

import copy

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

import funcopt as fo
from funcopt.errors import HyperparameterError, MissingParamsError, StructureError

from ..cases import by_dimension, is_matrix
from ..combinators.common import (
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

AVERAGED = fo.chain(fo.adamw(0.1), fo.ema_of_params(0.8))


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.all = torch.nn.ParameterDict(named_parameters())


def averages_of_torch(opt, net, decay, steps, after=lambda: None):
    model = AveragedModel(net, avg_fn=get_ema_avg_fn(decay))

    def update():
        model.update_parameters(net)
        after()

    drive(opt, dict(net.all.items()), steps, after=update)
    return values(dict(model.module.all.items()))


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("steps", [1, 2, 20])
def test_it_is_the_averaged_model_of_torch(steps, decay):
    net = Net()
    adamw = torch.optim.AdamW(net.all.values(), 0.1, foreach=False)
    expected = averages_of_torch(adamw, net, decay, steps)
    tx = fo.chain(fo.adamw(0.1), fo.ema_of_params(decay))
    params, state = purely(tx, steps)
    assert same(params, values(dict(net.all.items())), 1e-12)
    assert same(fo.eval_params(tx, state, params), expected, 1e-12)
    mine, opt = wrapped(tx, steps)
    with opt.averaged():
        assert same(values(mine), expected, 1e-12)


def test_updates_pass_unchanged():
    assert same_bits(purely(AVERAGED, 5)[0], purely(fo.adamw(0.1), 5)[0])
    assert the_optimizer_does_the_same(AVERAGED)


def test_before_the_first_step_the_average_is_the_parameters():
    assert same_bits(fo.eval_params(AVERAGED, AVERAGED.init(START), START), START)


def test_the_average_is_no_alias_of_the_parameters():
    params = {n: p.clone() for n, p in START.items()}
    state = AVERAGED.init(params)
    params["w"].zero_()
    assert same_bits(fo.eval_params(AVERAGED, state, params)["w"], START["w"])


# eval_params


def test_eval_params_is_pure():
    params, state = purely(AVERAGED, 3)
    given = copy.deepcopy((params, state))
    first, second = (fo.eval_params(AVERAGED, state, params) for _ in range(2))
    assert same_bits((params, state), given)
    assert same_bits(first, second)
    straight, _ = purely(AVERAGED, 6)
    assert same_bits(purely(AVERAGED, 3, params, state=state, first=3)[0], straight)


def test_without_an_average_they_are_the_parameters():
    params, state = purely(fo.adamw(), 2)
    assert all(
        value is params[name] for name, value in fo.eval_params(fo.adamw(), state, params).items()
    )


def test_of_a_state_of_other_parameters_they_are_an_error():
    with pytest.raises(StructureError):
        fo.eval_params(AVERAGED, AVERAGED.init({"other": torch.ones(1)}), START)


def test_under_vmap_every_run_has_its_own_average():
    decays = torch.tensor([0.5, 0.9], dtype=torch.float64)

    def run(decay):
        tx = fo.chain(fo.adamw(0.1), fo.ema_of_params(decay))
        params, state = purely(tx, 3)
        return fo.eval_params(tx, state, params)

    together = torch.func.vmap(run)(decays)
    for i, decay in enumerate(decays.tolist()):
        assert same({n: p[i] for n, p in together.items()}, run(decay), 1e-12)


LAST = fo.ema_of_params(0.8)
NESTED = {
    "in skip_if": fo.skip_if(AVERAGED),
    "in accumulate": fo.accumulate(AVERAGED, 1),
    "in a partition": fo.partition({"matrix": AVERAGED, "rest": AVERAGED}, by_dimension),
    "after a partition": fo.chain(
        fo.partition({"matrix": fo.adamw(0.1), "rest": fo.adamw(0.1)}, by_dimension), LAST
    ),
    "in a mask": fo.chain(fo.adamw(0.1), fo.masked(LAST, r"")),
}


@pytest.mark.parametrize("how", NESTED)
def test_nested_it_is_the_same_average(how):
    params, state = purely(NESTED[how], 4)
    expected = fo.eval_params(AVERAGED, *reversed(purely(AVERAGED, 4)))
    assert same(fo.eval_params(NESTED[how], state, params), expected, 1e-15)
    mine, opt = wrapped(NESTED[how], 4)
    with opt.averaged():
        assert same(values(mine), expected, 1e-15)
    assert resumes(NESTED[how], 2, 4)


def test_it_averages_what_the_mask_holds_and_leaves_the_rest():
    tx = fo.chain(fo.adamw(0.1), fo.masked(LAST, is_matrix))
    params, state = purely(tx, 4)
    found = fo.eval_params(tx, state, params)
    assert found["b"] is params["b"]
    assert not torch.equal(found["w"], params["w"])
    mine, opt = wrapped(tx, 4)
    with opt.averaged():
        assert same(values(mine), found)


# Optimizer.averaged


def test_within_the_context_the_parameters_are_the_averages_and_then_they_are_back():
    params, opt = wrapped(AVERAGED, 4)
    kept, places = values(params), {n: p.data_ptr() for n, p in params.items()}
    with opt.averaged():
        assert not any(torch.equal(params[n], kept[n]) for n in params)
        assert {n: p.data_ptr() for n, p in params.items()} == places
    assert same_bits(values(params), kept)
    drive(opt, params, 3, first=4)
    assert same_bits(values(params), values(wrapped(AVERAGED, 7)[0]))


def test_they_are_back_after_an_exception_too():
    params, opt = wrapped(AVERAGED, 4)
    kept = values(params)
    with pytest.raises(KeyboardInterrupt), opt.averaged():
        raise KeyboardInterrupt
    assert same_bits(values(params), kept)


def test_it_nests():
    params, opt = wrapped(AVERAGED, 4)
    kept = values(params)
    with opt.averaged():
        average = values(params)
        with opt.averaged():
            assert same_bits(values(params), average)
        assert same_bits(values(params), average)
    assert same_bits(values(params), kept)


def test_before_the_first_step_and_for_late_joiners_it_is_the_parameter_itself():
    params, opt = wrapped(AVERAGED, 0)
    with opt.averaged():
        assert same_bits(values(params), START)
    assert not opt.state
    drive(opt, params, 2)
    late = torch.nn.Parameter(torch.ones(2))
    opt.add_param_group({"params": [("late", late)]})
    with opt.averaged():
        assert torch.equal(late, torch.ones(2))


def test_after_loading_the_state_of_torch_the_average_begins_at_the_parameters():
    theirs, mine = named_parameters(), named_parameters()
    adamw = torch.optim.AdamW(theirs.values(), 0.1)
    drive(adamw, theirs, 2)
    opt = fo.Optimizer(mine.values(), AVERAGED)
    with pytest.raises(StructureError, match=r"Missing entries: .*`ema_params`"):
        opt.load_state_dict(adamw.state_dict())
    with pytest.warns(UserWarning, match="Initialized: .*`ema_params`"):
        opt.load_state_dict(adamw.state_dict(), strict=False)
    with opt.averaged():
        assert same_bits(values(mine), START)


@pytest.mark.parametrize("steps", [0, 2])
def test_without_an_average_there_is_an_error(steps):
    params, opt = wrapped(fo.sgd(0.1), steps)
    kept = values(params)
    with pytest.raises(StructureError) as error, opt.averaged():
        pass
    assert str(error.value).startswith("`Optimizer`: no stage of chain(")
    assert str(error.value).endswith("keeps an average: add `ema_of_params()` at the end.")
    assert same_bits(values(params), kept)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tx: tx,
        fo.skip_if,
        lambda tx: fo.accumulate(tx, 1),
        lambda tx: fo.partition({"all": tx}, "all"),
        lambda tx: fo.skip_if(fo.accumulate(tx, 1)),
    ],
    ids=["bare", "in skip_if", "in accumulate", "in a partition", "in both"],
)
def test_where_the_optimizer_adds_a_rate_the_average_sees_it(wrap):
    relative = fo.chain(fo.scale_by_adam(), fo.scale(-0.1))
    net = Net()
    theirs = torch.optim.AdamW(net.all.values(), 0.1, weight_decay=0.0, foreach=False)
    scheduler = torch.optim.lr_scheduler.StepLR(theirs, 2, 0.5)
    expected = averages_of_torch(theirs, net, 0.8, 7, after=scheduler.step)
    params = named_parameters()
    opt = fo.Optimizer(list(params.items()), wrap(fo.chain(relative, LAST)))
    scheduler = torch.optim.lr_scheduler.StepLR(opt, 2, 0.5)
    drive(opt, params, 7, after=scheduler.step)
    assert same(values(params), values(dict(net.all.items())), 1e-12)
    with opt.averaged():
        assert same(values(params), expected, 1e-12)


# Precision and options


def test_in_bfloat16_the_average_moves_only_if_it_is_kept_wider():
    start = {"p": torch.ones(1, dtype=torch.bfloat16)}

    def up(params, t):
        return {"p": -torch.full_like(params["p"], 2**-7)}

    found = {}
    for state_dtype in (None, torch.float32):
        tx = fo.chain(fo.sgd(1.0), fo.ema_of_params(0.999, state_dtype=state_dtype))
        params, state = purely(tx, 3, start, up)
        found[state_dtype] = state.slots["p"][-1].ema_params
        assert fo.eval_params(tx, state, params)["p"].dtype == torch.bfloat16
    at = [1 + 2**-7 * t for t in (1, 2, 3)]
    expected = 0.999 * (0.999 * at[0] + 0.001 * at[1]) + 0.001 * at[2]
    assert found[None].dtype == torch.bfloat16
    assert found[None] == at[0]
    assert found[torch.float32].item() == pytest.approx(expected, rel=1e-7)


def test_a_complex_parameter_has_a_complex_average():
    start = {"z": torch.tensor([1.0 + 2.0j, -1.0j], dtype=torch.complex128)}

    def grads(params, t):
        return {"z": params["z"] * (1 + t * 1j)}

    params, state = purely(AVERAGED, 3, start, grads)
    mine, opt = wrapped(AVERAGED, 3, start, grads)
    expected, z = None, start["z"]
    for t in (1, 2, 3):
        z = purely(AVERAGED, t, start, grads)[0]["z"]
        expected = z if expected is None else 0.8 * expected + 0.2 * z
    assert same(fo.eval_params(AVERAGED, state, params), {"z": expected}, 1e-12)
    with opt.averaged():
        assert same(values(mine), {"z": expected}, 1e-12)


def test_it_needs_the_parameters():
    tx = fo.ema_of_params()
    with pytest.raises(MissingParamsError, match="`ema_of_params` needs the parameters"):
        tx.update(grads_at(START, 0), tx.init(START))


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_bad_decay_is_named(decay):
    with pytest.raises(HyperparameterError, match="`decay` must lie in"):
        fo.ema_of_params(decay)
