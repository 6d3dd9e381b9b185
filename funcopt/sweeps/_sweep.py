"""A vectorized sweep: many models trained at once, each with its own hyperparameters."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from functools import partial
from typing import Any, Literal, TypeVar, overload

import torch
from torch import Tensor

from .. import tree
from .._core import checks
from .._core.kinds import check_batches, check_function, described
from .._core.progress import Bar
from .._core.warning import warn
from ..errors import HyperparameterError
from ..training import MakesTx, check_loss, route_hyperparams
from ..typing import Params
from ._job import Job, first, fitting
from ._settings import Setting, settings_of
from ._sweep_result import Sweep

Randomness = Literal["different", "same", "error"]
Evaluate = Callable[..., Tensor | dict[str, Tensor]]
Start = TypeVar("Start", bound=Tensor | Mapping[Any, Any] | Sequence[Any])  # no function


@overload
def sweep(
    loss: Callable[..., Any],
    tx: MakesTx,
    values: Mapping[str, Iterable[Any]] | Sequence[Setting],
    params: Callable[[int], Params],
    batches: Iterable[Any] | Callable[[int], Iterable[Any]],
    *,
    buffers: Any = (),
    seeds: Iterable[int] | None = None,
    evaluate: Evaluate | None = None,
    chunk_size: int | None = None,
    memory_limit: int | None = None,
    compile: bool = False,
    randomness: Randomness = "different",
    progress: bool = True,
) -> Sweep[Params]: ...


@overload
def sweep(
    loss: Callable[..., Any],
    tx: MakesTx,
    values: Mapping[str, Iterable[Any]] | Sequence[Setting],
    params: Start,
    batches: Iterable[Any] | Callable[[int], Iterable[Any]],
    *,
    buffers: Any = (),
    seeds: Iterable[int] | None = None,
    evaluate: Evaluate | None = None,
    chunk_size: int | None = None,
    memory_limit: int | None = None,
    compile: bool = False,
    randomness: Randomness = "different",
    progress: bool = True,
) -> Sweep[Start]: ...


def sweep(
    loss: Callable[..., Any],
    tx: MakesTx,
    values: Mapping[str, Iterable[Any]] | Sequence[Setting],
    params: Any,
    batches: Iterable[Any] | Callable[[int], Iterable[Any]],
    *,
    buffers: Any = (),
    seeds: Iterable[int] | None = None,
    evaluate: Evaluate | None = None,
    chunk_size: int | None = None,
    memory_limit: int | None = None,
    compile: bool = False,
    randomness: Randomness = "different",
    progress: bool = True,
) -> Sweep[Any]:
    """Trains one model for each setting, all of them at once by `torch.func.vmap`.

        result = sweep(loss, adam(), {"lr": torch.logspace(-4, 0, 64)}, params, batches)
        result.plot("lr.png")
        result.best()

    Every run gives what it would give alone, up to rounding. It is fast where one model alone
    leaves the machine idle, as small ones do; see `docs/sweeps.md` for what limits it.

    Args:
        loss: ``loss(params, batch)``, or with `buffers` ``loss(params, buffers, batch)``, as in
            `train_step`.
        tx: A transformation; or a function that makes one of the values, passed by keyword, such as
            ``lambda peak: adamw(cosine_decay_schedule(peak, 100))``.
        values: Lists of values by name, of which every combination is tried (`grid`), or a list of
            settings, such as `sample` returns. A name is that of a hyperparameter of `tx`, as in
            `hyperparams`, or of a keyword-only argument of `loss`.
        params: The initial parameters of all runs; or a function of the seed.
        batches: Those of all runs, in the same order; or a function of the seed that returns an
            iterable of batches, as long for each.
        buffers: As `params`, for what else the loss changes.
        seeds: Every setting is run once for each seed. In the function of `params`, torch's
            generator is seeded with it.
        evaluate: ``evaluate(params)``, or with buffers ``evaluate(params, buffers)``, of each
            trained model: a 0-d tensor, or a dict of them. Averaged parameters are used where `tx`
            keeps an average.
        chunk_size: How many models are trained at once; by default, all.
        memory_limit: How many bytes the tensors of a chunk may take while it trains; trial steps
            with one and with two models find out how many models that is. What the chunks before
            have left comes on top. Of `compile`, nothing is known: it takes less.
        compile: Compile the step, as one graph, for all chunks. It pays after some hundred steps.
        randomness: What random functions such as dropout do in the runs: "different", "same", or
            "error".
        progress: Show a bar, if tqdm is installed, on interactive terminals and in notebooks.

    Warns:
        UserWarning: If the losses of all seeds are the same, since nothing depends on the seed.

    Raises:
        HyperparameterError: If a name is unknown, or a value does not fit; if `batches` is one
            batch; a `memory_limit` that does not even hold one model.
        LeafError: If `params`, or what it returns, is no tree of tensors.
        DerivativeError: If the loss depends on none of the parameters.
    """
    for name, given in (("params", params), ("buffers", buffers), ("batches", batches)):
        if callable(given) and not isinstance(given, (type, torch.nn.Module)):
            check_function("sweep", name, given, f"{name}(seed)", 1)
    if not callable(batches) or isinstance(batches, (type, torch.nn.Module)):
        check_batches("sweep", batches)
    if evaluate is not None:
        call = "evaluate(params)" if buffers == () else "evaluate(params, buffers)"
        check_function("sweep", "evaluate", evaluate, call, 1 if buffers == () else 2)
    checks.choice("sweep", "randomness", randomness, ("different", "same", "error"))
    if chunk_size is not None:
        checks.whole_number("sweep", "chunk_size", chunk_size, least=1)
    if memory_limit is not None:
        checks.whole_number("sweep", "memory_limit", memory_limit, least=1)
    seeds = None if seeds is None else _checked_seeds(seeds)
    runs = [
        row if seed is None else {**row, "seed": seed}
        for row, seed in itertools.product(settings_of(values), [None] if seeds is None else seeds)
    ]
    names = [name for name in runs[0] if name != "seed" or seeds is None]
    job = Job(route_hyperparams("sweep", loss, tx, names), evaluate, randomness, compile)
    check_loss("sweep", loss, buffers != ())
    if chunk_size is None:
        chunk_size = len(runs)
    if memory_limit is not None:
        batches = batches if callable(batches) else list(batches)
        two = (runs * 2)[:2]
        trial = partial(job.chunk, params=params, buffers=buffers, batches=batches)
        chunk_size = min(chunk_size, fitting(memory_limit, job, two, trial))
    chunks = [runs[i : i + chunk_size] for i in range(0, len(runs), chunk_size)]
    if len(chunks) > 1 and not callable(batches):
        batches = list(batches)  # all chunks see the same
    parts = []
    total = len(batches) * len(chunks) if isinstance(batches, Sized) else None
    with Bar(progress, total) as bar:
        for chunk in chunks:
            filled = chunk + chunk[-1:] * (chunk_size - len(chunk))  # one shape, one graph
            part = job.train(job.chunk(filled, params, buffers, batches), bar)
            parts.append(first(len(chunk), part))
    whole = parts[0] if len(parts) == 1 else tree.map(lambda *xs: torch.cat(xs), *parts)
    losses, state, scores = whole
    if seeds is not None and _seeds_are_alike(losses, seeds):
        warn(
            f"`sweep`: all {len(seeds)} seeds have the same losses: nothing depends on the seed. "
            "Pass functions of it, `params=lambda seed: ...` for the initialization or "
            "`batches=lambda seed: ...` for the data, or leave out `seeds`."
        )
    return Sweep(tuple(runs), losses, state, scores)


def _checked_seeds(seeds: Iterable[int]) -> list[int]:
    """The seeds as a list of whole numbers.

    Raises:
        HyperparameterError: If they are something else, or there is none.
    """
    many = not isinstance(seeds, (str, Tensor, Mapping)) or (
        isinstance(seeds, Tensor) and seeds.dim() == 1
    )
    if not many or not hasattr(seeds, "__iter__"):
        raise HyperparameterError(
            f"`sweep`: `seeds` must be an iterable of whole numbers, such as `range(5)`, got "
            f"{described(seeds)}"
        )
    found = seeds.tolist() if isinstance(seeds, Tensor) else list(seeds)
    if not found:
        raise HyperparameterError("`sweep`: `seeds` is empty: leave it out, or pass `range(1)`.")
    for i, seed in enumerate(found):
        checks.whole_number("sweep", f"seeds[{i}]", seed)
    return [int(seed) for seed in found]


def _seeds_are_alike(losses: Tensor, seeds: Sequence[int]) -> bool:
    """Whether the losses of a setting, (runs, steps), are the same for all seeds."""
    if len(set(seeds)) < 2:
        return False
    each = losses.detach().reshape(-1, len(seeds), losses.shape[1])
    return bool(torch.isclose(each, each[:, :1], rtol=1e-6, atol=0.0, equal_nan=True).all())
