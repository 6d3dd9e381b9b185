"""The lens on hyperparameters: every number of a chain has one name, at any depth."""

from collections.abc import Mapping

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import funcopt as fo
from funcopt.combinators import labels, unique_keys
from funcopt.errors import HyperparameterError


class within(fo.GradientTransformation):
    """A combinator with a number of its own."""

    inner: fo.GradientTransformation
    share: fo.Scalar = 0.5
    limit: fo.Scalar | None = None
    times: int = 1

    def update(self, updates, state, params=None, **extra):
        return self.inner.update(updates, state, params, **extra)

    def children(self):
        return {"inner": self.inner}

    def with_children(self, children: Mapping[str, fo.GradientTransformation]):
        return self.replace(inner=children["inner"])


rates = st.floats(0.1, 0.9)
stages = st.recursive(
    st.one_of(
        st.builds(fo.scale, rates),
        st.builds(fo.clip_by_global_norm, rates),
        st.builds(fo.scale_by_adam, st.tuples(rates, rates), eps=rates),
        st.builds(fo.scale_by_rms, rates),
        st.builds(fo.trace, rates, dampening=rates),
        st.just(fo.scale_by_sign()),
    ),
    lambda inner: st.builds(
        within, inner | st.lists(inner, max_size=3).map(lambda x: fo.chain(*x))
    ),
    max_leaves=4,
)
lists_of_stages = st.lists(stages, max_size=4)

CHAIN = fo.chain(
    fo.clip_by_global_norm(1.0),
    fo.scale_by_adam(),
    within(fo.chain(fo.scale(2.0), fo.scale_by_adam(eps=1e-4)), limit=3.0),
    fo.scale_by_learning_rate(0.1),
    fo.scale(-1.0),
)


# Keys


def test_what_one_stage_has_is_called_by_its_bare_name_and_what_several_have_with_their_class():
    assert list(fo.hyperparams(CHAIN).items()) == [
        ("max_norm", 1.0),
        ("scale_by_adam/betas", (0.9, 0.999)),
        ("scale_by_adam/eps", 1e-8),
        ("scale_by_adam/eps_root", 0.0),
        ("share", 0.5),
        ("limit", 3.0),
        ("scale/factor", 2.0),
        ("scale_by_adam_2/betas", (0.9, 0.999)),
        ("scale_by_adam_2/eps", 1e-4),
        ("scale_by_adam_2/eps_root", 0.0),
        ("lr", 0.1),
        ("scale_2/factor", -1.0),
    ]


def test_structure_is_no_hyperparameter_nor_is_what_is_not_there():
    keys = fo.hyperparams(within(fo.scale_by_adam(amsgrad=True, state_dtype=torch.float32)))
    assert list(keys) == ["share", "betas", "eps", "eps_root"]


@given(stages=lists_of_stages, one_more=stages)
def test_appending_a_stage_leaves_the_names_of_all_others_but_those_that_it_shares(
    stages, one_more
):
    before = fo.hyperparams(fo.chain(*stages))
    after = fo.hyperparams(fo.chain(*stages, one_more))
    shared = {key.rpartition("/")[2] for key in fo.hyperparams(one_more)}
    for key, value in before.items():
        if key not in shared:
            assert after[key] == value
    assert len(after) == len(before) + len(fo.hyperparams(one_more))


LABELED = fo.partition(
    {"plain": fo.scale_by_learning_rate(0.1), "adam": fo.chain(fo.adamw(0.2), fo.scale_by_rms())},
    lambda name, p: "adam" if name == "b" else "plain",
)


def test_what_several_labels_have_is_called_with_the_label_in_front():
    assert list(fo.hyperparams(LABELED)) == [
        "plain/lr",
        "betas",
        "adam/scale_by_adam/eps",
        "eps_root",
        "weight_decay",
        "adam/lr",
        "alpha",
        "adam/scale_by_rms/eps",
        "initial_scale",
    ]


def test_of_a_parameter_there_are_the_numbers_of_its_label_only_under_their_bare_names():
    a, b = ("a", torch.ones(2)), ("b", torch.ones(2))
    assert list(fo.hyperparams(LABELED, of=[a])) == ["lr"]
    assert fo.hyperparams(LABELED, of=[b])["lr"] == 0.2
    assert fo.hyperparams(LABELED, of=[b, a]) == fo.hyperparams(LABELED)


