"""Trees that are like those before: machine code finds in them what optree does."""

import array
import gc
import sys
from collections import OrderedDict, defaultdict
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import funcopt as fo
from funcopt import tree
from funcopt.engine._guards import Unsupported
from funcopt.engine._known_trees import KnownTrees
from funcopt.engine._ready_call import repeats_steps


@pytest.fixture(scope="module", autouse=True)
def machine_code():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FUNCOPT_KERNELS", "bytecode")
        p = torch.nn.Parameter(torch.ones(3))
        p.grad = torch.ones(3)
        fo.optim.SGD([p], lr=0.1, engine="fused").step()  # which loads the library
    assert repeats_steps()


class Pair(NamedTuple):
    x: Any
    y: Any


class Other(NamedTuple):
    x: Any
    y: Any


class Fussy(NamedTuple):
    x: Any


def refusing(cls, x):
    raise RuntimeError("not today")


KEYS = st.one_of(st.text(max_size=3), st.integers(-5, 5))
LEAVES = st.lists(st.integers(0, 3), max_size=3).map(torch.ones)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEYS, inner, max_size=3),
        st.tuples(inner, inner).map(lambda xy: Pair(*xy)),
    ),
    max_leaves=12,
)


def numbered(it):
    leaves, spec = tree.flatten(it)
    return spec.unflatten(range(len(leaves)))


def others_like(it):
    return tree.map(lambda x: torch.empty_strided(x.shape, x.stride()), it)


def text(it):
    """With the order of dicts, which `==` does not see."""
    return repr(tree.map(lambda x: x if isinstance(x, int) else id(x), it))


@settings(deadline=None, max_examples=300)
@given(TREES)
def test_leaves_and_trees_are_those_of_optree(it):
    known, others = KnownTrees((it,), (), (numbered(it),)), others_like(it)
    found = known.take((others,))
    assert list(map(id, found)) == list(map(id, tree.flatten(others)[0]))
    (made,) = known.give(found)
    assert text(made) == text(others)


TREE = {"b": [torch.ones(2), torch.ones(3, 2)], "a": (torch.ones(()), Pair(torch.ones(1), ()))}


def with_b(x):
    return {**TREE, "b": x}


def with_a(x):
    return {**TREE, "a": x}


b, a = TREE["b"], TREE["a"]
CHANGED = {
    "a tuple": with_b(tuple(b)),
    "a shorter list": with_b(b[:1]),
    "a longer list": with_b([*b, b[0]]),
    "a leaf": with_b(b[0]),
    "a list for a leaf": with_b([b, b[1]]),
    "another named tuple": with_a((a[0], Other(*a[1]))),
    "a plain tuple": with_a((a[0], tuple(a[1]))),
    "a leaf in an empty place": with_a((a[0], Pair(a[1][0], a[0]))),
    "a missing key": {"b": b},
    "another key": {"b": b, "c": a},
    "one key more": {**TREE, "c": a},
    "another dict": OrderedDict(TREE),
    "no tree": None,
    "a number": with_b([b[0], 1.0]),
    "nothing": with_b([None, b[1]]),
    "another shape": with_b([torch.ones(3), b[1]]),
    "other strides": with_b([b[0], torch.ones(2, 3).t()]),
    "another dtype": with_b([b[0].double(), b[1]]),
    "another device": with_b([b[0].to("meta"), b[1]]),
    "a parameter": with_b([torch.nn.Parameter(b[0]), b[1]]),
    "one that is followed": with_b([b[0].clone().requires_grad_(), b[1]]),
}


@pytest.mark.parametrize("changed", CHANGED.values(), ids=CHANGED)
def test_others_are_not_taken(changed):
    known = KnownTrees((TREE,), (), (numbered(TREE),))
    for _ in range(2):
        assert known.take((changed,)) is None
        assert known.take((TREE,)) is not None


@pytest.mark.parametrize("trees", [(), (TREE, TREE), [TREE], TREE], ids=str)
def test_nor_other_arguments(trees):
    known = KnownTrees((TREE,), (), (numbered(TREE),))
    assert known.take(trees) is None


