"""One kind of thing where another is needed: no error shows what is private."""

import gc
import inspect
import warnings

import pytest
import torch

import funcopt as fo
from funcopt import optim

from .cases import by_dimension


def parameters():
    return [("w", torch.nn.Parameter(torch.ones(2, 2))), ("b", torch.nn.Parameter(torch.ones(2)))]


def loss(params, batch):
    return params["w"].square().sum()


PARAMS = {"w": torch.ones(2, 2)}
STATE = fo.adamw().init(PARAMS)
WRONG = {
    "an optimizer": optim.AdamW(parameters()),
    "a chain": fo.adamw(),
    "a module": torch.nn.Linear(2, 1),
    "a function": fo.adamw,
    "a class": fo.scale_by_adam,
    "a word": "adamw",
    "nothing": None,
    "a number": 3,
    "a list": [torch.ones(2)],
    "a state": STATE,
}
RIGHT = {
    "tx": fo.adamw(),
    "inner": fo.adamw(),
    "params": PARAMS,
    "updates": PARAMS,
    "grads": PARAMS,
    "state": STATE,
    "loaded": fo.state_dict(STATE),
    "loss": loss,
    "outer": lambda params: loss(params, None),
    "batch": None,
    "batches": [None],
    "values": {"lr": [0.1]},
    "module": torch.nn.Linear(2, 1),
    "model": torch.nn.Linear(2, 1),
    "optimizer": optim.AdamW(parameters()),
    "step": fo.train_step(loss, fo.adamw()),
    "trees": [PARAMS, PARAMS],
    "transforms": {"a": fo.adamw()},
    "labels": "a",
    "label": "a",
    "mask": True,
    "rules": [("weight", {})],
}
FUNCTIONS = {
    **{name: getattr(fo, name) for name in fo.__all__ if callable(getattr(fo, name))},
    **{name: getattr(optim, name) for name in optim.__all__ if callable(getattr(optim, name))},
}


def needed(function):
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    arguments = inspect.signature(function).parameters.values()
    return [a for a in arguments if a.default is a.empty and a.kind not in variable]


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.filterwarnings("ignore")
def test_what_is_of_another_kind_is_taken_or_refused_in_words(name):
    function = FUNCTIONS[name]
    for wrong in needed(function):
        for kind, value in WRONG.items():
            given = {a.name: RIGHT.get(a.name, 0.5) for a in needed(function)}
            given[wrong.name] = value
            keywords = {a.name for a in needed(function) if a.kind is a.KEYWORD_ONLY}
            args = [x for name, x in given.items() if name not in keywords]
            try:
                function(*args, **{name: given[name] for name in keywords})
            except (fo.errors.FuncoptError, TypeError, ValueError):
                pass  # the latter of torch and Python, of what they are given themselves
            except AttributeError as error:
                pytest.fail(f"`{wrong.name}`, {kind}: {error}")