def test_of_several_parameters_there_is_what_one_of_them_has():
    tx = fo.chain(fo.masked(fo.add_decayed_weights(0.1), lambda name, p: p.ndim > 1), fo.scale(2.0))
    bias, weight = ("bias", torch.ones(2)), ("weight", torch.ones(2, 2))
    assert list(fo.hyperparams(tx, of=[bias])) == ["factor"]
    assert list(fo.hyperparams(tx, of=[bias, weight])) == ["weight_decay", "factor"]


WAYS = {
    "with_hyperparams": lambda tx, key: fo.with_hyperparams(tx, {key: 0.5}),
    "scheduled": lambda tx, key: fo.scheduled(tx, **{key: fo.constant_schedule(0.5)}),
    "sweep": lambda tx, key: fo.sweep(
        lambda p, batch: p.sum(), tx, [{key: 0.5}], torch.ones(2), [torch.ones(1)]
    ),
    "hypergrad": lambda tx, key: fo.hypergrad(
        lambda p, batch: p.sum(), tx, {key: 0.5}, torch.ones(2), [torch.ones(1)], torch.sum
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("tx", "key", "meant"),
    [
        (LABELED, "lr", ["plain/lr", "adam/lr"]),
        (LABELED, "adam/eps", ["adam/scale_by_adam/eps", "adam/scale_by_rms/eps"]),
        (CHAIN, "eps", ["scale_by_adam/eps", "scale_by_adam_2/eps"]),
        (fo.chain(fo.scale_by_rms(), fo.scale_by_adam()), "eps", ["scale_by_rms/eps"]),
        (
            fo.chain(fo.masked(fo.add_decayed_weights(0.1), True), fo.add_decayed_weights(0.2)),
            "weight_decay",
            ["add_decayed_weights/weight_decay", "add_decayed_weights_2/weight_decay"],
        ),
    ],
)
def test_a_name_of_several_stages_is_an_error_that_lists_the_names_of_each(way, tx, key, meant):
    with pytest.raises(HyperparameterError, match=f"`{way}`: `{key}` is a .* of several") as error:
        WAYS[way](tx, key)
    for name in meant:
        assert repr(name) in str(error.value)
        if way == "with_hyperparams":
            assert fo.hyperparams(fo.with_hyperparams(tx, {name: 0.5}))[name] == 0.5


def test_a_longer_name_than_is_needed_is_understood():
    by_class = fo.with_hyperparams(CHAIN, {"clip_by_global_norm/max_norm": 2.0})
    assert by_class == fo.with_hyperparams(CHAIN, {"max_norm": 2.0})
    by_label = fo.with_hyperparams(LABELED, {"adam/betas": (0.5, 0.5)})
    assert by_label == fo.with_hyperparams(LABELED, {"betas": (0.5, 0.5)})


@given(a=lists_of_stages, b=lists_of_stages)
def test_how_a_chain_was_put_together_does_not_matter(a, b):
    assert fo.hyperparams(fo.chain(fo.chain(*a), fo.chain(*b))) == fo.hyperparams(fo.chain(*a, *b))


def test_labels_count_from_the_second_of_a_class():
    assert labels([fo.scale(1.0), fo.identity(), fo.scale(2.0), fo.scale(3.0)]) == [
        "scale",
        "identity",
        "scale_2",
        "scale_3",
    ]


def test_keys_are_unique_even_where_a_class_is_named_as_a_label():
    parts = [("scale", "factor"), ("scale_2", "factor"), ("scale_2", "factor")]
    assert len(set(unique_keys(parts))) == 3


# Reading and writing


@given(stages=lists_of_stages)
def test_writing_what_was_read_changes_nothing(stages):
    tx = fo.chain(*stages)
    assert fo.with_hyperparams(tx, fo.hyperparams(tx)) == tx
    assert fo.with_hyperparams(tx, {}) == tx


@given(stages=lists_of_stages, data=st.data())
def test_what_is_written_is_read_and_nothing_else_changes(stages, data):
    tx = fo.chain(*stages)
    read = fo.hyperparams(tx)
    if not read:
        return
    key = data.draw(st.sampled_from(list(read)))
    value = (0.25, 0.75) if isinstance(read[key], tuple) else 0.25
    changed = fo.with_hyperparams(tx, {key: value})
    assert fo.hyperparams(changed) == {**read, key: value}
    assert fo.hyperparams(tx) == read


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("max_norm", "0/max_norm"),
        ("scale_by_adam/eps", "1/eps"),
        ("share", "2/share"),
        ("scale/factor", "2/inner/0/factor"),
        ("scale_by_adam_2/eps", "2/inner/1/eps"),
        ("scale_2/factor", "4/factor"),
    ],
)
def test_the_full_path_leads_to_the_same_number(key, path):
    by_key = fo.with_hyperparams(CHAIN, {key: 0.125})
    assert by_key == fo.with_hyperparams(CHAIN, {path: 0.125})
    assert by_key != CHAIN
    assert fo.hyperparams(by_key)[key] == 0.125


