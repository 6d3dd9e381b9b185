"""Methods with matrices for every dimension: steps are those of the package."""

import pytest

import funcopt as fo

from .test_parity_authors import (
    TOLERANCE,
    difference,
    of_port,
    purely_stepped,
    row,
    stepped,
    unrounded,
)
from .test_parity_ports import UnderScheduler

pytestmark = pytest.mark.usefixtures("in_float64")

SIDES = {"sgd": 1, "adagrad": 2, "rmsprop": 3, "sign": 4}
"""The methods whose norm is taken, and their numbers in the port."""


def blocks(norm, steps, start, size, b1=0.0, b2=0.99, nesterov=False, decay=0.0):
    """`ScalableShampoo`, with its epsilon: a first value of the matrices, which is forgotten.

    With a smaller `b2`, so little is left of it after 200 steps that rounding chooses directions.
    """
    magnitude = {
        "sgd": fo.identity(),
        "adagrad": fo.scale_by_adagrad(eps=1e-10),
        "rmsprop": fo.scale_by_rms(b2, 1e-10),
        "sign": fo.scale_by_sign(),
    }[norm]
    scaling = fo.scale_by_shampoo(
        b2,
        eps=lambda t: 1e-2 * b2 ** (t + 1) / (1 - b2 ** (t + 1)),
        precondition_frequency=steps,
        start_preconditioning_step=steps,
        block_size=size,
    )
    tx = fo.chain(
        fo.graft(magnitude, scaling, start=start),
        fo.add_decayed_weights(decay),
        fo.trace(b1, nesterov=nesterov),
        fo.scale_by_learning_rate(0.01),
    )
    given = {
        "graft_type": SIDES[norm],
        "preconditioning_compute_steps": steps,
        "start_preconditioning_step": start,
        "block_size": size,
        "betas": (b1, b2),
        "nesterov": nesterov,
        "weight_decay": decay,
    }
    exact = {"lr": 0.01, "matrix_eps": 1e-2, "use_svd": True, "shape_interpretation": False}
    name = f"pytorch_optimizer.ScalableShampoo({', '.join(f'{k}={v}' for k, v in given.items())})"
    made = row(name, tx, of_port("ScalableShampoo", **given, **exact))
    # A vector has no matrix there, and the update of the other method here too if that is SGD.
    return made._replace(shapes=MATRICES if norm in ("adagrad", "rmsprop", "sign") else ALL)


MATRICES = [(5, 3), (4, 4), (7, 2), (2, 3, 4)]
ALL = [(), (7,), *MATRICES]
SCALABLE = [
    blocks("sgd", 1, 1, 2),
    blocks("sgd", 3, 6, 3, decay=0.1),
    blocks("adagrad", 2, 8, 2, decay=0.1),
    blocks("rmsprop", 5, 10, 4),
    blocks("sign", 1, 1, 100),
    blocks("sgd", 1, 1, 2, b1=0.9, nesterov=True, decay=0.1),
    blocks("rmsprop", 1, 1, 3, b1=0.8),
]


ROWS = [*SCALABLE]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_steps_are_those_of_the_package(row):
    with unrounded(row.name):
        theirs, _ = stepped(row.theirs, row.average, row.shapes)
    ours, _ = stepped(row.ours, row.average, row.shapes)
    assert difference(ours, theirs) <= TOLERANCE
    assert difference(purely_stepped(row.tx, row.average, row.shapes), theirs) <= TOLERANCE


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_so_they_are_under_a_scheduler(row):
    with unrounded(row.name):
        theirs, _ = stepped(lambda ps: UnderScheduler(row.theirs(ps)), row.average, row.shapes)
    ours, _ = stepped(lambda ps: UnderScheduler(row.ours(ps)), row.average, row.shapes)
    assert difference(ours, theirs) <= TOLERANCE
