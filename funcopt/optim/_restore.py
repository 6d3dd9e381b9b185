"""Trying something with a model and an optimizer, both of which are restored exactly."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


@contextmanager
def restored(optimizer: torch.optim.Optimizer, model: torch.nn.Module) -> Iterator[None]:
    """After the context, model, optimizer and random generators are exactly as they were before.

    Tensors stay the same objects, so that whoever holds one sees the old value in it. Gradients
    are put aside within.
    """
    params = list(dict.fromkeys([*model.parameters(), *_params_of(optimizer)]))
    tensors = [*params, *(x for x in model.buffers())]
    values = [x.detach().clone() for x in tensors]
    grads = [p.grad for p in params]
    buffers = [(module, dict(module._buffers)) for module in model.modules()]
    groups = [(group, dict(group), _kept(group)) for group in optimizer.param_groups]
    state = [(p, stored, _copied(stored)) for p, stored in optimizer.state.items()]
    about = {key: getattr(optimizer, key) for key in ("_last", "_norms") if hasattr(optimizer, key)}
    devices = list({x.device for x in params if x.device.type == "cuda"})
    optimizer._watched = False  # type: ignore[attr-defined]  # by its logs
    for p in params:
        p.grad = None
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        with torch.no_grad():
            for module, own in buffers:
                module._buffers.clear()
                module._buffers.update(own)
            for x, value in zip(tensors, values, strict=True):
                x.copy_(value)
            for p, grad in zip(params, grads, strict=True):
                p.grad = grad
            _restore_groups(groups)
            _restore_state(optimizer, state)
        for key, value in about.items():
            setattr(optimizer, key, value)
        del optimizer._watched  # type: ignore[attr-defined]


def _params_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _kept(values: dict[str, Any]) -> dict[str, Tensor]:
    """Copies of the tensors among the options of a group."""
    return {key: x.clone() for key, x in values.items() if isinstance(x, Tensor)}


def _copied(stored: Any) -> Any:
    """What is stored of a parameter, each with a copy of its own."""
    if not isinstance(stored, dict):
        return copy.deepcopy(stored)
    return {key: (x, copy.deepcopy(x)) for key, x in stored.items()}


def _restore_groups(groups: list[tuple[dict[str, Any], dict[str, Any], dict[str, Tensor]]]) -> None:
    for group, options, tensors in groups:
        group.clear()
        group.update(options)
        for key, value in tensors.items():
            group[key].copy_(value)


def _restore_state(optimizer: torch.optim.Optimizer, state: list[tuple[Any, Any, Any]]) -> None:
    kept = {id(p) for p, _, _ in state}
    for p in [p for p in optimizer.state if id(p) not in kept]:
        del optimizer.state[p]
    for p, stored, copies in state:
        if not isinstance(stored, dict):
            optimizer.state[p] = copies
            continue
        stored.clear()
        for key, (x, value) in copies.items():
            if isinstance(x, Tensor):
                x.copy_(value)
                stored[key] = x
            else:
                stored[key] = value
        optimizer.state[p] = stored
