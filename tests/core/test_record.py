"""`Record`: what every transformation and schedule has because it is one."""

import dataclasses
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import funcopt as fo
from funcopt._core.record import call_repr


class point(fo.Record):
    """Required fields, and one with a default."""

    x: object
    y: object = 0.0


class nearby(point):
    """A record made of another, without a decorator."""

    z: object = "here"


def named(count):
    return count


NAMES = {"point": point, "nearby": nearby, "torch": torch, "named": named, "float": float}

numbers = st.integers() | st.floats(allow_nan=False)
dtypes = st.sampled_from([torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int64])
tensors = st.builds(
    lambda values, dtype: torch.tensor(values, dtype=torch.float64).to(dtype),
    st.floats(-1e4, 1e4) | st.lists(st.floats(-1e4, 1e4), max_size=3),
    dtypes,
)
values = st.recursive(
    numbers | st.booleans() | st.none() | st.text(max_size=3) | dtypes | tensors,
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.lists(inside, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=2), inside, max_size=2)
        | st.builds(point, inside, inside)
        | st.builds(nearby, inside, y=inside)
    ),
    max_leaves=5,
)
records = st.builds(point, values, values) | st.builds(nearby, values, values, values)


def rebuilt(record):
    return eval(repr(record), NAMES)


# repr


@given(record=records)
def test_the_repr_rebuilds_the_record(record):
    assert rebuilt(record) == record
    assert hash(rebuilt(record)) == hash(record)


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (point(1), "point(1)"),
        (point(1, 0.0), "point(1)"),
        (point(1, 2.5), "point(1, y=2.5)"),
        (point(x=(1,)), "point((1,))"),
        (point(point(())), "point(point(()))"),
        (point(math.inf, -math.inf), 'point(float("inf"), y=float("-inf"))'),
        (point(torch.bfloat16), "point(torch.bfloat16)"),
        (point(torch.tensor(0.5)), "point(torch.tensor(0.5, dtype=torch.float32))"),
        (point(torch.tensor([1, 2])), "point(torch.tensor([1, 2], dtype=torch.int64))"),
        (point(named), "point(named)"),
        (point({"a": -math.inf}), "point({'a': float(\"-inf\")})"),
        (nearby(1, z="there"), "nearby(1, z='there')"),
    ],
    ids=str,
)
def test_it_prints_as_the_call_that_makes_it(record, text):
    assert repr(record) == text
    assert rebuilt(record) == record


def test_a_function_without_a_name_prints_as_what_it_is():
    assert "<lambda>" in repr(point(lambda count: count))

    def local(count):
        return count

    assert "<locals>.local" in repr(point(local))


def test_a_tensor_prints_all_its_digits():
    third = torch.tensor(1 / 3, dtype=torch.float64)
    assert torch.equal(rebuilt(point(third)).x, third)


def test_a_tensor_without_a_value_can_be_printed_too():
    seen = []
    torch.func.vmap(lambda x: seen.append(repr(point(x))) or x)(torch.ones(2))
    assert seen == ["point(<tensor of torch.float32>)"]
    meta = torch.ones((), device="meta")
    assert repr(point(meta)) == "point(<tensor of torch.float32>)"


def test_a_long_call_takes_one_line_for_each_argument():
    assert call_repr("f", ["a", "b"], width=7) == "f(a, b)"
    assert call_repr("f", ["a", "g(\n    b,\n)"]) == "f(\n    a,\n    g(\n        b,\n    ),\n)"


# Equality and hash


@given(record=records)
def test_a_record_equals_its_pickled_copy(record):
    copy = pickle.loads(pickle.dumps(record))
    assert copy == record
    assert hash(copy) == hash(record)


def test_tensors_are_equal_by_value_and_dtype():
    assert point(torch.tensor(1.0)) == point(torch.tensor(1.0))
    assert point(torch.tensor(1.0)) != point(torch.tensor(2.0))
    assert point(torch.tensor(1.0)) != point(torch.tensor(1.0, dtype=torch.float64))
    assert point(torch.tensor(1.0)) != point(1.0)
    assert point((torch.tensor(1.0), 2.0)) == point((torch.tensor(1.0), 2.0))
    assert point((1.0, 2.0)) != point([1.0, 2.0])


def test_the_hash_does_not_look_at_the_values_of_tensors():
    assert hash(point(torch.tensor(1.0))) == hash(point(torch.tensor(2.0)))
    torch.func.vmap(lambda x: x * (hash(point(x)) != 0))(torch.ones(2))  # where there are none


def test_records_of_different_classes_differ():
    assert point(1) != nearby(1)
    assert nearby(1) != point(1)
    assert point(1) != 1
    assert fo.scale(1.0) != fo.trace(1.0)


def test_records_are_keys():
    assert {point(1): "a", point(1.0): "b"} == {point(1): "b"}
    assert len({point([1, {"a": torch.ones(2)}]), point([1, {"a": torch.ones(2)}])}) == 1


# Immutability


def test_a_record_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        point(1).x = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        fo.scale_by_adam().eps = 1.0


def test_a_copy_can_have_other_values():
    record = nearby(1, z=torch.tensor(1.0))
    assert record.replace(y=2) == nearby(1, y=2, z=torch.tensor(1.0))
    assert record == nearby(1, z=torch.tensor(1.0))
    assert record.replace() == record


@pytest.mark.parametrize(
    "record", [point(1), fo.scale_by_adam(), fo.chain(fo.scale(1.0))], ids=repr
)
def test_a_copy_cannot_have_a_field_that_is_not_there(record):
    with pytest.raises(TypeError, match="unknown argument `nonsense`"):
        record.replace(nonsense=1)


def test_a_copy_is_checked_too():
    with pytest.raises(ValueError, match=r"`max_norm` must be positive, got -1\.0"):
        fo.clip_by_global_norm(1.0).replace(max_norm=-1.0)


def test_every_subclass_is_a_record_of_its_own_fields():
    assert [field.name for field in dataclasses.fields(nearby)] == ["x", "y", "z"]
    assert nearby(1, 2, 3).z == 3
    match nearby(1, 2, 3):
        case nearby(x, y, z):
            assert (x, y, z) == (1, 2, 3)


def test_a_missing_argument_is_named():
    with pytest.raises(TypeError, match="'x'"):
        point()


def test_a_default_is_changed_by_declaring_the_field_again():
    class base(fo.Record):
        momentum: fo.Scalar = 0.9

    class declared(base):
        momentum: fo.Scalar = 0.95

    assert declared().momentum == 0.95
    with pytest.raises(fo.errors.ArgumentError, match="`assigned`: `momentum` is a field"):

        class assigned(base):
            momentum = 0.95
