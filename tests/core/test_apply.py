"""`apply_updates` and its twin in place, and moving, saving and loading a state."""

import io
import itertools

import pytest
import torch

import funcopt as fo
from funcopt import tree
from funcopt.errors import StructureError

FLOATS = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
SHAPES = [(), (1,), (5, 3)]


def random(dtype, shape=(1000,), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def assert_identical(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0)


# Applying


@pytest.mark.parametrize("of_update", FLOATS, ids=str)
@pytest.mark.parametrize("of_param", FLOATS, ids=str)
def test_the_sum_is_computed_wide_and_rounded_once(of_param, of_update):
    for shape in SHAPES:
        p, u = random(of_param, shape), random(of_update, shape, seed=1)
        wide = torch.promote_types(torch.promote_types(of_param, of_update), torch.float32)
        got = fo.apply_updates({"a": p}, {"a": u})["a"]
        assert got.dtype is of_param
        assert_identical(got, (p.to(wide) + u.to(wide)).to(of_param))


@pytest.mark.parametrize(
    ("of_param", "of_update"),
    [
        *itertools.product(FLOATS, FLOATS),
        *((torch.complex64, x) for x in (*FLOATS, torch.complex64)),
    ],
    ids=str,
)
def test_in_place_or_not_the_parameters_are_the_same(of_param, of_update):
    params = [random(of_param, shape) for shape in SHAPES]
    updates = [random(of_update, shape, seed=1) for shape in SHAPES]
    new = fo.apply_updates(params, updates)
    fo.apply_updates_(params, updates)
    assert_identical(params, new)


def test_the_update_itself_is_not_rounded():
    p = torch.ones(1, dtype=torch.bfloat16)
    u = torch.tensor([2.0**-8 + 2.0**-20])  # more than half of the way to the next number
    assert fo.apply_updates(p, u) == 1 + 2.0**-7
    assert fo.apply_updates(p, u.bfloat16()) == 1  # half of the way


def test_the_parameters_are_left_alone_but_for_the_twin():
    p, u = torch.ones(2), torch.ones(2)
    assert fo.apply_updates(p, u).tolist() == [2.0, 2.0]
    assert p.tolist() == [1.0, 1.0]
    fo.apply_updates_(p, u)
    assert p.tolist() == [2.0, 2.0]
    assert u.tolist() == [1.0, 1.0]


def test_where_there_is_no_update_the_parameter_is_kept():
    params = {"a": torch.ones(2), "b": torch.ones(()), "c": None}
    updates = {"a": None, "b": torch.ones(()), "c": torch.ones(3)}
    new = fo.apply_updates(params, updates)
    assert new["a"] is params["a"]
    assert new["b"] == 2
    assert new["c"] is None
    version = params["a"]._version
    fo.apply_updates_(params, updates)
    assert params["a"]._version == version
    assert params["b"] == 2


def test_the_structure_and_the_order_of_the_parameters_are_kept():
    params = {"b": [torch.ones(())], "a": (torch.ones(()),)}
    new = fo.apply_updates(params, tree.zeros_like(params))
    assert list(new) == ["b", "a"]
    assert isinstance(new["b"], list)
    assert isinstance(new["a"], tuple)


def test_the_pure_form_is_differentiable_and_the_twin_leaves_no_trace():
    p, u = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    assert fo.apply_updates(p, u).requires_grad
    leaf = torch.nn.Parameter(torch.ones(2))
    fo.apply_updates_([leaf], [u * 3])
    assert leaf.is_leaf
    assert leaf.grad_fn is None
    assert leaf.tolist() == [4.0, 4.0]


@pytest.mark.parametrize(
    ("updates", "complaint"),
    [
        ([torch.ones(2), torch.ones(2)], r"shape \(3,\), got one of shape \(2,\)"),
        ([torch.ones(2), torch.ones(())], r"shape \(3,\), got one of shape \(\)"),
        ([torch.ones(2)], "differ in structure"),
        ((torch.ones(2), torch.ones(3)), "differ in structure"),
        ({"0": torch.ones(2), "1": torch.ones(3)}, "differ in structure"),
        (None, "differ in structure"),
    ],
)
def test_an_update_that_does_not_fit_changes_nothing(updates, complaint):
    params = [torch.ones(2), torch.ones(3)]
    for apply in (fo.apply_updates, fo.apply_updates_):
        with pytest.raises(StructureError, match=complaint):
            apply(params, updates)
        assert_identical(params, [torch.ones(2), torch.ones(3)])


def test_an_update_of_another_shape_is_named():
    with pytest.raises(StructureError, match="layers/0/weight"):
        fo.apply_updates(
            {"layers": [{"weight": torch.ones(2)}]}, {"layers": [{"weight": torch.ones(3)}]}
        )


@pytest.mark.parametrize("update", [{"a": torch.ones(2)}, 1.0, [torch.ones(2)]], ids=str)
def test_an_update_that_is_no_tensor_is_an_error_of_structure(update):
    with pytest.raises(StructureError):
        fo.apply_updates(torch.ones(2), update)


def test_a_real_parameter_does_not_take_a_complex_update():
    with pytest.raises(TypeError, match="complex"):
        fo.apply_updates(torch.ones(2), torch.ones(2, dtype=torch.complex64))


def test_an_integer_parameter_does_not_take_a_fraction():
    with pytest.raises((TypeError, ValueError), match="int64"):
        fo.apply_updates(torch.tensor([3]), torch.tensor([0.5]))


def test_applying_works_under_vmap_and_while_compiling():
    p, u = torch.ones(3, 2), torch.arange(6.0).reshape(3, 2)
    assert_identical(torch.func.vmap(fo.apply_updates)(p, u), p + u)
    torch.compiler.reset()
    compiled = torch.compile(fo.apply_updates, backend="eager", fullgraph=True)
    params, updates = {"a": p, "b": u}, {"a": u, "b": None}
    assert_identical(compiled(params, updates), {"a": p + u, "b": u})


# A state without history


def test_a_detached_state_has_the_values_but_no_history():
    tx = fo.chain(fo.scale_by_adam(), fo.trace(0.9))
    p = torch.ones(2, requires_grad=True)
    _, state = tx.update(3 * p, tx.init(p))
    detached = fo.detach_state(state)
    assert any(x.requires_grad for x in tree.leaves(state))
    assert not any(x.requires_grad for x in tree.leaves(detached))
    assert_identical(detached, tree.map(torch.Tensor.detach, state))
    assert type(detached) is type(state)


def test_derivatives_stop_at_a_detached_state():
    tx, lr = fo.trace(0.9), torch.tensor(1.0, requires_grad=True)
    _, state = tx.update(lr * torch.ones(1), tx.init(torch.ones(1)))
    updates, _ = tx.update(lr * torch.ones(1), state)
    assert torch.autograd.grad(updates.sum(), lr)[0] == pytest.approx(1.9)
    updates, _ = tx.update(lr * torch.ones(1), fo.detach_state(state))
    assert torch.autograd.grad(updates.sum(), lr)[0] == 1


# Saving and loading

PARAMS = {"layers": [{"weight": torch.ones(2, 3), "bias": None}], "scale": torch.ones(())}
TX = fo.chain(fo.clip_by_global_norm(1.0), fo.scale_by_adam(amsgrad=True), fo.trace(0.9))


def trained(tx=TX, params=PARAMS, steps=3):
    state = tx.init(params)
    for t in range(steps):
        grads = tree.map(lambda p, t=t: torch.full_like(p, 1.0 + t), params)
        _, state = tx.update(grads, state, params)
    return state


def test_the_keys_are_paths_and_the_tensors_are_those_of_the_state():
    state = trained()
    saved = fo.state_dict(state)
    assert list(saved) == [
        "step",
        *(
            f"slots/{parameter}/{slot}"
            for parameter in ("layers/0/weight", "scale")
            for slot in ("1/exp_avg", "1/exp_avg_sq", "1/max_exp_avg_sq", "2/momentum_buffer")
        ),
    ]
    assert saved["step"] is state.step
    assert saved["slots/scale/1/exp_avg"] is state.slots["scale"][1].exp_avg


def test_a_state_comes_back_from_a_file_that_holds_only_tensors():
    state = trained()
    file = io.BytesIO()
    torch.save(fo.state_dict(state), file)
    file.seek(0)
    loaded = fo.load_state_dict(TX.init(PARAMS), torch.load(file, weights_only=True))
    assert_identical(loaded, state)
    grads = tree.map(torch.ones_like, PARAMS)
    assert_identical(TX.update(grads, loaded), TX.update(grads, state))


def test_a_loaded_state_has_the_dtypes_of_the_state_and_memory_of_its_own():
    narrow = tree.cast(PARAMS, torch.bfloat16)
    wide = fo.scale_by_adam(state_dtype=torch.float32)
    saved = fo.state_dict(trained(fo.scale_by_adam(), tree.cast(PARAMS, torch.float64)))
    loaded = fo.load_state_dict(wide.init(narrow), saved)
    assert loaded.slots["scale"].exp_avg.dtype is torch.float32
    assert loaded.step.dtype is torch.int64
    same = fo.load_state_dict(trained(), fo.state_dict(trained()))
    assert same.step is not trained().step
    state = trained()
    memory = {x.data_ptr() for x in tree.leaves(state)}
    copy = fo.load_state_dict(state, fo.state_dict(state))
    assert memory.isdisjoint(x.data_ptr() for x in tree.leaves(copy))


def test_what_is_missing_unknown_and_reshaped_is_listed_in_one_error():
    saved = fo.state_dict(trained())
    del saved["slots/scale/1/exp_avg"]
    saved["slots/scale/1/nonsense"] = torch.ones(())
    saved["slots/layers/0/weight/1/exp_avg"] = torch.ones(3, 2)
    state = TX.init(PARAMS)
    with pytest.raises(StructureError) as error:
        fo.load_state_dict(state, saved)
    for part in (
        "Missing: ['slots/scale/1/exp_avg']",
        "Unknown: ['slots/scale/1/nonsense']",
        "slots/layers/0/weight/1/exp_avg: (3, 2) instead of (2, 3)",
    ):
        assert part in str(error.value)
    assert_identical(state, TX.init(PARAMS))


@pytest.mark.parametrize("change", ["missing", "unknown", "reshaped"])
def test_one_difference_is_enough(change):
    saved = fo.state_dict(trained())
    if change == "missing":
        del saved["step"]
    elif change == "unknown":
        saved["nonsense"] = torch.ones(())
    else:
        saved["step"] = torch.ones(1)
    with pytest.raises(StructureError, match=r"step|nonsense"):
        fo.load_state_dict(trained(), saved)


def test_the_state_of_another_transformation_does_not_load():
    with pytest.raises(StructureError, match=r"Missing: .*Unknown: .*momentum_buffer"):
        fo.load_state_dict(fo.scale_by_adam().init(PARAMS), fo.state_dict(trained(fo.trace(0.9))))


def test_an_empty_state_has_an_empty_dict():
    assert fo.state_dict(()) == {}
    assert fo.load_state_dict((), {}) == ()


def test_a_state_moves_as_a_tree_of_tensors():
    moved = tree.map(lambda x: x.to("meta"), trained())
    assert {x.device.type for x in tree.leaves(moved)} == {"meta"}
    assert tree.names(moved) == tree.names(trained())


def test_two_parameters_never_have_the_same_key():
    params = {"a/b": torch.ones(2), "a": {"b": torch.ones(2)}}
    tx = fo.trace(0.9)
    grads = {"a/b": torch.full((2,), 3.0), "a": {"b": torch.full((2,), 5.0)}}
    _, state = tx.update(grads, tx.init(params))
    assert_identical(fo.load_state_dict(state, fo.state_dict(state)), state)


def test_what_is_no_tensor_is_refused_by_name():
    with pytest.raises(ValueError, match="step"):
        fo.load_state_dict(trained(), {**fo.state_dict(trained()), "step": 3})


# A state that belongs elsewhere

TWO, THREE = torch.ones(2), torch.ones(3)


@pytest.mark.parametrize(
    ("tx", "state", "grads"),
    [
        (fo.scale_by_adam(), fo.trace(0.9).init(TWO), TWO),
        (fo.chain(fo.scale_by_adam(), fo.trace(0.9)), fo.scale_by_adam().init(TWO), TWO),
        (fo.scale_by_adam(amsgrad=True), fo.scale_by_adam().init(TWO), TWO),
        (fo.scale_by_rms(centered=True), fo.scale_by_rms().init(TWO), TWO),
        (fo.scale_by_adam(), fo.scale_by_adam().init(TWO), THREE),
        (fo.scale_by_adam(), fo.scale_by_adam().init(None), TWO),
    ],
    ids=["another rule", "a part of a chain", "no amsgrad", "not centered", "shape", "None"],
)
def test_a_state_that_does_not_fit_is_an_error_of_structure(tx, state, grads):
    with pytest.raises(StructureError, match=r"init\(params\)"):
        tx.update(grads, state)


def test_integer_gradients_are_refused():
    tx = fo.clip_by_global_norm(1.0)
    with pytest.raises(TypeError, match="int64"):
        tx.update(torch.tensor([3, 4]), tx.init(TWO))


def test_a_gradient_without_a_parameter_is_an_error_of_structure():
    tx = fo.add_decayed_weights(0.1)
    with pytest.raises(StructureError, match="`a`"):
        tx.update({"a": TWO}, tx.init({"a": TWO}), {"a": None})
