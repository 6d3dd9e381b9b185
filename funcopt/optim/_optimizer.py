"""Any transformation as a `torch.optim.Optimizer`."""

import functools
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from .._core.stage import Node
from .._core.tensor_rule import GradientTransformation, PerTensor
from .._numerics.scalars import number
from ..combinators import labels, unique_keys
from ..engine import Engine, How
from ..errors import (
    ExtraArgumentError,
    HyperparameterError,
    SparseGradientError,
    StructureError,
)
from ._averages import Averaging
from ._checkpoint import FORMAT, as_created, fitted
from ._closure import check_closure, evaluator
from ._default_lr import with_lr
from ._groups import named
from ._layout import clock_dtype
from ._step_plan import Active, Plan
from ._values import same


class Optimizer(Averaging):
    """Steps the parameters by a transformation: any chain, as a torch optimizer.

        opt = Optimizer(model.parameters(), chain(clip_by_global_norm(1.0), adamw(1e-3)))
        loss.backward()
        opt.step()

    The numbers are those of the pure form: `update`, then `apply_updates_`. What differs is torch's
    own convention: a parameter without a gradient is skipped, and its step does not advance.

    Every hyperparameter of the chain, at any depth, stands in `param_groups` under its key in
    `hyperparams`, is read at every step, and may differ between groups: so torch's schedulers work.
    A chain without an `lr` gets ``lr = 1.0`` as a last factor, which schedulers then see as
    relative. A hyperparameter that holds a schedule cannot be set from outside; the group shows the
    value that the next step will use. One pass runs over all groups: a global norm spans them.
    Every label of a `partition` becomes a group of that name, with hyperparameters of its own.

    Each `state[p]` is a flat dict of tensors, named as torch names them, filled at the first step
    that needs it and updated in place.

    Args:
        params: Tensors, named tensors or groups, as for any torch optimizer. Groups may set any
            key. With names, checkpoints are matched by name.
        tx: The transformation; its signs must make it descend.
        maximize: Ascend instead, by negating the gradients first. May differ between groups.
        differentiable: Let autograd follow the steps; parameters must not be leaves then.
        capturable: Keep clocks on the devices of the parameters, for CUDA graphs.
        measure_group: A process group whose ranks hold other parameters of the same model, such as
            `torch.distributed.optim.ZeroRedundancyOptimizer` makes them; sums over tensors then
            span its ranks. Every rank needs a gradient in every branch then, or the others wait
            for it. An attribute too, to be set afterwards.
        engine: How steps are made: "fused", by kernels compiled for this chain; "torch", by a
            kernel of torch where that has one for the chain; "foreach", each operation once for
            all tensors; or "eager", operation by operation, to the bit as the pure form. On a CPU
            "auto" compiles where there is a compiler and the parameters are many or large, else
            takes torch's kernel if there is one; on other devices, that or else "foreach". The
            numbers are the same up to rounding. It is no part of the state.

    Raises:
        HyperparameterError: If a value is out of range, or groups differ in more than numbers.
        LabelError: If a parameter has no label, or a pattern fits no parameter.
    """

    def __init__(
        self,
        params: Iterable[Any],
        tx: GradientTransformation,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        measure_group: Any = None,
        engine: How = "auto",
    ) -> None:
        self._how = engine
        if measure_group is not None:
            self.measure_group = measure_group
        if not isinstance(tx, GradientTransformation):
            raise HyperparameterError(
                f"`Optimizer`: `tx` must be a transformation such as `adamw(1e-3)`, got {tx!r}."
            )
        if tx.sign() == 1:
            warnings.warn(
                f"{tx!r} turns the sign never, or twice, so its steps ascend: one "
                "`scale_by_learning_rate(lr)` at the end turns it. (Aliases such as `adamw` have "
                "one.)",
                stacklevel=2,
            )
        more = {"maximize": maximize, "differentiable": differentiable}
        if capturable:
            more["capturable"] = True
        self._set_up(params, with_lr(tx), more)

    _how: How = "auto"

    @property
    def engine(self) -> str:
        """What has made the last step: "fused", "foreach", "torch" or "eager"."""
        return self._engine.name

    def _forget(self) -> None:
        super()._forget()
        self._last: Node | None = None  # of the last step, for metrics
        self._last_groups: list[int] = []
        self._plan: Plan | None = None
        self._engine = Engine(self._how)

    # Stepping.

    def step(self, closure: Callable[[], Any] | None = None, **extra: Any) -> Any:
        """Takes one step.

        Args:
            closure: Computes the loss and its gradients anew, with gradients enabled; the value of
                its first call is returned. A stage that asks for ``value`` gets that. It is called
                once, except by transformations that evaluate the loss themselves
                (`needs_closure`): these move the parameters, and call it again.
            **extra: Extra arguments of the transformation's `update`.

        Raises:
            SparseGradientError: If a gradient is sparse. Nothing is changed.
            HyperparameterError: If a value in `param_groups` is out of range, or was set although
                it follows a schedule. Nothing is changed.
            ExtraArgumentError: If no stage knows an extra argument, or one is missing, or the
                closure. Nothing is changed.
            ModeError: In eval mode: averages stand in for the parameters.
        """
        self._check_mode("step")
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
            if "value" in (self.tx.extra_names() or ()):
                extra.setdefault("value", loss)
        from .._numerics import dynamo  # at the first step: it is slow to import

        with torch.set_grad_enabled(self.defaults["differentiable"]):
            dynamo.outside_graphs(self._step_impl, extra, closure, loss)
        return loss

    def _step_impl(self, extra: Mapping[str, Any], closure: Any, value: Any) -> None:
        if not self.state and self._is_probe():
            return self.init_state()
        check_closure(self, extra, closure)
        self._check_measures()
        updates = self._updates()
        if updates is not None:
            self._check_shown()
        plan = self._planned()
        if plan is None:
            return None
        try:
            tx, node = self._transformed(plan, updates, extra, closure, value)
        finally:
            plan.release()
        memories = tx.memory_after(node) if plan.remembers else [()] * len(plan.buckets)
        after = None if updates is None else updates + 1
        if plan is self._plan:
            plan.advance(memories, after)
        else:
            self._begin(plan, memories, after)
        for index in range(len(self.param_groups)) if after is not None else ():
            self._show(index, after)
        self._last, self._last_groups = node, [index for index, _ in plan.buckets]
        return None

    def _transformed(
        self, plan: Plan, updates: Tensor | None, extra: Mapping[str, Any], closure: Any, value: Any
    ) -> tuple[PerTensor, Node]:
        """Makes the step of the parameters and their slots, if all that is given fits."""
        rows = plan.rows(self, updates)
        tx: PerTensor = rows[0].tx
        tx.check_extra(extra)
        if extra and (shaped := sorted(tx.tensor_extra_names().intersection(extra))):
            raise ExtraArgumentError(
                f"`{type(self).__name__}.step`: {shaped} are trees like the parameters, which only "
                "the pure form takes: `tx.update(updates, state, params, ...)`."
            )
        if self.defaults["differentiable"]:
            return tx, self._followed(plan, rows, extra)
        work = plan.work(self, rows, extra)
        if plan.evaluates:
            work = work._replace(evaluate=evaluator(self, closure, value, work))
        return tx, self._engine.step(work)

    def _planned(self) -> Plan | None:
        """The plan of this step; `None` if no parameter has a gradient."""
        plan, self._plan = self._plan, None
        if plan is not None and plan.still_holds(self):
            self._plan = plan
            return plan
        active = self._active()
        if not active:
            return None
        gs = [g for one in active if (g := self._gradient(one.p)) is not None]
        plan = Plan(self, active, gs)
        anew = self.defaults["differentiable"] or self.tx.takes_examples()  # in every step
        if plan.known and not anew:
            self._plan = plan
        return plan

    def _active(self) -> list[Active]:
        """The parameters that have a gradient, each once, with all that their update needs."""
        found: dict[Tensor, Active] = {}
        common = functools.cache(self._common)  # looked for once, if at all
        for index, group in enumerate(self.param_groups):
            grads = [self._gradient(p) for p in group["params"]]
            made = self._group(index) if any(g is not None for g in grads) else None
            for j, (name, p) in enumerate(named(group)):
                g = grads[j]
                if g is None or p in found or made is None:
                    continue
                if g.layout is not torch.strided:
                    raise SparseGradientError(
                        f"`{type(self).__name__}` does not support sparse gradients, and that of "
                        f"parameter `{name or f'{index}.{j}'}` is: build the embedding with "
                        "`sparse=False`."
                    )
                found[p] = self._entry(index, name, p, made, common)
        return list(found.values())

    def _gradient(self, p: Tensor) -> Tensor | None:
        """The gradient of a parameter; the gradients of all examples, if the chain takes those."""
        if not self.tx.takes_examples():
            return p.grad
        examples = getattr(p, "grad_sample", None)
        if isinstance(examples, Tensor) or (examples is None and p.grad is None):
            return examples
        raise StructureError(
            f"`{type(self).__name__}`: {self.tx!r} takes one gradient for each example, in "
            "`p.grad_sample`, a tensor of shape (examples, *p.shape); there is "
            f"{'only `p.grad`' if examples is None else type(examples).__name__}. "
            "`torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))` makes such."
        )

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops the gradients; those of single examples too, if the chain takes those."""
        super().zero_grad(set_to_none)
        if self.tx.takes_examples():
            for group in self.param_groups:
                for p in group["params"]:
                    p.grad_sample = None

    def _is_probe(self) -> bool:
        """Whether this is the step by which `torch.distributed.checkpoint` asks for the state."""
        rates = [number(group["lr"]) for group in self.param_groups if "lr" in group]
        if any(isinstance(rate, Tensor) or rate != 0 for rate in rates):  # its zeros can be seen
            return False
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        return any(g is not None for g in grads) and not any(
            bool(g.any()) for g in grads if g is not None
        )

    # Looking on.

    def metrics(self) -> dict[str, Any]:
        """What the stages say of the last step, such as the norm before clipping, as tensors.

        Keys are those of hyperparameters: the first stage owns the bare name. Where groups differ,
        the value is a list with one entry for each group that took part. Nothing is computed, and
        no device synchronised, before a value is read.
        """
        if self._last is None:
            return {}
        found = self._made[self._last_groups[0]].tx.nodes(self._last)
        pairs, values = [], []
        for label, (stage, node) in zip(labels(s for s, _ in found), found, strict=True):
            for name in stage.metrics:
                rows = [torch.as_tensor(row[name]) for row in node.rows if name in row]
                if rows:  # else the stage has not run in this step
                    pairs.append((label, name))
                    values.append(rows[0] if _all_one(node.rows, name) else rows)
        return dict(zip(unique_keys(pairs), values, strict=True))

    # Saving and loading.

    def state_dict(self) -> dict[str, Any]:
        """The state, as torch has it: a dict of tensors for every parameter, and the groups."""
        saved = super().state_dict()
        for key, stored in saved["state"].items():
            if isinstance(stored, dict):
                saved["state"][key] = {k: _apart(v) for k, v in stored.items()}
        saved[FORMAT] = 1
        return saved

    def load_state_dict(self, state_dict: dict[str, Any], strict: bool = True) -> None:
        """Loads what `state_dict` returned, here or by the torch class of the same algorithm.

        Where both sides have the names of the parameters, they are matched by name, in any order;
        else by position. Every tensor gets the dtype that it would have been created in.

        Args:
            state_dict: The state to load; it is copied.
            strict: Whether a parameter that is missing, unknown or of another shape is an error.
                Else it starts afresh, or is left out.

        Raises:
            StructureError: Listing all that does not fit. Nothing is changed.
            ModeError: Inside `averaged()`.
        """
        self._check_closed("load_state_dict")
        remembered: list[Any] = []

        def remember(_: Any, found: dict[str, Any]) -> dict[str, Any]:
            fitting = fitted(self, self._templates, found, strict)
            remembered.append(fitting)
            return fitting

        handle = self.register_load_state_dict_pre_hook(remember)
        self._loading = remembered
        try:
            super().load_state_dict(state_dict)
        finally:
            del self._loading
            handle.remove()

    def __getstate__(self) -> dict[str, Any]:
        kept = ("tx", "_partial", "_complete", "_schedules", "_shown", "_how")
        mine = {key: self.__dict__[key] for key in kept if key in self.__dict__}
        return {**super().__getstate__(), **mine}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forget()
        for group in self.param_groups:
            own = self._defaults(next(named(group), None))
            elsewhere = self._elsewhere(own)
            for key, value in {**self.defaults, **own}.items():
                if key not in elsewhere:
                    group.setdefault(key, value)
        if "_loading" in self.__dict__:
            self._take_over(self._loading[-1])

    def _take_over(self, loaded: dict[str, Any]) -> None:
        """Replaces what the base class has cast to the parameters' dtypes by what was saved."""
        for group, schedules, shown in zip(
            self.param_groups, self._schedules, self._shown, strict=True
        ):
            shown.update({key: group[key] for key in schedules})
        found: dict[Tensor, dict[str, Any]] = {}
        for index, (mine, saved) in enumerate(
            zip(self.param_groups, loaded["param_groups"], strict=True)
        ):
            for (name, p), place in zip(named(mine), saved["params"], strict=True):
                stored = loaded["state"].get(place)
                if isinstance(stored, dict) and stored:
                    templates = self._templates(index, name, p)
                    found[p] = as_created(templates, stored, p, mine, clock_dtype())
        self._pack([({}, new) for new in found.values()])
        for p, new in found.items():
            self.state[p].update(new)


def _apart(value: Any) -> Any:
    """A number that may be part of a vector, as one of its own."""
    return value.clone() if isinstance(value, Tensor) and value.dim() == 0 else value


def _all_one(rows: list[dict[str, Any]], name: str) -> bool:
    return all(same(row.get(name), rows[0].get(name)) for row in rows)
