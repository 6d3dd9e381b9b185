"""Derivatives of solutions, and the linear systems behind them."""

import pytest
import torch
from torch.func import grad, jacrev, vmap

import funcopt as fo

from ..training import common


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def positive(n, seed=0):
    a = draw(n, n, seed=seed)
    return a @ a.T / n + torch.eye(n, dtype=torch.float64)


X, Y = draw(20, 4, seed=1), draw(20, seed=2)
THETA = torch.tensor(0.3, dtype=torch.float64)


def ridge_loss(w, theta):
    return (X @ w - Y).square().sum() / 2 + theta.exp() * w.square().sum() / 2


def by_formula(theta):
    return torch.linalg.solve(X.T @ X + theta.exp() * torch.eye(4, dtype=torch.float64), X.T @ Y)


def descend(start, theta, steps=200):
    """A solver whose own history would be long."""
    tx = fo.sgd(0.05, momentum=0.5)
    state = fo.TrainState.start(tx, start)
    return fo.unroll(fo.train_step(ridge_loss, tx), state, [theta] * steps)[0].params


SOLVERS = [
    fo.solve_cg(),
    fo.solve_normal_cg(),
    fo.solve_neumann(maxiter=400, lr=0.03),
]


@pytest.mark.parametrize("solve", SOLVERS, ids=lambda s: type(s).__name__)
def test_linear_systems_of_trees(solve):
    a = positive(5)
    b = {"x": draw(2, seed=3), "y": [draw(3, seed=4)]}

    def matvec(tree):
        out = a @ torch.cat([tree["x"], tree["y"][0]])
        return {"x": out[:2], "y": [out[2:]]}

    if isinstance(solve, fo.solve_neumann):
        solve = solve.replace(lr=1 / torch.linalg.eigvalsh(a).max().item())
    found = solve(matvec, b)
    expected = torch.linalg.solve(a, torch.cat([b["x"], b["y"][0]]))
    torch.testing.assert_close(
        torch.cat([found["x"], found["y"][0]]), expected, rtol=1e-8, atol=1e-8
    )


def test_normal_equations_take_what_is_not_symmetric():
    a, b = positive(5) + draw(5, 5, seed=7), draw(5, seed=8)
    found = fo.solve_normal_cg()(lambda x: a @ x, b)
    torch.testing.assert_close(found, torch.linalg.solve(a, b), rtol=1e-8, atol=1e-8)


def test_a_ridge_is_added():
    a, b = positive(4), draw(4)
    eye = torch.eye(4, dtype=torch.float64)
    found = fo.solve_cg(ridge=0.5)(lambda x: a @ x, b)
    torch.testing.assert_close(found, torch.linalg.solve(a + 0.5 * eye, b))
    found = fo.solve_normal_cg(ridge=0.5)(lambda x: a @ x, b)
    torch.testing.assert_close(found, torch.linalg.solve(a.T @ a + 0.5 * eye, a.T @ b))


def test_it_stops_when_it_is_there():
    calls = 0

    def matvec(x):
        nonlocal calls
        calls += 1
        return positive(4) @ x

    fo.solve_cg(maxiter=100)(matvec, draw(4))
    assert calls <= 6  # four unknowns
    calls = 0
    assert fo.solve_cg()(matvec, torch.zeros(4, dtype=torch.float64)).tolist() == [0.0] * 4
    assert calls == 0


def test_systems_at_once_arrive_at_different_times():
    a = torch.stack([torch.eye(4, dtype=torch.float64), positive(4)])
    b = torch.stack([draw(4), draw(4, seed=1)])
    found = vmap(lambda a, b: fo.solve_cg(maxiter=30)(lambda x: a @ x, b))(a, b)
    torch.testing.assert_close(found, torch.linalg.solve(a, b))


def test_few_terms_of_the_series_are_unrolled_descent():
    """Lorraine et al., theorem 1: k terms are the derivative through k steps from the solution."""
    solution = by_formula(THETA)

    def unrolled(theta):
        w = solution
        for _ in range(5):
            w = w - 0.02 * grad(ridge_loss)(w, theta)
        return w.sum()

    solver = fo.custom_root(grad(ridge_loss), solve=fo.solve_neumann(maxiter=5, lr=0.02))
    slope = grad(lambda t: solver(lambda start, theta: solution)(solution, t).sum())(THETA)
    torch.testing.assert_close(slope, grad(unrolled)(THETA), rtol=1e-9, atol=0)


