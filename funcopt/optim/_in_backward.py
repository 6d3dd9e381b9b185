"""The step inside of `backward`: each parameter as soon as its gradient is complete.

An iteration is what lies between two calls of `step`. A hook on each parameter steps it and drops
its gradient (`_own_step`). `step` itself steps what has a gradient left, then writes the clocks of
all parameters together: until then, all of them see the same ones. Hooks refer to the optimizer
weakly, and are removed with it.
"""

import functools
import threading
import weakref
from typing import Any, Self

import torch
from torch import Tensor

from .._core.due import awaits
from .._core.tensor_rule import GradientTransformation, TensorRule
from .._core.vector_rule import VectorRule
from .._numerics.followed import outside_graphs
from ..combinators import chain, walk
from ..errors import ModeError, StructureError
from ._averages import Averages
from ._clocks import forget_known
from ._log import check_no_norms
from ._observed import ObservedOptimizer
from ._options import Options, given_names
from ._own_step import Iteration, Made, OwnStep, write_clocks
from ._ranks import check_no_replicas
from ._window import waits

AMP = ("grad_scale", "found_inf")
"""What a `GradScaler` sets on an optimizer that says that it takes them."""


class BackwardHandle:
    """What `Optimizer.step_in_backward` returns: a handle, and a context.

    with opt.step_in_backward():
        train(model, opt)
    """

    def __init__(self, opt: Any) -> None:
        self._opt = weakref.ref(opt)

    def remove(self) -> None:
        """Ends it, and the iteration: `step` steps all parameters again, and keeps gradients."""
        opt = self._opt()
        if opt is not None and opt._in_backward is not None:
            opt._in_backward.remove(opt)
            opt._in_backward = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: Any) -> None:
        self.remove()


class BackwardSteps:
    """The hooks of an optimizer, and the steps that were made in this iteration.

    The optimizer is handed in.
    """

    def __init__(self, opt: Any) -> None:
        self._lock = threading.RLock()  # autograd has a thread for each device
        self._hooks: dict[Tensor, Any] = {}
        self._own: dict[Tensor, OwnStep] = {}
        self._is_first = True
        self.forget()
        self.attach(opt)
        self._finalizer = weakref.finalize(opt, _remove_all, self._hooks)
        self._finalizer.atexit = False

    def forget(self) -> None:
        """Drops the steps of an iteration, the clocks of which are not written then."""
        self._now: Iteration | None = None
        self._made: dict[Tensor, Made] = {}

    @property
    def is_open(self) -> bool:
        """Whether some parameters have been stepped since the last `step`."""
        return bool(self._made)

    def attach(self, opt: Any) -> None:
        """Sees to it that the parameters that are in the groups now have hooks."""
        opt._groups.refresh(opt.param_groups)
        before = self._own
        own: dict[Tensor, OwnStep] = {}
        for index, group in enumerate(opt.param_groups):
            for name, p in zip(given_names(group), group["params"], strict=False):
                if p not in own:  # a parameter that is there twice is one
                    one = before.get(p)
                    if one is None or not one.is_of(index, name):
                        one = OwnStep(index, name, p, opt._how.engine)
                    own[p] = one
        self._own = own
        for p in own:
            if p.requires_grad and p.is_leaf and p not in self._hooks:
                hook = functools.partial(_hook, weakref.ref(opt))
                self._hooks[p] = p.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]

    def remove(self, opt: Any) -> None:
        """Removes the hooks, at the end of an iteration."""
        with self._lock:
            self._end(opt)
            self._finalizer()
            for own in opt.state.values():  # each has been counted alone: which are equal is read
                for x in own.values() if isinstance(own, dict) else ():
                    if isinstance(x, Tensor) and not x.dim():
                        forget_known(x)

    def arrived(self, opt: Any, p: Tensor) -> None:
        """Steps a parameter whose gradient is complete, and drops the gradient."""
        with self._lock, torch.no_grad():
            if p.grad is None:
                raise ModeError(_said_taken(type(opt).__name__, p))
            if p in self._made:
                p.grad = None
                raise ModeError(_said_twice(type(opt).__name__, self._own[p]))
            if p.grad.requires_grad:
                raise ModeError(
                    f"`{type(opt).__name__}.step_in_backward`: `backward(create_graph=True)` keeps "
                    "gradients with their graphs, and these are dropped in `backward`. Call "
                    "`remove()` of what `step_in_backward()` has returned, and step as usual."
                )
            outside_graphs(self._step, opt, p)

    def finish(self, opt: Any, extra: Options) -> None:
        """Ends an iteration: steps what has not been stepped, and writes clocks and memory."""
        with self._lock:
            _check_scaler(opt)
            opt.tx.check_extra(extra)
            deferred = awaits(opt.tx)
            for p in [p for group in opt.param_groups for p in group["params"]]:
                if p not in self._made and (p.grad is not None or deferred):
                    self._step(opt, p)
            self._end(opt)
            for p in [p for p in self._hooks if p not in self._own]:  # no hook is running now
                self._hooks.pop(p).remove()

    def _step(self, opt: Any, p: Tensor) -> None:
        now = self._now
        if now is None or p not in self._own:  # again, if it is new: no clock has been written
            now = self._now = self._begun(opt)
        own = self._own.get(p)
        if own is None:  # it is in no group any more
            return
        made = own.make(now)
        if made is not None:
            self._made[p] = made
            opt._engine.name = own.engine.name
        p.grad = None

    def _begun(self, opt: Any) -> Iteration:
        opt._averages.check_training(opt.param_groups, "step_in_backward")
        self.attach(opt)
        if self._is_first:  # a module may have been wrapped since
            check_no_replicas(f"{type(opt).__name__}.step_in_backward", self._own)
            self._is_first = False
        parts = (opt._groups, opt._store)
        now = Iteration(opt.param_groups, opt.state, *parts, opt.measure_group)
        if now.updates is not None:
            opt._scheduled.check(opt.param_groups, opt.state)
        return now

    def _end(self, opt: Any) -> None:
        now, made = self._now, self._made
        self.forget()
        if now is None or not made:
            return
        made = {p: made[p] for p in self._own if p in made}  # in the order of the groups
        after = None if now.updates is None else now.updates + 1
        write_clocks(made, opt.param_groups, opt.state, opt._store, after)
        if after is not None:
            for index in range(len(opt.param_groups)):
                opt._scheduled.show(opt.param_groups, opt.state, index, after)
        if opt._window is None or not waits(opt.state):
            opt._last = tuple(one.step for one in made.values())


