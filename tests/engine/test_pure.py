"""The pure form by kernels: the same numbers, in fresh memory, and nothing that went in changes."""

import contextlib
import gc
import pickle
import threading
import weakref

import pytest
import torch
from torch.autograd import forward_ad

import funcopt as fo
from funcopt._core import pure
from funcopt.engine import _options, _pure
from funcopt.errors import (
    ExtraArgumentError,
    FuncoptError,
    HyperparameterError,
    LeafError,
    SparseGradientError,
    StructureError,
)

from ..cases import CASES, PARAMS
from .common import gap

CASES = [case for case in CASES if not case.tx.takes_examples() and not case.tx.extra_names()]
TREES = [name for name, params in PARAMS.items() if fo.tree.leaves(params)]


def double(params):
    return fo.tree.map(lambda p: p.double() if p.is_floating_point() else p, params)


def gradients(params, t):
    return fo.tree.map(lambda p: 0.3 * p + (p + t).sin(), params)


def some_params():
    return {"w": torch.ones(3, 2), "b": torch.ones(2)}


def by_kernels(tx):
    """Whether the last update of `tx` in this thread was made by kernels."""
    road = _pure._kept.roads.get(id(tx))
    return road is not None and road[1]._backend is not None


@contextlib.contextmanager
def watched(engine="fused"):
    """Whether each update in the context is made by kernels, in order."""
    found, known = [], pure.by_kernels

    def update(*given):
        made = known(*given)
        found.append(made is not None)
        return made

    pure.by_kernels = update
    try:
        with fo.pure_engine(engine):
            yield found
    finally:
        pure.by_kernels = known


def updated(tx, params, engine, steps=4, grads=gradients):
    state = tx.init(params)
    with fo.pure_engine(engine):
        for t in range(steps):
            updates, state = tx.update(grads(params, t), state, params)
            params = fo.apply_updates(params, updates)
    return params, state, updates


# The numbers.


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_numbers_are_those_of_the_operations(case, name):
    params = double(PARAMS[name])
    try:
        case.tx.init(params)
    except FuncoptError:
        return  # labels that do not fit these parameters
    one, other = (updated(case.tx, params, engine) for engine in ("eager", "fused"))
    assert fo.tree.names(one) == fo.tree.names(other)
    for x, y in zip(fo.tree.leaves(one), fo.tree.leaves(other), strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
    assert gap(fo.tree.leaves(one), fo.tree.leaves(other)) <= 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize("tx", [fo.sgd(0.1, momentum=0.9), fo.adamw(0.1), fo.lion(0.1)], ids=str)
def test_every_dtype_is_rounded_once(tx, dtype):
    torch.manual_seed(0)
    params = {
        "a": torch.randn(5, 3).to(dtype),
        "b": torch.randn(4),
        "c": torch.randn((), dtype=dtype),
    }
    one, other = (updated(tx, params, engine) for engine in ("eager", "fused"))
    assert by_kernels(tx)
    for x, y in zip(fo.tree.leaves(one), fo.tree.leaves(other), strict=True):
        assert x.dtype == y.dtype
        torch.testing.assert_close(
            x, y, rtol=8e-3 if x.dtype == torch.bfloat16 else 1e-6, atol=1e-6
        )


@pytest.mark.parametrize("turned", ["params", "grads"])
def test_a_tensor_may_lie_in_memory_in_any_way(turned):
    params = {"w": torch.arange(12.0, dtype=torch.float64).reshape(4, 3)}
    grads = {"w": params["w"].sin()}
    strided = {"w": torch.empty(3, 4, dtype=torch.float64).t().copy_(params["w"])}
    cut = {"w": torch.zeros(4, 6, dtype=torch.float64)[:, ::2].copy_(grads["w"])}
    tx = fo.adamw(0.1)
    expected, _ = tx.update(grads, tx.init(params), params)
    with fo.pure_engine("fused"):
        if turned == "params":
            found, _ = tx.update(grads, tx.init(strided), strided)
        else:
            found, _ = tx.update(cut, tx.init(params), params)
    assert by_kernels(tx)
    assert gap([found["w"]], [expected["w"]]) <= 1e-14


def test_missing_gradients_stay_missing():
    params, tx = some_params(), fo.adamw(0.1)
    state = tx.init(params)
    with fo.pure_engine("fused"):
        updates, after = tx.update({"w": torch.ones(3, 2), "b": None}, state, params)
    assert by_kernels(tx)
    assert updates["b"] is None
    assert after.slots["b"] is state.slots["b"]
    assert after.step == 1


def test_a_number_of_another_value_is_no_other_program():
    params = some_params()
    tx = fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(fo.linear_schedule(0.1, 0.0, 5)))
    one, other = (updated(tx, double(params), engine, steps=6) for engine in ("eager", "fused"))
    assert gap(fo.tree.leaves(one), fo.tree.leaves(other)) <= 1e-14
    road = _pure._kept.roads[id(tx)][1]
    assert len(road._backend._compiled) == 1