@pytest.mark.parametrize("solve", [None, *SOLVERS], ids=lambda s: type(s).__name__)
def test_the_derivative_of_a_minimum_is_that_of_its_formula(solve):
    solver = fo.custom_root(grad(ridge_loss), solve=solve)(descend)
    start = torch.zeros(4, dtype=torch.float64)
    torch.testing.assert_close(solver(start, THETA), by_formula(THETA), rtol=1e-9, atol=1e-9)
    slope = grad(lambda t: solver(start, t).square().sum())(THETA)
    expected = grad(lambda t: by_formula(t).square().sum())(THETA)
    torch.testing.assert_close(slope, expected, rtol=1e-7, atol=0)


def test_by_autograd_under_vmap_and_twice():
    @fo.custom_root(grad(ridge_loss), solve=fo.solve_cg())
    def solver(start, theta):
        return by_formula(theta)

    start = torch.zeros(4, dtype=torch.float64)

    def value(theta):
        return solver(start, theta).square().sum()

    def expected(theta):
        return by_formula(theta).square().sum()

    theta = THETA.clone().requires_grad_()
    (slope,) = torch.autograd.grad(value(theta), theta)
    torch.testing.assert_close(slope, grad(expected)(THETA))
    many = torch.tensor([0.1, 0.5], dtype=torch.float64)
    torch.testing.assert_close(vmap(grad(value))(many), vmap(grad(expected))(many))
    torch.testing.assert_close(jacrev(grad(value))(THETA), jacrev(grad(expected))(THETA))


def test_several_arguments_in_trees():
    def optimality(x, args, scale):
        return {"a": x["a"] - scale * args["target"], "b": x["b"] - x["a"].sum()}

    @fo.custom_root(optimality)
    def solver(start, args, scale):
        a = scale * args["target"]
        return {"a": a, "b": a.sum()}

    start = {"a": torch.zeros(3), "b": torch.zeros(())}
    args, scale = {"target": torch.tensor([1.0, 2.0, 3.0]), "steps": 7}, torch.tensor(2.0)

    def value(target, scale):
        found = solver(start, {**args, "target": target}, scale)
        return found["b"] + found["a"][0]

    by_target, by_scale = grad(value, argnums=(0, 1))(args["target"], scale)
    torch.testing.assert_close(by_target, torch.tensor([4.0, 2.0, 2.0]))
    torch.testing.assert_close(by_scale, torch.tensor(7.0))


def test_where_the_search_begins_does_not_matter():
    solver = fo.custom_root(grad(ridge_loss))(lambda start, theta: by_formula(theta) + 0 * start)
    slope = grad(lambda start: solver(start, THETA).sum())(torch.zeros(4, dtype=torch.float64))
    assert not slope.any()


def test_a_closure_would_lose_its_derivative():
    def value(theta):
        solver = fo.custom_root(grad(lambda w, _: ridge_loss(w, theta)))
        return solver(lambda start, _: by_formula(theta))(None, torch.ones(())).sum()

    with pytest.raises(fo.errors.StructureError, match="`custom_root`: the function closes over"):
        grad(value)(THETA)
    with pytest.raises(fo.errors.StructureError, match="`custom_root`: the function closes over"):
        value(THETA.clone().requires_grad_())


def test_solvers_are_records_with_ranges():
    assert repr(fo.solve_cg(maxiter=5)) == "solve_cg(maxiter=5)"
    for make in (fo.solve_cg, fo.solve_normal_cg, fo.solve_neumann):
        with pytest.raises(fo.errors.HyperparameterError, match="`maxiter` must be a whole number"):
            make(maxiter=0)
    with pytest.raises(fo.errors.HyperparameterError, match="`lr` must be positive"):
        fo.solve_neumann(lr=0.0)


def test_trees_keep_their_form():
    found = fo.solve_cg()(lambda x: fo.tree.map(lambda p: 2 * p, x), common.params())
    assert common.close(found, fo.tree.map(lambda p: p / 2, common.params()))


def test_derivatives_through_a_system_that_is_solved_early():
    """Traced, it cannot stop after the one step it needs: those after it must not spoil slopes."""
    slope = grad(lambda b: fo.solve_cg(maxiter=5)(lambda x: 2 * x, b).sum())(draw(3))
    torch.testing.assert_close(slope, torch.full((3,), 0.5, dtype=torch.float64))


def test_as_many_steps_as_unknowns_are_enough():
    a, b = positive(6), draw(6)
    found = fo.solve_cg(maxiter=6)(lambda x: a @ x, b)
    torch.testing.assert_close(found, torch.linalg.solve(a, b), rtol=1e-9, atol=1e-9)


# Forwards, and of every order


pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")


def uneven(x, theta):
    """A loss whose minimum is no linear function of theta, and its Hessian no diagonal."""
    a = x["a"] - theta["shift"]
    return a.square().sum() + 0.3 * (a**4).sum() + (x["b"] - theta["scale"] * x["a"].sum()).square()


