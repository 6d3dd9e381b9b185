"""The hooks of torch's optimizers: those of a step, at no cost where there are none, and ours.

Torch's wrapper of `step` runs hooks and opens a range for the profiler, which takes a fourth of the
time of a small step even if nothing is recorded.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim import optimizer as base  # pyright: ignore[reportAttributeAccessIssue]

_profiler: Any = torch._C._profiler  # pyright: ignore[reportAttributeAccessIssue]
_Range = getattr(_profiler, "_RecordFunctionFast", torch.profiler.record_function)


def profile_hook_step(func: Callable[..., Any]) -> Callable[..., Any]:
    """What `torch.optim.Optimizer.profile_hook_step` does, at no cost where nothing is hooked."""
    hooked = torch.optim.Optimizer.profile_hook_step(func)

    @functools.wraps(func)
    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() or _has_hooks(self):
            return hooked(self, *args, **kwargs)
        with _Range(f"Optimizer.step#{type(self).__name__}.step"):  # for observers elsewhere
            out = func(self, *args, **kwargs)
        if self._optimizer_step_post_hooks or base._global_optimizer_post_hooks:
            _run_post_hooks(self, args, kwargs)  # which a closure has registered
        return out

    return step


@contextmanager
def around_loading(
    opt: torch.optim.Optimizer,
    before: Callable[[Any, dict[str, Any]], dict[str, Any]],
    after: Callable[[Any], None],
) -> Iterator[None]:
    """Within the context, loading a state calls `before` as the last hook, `after` as the first."""
    hooks = (
        opt.register_load_state_dict_pre_hook(before),
        opt.register_load_state_dict_post_hook(after, prepend=True),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _has_hooks(opt: Any) -> bool:
    return bool(
        opt._optimizer_step_pre_hooks
        or opt._optimizer_step_post_hooks
        or base._global_optimizer_pre_hooks
        or base._global_optimizer_post_hooks
        or torch._C._autograd._profiler_enabled()  # pyright: ignore[reportAttributeAccessIssue]
    )


def _run_post_hooks(opt: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    own, of_all = opt._optimizer_step_post_hooks, base._global_optimizer_post_hooks
    for hook in (*own.values(), *of_all.values()):
        hook(opt, (opt, *args), kwargs)
