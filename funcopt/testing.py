"""The laws of a gradient transformation, as a check for yours.

    check_transformation(signum(), {"w": torch.randn(3, 2), "b": torch.randn(())})

Each law is a function of its own, so a failure says which one was broken.
"""

import math
import pickle
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from . import tree
from ._apply import apply_updates, load_state_dict, state_dict
from ._base import GradientTransformation, PerTensor, TensorRule
from ._poison import Poisoned, Read
from ._trial import gradients, train
from ._typing import Params, State, Updates
from ._vector_rule import VectorRule
from .combinators import hyperparams, walk, with_hyperparams
from .engine import donated, in_pieces
from .errors import ExtraArgumentError, LeafError, MissingParamsError

__tracebackhide__ = True  # pytest shows the caller's line


def check_transformation(
    tx: GradientTransformation,
    params: Params,
    *,
    differentiable: bool = True,
    compiled: bool = True,
    **extra: Any,
) -> None:
    """Asserts what every transformation promises, on `params` of your choice.

    Args:
        tx: The transformation to check.
        params: A tree of floating-point tensors, small: derivatives are taken by every entry.
        differentiable: Whether derivatives are checked; not where values are rounded on purpose.
        compiled: Whether `torch.compile` is checked; it takes a second.
        **extra: Extra arguments that `update` needs; gradients are those of `value_fn`, if given.

    Raises:
        AssertionError: Naming the law that does not hold.
    """
    for law in LAWS:
        law(tx, params, **extra)
    if differentiable:
        for law in LAWS_OF_DERIVATIVES:
            law(tx, params, **extra)
    if compiled:
        compiles_to_the_same(tx, params, **extra)


