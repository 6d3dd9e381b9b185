"""It reads what it may read, and asks for what it needs."""

from typing import Any

from .._core.tensor_rule import GradientTransformation, PerTensor
from ..errors import ExtraArgumentError, MissingParamsError
from ..typing import Params
from ._assert import close
from ._facts import chooses
from ._poison import Poisoned, Read
from ._trial import by_operations, gradients, train

__tracebackhide__ = True  # pytest shows the caller's line


@by_operations
def reads_hyperparams_from_s(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """The methods of tensors work on a copy whose hyperparameters cannot be read."""
    if not isinstance(tx, PerTensor) or not tx.is_per_tensor():
        return
    try:
        got = train(Poisoned(tx), params, 2, **extra)
    except Read as error:
        raise AssertionError(f"{tx!r} reads a hyperparameter of `self` {error}: use `s`.") from None
    close(tx, "updates with poisoned fields", got, train(tx, params, 2, **extra), 0.0)


@by_operations
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


@by_operations
def asks_for_the_loss(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """If it evaluates the loss itself, it says so where `value_fn` is missing."""
    if not tx.needs_closure or chooses(tx):
        return
    try:
        tx.update(gradients(params, 0, **extra), tx.init(params), params)
    except ExtraArgumentError:
        return
    raise AssertionError(f"{tx!r} asks for `value_fn`, but works without it.")


@by_operations
def refuses_unknown_extra(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """An extra argument that no stage takes is an error."""
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
    raise AssertionError(f"{tx!r} takes an extra argument that is unknown.")
