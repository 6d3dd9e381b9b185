"""Windows of accumulated gradients: which calls of `step` update the parameters."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from .._core.tensor_rule import GradientTransformation
from ..combinators import accumulate, chain, sam
from ._state_layout import STEP

State = Mapping[Any, Any]
"""The state of an optimizer, by parameter."""

_CALLS, _UPDATES, _SUM = "micro_step", "inner_updates", "grad_sum"
"""What the state of `accumulate` has: calls and updates, and the sum of gradients."""


class Window(NamedTuple):
    """The `accumulate` that all parameters wait for."""

    tx: accumulate
    direct: bool  # whether it gets the gradients themselves

    def divisor(self, state: State) -> float:
        """What the sum of the gradients is divided by at the end of the window."""
        if not self.tx.mean:
            return 1
        constant = not callable(self.tx.steps)  # then no device is waited for
        updates = 0 if constant else progress_of(state, self).updates
        return float(self.tx.window(updates))


class Progress(NamedTuple):
    """Where an optimizer is."""

    updates: int  # that were made; without a window, the steps
    calls: int = 0  # of `step` since the last one

    def is_due(self, every: int) -> bool:
        """Whether an update was made whose number is divisible by `every`."""
        return self.calls == 0 and self.updates % every == 0


def window_of(tx: GradientTransformation) -> Window | None:
    """The window of an optimizer; `None` if every call makes an update of some parameter."""
    if isinstance(tx, accumulate):
        return Window(tx, True)
    if isinstance(tx, sam):
        inner = window_of(tx.inner)
        return None if inner is None else inner._replace(direct=False)
    if isinstance(tx, chain):
        each = [window_of(stage) for stage in tx.stages]
        i = next((i for i, found in enumerate(each) if found is not None), 0)
        found = each[i] if each else None
        return None if found is None else found._replace(direct=found.direct and i == 0)
    return None


def progress_of(state: State, window: Window | None) -> Progress:
    """Where an optimizer is, as far as its state tells: it waits for a device."""
    if window is not None:
        own = _counts(state)
        return Progress(0) if own is None else Progress(int(_updates(own)), int(own[_CALLS]))
    steps = (own[STEP] for own in state.values() if isinstance(own, dict) and STEP in own)
    return Progress(int(max(map(float, steps), default=0)))


def expected(last: Progress, window: Window | None) -> Progress:
    """The progress after a call, if it gets gradients."""
    if window is None or last.calls + 1 >= window.tx.window(last.updates):
        return Progress(last.updates + 1)
    return Progress(last.updates, last.calls + 1)


def advanced(last: Progress, state: State, window: Window | None) -> Progress:
    """The progress after a call that was made: no device is waited for."""
    own = None if window is None else _counts(state)
    if own is None or own[_CALLS].device.type != "cpu":
        return expected(last, window)
    return progress_of(state, window)


def waits(state: State) -> bool:
    """Whether the last call of an optimizer that has a window made no update.

    Where the count is on a device, it is not read, and every call counts.
    """
    own = _counts(state)
    return own is not None and own[_CALLS].device.type == "cpu" and int(own[_CALLS]) > 0


def accumulated(state: State, p: Tensor) -> Tensor | None:
    """The sum of the gradients of a parameter in a window."""
    found = state.get(p, {}).get(_SUM)
    return found if isinstance(found, Tensor) else None


def _counts(state: State) -> Mapping[str, Tensor] | None:
    """The state of a parameter that has the counts of the window, which all of them share."""
    return next((own for own in state.values() if isinstance(own, dict) and _CALLS in own), None)


def _updates(own: Mapping[str, Tensor]) -> Tensor:
    """The count of `accumulate`, which has the bare name if no stage around it has one."""
    named = own.get(f"accumulate/{_UPDATES}")
    return own[_UPDATES] if named is None else named
