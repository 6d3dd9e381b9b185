"""`Optimizer.eval`, `train` and `averaged`: whatever the order, the trajectory is one."""

import copy
import pickle

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

import funcopt as fo
from funcopt import optim
from funcopt.errors import ModeError

from ..cases import is_matrix
from ..combinators.common import drive, named_parameters, purely, same_bits, step, values, wrapped

CHAINS = {
    "schedule_free": fo.schedule_free_adamw(0.1, warmup_steps=3),
    "schedule_free, stored": fo.schedule_free_sgd(0.1, store_average=True),
    "ema_of_params": fo.chain(fo.adamw(0.1), fo.ema_of_params(0.8)),
    "lookahead": fo.lookahead(fo.sgd(0.1, momentum=0.9), 3),
    "ASGD": fo.asgd(0.1, t0=2.0),
    "for some": fo.chain(fo.sgd(0.1), fo.masked(fo.ema_of_params(0.5), is_matrix)),
    "in skip_if": fo.skip_if(fo.schedule_free_sgd(0.1)),
}
every_chain = pytest.mark.parametrize("tx", CHAINS.values(), ids=CHAINS)
LAST = 12


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.all = torch.nn.ParameterDict(named_parameters())

    @property
    def params(self):
        return dict(self.all.items())


def straight(tx):
    """The parameters after every number of steps, and the averages then."""
    net = Net()
    opt = fo.Optimizer(list(net.params.items()), tx)
    trained, averages = [values(net.params)], [values(net.params)]
    for t in range(LAST):
        drive(opt, net.params, 1, first=t)
        trained.append(values(net.params))
        with opt.averaged():
            averages.append(values(net.params))
    return trained, averages


class Session(RuleBasedStateMachine):
    """Training, evaluation, checkpoints and copies, in any order."""

    tx: fo.GradientTransformation
    found: tuple
    saved = Bundle("saved")

    @initialize()
    def begin(self):
        self.net, self.t, self.training = Net(), 0, True
        self.opt = fo.Optimizer(list(self.net.params.items()), self.tx)

    @rule()
    def step(self):
        if not self.training:
            before = values(self.net.params)
            with pytest.raises(ModeError, match="in eval mode"):
                step(self.opt, self.net.params, {})
            assert same_bits(values(self.net.params), before)
        elif self.t < LAST:
            drive(self.opt, self.net.params, 1, first=self.t)
            self.t += 1

    @rule()
    def eval(self):
        self.opt.eval()
        self.training = False

    @rule()
    def train(self):
        self.opt.train()
        self.training = True

    @rule()
    def averaged(self):
        with self.opt.averaged():
            assert same_bits(values(self.net.params), self.found[1][self.t])

    @rule(target=saved)
    def save(self):
        both = self.net.state_dict(), self.opt.state_dict()
        return pickle.loads(pickle.dumps(both)), self.t, self.training

    @rule(target=saved)
    def save_inside(self):
        """The mode is that of the checkpoint, so what is loaded is in eval mode."""
        with self.opt.averaged():
            both = self.net.state_dict(), self.opt.state_dict()
            return pickle.loads(pickle.dumps(both)), self.t, False

    @rule(what=saved, fresh=st.booleans(), net_first=st.booleans())
    def load(self, what, fresh, net_first):
        (of_net, of_opt), t, training = copy.deepcopy(what)
        if fresh:
            self.begin()
        if net_first:
            self.net.load_state_dict(of_net)
        self.opt.load_state_dict(of_opt)
        if not net_first:
            self.net.load_state_dict(of_net)
        self.t, self.training = t, training

    @rule()
    def copy(self):
        self.net, self.opt = pickle.loads(pickle.dumps(copy.deepcopy((self.net, self.opt))))

    @invariant()
    def the_parameters_are_those_of_the_mode(self):
        expected = self.found[0 if self.training else 1][self.t]
        assert same_bits(values(self.net.params), expected)
        assert self.opt.param_groups[0]["train_mode"] == self.training


