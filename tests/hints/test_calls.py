"""A call that does not fit: one error, which says what would."""

import inspect
import pickle
import traceback

import pytest
import torch

import funcopt as fo
from funcopt import optim
from funcopt._hints.calls import explained, suggestions
from funcopt._hints.keywords import KEYWORDS

from .common import resolve

LINEAR = torch.nn.Linear(2, 2)
ADAMW = "It takes (lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01, amsgrad=False"
SGD = "It takes (lr=0.001, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False"

CALLS = {
    "Optax's names": (
        lambda: fo.adamw(b1=0.9, b2=0.95, learning_rate=0.1),
        "`adamw`: unknown arguments `b1`, `b2`, `learning_rate`. `b1` and `b2` are Optax's: here "
        "`betas=(b1, b2)`. `learning_rate` is Optax's and Keras's: here `lr`. " + ADAMW,
    ),
    "a slip": (
        lambda: fo.adamw(weight_deacy=0.1),
        "`adamw`: unknown argument `weight_deacy`. Did you mean `weight_decay`? " + ADAMW,
    ),
    "a mask": (
        lambda: fo.adamw(mask=lambda name, p: p.ndim > 1),
        "`adamw`: unknown argument `mask`. `mask` is Optax's: here `fo.masked(tx, mask)` around "
        "the stage. " + ADAMW,
    ),
    "nothing that is known": (
        lambda: fo.sgd(flavour=1),
        "`sgd`: unknown argument `flavour`. " + SGD,
    ),
    "a learning rate for a stage": (
        lambda: fo.scale_by_sign(lr=0.1),
        "`scale_by_sign`: unknown argument `lr`. `lr` is the learning rate: here "
        "`fo.scale_by_learning_rate(lr)`, the last stage of a chain. It takes ().",
    ),
    "a dtype": (
        lambda: fo.scale_by_lion(mu_dtype=torch.bfloat16),
        "`scale_by_lion`: unknown argument `mu_dtype`. `mu_dtype` is Optax's: here `state_dtype`. "
        "It takes (betas=(0.9, 0.99), state_dtype=None).",
    ),
    "another word where there is no pair of betas": (
        lambda: fo.trace(decay=0.9),
        "`trace`: unknown argument `decay`. `decay` is Optax's: here `momentum`. It takes "
        "(momentum, dampening=0.0, nesterov=False, state_dtype=None).",
    ),
    "torch's names of a schedule": (
        lambda: fo.cosine_decay_schedule(0.1, T_max=10, eta_min=0.0),
        "`cosine_decay_schedule`: unknown arguments `T_max`, `eta_min`. `T_max` is torch's: here "
        "`decay_steps`. `eta_min` is torch's: here `end_value`. It takes (init_value, decay_steps, "
        "end_value=0.0).",
    ),
    "a combinator": (
        lambda: fo.accumulate(fo.sgd(), every_k_schedule=4),
        "`accumulate`: unknown argument `every_k_schedule`. `every_k_schedule` is Optax's: here "
        "`steps`. It takes (inner, steps, mean=True, state_dtype=None).",
    ),
    "a solver": (
        lambda: fo.solve_cg(steps=3),
        "`solve_cg`: unknown argument `steps`. It takes (maxiter=100, tol=1e-10, ridge=0.0).",
    ),
    "a keyword of a chain": (
        lambda: fo.chain(stages=(fo.sgd(),)),
        "`chain`: unknown argument `stages`. It takes (*stages).",
    ),
    "a field to replace": (
        lambda: fo.scale_by_adam().replace(b1=0.9),
        "`scale_by_adam`: unknown argument `b1`. `b1` is Optax's: here `betas=(b1, b2)`. It takes ",
    ),
    "an optimizer": (
        lambda: optim.AdamW(LINEAR.parameters(), learning_rate=0.1),
        "`AdamW`: unknown argument `learning_rate`. `learning_rate` is Optax's and Keras's: here "
        "`lr`. It takes (params, lr=0.001, betas=(0.9, 0.999), ",
    ),
    "an optimizer of a transformation": (
        lambda: fo.Optimizer(LINEAR.parameters(), fo.sgd(), lr=0.1),
        "`Optimizer`: unknown argument `lr`. `lr` is the learning rate: here "
        "`fo.scale_by_learning_rate(lr)`, the last stage of a chain. It takes (params, tx, *, ",
    ),
    "too few": (
        lambda: fo.trace(),
        "`trace`: missing a required argument: 'momentum'. It takes (momentum, ",
    ),
    "too many": (
        lambda: fo.clip(1, 2),
        "`clip`: too many positional arguments. It takes (clip_value).",
    ),
    "parameters for a transformation": (
        lambda: fo.sgd(LINEAR.parameters(), lr=0.1),
        "`sgd`: multiple values for argument 'lr'. `params` is what is trained: here an argument "
        "of `fo.Optimizer(params, tx)` and of the classes of `fo.optim`. " + SGD,
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_the_error_says_what_would_fit(call):
    make, message = CALLS[call]
    with pytest.raises(fo.errors.ArgumentError) as caught:
        make()
    assert str(caught.value).startswith(message)
    assert isinstance(caught.value, TypeError)
    shown = traceback.extract_tb(caught.value.__traceback__)
    assert len([f for f in shown if "funcopt/" in f.filename and "tests" not in f.filename]) <= 2
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_a_subclass_is_called_by_its_own_name():
    class mine(fo.scale_by_adam):
        extra: int = 0

    with pytest.raises(fo.errors.ArgumentError, match=r"^`mine`: unknown argument `extr`\. Did "):
        mine(extr=1)


def test_errors_from_within_a_call_stay_what_they_are():
    @explained
    def broken(x):
        return x + len(x)

    with pytest.raises(TypeError, match="object of type 'int' has no len") as caught:
        broken(1)
    assert not isinstance(caught.value, fo.errors.ArgumentError)

    @explained
    def outer():
        return broken(y=1)

    with pytest.raises(fo.errors.ArgumentError, match=r"^`broken`: unknown argument `y`"):
        outer()


def test_a_function_stays_what_it_was():
    assert inspect.signature(fo.adamw).parameters["lr"].default == 1e-3
    assert (fo.adamw.__name__, fo.adamw.__module__) == ("adamw", "funcopt.aliases._adam")
    assert pickle.loads(pickle.dumps(fo.adamw)) is fo.adamw
    assert next(iter(inspect.signature(fo.scale_by_adam).parameters)) == "betas"
    assert "self" in inspect.signature(fo.scale_by_adam.__init__).parameters


ALIASES = [x for x in vars(fo.aliases).values() if inspect.isfunction(x)]
RECORDS = [
    x
    for x in vars(fo).values()
    if inspect.isclass(x) and issubclass(x, fo.Record) and not inspect.isabstract(x)
]
RECORDS.remove(fo.Record)


@pytest.mark.parametrize(
    "maker",
    [*ALIASES, *RECORDS, fo.freeze, fo.schedule_free, fo.hyperparams, fo.with_hyperparams],
    ids=lambda x: x.__name__,
)
def test_everything_that_is_configured_explains_itself(maker):
    arguments = inspect.signature(maker).parameters.values()
    needed = [a for a in arguments if a.default is a.empty and a.kind is a.POSITIONAL_OR_KEYWORD]
    with pytest.raises(fo.errors.ArgumentError, match="unknown argument `no_such_thing`"):
        maker(*[None] * len(needed), no_such_thing=1)


TAKEN = {
    name
    for value in (*vars(fo).values(), *vars(optim).values())
    if callable(value) and not isinstance(value, type(fo.Scalar)) and value is not fo.Schedule
    for name in inspect.signature(value).parameters
}


@pytest.mark.parametrize("name", KEYWORDS)
def test_what_a_keyword_is_called_here_exists(name):
    keyword = KEYWORDS[name]
    assert keyword.here or keyword.else_
    assert set(keyword.here) <= TAKEN
    assert name not in keyword.here
    for here, way in keyword.here.items():
        assert way.partition("=")[0] == here
        resolve(f"`call({way})`")
    resolve(keyword.else_)


def test_a_word_of_another_library_goes_before_a_slip():
    assert suggestions(["beta1"], ["beta2", "betas"]) == [
        "`beta1` is another library's: here `betas=(beta1, beta2)`."
    ]
    assert suggestions(["beta1"], ["beta2"]) == ["Did you mean `beta2`?"]
    assert suggestions(["xyz"], ["beta2"]) == []
