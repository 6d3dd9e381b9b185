"""What is wrong with a call is said in words, and a failed call changes nothing."""

import warnings

import pytest
import torch
from torch.func import functional_call, grad

import funcopt as fo
from funcopt import testing
from funcopt.errors import (
    ArgumentError,
    DerivativeError,
    FuncoptError,
    HyperparameterError,
    LeafError,
    StructureError,
)

from .test_errors import assert_says

NET = torch.nn.Linear(2, 1)
PARAMS = fo.split_module(NET).params
X, Y = torch.randn(6, 2), torch.randn(6, 1)
BATCH = (X, Y)
TX = fo.adam(0.1)


def loss(params, batch):
    return (functional_call(NET, params, batch[0]) - batch[1]).square().mean()


def of_module(params, batch):  # of the module's own parameters, which autograd follows
    return (NET(batch[0]) - batch[1]).square().mean()


def detached(params, batch):
    return loss({k: p.detach() for k, p in params.items()}, batch)


@torch.no_grad()
def without_grad(params, batch):
    return loss(params, batch)


def outer(params):
    return loss(params, BATCH)


STEP = fo.train_step(loss, TX)
STATE = fo.TrainState.start(TX, PARAMS)
LOSSES = [of_module, detached, without_grad, lambda params, batch: torch.tensor(1.0)]


def hypergrad(loss=loss, tx=TX, values=None, params=PARAMS, batches=(BATCH,), outer=outer, **more):
    values = {"lr": 0.1} if values is None else values
    return fo.hypergrad(loss, tx, values, params, batches, outer, **more)


def sweep(loss=loss, tx=TX, values=None, params=PARAMS, batches=(BATCH,), **more):
    values = {"lr": [0.1, 0.2]} if values is None else values
    return fo.sweep(loss, tx, values, params, batches, progress=False, **more)


def stepped(loss):
    inner = fo.MetaOptimizer(torch.nn.Linear(2, 1), fo.sgd(0.1))
    inner.step(loss(inner.module))


def stepped_after_backward():
    inner = fo.MetaOptimizer(torch.nn.Linear(2, 1), fo.sgd(0.1))
    value = inner.module(X).square().mean()
    value.backward()
    inner.step(value)


def inner_loss(x, theta):
    return (x - theta).square().sum()


START = (torch.zeros(2),)


def root(optimality=None, start=START, **options):
    optimality = grad(inner_loss) if optimality is None else optimality
    solver = fo.custom_root(optimality, **options)(lambda start, theta: theta * 1.0)
    return grad(lambda theta: solver(*start, theta).square().sum())(torch.ones(2))


def bare():
    @fo.custom_root
    def solver(start, theta):
        return theta

    return solver(None, torch.ones(2))


