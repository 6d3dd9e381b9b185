"""The laws have teeth: each is broken here on purpose, by a rule that looks harmless."""

from typing import NamedTuple

import pytest
import torch

import funcopt as fo
from funcopt import Scalar, TensorRule, testing

PARAMS = {"w": torch.tensor([[1.0, -2.0], [0.5, 3.0]]), "b": torch.tensor(0.7)}


class Buffer(NamedTuple):
    buffer: torch.Tensor


class good(TensorRule):
    decay: Scalar = 0.9
    elementwise = True

    def init_tensor(self, p):
        return Buffer(torch.zeros_like(p))

    def update_tensor(self, g, slots, p, s):
        mean = torch.lerp(g, slots.buffer, s.decay)
        return mean * 2, Buffer(mean)


class unequal(TensorRule):
    decay: Scalar = 0.9
    elementwise = True

    def __repr__(self):
        return "unequal(0.5)"

    def update_tensor(self, g, slots, p, s):
        return g * s.decay, slots


class mutating(TensorRule):
    elementwise = True

    def update_tensor(self, g, slots, p, s):
        return g.mul_(2), slots


class keeping_the_gradient(TensorRule):
    elementwise = True

    def init_tensor(self, p):
        return Buffer(torch.zeros_like(p))

    def update_tensor(self, g, slots, p, s):
        return g - slots.buffer, Buffer(g)


class keeping_the_parameter(TensorRule):
    elementwise = True

    def init_tensor(self, p):
        return Buffer(p)

    def update_tensor(self, g, slots, p, s):
        return g * 1, slots


