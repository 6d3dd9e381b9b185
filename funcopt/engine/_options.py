"""The engines that there are, and where one is chosen: by an argument, a context, the process."""

import contextlib
import contextvars
import os
from collections.abc import Iterator
from typing import Literal, cast, get_args

from .._core import checks

EngineOption = Literal["auto", "eager", "torch", "foreach", "fused", "compiled"]

ENGINES: tuple[str, ...] = get_args(EngineOption)

VARIABLE = "FUNCOPT_ENGINE"
"""The environment variable that stands for "auto" in a process."""

_of_updates = contextvars.ContextVar[EngineOption]("funcopt_engine", default="auto")


def chosen(who: str, option: str) -> EngineOption:
    """The option of `who`, or in the place of "auto" that of the process.

    Raises:
        HyperparameterError: If there is no such engine.
    """
    checks.choice(who, "engine", option, ENGINES)
    return _or_of_process(who, cast(EngineOption, option))


_key, _environment = os.environ.encodekey(VARIABLE), getattr(os.environ, "_data", None)


def _or_of_process(who: str, option: EngineOption) -> EngineOption:
    # To ask `os.environ` for what is not there takes three calls and an exception.
    if option == "auto" and (_environment is None or _key in _environment):
        of_process = os.environ.get(VARIABLE)
        if of_process:
            checks.choice(who, VARIABLE, of_process, ENGINES)
            return cast(EngineOption, of_process)
    return option


def chosen_for_updates() -> EngineOption:
    """The option of the pure form, in this context."""
    return _or_of_process("update", _of_updates.get())


@contextlib.contextmanager
def pure_engine(engine: EngineOption) -> Iterator[None]:
    """Chooses the engine of `update` within the context, in this thread or task only.

        with pure_engine("eager"):
            updates, state = tx.update(grads, state, params)

    By default, "auto", updates on a CPU are computed by kernels, in as few passes over memory as
    the chain has reductions, plus one; the results are in fresh memory, and the same up to
    rounding. Operation by operation run

    * updates on other devices, and with "eager" all updates, exactly as torch computes them;
    * those without `params`, or with extra arguments such as ``value=loss``;
    * those that `torch.func`, autograd, a compiler, a trace or a mode follows;
    * those of chains that kernels cannot replay, such as one with `add_noise`.

    On other devices, "fused" and "foreach" have to be asked for.

    Args:
        engine: As for `Optimizer`; "torch" is "eager" here, as those kernels work in place. The
            environment variable ``FUNCOPT_ENGINE`` says what "auto" is.

    Raises:
        HyperparameterError: If there is no such engine.
    """
    checks.choice("pure_engine", "engine", engine, ENGINES)
    token = _of_updates.set(engine)
    try:
        yield
    finally:
        _of_updates.reset(token)


def updates_made_by(option: EngineOption) -> contextlib.AbstractContextManager[None]:
    """The context of updates within a step: they are made by its engine, if one was chosen."""
    return contextlib.nullcontext() if option == "auto" else pure_engine(option)