def test_several_numbers_of_several_stages_are_written_at_once():
    changed = fo.with_hyperparams(
        CHAIN, {"1/eps": 0.5, "1/eps_root": 0.25, "2/inner/0/factor": 4.0}
    )
    assert changed == fo.chain(
        fo.clip_by_global_norm(1.0),
        fo.scale_by_adam(eps=0.5, eps_root=0.25),
        within(fo.chain(fo.scale(4.0), fo.scale_by_adam(eps=1e-4)), limit=3.0),
        fo.scale_by_learning_rate(0.1),
        fo.scale(-1.0),
    )


def test_it_works_on_a_single_transformation():
    assert fo.with_hyperparams(fo.scale(2.0), {"factor": 3.0}) == fo.scale(3.0)
    assert fo.hyperparams(fo.identity()) == {}
    assert fo.hyperparams(fo.chain()) == {}


# Values


def last_update(tx, grads):
    state = tx.init(grads)
    for _ in range(3):
        updates, state = tx.update(grads, state)
    return updates


def test_a_tensor_can_be_written_and_differentiated_by():
    lr = torch.tensor(0.1, requires_grad=True)
    tx = fo.with_hyperparams(fo.adam(), {"lr": lr})
    assert fo.hyperparams(tx)["lr"] is lr
    updates = last_update(tx, torch.full((1,), 3.0))
    assert torch.autograd.grad(updates.sum(), lr)[0] == pytest.approx(-1.0)


def test_a_sweep_over_numbers_is_a_vmap_over_what_is_written():
    grads = torch.tensor([2.0, -1.0])
    rates = torch.tensor([0.1, 0.2, 0.4])
    tx = fo.sgd(0.0, momentum=0.5)
    swept = torch.func.vmap(lambda lr: last_update(fo.with_hyperparams(tx, {"lr": lr}), grads))
    expected = torch.stack([last_update(fo.sgd(lr.item(), momentum=0.5), grads) for lr in rates])
    torch.testing.assert_close(swept(rates), expected)


def test_a_schedule_can_be_written_and_takes_its_value_at_each_step():
    tx = fo.with_hyperparams(fo.scale(1.0), {"factor": fo.schedules.linear_schedule(1.0, 3.0, 2)})
    assert last_update(tx, torch.ones(1)) == 3.0


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"max_norm": -1.0}, "in `clip_by_global_norm`: `max_norm` must be positive, got -1.0"),
        (
            {"1/betas": (0.9, 1.0)},
            r"in `scale_by_adam`: `1/betas\[1\]` must lie in \[0, 1\), got 1.0",
        ),
        (
            {"2/inner/1/eps": -1.0},
            "in `scale_by_adam`: `2/inner/1/eps` must not be negative, got -1.0",
        ),
        ({"lr": 0.2, "scale_2/factor": "x"}, "in `scale`: `scale_2/factor` must be a number"),
    ],
)
def test_a_value_out_of_its_range_is_named(values, complaint):
    with pytest.raises(HyperparameterError, match=complaint):
        fo.with_hyperparams(CHAIN, values)


@pytest.mark.parametrize("key", ["nonsense", "1/max_norm", "amsgrad", "2", "", "0/eps/"])
def test_an_unknown_key_is_an_error_that_lists_the_known_ones(key):
    with pytest.raises(HyperparameterError) as error:
        fo.with_hyperparams(CHAIN, {key: 1.0})
    message = str(error.value)
    assert f"unknown hyperparameter `{key}`" in message
    for known in ("'max_norm'", "'scale_by_adam_2/eps'", "'0/max_norm'", "'2/inner/1/eps'"):
        assert known in message


def test_one_number_cannot_be_given_two_values():
    with pytest.raises(HyperparameterError, match="max_norm"):
        fo.with_hyperparams(CHAIN, {"max_norm": 2.0, "0/max_norm": 3.0})


def test_a_list_of_numbers_is_as_good_as_a_tuple():
    tx = fo.scale_by_adam(betas=[lambda count: 0.9, 0.999])
    assert last_update(tx, torch.ones(1)) == pytest.approx(1.0)