def test_what_an_update_measured_is_the_same():
    tx = fo.chain(fo.clip_by_global_norm(1.0), fo.masked(fo.adamw(0.1), "w"))
    found = []
    for engine in ("eager", "fused"):
        params = double(some_params())
        state = tx.init(params)
        with fo.pure_engine(engine):
            for _ in range(2):
                _, state, metrics = fo.update_with_metrics(tx, params, state, params)
        found.append({k: float(x) for k, x in metrics.items()})
    assert by_kernels(tx)
    assert found[0] == pytest.approx(found[1], rel=1e-12)
    assert found[0]["norm"] == pytest.approx(8**0.5)


# What goes in stays.


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_goes_in_is_untouched_and_what_comes_out_is_its_own(case):
    params = double(PARAMS["a nested tree"])
    try:
        state = case.tx.init(params)
    except FuncoptError:
        return
    grads = gradients(params, 1)
    given = [x for x in fo.tree.leaves((params, grads, state)) if x is not None]
    before, versions = [x.clone() for x in given], [x._version for x in given]
    with fo.pure_engine("fused"):
        updates, after = case.tx.update(grads, state, params)
    assert all(torch.equal(x, y) for x, y in zip(given, before, strict=True))
    assert [x._version for x in given] == versions
    mine = {x.untyped_storage().data_ptr() for x in fo.tree.leaves(params)}
    theirs = [
        x.untyped_storage().data_ptr()
        for x in fo.tree.leaves((updates, getattr(after, "slots", ())))
    ]
    assert not mine.intersection(theirs)
    if by_kernels(case.tx):
        assert len(set(theirs)) == len(theirs)


def test_nothing_of_an_update_is_kept_alive():
    params, tx = some_params(), fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(0.1))
    gc.disable()
    try:
        with fo.pure_engine("fused"):
            for _ in range(3):
                state = tx.init(params)
                grads = gradients(params, 0)
                updates, after = tx.update(grads, state, params)
        assert by_kernels(tx)
        params = {k: p.clone() for k, p in params.items()}
        seen = [weakref.ref(x) for x in fo.tree.leaves((params, grads, state, updates, after))]
        with fo.pure_engine("fused"):
            tx.update(grads, state, params)
        del params, grads, state, updates, after
        assert [x() for x in seen if x() is not None] == []
        gone, key = weakref.ref(tx), id(tx)
        del tx
        assert gone() is None
        assert key not in _pure._kept.roads
    finally:
        gc.enable()


def test_a_record_is_what_it_was():
    tx = fo.adamw(0.1)
    before = repr(tx), pickle.dumps(tx), hash(tx)
    updated(tx, some_params(), "fused")
    assert by_kernels(tx)
    assert (repr(tx), pickle.dumps(tx), hash(tx)) == before


# Where operations are followed, they are made one by one.


def test_derivatives_go_through_updates():
    tx, params = fo.adamw(0.1, eps=1e-3), double(some_params())
    state = tx.init(params)

    def after(params, engine):
        with fo.pure_engine(engine):
            updates, _ = tx.update(gradients(params, 1), state, params)
        return sum(x.square().sum() for x in fo.tree.leaves(fo.apply_updates(params, updates)))

    by_func = torch.func.grad(lambda p: after(p, "fused"))(params)
    leaves = {k: p.clone().requires_grad_() for k, p in params.items()}
    by_autograd = torch.autograd.grad(after(leaves, "fused"), list(leaves.values()))
    expected = torch.func.grad(lambda p: after(p, "eager"))(params)
    for k, x in zip(params, by_autograd, strict=True):
        assert torch.equal(by_func[k], expected[k])
        assert torch.equal(x, expected[k])
    with torch.no_grad():
        after(leaves, "fused")
    assert by_kernels(tx)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("given", ["params", "grads", "slots", "memory"])
