"""`_math`: formulas of numbers that hold for Python numbers and for tensors."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounter
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import funcopt as fo
from funcopt import select
from funcopt._numerics import scalars
from funcopt._numerics.scalars import is_unset, number, unset_like

double = torch.float64


def tensor(value):
    return torch.tensor(value, dtype=double)


# Bias correction

decays = st.floats(0.0, 1 - 1e-9, exclude_max=True)
steps = st.integers(1, 10_000)


def truth(decay, step):
    """``1 - decay ** step``, without rounding."""
    return float(1 - Fraction(decay) ** step)


LAST_BIT = 2.0**-52  # of a power, which is at most 1; of what is left of 1, in float64


@given(decay=decays, step=st.integers(1, 60))
def test_the_bias_correction_of_tensors_is_exact_to_the_last_bit_of_the_power(decay, step):
    got = scalars.bias_correction(tensor(decay), torch.tensor(step)).item()
    assert got == pytest.approx(truth(decay, step), rel=0, abs=2 * LAST_BIT)


@given(decay=decays, step=steps)
def test_the_bias_correction_of_numbers_is_that_of_torch(decay, step):
    got = scalars.bias_correction(decay, step)
    assert isinstance(got, float)
    assert got == 1 - decay**step


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.95, 0.99, 0.999, 0.9999])
def test_numbers_and_tensors_give_the_same_bias_correction(decay):
    """Not only nearly: what differs in the last bits, unstable training makes visible."""
    numbers = torch.tensor(
        [scalars.bias_correction(decay, t) for t in range(1, 2001)], dtype=double
    )
    clock = torch.arange(1, 2001)
    for mixed in (decay, tensor(decay)):
        apart = (scalars.bias_correction(mixed, clock) - numbers).abs()
        assert apart.max() <= LAST_BIT
        assert (apart == 0).double().mean() > 0.95
    for step in (1, 2, 3, 10, 1000):
        got = scalars.bias_correction(tensor(decay), step).item()
        assert got == pytest.approx(scalars.bias_correction(decay, step), rel=0, abs=LAST_BIT)


def test_the_bias_correction_of_a_float32_decay_is_computed_in_float64():
    decay = torch.tensor(0.999)
    got = scalars.bias_correction(decay, torch.tensor(2))
    assert got.dtype is double
    assert got.item() == pytest.approx(truth(decay.item(), 2), rel=0, abs=2 * LAST_BIT)


@given(decay=st.floats(0.01, 0.9999), step=steps)
def test_the_slope_of_the_bias_correction_is_that_of_the_power(decay, step):
    x = tensor(decay).requires_grad_()
    (slope,) = torch.autograd.grad(scalars.bias_correction(x, step), x)
    # Autograd computes it from the correction, so it has that one's absolute error.
    error = 1e-15 * step / decay
    assert slope.item() == pytest.approx(-step * decay ** (step - 1), rel=1e-12, abs=error)


@pytest.mark.parametrize(("step", "slope"), [(1, -1.0), (2, 0.0), (7, 0.0)])
def test_at_decay_zero_the_slope_is_that_of_the_power_too(step, slope):
    x = tensor(0.0).requires_grad_()
    correction = scalars.bias_correction(x, step)
    assert correction.item() == 1.0
    assert torch.autograd.grad(correction, x)[0].item() == slope
    per_sample = torch.func.vmap(torch.func.grad(lambda d: scalars.bias_correction(d, step)))
    assert per_sample(torch.tensor([0.0, 0.5], dtype=double))[0].item() == slope


# Whether a value can be looked at


def looked_at_in(run):
    """What `is_concrete` says of the tensors that `run` hands to the function it is given."""
    seen = []

    def look(x):
        seen.append(scalars.is_concrete(x))
        return x * 1.0

    run(look)
    return seen


def in_autograd(look):
    look(torch.ones((), requires_grad=True))
    look(torch.ones((), requires_grad=True) * 2)


def in_fake_mode(look):
    with FakeTensorMode() as mode:
        look(torch.ones(()))
    look(mode.from_tensor(torch.ones(())))


PLACES = {
    "vmap": lambda look: torch.func.vmap(look)(torch.ones(2)),
    "grad": lambda look: torch.func.grad(look)(torch.ones(())),
    "jvp": lambda look: torch.func.jvp(look, (torch.ones(()),), (torch.ones(()),)),
    "jacrev": lambda look: torch.func.jacrev(look)(torch.ones(())),
    "functionalize": lambda look: torch.func.functionalize(look)(torch.ones(())),
    "vmap of grad": lambda look: torch.func.vmap(torch.func.grad(look))(torch.ones(2)),
    "make_fx": lambda look: make_fx(look)(torch.ones(())),
    "make_fx, symbolic": lambda look: make_fx(look, tracing_mode="symbolic")(torch.ones(())),
    "autograd": in_autograd,
    "fake mode": in_fake_mode,
    "meta device": lambda look: look(torch.ones((), device="meta")),
    "a vector": lambda look: look(torch.ones(1)),
    "a parameter": lambda look: look(torch.nn.Parameter(torch.ones(()), requires_grad=False)),
}


@pytest.mark.filterwarnings("ignore:.torch.jit.script")  # by torch's own jvp
@pytest.mark.parametrize("run", PLACES.values(), ids=PLACES)
def test_where_there_is_no_value_nobody_looks(run):
    seen = looked_at_in(run)
    assert seen
    assert not any(seen)


def test_numbers_and_plain_tensors_can_be_looked_at():
    plain = torch.ones((), requires_grad=True).detach()
    with torch.no_grad():
        made = torch.ones(()) + 1
    with torch.inference_mode():
        inferred = torch.ones(())
    for x in (1, 2.0, True, torch.tensor(True), torch.tensor(3), plain, made, inferred):
        assert scalars.is_concrete(x), x


def test_while_compiling_nobody_looks():
    def chosen(x):
        return x + 1 if scalars.is_concrete(x) else x - 1

    torch.compiler.reset()
    compiled = torch.compile(chosen, backend="eager", fullgraph=True)
    assert compiled(torch.tensor(5.0)) == 4
    assert chosen(torch.tensor(5.0)) == 6


def test_a_tensor_made_outside_of_vmap_keeps_its_value_inside():
    outside = torch.tensor(3)
    seen = []
    torch.func.vmap(lambda x: seen.append(scalars.number(outside)) or x)(torch.ones(2))
    assert seen == [3]


def test_number_takes_what_can_be_looked_at_and_leaves_the_rest():
    assert scalars.number(torch.tensor(3)) == 3
    assert isinstance(scalars.number(torch.tensor(3)), int)
    assert isinstance(scalars.number(torch.tensor(3.0)), float)
    assert scalars.number(2.5) == 2.5
    x = torch.ones(2)
    assert scalars.number(x) is x


# Choosing


def never():
    raise AssertionError("the branch that is not chosen was made")


@pytest.mark.parametrize("flag", [True, torch.tensor(True)], ids=["bool", "tensor"])
def test_of_a_concrete_flag_only_the_chosen_branch_is_made(flag):
    assert select(flag, lambda: "made", never) == "made"
    opposite = not flag if isinstance(flag, bool) else ~flag
    assert select(opposite, never, lambda: "made") == "made"
    assert select(flag, "ready", never) == "ready"


def ones():
    return {"a": torch.ones(()), "b": None}


def twos():
    return {"a": torch.full((), 2.0), "b": None}


def test_under_vmap_each_run_takes_its_own_branch():
    flags = torch.tensor([True, False])
    out = torch.func.vmap(lambda flag: select(flag, ones, twos)["a"])(flags)
    assert out.tolist() == [1.0, 2.0]


def test_while_compiling_both_branches_are_in_one_graph():
    torch.compiler.reset()
    graphs = CompileCounter()
    choose = torch.compile(lambda flag: select(flag, ones, twos), backend=graphs, fullgraph=True)
    assert choose(torch.tensor(True)) == ones()
    assert choose(torch.tensor(False)) == twos()
    assert graphs.frame_count == 1


def test_branches_may_be_numbers_which_stay_in_float64():
    torch.compiler.reset()
    chosen = torch.func.vmap(lambda flag: select(flag, 1.0, 1 - 0.9999))(
        torch.tensor([True, False])
    )
    assert chosen.dtype == double
    assert chosen.tolist() == [1.0, 1 - 0.9999]
    mixed = torch.compile(lambda flag, x: select(flag, 1.0, x), backend="eager", fullgraph=True)
    assert mixed(torch.tensor(False), tensor(0.3)) == tensor(0.3)
    assert mixed(torch.tensor(True), tensor(0.3)).dtype == double
    assert mixed(torch.tensor(True), torch.tensor(0.3)).dtype == torch.float32


def test_a_flag_that_autograd_follows_does_not_lose_the_slope_of_the_branch():
    x = torch.tensor(2.0, requires_grad=True)
    out = select(x > 1, lambda: x * 3, lambda: x * 5)
    assert torch.autograd.grad(out, x)[0] == 3


# Roots


def test_the_root_is_exact_and_keeps_the_dtype():
    for dtype in (torch.float32, double):
        x = torch.tensor([0.0, 1e-30, 2.0, math.inf], dtype=dtype)
        assert torch.equal(scalars.sqrt(x.requires_grad_()), torch.sqrt(x))
        with torch.no_grad():
            assert torch.equal(scalars.sqrt(x), torch.sqrt(x))
            assert scalars.sqrt(x).dtype is dtype


def test_the_slope_of_the_root_is_zero_at_zero_and_right_elsewhere():
    x = torch.tensor([0.0, 0.25, 4.0], dtype=double, requires_grad=True)
    (slope,) = torch.autograd.grad(scalars.sqrt(x).sum(), x, create_graph=True)
    assert slope.tolist() == [0.0, 1.0, 0.25]
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    torch.testing.assert_close(curvature, torch.tensor([0.0, -2.0, -1 / 32], dtype=double))


def test_the_slope_of_the_root_is_zero_at_zero_under_vmap_too():
    slopes = torch.func.vmap(torch.func.grad(scalars.sqrt))(torch.tensor([0.0, 4.0]))
    assert slopes.tolist() == [0.0, 0.25]


def test_a_negative_number_has_no_root():
    assert scalars.sqrt(torch.tensor([-1.0], requires_grad=True)).isnan()


# Means


@given(old=st.floats(-1e6, 1e6), new=st.floats(-1e6, 1e6), weight=st.floats(0, 1))
def test_a_mean_lies_between_the_old_and_the_new(old, new, weight):
    got = scalars.mix(tensor(old), tensor(new), weight).item()
    slack = 1e-15 * max(abs(old), abs(new))
    assert min(old, new) - slack <= got <= max(old, new) + slack


def test_the_weight_of_the_new_keeps_its_digits_in_float32():
    zero, one = torch.zeros(()), torch.ones(())
    assert scalars.mix(zero, one, 1 - 0.999).item() == pytest.approx(0.001, rel=1e-7, abs=0)


# Arithmetic of numbers and of tensors alike

finite = st.floats(-100, 100)


@given(x=finite, low=finite, high=finite)
def test_clamp_is_the_same_for_numbers_and_tensors(x, low, high):
    low, high = min(low, high), max(low, high)
    number = scalars.clamp(x, low, high)
    assert number == min(max(x, low), high)
    assert scalars.clamp(tensor(x), low, high).item() == number
    assert scalars.clamp(x, tensor(low), high) == number


@given(x=st.floats(1e-3, 100), exponent=finite)
def test_functions_of_a_number_are_those_of_a_tensor(x, exponent):
    for of in (scalars.log, scalars.cos, scalars.floor):
        assert of(tensor(x)).item() == pytest.approx(of(x), rel=1e-15, abs=1e-15)
        assert not isinstance(of(x), torch.Tensor)
    number = scalars.power(x, exponent)
    assert scalars.power(tensor(x), exponent).item() == pytest.approx(number, rel=1e-13, abs=0)


def test_a_power_that_is_too_great_is_infinite_as_for_tensors():
    assert scalars.power(10.0, 400) == math.inf
    assert scalars.power(tensor(10.0), 400) == math.inf


def test_where_is_lazy_for_neither_but_takes_both_kinds():
    assert scalars.where(True, 1, 2) == 1
    assert scalars.where(torch.tensor(False), 1, tensor(2.0)).item() == 2
    assert scalars.where(torch.tensor(True), 1, 2).dtype is double


def test_only_the_number_zero_can_be_left_out():
    assert scalars.is_zero(0)
    assert scalars.is_zero(0.0)
    assert scalars.is_zero(-0.0)
    assert not scalars.is_zero(1e-300)
    assert not scalars.is_zero(torch.tensor(0.0))
    assert not scalars.is_zero(lambda count: 0.0)


@pytest.mark.parametrize(
    ("dtype", "wide"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_it_is_computed_in_float32_at_least(dtype, wide):
    assert scalars.widen(dtype) is wide


# What Python may look at


def seen_in(transform, x):
    """What `number` says of `x` inside of a transform that maps or differentiates."""
    found = []

    def f(x):
        found.append(number(x > 0) if x.is_floating_point() else number(x))
        return (x * 1.0).sum()

    transform(f)(x)
    return found[0]


ONE, TWO = torch.tensor(1.0), torch.tensor([1.0, 2.0])
SEEN = {
    "grad": (torch.func.grad, ONE),
    "jvp": (lambda f: lambda x: torch.func.jvp(f, (x,), (x,)), ONE),
    "vmap": (torch.func.vmap, TWO),
    "vmap(grad)": (lambda f: torch.func.vmap(torch.func.grad(f)), TWO),
    "grad(vmap)": (lambda f: torch.func.grad(lambda x: torch.func.vmap(f)(x).sum()), TWO),
    "hessian": (torch.func.hessian, ONE),
}


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("how", SEEN)
def test_a_flag_is_seen_through_the_layers_of_torch_func(how):
    transform, x = SEEN[how]
    assert seen_in(transform, x) is True
    assert seen_in(transform, -x) is False


def test_a_flag_that_differs_between_runs_is_not():
    assert isinstance(seen_in(torch.func.vmap, torch.tensor([1.0, -1.0])), torch.Tensor)
    assert seen_in(torch.func.vmap, torch.tensor([3, 3])) == 3
    assert isinstance(seen_in(torch.func.vmap, torch.tensor([3, 4])), torch.Tensor)


def test_a_number_that_derivatives_are_taken_of_is_not():
    found = []
    torch.func.grad(lambda x: [found.append(number(x)), x][1])(ONE)
    torch.func.vmap(lambda x: [found.append(number(x)), x][1])(torch.ones(2))
    found.append(number(ONE.clone().requires_grad_()))
    assert all(isinstance(x, torch.Tensor) for x in found)
    assert number(ONE) == 1.0


def test_unset_is_told_from_a_sum_of_zeros():
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = unset_like(torch.ones(3, dtype=dtype))
        assert is_unset(x).all()
        assert torch.equal(x, torch.zeros(3, dtype=dtype))
        for y in (0.0, -0.0, 1.0, -1.0):
            some = torch.full((3,), y, dtype=dtype)
            added = x + (some + 0.0)
            assert torch.equal(added, some)
            assert not is_unset(added).any()
            assert not is_unset(added - added).any()
    x = torch.view_as_real(unset_like(torch.ones(2, dtype=torch.complex64)))
    assert is_unset(x).all()


def test_all_derivatives_of_the_public_root_are_zero_at_zero_and_right_elsewhere():
    x = torch.tensor([0.0, 0.25, 4.0], dtype=torch.float64, requires_grad=True)
    y = fo.safe_sqrt(x)
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x, create_graph=True)
    (third,) = torch.autograd.grad(second.sum(), x)
    assert y.tolist() == [0.0, 0.5, 2.0]
    assert first.tolist() == [0.0, 1.0, 0.25]
    assert second.tolist() == [0.0, -2.0, -0.03125]
    assert third.tolist() == [0.0, 12.0, 3 / 256]
    hessian = torch.func.vmap(torch.func.grad(torch.func.grad(fo.safe_sqrt)))(x.detach())
    assert hessian.tolist() == second.tolist()
    slope = torch.func.grad(lambda z: fo.safe_sqrt(z).sum())
    _, forward = torch.func.jvp(slope, (x,), (torch.ones_like(x),))
    assert forward.tolist() == second.tolist()
    assert torch.autograd.gradgradcheck(fo.safe_sqrt, (x.detach()[1:].requires_grad_(),))


def test_the_norm_of_zeros_has_finite_second_derivatives():
    def norm(g):
        return fo.safe_sqrt(g.square().sum())

    zeros = torch.zeros(3, dtype=torch.float64)
    assert torch.func.grad(norm)(zeros).tolist() == [0.0] * 3
    assert torch.func.hessian(norm)(zeros).isfinite().all()
    assert torch.func.hessian(norm)(zeros + 1.0).isfinite().all()
