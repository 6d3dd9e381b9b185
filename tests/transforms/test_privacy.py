"""`dp_aggregate`: one gradient for each example, clipped, added up, and hidden in noise."""

import jax
import numpy as np
import optax
import pytest
import torch
from torch.func import functional_call, grad, vmap

import funcopt as fo

from ..combinators.common import same, same_bits, values

SHAPES = [(), (1,), (7,), (5, 3)]
EXAMPLES = 6
STEPS = 200


def beginning():
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape) for shape in SHAPES]


def per_example(params, t):
    """Longer and shorter than 3, by example."""
    lengths = 0.2 + np.arange(EXAMPLES) / 4
    found = []
    for i, p in enumerate(params):
        wave = p + np.sin(np.arange(p.size).reshape(p.shape) + 0.7 * t + i)
        found.append(lengths.reshape(-1, *[1] * p.ndim) * wave)
    return found


@pytest.mark.parametrize("max_norm", [0.5, 3.0, 1e6])
@pytest.mark.parametrize("momentum", [None, 0.9])
def test_without_noise_the_steps_are_those_of_optax(max_norm, momentum):
    tx = fo.dpsgd(0.01, max_norm, 0.0, momentum=momentum or 0.0)
    params = [torch.as_tensor(p) for p in beginning()]
    state = tx.init(params)
    with jax.enable_x64(True):
        theirs = optax.chain(
            optax.contrib.differentially_private_aggregate(max_norm, 0.0, key=0),
            optax.trace(momentum) if momentum else optax.identity(),
            optax.scale_by_learning_rate(0.01),
        )
        other = beginning()
        optax_state, update = theirs.init(other), jax.jit(theirs.update)
        for t in range(STEPS):
            grads = [torch.as_tensor(g) for g in per_example([p.numpy() for p in params], t)]
            updates, state = tx.update(grads, state, params)
            params = fo.apply_updates(params, updates)
            us, optax_state = update(per_example(other, t), optax_state)
            other = [np.asarray(p + u) for p, u in zip(other, us, strict=True)]
            for p, q in zip(params, other, strict=True):
                assert np.abs(p.numpy() - q).max() <= 1e-12


PARAMS = {"w": torch.linspace(-1.0, 1.0, 6).reshape(3, 2).double(), "b": torch.zeros(2).double()}
INPUTS = torch.linspace(-1.0, 1.0, 12).reshape(4, 3).double()


def loss(params, x):
    return (x @ params["w"] + params["b"]).square().sum()


def examples(params, inputs=INPUTS):
    return vmap(grad(loss), in_dims=(None, 0))(params, inputs)


def updated(tx, grads, params=PARAMS):
    return tx.update(grads, tx.init(params), params)[0]


def test_a_large_norm_and_no_noise_is_the_mean():
    mean = fo.tree.map(lambda g: g / 4, grad(lambda p: sum(loss(p, x) for x in INPUTS))(PARAMS))
    assert same(updated(fo.dp_aggregate(1e6, 0.0), examples(PARAMS)), mean, 1e-12)


def test_no_example_moves_the_mean_by_more_than_the_norm():
    huge = fo.tree.map(lambda g: g.index_fill(0, torch.tensor([1]), 1e9), examples(PARAMS))
    tx = fo.dp_aggregate(0.5, 0.0)
    without = {k: g[[0, 2, 3]] for k, g in huge.items()}
    change = fo.tree.map(lambda a, b: 4 * a - 3 * b, updated(tx, huge), updated(tx, without))
    assert torch.cat([x.flatten() for x in change.values()]).norm().item() == pytest.approx(0.5)


def test_the_noise_has_the_deviation_of_the_norm_times_the_multiplier():
    like = {"w": torch.zeros(300, 300)}
    tx = fo.dp_aggregate(0.5, 3.0, seed=5)
    noise = updated(tx, {"w": torch.zeros(10, 300, 300)}, like)["w"]
    assert (10 * noise).std().item() == pytest.approx(1.5, rel=0.02)
    same_as = fo.add_noise(1.5**2, 0.0, seed=5)
    expected, _ = same_as.update(like, same_as.init(like))
    torch.testing.assert_close(10 * noise, expected["w"])


