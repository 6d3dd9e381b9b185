"""`update` and `apply_updates` in one pass: their numbers to the bit, and nothing else changes."""

import pytest
import torch

import funcopt as fo
from funcopt.errors import FuncoptError, HyperparameterError, LeafError, StructureError

from ..cases import CASES, PARAMS
from .common import watched

CASES = [case for case in CASES if not case.tx.takes_examples()]
ENGINES = ("eager", "fused")


@pytest.fixture(autouse=True)
def bytecode(monkeypatch):
    monkeypatch.setenv("FUNCOPT_KERNELS", "bytecode")


def gradients(params, t):
    return fo.tree.map(lambda p: 0.3 * p + (p + t).sin(), params)


def by_two(tx, params, steps=4, grads=gradients, **extra):
    state = tx.init(params)
    for t in range(steps):
        updates, state = tx.update(grads(params, t), state, params, **extra)
        params = fo.apply_updates(params, updates)
    return params, state


def by_one(tx, params, steps=4, grads=gradients, **extra):
    state = tx.init(params)
    for t in range(steps):
        params, state = fo.update_and_apply(tx, grads(params, t), state, params, **extra)
    return params, state


def assert_equal(one, other, rtol=0.0):
    assert fo.tree.names(one) == fo.tree.names(other)
    for x, y in zip(fo.tree.leaves(one), fo.tree.leaves(other), strict=True):
        torch.testing.assert_close(x, y, rtol=rtol, atol=0.0, equal_nan=True)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_chain_is_what_the_two_functions_make_of_it(case, dtype, engine):
    params = fo.tree.map(lambda p: p.to(dtype), PARAMS["a nested tree"])
    torch.manual_seed(0)
    with fo.pure_engine(engine):
        try:
            expected = by_two(case.tx, params, **case.extra)
        except FuncoptError:
            return  # labels or dtypes that do not fit
        torch.manual_seed(0)
        assert_equal(by_one(case.tx, params, **case.extra), expected)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.complex64], ids=str
)
@pytest.mark.parametrize("tx", [fo.sgd(0.1, momentum=0.9), fo.adamw(0.1)], ids=str)
def test_it_is_rounded_as_by_two_functions(tx, dtype):
    """Also where updates come repeated, with no more than addresses to be found."""
    torch.manual_seed(0)
    params = {"a": torch.randn(5, 3).to(dtype), "b": torch.randn(4), "c": torch.randn(()).to(dtype)}
    with watched() as by_kernels:
        one = by_one(tx, params, 30)
    assert by_kernels
    assert all(by_kernels)
    assert_equal(one, by_two(tx, params, 30))


def test_gradients_of_other_dtypes_round_their_updates():
    params = {"wide": torch.linspace(-1, 1, 40), "narrow": torch.linspace(-1, 1, 40).bfloat16()}

    def crossed(params, t):
        g = gradients(params, t)
        return {"wide": g["wide"].bfloat16(), "narrow": g["narrow"].float()}

    for tx in (fo.sgd(0.1), fo.adamw(0.1), fo.rounded(fo.adamw(0.1))):
        one, two = (by(tx, params, 12, crossed) for by in (by_one, by_two))
        assert_equal(one, two)
        assert one[0]["narrow"].dtype is torch.bfloat16


def test_what_goes_in_stays():
    params = {"w": torch.linspace(-1, 1, 40), "b": torch.ones(3)}
    tx, kept = fo.adamw(0.1), fo.tree.map(torch.clone, params)
    state, grads = tx.init(params), gradients(params, 0)
    before = fo.tree.map(torch.clone, (state, grads))
    for _ in range(20):
        new, after = fo.update_and_apply(tx, grads, state, params)
        assert_equal((params, (state, grads)), (kept, before))
    places = {x.data_ptr() for x in fo.tree.leaves((params, state, grads))}
    assert places.isdisjoint(x.data_ptr() for x in fo.tree.leaves((new, after)))


