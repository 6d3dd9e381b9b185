"""What the chunks of a sweep share: one step, mapped over models."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from .. import tree
from .._core.kinds import check_batches, check_tree, described
from .._core.progress import Silent
from .._core.stack import stack
from ..errors import HyperparameterError, StructureError
from ..training import HyperparamRouting, TrainState
from ._memory import peak_bytes
from ._settings import Setting, columns_of

Chunk = tuple[dict[str, Any], TrainState[Any], Iterator[Any], int | None]
"""Hyperparameters and start of every run, the batches, and the dimension that is mapped over."""


class Job:
    """What the chunks of a sweep share: their step, mapped and perhaps compiled once."""

    def __init__(
        self,
        routing: HyperparamRouting,
        evaluate: Callable[..., Any] | None,
        randomness: str,
        compile: bool,
    ) -> None:
        self.routing, self.evaluate, self.randomness = routing, evaluate, randomness
        self.steps: dict[int | None, Callable[..., Any]] = {}
        for dim in (None, 0):
            step = vmap(self._step, in_dims=(0, 0, dim), randomness=randomness)
            self.steps[dim] = torch.compile(step, fullgraph=True) if compile else step

    def _step(self, values: Mapping[str, Any], state: TrainState[Any], batch: Any) -> Any:
        return self.routing.step(values)(state, batch)

    def chunk(self, runs: Sequence[Setting], params: Any, buffers: Any, batches: Any) -> Chunk:
        seeds = [run.get("seed", 0) for run in runs]
        params, buffers = _starts("params", params, seeds), _starts("buffers", buffers, seeds)
        device = next((x.device for x in tree.leaves(params)), torch.device("cpu"))
        table = columns_of([{k: run[k] for k in run if k in self._names} for run in runs], device)

        def start(values: Mapping[str, Any], params: Any, buffers: Any) -> TrainState[Any]:
            tx = self.routing.step(values).tx
            return TrainState(params, tx.init(params, capturable=True), buffers)

        with torch.no_grad():
            state = vmap(start, randomness=self.randomness)(table, params, buffers)
        # Of its own in every run, and laid out as after a step, so that one graph is enough.
        state = tree.map(lambda x: x.clone(memory_format=torch.contiguous_format), state)
        if callable(batches):
            each = [_batches_of(batches, seed) for seed in seeds]
            return table, state, _stacked(each), 0
        return table, state, iter(batches), None

    @property
    def _names(self) -> frozenset[str]:
        return frozenset(self.routing.tx_names + self.routing.loss_names)

    @torch.no_grad()
    def train(self, chunk: Chunk, bar: Any) -> tuple[Tensor, TrainState[Any], dict[str, Tensor]]:
        """Losses (runs, steps), the end of training, and its scores, for every run."""
        table, state, batches, dim = chunk
        losses, step = [], self.steps[dim]
        for batch in batches:
            state, value = step(table, state, batch)
            losses.append(value)
            bar.update()
        if not losses:
            raise HyperparameterError("`sweep`: there are no batches to train on.")
        return torch.stack(losses, dim=1), state, self._scores(table, state)

    def _scores(self, table: Mapping[str, Any], state: TrainState[Any]) -> dict[str, Tensor]:
        if self.evaluate is None:
            return {}

        def score(values: Mapping[str, Any], state: TrainState[Any]) -> dict[str, Tensor]:
            given = state.evaluated(self.routing.step(values).tx)
            found = self.evaluate(*given)  # type: ignore[misc]  # as looked at above
            scores = found if isinstance(found, dict) else {"score": found}
            for name, one in scores.items():
                if not isinstance(one, Tensor) or one.dim():
                    what = f" as {name!r}" if isinstance(found, dict) else ""
                    raise HyperparameterError(
                        "`sweep`: `evaluate` must return a 0-d tensor, or a dict of them, got"
                        f"{what} {described(one)} Take the mean over the examples."
                    )
            return scores

        return vmap(score, randomness=self.randomness)(table, state)


def first(count: int, values: Any) -> Any:
    return tree.map(lambda x: x[:count], values)


def _batches_of(make: Callable[[int], Any], seed: int) -> Any:
    batches = make(seed)
    check_batches("sweep", batches, "batches(seed)")
    return batches


def _stacked(each: Sequence[Any]) -> Iterator[Any]:
    """The batches of all runs, one step after the other.

    Raises:
        HyperparameterError: If some runs have more than others.
    """
    ended = object()
    for column in itertools.zip_longest(*each, fillvalue=ended):
        if any(x is ended for x in column):
            raise HyperparameterError(
                "`sweep`: `batches(seed)` must return as many batches for every seed; some seeds "
                "have fewer than others."
            )
        with _named("batches(seed)"):
            yield stack(column)


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Says of which results of a function the trees do not fit together."""
    try:
        yield
    except StructureError as error:
        raise StructureError(
            f"`sweep`: what `{what}` returns must have one structure, shapes and dtypes, for every "
            f"seed. In detail, {error}"
        ) from None


def _starts(name: str, start: Any, seeds: Sequence[int]) -> Any:
    """`start` for every run, stacked: the same for all, or what a function makes of their seeds."""
    if not callable(start) or isinstance(start, (type, torch.nn.Module)):
        check_tree("sweep", name, start)
        return tree.map(lambda x: x.detach().expand(len(seeds), *x.shape), start)
    made: dict[int, Any] = {}
    with torch.random.fork_rng(devices=[]):
        for seed in seeds:
            if seed not in made:
                torch.manual_seed(seed)
                mine = start(seed)
                check_tree("sweep", f"{name}(seed)", mine)
                made[seed] = tree.map(Tensor.detach, mine)
    with _named(f"{name}(seed)"):
        return stack([made[seed] for seed in seeds])


def fitting(limit: int, job: Job, runs: Sequence[Setting], trial: Callable[..., Chunk]) -> int:
    """How many models can be trained at once in so many bytes."""
    eager = Job(job.routing, job.evaluate, job.randomness, compile=False)

    def bytes_of(models: int) -> int:
        def run() -> Any:
            table, state, batches, dim = trial(runs[:models])
            return eager.train((table, state, itertools.islice(batches, 2), dim), Silent())

        return peak_bytes(run)

    one, two = bytes_of(1), bytes_of(2)
    each = max(two - one, 1)
    if limit < one:
        raise HyperparameterError(
            f"`sweep`: `memory_limit` is {limit} bytes, but one model takes {one}."
        )
    return 1 + (limit - one) // each
