"""Schedules of one's own in a sweep, and values that a sweep cannot take."""

import math

import pytest
import torch

import funcopt as fo
from funcopt.errors import HyperparameterError, StructureError

from ..training import common

BATCHES = common.batches(6)


def swept(tx, values, **options):
    given = {"params": common.params(), "batches": BATCHES, "progress": False}
    return fo.sweep(common.loss, tx, values, **{**given, **options})


def alone(tx):
    return common.trained(tx, fo.TrainState.start(tx, common.params()), BATCHES)[0].params


def stairs(t):
    if t < 2:
        return 0.1
    return 0.05 if t < 4 else 0.01


def table(t):
    return [0.1, 0.05, 0.02, 0.01, 0.01, 0.01, 0.01][int(t)]


OWN = {
    "math": lambda t: 0.1 * (1 + math.cos(math.pi * (t % 3) / 3)),
    "if": stairs,
    "a table": table,
    "arithmetic": lambda t: 0.1 / (1 + t),
    "max": lambda t: max(0.1 - 0.02 * t, 0.01),
    "torch": lambda t: 0.1 * torch.cos(torch.as_tensor(t, dtype=torch.float64) / 5),
}


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize(
    "around",
    [
        lambda tx: tx,
        lambda tx: fo.accumulate(tx, 2),
        lambda tx: fo.lookahead(tx, 2),
        lambda tx: fo.partition({"m": tx, "r": fo.sgd(0.1)}, common_label),
        lambda tx: fo.skip_if(tx),
    ],
    ids=["alone", "accumulate", "lookahead", "partition", "skip_if"],
)
def test_what_runs_alone_runs_in_a_sweep(around, name):
    make = lambda momentum: around(fo.sgd(OWN[name], momentum=momentum))  # noqa: E731
    result = swept(make, {"momentum": [0.1, 0.5]})
    for i, momentum in enumerate((0.1, 0.5)):
        assert common.close(result.run(i).params, alone(make(momentum)), 1e-12)


def common_label(name, p):
    return "m" if p.ndim > 1 else "r"


def test_its_own_numbers_may_be_swept():
    make = lambda peak: fo.sgd(lambda t: peak * math.exp(-0.1 * t))  # noqa: E731
    result = swept(make, {"peak": [0.1, 0.2]})
    for i, peak in enumerate((0.1, 0.2)):
        assert common.close(result.run(i).params, alone(make(peak)), 1e-10)


def test_derivatives_go_through_what_it_has_closed_over():
    def make(peak):
        return fo.sgd(lambda t: peak * math.exp(-0.1 * t))

    def value(peak):
        return fo.hypergrad(
            common.loss, make, {"peak": peak}, common.params(), BATCHES, outer
        ).value

    def outer(params):
        return common.loss(params, BATCHES[0])

    found = fo.hypergrad(common.loss, make, {"peak": 0.1}, common.params(), BATCHES, outer)
    h = 1e-5
    slope = (value(0.1 + h) - value(0.1 - h)) / (2 * h)
    torch.testing.assert_close(found.values["peak"], slope, rtol=1e-7, atol=0)


def test_where_runs_have_counts_of_their_own_it_says_how_to_write_one():
    """Each run leaves out steps of its own, so the counts differ, and are tensors."""

    def loss(params, batch, *, bad):
        x, y, at = batch
        return common.loss(params, (torch.where(at == bad, math.nan, x), y))

    marked = [(*batch, torch.tensor(float(i))) for i, batch in enumerate(BATCHES)]
    values = {"bad": [1.0, 3.0]}
    with pytest.raises(HyperparameterError) as error:
        fo.sweep(loss, fo.skip_if(fo.sgd(OWN["math"])), values, common.params(), marked)
    assert "the schedule <lambda> fails where the number of updates is a 0-d tensor" in str(
        error.value
    )
    assert "`torch.where` for `if`" in str(error.value)
    result = fo.sweep(loss, fo.skip_if(fo.sgd(OWN["arithmetic"])), values, common.params(), marked)
    for i, bad in enumerate((1, 3)):
        rest = [batch for k, batch in enumerate(BATCHES) if k != bad]
        tx = fo.sgd(OWN["arithmetic"])
        expected = common.trained(tx, fo.TrainState.start(tx, common.params()), rest)[0].params
        assert common.close(result.run(i).params, expected, 1e-12)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda n: fo.accumulate(fo.sgd(0.1), n), "`accumulate`: `steps`"),
        (lambda n: fo.lookahead(fo.sgd(0.1), n), "`lookahead`: `sync_period`"),
        (lambda n: fo.lbfgs(history_size=n), "`lbfgs`: `history_size`"),
        (lambda n: fo.soap(0.1, precondition_frequency=n), "precondition_frequency`"),
        (lambda n: fo.sgd(0.1, momentum=0.9, nesterov=n), "`trace`: `nesterov`"),
        (lambda n: fo.adam(0.1, amsgrad=n), "`scale_by_adam`: `amsgrad`"),
    ],
)
def test_what_is_structure_says_so(make, named):
    """It shows no tensor of `vmap`, which nobody wrote."""
    with pytest.raises(HyperparameterError) as error:
        swept(make, {"n": [1, 2]})
    assert named in str(error.value)
    assert "cannot differ between the runs of one `sweep`" in str(error.value)
    assert "BatchedTensor" not in str(error.value)


def test_values_may_be_trees():
    """A learning rate for each parameter, as one value."""

    def make(rates):
        return fo.from_functions(
            lambda p: (), lambda u, s, p: (fo.tree.map(lambda g, a: -a * g, u, rates), s)
        )

    def filled(x):
        return fo.tree.map(lambda p: torch.full_like(p, x), common.params())

    result = swept(make, {"rates": [filled(0.1), filled(0.2)]})
    for i, x in enumerate((0.1, 0.2)):
        assert common.close(result.run(i).params, alone(make(filled(x))), 1e-12)

    def by_label(rates):
        return fo.partition({"m": fo.sgd(rates["m"]), "r": fo.sgd(rates["r"])}, common_label)

    settings = [{"rates": {"m": 0.1, "r": 0.2}}, {"rates": {"m": 0.3, "r": 0.0}}]
    result = swept(by_label, settings)
    for i, row in enumerate(settings):
        assert common.close(result.run(i).params, alone(by_label(**row)), 1e-12)
    with pytest.raises(HyperparameterError, match="all values of `rates` must have one structure"):
        swept(by_label, [settings[0], {"rates": {"m": 0.1}}])


def test_a_loss_with_metrics_is_refused_with_the_way_out():
    def both(params, batch):
        value = common.loss(params, batch)
        return value, {"twice": 2 * value}

    with pytest.raises(StructureError, match="has_aux=True"):
        fo.sweep(both, fo.sgd(), {"lr": [0.1]}, common.params(), BATCHES)