def test_what_was_found_for_others_does_not_cost_a_derivative(given, missing):
    tx, params = fo.nadam(0.1, eps=1e-3, weight_decay=0.1), double(some_params())
    grads, state = gradients(params, 1), tx.init(params)
    if missing:
        grads["b"] = None

    def followed(tree):
        return fo.tree.map(lambda x: x.clone().requires_grad_(x.is_floating_point()), tree)

    with watched() as by_kernels:
        tx.update(grads, state, params)
        if given == "params":
            updates, _ = tx.update(grads, state, followed(params))
        elif given == "grads":
            updates, _ = tx.update(followed(grads), state, params)
        else:
            kept = state._replace(**{given: followed(getattr(state, given))})
            updates, _ = tx.update(grads, kept, params)
    assert by_kernels == [True, False]
    assert updates["w"].requires_grad


@pytest.mark.parametrize("how", ["a number", "a schedule", "a function"])
def test_derivatives_by_hyperparameters_are_taken(how):
    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    made = {
        "a number": lr,
        "a schedule": fo.linear_schedule(lr, 0.0, 5),
        "a function": lambda t: lr * 0.5**t,
    }
    tx, params = fo.adamw(made[how]), double(some_params())
    with fo.pure_engine("fused"):
        for _ in range(2):
            updates, _ = tx.update(params, tx.init(params), params)
            (slope,) = torch.autograd.grad(updates["w"].sum(), lr)
            assert slope != 0.0
        with torch.no_grad():
            tx.update(params, tx.init(params), params)
    assert by_kernels(tx)


SLOPE = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)


class concluded(fo.TensorRule):
    elementwise = True

    def conclude(self, s, memory, total):
        return {"factor": SLOPE * 1.0}, memory

    def update_tensor(self, g, slots, p, s):
        return g * s.factor, slots


class of_a_norm(concluded):
    def measure_tensor(self, g, slots, p, s):
        return g.square().sum()

    def conclude(self, s, memory, total):
        return {"factor": SLOPE * total}, memory


class in_a_tuple(fo.TensorRule):
    elementwise = True

    def prepare(self, step, memory):
        return {"factors": (1.0, (SLOPE * 1.0,))}

    def update_tensor(self, g, slots, p, s):
        return g * s.factors[1][0], slots


class closed_over(fo.TensorRule):
    elementwise = True

    def update_tensor(self, g, slots, p, s):
        return g * SLOPE, slots


@pytest.mark.parametrize("rule", [concluded, of_a_norm, in_a_tuple, closed_over])
def test_derivatives_by_scalars_of_a_step_are_taken(rule):
    tx, params = fo.chain(rule(), fo.scale_by_adam()), double(some_params())
    with watched() as by_kernels:
        for grad in (False, True, True, False):
            with torch.set_grad_enabled(grad):
                updates, _ = tx.update(params, tx.init(params), params)
            assert updates["w"].requires_grad == grad
    assert by_kernels[:3] == [True, False, False]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # which torch calls
def test_forward_derivatives_are_taken():
    tx, params = fo.sgd(0.1, momentum=0.9), {"w": torch.ones(3)}
    state = tx.init(params)
    with fo.pure_engine("fused"), forward_ad.dual_level():
        grads = {"w": forward_ad.make_dual(torch.ones(3), torch.full((3,), 2.0))}
        updates, _ = tx.update(grads, state, params)
        assert torch.allclose(forward_ad.unpack_dual(updates["w"]).tangent, torch.tensor(-0.2))
    assert not by_kernels(tx)  # machine code knows no tangents