def is_a_value(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """It equals and hashes as its pickled copy, and its `repr` evaluates to its equal."""
    if "<lambda>" in repr(tx) or "<locals>" in repr(tx):
        return  # a function without a name cannot be written down
    copy = pickle.loads(pickle.dumps(tx))
    _require(tx, copy == tx and hash(copy) == hash(tx), "does not equal its pickled copy")
    names: dict[str, Any] = {"torch": torch, "float": float}
    for _, node in walk(tx):
        for part in (type(node), *_functions(list(vars(node).values()))):
            names |= vars(sys.modules[part.__module__])
    for module in ("funcopt.transforms", "funcopt.schedules", "funcopt.combinators"):
        names |= vars(sys.modules[module])
    again = eval(repr(tx), names)
    _require(tx, again == tx, f"is printed as {tx!r}, which evaluates to {again!r}")


def is_pure(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """`init` and `update` change nothing, and no memory appears in two roles."""
    state = tx.init(params)
    _apart(tx, "the state that `init` made", state, "the parameters", params)
    _distinct(tx, "the state that `init` made", state)
    for t in range(3):
        grads = gradients(params, t, tx=tx, **extra)
        given = (grads, state, params)
        before = [(x.clone(), x._version) for x in tree.leaves(given)]
        updates, new = tx.update(grads, state, params, **extra)
        for x, (value, version) in zip(tree.leaves(given), before, strict=True):
            same = torch.equal(x, value) and x._version == version
            _require(tx, same, "has an `update` that changes its arguments")
        _apart(tx, "the new state", new, "the gradients", grads)
        _apart(tx, "the new state", new, "the parameters", params)
        _apart(tx, "the updates", updates, "the parameters", params)
        _apart(tx, "the updates", updates, "the old state", state)
        _apart(tx, "the updates", updates, "the new state", new)
        _distinct(tx, "the new state", new)
        _distinct(tx, "the updates", updates)
        state = new


def keeps_form(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """Updates have the form of the gradients, and states the form of the first, in every dtype."""
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        ps = tree.cast(params, dtype)
        state = tx.init(ps)
        first = describe(state)
        for t in range(3):
            grads = gradients(ps, t, tx=tx, **extra)
            updates, state = tx.update(grads, state, ps, **extra)
            _same_form(tx, f"updates in {dtype}", describe(updates), describe(ps))
            _same_form(tx, f"the state in {dtype}", describe(state), first)


def leaves_out_what_has_no_gradient(
    tx: GradientTransformation, params: Params, **extra: Any
) -> None:
    """A `None` gradient keeps the slots, gives `None`, and counts nothing elsewhere."""
    ps = tree.leaves(params)
    if len(ps) < 2 or extra or _chooses(tx):
        return
    grads = gradients(ps, 0, tx=tx)
    grads[0] = None
    state = tx.init(ps)
    updates, new = tx.update(grads, state, ps)
    alone, _ = tx.update(grads[1:], tx.init(ps[1:]), ps[1:])
    _require(tx, updates[0] is None, "makes an update where there is no gradient")
    _close(tx, "updates beside a parameter without gradient", updates[1:], alone, 0.0)
    if tx.is_per_tensor():
        _close(tx, "slots of a parameter without gradient", new.slots[0], state.slots[0], 0.0)


def treats_tensors_apart(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """Without a measure over the tree, tensors updated at once or one by one come out the same."""
    if extra or _chooses(tx) or any(_couples(node) for _, node in walk(tx)):
        return
    ps = tree.leaves(params)
    together = train(tx, ps, 3)
    apart = [train(tx, [p], 3, offset=i)[0] for i, p in enumerate(ps)]
    _close(tx, "tensors updated apart", together, apart, 0.0)


def reads_numbers_from_s(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """`update_tensor` and `measure_tensor` work on a copy whose hyperparameters cannot be read."""
    if not isinstance(tx, PerTensor) or not tx.is_per_tensor():
        return
    try:
        got = train(Poisoned(tx), params, 2, **extra)
    except Read as error:
        raise AssertionError(f"{tx!r} reads a hyperparameter of `self` {error}: use `s`.") from None
    _close(tx, "updates with poisoned fields", got, train(tx, params, 2, **extra), 0.0)


def asks_for_params(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """Without the parameters, it works or says which stage needs them."""
    try:
        tx.update(gradients(params, 0, tx=tx, **extra), tx.init(params), **extra)
    except MissingParamsError:
        pass
    except Exception as error:
        raise AssertionError(
            f"{tx!r} fails without parameters ({error!r}): set `needs_params = True`."
        ) from None


def asks_for_the_loss(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """If it evaluates the loss itself, it says so where it is not told how."""
    if not tx.needs_closure or _chooses(tx):
        return
    try:
        tx.update(gradients(params, 0, **extra), tx.init(params), params)
    except ExtraArgumentError:
        return
    raise AssertionError(f"{tx!r} asks for `value_fn`, but works without it.")


def refuses_unknown_extra(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """An extra argument that no stage knows is an error."""
    if tx.extra_names() is None:
        return
    try:
        tx.update(
            gradients(params, 0, tx=tx, **extra),
            tx.init(params),
            params,
            nobody_knows_this=0,
            **extra,
        )
    except ExtraArgumentError:
        return
    raise AssertionError(f"{tx!r} takes an extra argument that nobody knows.")


def saves_and_loads(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """A state comes back from its flat dict."""
    state = tx.init(params)
    _, new = tx.update(gradients(params, 0, tx=tx, **extra), state, params, **extra)
    _close(tx, "a state that was loaded", load_state_dict(state, state_dict(new)), new, 0.0)


def takes_complex_as_two_reals(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """An elementwise transformation sees a complex tensor as two reals; others refuse it."""
    rules = _rules(tx)
    if extra or rules is None or _chooses(tx):
        return
    ps = [torch.complex(p.to(torch.float64), 1 + p.to(torch.float64)) for p in tree.leaves(params)]
    if not all(rule.elementwise for rule in rules):
        try:
            tx.init(ps)
        except LeafError:
            return
        raise AssertionError(f"{tx!r} takes complex parameters, but is not elementwise.")
    pairs = [torch.view_as_real(p) for p in ps]
    state, state_of_pairs = tx.init(ps), tx.init(pairs)
    for t in range(3):
        grads = gradients(pairs, t, tx=tx)
        us, state = tx.update([torch.view_as_complex(g) for g in grads], state, ps)
        expected, state_of_pairs = tx.update(grads, state_of_pairs, pairs)
        _close(tx, "complex updates", [torch.view_as_real(u) for u in us], expected, 0.0)


def is_elementwise_if_it_says_so(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """Where all rules are `elementwise`, tensors cut in two come out as the halves of the whole."""
    rules = _rules(tx)
    if extra or rules is None or _chooses(tx) or not all(rule.elementwise for rule in rules):
        return
    if any(_measures_tensors(node) for _, node in walk(tx)):
        return
    ps = [p.double() for p in tree.leaves(params)]
    whole, halves = tx.init(ps), tx.init(_cut(ps))
    for t in range(3):
        grads = gradients(ps, t, tx=tx)
        updates, whole = tx.update(grads, whole, ps)
        parts, halves = tx.update(_cut(grads), halves, _cut(ps))
        _close(tx, "the halves of a tensor", parts, _cut(updates), 1e-12)


def works_in_place(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """Run in place, on pieces of tensors at once as kernels do, it makes the same steps."""
    if not tx.is_per_tensor() or tx.takes_examples():
        return
    ps = tree.cast(params, torch.float64)
    mine = tree.map(torch.clone, ps)
    state, own = tx.init(ps), tx.init(mine)
    step = donated(tx, engine="fused")
    for t in range(3):
        grads = gradients(ps, t, tx=tx, **extra)
        updates, state = tx.update(grads, state, ps, **extra)
        ps = apply_updates(ps, updates)
        with in_pieces(2):
            mine, own = step(mine, grads, own, **extra)
        _close(tx, "parameters stepped in place", mine, ps, 1e-12)
        _close(tx, "states stepped in place", own, state, 1e-12)


def vmaps(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """Under `torch.func.vmap`, over parameters and hyperparameters, it does what a loop does."""
    values = {k: _scaled(v, (1.0, 0.9, 0.8)) for k, v in _numeric(tx).items()}
    ps = tree.map(lambda p: torch.stack([p, 0.5 * p, -p]).double(), params)

    def run(values: Mapping[str, Any], ps: Params) -> Updates:
        return train(with_hyperparams(tx, values), ps, 2, **extra)

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a missing batching rule is only a warning
        together = torch.func.vmap(run)(values, ps)
    for i in range(3):
        mine, p = tree.map(lambda x, i=i: x[i], values), tree.map(lambda x, i=i: x[i], ps)
        one = tree.map(lambda x, i=i: x[i], together)
        _close(tx, "a run under vmap", one, run(tree.map(Tensor.item, mine), p), 1e-9)


def differentiates(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """Derivatives by gradients, parameters and hyperparameters agree with finite differences."""
    numbers = {k: v for k, v in _numeric(tx).items() if v != 0}
    # Where a root is divided by, a small epsilon makes the slope too steep for differences.
    raised = {k: max(v, 1e-3) for k, v in numbers.items() if "eps" in k}
    values = tree.map(lambda v: torch.tensor(v, dtype=torch.float64), {**numbers, **raised})
    inputs = (tree.map(lambda p: p.double(), params), values)
    _, spec = tree.flatten(inputs)

    def run(*leaves: Tensor) -> tuple[Tensor, ...]:
        ps, values = spec.unflatten(leaves)
        return tuple(tree.leaves(train(with_hyperparams(tx, values), ps, 2, **extra)))

    leaves = [x.requires_grad_() for x in tree.leaves(tree.map(torch.clone, inputs))]
    if not any(u.requires_grad for u in run(*leaves)):
        return  # constant almost everywhere, as the sign is
    if not torch.autograd.gradcheck(run, leaves, raise_exception=False, atol=1e-6, rtol=1e-4):
        torch.autograd.gradcheck(run, leaves, atol=1e-6, rtol=1e-4)  # says where


def has_finite_derivatives_at_zero(
    tx: GradientTransformation, params: Params, **extra: Any
) -> None:
    """At zero gradients, all derivatives are finite."""
    values = tree.map(lambda v: torch.tensor(v, dtype=torch.float64), _numeric(tx))
    ps = tree.map(lambda p: p.double(), params)
    zeros = tree.zeros_like(gradients(ps, 0, tx=tx, **extra))
    inputs = tree.map(lambda x: x.clone().requires_grad_(), (values, ps, zeros))
    _values, _ps, grads = inputs
    live = with_hyperparams(tx, _values)
    state, total = live.init(_ps), torch.zeros((), dtype=torch.float64)
    for _ in range(2):
        updates, state = live.update(grads, state, _ps, **extra)
        total = total + sum(u.sum() for u in tree.leaves(updates))
    if not total.requires_grad:
        return
    leaves = tree.leaves(inputs)
    found = torch.autograd.grad(total, leaves, allow_unused=True)
    for name, slope in zip(tree.names(inputs), found, strict=True):
        finite = slope is None or bool(slope.isfinite().all())
        _require(tx, finite, f"has a derivative by {name} that is not finite at zero gradients")


def compiles_to_the_same(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """`torch.compile(fullgraph=True)` traces `update` once, whatever the step and the numbers."""
    if tx.extra_names() is None:
        return  # anyone's functions
    torch.compiler.reset()
    graphs = 0

    def count(module: Any, inputs: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return module.forward

    values = tree.map(lambda v: torch.tensor(v, dtype=torch.float64), _numeric(tx))

    def update(values: Any, *args: Any) -> Any:
        return with_hyperparams(tx, values).update(*args, **extra)

    compiled = torch.compile(update, backend=count, fullgraph=True)
    state = with_hyperparams(tx, values).init(params)
    for t in range(3):
        grads = gradients(params, t, tx=tx, **extra)
        changed = tree.map(lambda v, t=t: v * (1 - 0.1 * t), values)
        updates, new = compiled(changed, grads, state, params)
        expected, state = update(changed, grads, state, params)
        _close(tx, "compiled updates", updates, expected, 1e-5)
        _close(tx, "a compiled state", new, state, 1e-5)
    _require(tx, graphs == 1, f"was compiled {graphs} times in 3 steps")


LAWS: Sequence[Callable[..., None]] = (
    is_a_value,
    is_pure,
    keeps_form,
    leaves_out_what_has_no_gradient,
    treats_tensors_apart,
    reads_numbers_from_s,
    asks_for_params,
    asks_for_the_loss,
    refuses_unknown_extra,
    saves_and_loads,
    takes_complex_as_two_reals,
    is_elementwise_if_it_says_so,
    works_in_place,
    vmaps,
)
LAWS_OF_DERIVATIVES: Sequence[Callable[..., None]] = (
    differentiates,
    has_finite_derivatives_at_zero,
)


def describe(values: Any) -> list[tuple[str, torch.Size, torch.dtype]]:
    """The path, shape and dtype of every leaf."""
    leaves = zip(tree.names(values), tree.flatten(values)[0], strict=True)
    return [(name, x.shape, x.dtype) for name, x in leaves]


def _rules(tx: GradientTransformation) -> list[TensorRule] | None:
    """The rules that `tx` is made of; `None` if it sees whole trees."""
    if not tx.is_per_tensor():
        return None
    return [node for _, node in walk(tx) if isinstance(node, TensorRule)]


def _chooses(tx: GradientTransformation) -> bool:
    """Whether it treats parameters by name or kind: then they cannot be renamed or reshaped."""
    return any(node.chooses or getattr(node, "random", False) for _, node in walk(tx))


def _functions(value: Any) -> list[Any]:
    """The functions in a field."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [found for part in value for found in _functions(part)]
    return [value] if callable(value) else []


def _cut(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Each tensor in two halves, without its shape."""
    flat = [x.flatten() for x in tensors]
    return [half.clone() for x in flat for half in (x[: len(x) // 2], x[len(x) // 2 :])]


def _couples(node: GradientTransformation) -> bool:
    """Whether tensors see one another in it, or may."""
    if isinstance(node, TensorRule):
        return node.measures and node.measure_per == "tree"
    return isinstance(node, VectorRule) or not node.is_per_tensor()


def _measures_tensors(node: GradientTransformation) -> bool:
    """Whether the entries of one tensor see one another by a measure."""
    if isinstance(node, TensorRule):
        return node.measures and node.measure_per == "tensor"
    return isinstance(node, PerTensor) and node.measures_tensors


def _numeric(tx: GradientTransformation) -> dict[str, Any]:
    """The hyperparameters that are numbers, tuples of them by their entries' sake kept whole."""
    return {k: v for k, v in hyperparams(tx).items() if _is_number(v)}


def _is_number(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_number, value))
    return isinstance(value, (int, float)) and math.isfinite(value)


def _scaled(value: Any, factors: Sequence[float]) -> Any:
    if isinstance(value, tuple):
        return tuple(_scaled(part, factors) for part in value)
    return torch.tensor([value * factor for factor in factors], dtype=torch.float64)


def _require(tx: GradientTransformation, holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(f"{tx!r} {what}.")


def _same_form(tx: GradientTransformation, what: str, got: Any, expected: Any) -> None:
    different = [f"{a} instead of {b}" for a, b in zip(got, expected, strict=False) if a != b]
    if different or len(got) != len(expected):
        raise AssertionError(f"{tx!r}: {what} changed in form: {different or (got, expected)}.")


def _close(tx: GradientTransformation, what: str, got: Any, expected: Any, tol: float) -> None:
    _same_form(tx, what, describe(got), describe(expected))
    for name, a, b in zip(tree.names(got), tree.leaves(got), tree.leaves(expected), strict=True):
        if not torch.allclose(a, b, rtol=tol, atol=tol, equal_nan=True):
            raise AssertionError(f"{tx!r}: {what} differ at `{name}`: {a} instead of {b}.")


def _apart(tx: GradientTransformation, one: str, a: State, other: str, b: State) -> None:
    memory = {x.untyped_storage().data_ptr() for x in tree.leaves(b) if x.numel()}
    shared = [x for x in tree.leaves(a) if x.numel() and x.untyped_storage().data_ptr() in memory]
    _require(tx, not shared, f"lets {one} share memory with {other}")


def _distinct(tx: GradientTransformation, what: str, values: Any) -> None:
    memory = [x.untyped_storage().data_ptr() for x in tree.leaves(values) if x.numel()]
    _require(tx, len(set(memory)) == len(memory), f"lets two tensors of {what} share memory")