@every_chain
def test_whatever_the_order_the_trajectory_is_one(tx):
    machine = type("Machine", (Session,), {"tx": tx, "found": straight(tx)})
    test = machine.TestCase
    test.settings = settings(
        max_examples=25,
        stateful_step_count=25,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    test().runTest()


@every_chain
@pytest.mark.parametrize("steps", [0, 5])
def test_the_averages_are_those_of_the_pure_form(steps, tx):
    params, state = purely(tx, steps)
    mine, opt = wrapped(tx, steps)
    opt.eval()
    assert same_bits(values(mine), fo.eval_params(tx, state, params))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_in_low_precision_too_the_parameters_come_back_to_the_bit(dtype):
    start = {"p": torch.linspace(-3.0, 2.7, 31).to(dtype)}
    params, opt = wrapped(fo.schedule_free_sgd(0.1), 7, start)
    before = values(params)
    for _ in range(3):
        opt.eval()
        opt.eval()
        assert not same_bits(values(params)["p"].float(), before["p"].float())
        opt.train()
        opt.train()
        assert same_bits(values(params)["p"].float(), before["p"].float())


def test_of_a_chain_without_an_average_the_modes_change_nothing():
    """So a trainer may call them on any optimizer."""
    params, opt = named_parameters(), None
    opt = optim.AdamW(params.values(), lr=0.1)
    opt.eval()
    drive(opt, params, 2)
    opt.eval()
    opt.train()
    assert "train_mode" not in opt.param_groups[0]
    others = named_parameters()
    drive(optim.AdamW(others.values(), lr=0.1), others, 2)
    assert same_bits(values(params), values(others))


def test_the_mode_leaves_nothing_behind():
    params, opt = wrapped(CHAINS["schedule_free"], 2)
    before = copy.deepcopy(opt.state_dict())
    opt.eval()
    assert "train_params" in opt.state[params["w"]]
    opt.train()
    assert repr(opt.state_dict()) == repr(before)


def test_before_the_first_step_too_the_state_of_the_mode_is_whole():
    """So that a loader that fills what is there finds all that there may be."""
    params, opt = wrapped(CHAINS["schedule_free"], 0)
    opt.eval()
    _, later = wrapped(CHAINS["schedule_free"], 2)
    later.eval()
    names = [{key: x.shape for key, x in s.items()} for s in opt.state.values()]
    assert names == [{key: x.shape for key, x in s.items()} for s in later.state.values()]
    opt.train()
    drive(opt, params, 3)
    assert same_bits(values(params), purely(CHAINS["schedule_free"], 3)[0])


def test_what_was_never_stepped_is_not_copied():
    params, opt = wrapped(CHAINS["schedule_free"], 0)
    step(opt, params, {"w": torch.ones(2, 3, dtype=torch.float64)})
    opt.eval()
    assert not opt.state[params["b"]]
    opt.train()


def test_groups_added_in_eval_mode_join_in():
    params, opt = wrapped(CHAINS["schedule_free"], 3)
    opt.eval()
    late = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    opt.add_param_group({"params": [("late", late)]})
    with pytest.raises(ModeError):
        opt.step()
    opt.eval()
    opt.train()
    drive(opt, {**params, "late": late}, 1, first=3)
    assert same_bits(values(params), purely(CHAINS["schedule_free"], 4)[0])


def interrupted(*args):
    raise KeyboardInterrupt


def test_a_switch_that_fails_changes_nothing(monkeypatch):
    params, opt = wrapped(CHAINS["schedule_free"], 3)
    before, state = values(params), repr(opt.state_dict())
    find = type(opt)._average

    def find_two(self, which, index, name, p):
        return interrupted() if name == "w" else find(self, which, index, name, p)

    monkeypatch.setattr(type(opt), "_average", find_two)
    for switch in (opt.eval, lambda: opt.averaged().__enter__()):
        with pytest.raises(KeyboardInterrupt):
            switch()
        assert same_bits(values(params), before)
        assert repr(opt.state_dict()) == state


def test_averaged_restores_even_if_the_state_is_gone():
    params, opt = wrapped(CHAINS["ema_of_params"], 3)
    before = values(params)
    with opt.averaged():
        opt.state.clear()
    assert same_bits(values(params), before)


def test_averaged_within_eval_mode_stays_in_it():
    params, opt = wrapped(CHAINS["ema_of_params"], 3)
    before = values(params)
    opt.eval()
    average = values(params)
    with opt.averaged():
        assert same_bits(values(params), average)
    assert same_bits(values(params), average)
    assert not opt.param_groups[0]["train_mode"]
    opt.train()
    assert same_bits(values(params), before)


INSIDE = {
    "eval": lambda opt: opt.eval(),
    "train": lambda opt: opt.train(),
    "load_state_dict": lambda opt: opt.load_state_dict(opt.state_dict()),
}


@pytest.mark.parametrize("action", INSIDE)
def test_inside_averaged_the_mode_cannot_be_changed(action):
    params, opt = wrapped(CHAINS["ema_of_params"], 3)
    before = values(params)
    with opt.averaged():
        with pytest.raises(ModeError) as error:
            INSIDE[action](opt)
        assert not same_bits(values(params), before)
    assert same_bits(values(params), before)
    assert str(error.value) == (
        f"`Optimizer.{action}` inside `averaged()`, which puts the parameters back as they were: "
        "call it outside."
    )


IN_EVAL_MODE = {
    "step": lambda opt: opt.step(),
    "drop": lambda opt: opt.drop("w"),
    "resize": lambda opt: opt.resize("b", torch.zeros(1), torch.tensor([0])),
}


@pytest.mark.parametrize("action", IN_EVAL_MODE)
def test_in_eval_mode_nothing_is_trained(action):
    _, opt = wrapped(CHAINS["schedule_free"], 3)
    opt.eval()
    state = repr(opt.state_dict())
    with pytest.raises(ModeError) as error:
        IN_EVAL_MODE[action](opt)
    assert str(error.value) == (
        f"`Optimizer.{action}` in eval mode: the parameters are averages now. Call `train()` "
        "before."
    )
    assert repr(opt.state_dict()) == state


def test_what_to_train_may_not_get_lost():
    """As by a loader that fills what is there, from a checkpoint of the other mode."""
    params, opt = wrapped(CHAINS["schedule_free"], 3)
    opt.eval()
    saved = opt.state_dict()
    for stored in saved["state"].values():
        del stored["train_params"]
    again = named_parameters(values(params))
    other = fo.Optimizer(list(again.items()), CHAINS["schedule_free"])
    other.load_state_dict(saved)
    with pytest.raises(ModeError, match="in eval mode"):
        other.step()
    with pytest.raises(ModeError) as error:
        other.train()
    assert str(error.value) == (
        "`Optimizer.train`: the checkpoint was saved in eval mode, and the parameters to train "
        "['b', 'gain', 'w'] were not loaded. A loader that fills what is there needs the same "
        "mode: call `eval()` before loading."
    )
    assert same_bits(values(again), values(params))


def test_a_checkpoint_from_before_there_were_modes_is_one_of_training():
    params, opt = wrapped(CHAINS["ema_of_params"], 3)
    saved = opt.state_dict()
    del saved["param_groups"][0]["train_mode"]
    opt.load_state_dict(saved)
    assert opt.param_groups[0]["train_mode"] is True
    drive(opt, params, 2, first=3)
    assert same_bits(values(params), purely(CHAINS["ema_of_params"], 5)[0])
