"""The result of a sweep."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple

import torch
from torch import Tensor

from .. import tree
from .._core.explanation import Row, Table
from .._core.extras import needed, saved
from ..errors import HyperparameterError
from ..training import TrainState
from ..typing import Params
from ._settings import Setting

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


SHOWN = 20
"""How many runs a notebook shows."""


class Sweep(NamedTuple, Generic[Params]):
    """The runs of a sweep: `settings`, and in the same order, stacked, their results."""

    settings: tuple[Setting, ...]
    losses: Tensor  # (runs, steps): the loss before each step
    state: TrainState[Params]  # parameters, state and buffers after the last step, (runs, ...)
    scores: dict[str, Tensor]  # (runs,): what `evaluate` returned

    @property
    def params(self) -> Params:
        """The trained parameters, stacked."""
        return self.state.params

    def __repr__(self) -> str:
        runs, steps = self.losses.shape
        best = ", ".join(f"{k}={_shown(v)}" for k, v in self.settings[self.best()].items())
        return f"Sweep({runs} runs of {steps} steps; best: {best})"

    def _repr_html_(self) -> str:
        names, rows = self._cells()
        title = repr(self) + ("" if len(rows) <= SHOWN else f", of which the best {SHOWN} runs")
        return Table(title, names, [Row(row) for row in rows[:SHOWN]]).html()

    def run(self, i: int) -> TrainState[Params]:
        """The training of one run, as if it had been alone."""
        one: TrainState[Params] = tree.map(lambda x: x[i], self.state)
        return one

    def score(self, of: str = "loss") -> Tensor:
        """A number for each run: what `evaluate` returned under that name, or ``"loss"``.

        The loss is the mean over the last tenth of the steps; infinite where it is not finite.

        Raises:
            HyperparameterError: If there is no such score.
        """
        if of in self.scores:
            return self.scores[of]
        if of != "loss":
            raise HyperparameterError(
                f"`Sweep`: there is no score `{of}`; there are {[*self.scores, 'loss']}."
            )
        mean = self.losses[:, -max(1, self.losses.shape[1] // 10) :].mean(1)
        return torch.where(mean.isfinite(), mean, torch.inf)

    def best(self, of: str = "loss", *, largest: bool = False) -> int:
        """The index of the run with the lowest score, or the highest; NaN comes last."""
        score = self.score(of)
        worst = -torch.inf if largest else torch.inf
        score = torch.where(score.isnan(), worst, score)
        return int(score.argmax() if largest else score.argmin())

    def table(self) -> str:
        """All runs in Markdown, the best first."""
        names, rows = self._cells()
        lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
        return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        """Names of the columns, and the cells of all runs, the best first."""
        scores = {"loss": self.score(), **self.scores}
        rows = []
        for i in self.score().argsort(stable=True).tolist():
            cells = [*self.settings[i].values(), *(float(scores[name][i]) for name in scores)]
            rows.append([_shown(cell) for cell in cells])
        return [*self.settings[0], *scores], rows

    def plot(
        self, path: str | Path | None = None, *, of: str = "loss", largest: bool = False
    ) -> "Figure":
        """Draws the score: a curve over one hyperparameter, a heat map over two, else points.

        A star marks the run that `best` returns, and the legend has its setting.

        Args:
            path: Where to save the figure, if at all.
            of: Which score.
            largest: Whether the largest score is the best, as of an accuracy.

        Returns:
            The figure.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        needed("Sweep.plot", "matplotlib", "sweeps")
        from ._plots import draw_sweep  # matplotlib is only needed here

        score, best = self.score(of), self.best(of, largest=largest)
        return saved(draw_sweep(self.settings, self.losses, score, of, best), path)

    def to_pandas(self) -> "DataFrame":
        """All runs as a `pandas.DataFrame`, in their order: settings, and behind them the scores.

            result.to_pandas().groupby("lr")["loss"].agg(["mean", "std"])

        A column for each name of the settings (`seed` among them), "loss" as in `score`, and one
        for each score of `evaluate`. Where a setting has a tensor, the column has its number.

        Raises:
            ImportError: If pandas is not installed.
        """
        pandas = needed("Sweep.to_pandas", "pandas", "sweeps")
        names = dict.fromkeys(name for row in self.settings for name in row)
        columns = {name: [_plain(row.get(name)) for row in self.settings] for name in names}
        scores = {"loss": self.score(), **self.scores}
        found: DataFrame = pandas.DataFrame(
            {**columns, **{key: score.tolist() for key, score in scores.items()}}
        )
        return found


def _plain(value: Any) -> Any:
    """A number of a 0-d tensor."""
    return value.item() if isinstance(value, Tensor) and value.dim() == 0 else value


def _shown(cell: Any) -> str:
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
