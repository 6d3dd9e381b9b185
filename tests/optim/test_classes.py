"""Classes of optimizers, made of functions: by a class statement, or by `optimizer_class`."""

import copy
import inspect
import pickle

import pytest
import torch

import funcopt as fo
from funcopt import optim
from funcopt.optim._alias import AliasOptimizer


def signum(lr: fo.Scalar = 1e-3, beta: fo.Scalar = 0.9, flag: bool = False):
    """The sign of the mean gradient."""
    return fo.chain(fo.ema(beta, debias=flag), fo.scale_by_sign(), fo.scale_by_learning_rate(lr))


class Declared(AliasOptimizer, make=signum):
    def __init__(self, params, lr=0.1, beta: float = 0.9, flag=False, *, maximize=False) -> None:
        raise AssertionError("a declaration is never run")


class Stated(AliasOptimizer, make=signum, defaults={"lr": 0.1}):
    """With a docstring of its own."""


class Derived(Declared):
    def __init__(self, params, lr):
        super().__init__(params, lr, 0.5)


class RMSprop(AliasOptimizer, make=fo.rmsprop, like=torch.optim.RMSprop):
    def __init__(
        self,
        params,
        lr=1e-2,
        alpha=0.99,
        eps=1e-8,
        weight_decay=0,
        momentum=0,
        centered=False,
        *,
        state_dtype=None,
    ): ...


Made = optim.optimizer_class("Made", signum, lr=0.1)
every_way = pytest.mark.parametrize("cls", [Declared, Stated, Made], ids=lambda cls: cls.__name__)


def stepped(cls, *args, **kwargs):
    p = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    opt = cls([p], *args, **kwargs)
    for grad in ([1.0, 3.0], [-4.0, 1.0]):
        p.grad = torch.tensor(grad)
        opt.step()
    return p.detach(), opt


@every_way
def test_every_way_makes_the_same_class(cls):
    expected, reference = stepped(fo.Optimizer, signum(0.1, 0.5))
    found, opt = stepped(cls, beta=0.5)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert isinstance(opt, torch.optim.Optimizer)
    assert type(opt) is cls
    assert opt.tx == reference.tx
    assert opt.param_groups[0]["beta"] == 0.5
    torch.testing.assert_close(
        stepped(cls, 0.1, 0.5, maximize=True)[0], 2 - found + torch.tensor([0.0, -6.0])
    )


@every_way
def test_defaults_are_those_of_every_class(cls):
    _, opt = stepped(cls)
    assert opt.defaults == {
        "lr": 0.1,
        "beta": 0.9,
        "flag": False,
        "maximize": False,
        "foreach": None,
        "capturable": False,
        "differentiable": False,
        "fused": None,
    }


@every_way
def test_the_signature_is_that_of_the_function_with_what_torchs_classes_take(cls):
    arguments = inspect.signature(cls).parameters
    assert list(arguments)[:4] == ["params", "lr", "beta", "flag"]
    more = {"maximize", "foreach", "capturable", "differentiable", "fused", "engine"}
    more |= {"max_grad_norm", "ema", "accumulate", "quantized", "rounding", "offload"}
    assert set(list(arguments)[4:]) == more
    assert all(arguments[key].kind is inspect.Parameter.KEYWORD_ONLY for key in more)
    assert (arguments["lr"].default, arguments["beta"].default) == (0.1, 0.9)
    assert cls.maker.function is signum


def test_a_declaration_keeps_its_annotations():
    assert inspect.signature(Declared).parameters["beta"].annotation is float


def test_the_docstring_is_that_of_the_class_or_of_the_function():
    assert Stated.__doc__ == "With a docstring of its own."
    assert Declared.__doc__ == Made.__doc__ == "The sign of the mean gradient."


@every_way
def test_it_pickles_and_copies(cls):
    _, opt = stepped(cls, beta=0.5)
    for other in (pickle.loads(pickle.dumps(opt)), copy.deepcopy(opt)):
        assert type(other) is cls
        assert other.tx == opt.tx
        assert other.defaults == opt.defaults
        other.add_param_group({"params": torch.nn.Parameter(torch.ones(1))})
        assert other.param_groups[1]["beta"] == 0.5
        assert len(opt.param_groups) == 1


def test_a_class_derived_from_it_is_an_ordinary_one():
    expected, _ = stepped(Declared, 0.3, 0.5)
    found, opt = stepped(Derived, lr=0.3)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert opt.param_groups[0]["lr"] == 0.3
    assert type(pickle.loads(pickle.dumps(opt))) is Derived


def test_beside_a_class_of_torch_the_defaults_have_its_keys():
    p = torch.nn.Parameter(torch.ones(2))
    theirs = {**torch.optim.RMSprop([p]).defaults, "state_dtype": None}
    assert RMSprop([p]).defaults == theirs
    assert set(RMSprop([p]).defaults) == set(optim.RMSprop([p]).defaults)


def test_wrong_arguments_show_the_signature():
    expected = r"`Declared`: unknown argument `betta`. Did you mean `beta`\? It takes .*beta=0.9"
    with pytest.raises(TypeError, match=expected):
        Declared([torch.nn.Parameter(torch.ones(2))], betta=0.5)


def test_a_declaration_has_the_arguments_of_the_function():
    with pytest.raises(ValueError, match=r"`Short`: its function takes \['flag'\] too: declare"):

        class Short(AliasOptimizer, make=signum):
            def __init__(self, params, lr=0.1, beta=0.9): ...

    with pytest.raises(ValueError, match=r"`Long`: its function does not take \['decay'\]"):

        class Long(AliasOptimizer, make=signum):
            def __init__(self, params, lr=0.1, beta=0.9, flag=False, decay=0.0): ...

    with pytest.raises(ValueError, match=r"`Bare`: \['lr'\] must have a default"):

        class Bare(AliasOptimizer, make=signum):
            def __init__(self, params, lr, beta=0.9, flag=False): ...