class Two(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


class sharing_a_slot(TensorRule):
    elementwise = True

    def init_tensor(self, p):
        zeros = torch.zeros_like(p)
        return Two(zeros, zeros)

    def update_tensor(self, g, slots, p, s):
        return g * 1, Two(slots.first + g, slots.second - g)


class losing_a_slot(TensorRule):
    elementwise = True

    def init_tensor(self, p):
        return Buffer(torch.zeros_like(p))

    def update_tensor(self, g, slots, p, s):
        return g * 1, ()


class seeing_the_whole_tree(TensorRule):
    elementwise = True

    def measure_tensor(self, g, slots, p, s):
        return torch.ones(())

    def conclude(self, s, memory, total):
        return {"count": total}, memory

    def update_tensor(self, g, slots, p, s):
        return g / s.count, slots


class hiding_its_measure(seeing_the_whole_tree):
    measure_per = "tree"


class reading_self(TensorRule):
    factor: Scalar = 2.0
    elementwise = True

    def update_tensor(self, g, slots, p, s):
        return g * self.factor, slots


class using_p_unasked(TensorRule):
    elementwise = True

    def update_tensor(self, g, slots, p, s):
        return g + p, slots


class taking_anything(TensorRule):
    elementwise = True

    def check_extra(self, extra):
        pass

    def update_tensor(self, g, slots, p, s):
        return g * 1, slots


class asking_for_what_it_does_not_need(TensorRule):
    elementwise = True

    def extra_names(self):
        return frozenset({"value_fn"})

    def update_tensor(self, g, slots, p, s):
        return g * 1, slots


class falsely_elementwise(TensorRule):
    elementwise = True

    def update_tensor(self, g, slots, p, s):
        return g / g.abs().sum(), slots


class finishing_too_late(TensorRule):
    def update_tensor(self, g, slots, p, s):
        return g / g.abs().sum(), slots

    def finish_tensor(self, u, p, s):
        return u.flip(0)


class taking_complex(TensorRule):
    elementwise = False

    def check_names(self, params):
        pass

    def update_tensor(self, g, slots, p, s):
        return g.flip(0), slots


class branching_on_values(TensorRule):
    elementwise = True

    def update_tensor(self, g, slots, p, s):
        return g * (2 if g.sum() > 0 else 1), slots


class measuring_a_root(TensorRule):
    elementwise = True

    def measure_tensor(self, g, slots, p, s):
        return g.norm()  # those of the parts of a tensor do not add up to its own

    def conclude(self, s, memory, total):
        return {"norm": total}, memory

    def update_tensor(self, g, slots, p, s):
        return g / (1.0 + s.norm), slots


class cutting_the_graph(TensorRule):
    factor: Scalar = 2.0
    elementwise = True

    def update_tensor(self, g, slots, p, s):
        return (g * g).detach() * s.factor + g.detach() * g, slots


class a_naked_root(TensorRule):
    elementwise = True

    def update_tensor(self, g, slots, p, s):
        return (g * g).sqrt(), slots


class branching_on_the_step(TensorRule):
    elementwise = True

    def prepare(self, step, memory):
        return {"n": 2.0 if step > 2 else 1.0}

    def update_tensor(self, g, slots, p, s):
        return g * s.n, slots


BROKEN = [
    (unequal(), testing.is_a_value, "which evaluates to"),
    (mutating(), testing.is_pure, "changes its arguments"),
    (keeping_the_gradient(), testing.is_pure, "the new state share memory with the gradients"),
    (keeping_the_parameter(), testing.is_pure, "share memory with the parameters"),
    (sharing_a_slot(), testing.is_pure, "two tensors of the state that `init` made share memory"),
    (losing_a_slot(), testing.keeps_metadata, "changed in form"),
    (reading_self(), testing.reads_hyperparams_from_s, "use `s`"),
    (using_p_unasked(), testing.asks_for_params, "needs_params = True"),
    (asking_for_what_it_does_not_need(), testing.asks_for_the_loss, "works without it"),
    (taking_anything(), testing.refuses_unknown_extra, "extra argument that is unknown"),
    (taking_complex(), testing.takes_complex_as_two_reals, "is not elementwise"),
    (falsely_elementwise(), testing.is_elementwise_if_it_says_so, "the halves of a tensor"),
    (finishing_too_late(), testing.is_elementwise_if_it_says_so, "the halves of a tensor"),
    (measuring_a_root(), testing.works_in_place, "stepped in place"),
    (branching_on_values(), testing.vmaps, "data-dependent control flow"),
    (cutting_the_graph(), testing.differentiates, "Jacobian mismatch"),
    (a_naked_root(), testing.has_finite_derivatives_at_zero, "not finite at zero gradients"),
    (branching_on_the_step(), testing.compiles_to_the_same, "data-dependent"),
]


def test_a_good_rule_passes():
    testing.check_transformation(good(), PARAMS)


@pytest.mark.parametrize(
    ("tx", "law", "complaint"), BROKEN, ids=lambda x: getattr(x, "__name__", None)
)
def test_a_broken_rule_is_caught(tx, law, complaint):
    with pytest.raises(Exception, match=complaint):
        law(tx, PARAMS)
    with pytest.raises(Exception, match=r"."):
        testing.check_transformation(tx, PARAMS)


def test_every_law_has_been_broken():
    tried = {law for _, law, _ in BROKEN}
    laws = {*testing.LAWS, *testing.LAWS_OF_DERIVATIVES, testing.compiles_to_the_same}
    elsewhere = {
        testing.leaves_out_what_has_no_gradient,
        testing.treats_tensors_apart,
        testing.saves_and_loads,
    }
    assert tried | elsewhere == laws


def test_a_measure_of_missing_gradients_is_caught():
    class counting_none(fo.GradientTransformation):
        def update(self, updates, state, params=None, **extra):
            n = len(fo.tree.flatten(updates)[0])
            return fo.tree.map(lambda u: u / n, updates), state

    with pytest.raises(AssertionError, match="beside a parameter without gradient"):
        testing.leaves_out_what_has_no_gradient(counting_none(), PARAMS)


def test_a_hidden_coupling_is_caught():
    class coupled(TensorRule):
        elementwise = True

        def run(self, gs, slots, ps, node, reduce):
            return [g * len(gs) for g in gs], slots

        def update_tensor(self, g, slots, p, s):
            raise AssertionError

    with pytest.raises(AssertionError, match="updated apart"):
        testing.treats_tensors_apart(coupled(), PARAMS)


def test_a_state_that_is_not_a_tree_of_tensors_is_caught():
    class remembering_a_number(fo.GradientTransformation):
        def init(self, params, *, capturable=False):
            return {"n": 0}

        def update(self, updates, state, params=None, **extra):
            return updates, {"n": state["n"] + 1}

    with pytest.raises(Exception, match=r"."):
        testing.saves_and_loads(remembering_a_number(), PARAMS)
