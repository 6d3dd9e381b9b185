"""The two simplest transformations: the identity, and one made of two functions."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..typing import OptState, Params, Slots, Updates
from . import checks
from .leaves import checked_params
from .stage import Scalars
from .tensor_rule import GradientTransformation, TensorRule


class identity(TensorRule):
    """Leaves the updates as they are."""

    elementwise = True
    changes_updates = False

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return g, slots


class from_functions(GradientTransformation):
    """Makes a transformation of a pair of pure functions, as Optax would write it.

    It sees whole trees, so it takes no part in fused passes. It pickles if the functions do, that
    is, if they were defined at the top of a module.

    Args:
        init_fn: ``init_fn(params) -> state``.
        update_fn: ``update_fn(updates, state, params, **extra) -> (updates, state)``; extra
            arguments are passed if it names them or takes ``**extra``.

    Raises:
        HyperparameterError: If a function does not take these arguments.
    """

    init_fn: Callable[..., OptState]
    update_fn: Callable[..., tuple[Any, OptState]]

    def __post_init__(self) -> None:
        checks.takes(self, "init_fn", self.init_fn, ("params",))
        checks.takes(self, "update_fn", self.update_fn, ("updates", "state", "params"))

    def init(self, params: Params, *, capturable: bool = False) -> OptState:
        checked_params(type(self).__name__, params)
        return self.init_fn(params)

    def update(
        self, updates: Updates, state: OptState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, OptState]:
        self.check_extra(extra)
        new: tuple[Updates, OptState] = self.update_fn(updates, state, params, **extra)
        return new

    def extra_names(self) -> frozenset[str] | None:
        arguments = list(inspect.signature(self.update_fn).parameters.values())
        if any(a.kind is a.VAR_KEYWORD for a in arguments):
            return None
        return frozenset(a.name for a in arguments[3:])
