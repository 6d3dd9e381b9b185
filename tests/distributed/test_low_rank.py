"""`low_rank` on parameters that are cut over two ranks: the same projectors on both."""

import pytest

import funcopt as fo

from ..combinators.common import values, wrapped
from .test_nestings import steps_on_shards
from .work import gap

STEPS = 6
INNER = fo.chain(fo.clip_by_global_norm(0.5), fo.scale_by_adam())
TXS = {
    "svd": fo.low_rank(INNER, 1, 2),
    "fira": fo.low_rank(INNER, 1, 2, 0.5, residual=True),
    "random": fo.low_rank(INNER, 1, 2, projection="random", dim="larger"),
    "apollo": fo.chain(
        fo.low_rank(INNER, 1, 2, projection="random", restore="channel"), fo.limit_norm_growth()
    ),
}


def chain(name):
    return fo.chain(TXS[name], fo.scale_by_learning_rate(0.1))


@pytest.mark.parametrize("name", TXS)
def test_the_steps_are_those_of_one_process(two, name):
    (first, kinds), (second, _) = two(steps_on_shards, chain(name), STEPS)
    assert gap(first, second) == 0.0
    assert gap(first, values(wrapped(chain(name), STEPS)[0])) <= 1e-12
    assert kinds["projector"] == kinds["exp_avg"] == "Tensor"
