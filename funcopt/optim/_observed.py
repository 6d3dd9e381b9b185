"""Printing, metrics and logging of an optimizer."""

import functools
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .._core.explanation import html_of
from ..engine import Engine
from ._amp import ScalableOptimizer
from ._log import Log, Recorder
from ._metrics import Per, Step, metrics
from ._norms import Copies, Norms, as_metrics, norms_of_step
from ._shown import with_stages
from ._window import Window, window_of


class ObservedOptimizer(ScalableOptimizer):
    """An optimizer that can be printed, measured and logged."""

    _engine: Engine
    _last: Sequence[Step]  # those of the last call
    _norms: tuple[Any, Norms | None] = (None, None)  # of which step, and what was recorded
    _watched = True  # whether steps are recorded and logged

    @functools.cached_property
    def _window(self) -> Window | None:
        return window_of(self.tx)

    def __repr__(self) -> str:
        return with_stages(super().__repr__(), self.tx)

    def _repr_html_(self) -> str:
        return html_of(self)

    @property
    def engine(self) -> str:
        """The engine of the last step: "fused", "compiled", "foreach", "torch" or "eager"."""
        return self._engine.name

    def metrics(self, per: Per | None = None) -> dict[str, Tensor]:
        """The metrics of the last step, such as the norm before clipping, as 0-d tensors.

            {"grad_norm": ..., "clip_factor": ..., "lr/decay": ..., "lr/no_decay": ...}

        A flat dict, whose keys depend on stages and groups, never on values. Where there are
        several parameter groups, the key of a hyperparameter, such as the learning rate, ends in
        the name of its group, or its index; of what several labels of a `partition` have, in the
        label; all else is one number. The first stage that has a quantity owns the bare name, a
        further one is called ``clip_by_global_norm_2/grad_norm``. What has not been measured in
        this step is left out. Where all parameters wait for an `accumulate`, the last step is the
        last update, not a call that only adds up gradients. What is returned stays as it is in
        further steps. No device is synchronized.

        Args:
            per: "step" for one number of each name: norms of parts are added up to that of the
                whole, other numbers are averaged. "group" also for what differs between groups,
                such as ``clip_factor/decay``. "layer" for a number of each parameter, where there
                is one, such as ``grad_norm/fc.weight`` after `record_norms`.

        Raises:
            HyperparameterError: If `per` is none of these.
        """
        said = metrics(type(self).__name__, self._last, self.param_groups, per)
        of, norms = self._norms
        if norms is None or of is not self._last:
            return said
        return {**as_metrics(norms, self.param_groups, per), **said}

    def record_norms(self, every: int = 1) -> Recorder:
        """Adds the norms of gradients, updates and parameters to the metrics of every n-th update.

            opt.record_norms()
            opt.step()
            opt.metrics()["update_norm"], opt.metrics(per="layer")["grad_norm/fc.weight"]

        ``grad_norm``, ``update_norm`` and ``param_norm`` are over all entries, in at least float32;
        the gradient is that in `p.grad` after the step, or where an `accumulate` comes first, what
        that passes on: the mean of the window. The update is what the step has changed. With
        ``per="group"`` and ``per="layer"``, they are those of groups and of parameters too; sharded
        parameters count whole. No device is synchronized. While such a step runs, there is a copy
        of the parameters.

        Args:
            every: Only in updates whose number is divisible by it.

        Returns:
            A handle, whose `remove()` ends it.

        Raises:
            HyperparameterError: If `every` is not a positive whole number.
        """
        return Recorder(self, "record_norms", every)

    def log_to(
        self,
        writer: Any,
        *,
        every: int = 1,
        per: Per | None = None,
        norms: bool = True,
        prefix: str = "",
    ) -> Log:
        """Writes the metrics of every n-th update, from now on.

            opt.log_to("log.csv", every=10)
            opt.log_to(SummaryWriter("runs/1"), every=100, per="layer")

        A step on a GPU does not wait for the numbers: they are written as soon as they have
        arrived. A path of a CSV file is written by the first rank, others on each rank that calls
        this; with sharded parameters and `norms`, all ranks have to.

        Args:
            writer: A path of a CSV file. Or what has `add_scalar`, as TensorBoard's
                `SummaryWriter`; `log_metrics`, as the loggers of Lightning (`self.logger`), MLflow
                and Comet; `log`, as a run of Weights & Biases, or Accelerate; the `Trainer` of
                Transformers; or a function of a dict of numbers and the step.
            every: Only updates whose number is divisible by it. The first one is 1, and it goes on
                where a checkpoint is loaded. With an `accumulate` around the chain, or as a stage
                of it, several calls of `step` make one update, which is one row.
            per: What there is a number of, as in `metrics`.
            norms: Record norms in these steps, as `record_norms` does.
            prefix: What stands in front of each key, such as "optimizer/".

        Returns:
            A `Log`, whose `close()` ends it, and `flush()` waits for what is on its way.

        Raises:
            ArgumentError: If nothing can be written to `writer`.
            HyperparameterError: If `every` is not a positive whole number, or `per` is unknown.
        """
        return Log(self, writer, every, per, norms, prefix)

    def _record_norms_since(self, before: Copies) -> None:
        who = type(self).__name__
        found = norms_of_step(who, before, self.param_groups, self.measure_group)
        self._norms = self._last, found
