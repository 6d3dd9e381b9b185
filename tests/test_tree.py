"""`tree`: one order for all trees, in eager mode and while compiling."""

from collections import OrderedDict, defaultdict, deque
from typing import NamedTuple

import optree
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from funcopt import tree
from funcopt.errors import StructureError


class Pair(NamedTuple):
    left: object
    right: object


class Empty(NamedTuple):
    pass


def optree_leaves(t):
    return optree.tree_leaves(t, none_is_leaf=True, namespace=tree.NAMESPACE)


def walked(t):
    return [leaf for _, leaf in tree._walk(t, ())]


def same(a, b):
    """Equal in type, at every node, and in the order of insertion."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


names = st.text("abc/.", max_size=2)
leaves = st.integers() | st.none()


def nodes(children):
    few = st.lists(children, max_size=3)
    items = st.lists(st.tuples(names, children), max_size=3, unique_by=lambda item: item[0])
    whole = st.lists(st.tuples(st.integers(), children), max_size=3)
    return st.one_of(
        few,
        few.map(tuple),
        items.map(dict),
        items.map(OrderedDict),
        whole.map(dict),
        st.builds(Pair, children, children),
        st.just(Empty()),
    )


trees = st.recursive(leaves, nodes, max_leaves=8)

EXAMPLES = {
    "a leaf": 1,
    "None": None,
    "a dict in another order than that of its keys": {"b": 1, "c": 2, "a": 3},
    "a dict of numbers": {10: 1, 9: 2, 2: 3},
    "an ordered dict": OrderedDict(b=1, a=2),
    "a list": [1, 2, 3],
    "a tuple": (1, (2,), ()),
    "a named tuple": Pair({"y": 1, "x": 2}, Pair(3, 4)),
    "None inside": {"b": None, "a": [1, None]},
    "empty nodes": {"b": {}, "a": [], "c": ((), Empty()), "d": OrderedDict()},
    "nothing": {},
    "a nested tree": {"b": [1, {"z": 2, "y": (3, Pair(4, None))}], "a": OrderedDict(d=5, c=6)},
}
each_example = pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)


# The order, and what is rebuilt


@given(t=trees)
def test_the_order_of_leaves_is_that_of_optree(t):
    assert tree.flatten(t)[0] == walked(t) == optree_leaves(t)


@given(t=trees)
def test_a_tree_is_rebuilt_from_its_leaves_with_every_type_and_order(t):
    flat, spec = tree.flatten(t)
    assert same(spec.unflatten(flat), t)
    assert same(tree._Traced(t).unflatten(flat), t)


@given(t=trees)
def test_what_stands_in_the_place_of_a_leaf_may_be_a_tree(t):
    flat, spec = tree.flatten(t)
    larger = spec.unflatten([{"slot": i, "other": ()} for i, _ in enumerate(flat)])
    expected = [{"slot": i, "other": ()} for i, _ in enumerate(flat)]
    assert spec.flatten_up_to(larger) == expected
    assert tree._Traced(t).flatten_up_to(larger) == expected


@given(t=trees, other=trees)
def test_while_compiling_the_same_trees_belong_together(t, other):
    def up_to(spec):
        try:
            return spec.flatten_up_to(other)
        except StructureError:
            return "they differ"

    assert up_to(tree._Traced(t)) == up_to(tree.flatten(t)[1])


@each_example
def test_a_compiled_walk_has_the_same_order_and_rebuilds_the_same_types(example):
    def around(t):
        flat, spec = tree.flatten(t)
        return flat, spec.unflatten(flat), tree.names(t)

    torch.compiler.reset()
    tensors = tree.map(lambda leaf: torch.full((), float(leaf)), example)
    compiled = torch.compile(around, backend="eager", fullgraph=True)
    for got, expected in zip(compiled(tensors), around(tensors), strict=True):
        assert same(got, expected)
    assert same(compiled(tensors)[1], tensors)


@pytest.mark.parametrize(
    "t", [{1: 1, "a": 2}, defaultdict(list, b=1, a=2)], ids=["keys of two types", "defaultdict"]
)
def test_what_optree_takes_is_walked_the_same_while_compiling(t):
    assert walked(t) == optree_leaves(t)
    assert same(tree._Traced(t).unflatten(walked(t)), t)
    assert len(tree.names(t)) == 2


def test_a_dict_of_a_class_of_its_own_is_a_leaf_while_compiling_too():
    class Mine(dict):
        pass

    t = Mine(b=1, a=2)
    assert tree.flatten(t)[0] == [t]
    assert walked(t) == [t]


# Names


def test_names_are_paths():
    t = {"layers": [{"weight": 1, "bias": None}], "pair": Pair(2, 3)}
    expected = ["layers/0/bias", "layers/0/weight", "pair/left", "pair/right"]
    assert tree.names(t) == expected
    assert tree.names(1) == [""]
    assert tree.names({}) == []


@given(t=trees)
def test_every_leaf_has_a_name(t):
    assert len(tree.names(t)) == len(tree.flatten(t)[0])


def test_leaves_of_kinds_that_only_optree_knows_have_names_too():
    assert tree.names({"queue": deque([1, 2]), "a": 3}) == ["a", "queue/0", "queue/1"]


# Mapping


@given(t=trees)
def test_map_keeps_none_and_does_not_call_the_function_for_it(t):
    doubled = tree.map(lambda leaf: 2 * leaf, t)
    assert tree.flatten(doubled)[0] == [x if x is None else 2 * x for x in walked(t)]
    assert tree.leaves(t) == [x for x in walked(t) if x is not None]


def test_map_passes_what_stands_in_the_place_of_a_leaf():
    got = tree.map(
        lambda a, b, c: (a, b, c), {"x": 1, "y": None}, {"x": None, "y": 2}, {"x": (), "y": 3}
    )
    assert got == {"x": (1, None, ()), "y": None}


@pytest.mark.parametrize(
    ("t", "other", "difference"),
    [
        ({"a": 1}, {"b": 1}, "'a'.*'b'"),
        ({"a": 1}, {"a": 1, "b": 2}, "'b'"),
        ([1, 2], [1], "2.*1"),
        ([1], (1,), "list"),
        (Pair(1, 2), (1, 2), "tuple"),
        ({"a": {}}, {"a": 1}, "dict"),
        ([1], None, "None"),
    ],
    ids=str,
)
def test_trees_that_do_not_match_are_an_error(t, other, difference):
    with pytest.raises(StructureError, match=f"(?s)differ in structure.*{difference}"):
        tree.map(lambda a, b: a, t, other)


def test_the_error_does_not_print_the_tensors():
    with pytest.raises(StructureError) as error:
        tree.map(lambda a, b: a, {"a": 1}, {"b": torch.full((2,), 1234.0)})
    assert "1234" not in str(error.value)


# Arithmetic


def test_zeros_like_has_the_shapes_and_the_dtypes_or_the_one_that_is_asked_for():
    t = {"a": torch.ones(2), "b": None, "c": torch.ones((), dtype=torch.bfloat16)}
    zeros = tree.zeros_like(t)
    torch.testing.assert_close(zeros["a"], torch.zeros(2))
    assert zeros["b"] is None
    assert zeros["c"].dtype is torch.bfloat16
    assert tree.zeros_like(t, torch.float64)["c"].dtype is torch.float64


def test_cast_leaves_what_is_not_floating_point():
    t = {"a": torch.ones(2), "b": None, "step": torch.tensor(3), "on": torch.tensor(True)}
    cast = tree.cast(t, torch.float64)
    assert cast["b"] is None
    dtypes = {key: x.dtype for key, x in cast.items() if x is not None}
    assert dtypes == {"a": torch.float64, "step": torch.int64, "on": torch.bool}


@pytest.mark.parametrize(
    ("dtype", "wide"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_sums_are_computed_in_float32_at_least(dtype, wide):
    t = {"a": torch.full((255,), 17.0, dtype=dtype), "b": [torch.full((), 17.0, dtype=dtype)]}
    squares = tree.dot(t, t)  # 73,984 is too great for float16, and bfloat16 rounds it
    assert squares.dtype is wide
    assert squares == 73_984
    assert tree.norm(t) == 272


def test_the_norm_of_complex_entries_is_that_of_their_parts():
    z = [torch.tensor([3.0 + 4.0j]), torch.tensor(12.0)]
    assert tree.norm(z) == 13
    assert tree.dot(z, [torch.tensor([1.0j]), torch.tensor(0.0)]) == 4


def test_leaves_of_several_dtypes_add_up_in_the_widest():
    t = [torch.ones(3, dtype=torch.bfloat16), torch.full((1,), 1e-9, dtype=torch.float64)]
    total = tree.dot(t, [torch.ones(3), torch.ones(1, dtype=torch.float64)])
    assert total.dtype is torch.float64
    assert total == 3 + 1e-9


def test_what_is_not_there_counts_nothing():
    assert tree.norm({"a": None, "b": torch.tensor([2.0])}) == 2
    for nothing in ({}, None, [], {"a": None}):
        assert tree.norm(nothing) == 0


def test_the_slope_of_the_norm_is_zero_at_zero():
    x = torch.zeros(2, requires_grad=True)
    (slope,) = torch.autograd.grad(tree.norm([x]), x)
    assert torch.equal(slope, torch.zeros(2))
