"""Transformations made of functions, as Optax would write them."""

import inspect
from collections.abc import Callable
from typing import Any

from . import _leaves
from ._base import GradientTransformation
from ._typing import Params, State, Updates


class from_functions(GradientTransformation):
    """Makes a transformation of a pair of pure functions, as Optax would write it.

    It sees whole trees, so it takes no part in fused passes. It pickles if the functions do, that
    is, if they were defined at the top of a module.

    Args:
        init_fn: ``init_fn(params) -> state``.
        update_fn: ``update_fn(updates, state, params, **extra) -> (updates, state)``; extra
            arguments are passed if it names them or takes ``**extra``.
    """

    init_fn: Callable[..., State]
    update_fn: Callable[..., tuple[Updates, State]]

    def init(self, params: Params, *, capturable: bool = False) -> State:
        _leaves.checked_params(type(self).__name__, params)
        return self.init_fn(params)

    def update(
        self, updates: Updates, state: State, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, State]:
        self.check_extra(extra)
        return self.update_fn(updates, state, params, **extra)

    def extra_names(self) -> frozenset[str] | None:
        arguments = list(inspect.signature(self.update_fn).parameters.values())
        if any(a.kind is a.VAR_KEYWORD for a in arguments):
            return None
        return frozenset(a.name for a in arguments[3:])
