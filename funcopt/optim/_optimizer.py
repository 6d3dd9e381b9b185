"""Any transformation as a `torch.optim.Optimizer`.

How a step runs. Each part is a file of its own, which gets groups and state passed in; no part
knows the optimizer.

1. `_hooks`: hooks and profilers are called, if there are any.
2. `step` evaluates the closure, if there is one.
3. `_groups` makes a transformation of the values that stand in each of `param_groups`
   (`_factory`: by putting them into the chain, or by calling the function of a class).
4. `_active` finds the parameters that have a gradient, and their slots in `state` (`_state`,
   `_state_layout`): what is missing begins here.
5. `_step_plan` sorts them into buckets, one for each group and number of steps made. As long as
   nothing that it relies on has changed, which is checked in every step, a plan stands for 4 and 5.
6. The engine runs the transformation over all buckets, and writes parameters and slots in place
   (`_differentiable`, where autograd follows; `_offload`, where it has copies on the host).
7. The plan writes clocks and shared scalars, those of all parameters at once (`_clocks`); what has
   begun is put into `state`. `_scheduled` writes into groups what schedules say of the next step.
8. After a few steps by one plan, a `_ready_step` stands for 3 to 7, as long as it finds nothing
   that is other than before. Of values that a scheduler sets, `_passed_values` knows enough.

Around steps: `_observed` measures and logs them, `_in_backward` makes them inside of `backward`,
`_averages` exchanges parameters for averages, `_checkpoint` matches what is loaded with what is
here, `_reshape` takes the state along when parameters change.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, overload

import torch
from torch import Tensor

from .._core.stage import Node
from .._core.tensor_rule import GradientTransformation, PerTensor
from .._hints.calls import explained, name_caller
from .._numerics.autocast import outside_contexts
from .._numerics.followed import outside_graphs
from ..combinators import Rounding, rounded, walk
from ..engine import Engine, EngineOption
from ..typing import ParamsT
from . import _hooks, _reshape
from ._amp import Scaling, step_made
from ._averages import TRAIN_MODE, Averages
from ._capture import check_capture
from ._checkpoint import Checkpoint, as_saved, checked
from ._clocks import counted
from ._closure import call, check_closure, check_no_function, evaluator
from ._differentiable import differentiable_step
from ._extra_trees import with_trees, without_trees
from ._factory import Factory, chain_factory
from ._given import as_list, check_group, check_no_leaves, check_switches
from ._gradients import drop_examples, is_probe
from ._groups import ParameterGroups
from ._metrics import Step
from ._modes import AveragingOptimizer
from ._offload import Offload
from ._options import How, Options
from ._partial import check_sums, sees_all
from ._ready_step import ReadyStep, is_time_for, ready_step
from ._scheduled import ScheduledValues
from ._state import StateStore, pack_again
from ._step_plan import Plan, StepPlan, plan_step
from ._window import waits

Loss = TypeVar("Loss")


class Optimizer(AveragingOptimizer):
    """A `torch.optim.Optimizer` around any transformation, such as a chain.

        opt = Optimizer(model.parameters(), chain(clip_by_global_norm(1.0), adamw(1e-3)))
        loss.backward()
        opt.step()

    The results are those of the pure form: `update`, then `apply_updates_`. What differs is torch's
    own convention: a parameter without a gradient is skipped, and its step does not advance.

    Every hyperparameter of the chain, at any depth, is in `param_groups` under its key in
    `hyperparams`, is read at every step, and may differ between groups: so torch's schedulers work.
    A chain without an `lr` gets ``lr = 1.0`` as a last factor, which schedulers then see as
    relative. A hyperparameter that holds a schedule cannot be set from outside; the group shows the
    value that the next step will use. One pass runs over all groups: a global norm spans them.
    Every label of a `partition` becomes a group of that name, with hyperparameters of its own.

    Each `state[p]` is a flat dict of tensors, named as torch names them, filled at the first step
    that needs it and updated in place.

    Args:
        params: Tensors, named tensors or parameter groups, as in torch. Groups may set any key.
            With names, checkpoints are matched by name.
        tx: The transformation. It has to negate the updates, as `scale_by_learning_rate` does.
        maximize: Maximize the loss, by negating the gradients first. May differ between groups.
        differentiable: Let autograd follow the steps; parameters must not be leaves then.
        capturable: Keep step counts on the devices of parameters, for CUDA graphs and scalers.
        measure_group: A process group whose ranks hold other parameters of the same model, such as
            stages of a pipeline; sums over tensors then span its ranks, also those that have no
            gradient. Or a function of name and parameter that returns one, or None: for experts
            beside dense weights. An attribute too, to be set afterwards.
        rounding: How parameters in 16 bits are written: "nearest", "stochastic", "kahan",
            "remainder8", "remainder" or "master"; all but the first are `rounded` around `tx`.
        offload: Keep the state on the CPU, and make the steps there, where the parameters are on a
            device. These and the gradients are copied for each step. Not in checkpoints either.
        engine: How steps are made: "fused", in one pass over memory for each sum over tensors,
            plus one; "compiled", the same by machine code for this chain, which takes seconds to
            compile; "torch", by a kernel of torch where that has one for the chain; "foreach",
            each operation once for all tensors; or "eager", operation by operation, exactly as
            under `pure_engine("eager")`. "auto" is "fused" on a CPU with a C++ compiler;
            elsewhere "torch", "fused" (by Triton) or "foreach", in this order. Results are equal
            up to rounding. Not in checkpoints.

    Raises:
        HyperparameterError: If a value is out of range, or groups differ in structure.
        LabelError: If a parameter has no label, or a pattern fits no parameter.
    """

    @explained
    def __init__(
        self,
        params: ParamsT,
        tx: GradientTransformation,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        measure_group: Any = None,
        rounding: Rounding = "nearest",
        offload: bool = False,
        engine: EngineOption = "auto",
    ) -> None:
        if rounding != "nearest" and isinstance(tx, GradientTransformation):  # else it is refused
            tx = rounded(tx, rounding)
        if measure_group is not None:
            self.measure_group = measure_group
        factory = chain_factory(tx)
        defaults = factory.hyperparameters()
        defaults.update(maximize=maximize, differentiable=differentiable)
        if capturable:
            defaults["capturable"] = True
        self._set_up(params, factory, defaults, How(offload, engine))

    def _set_up(self, params: ParamsT, factory: Factory, defaults: Options, how: How) -> None:
        """Makes the parts, and adds the parameters, in whichever way the class is constructed."""
        who = type(self).__name__
        check_switches(who, defaults)
        self.tx = factory.tx
        self._groups = ParameterGroups(factory, who)
        self._store = StateStore(self._groups, Offload(how.offload, who, defaults))
        self._scheduled = ScheduledValues(self._groups, self._store, who)
        self._averages = Averages(who)
        self._how = how
        self._sees_all = sees_all(who, self.tx)
        self._constructed = False
        self._forget()
        if any(getattr(node, "averages", False) for _, node in walk(self.tx)):
            defaults[TRAIN_MODE] = True
        super().__init__(as_list(who, params), defaults)
        self._groups.settle(self.param_groups, self.defaults)
        self._constructed = True

    def _forget(self) -> None:
        """Drops what can be made again."""
        self._groups.forget()
        self._store.forget()
        self._plan: StepPlan | None = None
        self._ready: ReadyStep | None = None
        self._repeated = 0  # how many steps were made by the plan, without anything else
        self._patience = 1  # how many of them come before a ready step, at least
        self._engine = Engine(self._how.engine)
        self._last = ()

    # Stepping.

    profile_hook_step = staticmethod(_hooks.profile_hook_step)

    @overload
    def step(self, closure: None = None, **extra: Any) -> None: ...

    @overload
    def step(self, closure: Callable[[], Loss], **extra: Any) -> Loss: ...

    def step(self, closure: Callable[[], Any] | None = None, **extra: Any) -> Any:
        """Takes one step.

        Args:
            closure: Computes the loss and its gradients again, with gradients enabled; the value of
                its first call is returned. A stage that asks for ``value`` gets that. It is called
                once, except by transformations that evaluate the loss themselves
                (`needs_closure`): these move the parameters, and call it again.
            **extra: Extra arguments of the transformation's `update`. One that has a tensor for
                each parameter is a dict of them, by name or by parameter.

        Raises:
            SparseGradientError: If a gradient is sparse. Nothing is changed.
            HyperparameterError: If a value in `param_groups` is out of range, or was set although
                it follows a schedule. Nothing is changed.
            ExtraArgumentError: If no stage takes an extra argument, or one is missing, or the
                closure. Nothing is changed.
            ModeError: In eval mode, in which the parameters are averages.
        """
        self._averages.check_training(self.param_groups, "step")
        loss = None if closure is None else call(closure)
        if closure is not None and "value" in (self.tx.extra_names() or ()):
            extra.setdefault("value", loss)
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            outside_graphs(self._step_impl, extra, loss, closure=closure)
        return loss

    @functools.partial(outside_contexts, evaluated="closure")
    def _step_impl(self, extra: Options, loss: Any, *, closure: Any) -> None:
        param_groups, state = self.param_groups, self.state
        if self._ready is not None and self._made_ready(self._ready, extra):
            return None
        if not state and is_probe():
            return self.init_state()
        self._check_step(extra, closure)
        if self._in_backward is not None:
            return self._in_backward.finish(self, extra)
        updates, scaling = self._store.updates(param_groups, state), self._scaling()
        if updates is not None:
            self._scheduled.check(param_groups, state)
        before, plan = self._plan, self._planned()
        if plan is None:
            return None
        try:
            tx, node = self._run(plan, updates, extra, closure, loss, scaling)
        finally:
            plan.release()
        memories = tx.memory_after(node) if plan.has_memory else [()] * len(plan.firsts)
        made = 1 if scaling is None else scaling.updates()
        after = None if updates is None or not plan.counts else counted(updates, made)
        if isinstance(plan, StepPlan) and plan is self._plan:
            plan.advance(memories, after, made)
        else:
            replace = self.defaults["differentiable"]
            plan.commit(param_groups, state, self._store, memories, after, made, replace)
        if after is not None:
            for index in range(len(param_groups)):
                self._scheduled.show(param_groups, state, index, after)
        node.release()  # the loss has all gradients
        if self._window is None or not waits(self.state):
            own = node if self._window is None else node.copied()  # which ready steps write
            self._last = (step_made(tx, own, plan.group_of, scaling),)
        repeated = plan is before and not extra and scaling is None
        self._repeated = self._repeated + 1 if repeated else 0
        due = is_time_for(self._repeated, self._patience)
        if self._plan is not None and due and self._may_be_ready():
            of = param_groups, state, self.measure_group, self._scheduled, after
            self._ready = ready_step(self._plan, self._engine, node, *of)
        return None

    def _may_be_ready(self) -> bool:
        """Whether a step is no more than what a plan knows of."""
        return self._sees_all and not self._needs_closure and not self._how.offload

    def _made_ready(self, ready: ReadyStep, extra: Options) -> bool:
        """Makes the step, if it is like the one before."""
        made = None
        try:
            other = extra or self._in_backward is not None or self._scaling() is not None
            if not other and not self.defaults["differentiable"]:
                made = ready.make(self.param_groups, self.state, self.measure_group)
        finally:
            if made is None:
                ready.close()
                self._ready, self._repeated = None, 0
                self._patience = 1 if ready.has_paid else 2 * self._patience
        if made is not None and (self._window is None or not waits(self.state)):
            tx, node = made
            own = node if self._window is None else node.copied()  # which steps to come write
            self._last = (Step(tx, own, ready.plan.group_of),)
        return made is not None

    def _check_step(self, extra: Options, closure: Any) -> None:
        who = type(self).__name__
        if extra:
            check_no_function(who, extra)
        if self._needs_closure:
            differentiable = self.defaults["differentiable"]
            check_closure(who, self.tx, self.param_groups, differentiable, closure)
        if not self._sees_all and self.measure_group is None:
            check_sums(who, self.tx)

    def _planned(self) -> Plan | None:
        """The plan of this step; `None` if there is nothing to do."""
        kept, self._plan = self._plan, None
        if kept is not None and kept.holds(self.param_groups, self.state):
            self._plan = kept
            return kept
        parts = self.param_groups, self.state, self._groups, self._store
        plan = plan_step(*parts, self.measure_group)
        anew = self.defaults["differentiable"] or self.tx.takes_examples()  # in every step
        if isinstance(plan, StepPlan) and plan.lasting and not anew:
            self._plan = plan
        return plan

    def _run(
        self,
        plan: Plan,
        updates: Tensor | None,
        extra: Options,
        closure: Any,
        loss: Any,
        scaling: Scaling | None,
    ) -> tuple[PerTensor, Node]:
        """Makes the step of the parameters and their slots, if all that is given fits."""
        buckets = plan.buckets(updates)
        tx: PerTensor = buckets[0].tx
        tx.check_extra(extra)
        if not self.defaults["differentiable"]:  # else metrics and memory would keep graphs
            extra = {k: x.detach() if isinstance(x, Tensor) else x for k, x in extra.items()}
        extra, trees = without_trees(tx, extra) if extra else (extra, extra)
        inputs = plan.inputs(self.param_groups, buckets, extra, self.measure_group)
        if trees:
            detach = not self.defaults["differentiable"]
            inputs = with_trees(type(self).__name__, inputs, trees, self.param_groups, detach)
        if scaling is not None:
            tx, inputs = scaling.around(inputs)
        if plan.device is not None:
            check_capture(type(self).__name__, plan.device, buckets)
        if self.defaults["differentiable"]:
            check_no_leaves(type(self).__name__, self.param_groups)
            node, plan.slots = differentiable_step(inputs)
            return tx, node
        if self._needs_closure:
            evaluate = evaluator(type(self).__name__, self.param_groups, closure, loss, inputs)
            inputs = inputs._replace(evaluate=evaluate)
        return tx, self._store.offload.stepped(inputs, self._engine.step)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops the gradients; those of single examples too, if the chain takes those."""
        super().zero_grad(set_to_none)
        if self.tx.takes_examples():
            drop_examples(self.param_groups)

    # Adding, removing and resizing parameters.

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a parameter group; with a `partition`, one for every label that occurs in it."""
        count, who = len(self.param_groups), type(self).__name__
        differentiable = bool(self.defaults.get("differentiable"))
        adding = check_group(who, param_group, self.param_groups, differentiable)
        self._groups.factory.check_group(param_group)
        self._store.offload.check(param_group)
        try:
            for group in self._groups.split(param_group):
                foreign = self._groups.begin(group)
                with adding:
                    super().add_param_group(group)
                for key in foreign:
                    group.pop(key, None)
                updates = self._store.updates(self.param_groups, self.state)
                index = len(self.param_groups) - 1
                self._scheduled.show(self.param_groups, self.state, index, updates)
                self._groups.transformation(self.param_groups, index)  # its values are checked
            self._groups.refresh(self.param_groups, count)
            if self._constructed:
                self._groups.settle(self.param_groups, self.defaults)
        except BaseException as error:  # a failed call changes nothing
            del self.param_groups[count:]
            self._groups.truncate(count)
            self._scheduled.truncate(count)
            self._forget()
            name_caller(error, who, param_group)
            raise

    def drop(self, which: str | Tensor) -> None:
        """Removes a parameter, given by name or as a tensor, and its optimizer state.

        Raises:
            StructureError: If there is no such parameter.
        """
        self._check_between("drop")
        _reshape.drop(self.param_groups, self.state, self._groups, which)
        self._forget()

    def resize(self, which: str | Tensor, new: Tensor, index_map: Tensor, *, dim: int = 0) -> None:
        """Replaces a parameter by `new`, and its optimizer state with it.

            opt.resize("fc.weight", new_weight, index_map=torch.tensor([0, 2, -1]))

        Row i of every slot becomes row ``index_map[i]`` of the old one, exactly, or is initialized
        where that is negative. Slots without that dimension stay, if they have the shape that they
        should, and else are initialized; step counts go on.

        Args:
            which: The old parameter, by name or as a tensor.
            new: The new parameter.
            index_map: For every row of `new`, the row of the old parameter that it was, or -1.
            dim: The dimension that the rows are counted along.

        Raises:
            StructureError: If there is no such parameter, or the map does not fit; nothing changes.
        """
        self._check_between("resize")
        _reshape.resize(self.param_groups, self.state, self._store, which, new, index_map, dim)
        self._forget()

    # State, saving and loading.

    def state_dict(self) -> dict[str, Any]:
        """The state, as torch has it: a dict of tensors for every parameter, and the groups."""
        keys = self._store.complete(self.param_groups, self.state)
        return as_saved(super().state_dict(), keys)

    def load_state_dict(self, state_dict: dict[str, Any], strict: bool = True) -> None:
        """Loads what `state_dict` returned, here or by the torch class of the same algorithm.

        Where both sides have the names of the parameters, they are matched by name, in any order;
        else by position. Every tensor gets the dtype that it would have been created in.

        Args:
            state_dict: The state to load; it is copied.
            strict: Whether an entry that is missing, unknown or of another shape is an error. Else
                slots that fit are loaded, others initialized or left out, with a warning.

        Raises:
            StructureError: Listing all that does not fit. Nothing is changed.
            ModeError: Inside `averaged()`.
        """
        self._averages.check_closed("load_state_dict")
        found: list[Checkpoint] = []

        def check(_: Any, saved: Options) -> Options:
            found.append(checked(self._store, self.param_groups, self.defaults, saved, strict))
            return found[-1].saved

        def finish(_: Any) -> None:
            self._scheduled.accept(self.param_groups)
            self.state.update(found[-1].state)

        with _hooks.around_loading(self, check, finish):
            super().load_state_dict(state_dict)

    def __getstate__(self) -> dict[str, Any]:
        parts = ("tx", "_groups", "_store", "_scheduled", "_averages")
        facts = ("_how", "_sees_all", "_constructed")
        own = {key: self.__dict__[key] for key in (*parts, *facts)}
        return {**super().__getstate__(), **own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forget()
        pack_again(self.state)
        for group in self.param_groups:
            self._groups.complete(group, self.defaults)