class BackwardOptimizer(ObservedOptimizer):
    """An optimizer that can step inside of `backward`."""

    _averages: Averages
    _in_backward: BackwardSteps | None = None

    def step_in_backward(self) -> BackwardHandle:
        """Steps every parameter inside of `backward`, as soon as its gradient is complete.

            opt.step_in_backward()
            for batch in loader:
                loss(model, batch).backward()  # steps parameters, and frees their gradients
                opt.step()  # ends the iteration: step counts, schedules, hooks
                scheduler.step()

        Results are those of the usual loop; of the gradients, only those are in memory that are
        being made: all bytes are saved but those of the largest layer. `step` is called after every
        `backward` as usual: it advances step counts and schedules of all parameters together, and
        steps those that have a gradient left. `p.grad` is `None` then.

        A parameter may get one gradient in an iteration: micro-batches are for `accumulate`, each
        with its `step`. If `backward` fails, some parameters are stepped and others are not;
        `step` ends that iteration, too. Copies and pickles of the optimizer have no hooks.

        Returns:
            A handle whose `remove()` ends it; also a context manager.

        Raises:
            StructureError: If a stage sums over tensors, takes extra arguments, whole trees or
                gradients of examples, or evaluates the loss itself; or if parameters are those of
                DDP, whose gradients are averaged only later.
            ModeError: If norms are recorded, which need all gradients. From `backward`, at the
                second gradient of a parameter without a `step`, for ``create_graph=True``, and in
                eval mode; from `step`, if a `GradScaler` calls it.
        """
        who = f"{type(self).__name__}.step_in_backward"
        if self._in_backward is None:
            check_each_alone(who, self.tx, self.defaults)
            if self._store.offload.wanted:
                raise StructureError(
                    f"`{who}`: with `offload=True`, gradients are copied to the host together, in "
                    "`step`. Leave one of the two out."
                )
            check_no_norms(who, self)
            check_no_replicas(who, (p for group in self.param_groups for p in group["params"]))
            self._in_backward = BackwardSteps(self)
        return BackwardHandle(self)

    @property
    def _step_supports_amp_scaling(self) -> bool:
        if self._in_backward is not None:  # so that a `GradScaler` is seen, and refused
            return True
        return super()._step_supports_amp_scaling

    def state_dict(self) -> dict[str, Any]:
        self._check_ended("state_dict")
        return super().state_dict()

    def __getstate__(self) -> dict[str, Any]:
        self._check_ended("__getstate__")
        found: dict[str, Any] = super().__getstate__()
        return found

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self._in_backward is not None:
            self._in_backward.forget()

    def _check_between(self, action: str) -> None:
        """Refuses what is done between steps to parameters that are trained."""
        self._averages.check_training(self.param_groups, action)
        self._check_ended(action)

    def _check_ended(self, action: str) -> None:
        if self._in_backward is not None and self._in_backward.is_open:
            raise ModeError(
                f"`{type(self).__name__}.{action}` between `backward()`, which has stepped "
                "parameters, and `step()`, which advances their step counts: call `step()` before."
            )


