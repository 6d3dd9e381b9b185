"""`partition`: every parameter goes the way of its label, as if the others were not there."""

import copy
import pickle

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

import funcopt as fo
from funcopt.errors import HyperparameterError, LabelError, TiedParametersError

from ..cases import by_dimension, is_matrix
from .common import (
    START,
    drive,
    grads_at,
    named_parameters,
    purely,
    resumes,
    same,
    same_bits,
    state_of,
    step,
    the_optimizer_does_the_same,
    values,
    wrapped,
)

MATRIX = fo.chain(fo.trace(0.9), fo.scale_by_sign(), fo.scale_by_learning_rate(0.02))
REST = fo.adamw(0.01, weight_decay=0.1)
TWO = fo.partition({"matrix": MATRIX, "rest": REST}, by_dimension)
MATRICES = {name: p for name, p in START.items() if p.ndim == 2}
OTHERS = {name: p for name, p in START.items() if p.ndim < 2}


def marked(labels, params):
    """The label of every parameter, as a tree: told by the factor that its branch multiplies by."""
    tx = fo.partition({"one": fo.scale(1.0), "two": fo.scale(2.0)}, labels)
    ones = fo.tree.map(torch.ones_like, params)
    updates, _ = tx.update(ones, tx.init(params), params)
    return fo.tree.map(lambda u: int(u.max()), updates)


def test_the_parameters_of_a_label_do_as_with_its_transformation_alone():
    both, _ = purely(TWO, 8)
    assert same_bits({"w": both["w"]}, purely(MATRIX, 8, MATRICES)[0])
    assert same_bits({n: both[n] for n in OTHERS}, purely(REST, 8, OTHERS)[0])


def test_a_norm_inside_spans_one_label_and_outside_all():
    def unit(tx):
        return fo.chain(fo.clip_by_global_norm(1.0, eps=0.0), tx)

    grads = {"a": torch.tensor([3.0]), "b": torch.tensor([[4.0]])}
    inside = fo.partition({"matrix": unit(fo.scale(1.0)), "rest": fo.scale(1.0)}, by_dimension)
    updates, _ = inside.update(grads, inside.init(grads), grads)
    assert same(updates, {"a": torch.tensor([3.0]), "b": torch.tensor([[1.0]])})
    outside = unit(fo.partition({"matrix": fo.scale(1.0), "rest": fo.scale(2.0)}, by_dimension))
    updates, _ = outside.update(grads, outside.init(grads), grads)
    assert same(updates, {"a": torch.tensor([1.2]), "b": torch.tensor([[0.8]])}, 1e-7)


# Labels

LAYERS = {
    "head": {"bias": torch.ones(2), "weight": torch.ones(2, 2)},
    "layers": [
        {"bias": torch.ones(1), "weight": torch.ones(1, 3)},
        {"bias": torch.ones(1), "weight": torch.ones(1, 3)},
    ],
}
BIASES = {"head": {"bias": 1, "weight": 2}, "layers": 2 * [{"bias": 1, "weight": 2}]}
HEAD = {"head": {"bias": 1, "weight": 1}, "layers": 2 * [{"bias": 2, "weight": 2}]}
SECOND = {
    "head": {"bias": 2, "weight": 2},
    "layers": [{"bias": 2, "weight": 2}, {"bias": 1, "weight": 1}],
}


def is_bias(name, p):
    return name.endswith("bias")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([(r"bias$", "one"), (r"", "two")], BIASES),
        ([(r"weight", "two"), (r".*", "one")], BIASES),
        ([(is_bias, "one"), (is_matrix, "two")], BIASES),
        ([(is_matrix, "two"), (r"bias", "one")], BIASES),
        (lambda name, p: "two" if p.ndim == 2 else "one", BIASES),
        (lambda name, p: "one" if name.startswith("head/") else "two", HEAD),
        ({"head": "one", "layers": "two"}, HEAD),
        ({"head": "one", "layers": ["two", {"bias": "two", "weight": "two"}]}, HEAD),
        ({"head": "two", "layers": ["two", "one"]}, SECOND),
        ([(r"layers/1", "one"), (r"layers|head", "two")], SECOND),
    ],
)
def test_labels_may_be_patterns_predicates_a_function_or_a_tree(labels, expected):
    assert marked(labels, LAYERS) == expected


