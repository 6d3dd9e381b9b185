"""Contract 45: `DistributedDataParallel` needs nothing of an optimizer."""

import pytest
from torch.nn.parallel import DistributedDataParallel

from ..contract.common import OPTIMIZERS, model
from .work import alone, gap, params_of, step


def trained(name, steps):
    net = DistributedDataParallel(model())
    opt = OPTIMIZERS[name](net.module)
    for _ in range(steps):
        step(net, opt)
    return params_of(net)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_two_ranks_step_as_one_process(two, name):
    first, second = two(trained, name, 6)
    assert gap(first, second) == 0.0
    assert gap(first, alone(name, 6)) <= 1e-9
