"""Named hyperparameters of a sweep or a hypergradient: those of `tx`, and those of `loss`."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from .._core import checks
from .._core.kinds import check_function, check_maker
from .._core.tensor_rule import GradientTransformation
from .._hints.calls import suggestions
from ..combinators import find_field, hyperparams, paths, walk, with_hyperparams
from ..errors import FuncoptError, HyperparameterError
from ..typing import TypeAliasType
from ._step import train_step

MakesTx = TypeAliasType("MakesTx", GradientTransformation | Callable[..., GradientTransformation])
"""A transformation, or a function that makes one from hyperparameters passed by keyword."""


class HyperparamRouting(NamedTuple):
    """A loss and a transformation, and the hyperparameters that each of them takes."""

    loss: Callable[..., Any]
    tx: MakesTx
    tx_names: tuple[str, ...]
    loss_names: tuple[str, ...]

    def step(self, values: Mapping[str, Any]) -> train_step[Any]:
        """The step of training with these hyperparameters."""
        mine = {name: values[name] for name in self.tx_names}
        given = {name: values[name] for name in self.loss_names}
        if isinstance(self.tx, GradientTransformation):
            tx = with_hyperparams(self.tx, mine) if mine else self.tx
        else:
            tx = _made(self.tx, mine)
        return train_step(functools.partial(self.loss, **given) if given else self.loss, tx)


def _made(make: Callable[..., GradientTransformation], values: Mapping[str, Any]) -> Any:
    """The transformation made of `values`, which are tensors.

    Raises:
        HyperparameterError: If a value decides what is computed.
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


def route_hyperparams(
    who: str, loss: Callable[..., Any], tx: MakesTx, names: Iterable[str]
) -> HyperparamRouting:
    """Finds what each name belongs to: a hyperparameter of `tx`, or a keyword of `loss`.

    Raises:
        HyperparameterError: If neither does, or several stages do.
    """
    check_maker(who, tx, f"{who}(loss, tx, values, params, batches, ...)")
    check_function(who, "loss", loss, "loss(params, batch)")
    names = list(names)
    if isinstance(tx, GradientTransformation):
        known = [*hyperparams(tx), *paths(tx).values()]
        known += [name for name in names if find_field(who, tx, name) and name not in known]
        what = f"hyperparameters of `tx` are {list(hyperparams(tx))}"
    else:
        known = list(inspect.signature(tx).parameters)
        what = f"arguments of `tx` are {known}"
    parameters = inspect.signature(loss).parameters.values()
    keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    for name in names:
        if name not in known and name not in keywords:
            meant = "".join(f" {sentence}" for sentence in suggestions([name], [*known, *keywords]))
            raise HyperparameterError(
                f"`{who}`: unknown hyperparameter `{name}`.{meant} There are: {what}; keyword-only "
                f"arguments of `loss` are {keywords}."
            )
    tx_names = tuple(name for name in names if name in known)
    return HyperparamRouting(loss, tx, tx_names, tuple(name for name in names if name not in known))
