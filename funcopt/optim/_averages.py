"""Exchanges the parameters for averaged weights, used for evaluation, and back."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from .._core.tensor_rule import GradientTransformation
from .._numerics.autocast import forget_casts
from ..errors import ModeError, StructureError
from ._options import Options, named_parameters
from ._state import State
from ._state_layout import STEP

TRAIN_PARAMS = "train_params"
"""A key of the state: the parameter that is trained, while its average stands in for it."""

TRAIN_MODE = "train_mode"
"""A key of groups: whether the parameters are those that are trained."""

FindAverage = Callable[[int, str | None, Tensor], Tensor | None]
"""The average of a parameter, by the index of its group, its name and itself, if there is one."""


class Averages:
    """Exchanges parameters for their averages.

    The mode stands in the groups, under `train_mode`. While that is off, the parameters that are
    trained wait in the state of each, under `train_params`: nothing is computed to come back. So
    checkpoints, copies and pickles hold the mode and what it takes to leave it.
    """

    _which: str | None = None
    """The average that was put in place last, if it was chosen by name."""

    def __init__(self, who: str) -> None:
        self._who = who
        self._open = 0  # how many `averaged()` there are

    def __getstate__(self) -> dict[str, Any]:
        return {"_who": self._who, "_open": 0, "_which": self._which}

    # What is allowed when.

    def check_training(self, param_groups: list[Options], action: str) -> None:
        """Refuses what is done to parameters that are trained.

        Raises:
            ModeError: If averages stand in for them.
        """
        if self._open:
            raise ModeError(
                f"`{self._who}.{action}` inside `averaged()`: the parameters are "
                "averages now, and will be put back. Train outside of it."
            )
        if not all(map(in_training, param_groups)):
            raise ModeError(
                f"`{self._who}.{action}` in eval mode: the parameters are averages now. "
                "Call `train()` before."
            )

    def check_closed(self, action: str) -> None:
        """Refuses what must not happen while a context is to put parameters back.

        Raises:
            ModeError: Inside `averaged()`.
        """
        if self._open:
            raise ModeError(
                f"`{self._who}.{action}` inside `averaged()`, which puts the parameters "
                "back as they were: call it outside."
            )

    def check_kept(self, defaults: Options, tx: GradientTransformation) -> None:
        """Refuses to evaluate with averages where there are none.

        Raises:
            StructureError: If no stage keeps an average.
        """
        if TRAIN_MODE not in defaults:
            raise StructureError(
                f"`{self._who}`: no stage of {tx!r} keeps an average: add "
                "`ema_of_params()` at the end."
            )

    def check_which(self, param_groups: list[Options], action: str, which: str | None) -> None:
        """Refuses to put an average in the place of another.

        Raises:
            ModeError: If one is there, and is not known to be that of this name.
        """
        if which in (None, self._which) or all(map(in_training, param_groups)):
            return
        there = f"`{self._which}`" if self._which else "an average"
        raise ModeError(
            f"`{self._who}.{action}`: the parameters are {there} now, and would not be `{which}`: "
            "call `train()` before."
        )

    # Train and eval mode.

    @torch.no_grad()
    def to_averages(
        self, param_groups: list[Options], state: State, find: FindAverage, which: str | None
    ) -> None:
        """Puts averages in the place of the parameters; what is there already stays."""
        changed = [group for group in param_groups if in_training(group)]
        kept: dict[Tensor, Tensor] = {}
        try:
            for index, group in enumerate(param_groups):
                if not in_training(group):
                    continue
                for name, p in named_parameters(group):
                    # Of what has not been stepped yet, the average is the parameter itself.
                    average = find(index, name, p) if state.get(p) else None
                    if average is not None:
                        kept[p] = state[p][TRAIN_PARAMS] = p.detach().clone()
                        p.copy_(average)
            forget_casts()
            for group in changed:
                group[TRAIN_MODE] = False
            self._which = which if changed else self._which
        except BaseException:  # a failed call changes nothing
            _put_back(state, changed, kept)
            raise

    def to_training(self, param_groups: list[Options], state: State, find: FindAverage) -> None:
        """Puts the parameters back that are trained.

        Raises:
            ModeError: If some are not there. Nothing is changed.
        """
        if all(map(in_training, param_groups)):
            return
        lost = [
            name or f"{index}.{j}"
            for index, group in enumerate(param_groups)
            if not in_training(group)
            for j, (name, p) in enumerate(named_parameters(group))
            if _is_lost(state.get(p, {})) and find(index, name, p) is not None
        ]
        if lost:
            raise ModeError(
                f"`{self._who}.train`: the checkpoint was saved in eval mode, and the "
                f"parameters to train {lost} were not loaded. A loader that fills what is there "
                "needs the same mode: call `eval()` before loading."
            )
        changed = [group for group in param_groups if not in_training(group)]
        every = [p for group in changed for p in group["params"]]
        stored = {p: state.get(p, {}) for p in every}
        kept = {p: s[TRAIN_PARAMS] for p, s in stored.items() if TRAIN_PARAMS in s}
        _put_back(state, changed, kept)

    def averaged(
        self, param_groups: list[Options], state: State, find: FindAverage, which: str | None
    ) -> AbstractContextManager[None]:
        """A context in which averages stand in for parameters; it warns if it is not entered."""
        return Awaited(
            self._within(param_groups, state, find, which),
            f"`{self._who}.averaged()` is a context manager, and does nothing by itself: write "
            "`with opt.averaged():`, or call `opt.eval()` and `opt.train()`.",
        )

    @contextmanager
    def _within(
        self, param_groups: list[Options], state: State, find: FindAverage, which: str | None
    ) -> Iterator[None]:
        """Within the context, averages are in the place of the parameters."""
        changed = [group for group in param_groups if in_training(group)]
        self.to_averages(param_groups, state, find, which)
        kept = {
            p: state[p][TRAIN_PARAMS]
            for group in changed
            for p in group["params"]
            if TRAIN_PARAMS in state.get(p, {})
        }
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            _put_back(state, changed, kept)


class Awaited(AbstractContextManager[None]):
    """A context that warns if it is dropped without having been entered."""

    def __init__(self, context: AbstractContextManager[None], said: str) -> None:
        self._context, self._said, self._entered = context, said, False

    def __enter__(self) -> None:
        self._entered = True
        return self._context.__enter__()

    def __exit__(self, *raised: Any) -> bool | None:
        return self._context.__exit__(*raised)

    def __del__(self) -> None:
        if not self._entered:
            warnings.warn(self._said, UserWarning, stacklevel=2)


def in_training(group: Mapping[str, Any]) -> bool:
    """Whether the parameters of a group are those that are trained."""
    return bool(group.get(TRAIN_MODE, True))


def _is_lost(stored: Mapping[str, Any]) -> bool:
    """Whether a parameter that has this state has been stepped, and cannot be put back."""
    return TRAIN_PARAMS not in stored and bool(float(stored.get(STEP, 0)))


@torch.no_grad()
def _put_back(state: State, param_groups: list[Options], kept: Mapping[Tensor, Tensor]) -> None:
    for p, value in kept.items():
        p.copy_(value)
        stored = state.get(p, {})
        stored.pop(TRAIN_PARAMS, None)
        if not stored:
            state.pop(p, None)
    forget_casts()
    for group in param_groups:
        group[TRAIN_MODE] = True