def test_one_label_may_stand_for_all():
    assert marked("two", LAYERS)["head"] == {"bias": 2, "weight": 2}
    assert marked("two", torch.ones(3)) == 2


def test_the_first_that_fits_counts():
    assert marked([(r"bias", "one"), (r"head", "two"), (r"", "one")], LAYERS)["head"] == {
        "bias": 1,
        "weight": 2,
    }


def test_a_slash_in_a_key_is_not_a_level():
    params = {"a/b": torch.ones(1), "a": {"b": torch.ones(1)}}
    assert marked({"a/b": "one", "a": {"b": "two"}}, params) == {"a/b": 1, "a": {"b": 2}}


ONE = {"one": fo.sgd(0.1)}
MISTAKES = {
    "a pattern that fits nothing": (
        [(r"head", "one"), (r"", "one")],
        "`partition`: the pattern 'head' of label 'one' fits none of the parameters ['b', 'w'].",
    ),
    "a predicate that fits nothing": (
        [(is_bias, "one"), (r"", "one")],
        f"`partition`: the predicate {is_bias!r} of label 'one' fits none of the parameters "
        "['b', 'w'].",
    ),
    "a parameter that nothing fits": (
        [(r"w", "one")],
        "`partition`: nothing fits parameter `b` of shape (1,): end the list with a pair such as "
        "(r'.*', label).",
    ),
    "a label without transformation": (
        [(r"w", "one"), (r"b", "two")],
        "`partition`: parameter `b` has the label 'two', and there are only transformations for "
        "['one'].",
    ),
    "a function without an answer": (
        lambda name, p: None,
        "`partition`: parameter `b` has the label None, and there are only transformations for "
        "['one'].",
    ),
    "a tree that leaves one out": (
        {"w": "one"},
        "`partition`: the tree of labels has none for parameter `b`; it has labels for ['w'].",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_labels_that_do_not_fit_say_so(mistake):
    labels, message = MISTAKES[mistake]
    params = {"b": torch.ones(1), "w": torch.ones(1, 1)}
    tx = fo.partition(ONE, labels)
    with pytest.raises(LabelError) as error:
        tx.init(params)
    assert str(error.value) == message
    with pytest.raises(LabelError) as error:
        fo.Optimizer(list(named_parameters(params).items()), tx)
    assert str(error.value) == f"`Optimizer`, in {message}"


def test_patterns_need_names_and_predicates_do_not():
    p = torch.nn.Parameter(torch.ones(2, 2))
    with pytest.raises(LabelError) as error:
        fo.Optimizer([p], fo.partition(ONE, [(r"w", "one")]))
    assert str(error.value) == (
        "`Optimizer`, in `partition`: the pattern 'w' needs names, and the parameters have none: "
        "pass `model.named_parameters()`."
    )
    opt = fo.Optimizer([p], fo.partition(ONE, [(is_matrix, "one")]))
    assert opt.param_groups[0]["name"] == "one"


def test_a_label_is_a_string():
    with pytest.raises(LabelError) as error:
        fo.partition({0: fo.sgd(0.1)}, 0)
    assert str(error.value) == (
        "`partition`: a label is a string, since it names a parameter group; got 0."
    )


def test_a_branch_that_sees_whole_trees_is_refused():
    with pytest.raises(HyperparameterError, match="'one' must be a transformation that works"):
        fo.partition({"one": fo.from_functions(len, pow)}, "one")


def test_tied_parameters_are_found_across_labels():
    p = torch.ones(2)
    with pytest.raises(TiedParametersError):
        fo.partition({"a": fo.sgd(0.1), "b": fo.sgd(0.1)}, {"x": "a", "y": "b"}).init(
            {"x": p, "y": p}
        )


# What is not there


@pytest.mark.parametrize("missing", [{"w"}, {"b"}, {"b", "gain"}, {"b", "gain", "w"}])
def test_parameters_without_gradient_stay_as_they_are(missing):
    params, state = purely(TWO, 2)
    grads = {n: None if n in missing else g for n, g in grads_at(params, 2).items()}
    updates, after = TWO.update(grads, state, params)
    full, full_after = TWO.update(grads_at(params, 2), state, params)
    for name in params:
        if name in missing:
            assert updates[name] is None
            assert same_bits(after.slots[name], state.slots[name])
        else:
            assert same_bits(updates[name], full[name])
            assert same_bits(after.slots[name], full_after.slots[name])


def test_a_label_that_no_parameter_has_is_no_mistake():
    tx = fo.partition({"matrix": MATRIX, "rest": REST, "spare": fo.scale_by_adam()}, by_dimension)
    assert same(purely(tx, 3)[0], purely(TWO, 3)[0])
    assert the_optimizer_does_the_same(tx)


# Nested

ALL = r""
NESTED = {
    "in a chain": (
        fo.chain(fo.scale(2.0), TWO),
        fo.chain(fo.scale(2.0), MATRIX),
        fo.chain(fo.scale(2.0), REST),
    ),
    "in a partition": (
        fo.partition({"all": TWO, "none": fo.freeze()}, [(ALL, "all")]),
        MATRIX,
        REST,
    ),
    "in a mask": (fo.masked(TWO, ALL), MATRIX, REST),
    "in accumulate": (
        fo.accumulate(TWO, 2),
        fo.accumulate(MATRIX, 2),
        fo.accumulate(REST, 2),
    ),
    "in skip_if": (fo.skip_if(TWO), fo.skip_if(MATRIX), fo.skip_if(REST)),
    "around them": (
        fo.partition(
            {"matrix": fo.accumulate(MATRIX, 2), "rest": fo.skip_if(fo.chain(fo.chain(), REST))},
            by_dimension,
        ),
        fo.accumulate(MATRIX, 2),
        REST,
    ),
    "around two with a count of their own": (
        fo.partition(
            {"matrix": fo.accumulate(MATRIX, 2), "rest": fo.accumulate(REST, 3)}, by_dimension
        ),
        fo.accumulate(MATRIX, 2),
        fo.accumulate(REST, 3),
    ),
    "with the identity as a branch": (
        fo.chain(fo.partition({"matrix": fo.chain(), "rest": REST}, by_dimension), fo.scale(-1.0)),
        fo.scale(-1.0),
        fo.chain(REST, fo.scale(-1.0)),
    ),
}


@pytest.mark.parametrize("how", NESTED)
def test_nested_it_is_still_each_alone(how):
    tx, matrix, rest = NESTED[how]
    together, _ = purely(tx, 7)
    assert same_bits({"w": together["w"]}, purely(matrix, 7, MATRICES)[0])
    assert same_bits({n: together[n] for n in OTHERS}, purely(rest, 7, OTHERS)[0])
    assert the_optimizer_does_the_same(tx)
    assert resumes(tx, 3, 7)


def test_vmap_runs_a_rate_for_each_label():
    rates = torch.tensor([[0.1, 0.01], [0.2, 0.03], [0.0, 1.0]], dtype=torch.float64)

    def run(lr):
        tx = fo.with_hyperparams(TWO, {"matrix/2/lr": lr[0], "rest/2/lr": lr[1]})
        return purely(tx, 4)[0]

    together = torch.func.vmap(run)(rates)
    for i, lr in enumerate(rates.tolist()):
        assert same({n: x[i] for n, x in together.items()}, run(lr), 1e-12)


# Wrapped


def test_the_optimizer_does_as_the_pure_form():
    assert the_optimizer_does_the_same(TWO)


def test_it_is_two_optimizers_under_one_scheduler():
    together = named_parameters()
    opt = fo.Optimizer(list(together.items()), TWO)
    schedulers = [CosineAnnealingLR(opt, 12)]
    apart = named_parameters()
    matrix = fo.Optimizer([apart["w"]], MATRIX)
    rest = torch.optim.AdamW([apart["b"], apart["gain"]], 0.01, weight_decay=0.1, foreach=False)
    schedulers += [CosineAnnealingLR(matrix, 12), CosineAnnealingLR(rest, 12)]
    rates = []
    for t in range(12):
        rates.append({group["name"]: group["lr"] for group in opt.param_groups})
        assert rates[-1] == {
            "matrix": matrix.param_groups[0]["lr"],
            "rest": rest.param_groups[0]["lr"],
        }
        step(opt, together, grads_at(values(together), t))
        for p in apart.values():
            p.grad = None
        for name, g in grads_at(values(apart), t).items():
            apart[name].grad = g
        matrix.step()
        rest.step()
        for scheduler in schedulers:
            scheduler.step()
    assert rates[0] == {"matrix": 0.02, "rest": 0.01}
    assert rates[6]["matrix"] == pytest.approx(0.01)
    assert rates[6]["rest"] == pytest.approx(0.005)
    assert same_bits({"w": together["w"]}, {"w": apart["w"]})
    assert same(values(together), values(apart), 1e-15)  # torch rounds its step size otherwise


def test_two_optimizers_of_ours_are_met_exactly():
    together, apart = named_parameters(), named_parameters()
    opt = fo.Optimizer(list(together.items()), TWO, engine="eager")
    others = [
        fo.Optimizer([apart["w"]], MATRIX, engine="eager"),
        fo.Optimizer([apart["b"], apart["gain"]], REST, engine="eager"),
    ]
    schedulers = [CosineAnnealingLR(one, 12) for one in (opt, *others)]
    for t in range(12):
        step(opt, together, grads_at(values(together), t))
        for name, g in grads_at(values(apart), t).items():
            apart[name].grad = g
        for one in others:
            one.step()
        for scheduler in schedulers:
            scheduler.step()
    assert same_bits(values(together), values(apart))


def test_every_label_is_a_group_with_its_own_numbers():
    _, opt = wrapped(TWO, 0)
    found = {group["name"]: group for group in opt.param_groups}
    assert {name: group["param_names"] for name, group in found.items()} == {
        "rest": ["b", "gain"],
        "matrix": ["w"],
    }
    assert {key: found["matrix"][key] for key in ("lr", "momentum")} == {
        "lr": 0.02,
        "momentum": 0.9,
    }
    assert {key: found["rest"][key] for key in ("lr", "betas", "weight_decay")} == {
        "lr": 0.01,
        "betas": (0.9, 0.999),
        "weight_decay": 0.1,
    }
    assert not {"betas", "weight_decay"} & set(found["matrix"])
    assert "momentum" not in found["rest"]
    assert not any("/" in key for group in opt.param_groups for key in group)


def test_the_rate_of_one_group_is_the_rate_of_its_label_alone():
    params, opt = wrapped(TWO, 2)
    group = next(group for group in opt.param_groups if group["name"] == "rest")
    group["lr"] = 0.0
    before = values(params)
    drive(opt, params, 1, first=2)
    assert same_bits({n: params[n] for n in OTHERS}, {n: before[n] for n in OTHERS})
    assert not torch.equal(params["w"], before["w"])


def test_named_groups_are_split_by_label_and_keep_their_numbers():
    params = {f"{part}.{n}": p for part in ("body", "head") for n, p in named_parameters().items()}
    groups = [
        {"params": [(n, p) for n, p in params.items() if n.startswith(part)], "name": part, **more}
        for part, more in (("body", {}), ("head", {"lr": 0.5}))
    ]
    opt = fo.Optimizer(groups, TWO)
    assert [(group["name"], group["lr"]) for group in opt.param_groups] == [
        ("body/rest", 0.01),
        ("body/matrix", 0.02),
        ("head/rest", 0.5),
        ("head/matrix", 0.5),
    ]
    assert opt.param_groups[3]["param_names"] == ["head.w"]


def test_a_pattern_has_to_fit_in_one_of_the_groups_not_in_all():
    params = named_parameters()
    tx = fo.partition({"m": fo.sgd(0.1), "r": fo.sgd(0.2)}, [(r"w", "m"), (r"b|gain", "r")])
    opt = fo.Optimizer(
        [{"params": [("w", params["w"])]}, {"params": [(n, params[n]) for n in OTHERS]}], tx
    )
    assert [group["name"] for group in opt.param_groups] == ["m", "r"]


def test_groups_added_later_are_split_too():
    params, opt = wrapped(TWO, 3)
    late = {f"late_{n}": torch.nn.Parameter(p.clone()) for n, p in START.items()}
    opt.add_param_group({"params": list(late.items()), "name": "late"})
    names = [group["name"] for group in opt.param_groups]
    assert names == ["rest", "matrix", "late/rest", "late/matrix"]
    drive(opt, {**params, **late}, 2, first=3)
    assert (opt.state[params["w"]]["step"], opt.state[late["late_w"]]["step"]) == (5, 2)


def test_a_group_that_cannot_be_added_changes_nothing():
    params = named_parameters()
    opt = fo.Optimizer(list(params.items()), fo.partition(ONE, dict.fromkeys(params, "one")))
    before = copy.deepcopy(opt.param_groups)
    with pytest.raises(LabelError):
        opt.add_param_group({"params": [("other", torch.nn.Parameter(torch.ones(1)))]})
    assert len(opt.param_groups) == len(before) == 1
    drive(opt, params, 1)


FROZEN = fo.partition({"matrix": fo.sgd(0.1, momentum=0.9), "rest": fo.freeze()}, by_dimension)


def test_a_frozen_branch_stands_still_and_remembers_nothing():
    params, opt = wrapped(FROZEN, 5)
    assert same_bits({n: params[n] for n in OTHERS}, OTHERS)
    assert set(opt.state[params["b"]]) == {"step"}
    assert set(opt.state[params["w"]]) == {"step", "momentum_buffer"}
    _, state = purely(FROZEN, 2)
    assert fo.tree.leaves((state.slots["b"], state.slots["gain"])) == []


@pytest.mark.parametrize(
    "tx",
    [
        FROZEN,
        fo.chain(fo.clip(1.0), FROZEN),
        fo.skip_if(FROZEN),
        fo.masked(FROZEN, ALL),
        fo.partition({"all": FROZEN}, "all"),
        fo.partition(
            {
                "matrix": fo.sgd(0.1),
                "rest": fo.chain(fo.scale_by_sign(), fo.scale(-0.1)),
            },
            by_dimension,
        ),
    ],
    ids=["bare", "in a chain", "in skip_if", "in a mask", "in a partition", "relative"],
)
def test_a_branch_without_a_rate_gets_one_so_that_schedulers_work(tx):
    params = named_parameters()
    opt = fo.Optimizer(list(params.items()), tx)
    assert {group["name"].split("/")[-1]: group["lr"] for group in opt.param_groups} == {
        "matrix": 0.1,
        "rest": 1.0,
    }
    scheduler = torch.optim.lr_scheduler.StepLR(opt, 1, 0.5)
    drive(opt, params, 3, after=scheduler.step)
    assert [group["lr"] for group in opt.param_groups] == [0.125, 0.0125]


def test_a_rate_after_the_partition_is_enough():
    tx = fo.chain(
        fo.partition({"matrix": fo.scale_by_sign(), "rest": fo.scale_by_adam()}, by_dimension),
        fo.scale_by_learning_rate(0.1),
    )
    _, opt = wrapped(tx, 0)
    assert opt.tx == tx
    assert the_optimizer_does_the_same(tx)


# Saved, loaded, copied


@pytest.mark.parametrize("stop", [0, 1, 3])
def test_resuming_is_as_if_never_stopped(stop):
    assert resumes(TWO, stop, 6)


def test_a_checkpoint_finds_its_parameters_by_name():
    params, opt = wrapped(TWO, 3)
    turned = dict(reversed(named_parameters(values(params)).items()))
    again = fo.Optimizer(list(turned.items()), TWO)
    again.load_state_dict(copy.deepcopy(opt.state_dict()))
    drive(opt, params, 3, first=3)
    drive(again, turned, 3, first=3)
    assert same_bits(values(params), {n: turned[n] for n in params})


@pytest.mark.parametrize("make", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_go_on_as_the_original(make):
    params, opt = wrapped(TWO, 3)
    others, other = make((params, opt))
    assert same_bits(state_of(other), state_of(opt))
    drive(opt, params, 3, first=3)
    drive(other, others, 3, first=3)
    assert same_bits(values(others), values(params))
