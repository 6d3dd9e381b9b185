"""Stages that see whole trees, in an optimizer: their state is as torch wants it."""

import copy
from typing import Any, NamedTuple

import pytest
import torch

import funcopt as fo


class Averages(NamedTuple):
    count: torch.Tensor
    mean: Any  # like the parameters


def init_mean(params):
    return Averages(torch.zeros((), dtype=torch.int64), fo.tree.zeros_like(params))


def update_mean(updates, state, params=None):
    """As Optax would write it; all tensors are scaled by what is longest among them."""
    mean = fo.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state.mean, updates)
    longest = torch.stack([u.abs().max() for u in fo.tree.leaves(mean)]).max()
    scaled = fo.tree.map(lambda m: m / longest, mean)
    return scaled, Averages(state.count + 1, mean)


TX = fo.chain(fo.clip(1.0), fo.from_functions(init_mean, update_mean), fo.sgd(0.1, momentum=0.9))


def params():
    torch.manual_seed(0)
    return {n: torch.randn(s, dtype=torch.float64) for n, s in (("a", (3, 2)), ("b", (4,)))}


def grads(t):
    return {n: torch.sin(p * 3 + t) for n, p in params().items()}


def stepped(opt, named, steps):
    for t in steps:
        for name, p in named.items():
            p.grad = grads(t)[name]
        opt.step()


def wrapped():
    named = {name: torch.nn.Parameter(p) for name, p in params().items()}
    return named, fo.Optimizer(list(named.items()), TX)


def test_the_steps_are_those_of_the_pure_form():
    named, opt = wrapped()
    stepped(opt, named, range(6))
    ps = params()
    state = TX.init(ps)
    for t in range(6):
        updates, state = TX.update(grads(t), state, ps)
        ps = fo.apply_updates(ps, updates)
    for name, p in named.items():
        torch.testing.assert_close(p.detach(), ps[name], rtol=1e-12, atol=1e-12)


def test_the_state_is_flat_and_what_belongs_to_a_tensor_is_its_own():
    named, opt = wrapped()
    stepped(opt, named, range(2))
    for p in named.values():
        assert set(opt.state[p]) == {"step", "slots/0", "memory/0", "momentum_buffer"}
        assert opt.state[p]["slots/0"].shape == p.shape
        assert opt.state[p]["memory/0"] == 2


def test_it_resumes():
    named, opt = wrapped()
    stepped(opt, named, range(3))
    other_named, other = wrapped()
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    for name, p in other_named.items():
        p.data.copy_(named[name])
    stepped(opt, named, range(3, 6))
    stepped(other, other_named, range(3, 6))
    assert all(torch.equal(p, other_named[name]) for name, p in named.items())


def test_a_parameter_without_gradient_is_not_seen():
    named, opt = wrapped()
    stepped(opt, named, range(1))
    before = {k: v.clone() for k, v in opt.state[named["b"]].items()}
    named["a"].grad, named["b"].grad = grads(1)["a"], None
    opt.step()
    assert torch.equal(opt.state[named["b"]]["slots/0"], before["slots/0"])


@pytest.mark.parametrize("stage", [fo.accumulate, fo.skip_if, fo.masked])
def test_inside_other_combinators_it_is_refused(stage):
    with pytest.raises(ValueError, match="tensor by tensor"):
        stage(TX, 2)


class mean_of_examples(fo.GradientTransformation):
    """Gradients of all examples become one; the whole tree has length one then."""

    def update(self, updates, state, params=None, **extra):
        means = fo.tree.map(lambda g: g.mean(0), updates)
        norm = torch.stack([u.square().sum() for u in fo.tree.leaves(means)]).sum().sqrt()
        return fo.tree.map(lambda u: u / norm, means), state

    def takes_examples(self):
        return True


@pytest.mark.parametrize(
    "tx", [mean_of_examples(), fo.chain(mean_of_examples(), fo.sgd(0.1, momentum=0.9))], ids=repr
)
def test_a_stage_that_takes_examples_gets_them(tx):
    named = {name: torch.nn.Parameter(p) for name, p in params().items()}
    opt = fo.Optimizer(list(named.items()), fo.chain(tx, fo.scale(-1.0)))
    ps, state = params(), tx.init(params())
    for t in range(3):
        examples = {n: torch.stack([g, 2 * g, g.cos()]) for n, g in grads(t).items()}
        for name, p in named.items():
            p.grad_sample = examples[name]
        opt.step()
        updates, state = tx.update(examples, state, ps)
        ps = fo.apply_updates(ps, fo.tree.map(torch.neg, updates))
    for name, p in named.items():
        torch.testing.assert_close(p.detach(), ps[name], rtol=1e-12, atol=1e-12)
        assert not torch.equal(p.detach(), params()[name])
