"""Figures of schedules."""

import numpy as np
import pytest
import torch

import funcopt as fo
from funcopt import optim
from funcopt.errors import HyperparameterError
from funcopt.schedules import constant_schedule

from .cases import SCHEDULES

pytest.importorskip("matplotlib")


def lines(figure):
    return [line for ax in figure.axes for line in ax.get_lines()]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_a_schedule_is_drawn_as_it_is(schedule):
    (line,) = lines(schedule.plot(25))
    assert list(line.get_xdata()) == list(range(26))
    assert line.get_ydata() == pytest.approx([float(schedule(step)) for step in range(26)])


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        (constant_schedule(0.1), 100),
        (fo.linear_schedule(0.0, 0.1, 1000), 1100),
        (fo.linear_schedule(0.0, 0.1, 1000, transition_begin=1000), 2200),
        (fo.multi_step_decay_schedule(0.3, (30, 100)), 110),
        (fo.cosine_restarts_schedule(0.3, 10), 44),
        (fo.warmup_stable_decay_schedule(0.3, 10, 20, 70), 110),
        (fo.join_schedules([fo.linear_schedule(0.0, 1.0, 50), constant_schedule(1.0)], [50]), 110),
    ],
)
def test_by_default_all_of_it_is_drawn(schedule, steps, tmp_path):
    path = tmp_path / "new" / "schedule.png"
    (line,) = lines(schedule.plot(path=path))
    assert abs(len(line.get_xdata()) - 1 - steps) <= 5
    assert path.stat().st_size > 1000


def params():
    return [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]


def test_an_optimizer_has_a_panel_for_each_hyperparameter_that_follows_one():
    rate, momentum = fo.linear_schedule(0.1, 0.0, 10), fo.linear_schedule(0.8, 0.9, 10)
    opt = optim.AdamW(params(), lr=rate, betas=(momentum, 0.99))
    figure = optim.plot_schedules(opt, 12)
    drawn = {ax.get_ylabel(): ax.get_lines() for ax in figure.axes}
    assert drawn.keys() == {"lr", "betas"}
    drawn = {name: np.array([line.get_ydata() for line in own]) for name, own in drawn.items()}
    np.testing.assert_allclose(drawn["lr"][0], [rate(t) for t in range(13)])
    np.testing.assert_allclose(drawn["betas"][0], [momentum(t) for t in range(13)])
    np.testing.assert_allclose(drawn["betas"][1], 0.99)


def test_groups_that_differ_have_lines_of_their_own():
    one, other = params()
    groups = [
        {"params": [one], "name": "slow", "lr": fo.linear_schedule(0.1, 0.0, 10)},
        {"params": [other], "name": "fast", "lr": fo.linear_schedule(0.5, 0.0, 10)},
    ]
    figure = optim.plot_schedules(optim.SGD(groups), 10)
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.get_legend().texts] == ["slow", "fast"]
    same = optim.SGD(params(), lr=fo.linear_schedule(0.1, 0.0, 10))
    assert len(lines(optim.plot_schedules(same))) == 1


def test_a_transformation_is_drawn_too(tmp_path):
    tx = fo.chain(fo.clip_by_global_norm(fo.linear_schedule(1.0, 0.5, 10)), fo.adamw())
    figure = optim.plot_schedules(tx, path=tmp_path / "all.png")
    assert [ax.get_ylabel() for ax in figure.axes] == ["max_norm"]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (lambda: optim.AdamW(params()), "no hyperparameter follows a schedule"),
        (fo.adamw, "no hyperparameter follows a schedule"),
        (lambda: torch.optim.SGD(params(), lr=0.1), "which has no schedules of its own"),
        (lambda: 3, "expected an `Optimizer` or a transformation, got 3"),
    ],
)
def test_what_has_no_schedule_is_said(what, said):
    with pytest.raises(HyperparameterError, match=f"`plot_schedules`: .*{said}"):
        optim.plot_schedules(what())


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"`linear_schedule\.plot` needs matplotlib.*\[plots\]"):
        fo.linear_schedule(0.1, 0.0, 10).plot()
