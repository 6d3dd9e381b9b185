"""Writing the metrics of an optimizer as it steps."""

import weakref
from typing import Any

from .._core import checks
from ..errors import ModeError
from ._metrics import PER, Per
from ._norms import Copies, before_step
from ._pending import Pending
from ._window import Progress, advanced, expected, progress_of, window_of
from ._writers import writer_of


class Recorder:
    """Records the norms of every update whose number is divisible by `every`, until `remove`.

    How many have been made goes on with the state: also after a checkpoint was loaded. The calls of
    `step` that only accumulate gradients are none.
    """

    def __init__(self, opt: Any, who: str, every: int, norms: bool = True) -> None:
        checks.whole_number(f"{type(opt).__name__}.{who}", "every", every, least=1)
        if norms and getattr(opt, "_in_backward", None) is not None:
            raise ModeError(_without_gradients(f"{type(opt).__name__}.{who}"))
        self._every, self.records_norms = every, norms
        self._window = window_of(opt.tx)
        self._progress: Progress | None = None  # found when it is needed: a state may be loaded
        self._copies: Copies | None = None
        self._handles = [
            opt.register_step_pre_hook(self._before),
            opt.register_step_post_hook(self._after),
            opt.register_load_state_dict_post_hook(self._forget),
        ]

    def remove(self) -> None:
        """Ends it."""
        for handle in self._handles:
            handle.remove()

    def _before(self, opt: Any, args: Any, kwargs: Any) -> None:
        if not opt._watched:
            return
        if self._progress is None:
            self._progress = progress_of(opt.state, self._window)
        due = expected(self._progress, self._window).is_due(self._every)
        of = (opt.param_groups, opt.state, self._window)
        self._copies = before_step(*of) if due and self.records_norms else None

    def _after(self, opt: Any, args: Any, kwargs: Any) -> None:
        if not opt._watched:
            return
        before = self._progress
        if before is None:  # a hook has loaded another state since
            self._progress = progress_of(opt.state, self._window)
        else:
            self._progress = advanced(before, opt.state, self._window)
        copies, self._copies = self._copies, None
        if self._progress != before and self._progress.is_due(self._every):
            if copies is not None:
                opt._record_norms_since(copies)
            self._due(opt, self._progress.updates)

    def _due(self, opt: Any, step: int) -> None: ...

    def _forget(self, opt: Any) -> None:
        self._progress = None


def check_no_norms(who: str, opt: Any) -> None:
    """Refuses steps in `backward` where norms are recorded.

    Raises:
        ModeError: If they are.
    """
    hooks = (getattr(hook, "__self__", None) for hook in opt._optimizer_step_pre_hooks.values())
    if any(isinstance(hook, Recorder) and hook.records_norms for hook in hooks):
        raise ModeError(_without_gradients(who))


def _without_gradients(who: str) -> str:
    return (
        f"`{who}`: norms are recorded in `step()`, and with `step_in_backward()` the gradients are "
        "freed before. Record none: `log_to(writer, norms=False)`, and no `record_norms()`."
    )


class Log(Recorder):
    """What `Optimizer.log_to` returns: writes metrics until it is closed, or with the process.

        log = opt.log_to("log.csv", every=10)
        ...
        log.close()

    Numbers on a GPU are written a little later than they are made, as nothing waits for them:
    `flush` does.
    """

    def __init__(
        self, opt: Any, writer: Any, every: int, per: Per | None, norms: bool, prefix: str
    ) -> None:
        who = f"{type(opt).__name__}.log_to"
        checks.choice(who, "per", per, PER)
        checks.switch(who, "norms", norms)
        pending = Pending(writer_of(who, writer))
        super().__init__(opt, "log_to", every, norms)
        self._pending, self._per, self._prefix = pending, per, prefix
        self._finalizer = weakref.finalize(opt, pending.flush)

    def _due(self, opt: Any, step: int) -> None:
        found = opt.metrics(self._per)
        self._pending.add({self._prefix + key: value for key, value in found.items()}, step)

    def _after(self, opt: Any, args: Any, kwargs: Any) -> None:
        super()._after(opt, args, kwargs)
        self._pending.write_arrived()

    def flush(self) -> None:
        """Writes what has not been written, and waits for it where it is on its way."""
        self._pending.flush()

    def close(self) -> None:
        """Writes what has not been written, and ends it."""
        self.remove()
        self._finalizer()