MISTAKES = {
    "an outer loss of several numbers": (
        lambda: hypergrad(outer=lambda params: params["bias"].expand(3)),
        StructureError,
        "`hypergrad`: `outer` must return one number, a 0-d floating-point tensor, got a tensor of "
        "shape (3,) in torch.float32. Take the mean over the examples.",
    ),
    "an outer loss as for `train_step`": (
        lambda: hypergrad(outer=loss),
        HyperparameterError,
        "`hypergrad`: `outer` is called as `outer(params)`, and takes (params, batch).",
    ),
    "a loss without buffers": (
        lambda: hypergrad(buffers={"mean": torch.zeros(1)}),
        HyperparameterError,
        "`hypergrad`: `loss` is called as `loss(params, buffers, batch)`, and takes (params, ",
    ),
    "torch's loss": (
        lambda: hypergrad(torch.nn.functional.mse_loss),
        HyperparameterError,
        "`hypergrad`: `loss` must be a function of trees, `loss(params, batch)`, got torch's "
        "`mse_loss`: write a function that calls it",
    ),
    "a whole number of its own kind": (
        lambda: hypergrad(values={"lr": torch.tensor(1)}),
        HyperparameterError,
        "`hypergrad`: the value of `lr` must be floating-point, to have a derivative, got ",
    ),
    "a loss that is no number": (
        lambda: stepped(lambda net: net(X)),
        StructureError,
        "`MetaOptimizer.step`: `loss` must be one number, a 0-d floating-point tensor, got a tensor"
        " of shape (6, 1) in torch.float32. The call is `step(loss(net(x), y))`.",
    ),
    "a loss as Python's number": (
        lambda: stepped(lambda net: net(X).mean().item() * 0 + 1.5),
        StructureError,
        "`MetaOptimizer.step`: `loss` must be one number, a 0-d floating-point tensor, got 1.5.",
    ),
    "a loss without history": (
        lambda: stepped(lambda net: net(X).mean().detach()),
        DerivativeError,
        "`MetaOptimizer.step`: `loss` has no history",
    ),
    "the loss of another module": (
        lambda: stepped(lambda net: NET(X).mean()),
        DerivativeError,
        "`MetaOptimizer.step`: `loss` depends on none of the current parameters of the module.",
    ),
    "a loss that is differentiated already": (
        stepped_after_backward,
        DerivativeError,
        "`MetaOptimizer.step`: the graph of `loss` is freed already",
    ),
    "a solver without start": (
        lambda: fo.custom_root(grad(inner_loss))(lambda start: start)(),
        ArgumentError,
        "`custom_root`: the solver is called as `solver(start, *args)`: its first argument is ",
    ),
    "a solver that lacks its start": (
        lambda: root(start=()),
        HyperparameterError,
        "`custom_root`: `solver` is called as `solver(start, *args)`, and takes (start, theta).",
    ),
    "a loss for its gradient": (
        lambda: root(inner_loss),
        StructureError,
        "`custom_root`: `optimality` returns one number, as a loss does, where its derivative is "
        "wanted, a tree like x: pass `torch.func.grad(inner_loss)`.",
    ),
    "a class that solves": (
        lambda: root(solve=fo.solve_cg),
        HyperparameterError,
        "`custom_root`: `solve` is the class `solve_cg`: call it, as in `solve=solve_cg()`.",
    ),
    "a function that makes what solves": (
        lambda: root(solve=lambda: fo.solve_cg()),
        HyperparameterError,
        "`custom_root`: `solve` is called as `solve(matvec, b)`, and takes ().",
    ),
    "a solution of another shape": (
        lambda: root(solve=lambda matvec, b: torch.zeros(3)),
        StructureError,
        "`custom_root`: `solve(matvec, b)` must return a tree like `b`, tensors of the shapes "
        "[(2,)] in a tuple, got [(3,)].",
    ),
    "an equation of nothing": (
        lambda: root(lambda x, theta: torch.zeros(2)),
        DerivativeError,
        "`custom_root`: what `optimality` returns does not depend on its arguments",
    ),
    "a decorator that is not called": (
        bare,
        HyperparameterError,
        "`custom_root`: `custom_root(optimality)` is a decorator, which takes the solver",
    ),
    "a start in the wrong order": (
        lambda: fo.TrainState.start(PARAMS, TX),
        HyperparameterError,
        "`TrainState.start`: expected a transformation such as `adamw(1e-3)`, got dict. The call is"
        " `TrainState.start(tx, params)`.",
    ),
    "a start of a module": (
        lambda: fo.TrainState.start(TX, NET),
        LeafError,
        "`TrainState.start`: `params` must be a tree of tensors, such as `split_module(model)",
    ),
    "an argument that is no tuple": (
        lambda: fo.unroll(STEP, STATE, [BATCH], args=torch.tensor(0.1)),
        HyperparameterError,
        "`unroll`: `args` must be a tuple of further arguments of `step`, got a tensor of shape () "
        "in torch.float32. For a single one, write `args=(x,)`.",
    ),
    "arguments that the step does not take": (
        lambda: fo.unroll(lambda state, batch: (state, None), STATE, [BATCH], args=(1.0,)),
        HyperparameterError,
        "`unroll`: `step` is called as `step(state, batch, *args)`, and takes (state, batch).",
    ),
    "a step that returns its state alone": (
        lambda: fo.unroll(lambda state, batch: state, STATE, [BATCH]),
        StructureError,
        "`unroll`: `step` must return the new state and an output, `(state, out)`, got TrainState.",
    ),
    "a function that makes a module": (
        lambda: sweep(params=lambda seed: torch.nn.Linear(2, 1)),
        LeafError,
        "`sweep`: `params(seed)` must be a tree of tensors, such as `split_module(model).params`, "
        "got the module `Linear`.",
    ),
    "a function of no seed": (
        lambda: sweep(params=lambda: PARAMS),
        HyperparameterError,
        "`sweep`: `params` is called as `params(seed)`, and takes ().",
    ),
    "parameters of other shapes for another seed": (
        lambda: sweep(params=lambda seed: {"w": torch.zeros(1 + seed)}, seeds=range(2)),
        StructureError,
        "`sweep`: what `params(seed)` returns must have one structure, shapes and dtypes, for every"
        " seed. In detail, `stack`: the leaves at `w`",
    ),
    "fewer batches for a seed": (
        lambda: sweep(batches=lambda seed: [BATCH] * (1 + seed), seeds=range(2)),
        HyperparameterError,
        "`sweep`: `batches(seed)` must return as many batches for every seed",
    ),
    "buffers that are a module": (
        lambda: sweep(lambda params, buffers, batch: (loss(params, batch), buffers), buffers=NET),
        LeafError,
        "`sweep`: `buffers` must be a tree of tensors",
    ),
    "a number of seeds": (
        lambda: sweep(seeds=3),
        HyperparameterError,
        "`sweep`: `seeds` must be an iterable of whole numbers, such as `range(5)`, got 3.",
    ),
    "no seeds": (lambda: sweep(seeds=[]), HyperparameterError, "`sweep`: `seeds` is empty"),
    "scores of each example": (
        lambda: sweep(evaluate=lambda params: params["weight"]),
        HyperparameterError,
        "`sweep`: `evaluate` must return a 0-d tensor, or a dict of them, got a tensor of shape "
        "(1, 2) in torch.float32. Take the mean over the examples.",
    ),
    "randomness of another kind": (
        lambda: sweep(randomness="none"),
        HyperparameterError,
        "`sweep`: `randomness` must be one of 'different', 'same', 'error', got 'none'.",
    ),
    "a grid of a list": (
        lambda: fo.sweeps.grid([0.1]),
        HyperparameterError,
        "`grid`: `values` must be a dict such as {'lr': ...}, got list.",
    ),
    "a word for a limit": (
        lambda: fo.sweeps.loguniform("1e-4", 1.0),
        HyperparameterError,
        "`loguniform`: `low` and `high` must be numbers, 0 < low < high, got '1e-4' and 1.0.",
    ),
    "a list of names": (
        lambda: fo.split_module(NET, ["weight"]),
        HyperparameterError,
        "`split_module`: `trainable` must be a function, `trainable(name, tensor)`, got list.",
    ),
    "a state for parameters": (
        lambda: fo.hyperparams(TX, TX.init(PARAMS)),
        HyperparameterError,
        "`hyperparams`: `of` must be a list of pairs of name and tensor, such as "
        "`list(params.items())`, got State. Hyperparameters are no part of a state",
    ),
    "a state and its parameters exchanged": (
        lambda: fo.eval_params(TX, PARAMS, TX.init(PARAMS)),
        FuncoptError,
        "`eval_params`: ",
    ),
    "a label of another state": (
        lambda: fo.reset_label(fo.partition({"a": TX}, "a"), PARAMS, PARAMS, "a"),
        StructureError,
        "`reset_label`: the state belongs to another transformation or to other parameters.",
    ),
    "no gradients at all": (
        lambda: TX.update(None, TX.init(PARAMS), PARAMS),
        StructureError,
        "`chain`: the updates are None, where `params` is a dict: pass the gradients",
    ),
    "one gradient for all": (
        lambda: TX.update(torch.ones(2), TX.init(PARAMS), PARAMS),
        StructureError,
        "`chain`: there is one gradient of shape (2,) for a dict of parameters",
    ),
    "a function for a state": (
        lambda: fo.state_dict(lambda: None),
        StructureError,
        "`state_dict`: expected the state of a transformation",
    ),
    "averages from a state with fewer stages": (
        lambda: fo.eval_params(
            fo.chain(fo.adamw(1e-3), fo.ema_of_params(0.9)), fo.adamw(1e-3).init(PARAMS), PARAMS
        ),
        StructureError,
        "`eval_params`: the state, of type `State`, was made by another transformation. The order ",
    ),
    "averages from the state of another stage": (
        lambda: fo.eval_params(
            fo.ema_of_params(0.9), fo.sgd(0.1, momentum=0.9).init(PARAMS), PARAMS
        ),
        StructureError,
        "`eval_params`: the state, of type `State`, was made by another transformation. The order ",
    ),
    "a module that estimates": (
        lambda: fo.zero_order(lambda x: x)(torch.ones(2)),
        StructureError,
        "`zero_order`: `fn` must return one number, such as a 0-d tensor, got a tensor of shape",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_its_sentence(mistake):
    assert_says(*MISTAKES[mistake])


# What nothing depends on


@pytest.mark.parametrize("wrong", LOSSES)
@pytest.mark.parametrize(
    ("who", "train"),
    [
        ("train_step", lambda f: fo.train_step(f, TX)(STATE, BATCH)),
        ("train_step", lambda f: fo.unroll(fo.train_step(f, TX), STATE, [BATCH], checkpoint=1)),
        ("train_step", lambda f: hypergrad(f)),
        ("train_step", lambda f: hypergrad(f, batches=[BATCH] * 2, truncate=1)),
        ("train_step", lambda f: sweep(f)),
        ("value_and_grad", lambda f: fo.value_and_grad(lambda p: f(p, BATCH))(PARAMS)),
    ],
)
def test_a_loss_that_depends_on_no_parameter_is_an_error(who, train, wrong):
    with pytest.raises(DerivativeError, match=f"^`{who}`: .*does not depend on its parameters"):
        train(wrong)


def test_so_is_one_of_each_example():
    tx = fo.dpsgd(0.1, max_norm=1.0, noise_multiplier=0.0)
    step = fo.train_step(lambda params, batch: batch[0].mean(), tx)
    with pytest.raises(DerivativeError, match=r"^`train_step`: the loss does not depend"):
        step(fo.TrainState.start(tx, PARAMS), BATCH)


@pytest.mark.parametrize("wrong", LOSSES)
@pytest.mark.parametrize("more", [{}, {"batches": [BATCH] * 3, "truncate": 1}])
def test_an_outer_loss_that_depends_on_no_parameter_is_an_error(wrong, more):
    with pytest.raises(DerivativeError, match=r"^`hypergrad`: `outer` does not depend on its"):
        hypergrad(outer=lambda params: wrong(params, BATCH), **more)


def test_one_parameter_that_has_no_part_is_none():
    params = {**PARAMS, "rest": torch.ones(3)}

    def of_some(params, batch=BATCH):
        return loss({k: params[k] for k in PARAMS}, batch)

    found = hypergrad(of_some, params=params, outer=of_some)
    assert torch.equal(found.params["rest"], torch.zeros(3))
    assert found.values["lr"] != 0
    assert fo.value_and_grad(of_some)(params)[1]["rest"].eq(0).all()
    state, _ = fo.train_step(of_some, fo.sgd(0.1))(fo.TrainState.start(fo.sgd(0.1), params), BATCH)
    assert torch.equal(state.params["rest"], params["rest"])


def test_a_derivative_that_truncation_makes_zero_is_none():
    seen = []

    def only_first(params, batch, *, weight):
        seen.append(batch)
        return loss(params, batch) * (weight if len(seen) == 1 else 1.0)

    found = hypergrad(only_first, values={"weight": 2.0}, batches=[BATCH] * 3, truncate=1)
    assert found.values["weight"] == 0


def test_an_argument_without_effect_is_warned_of_where_it_was_written():
    def weighted(params, batch, *, weight):
        return loss(params, batch)

    with pytest.warns(UserWarning, match="the result does not depend on `weight`") as said:
        found = fo.hypergrad(weighted, TX, {"weight": 1.0}, PARAMS, [BATCH], outer)
    assert found.values["weight"] == 0
    assert said[0].filename == __file__
    with pytest.warns(UserWarning, match="the result does not depend on `unused`"):
        hypergrad(tx=lambda lr, unused: fo.sgd(lr), values={"lr": 0.1, "unused": 0.1})


# A failed call changes nothing


def test_a_step_that_fails_leaves_the_module():
    inner = fo.MetaOptimizer(torch.nn.Linear(2, 1), TX)
    before, weight = inner.state, inner.module.weight
    with pytest.raises(DerivativeError):
        inner.step(NET(X).mean())
    assert inner.module.weight is weight
    assert inner.state.opt_state is before.opt_state
    for wrong in (PARAMS, before._replace(params={"w": X}), before._replace(buffers=[{}] * 3)):
        with pytest.raises(StructureError, match=r"state`: `(state|params|buffers)` must be"):
            inner.state = wrong
        assert inner.module.weight is weight


# One batch for several


CALLS = {
    "unroll": lambda batches: fo.unroll(STEP, STATE, batches),
    "hypergrad": lambda batches: hypergrad(batches=batches),
    "sweep": lambda batches: sweep(batches=batches),
    "sweep of seeds": lambda batches: sweep(batches=lambda seed: batches, seeds=[0]),
    "find_lr": lambda batches: fo.optim.find_lr(
        fo.optim.SGD(torch.nn.Linear(2, 1).parameters()), NET, loss, batches
    ),
}
ONE = {
    "inputs and targets": (X, Y),
    "of one shape": (X, X),
    "as a loader gives them": [X, torch.zeros(6, dtype=torch.int64)],
    "three": (X, Y, Y),
    "by name": {"x": X, "y": Y},
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("batch", ONE)
def test_one_batch_for_several_is_an_error(call, batch):
    with pytest.raises(HyperparameterError, match="as one batch is: write `\\[batch\\]`"):
        CALLS[call](ONE[batch])


@pytest.mark.parametrize(
    "batches",
    [
        torch.ones(4, 2),
        [torch.ones(2), torch.ones(2)],
        torch.ones(9, 2).split(3),
        [torch.ones(3, 2), torch.ones(1, 2)],
        iter((torch.ones(2), torch.zeros(2))),
        (BATCH, BATCH),
        [list(BATCH)],
        range(3),
    ],
)
def test_batches_are_taken(batches):
    def of_any(params, batch):
        first = batch[0] if isinstance(batch, (tuple, list)) else torch.as_tensor(batch).float()
        return params["bias"].sum() * first.mean()

    state, _ = fo.unroll(fo.train_step(of_any, TX), STATE, batches)
    assert state.opt_state.step > 0


# Seeds that nothing depends on


def noisy(params, batch):
    return loss(params, (batch[0] + torch.randn(6, 2), batch[1]))


@pytest.mark.parametrize("params", [PARAMS, lambda seed: PARAMS])
def test_seeds_without_effect_are_warned_of_where_they_were_written(params):
    with pytest.warns(UserWarning, match="`sweep`: all 3 seeds have the same losses") as said:
        fo.sweep(loss, TX, {"lr": [0.1, 0.2]}, params, [BATCH] * 3, seeds=range(3), progress=False)
    assert said[0].filename == __file__


@pytest.mark.parametrize(
    "options",
    [
        {"params": lambda seed: fo.split_module(torch.nn.Linear(2, 1)).params},
        {"batches": lambda seed: [(X + seed, Y)]},
        {"loss": noisy},
        {"seeds": [5]},
        {"seeds": torch.tensor([5])},
    ],
)
def test_seeds_with_an_effect_are_not(options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sweep(**{"seeds": range(3), **options})


# States


def test_an_attribute_that_a_state_has_not_is_said_where_to_find():
    state = STATE.opt_state
    with pytest.raises(AttributeError, match=r"it is a function: `hyperparams\(tx\)`"):
        _ = state.hyperparams
    with pytest.raises(AttributeError, match="Hyperparameters, such as `lr`, are no state"):
        _ = state.lr
    with pytest.raises(AttributeError, match="it has `params`, `opt_state`, `buffers`"):
        _ = STATE.lr
    with pytest.raises(AttributeError, match=r"the optimizer state has it: `state\.opt_state"):
        _ = STATE.slots
    with pytest.raises(AttributeError, match=r"it is a function: `hyperparams\(tx\)`"):
        _ = TX.hyperparams
    assert not hasattr(state, "__wrapped__")


# Where warnings point


def test_warnings_point_at_the_line_of_the_user():
    parameters = dict(torch.nn.Linear(2, 1).named_parameters())
    for call in (
        lambda: TX.init(parameters),
        lambda: fo.scale(-1.0).init(parameters),
        lambda: fo.TrainState.start(TX, parameters),
        lambda: fo.skip_if(TX).init(parameters),
        lambda: fo.Optimizer(list(parameters.values()), fo.scale_by_adam()),
        lambda: fo.Optimizer(list(parameters.values()), fo.chain(fo.sgd(0.1), TX)),
    ):
        with pytest.warns(UserWarning, match="requires grad|would increase") as said:
            call()
        assert {warning.filename for warning in said} == {__file__}


# Laws


class forgets(fo.GradientTransformation):
    """One that takes no `None` for a gradient."""

    def update(self, updates, state, params=None, **extra):
        return {k: g * 2 for k, g in updates.items()}, state


class returns_nothing(fo.GradientTransformation):
    def update(self, updates, state, params=None, **extra):
        return None, state


class breaks(fo.TensorRule):
    def update_tensor(self, g, slots, p, s):
        return g @ torch.ones(17, 2), slots


@pytest.mark.parametrize(
    ("tx", "law", "said"),
    [
        (forgets(), "leaves_out_what_has_no_gradient", "raises AttributeError"),
        (returns_nothing(), "keeps_metadata", "changed in form"),
        (breaks(), "is_pure", "raises RuntimeError: "),
    ],
)
def test_a_law_is_named_whatever_is_raised(tx, law, said):
    with pytest.raises(AssertionError, match=f"(?s){said}.*In short: the law `{law}`"):
        testing.check_transformation(tx, {"a": torch.ones(2), "b": torch.ones(3)})


def test_what_is_checked_is_a_transformation():
    with pytest.raises(HyperparameterError, match="`check_transformation`: expected a transform"):
        testing.check_transformation(fo.adam, PARAMS)
    with pytest.raises(LeafError, match="`check_transformation`: `params` must be a tree"):
        testing.check_transformation(fo.adam(), NET)