@pytest.mark.parametrize(
    "it",
    [OrderedDict(TREE), defaultdict(list, TREE), tree.ParamTree([b[0]])],
    ids=lambda it: type(it).__name__,
)
def test_other_nodes_are_not_known(it):
    with pytest.raises(Unsupported):
        KnownTrees((it,), (), ())


def test_nor_those_that_only_optree_knows():
    import optree

    class Box:
        def __init__(self, x):
            self.x = x

    optree.register_pytree_node(
        Box, lambda box: ((box.x,), None), lambda _, x: Box(*x), namespace=tree.NAMESPACE
    )
    try:
        with pytest.raises(Unsupported):
            KnownTrees((Box(b[0]),), (), ())
    finally:
        optree.unregister_pytree_node(Box, namespace=tree.NAMESPACE)


def test_dicts_are_in_the_order_of_the_first_ones():
    known = KnownTrees((TREE,), (), (numbered(TREE),))
    turned = dict(reversed(TREE.items()))
    (made,) = known.give(known.take((turned,)))
    assert list(made) == ["b", "a"]
    assert made["b"][0] is b[0]


FRESH = [
    torch.ones(2, 3),
    torch.ones(3, 2).t(),
    torch.ones((), dtype=torch.float64),
    torch.ones(0, 2, dtype=torch.bfloat16),
    torch.ones(4, dtype=torch.int8),
]


def test_fresh_tensors_are_new_and_have_the_metadata():
    known = KnownTrees((TREE,), FRESH, (numbered(TREE),))
    one, other = (known.take((TREE,))[-len(FRESH) :] for _ in range(2))
    for x, y, z in zip(FRESH, one, other, strict=True):
        for made in (y, z):
            assert (made.shape, made.stride(), made.dtype) == (x.shape, x.stride(), x.dtype)
            assert type(made) is torch.Tensor
            assert not made.requires_grad
        assert y is not z
        assert not x.numel() or y.data_ptr() != z.data_ptr()


def test_addresses_and_the_clock():
    given, fresh = [torch.ones(2), torch.tensor(41)], [torch.ones(2), torch.tensor(0)]
    known = KnownTrees((given,), fresh, ([2, 3],), clock=(1, 3))
    where = array.array("q", [0] * 3)
    to = where.buffer_info()[0]
    known.pass_on_to([(to, 2), (to + 8, 0), (to + 16, 0)])
    for count in (41, 7):
        given[1] = torch.tensor(count)
        found = known.take((given,))
        assert known.count[0] == count + 1
        assert found[3].item() == count + 1
        assert given[1].item() == count
        begins = [x.data_ptr() for x in found]
        assert list(where) == [begins[2], begins[0], begins[0]]


def test_results_may_be_replaced():
    known = KnownTrees(([b[0], b[1]],), (), (Pair(1, {"x": 1, "y": 0}),))
    found = known.take((list(b),))
    found[0] = torch.zeros(1)
    (made,) = known.give(found)
    assert made.x is b[1]
    assert made.y["x"] is b[1]
    assert made.y["y"] is found[0]


def test_an_error_of_a_node_is_raised(monkeypatch):
    known = KnownTrees(([b[0]],), (), (Fussy(0),))
    found = known.take(([b[0]],))
    monkeypatch.setattr(Fussy, "__new__", refusing)
    with pytest.raises(RuntimeError, match="not today"):
        known.give(found)


@pytest.fixture
def only_new_objects():
    """The collector looks at no others: all of those of torch take a while."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("changed", [TREE, *CHANGED.values()], ids=["the same", *CHANGED])
def test_no_reference_is_kept_or_lost(changed, only_new_objects):
    leaves = [x for x in tree.flatten(changed)[0] if isinstance(x, torch.Tensor)]
    watched = [*leaves, TREE, b, a, a[1], (), None, Pair, dict, "b"]
    known = KnownTrees((TREE,), FRESH, (numbered(TREE),))

    def use(count):
        for _ in range(count):
            found = known.take((changed,))
            if found is not None:
                known.give(found)
        del found
        gc.collect()
        return [sys.getrefcount(x) for x in watched], len(gc.get_objects())

    use(10)
    before, objects = use(10)
    after, later = use(500)
    assert all(abs(x - y) < 100 for x, y in zip(before, after, strict=True))
    assert abs(later - objects) < 100