CALLS = {
    "the numbers of an optimizer": (
        lambda: fo.hyperparams(optim.AdamW(parameters())),
        "`hyperparams`: expected a transformation such as `adamw(1e-3)`, got the optimizer "
        "`AdamW`: the transformation of an `Optimizer` is its `tx`. The call is `hyperparams(tx)`.",
    ),
    "the state of an optimizer": (
        lambda: fo.state_dict(optim.AdamW(parameters())),
        "`state_dict`: expected the state of a transformation, as `tx.init(params)` returns it, "
        "got the optimizer `AdamW`: use its method `state_dict()`.",
    ),
    "the state of a module": (
        lambda: fo.state_dict(torch.nn.Linear(1, 1)),
        "`state_dict`: expected the state of a transformation, as `tx.init(params)` returns it, "
        "got the module `Linear`: use its method `state_dict()`.",
    ),
    "a sweep of a module": (
        lambda: fo.sweep(loss, fo.sgd(), {"lr": [0.1]}, torch.nn.Linear(1, 1), [None]),
        "`sweep`: `params` must be a tree of tensors, such as `split_module(model).params`, got "
        "the module `Linear`.",
    ),
    "hypergradients of a module": (
        lambda: fo.hypergrad(loss, fo.sgd(), {"lr": 0.1}, torch.nn.Linear(1, 1), [None], loss),
        "`hypergrad`: `params` must be a tree of tensors, such as `split_module(model).params`, "
        "got the module `Linear`.",
    ),
    "a sweep of an optimizer": (
        lambda: fo.sweep(loss, optim.SGD(parameters()), {"lr": [0.1]}, PARAMS, [None]),
        "`sweep`: expected a transformation such as `adamw(1e-3)`, got the optimizer `SGD`: ",
    ),
    "parameters for the state of a step": (
        lambda: fo.train_step(loss, fo.sgd())(PARAMS, None),
        "`train_step`: `state` must be a `TrainState`, as `TrainState(params, tx.init(params))` "
        "makes it, got dict.",
    ),
    "the number of a chain": (
        lambda: fo.adamw().replace(lr=0.1),
        "`chain`: unknown argument `lr`. A chain has no fields but its `stages`: "
        "`with_hyperparams(tx, lr=...)` sets their hyperparameters.",
    ),
    "a word for values": (
        lambda: fo.with_hyperparams(fo.adamw(), "lr"),
        "`with_hyperparams`: expected a dict of values by name, or keywords, got 'lr': write ",
    ),
    "a number twice": (
        lambda: fo.scheduled(fo.adamw(), {"lr": 0.1}, lr=0.2),
        "`scheduled`: ['lr'] is given in the dict and by keyword.",
    ),
    "a partition of nothing": (
        lambda: fo.partition({}, "a"),
        "`partition`: `transforms` must be a dict of a transformation for each label, got an empty "
        "dict.",
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_kind_gets_its_sentence(call):
    make, sentence = CALLS[call]
    with pytest.raises(fo.errors.FuncoptError) as caught:
        make()
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize("tx", [fo.adamw(), fo.skip_if(fo.adamw()), fo.cautious(fo.adamw())])
def test_a_number_inside_is_said_to_be_read_by_hyperparams(tx):
    with pytest.raises(
        AttributeError, match=r"`scale_by_adam` inside: `hyperparams\(tx\)\['betas'"
    ):
        _ = tx.betas
    with pytest.raises(AttributeError, match=r"has no attribute `nothing`\.$"):
        _ = tx.nothing


def test_numbers_are_named_in_a_dict_or_by_keyword():
    schedule = fo.linear_schedule(1.0, 0.0, 10)
    tx = fo.adamw(1e-3)
    assert fo.with_hyperparams(tx, lr=0.1) == fo.with_hyperparams(tx, {"lr": 0.1})
    assert fo.with_hyperparams(tx, {"lr": 0.1}, eps=1.0) == fo.adamw(0.1, eps=1.0)
    assert fo.scheduled(tx, {"lr": schedule}) == fo.scheduled(tx, lr=schedule) == fo.adamw(schedule)
    deep = fo.scheduled(tx, {"1/weight_decay": schedule})
    assert deep == fo.adamw(1e-3, weight_decay=schedule)


# The sign


def warned(tx):
    with pytest.warns(UserWarning, match="would increase the loss") as said:
        fo.Optimizer(parameters(), tx)
    return str(said[0].message)


def test_a_sign_that_is_never_turned():
    text = warned(fo.chain(fo.scale_by_adam(), fo.scale(0.01)))
    assert "does not negate the updates, so `step()` would increase the loss: add " in text
    assert "add `scale_by_learning_rate(lr)` at the end" in text


@pytest.mark.parametrize(
    "wrap", [lambda tx: tx, fo.skip_if, lambda tx: fo.partition({"all": tx}, "all")]
)
def test_a_sign_that_is_turned_twice(wrap):
    text = warned(fo.chain(wrap(fo.adamw(0.01)), fo.scale_by_learning_rate(0.02)))
    by = "scale_by_learning_rate(0.01), scale_by_learning_rate(0.02)"
    assert f"negates the updates twice, by {by}, so `step()` would increase the loss" in text
    assert "the loss: keep one" in text


def test_a_sign_that_is_turned_four_times():
    assert "4 times" in warned(fo.chain(*[fo.scale(-1.0)] * 4))


# Extra trees


class weighed(fo.TensorRule):
    elementwise = True
    tensor_extra = ("weight",)

    def update_tensor(self, g, slots, p, s):
        return g * s.weight, slots


def test_none_in_an_extra_tree_is_for_parameters_that_do_not_ask():
    params = {"w": torch.ones(2, 2), "b": torch.ones(2)}
    tx = fo.masked(weighed(), {"w": True, "b": False})
    weight = {"w": torch.full((2, 2), 3.0), "b": None}
    updates, _ = tx.update(params, tx.init(params), params, weight=weight)
    assert torch.equal(updates["w"], weight["w"])
    assert torch.equal(updates["b"], params["b"])


@pytest.mark.parametrize("value", [None, 1.0])
def test_what_is_no_tensor_in_an_extra_tree_is_named(value):
    params = {"w": torch.ones(2, 2), "b": torch.ones(2)}
    with pytest.raises(fo.errors.FuncoptError, match=r"`weight` of (every|`b`)"):
        weighed().update(params, weighed().init(params), params, weight={**params, "b": value})


# Contexts, and printing


def test_a_context_of_averages_that_is_not_entered_says_so():
    opt = fo.Optimizer(parameters(), fo.chain(fo.sgd(0.1), fo.ema_of_params(0.9)))
    with pytest.warns(
        UserWarning, match=r"`Optimizer.averaged\(\)` is a context manager, .* `with"
    ):
        opt.averaged()  # which is collected at once


def test_a_context_of_averages_that_is_entered_says_nothing():
    opt = fo.Optimizer(parameters(), fo.chain(fo.sgd(0.1), fo.ema_of_params(0.9)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with opt.averaged():
            pass
        gc.collect()


def test_an_optimizer_prints_its_groups_and_its_stages():
    tx = fo.chain(fo.clip_by_global_norm(1.0), fo.skip_if(fo.sgd(0.1)))
    text = repr(fo.Optimizer(parameters(), tx))
    assert text.startswith("Optimizer (\nParameter Group 0\n")
    inner = "chain(add_decayed_weights, trace, scale_by_learning_rate)"
    stages = f"chain(clip_by_global_norm, skip_if(not_finite, {inner}))"
    assert text.endswith(f"    weight_decay: 0.0\nTransformation: {stages}\n)")


def test_an_optimizer_prints_its_labels():
    tx = fo.partition({"matrix": fo.scale(-1.0), "rest": fo.freeze()}, by_dimension)
    text = repr(fo.Optimizer(parameters(), tx))
    assert "partition(matrix: scale, rest: masked(set_to_zero))" in text
