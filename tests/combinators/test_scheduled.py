"""`scheduled`: any field of any stage follows a schedule of the updates already made."""

import pytest
import torch

import funcopt as fo
from funcopt.errors import HyperparameterError

from ..cases import by_dimension
from .common import START, drive, grads_at, purely, resumes, same, same_bits, values, wrapped

DEEP = fo.chain(
    fo.clip_by_global_norm(1.0),
    fo.skip_if(
        fo.accumulate(
            fo.partition(
                {"matrix": fo.sgd(0.1, momentum=0.9), "rest": fo.adamw(0.01)}, by_dimension
            ),
            1,
        ),
        fo.norm_outlier(),
    ),
)


def line(value):
    """A schedule that starts at `value`, and stays where all fields may be."""
    return fo.linear_schedule(value, 0.9 * value, 5)


def by_hand(tx, schedules, steps):
    """The same run with plain numbers, set before each update."""
    state, params = tx.init(START), START
    for t in range(steps):
        values = {
            key: tuple(v(t) if callable(v) else v for v in s) if isinstance(s, tuple) else s(t)
            for key, s in schedules.items()
        }
        now = fo.with_hyperparams(tx, values)
        updates, state = now.update(grads_at(params, t), state, params)
        params = fo.apply_updates(params, updates)
    return params


FIELDS = [key for key, value in fo.hyperparams(DEEP).items() if isinstance(value, float)]


@pytest.mark.parametrize("key", FIELDS)
def test_every_field_at_any_depth_may_follow_a_schedule(key):
    schedule = line(fo.hyperparams(DEEP)[key] or 0.1)
    tx = fo.scheduled(DEEP, **{key: schedule})
    assert fo.hyperparams(tx)[key] == schedule
    params, _ = purely(tx, 8)
    assert same_bits(params, by_hand(DEEP, {key: schedule}, 8))
    mine, _ = wrapped(tx, 8)
    assert same(values(mine), params)
    assert resumes(tx, 3, 8)


def test_the_table_of_fields_is_deep():
    assert {"max_norm", "zscore", "momentum", "rest/lr"} <= set(FIELDS)


@pytest.mark.parametrize(
    "betas",
    [
        (fo.linear_schedule(0.8, 0.9, 4), 0.99),
        (0.9, fo.linear_schedule(0.99, 0.9, 4)),
        (line(0.9), line(0.99)),
    ],
)
def test_a_tuple_may_hold_schedules(betas):
    tx = fo.scheduled(fo.adamw(0.1), betas=betas)
    params, _ = purely(tx, 8)
    assert same_bits(params, by_hand(fo.adamw(0.1), {"betas": betas}, 8))
    mine, opt = wrapped(tx, 3)
    assert same(values(mine), purely(tx, 3)[0])
    shown = opt.param_groups[0]["betas"]
    assert shown == tuple(b(3) if callable(b) else b for b in betas)


def test_several_at_once():
    schedules = {"lr": line(0.1), "weight_decay": line(0.5), "eps": line(1e-3)}
    tx = fo.scheduled(fo.adamw(), **schedules)
    assert same_bits(purely(tx, 8)[0], by_hand(fo.adamw(), schedules, 8))


def test_it_is_the_stage_made_with_the_schedule():
    assert fo.scheduled(fo.adamw(), lr=line(0.1)) == fo.adamw(line(0.1))


def test_a_schedule_sees_the_updates_already_made():
    seen = []

    def lr(count):
        seen.append(count)
        return 0.1

    tx = fo.scheduled(fo.sgd(1.0), lr=lr)
    purely(tx, 4)
    assert seen == [0, 1, 2, 3]


def test_the_group_shows_the_value_of_the_next_step():
    tx = fo.scheduled(fo.sgd(1.0, weight_decay=0.5), weight_decay=fo.linear_schedule(0.5, 0.0, 10))
    shown = []
    params, opt = wrapped(tx, 0)
    drive(opt, params, 4, after=lambda: shown.append(opt.param_groups[0]["weight_decay"]))
    assert shown == [fo.linear_schedule(0.5, 0.0, 10)(t) for t in (1, 2, 3, 4)]


def test_what_follows_a_schedule_cannot_be_set():
    params, opt = wrapped(fo.scheduled(fo.sgd(0.1), lr=fo.constant_schedule(0.1)), 1)
    kept = values(params)
    opt.param_groups[0]["lr"] = 0.5
    with pytest.raises(HyperparameterError) as error:
        drive(opt, params, 1, first=1)
    assert str(error.value) == (
        "`Optimizer`: `lr` of parameter group 0 follows constant_schedule(0.1) and cannot be set, "
        "got 0.5. Use the schedule or a scheduler, not both."
    )
    assert same_bits(values(params), kept)


def test_each_label_has_its_own_schedule():
    tx = fo.partition(
        {"matrix": fo.sgd(line(0.1)), "rest": fo.scheduled(fo.adamw(), lr=line(0.01))},
        by_dimension,
    )
    params, opt = wrapped(tx, 4)
    assert same(values(params), purely(tx, 4)[0])
    assert {g["name"]: g["lr"] for g in opt.param_groups} == {
        "matrix": line(0.1)(4),
        "rest": line(0.01)(4),
    }


def test_an_unknown_field_is_an_error_that_lists_those_there_are():
    with pytest.raises(HyperparameterError) as error:
        fo.scheduled(fo.sgd(0.1), gamma=line(1.0))
    assert str(error.value) == (
        "`scheduled`: unknown hyperparameter `gamma`. There are ['weight_decay', "
        "'momentum', 'dampening', 'lr'], by full path ['0/weight_decay', '1/momentum', "
        "'1/dampening', '2/lr']."
    )


def test_under_vmap_every_run_has_its_own_schedule():
    starts = torch.tensor([0.1, 0.2], dtype=torch.float64)

    def run(start):
        return purely(fo.scheduled(fo.adamw(), lr=fo.linear_schedule(start, 0.0, 9)), 4)[0]

    together = torch.func.vmap(run)(starts)
    for i, start in enumerate(starts.tolist()):
        assert same({n: p[i] for n, p in together.items()}, run(start), 1e-12)
