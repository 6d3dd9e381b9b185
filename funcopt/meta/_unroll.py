"""Many steps as one function, whose derivative goes through all of them, or some."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch

from .. import tree
from .._core.apply import detach_state
from .._core.kinds import check_batches, check_function, described
from ..errors import HyperparameterError, StructureError
from ..typing import Tree
from ._checkpoint import remat

Out = TypeVar("Out")


def unroll(
    step: Callable[..., tuple[Any, Out]],
    state: Tree,
    batches: Iterable[Any],
    *,
    args: tuple[Any, ...] = (),
    truncate: int | None = None,
    checkpoint: int | None = None,
) -> tuple[Tree, Out]:
    """Runs a step for each batch, differentiably: ``state, out = step(state, batch, *args)``.

        def after(lr, params):
            step = train_step(loss, adam(lr))
            state, losses = unroll(step, TrainState.start(step.tx, params), batches)
            return validation_loss(state.params)

        slope = torch.func.grad(after)(torch.tensor(1e-3), params)

    Where nothing is differentiated by, it is a loop, and its memory does not grow.

    Args:
        step: A pure function such as `train_step`.
        state: What a step changes, a tree of tensors such as a `TrainState`.
        batches: What the steps get, one by one; ``range(k)`` for k steps that need nothing.
        args: Further arguments of `step`.
        truncate: Truncated backpropagation: `state` is detached before every so many steps, so
            derivatives go back through no more.
        checkpoint: Gradient checkpointing: of every so many steps, only the start is kept, and they
            are computed again for the derivative: memory for ``k / checkpoint + checkpoint`` steps
            instead of k, at the cost of one more forward pass. What is differentiated by has to
            come in through `state`, `batches` or `args`, not by a closure.

    Returns:
        `state` after the last step, and the outputs, stacked along a new first dimension.

    Raises:
        HyperparameterError: If a length is not a positive whole number, `step` cannot be called so,
            `args` is no tuple, `batches` is one batch, or there is none.
        StructureError: If `step` does not return a state and an output; or closes over what is
            differentiated by, with `checkpoint`.
    """
    if type(args) not in (tuple, list):
        raise HyperparameterError(
            "`unroll`: `args` must be a tuple of further arguments of `step`, got "
            f"{described(args)} For a single one, write `args=(x,)`."
        )
    call = f"step(state, batch{', *args' if args else ''})"
    check_function("unroll", "step", step, call, 2 + len(args))
    check_batches("unroll", batches)
    for name, length in (("truncate", truncate), ("checkpoint", checkpoint)):
        if length is not None and (not isinstance(length, int) or length < 1):
            raise HyperparameterError(
                f"`unroll`: `{name}` must be a positive whole number of steps, got {length!r}."
            )

    def run(state: Any, group: list[Any], args: tuple[Any, ...]) -> tuple[Any, list[Any]]:
        outs = []
        for batch in group:
            found = step(state, batch, *args)
            if type(found) not in (tuple, list) or len(found) != 2:
                kind = f"a tuple of {len(found)}." if type(found) is tuple else described(found)
                raise StructureError(
                    "`unroll`: `step` must return the new state and an output, `(state, out)`, got "
                    f"{kind} One without an output returns `(state, None)`."
                )
            state, out = found
            outs.append(out)
        return state, outs

    outs: list[Any] = []
    for first, group in _groups(batches, truncate, checkpoint or 1):
        state = detach_state(state) if first else state
        again = remat("unroll", run) if checkpoint else run
        state, found = again(state, group, args)
        outs += found
    if not outs:
        raise HyperparameterError("`unroll`: there are no batches, so there is no step to make.")
    return state, tree.map(_stacked, *outs)


def _stacked(*each: Any) -> Any:
    """An output of all steps."""
    if all(x is None for x in each):
        return None
    if not all(isinstance(x, torch.Tensor) for x in each):
        wrong = next(x for x in each if not isinstance(x, torch.Tensor))
        raise StructureError(
            "`unroll`: the outputs of `step` must be trees of tensors, which are stacked, got "
            f"{described(wrong)}"
        )
    return torch.stack(each)


def _groups(
    batches: Iterable[Any], truncate: int | None, size: int
) -> Iterator[tuple[bool, list[Any]]]:
    """The batches in groups, and whether derivatives stop before each."""
    group: list[Any] = []
    begins = False
    for i, batch in enumerate(batches):
        cut = truncate is not None and i > 0 and i % truncate == 0
        if group and (cut or len(group) == size):
            yield begins, group
            group, begins = [], False
        begins = begins or cut
        group.append(batch)
    if group:
        yield begins, group
