"""Train and eval mode of an optimizer: parameters, and averages of them in their place."""

import functools
from contextlib import AbstractContextManager

from torch import Tensor

from .._core.average import averages_in, only_average
from ._averages import TRAIN_MODE, FindAverage, in_training
from ._in_backward import BackwardOptimizer


class AveragingOptimizer(BackwardOptimizer):
    """An optimizer that can put averages in the place of the parameters."""

    def eval(self, which: str | None = None) -> None:
        """Exchanges the parameters for the averaged weights, until `train()`.

            opt.eval()
            validate(model)
            opt.train()

        Where the chain keeps several averages, `which` is the name of one, as in `eval_params`.

        Of a chain without an average, nothing changes, as with a module that knows no modes. What
        is there already stays: to call it twice is to call it once. A step in this mode is an
        error. Checkpoints may be taken and loaded in either mode; they hold it.

        Raises:
            ModeError: If `averaged()` is open, or another average is in place.
            StructureError: If several stages keep an average and none is chosen, or there is none
                of this name.
        """
        self._averages.check_closed("eval")
        find = self._find("eval", which)
        if any(map(in_training, self.param_groups)) and TRAIN_MODE in self.defaults:
            if not self.state:
                self.init_state()  # so that what a loader fills has all that this mode has
            self._averages.to_averages(self.param_groups, self.state, find, which)

    def train(self) -> None:
        """Restores the parameters exactly, for the next step.

        Raises:
            ModeError: If `averaged()` is open, or parameters were evaluated, saved and loaded
                without those that are trained. Nothing is changed.
        """
        self._averages.check_closed("train")
        self._averages.to_training(self.param_groups, self.state, self._any_average)

    def averaged(self, which: str | None = None) -> AbstractContextManager[None]:
        """Within the context, the parameters are the averaged weights, used for evaluation.

            with opt.averaged():
                validate(model)

        The same as `eval()` and `train()`, but they are restored whatever happens, and there has to
        be an average. Inside of `eval()` there is nothing to do, and that mode stays.

        Raises:
            ModeError: If another average is in place.
            StructureError: If no stage keeps an average, several do and none is chosen, or there is
                none of this name.
        """
        self._averages.check_kept(self.defaults, self.tx)
        find = self._find("averaged", which)
        return self._averages.averaged(self.param_groups, self.state, find, which)

    def _find(self, action: str, which: str | None) -> FindAverage:
        """The averages of a name."""
        only_average(f"{type(self).__name__}.{action}", self.tx, which)
        self._averages.check_which(self.param_groups, action, which)
        return functools.partial(self._average, which)

    def _average(self, which: str | None, index: int, name: str | None, p: Tensor) -> Tensor | None:
        return self._store.average(self.param_groups, self.state, index, name, p, which)

    def _any_average(self, index: int, name: str | None, p: Tensor) -> Tensor | None:
        each = (self._average(which, index, name, p) for which in averages_in(self.tx))
        return next((x for x in each if x is not None), None)

    def init_state(self) -> None:
        """Initializes missing state before the first step, so that checkpoints are complete."""
        replace = self.defaults["differentiable"]
        self._store.initialize(self.param_groups, self.state, replace)