def newton(x, theta):
    flat = torch.cat([x["a"], x["b"][None]])
    for _ in range(40):
        f = lambda v: uneven({"a": v[:2], "b": v[2]}, theta)  # noqa: E731
        flat = flat - torch.linalg.solve(torch.func.hessian(f)(flat), grad(f)(flat))
    return {"a": flat[:2], "b": flat[2]}


ORIGIN = {"a": torch.zeros(2, dtype=torch.float64), "b": torch.zeros((), dtype=torch.float64)}


def implicit(solve):
    solver = fo.custom_root(grad(uneven), solve=solve)(newton)
    return lambda flat: _value(solver(ORIGIN, {"shift": flat[:2], "scale": flat[2]}), flat)


def explicit(flat):
    theta = {"shift": flat[:2], "scale": flat[2]}
    # In closed form, since both parts of the loss can be 0.
    return _value({"a": theta["shift"], "b": theta["scale"] * theta["shift"].sum()}, flat)


def _value(x, flat):
    return (x["a"] * torch.tensor([1.0, 2.0]).double()).pow(3).sum() + x["b"] * flat[0]


FLAT = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)


@pytest.mark.parametrize("solve", [None, fo.solve_cg(), fo.solve_neumann(maxiter=2000, lr=0.05)])
@pytest.mark.parametrize(
    "derivative",
    [
        grad,
        jacrev,
        torch.func.jacfwd,
        torch.func.hessian,
        lambda f: jacrev(jacrev(f)),
        lambda f: jacrev(torch.func.jacfwd(f)),
        lambda f: lambda x: torch.func.jvp(f, (x,), (torch.ones_like(x),))[1],
    ],
    ids=["grad", "jacrev", "jacfwd", "hessian", "rev rev", "rev fwd", "jvp"],
)
def test_derivatives_in_every_direction_and_order(derivative, solve):
    found, expected = derivative(implicit(solve))(FLAT), derivative(explicit)(FLAT)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    many = vmap(derivative(implicit(solve)))(torch.stack([FLAT, FLAT + 0.1]))
    torch.testing.assert_close(many[0], expected, rtol=1e-6, atol=1e-6)


def test_forwards_twice_is_refused_since_torch_would_be_wrong():
    with pytest.raises(fo.errors.StructureError, match=r"`custom_root`.*jacfwd\(jacrev\(f\)\)"):
        torch.func.jacfwd(torch.func.jacfwd(implicit(None)))(FLAT)


def test_third_derivatives():
    third = lambda f: jacrev(jacrev(jacrev(f)))  # noqa: E731
    found, expected = third(implicit(fo.solve_cg()))(FLAT), third(explicit)(FLAT)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_a_root_of_what_is_not_symmetric_forwards():
    a = positive(3) + draw(3, 3, seed=7)
    solver = fo.custom_root(lambda x, b: a @ x - b)(lambda start, b: torch.linalg.solve(a, b))
    found = torch.func.jacfwd(lambda b: solver(torch.zeros_like(b), b))(draw(3))
    torch.testing.assert_close(found, torch.linalg.inv(a), rtol=1e-7, atol=1e-7)


def test_a_solver_with_something_besides():
    @fo.custom_root(grad(ridge_loss), solve=fo.solve_cg(), has_aux=True)
    def solver(start, theta):
        w = by_formula(theta)
        return w, {"residual": (X @ w - Y).norm(), "steps": 7}

    start = torch.zeros(4, dtype=torch.float64)

    def value(theta):
        w, aux = solver(start, theta)
        assert aux["steps"] == 7
        return w.square().sum() + aux["residual"]  # which no derivative is taken of

    expected = lambda theta: by_formula(theta).square().sum()  # noqa: E731
    torch.testing.assert_close(grad(value)(THETA), grad(expected)(THETA))
    torch.testing.assert_close(
        torch.func.jvp(value, (THETA,), (torch.ones_like(THETA),))[1], grad(expected)(THETA)
    )
    many = torch.tensor([0.1, 0.5], dtype=torch.float64)
    torch.testing.assert_close(vmap(grad(value))(many), vmap(grad(expected))(many))


@pytest.mark.parametrize("has_aux", [False, True])
def test_a_solver_that_returns_something_else_is_told_so(has_aux):
    solver = fo.custom_root(grad(ridge_loss), has_aux=has_aux)

    def with_aux(start, theta):
        return by_formula(theta) if has_aux else (by_formula(theta), 3)

    with pytest.raises(fo.errors.StructureError, match="has_aux"):
        solver(with_aux)(torch.zeros(4, dtype=torch.float64), THETA)