def test_updates_are_mapped_and_compiled():
    tx, params = fo.adamw(0.1), some_params()
    state = tx.init(params)
    many = fo.tree.map(lambda p: torch.stack([p, 2 * p]), params)

    def update(grads):
        return tx.update(grads, state, params)[0]

    with fo.pure_engine("fused"):
        mapped = torch.vmap(update)(many)
        compiled = torch.compile(update, backend="eager", fullgraph=True)(params)
    assert not by_kernels(tx)
    assert torch.equal(mapped["w"][0], update(params)["w"])
    assert torch.equal(compiled["w"], update(params)["w"])


def test_subclasses_and_modes_see_every_operation():
    class Seen(torch.utils._python_dispatch.TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.count += 1
            return func(*args, **(kwargs or {}))

    class Other(torch.Tensor):
        pass

    tx, params = fo.adamw(0.1), some_params()
    with fo.pure_engine("fused"), Seen() as seen:
        tx.update(params, tx.init(params), params)
    assert seen.count > 10
    params = fo.tree.map(lambda p: p.as_subclass(Other), params)
    with fo.pure_engine("fused"):
        updates, _ = tx.update(params, tx.init(params), params)
    assert type(updates["w"]) is Other
    assert not by_kernels(tx)


@pytest.mark.filterwarnings("ignore:`torch.jit.trace", "ignore::torch.jit.TracerWarning")
def test_a_trace_records_every_operation():
    tx, params = fo.adamw(0.1), double(some_params())
    state = tx.init(params)

    def update(w, b):
        updates, _ = tx.update({"w": w, "b": b}, state, params)
        return updates["w"], updates["b"]

    with watched() as by_kernels:
        update(*gradients(params, 0).values())
        traced = torch.jit.trace(update, (*gradients(params, 1).values(),), check_trace=False)
    assert by_kernels == [True, False]
    given = tuple(gradients(params, 2).values())
    assert all(map(torch.equal, traced(*given), update(*given)))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_default_device_changes_nothing(device):
    tx, params = fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(0.1)), double(some_params())
    expected = updated(tx, params, "eager")
    torch.set_default_device(device)
    try:
        with watched() as by_kernels, torch.device(device):
            found = updated(tx, params, "fused")
    finally:
        torch.set_default_device(None)
    assert by_kernels == [True] * 4
    assert gap(fo.tree.leaves(found), fo.tree.leaves(expected)) <= 1e-14


# The choice.


def test_small_trees_are_not_compiled_and_large_ones_are():
    for size, kernels in ((10, False), (2**16, True)):
        tx, params = fo.adamw(0.1), {"w": torch.ones(size)}
        tx.update(params, tx.init(params), params)
        assert by_kernels(tx) == kernels
        with fo.pure_engine("eager"):
            tx.update(params, tx.init(params), params)


def test_eager_is_to_the_bit_without_kernels():
    tx, params = fo.adamw(0.1), {"w": torch.randn(2**16)}
    with fo.pure_engine("eager"):
        tx.update(params, tx.init(params), params)
    assert id(tx) not in _pure._kept.roads


def around(tx):
    """`tx` as a stage that sees whole trees, of which the engine knows nothing."""
    return fo.from_functions(tx.init, tx.update)


@pytest.mark.parametrize("where", ["Optimizer", "donated"])
@pytest.mark.parametrize(("engine", "kernels"), [("eager", False), ("fused", True), ("auto", True)])
def test_updates_within_a_step_are_made_by_its_engine(where, engine, kernels):
    tx, params = around(fo.adamw(0.1)), some_params()
    with watched("fused") as by_kernels:
        if where == "Optimizer":
            opt = fo.Optimizer(params.values(), tx, engine=engine)
            for p in params.values():
                p.grad = p.sin()
            opt.step()
        else:
            step = fo.donated(tx, engine=engine)
            step(params, gradients(params, 0), step.init(params))
        assert by_kernels[-1] == kernels  # a trace, which fails, may be before it
        assert _options._of_updates.get() == "fused"


def test_eager_steps_with_whole_trees_are_pure_updates_to_the_bit():
    tx, params = around(fo.adamw(0.1)), {"w": torch.randn(2**16)}
    expected, _, _ = updated(tx, params, "eager")
    step, mine = fo.donated(tx, engine="eager"), {"w": params["w"].clone()}
    state = step.init(mine)
    for t in range(4):
        mine, state = step(mine, gradients(mine, t), state)
    assert torch.equal(mine["w"], expected["w"])


