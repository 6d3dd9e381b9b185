"""Steps on the host for parameters on a device, whose state is on the host."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Node
from .._numerics import shards
from .._numerics.made_on import MadeOn
from ..engine import StepInputs
from ..errors import HyperparameterError, StructureError
from ._options import Options, given_names, named

HOST = torch.device("cpu")


def is_foreign(x: Any) -> bool:
    """Whether it is a tensor with values that are not on the host."""
    return isinstance(x, Tensor) and x.device.type not in ("cpu", "meta")


class Offload:
    """What is on the host, if the state is to be there: slots, and copies for the time of a step.

    The parameters on the device are the truth. Their values are copied with the gradients at every
    step, and written back after it. So nothing but the state lasts from one step to the next:
    whatever has been done to the parameters in between is seen.
    """

    def __init__(self, wanted: bool, who: str, defaults: Mapping[str, Any]) -> None:
        checks.switch(who, "offload", wanted)
        for key in ("capturable", "differentiable"):
            if wanted and defaults.get(key):
                raise HyperparameterError(
                    f"`{who}`: `offload=True` makes steps on the host, where `{key}=True` cannot "
                    "follow them: leave out one of the two."
                )
        self.wanted = wanted
        self._who = who
        self.forget()

    def __getstate__(self) -> Options:
        return {"wanted": self.wanted, "_who": self._who}

    def __setstate__(self, state: Options) -> None:
        self.__dict__.update(state)
        self.forget()

    def forget(self) -> None:
        """Drops the copies, which are made again."""
        self._copies: dict[tuple[Tensor, str], Tensor] = {}  # of a parameter, and its gradient
        self._last: Sequence[Tensor] = ()  # the parameters of the last step
        self._hosts: list[Tensor] = []  # and their copies
        self._written: list[Any] = []  # events, one for each device: it has been read from these

    def another(self) -> "Offload":
        """The same without copies, for parameters that are perhaps to be."""
        return Offload(self.wanted, self._who, {})

    def check(self, group: Mapping[str, Any]) -> None:
        """Refuses parameters whose state cannot be on the host.

        Raises:
            StructureError: If one is sharded.
        """
        names = given_names(group)  # a group that is about to be added has pairs
        each = zip(names, map(named, group["params"]), strict=False) if self.wanted else ()
        for given, (name, p) in each:
            name = given or name
            if shards.is_sharded(p):
                raise StructureError(
                    f"`{self._who}`: `offload=True` is for parameters that are whole on a device, "
                    f"and {'one' if name is None else f'`{name}`'} is sharded: FSDP itself keeps "
                    "shards on the host, `fully_shard(..., offload_policy=CPUOffloadPolicy())`."
                )

    # State.

    def device(self, p: Tensor) -> torch.device:
        """Where the state of a parameter is."""
        return HOST if self.wanted else p.device

    def beside(self, p: Tensor) -> AbstractContextManager[Any]:
        """A context in which what is made of a parameter is made where its state is."""
        return MadeOn("cpu") if self.wanted and is_foreign(p) else nullcontext()

    def settle(self, param_groups: Sequence[Options], state: Mapping[Any, Any]) -> None:
        """Brings state to the host that was moved to a device, and drops copies of others."""
        if not self.wanted:
            return
        for group in param_groups:
            self.check(group)
        every = {p for group in param_groups for p in group["params"]}
        self._copies = {key: x for key, x in self._copies.items() if key[0] in every}
        for own in (state.get(p, {}) for p in every):
            own.update({k: x.to(HOST) for k, x in own.items() if is_foreign(x)})

    # Steps.

    def stepped(self, inputs: StepInputs, step: Callable[[StepInputs], Node]) -> Node:
        """Makes a step of copies on the host, and writes the parameters."""
        if not self.wanted:
            return step(inputs)
        foreign = [i for i, p in enumerate(inputs.ps) if is_foreign(p)]
        if self._last is not inputs.ps:  # else the list stays, by which engines know the tensors
            self._last, self._hosts = inputs.ps, [self._copy(p, "param", p) for p in inputs.ps]
        hosts = self._hosts
        gs = [self._copy(p, "grad", g) for p, g in zip(inputs.ps, inputs.gs, strict=True)]
        both = ((hosts, inputs.ps), (gs, inputs.gs))
        self._fetch([(to[i], x[i]) for to, x in both for i in foreign])
        trees = {
            key: [None if x is None else x.to(HOST) for x in values]
            for key, values in inputs.tensor_extra.items()
        }
        node = step(inputs._replace(ps=hosts, gs=gs, params=inputs.ps, tensor_extra=trees))
        self._send([(inputs.ps[i], hosts[i]) for i in foreign])
        return node

    def _copy(self, p: Tensor, role: str, x: Tensor) -> Tensor:
        """Memory on the host for a parameter or its gradient `x`; `x` itself if it is there."""
        if not is_foreign(p):
            return x
        copy = self._copies.get((p, role))
        if copy is None or _form(copy) != _form(x):
            copy = torch.empty_like(x, device=HOST, pin_memory=x.is_cuda, requires_grad=False)
            self._copies[p, role] = copy
        return copy

    def _fetch(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Copies tensors to the host, all at once, and waits for them."""
        for event in self._written:  # of the last step, which may still be read from there
            event.synchronize()
        for host, x in pairs:
            host.copy_(x.detach(), non_blocking=True)
        for stream in _streams(x for _, x in pairs):
            stream.synchronize()

    def _send(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Copies tensors back, which their streams wait for, and the host does not."""
        for p, host in pairs:
            p.copy_(host, non_blocking=True)
        self._written = [stream.record_event() for stream in _streams(p for p, _ in pairs)]


def _streams(tensors: Iterable[Tensor]) -> list[Any]:
    """The stream of each device on which work is queued."""
    devices = dict.fromkeys(x.device for x in tensors)
    return [torch.accelerator.current_stream(x) for x in devices if x.type not in ("cpu", "meta")]


def _form(x: Tensor) -> Any:
    return x.shape, x.dtype, x.stride()
