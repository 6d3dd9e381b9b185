"""Some gradients, and a short training with them, for the laws."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .. import tree
from .._core.kinds import check_tree, expect_transformation
from .._core.loss import value_and_grad
from .._core.stack import stack
from .._core.tensor_rule import GradientTransformation
from ..engine import pure_engine
from ..errors import FuncoptError
from ..typing import Params

__tracebackhide__ = True  # pytest shows the caller's line


def by_operations(law: Callable[..., None]) -> Callable[..., None]:
    """A law of what authors have written: kernels that are made of it may do something else."""

    @functools.wraps(law)
    def checked(tx: GradientTransformation, params: Params, **extra: Any) -> None:
        expect_transformation(law.__name__, tx, f"{law.__name__}(tx, params)")
        check_tree(law.__name__, "params", params)
        with pure_engine("eager"), _named(law, tx):
            law(tx, params, **extra)

    return checked


@contextmanager
def _named(law: Callable[..., None], tx: GradientTransformation) -> Iterator[None]:
    """Names the law in whatever is raised while it is checked."""
    said = f"the law `{law.__name__}` does not hold ({(law.__doc__ or '').split(chr(10))[0]})"
    try:
        yield
    except FuncoptError as error:  # of an argument, or of a rule: it says what and where
        error.add_note(f"It was raised while the law `{law.__name__}` was checked, for {tx!r}.")
        raise
    except AssertionError as error:
        raise AssertionError(f"{error}\nIn short: {said}.") from error.__cause__
    except Exception as error:
        raise AssertionError(
            f"{tx!r} raises {type(error).__name__}: {error}\nIn short: {said}."
        ) from error


def gradients(
    params: Params,
    t: int,
    offset: int = 0,
    tx: GradientTransformation | None = None,
    **extra: Any,
) -> Params:
    """Some gradients, different in every step, tensor and entry; of a loss, if there is one.

    Where `tx` takes examples, there are three of them.
    """
    if "value_fn" in extra:
        found: Params = value_and_grad(extra["value_fn"])(params)[1]
        return found
    if tx is not None and tx.takes_examples():
        each = [gradients(params, t, offset + i) for i in range(3)]
        return stack(each)
    leaves, spec = tree.flatten(params)
    grads = []
    for i, p in enumerate(leaves):
        angles = torch.arange(p.numel(), dtype=torch.float64).reshape(p.shape)
        grads.append(torch.sin(1.0 + angles + 1.7 * t + 0.3 * (i + offset)).to(p.device, p.dtype))
    return spec.unflatten(grads)


def train(
    tx: GradientTransformation, params: Params, steps: int, offset: int = 0, **extra: Any
) -> Params:
    """The last updates, for gradients that depend on the parameters too."""
    state = tx.init(params)
    updates = params
    for t in range(steps):
        grads = gradients(params, t, offset, tx, **extra)
        if "value_fn" not in extra:
            grads = tree.map(lambda g, p: g + 0.1 * p, grads, params)
        updates, state = tx.update(grads, state, params, **extra)
        params = tree.map(lambda p, u: p + 0.01 * u.to(p.dtype), params, updates)
    return updates
