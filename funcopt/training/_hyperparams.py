"""Where the named numbers of a sweep or a hypergradient belong: transformation or loss."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from .._core import checks
from .._core.tensor_rule import GradientTransformation
from ..combinators import hyperparams, paths, walk, with_hyperparams
from ..errors import FuncoptError, HyperparameterError
from ._step import train_step

MakesTx = GradientTransformation | Callable[..., GradientTransformation]
"""A transformation, or a function that makes one of numbers passed by keyword."""


class Places(NamedTuple):
    """A loss and a transformation, and which numbers each of them takes."""

    loss: Callable[..., Any]
    tx: MakesTx
    of_tx: tuple[str, ...]
    of_loss: tuple[str, ...]

    def step(self, values: Mapping[str, Any]) -> train_step:
        """The step of training with these numbers."""
        mine = {name: values[name] for name in self.of_tx}
        given = {name: values[name] for name in self.of_loss}
        if isinstance(self.tx, GradientTransformation):
            tx = with_hyperparams(self.tx, mine) if mine else self.tx
        else:
            tx = _made(self.tx, mine)
        return train_step(functools.partial(self.loss, **given) if given else self.loss, tx)


def _made(make: Callable[..., GradientTransformation], values: Mapping[str, Any]) -> Any:
    """The transformation made of `values`, which are tensors.

    Raises:
        HyperparameterError: If they decide on more than numbers.
    """
    try:
        tx = make(**values)
    except FuncoptError:
        raise
    except Exception as error:
        raise HyperparameterError(
            f"the function that makes the transformation fails with tensors for {list(values)}: a "
            "value that decides what is computed cannot differ between the runs of one `sweep`, "
            f"nor be learned. It says: {type(error).__name__}: {error}"
        ) from error
    for _, node in walk(tx) if isinstance(tx, GradientTransformation) else ():
        for field in dataclasses.fields(node):
            if field.type in (bool, int, str):
                checks.structure(node, field.name, getattr(node, field.name))
    return tx


def places(who: str, loss: Callable[..., Any], tx: MakesTx, names: Iterable[str]) -> Places:
    """Finds out what takes each name: a hyperparameter of `tx`, or a keyword of `loss`.

    Raises:
        HyperparameterError: If neither does.
    """
    if isinstance(tx, GradientTransformation):
        known = [*hyperparams(tx), *paths(tx).values()]
        what = f"hyperparameters of `tx` are {list(hyperparams(tx))}"
    else:
        known = list(inspect.signature(tx).parameters)
        what = f"`tx` takes {known}"
    parameters = inspect.signature(loss).parameters.values()
    keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    names = list(names)
    for name in names:
        if name not in known and name not in keywords:
            raise HyperparameterError(
                f"`{who}`: nothing takes `{name}`: {what}, keyword-only arguments of `loss` are "
                f"{keywords}."
            )
    of_tx = tuple(name for name in names if name in known)
    return Places(loss, tx, of_tx, tuple(name for name in names if name not in known))
