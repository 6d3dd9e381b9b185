"""Our classes take the steps of torch's classes of the same name; so does the pure form."""

import copy
import inspect
import itertools

import pytest
import torch

import funcopt as fo
import funcopt.optim

SHAPES = [(), (1,), (7,), (5, 3), (2, 3, 4)]
STEPS = 200

# Every option that has a meaning, with the values to combine.
OPTIONS = {
    "SGD": {
        "lr": [0.05],
        "momentum": [0, 0.9],
        "dampening": [0, 0.3],
        "weight_decay": [0, 0.02],
        "nesterov": [False, True],
    },
    "Adam": {
        "lr": [0.01],
        "betas": [(0.9, 0.999), (0.8, 0.95)],
        "eps": [1e-8, 1e-3],
        "weight_decay": [0, 0.1],
        "amsgrad": [False, True],
        "decoupled_weight_decay": [False, True],
    },
    "AdamW": {
        "lr": [0.01],
        "betas": [(0.9, 0.999), (0.8, 0.95)],
        "weight_decay": [1e-2, 0.3],
        "amsgrad": [False, True],
    },
    "RMSprop": {
        "alpha": [0.99, 0.9],
        "eps": [1e-8, 1e-3],
        "weight_decay": [0, 0.1],
        "momentum": [0, 0.9],
        "centered": [False, True],
    },
    "Adagrad": {
        "lr_decay": [0, 0.01],
        "weight_decay": [0, 0.1],
        "initial_accumulator_value": [0, 0.1],
        "eps": [1e-10, 1e-3],
    },
    "NAdam": {
        "betas": [(0.9, 0.999), (0.8, 0.95)],
        "weight_decay": [0, 0.1],
        "momentum_decay": [4e-3, 0.1],
        "decoupled_weight_decay": [False, True],
    },
    "RAdam": {
        "betas": [(0.9, 0.999), (0.8, 0.95), (0.9, 0.6)],
        "eps": [1e-8, 1e-3],
        "weight_decay": [0, 0.1],
        "decoupled_weight_decay": [False, True],
    },
    "Adamax": {"betas": [(0.9, 0.999), (0.8, 0.95)], "eps": [1e-8, 1e-3], "weight_decay": [0, 0.1]},
    "ASGD": {
        "lr": [0.05],
        "lambd": [1e-4, 0.1],
        "alpha": [0.75, 0.5],
        "t0": [1e6, 49.5],
        "weight_decay": [0, 0.1],
    },
    "Rprop": {
        "lr": [0.01, 0.1],
        "etas": [(0.5, 1.2), (0.8, 1.05)],
        "step_sizes": [(1e-6, 50), (1e-3, 0.02)],
    },
    "Adafactor": {  # greater rates in tests/transforms/test_adafactor.py: here they make chaos
        "lr": [0.01],
        "beta2_decay": [-0.8, -0.3],
        "eps": [(None, 1e-3), (1e-2, 0.5)],
        "d": [1.0, 1.7],
        "weight_decay": [0, 0.1],
    },
    "Adadelta": {"rho": [0.9, 0.6], "eps": [1e-6, 1e-3], "weight_decay": [0, 0.1]},
}


def refused_by_torch(options):
    """Torch allows nesterov only with momentum, and without dampening."""
    return options.get("nesterov") and (options["momentum"] == 0 or options["dampening"] != 0)


ROWS = [
    (name, dict(zip(options, values, strict=True)))
    for name, options in OPTIONS.items()
    for values in itertools.product(*options.values())
    if not refused_by_torch(dict(zip(options, values, strict=True)))
]


def gradient(p, t, i):
    """It depends on the parameter, so that errors do not average out."""
    entries = torch.arange(p.numel(), dtype=p.dtype).reshape(p.shape)
    return torch.sin(2.0 * p.detach() + entries + 0.7 * t + i)


def beginning():
    torch.manual_seed(0)
    exact = [torch.randn(shape, dtype=torch.float64) for shape in SHAPES]
    return [p.to(torch.get_default_dtype()) for p in exact]


def stepped(cls, options, missing):
    params = [torch.nn.Parameter(p) for p in beginning()]
    optimizer = cls(params, **options)
    for t in range(STEPS):
        for i, p in enumerate(params):
            p.grad = None if missing and (t + i) % 3 == 0 else gradient(p, t, i)
        optimizer.step()
    return [p.detach() for p in params]


