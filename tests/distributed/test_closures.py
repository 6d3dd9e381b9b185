"""What evaluates the loss itself, where parameters are cut over the ranks."""

import pytest
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

import funcopt as fo

from ..contract.common import loss_of, model
from .test_fsdp import cut_model
from .work import gap, loss_of_part, params_of

TXS = {
    "sam": fo.sam(fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(0.1, momentum=0.9)), adaptive=True),
    "line_search": fo.line_search(fo.sgd(8.0, momentum=0.5)),
    "lbfgs": fo.lbfgs(max_iter=4, history_size=3, line_search=fo.strong_wolfe()),
}


def stepped(net, opt, steps, loss):
    def closure():
        opt.zero_grad()
        value = loss(net)
        value.backward()
        return value

    for _ in range(steps):
        opt.step(closure)
    return net, opt


def cut(name, steps=4):
    net = cut_model()
    net, opt = stepped(net, fo.Optimizer(net.named_parameters(), TXS[name]), steps, loss_of_part)
    kept = {k: type(v).__name__ for own in opt.state.values() for k, v in own.items() if v.dim()}
    return params_of(net), kept


@pytest.mark.parametrize("name", TXS)
def test_ranks_decide_alike_and_step_as_one_process(two, name):
    """Each rank's closure has the loss of its own part; searches see the mean."""
    (first, kept), (second, _) = two(cut, name)
    whole = model()
    stepped(whole, fo.Optimizer(whole.named_parameters(), TXS[name]), 4, loss_of)
    assert gap(first, second) == 0.0
    assert gap(first, params_of(whole)) <= 1e-9
    assert set(kept.values()) == {"DTensor"}


def round_trip(name, mode):
    options = StateDictOptions(**mode)
    net = cut_model()
    net, opt = stepped(net, fo.Optimizer(net.named_parameters(), TXS[name]), 2, loss_of_part)
    of_net, of_opt = get_state_dict(net, opt, options=options)
    again = cut_model()
    other = fo.Optimizer(again.named_parameters(), TXS[name])
    set_model_state_dict(again, of_net, options=options)
    set_optimizer_state_dict(again, other, of_opt, options=options)
    stepped(net, opt, 2, loss_of_part)
    stepped(again, other, 2, loss_of_part)
    return gap(params_of(net), params_of(again))


@pytest.mark.parametrize("name", TXS)
@pytest.mark.parametrize("mode", [{}, {"full_state_dict": True}], ids=["sharded", "full"])
def test_a_state_makes_the_round_trip(two, name, mode):
    assert two(round_trip, name, mode) == [0.0, 0.0]
