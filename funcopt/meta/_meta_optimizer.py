"""Differentiable steps on a module in place."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .._core.apply import apply_updates, detach_state
from .._core.kinds import check_is, check_module, described, expect_transformation
from .._core.loss import is_number
from .._core.tensor_rule import GradientTransformation
from ..errors import DerivativeError, StructureError
from ..training import TrainState
from ._buffers import buffers_of, copied, put


class MetaOptimizer:
    """Steps on the parameters of a module through which autograd can differentiate.

        inner = MetaOptimizer(net, fo.sgd(0.1))
        with inner.adapting():
            for _ in range(5):
                inner.step(loss(net(x), y))
            outer = loss(net(x_test), y_test)
        outer.backward()  # reaches the parameters of `net` as they were

    After a step, the parameters of the module are tensors with a history. This is for code that is
    written around a module, and the counterpart of TorchOpt's `MetaOptimizer`. What is written
    around functions is better off with `train_step` and `unroll`: they can be mapped by `vmap`, and
    compiled.

    Args:
        module: Any module; of a tied parameter all names follow.
        tx: A transformation. Its hyperparameters may be tensors that require grad.
    """

    def __init__(self, module: nn.Module, tx: GradientTransformation) -> None:
        check_module("MetaOptimizer", module)
        expect_transformation("MetaOptimizer", tx, "MetaOptimizer(module, tx)")
        self.module, self.tx = module, tx
        self._places: dict[str, list[tuple[dict[str, Any], str]]] = {}
        names = {p: name for name, p in module.named_parameters()}
        for owner in module.modules():
            for key, p in owner._parameters.items():
                if p is not None and p.requires_grad:
                    self._places.setdefault(names[p], []).append((owner._parameters, key))
        params: dict[str, Tensor] = {
            name: places[0][0][places[0][1]] for name, places in self._places.items()
        }
        views = {name: p.view_as(p) for name, p in params.items()}  # derivatives by them are wanted
        self._state = TrainState(params, tx.init(views))

    @property
    def state(self) -> TrainState[dict[str, Tensor]]:
        """Parameters, optimizer state and buffers, to read or to restore: nothing changes it."""
        return self._state._replace(buffers=[own for _, own in copied(buffers_of(self._parts()))])

    @state.setter
    def state(self, state: TrainState[dict[str, Tensor]]) -> None:
        check_is("MetaOptimizer.state", "state", state, TrainState, "MetaOptimizer.state")
        wanted, given = set(self._places), state.params
        if not isinstance(given, Mapping) or set(given) != wanted:
            raise StructureError(
                "`MetaOptimizer.state`: `params` must be a dict with the names of the parameters "
                f"of the module, {sorted(wanted)}, got {described(given)}"
            )
        if state.buffers != () and len(state.buffers) != len(buffers_of(self._parts())):
            raise StructureError(
                "`MetaOptimizer.state`: `buffers` must be those of the module, as "
                "`MetaOptimizer.state` has them, or `()`, to leave them as they are."
            )
        self._put(state.params)
        self._state = state._replace(buffers=())
        if state.buffers != ():
            now = buffers_of(self._parts())
            then = zip(now, state.buffers, strict=True)
            put(copied([(place, own) for (place, _), own in then]))

    def _put(self, params: Mapping[str, Tensor]) -> None:
        for name, places in self._places.items():
            for owner, key in places:
                owner[key] = params[name]

    def _parts(self) -> list[nn.Module]:
        return list(self.module.modules())

    def step(self, loss: Tensor) -> None:
        """One update, by the gradient of `loss` for the current parameters.

        A parameter that the loss does not depend on has no gradient: it keeps its value. Stages
        that ask for the value of the loss get it.

        Raises:
            DerivativeError: If it depends on none of them, or its graph is freed; nothing changes.
            StructureError: If it is not one number.
        """
        if not is_number(loss):
            raise StructureError(
                "`MetaOptimizer.step`: `loss` must be one number, a 0-d floating-point tensor, got "
                f"{described(loss)} The call is `step(loss(net(x), y))`."
            )
        params = self._state.params
        if params and not loss.requires_grad:
            raise DerivativeError(
                "`MetaOptimizer.step`: `loss` has no history, so there is nothing to differentiate:"
                " it was detached, computed under `torch.no_grad`, or by other tensors than those "
                "of the module."
            )
        try:
            found = torch.autograd.grad(
                loss, list(params.values()), create_graph=True, allow_unused=True
            )
        except RuntimeError as error:
            if "second time" not in str(error):
                raise
            raise DerivativeError(
                "`MetaOptimizer.step`: the graph of `loss` is freed already: `step` differentiates "
                "the loss itself, so do not call `loss.backward()` before it; nor `backward()` of "
                "an outer loss between the steps."
            ) from None
        if params and all(g is None for g in found):
            raise DerivativeError(
                "`MetaOptimizer.step`: `loss` depends on none of the current parameters of the "
                "module. Each step puts new tensors in their place: compute the loss after the "
                "last one, by calling the module."
            )
        grads = dict(zip(params, found, strict=True))
        extra = {"value": loss} if "value" in (self.tx.extra_names() or ()) else {}
        updates, opt_state = self.tx.update(grads, self._state.opt_state, params, **extra)
        self._state = TrainState(apply_updates(params, updates), opt_state)
        self._put(self._state.params)

    def detach(self) -> None:
        """Detaches parameters and optimizer state: later derivatives stop here."""
        params = {name: p.detach().requires_grad_() for name, p in self._state.params.items()}
        self._state = TrainState(params, detach_state(self._state.opt_state))
        self._put(params)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the context, the module has the averaged weights of `tx`, used for evaluation."""
        self._put(self.tx.averaged(self._state.opt_state, self._state.params))
        try:
            yield
        finally:
            self._put(self._state.params)

    @contextmanager
    def adapting(self) -> Iterator["MetaOptimizer"]:
        """Restores the module and the optimizer state at the end, whatever happens.

        That is parameters, buffers such as the running statistics of a batch norm, and modes.
        """
        before = self._state
        modes = [(part, part.training) for part in self._parts()]
        buffers = buffers_of(self._parts())
        put(copied(buffers))  # these stay as they are
        try:
            yield self
        finally:
            self._state = before
            self._put(before.params)
            put(buffers)
            for part, training in modes:
                part.training = training