def test_a_batch_of_random_size_may_be_empty():
    tx = fo.dp_aggregate(1.0, 0.0, batch_size=8.0)
    assert same(
        updated(tx, examples(PARAMS)),
        fo.tree.map(lambda u: u / 2, updated(fo.dp_aggregate(1.0, 0.0), examples(PARAMS))),
        1e-12,
    )
    empty = {k: torch.zeros(0, *p.shape) for k, p in PARAMS.items()}
    assert all((u == 0).all() for u in updated(tx, empty).values())
    with pytest.raises(fo.errors.StructureError, match="`dp_aggregate`: there is no example to"):
        updated(fo.dp_aggregate(1.0, 0.0), empty)


def test_one_example_is_a_batch():
    one = {k: g[:1] for k, g in examples(PARAMS).items()}
    assert same(updated(fo.dp_aggregate(1e6, 0.0), one), {k: g[0] for k, g in one.items()})


DP = fo.dpsgd(0.1, 1.0, 0.5, momentum=0.9, seed=3)


def trained_purely(tx, steps):
    params, state = PARAMS, tx.init(PARAMS)
    for _ in range(steps):
        updates, state = tx.update(examples(params), state, params)
        params = fo.apply_updates(params, updates)
    return params


def fill(params):
    for name, g in examples(values(params)).items():
        params[name].grad_sample = g


def trained(tx, steps, params=None, opt=None):
    params = params or {k: torch.nn.Parameter(p.clone()) for k, p in PARAMS.items()}
    opt = opt or fo.Optimizer(list(params.items()), tx)
    for _ in range(steps):
        fill(params)
        opt.step()
    return params, opt


@pytest.mark.parametrize(
    "tx",
    [
        DP,
        fo.chain(fo.dp_aggregate(1.0, 0.5), fo.adamw(0.01)),
        fo.chain(fo.dp_aggregate(1.0, 0.5), fo.skip_if(fo.adamw(0.01))),
        fo.chain(
            fo.dp_aggregate(1.0, 0.5),
            fo.partition({"w": fo.sgd(0.1), "rest": fo.adam()}, [("w", "w"), ("", "rest")]),
        ),
        fo.chain(fo.dp_aggregate(1.0, 0.5), fo.cautious(fo.scale_by_adam()), fo.scale(-0.1)),
    ],
    ids=repr,
)
def test_the_optimizer_reads_grad_sample_and_does_the_same(tx):
    assert same(values(trained(tx, 6)[0]), trained_purely(tx, 6), 1e-15)


def test_a_run_that_is_saved_and_loaded_goes_on_to_the_bit():
    params, opt = trained(DP, 3)
    again = {k: torch.nn.Parameter(p.detach().clone()) for k, p in params.items()}
    other = fo.Optimizer(list(again.items()), DP)
    other.load_state_dict(opt.state_dict())
    trained(DP, 3, params, opt)
    trained(DP, 3, again, other)
    assert same_bits(values(params), values(again))


@pytest.mark.parametrize(
    "around",
    [
        fo.sam,
        fo.skip_if,
        fo.lookahead,
        fo.cautious,
        lambda tx: fo.accumulate(tx, 2),
        lambda tx: fo.masked(tx, True),
        lambda tx: fo.partition({"all": tx}, "all"),
    ],
)
def test_no_combinator_has_examples_for_what_is_inside(around):
    with pytest.raises(fo.errors.HyperparameterError, match="`dp_aggregate` takes one gradient"):
        around(fo.chain(fo.dp_aggregate(1.0, 0.5)))


def test_groups_are_clipped_together():
    params = {k: torch.nn.Parameter(p.clone()) for k, p in PARAMS.items()}
    opt = fo.Optimizer([{"params": [(k, p)]} for k, p in params.items()], DP)
    trained(DP, 3, params, opt)
    assert same(values(params), trained_purely(DP, 3), 1e-15)


def test_zero_grad_drops_the_gradients_of_the_examples():
    params, opt = trained(DP, 1)
    opt.zero_grad()
    before = values(params)
    opt.step()
    assert same_bits(before, values(params))


def test_per_example_gradients_of_a_module():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    params = {k: p.detach() for k, p in net.named_parameters()}

    def of_module(params, x):
        return functional_call(net, params, (x,)).square().sum()

    def mean_loss():
        return vmap(of_module, in_dims=(None, 0))(params, INPUTS.float()).mean().item()

    tx, first = fo.dpsgd(0.1, 1.0, 0.01), mean_loss()
    state = tx.init(params)
    for _ in range(50):
        grads = vmap(grad(of_module), in_dims=(None, 0))(params, INPUTS.float())
        updates, state = tx.update(grads, state, params)
        params = fo.apply_updates(params, updates)
    assert mean_loss() < 0.1 * first