def test_a_parameter_without_a_gradient_is_the_same_object():
    params = {"w": torch.ones(40), "idle": torch.ones(3)}
    tx = fo.adamw(0.1)
    grads = {"w": torch.ones(40), "idle": None}
    state = tx.init(params)
    for _ in range(5):
        new, state = fo.update_and_apply(tx, grads, state, params)
        assert new["idle"] is params["idle"]
        assert not new["w"].equal(params["w"])


def test_one_pass_does_not_stand_in_for_the_other():
    """Both of the same trees in turns: each is known by itself."""
    params, tx = {"w": torch.linspace(-1, 1, 40)}, fo.adamw(0.1)
    state, other = tx.init(params), params
    mine = state
    for t in range(20):
        updates, state = tx.update(gradients(params, t), state, params)
        params = fo.apply_updates(params, updates)
        other, mine = fo.update_and_apply(tx, gradients(other, t), mine, other)
        assert_equal((other, mine), (params, state))


def test_it_is_mapped_compiled_and_differentiated():
    """Near, where torch is compared with kernels: how its functions round is the processor's."""
    params = {"w": torch.linspace(-1, 1, 4).double()}
    tx = fo.adamw(0.1)

    def trained(scale, by=by_one):
        return by(tx, params, 3, lambda p, t: fo.tree.map(lambda x: x * scale + t, p))[0]["w"]

    scales = torch.tensor([0.5, 2.0], dtype=torch.float64)
    mapped = torch.func.vmap(trained)(scales)
    assert_equal(list(mapped), [trained(x) for x in scales], rtol=1e-12)
    slope = torch.func.grad(lambda x: trained(x).sum())(scales[0])
    assert_equal(slope, torch.func.grad(lambda x: trained(x, by_two).sum())(scales[0]))
    compiled = torch.compile(trained, backend="eager", fullgraph=True)
    assert_equal(compiled(scales[0]), trained(scales[0]), rtol=1e-12)


def test_a_training_step_uses_it(monkeypatch):
    tx = fo.sgd(0.1, momentum=0.9)
    step = fo.train_step(lambda p, batch: ((p["w"] - batch) ** 2).sum(), tx)
    state = fo.TrainState({"w": torch.ones(40)}, tx.init({"w": torch.ones(40)}))
    with watched() as by_kernels:
        for _ in range(4):
            state, _ = step(state, torch.zeros(40))
    assert by_kernels
    assert all(by_kernels)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("params", "grads", "error", "words"),
    [
        ({"w": torch.ones(3)}, {"w": torch.ones(2)}, StructureError, "w"),
        ({"w": torch.ones(3)}, {"v": torch.ones(3)}, StructureError, "v"),
        ({"w": torch.ones(3)}, {"w": torch.ones(3).to(torch.complex64)}, LeafError, "real"),
        ({"w": torch.ones(3).to(torch.complex64)}, {"w": torch.ones(3)}, LeafError, "complex"),
    ],
)
def test_what_does_not_fit_is_refused_as_by_two_functions(params, grads, error, words, engine):
    tx = fo.sgd(0.1, momentum=0.9)
    state = tx.init(params)
    with fo.pure_engine(engine), pytest.raises(error, match=words) as one:
        fo.update_and_apply(tx, grads, state, params)
    with fo.pure_engine(engine), pytest.raises(error) as two:
        fo.apply_updates(params, tx.update(grads, state, params)[0])
    assert str(one.value) == str(two.value)


def test_the_arguments_in_another_order_are_named():
    params = {"w": torch.ones(3)}
    tx = fo.adamw(0.1)
    state = tx.init(params)
    with pytest.raises(
        HyperparameterError, match=r"update_and_apply\(tx, updates, state, params\)"
    ):
        fo.update_and_apply(params, tx, state, params)
    with pytest.raises(StructureError, match="state"):
        fo.update_and_apply(tx, params, fo.sgd(0.1, momentum=0.9).init(params), params)