def test_contexts_nest_and_end():
    with fo.pure_engine("eager"):
        with contextlib.suppress(ZeroDivisionError), fo.pure_engine("fused"):
            assert _options._of_updates.get() == "fused"
            raise ZeroDivisionError
        assert _options._of_updates.get() == "eager"
    assert _options._of_updates.get() == "auto"


def test_there_is_no_such_engine():
    message = "`pure_engine`: `engine` must be one of 'auto', 'eager', .* got 'fast'"
    with pytest.raises(HyperparameterError, match=message), fo.pure_engine("fast"):
        pass


def test_threads_do_not_meet():
    tx = fo.adamw(0.1)
    trees = [{"w": torch.full((64,), float(k + 1), dtype=torch.float64)} for k in range(4)]
    expected = [updated(tx, params, "fused", steps=20)[0]["w"] for params in trees]
    found = [None] * 4

    def run(k):
        for _ in range(5):
            found[k] = updated(tx, trees[k], "fused", steps=20)[0]["w"]

    threads = [threading.Thread(target=run, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))


@pytest.mark.parametrize("who", ["update", "Optimizer", "donated"])
def test_the_engine_of_the_process_has_to_be_one(who, monkeypatch):
    monkeypatch.setenv("FUNCOPT_ENGINE", "fast")
    tx, params = fo.adamw(0.1), some_params()
    made = {
        "update": lambda: tx.update(params, tx.init(params), params),
        "Optimizer": lambda: fo.Optimizer(params.values(), tx),
        "donated": lambda: fo.donated(tx),
    }
    message = f"`{who}`: `FUNCOPT_ENGINE` must be one of 'auto', 'eager', .* got 'fast'"
    with pytest.raises(HyperparameterError, match=message):
        made[who]()
    monkeypatch.setenv("FUNCOPT_ENGINE", "")
    made[who]()


# Errors are those of the operations.


def wrong_structure(tx, state, params):
    tx.update({"w": params["w"]}, state, params)


def wrong_shape(tx, state, params):
    tx.update({"w": torch.ones(2, 3), "b": torch.ones(2)}, state, params)


def no_tensor(tx, state, params):
    tx.update({"w": torch.ones(3, 2), "b": 3.0}, state, params)


def a_sparse_gradient(tx, state, params):
    tx.update({"w": torch.ones(3, 2).to_sparse(), "b": torch.ones(2)}, state, params)


def whole_numbers(tx, state, params):
    tx.update({"w": torch.ones(3, 2, dtype=torch.int64), "b": torch.ones(2)}, state, params)


def foreign_state(tx, state, params):
    tx.update(params, fo.trace(0.9).init(params), params)


def state_of_other_parameters(tx, state, params):
    tx.update(params, tx.init({"w": params["w"]}), params)


def state_of_other_shapes(tx, state, params):
    tx.update(params, tx.init({"w": torch.ones(2, 3), "b": torch.ones(3)}), params)


def unknown_extra(tx, state, params):
    tx.update(params, state, params, loss=1.0)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (wrong_structure, StructureError),
        (wrong_shape, StructureError),
        (no_tensor, LeafError),
        (a_sparse_gradient, SparseGradientError),
        (whole_numbers, LeafError),
        (foreign_state, StructureError),
        (state_of_other_parameters, StructureError),
        (state_of_other_shapes, StructureError),
        (unknown_extra, ExtraArgumentError),
    ],
)
@pytest.mark.parametrize("before", [None, {"b": None}, {}], ids=["new", "None", "known"])
def test_an_error_is_the_same(call, error, before):
    said = []
    for engine in ("eager", "fused"):
        params, tx = some_params(), fo.adamw(0.1)
        state = tx.init(params)
        with watched(engine) as by_kernels:
            if before is not None:
                tx.update({**params, **before}, state, params)
            with pytest.raises(error) as caught:
                call(tx, state, params)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert by_kernels[:1] == [True] or before is None