def test_complex_parameters_count_both_parts():
    pairs = {"w": torch.randn(4, 3, 2, dtype=torch.float64)}
    tx = fo.dp_aggregate(0.5, 1.0)
    found = updated(
        tx,
        {"w": torch.view_as_complex(pairs["w"])},
        {"w": torch.zeros(3, dtype=torch.complex128)},
    )
    expected = updated(tx, pairs, {"w": torch.zeros(3, 2, dtype=torch.float64)})
    torch.testing.assert_close(torch.view_as_real(found["w"]), expected["w"])


def stepping_with_the_sum():
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    fo.Optimizer([p], DP).step()


def stepping_with_examples_of_another():
    p = torch.nn.Parameter(torch.ones(2))
    p.grad_sample = torch.ones(4, 3)
    fo.Optimizer([p], DP).step()


def updating(tx, grads):
    return lambda: updated(tx, grads)


MISTAKES = {
    "gradients without examples": (
        updating(DP, PARAMS),
        fo.errors.StructureError,
        r"`chain` takes one gradient for each example: that of `b` must have the shape "
        r"\(examples, 2\), got \(2,\)",
    ),
    "inside of a combinator": (
        lambda: fo.skip_if(fo.dpsgd(0.1, 1.0, 0.5)),
        fo.errors.HyperparameterError,
        "^`skip_if`: `dp_aggregate` takes one gradient for each example, and inside of `skip_if` "
        r"there is one for all of them. Put `dp_aggregate` in front, `chain\(dp_aggregate\(...\), "
        r"skip_if\(...\)\)`.$",
    ),
    "inside of what makes its gradients itself": (
        lambda: fo.sam(fo.dpsgd(0.1, 1.0, 0.5)),
        fo.errors.HyperparameterError,
        "^`sam`: `dp_aggregate` takes one gradient for each example, and inside of `sam` there is "
        "one for all of them. `sam` makes its gradients itself, so the two do not go together.$",
    ),
    "not first": (
        lambda: fo.chain(fo.clip_by_global_norm(1.0), fo.dp_aggregate(1.0, 0.0)),
        fo.errors.HyperparameterError,
        "takes one gradient for each example, and has to come first",
    ),
    "another number of examples": (
        updating(DP, {**examples(PARAMS), "b": torch.zeros(3, 2)}),
        fo.errors.StructureError,
        r"`dp_aggregate`: what is measured must have one shape in all tensors, such as one number "
        r"for each example, got \[\(3,\), \(4,\)\]",
    ),
    "examples of another parameter": (
        stepping_with_examples_of_another,
        fo.errors.StructureError,
        r"^`dp_aggregate` takes one gradient for each example, of shape \(examples, 2\), got "
        r"\(4, 3\). `vmap\(grad\(loss\), in_dims=\(None, 0\)\)` computes them.$",
    ),
    "no grad_sample": (
        stepping_with_the_sum,
        fo.errors.StructureError,
        "takes one gradient for each example, in `p.grad_sample`, a tensor of shape "
        r"\(examples, \*p.shape\); there is only `p.grad`",
    ),
    "no parameters": (
        lambda: DP.update(examples(PARAMS), DP.init(PARAMS)),
        fo.errors.MissingParamsError,
        "`dp_aggregate` needs the parameters",
    ),
    "no noise but less": (
        lambda: fo.dp_aggregate(1.0, -1.0),
        fo.errors.HyperparameterError,
        "`noise_multiplier` must not be negative, got -1.0",
    ),
    "no norm": (
        lambda: fo.dp_aggregate(0.0, 1.0),
        fo.errors.HyperparameterError,
        "`max_norm` must be positive, got 0.0",
    ),
    "no batch": (
        lambda: fo.dp_aggregate(1.0, 1.0, batch_size=0.0),
        fo.errors.HyperparameterError,
        "`batch_size` must be positive, got 0.0",
    ),
}


@pytest.mark.parametrize(("make", "kind", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_get_a_sentence(make, kind, sentence):
    with pytest.raises(kind, match=sentence):
        make()
