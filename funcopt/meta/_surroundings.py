"""What a function meets other than its arguments, kept for when it is computed again.

Random generators, autocast, and the modes of the modules that it calls. (Buffers of modules can
only be arguments: `torch.func` refuses what writes into a module.)
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ._closure_check import held


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """Of one call; `again` puts them back for another, and then leaves all as it found it.

    No tree: `torch.func` would take the states of generators for arguments.
    """

    generators: list[tuple[torch.Generator, Tensor]]
    casts: list[tuple[str, torch.dtype, bool, bool]]
    modes: list[tuple[nn.Module, bool]]

    @classmethod
    def of(cls, fn: Callable[..., Any]) -> "Surroundings":
        """Those that `fn` would meet now."""
        found = list(held(fn, (torch.Generator, nn.Module)))
        own = [x for x in found if isinstance(x, torch.Generator)]
        roots = [x for x in found if isinstance(x, nn.Module)]
        modules = list(dict.fromkeys(part for root in roots for part in root.modules()))
        return cls(
            _states(dict.fromkeys([*_default_generators(), *own])),
            [_cast_of(device) for device in _devices()],
            [(module, module.training) for module in modules],
        )

    @contextmanager
    def again(self) -> Iterator[None]:
        """Within it, all is as it was."""
        generators = _states(g for g, _ in self.generators)
        modes = [(module, module.training) for module, _ in self.modes]
        with ExitStack() as stack:
            for device, dtype, enabled, cached in self.casts:
                stack.enter_context(
                    torch.autocast(device, dtype, enabled=enabled, cache_enabled=cached)
                )
            try:
                _set_all(self.generators, self.modes)
                yield
            finally:
                _set_all(generators, modes)


def _set_all(
    generators: list[tuple[torch.Generator, Tensor]], modes: list[tuple[nn.Module, bool]]
) -> None:
    with torch._C._DisableFuncTorch():
        for generator, state in generators:
            generator.set_state(state)
    for module, training in modes:
        module.training = training


def _states(generators: Iterable[torch.Generator]) -> list[tuple[torch.Generator, Tensor]]:
    with torch._C._DisableFuncTorch():  # which would wrap what has no storage then
        return [(g, g.get_state()) for g in generators]


def _devices() -> list[str]:
    """The kinds of devices that there is something on."""
    other = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return ["cpu"] if other is None else ["cpu", other.type]


def _default_generators() -> list[torch.Generator]:
    found = [torch.default_generator]
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        found += torch.cuda.default_generators
    return found


def _cast_of(device: str) -> tuple[str, torch.dtype, bool, bool]:
    return (
        device,
        torch.get_autocast_dtype(device),
        torch.is_autocast_enabled(device),
        torch.is_autocast_cache_enabled(),
    )
