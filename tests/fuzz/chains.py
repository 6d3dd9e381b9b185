"""Random transformations: those of `tests.cases`, in combinators, in one another."""

import warnings

import torch
from hypothesis import assume
from hypothesis import strategies as st

import funcopt as fo
from funcopt.combinators import walk

from ..cases import CASES, by_dimension, is_matrix

PLAIN = [
    case.tx
    for case in CASES
    if not case.extra and case.tx.is_per_tensor() and not case.tx.takes_examples()
]
LEAVES = [tx for tx in PLAIN if not tx.children()]
"""Single stages."""
ALGORITHMS = [tx for tx in PLAIN if isinstance(tx, fo.chain) and tx.stages]
"""Chains that can be used as they are."""

FRAGILE = (
    fo.orthogonalize,
    fo.scale_by_muon,
    fo.scale_by_soap,
    fo.scale_by_shampoo,
    fo.lbfgs,
)
"""Their matrices are ill-conditioned on trees as small as these."""

MASKS = [is_matrix, r"[ace]", r"", True]
SCHEDULES = [fo.linear_schedule(0.1, 0.01, 5), fo.cosine_decay_schedule(0.1, 7)]


SEARCHES = [fo.strong_wolfe(), fo.backtracking(max_steps=3), None]


def is_fragile(tx):
    return any(isinstance(node, FRAGILE) for _, node in walk(tx))


def refused(make):
    """What `make` returns; a combination that is refused with a reason is no example."""
    try:
        return make()
    except (fo.errors.HyperparameterError, fo.errors.StructureError):
        assume(False)


stages = st.sampled_from([tx for tx in LEAVES if not is_fragile(tx)])
algorithms = st.sampled_from([tx for tx in ALGORITHMS if not is_fragile(tx)])
rates = st.sampled_from([0.1, 0.02, *SCHEDULES])


@st.composite
def chains(draw):
    """Some stages, and a learning rate at the end."""
    parts = draw(st.lists(stages, min_size=1, max_size=4))
    lr = draw(rates)
    return refused(lambda: fo.chain(*parts, fo.scale_by_learning_rate(lr)))


def combined(inner):
    """A combinator around one or two transformations."""
    two = st.tuples(inner, inner)
    every = st.integers(1, 3)
    made = [
        st.tuples(inner, st.sampled_from(MASKS)).map(lambda x: lambda: fo.masked(*x)),
        two.map(lambda x: lambda: fo.partition({"matrix": x[0], "rest": x[1]}, by_dimension)),
        st.tuples(inner, every, st.booleans()).map(
            lambda x: lambda: fo.accumulate(x[0], x[1], mean=x[2])
        ),
        inner.map(lambda tx: lambda: fo.skip_if(tx)),
        inner.map(lambda tx: lambda: fo.skip_if(tx, fo.norm_outlier(2.0, 0.9, warmup=1))),
        inner.map(lambda tx: lambda: fo.cautious(tx)),
        st.tuples(inner, every).map(lambda x: lambda: fo.lookahead(*x)),
        inner.map(lambda tx: lambda: fo.chain(tx, fo.ema_of_params(0.9))),
        inner.map(lambda tx: lambda: fo.chain(fo.clip_by_global_norm(1.0), tx)),
        inner.map(lambda tx: lambda: fo.chain(tx, fo.freeze(is_matrix))),
        inner.map(lambda tx: lambda: fo.chain(fo.from_functions(_nothing, _doubled), tx)),
    ]
    return st.one_of(made).map(refused)


def _nothing(params):
    return ()


def _doubled(updates, state, params=None):
    return fo.tree.map(lambda u: 2 * u, updates), state


def is_alone(tx):
    """Whether the update of a parameter depends on no other one, nor on the clock of the others."""
    nodes = [node for _, node in walk(tx)]
    return not any(
        isinstance(node, (fo.from_functions, *FRAGILE))
        or isinstance(getattr(node, "mask", None), str)  # a pattern has to fit one of them
        or node.memory_per == "tree"
        or getattr(node, "random", False)
        or (getattr(node, "measures", False) and node.measure_per == "tree")
        or any(callable(value) for value in node.hyperparam_values().values())
        for node in nodes
    )


transformations = st.recursive(st.one_of(chains(), algorithms), combined, max_leaves=3)


alone = transformations.filter(is_alone)


def steps_in_backward(tx):
    """Whether each parameter can be stepped as soon as its gradient is there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            fo.Optimizer([torch.nn.Parameter(torch.ones(2, 2))], tx).step_in_backward()
        except fo.errors.FuncoptError:
            return False
    return True


single = transformations.filter(steps_in_backward)
windows = st.tuples(single, st.integers(2, 3)).map(lambda x: lambda: fo.accumulate(*x)).map(refused)
one_by_one = st.one_of(single, windows)


def searching(inner):
    """A combinator around what evaluates the loss itself."""
    made = [
        st.tuples(inner, st.booleans()).map(lambda x: lambda: fo.sam(x[0], 0.1, adaptive=x[1])),
        inner.map(lambda tx: lambda: fo.skip_if(tx)),
        inner.map(lambda tx: lambda: fo.chain(tx, fo.ema_of_params(0.9))),
        inner.map(
            lambda tx: lambda: fo.partition({"matrix": tx, "rest": fo.sgd(0.1)}, by_dimension)
        ),
        st.tuples(inner, st.sampled_from(MASKS)).map(lambda x: lambda: fo.masked(*x)),
    ]
    return st.one_of(made).map(refused)


searches = st.one_of(
    st.builds(
        lambda lr, size, search: fo.lbfgs(lr, max_iter=2, history_size=size, line_search=search),
        st.sampled_from([1.0, 0.3]),
        st.integers(1, 3),
        st.sampled_from(SEARCHES),
    ),
    st.builds(
        lambda lr, search: fo.newton_cg(lr, max_cg_iter=2, line_search=search),
        st.sampled_from([1.0, 0.3]),
        st.sampled_from(SEARCHES[1:]),
    ),
    transformations.map(lambda tx: lambda: fo.sam(tx, 0.05)).map(refused),
)
closing = st.recursive(searches, searching, max_leaves=2)
"""What needs a closure."""