def difference(ours, theirs):
    return max((a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("missing", [False, True], ids=["all gradients", "some gradients None"])
@pytest.mark.parametrize("maximize", [False, True], ids=["minimize", "maximize"])
@pytest.mark.parametrize(("name", "options"), ROWS, ids=str)
def test_the_class_steps_as_torchs_class(name, options, maximize, missing, in_float64):
    options = {**options, "maximize": maximize}
    ours = stepped(getattr(funcopt.optim, name), options, missing)
    theirs = stepped(getattr(torch.optim, name), options, missing)
    assert difference(ours, theirs) <= 1e-12


@pytest.mark.parametrize(("name", "options"), ROWS, ids=str)
def test_the_pure_form_steps_as_torchs_class(name, options, in_float64):
    tx = getattr(fo, name.lower())(**options)
    params = beginning()
    state = tx.init(params)
    for t in range(STEPS):
        grads = [gradient(p, t, i) for i, p in enumerate(params)]
        updates, state = tx.update(grads, state, params)
        params = fo.apply_updates(params, updates)
    theirs = stepped(getattr(torch.optim, name), options, missing=False)
    assert difference(params, theirs) <= 1e-12


@pytest.mark.parametrize("name", OPTIONS)
def test_in_float32_it_is_as_close_to_the_truth_as_torch(name, in_float64):
    truth = stepped(getattr(torch.optim, name), {}, missing=False)

    def error(cls):
        return difference([p.double() for p in stepped(cls, {}, missing=False)], truth)

    torch.set_default_dtype(torch.float32)
    ours, theirs = error(getattr(funcopt.optim, name)), error(getattr(torch.optim, name))
    assert ours <= 2 * theirs + 1e-6, (ours, theirs)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_class_has_torchs_signature(name):
    ours = inspect.signature(getattr(funcopt.optim, name)).parameters
    theirs = inspect.signature(getattr(torch.optim, name)).parameters
    more = ours.keys() - theirs.keys()
    assert [(a.name, a.kind, a.default) for k, a in ours.items() if k not in more] == [
        (a.name, a.kind, a.default) for a in theirs.values()
    ]
    # Hints that torch takes elsewhere are taken here too; none is a position.
    assert more <= {"accumulate", "ema", "max_grad_norm", "quantized", "rounding", "offload"} | {
        "foreach",
        "capturable",
        "differentiable",
        "fused",
        "engine",
        "state_dtype",
    }
    assert all(ours[key].kind is inspect.Parameter.KEYWORD_ONLY for key in more)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_alias_has_torchs_defaults(name):
    ours = inspect.signature(getattr(fo, name.lower())).parameters
    theirs = inspect.signature(getattr(torch.optim, name)).parameters
    assert ours.keys() - theirs.keys() <= {"state_dtype"}
    shared = [k for k in ours if k in theirs]
    assert [ours[k].default for k in shared] == [theirs[k].default for k in shared]


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "Adafactor"])
def test_complex_parameters_step_as_torchs(name, in_float64):
    def run(cls):
        torch.manual_seed(0)
        p = torch.nn.Parameter(torch.randn(3, 2, dtype=torch.complex128))
        options = {"initial_accumulator_value": 0.1} if name == "Adagrad" else {}
        optimizer = cls([p], lr=0.01, **options)
        for t in range(50):
            p.grad = torch.sin(p.detach() + t)
            optimizer.step()
        return [torch.view_as_real(p.detach())]

    ours, theirs = run(getattr(funcopt.optim, name)), run(getattr(torch.optim, name))
    assert difference(ours, theirs) <= 1e-12


@pytest.mark.parametrize("name", OPTIONS)
def test_checkpoints_of_torch_load_here_and_ours_load_there(name, in_float64):
    options = {"SGD": {"momentum": 0.9}, "RMSprop": {"momentum": 0.9, "centered": True}}
    options = options.get(name, {})
    classes = getattr(funcopt.optim, name), getattr(torch.optim, name)
    for first, second in (classes, classes[::-1]):
        expected = [torch.nn.Parameter(p) for p in beginning()]
        got = [torch.nn.Parameter(p) for p in beginning()]
        one, other = first(expected, **options), second(got, **options)
        for t in range(20):
            for i, p in enumerate(expected):
                p.grad = gradient(p, t, i)
            one.step()
            if t == 9:
                other.load_state_dict(copy.deepcopy(one.state_dict()))
                for p, q in zip(got, expected, strict=True):
                    p.data.copy_(q.data)
            if t > 9:
                for i, p in enumerate(got):
                    p.grad = gradient(p, t, i)
                other.step()
        assert difference(got, expected) <= 1e-12, (first, second)
