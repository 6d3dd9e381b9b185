"""`torch.optim.LBFGS`, whose line search has a name."""

from .._core import checks
from ..errors import HyperparameterError
from ..transforms import LineSearch, lbfgs, strong_wolfe
from ..typing import Scalar


def of_torch(
    lr: Scalar = 1.0,
    max_iter: int = 20,
    max_eval: int | None = None,
    tolerance_grad: Scalar = 1e-7,
    tolerance_change: Scalar = 1e-9,
    history_size: int = 100,
    line_search_fn: str | LineSearch | None = None,
) -> lbfgs:
    """L-BFGS, as `lbfgs` has it, under the names of `torch.optim.LBFGS`.

    Several parameter groups may be given, if they are equal. `step` needs a closure.

    Args:
        lr: The step length, or the first that a search tries.
        max_iter: Steps in one update.
        max_eval: Evaluations in one update; by default ``max_iter * 5 // 4``.
        tolerance_grad: It ends where no entry of the gradient is greater.
        tolerance_change: It ends where no entry of a step is greater, or the loss changes by less.
        history_size: How many steps are kept to approximate the Hessian.
        line_search_fn: ``"strong_wolfe"``, a search such as `backtracking()`, or None.

    Raises:
        HyperparameterError: If a value is out of range, or there is no such search.
    """
    checks.whole_number("LBFGS", "max_iter", max_iter, least=1)
    most = max_iter * 5 // 4 if max_eval is None else max_eval  # torch's, whatever the search
    if line_search_fn == "strong_wolfe":
        line_search_fn = strong_wolfe(max_steps=most)  # so that only `max_eval` ends it
    elif isinstance(line_search_fn, str):
        raise HyperparameterError(
            '`LBFGS`: `line_search_fn` must be "strong_wolfe", a search such as `backtracking()`, '
            f"or None, got {line_search_fn!r}."
        )
    return lbfgs(lr, max_iter, most, tolerance_grad, tolerance_change, history_size, line_search_fn)