def check_each_alone(who: str, tx: GradientTransformation, defaults: Options) -> None:
    """Refuses a chain that cannot step each parameter without the others.

    Raises:
        StructureError: If a stage needs all gradients, or what only `step` is given.
    """
    if defaults["differentiable"]:
        raise StructureError(
            f"`{who}`: with `differentiable=True`, autograd follows the steps, and parameters are "
            "no leaves, of which `backward` makes gradients. Leave one of the two out."
        )
    for _, node in walk(tx):
        if (why := _needs_others(node)) is not None:
            way = SUMS_OF_ONE if why == SUMS else ""
            raise StructureError(
                f"`{who}`: `{type(node).__name__}` {why}, and each parameter is stepped before "
                "the others have gradients. Leave it out, or call `step()` without "
                f"`step_in_backward()`.{way}"
            )


SUMS = "sums over all tensors"
SUMS_OF_ONE = (
    " `clip`, `clip_by_block_rms` and `adaptive_grad_clip` clip each tensor by itself, and `lamb` "
    "and `adafactor` rescale its update."
)


def _needs_others(node: GradientTransformation) -> str | None:
    """What a stage needs that is not there when one gradient is; `None` if there is nothing."""
    if isinstance(node, chain):  # its stages say it
        return None
    if isinstance(node, VectorRule):
        return "takes all tensors as one vector"
    if not node.children():
        if not node.is_per_tensor():
            return "takes whole trees"
        if node.takes_examples():
            return "takes one gradient for each example, which `backward` does not make"
        if extra := sorted(node.extra_names() or ()):
            return f"takes `{extra[0]}`, an argument of `step`"
    elif node.needs_closure and not any(x.needs_closure for x in node.children().values()):
        return "evaluates the loss again"
    if getattr(node, "measures_tree", False):
        return SUMS
    if isinstance(node, TensorRule) and node.concludes and node.memory_per == "tree":
        return "concludes for all tensors together"
    return None


def _hook(of: "weakref.ref[Any]", p: Tensor) -> None:
    opt = of()
    if opt is not None and opt._in_backward is not None:
        opt._in_backward.arrived(opt, p)


def _remove_all(hooks: dict[Tensor, Any]) -> None:
    for hook in hooks.values():
        hook.remove()
    hooks.clear()


def _said_taken(who: str, p: Tensor) -> str:
    return (
        f"`{who}.step_in_backward`: another hook has dropped the gradient of a parameter of shape "
        f"{tuple(p.shape)}, such as that of another optimizer that steps in `backward`. A "
        "parameter can be stepped there by one only: call `remove()` of the handle of the other."
    )


def _said_twice(who: str, own: OwnStep) -> str:
    which = own.names[0] or f"of shape {tuple(own.p.shape)}"
    return (
        f"`{who}.step_in_backward`: parameter {which} got a second gradient since the last "
        "`step()`, and was stepped with the first. Call `step()` after each `backward()`, also "
        "after one that failed. The losses of one batch are added: `(a + b).backward()`; "
        "micro-batches are for `accumulate(tx, steps)`; a checkpoint of a tied weight needs "
        "`use_reentrant=False`."
    )


def _check_scaler(opt: Any) -> None:
    """Refuses a step by a `GradScaler`, whose scale was in the gradients."""
    if any(key in vars(opt) for key in AMP):
        for key in AMP:
            vars(opt).pop(key, None)
        raise ModeError(
            f"`{type(opt).__name__}.step_in_backward`: a `GradScaler` unscales gradients after "
            "`backward`, in which they were used already, scaled. Use bfloat16, which needs none, "
            "or a constant scale: `(1024.0 * loss).backward()` and "
            "`chain(scale(1 / 1024.0), tx)`."
        )
