"""Where metrics are written: any of the loggers that people have, told by what they can do."""

import contextlib
import csv
import inspect
import os
import pathlib
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from .._core.kinds import described
from ..errors import ArgumentError

Write = Callable[[Mapping[str, float], int], Any]
"""Writes the numbers of one step."""


def writer_of(who: str, writer: Any) -> Write:
    """How numbers are given to a writer.

    Raises:
        ArgumentError: If it is none.
    """
    if isinstance(writer, (str, os.PathLike)):
        return CsvFile(pathlib.Path(writer)).write
    if hasattr(writer, "callback_handler") and hasattr(writer, "add_callback"):
        return _of_trainer(writer)
    if hasattr(writer, "add_scalar"):  # of TensorBoard, and of what is made like it
        return lambda values, step: _each(writer.add_scalar, values, step)
    if hasattr(writer, "log_metrics"):  # of Lightning's loggers, MLflow, Comet
        return lambda values, step: writer.log_metrics(dict(values), step=step)
    if _takes_step(getattr(writer, "log_dict", None)):  # of Fabric
        return lambda values, step: writer.log_dict(dict(values), step=step)
    if not hasattr(writer, "log_dict") and hasattr(
        writer, "log"
    ):  # of Weights & Biases, Accelerate
        return lambda values, step: writer.log(dict(values), step=step)
    if callable(writer) and not hasattr(writer, "training_step"):
        function: Callable[..., Any] = writer
        return lambda values, step: function(dict(values), step)
    raise ArgumentError(_wrong(who, writer))


def _wrong(who: str, writer: Any) -> str:
    got = described(writer).removesuffix(".")
    if writer is None:
        got = "None, which is what a framework has where nothing is logged"
    if hasattr(writer, "training_step") or hasattr(writer, "fit"):
        return (
            f"`{who}`: {got} logs by itself, and only while it trains: give its logger, as in "
            "`opt.log_to(self.logger)`."
        )
    return (
        f"`{who}`: expected a path of a CSV file, a writer that has `add_scalar`, `log_metrics` or "
        f"`log`, or a function of the numbers and the step, got {got}."
    )


def _each(add_scalar: Callable[..., Any], values: Mapping[str, float], step: int) -> None:
    for key, value in values.items():
        add_scalar(key, value, step)


def _takes_step(method: Any) -> bool:
    return method is not None and "step" in inspect.signature(method).parameters


def _of_trainer(trainer: Any) -> Write:
    """How numbers are given to the trainer of Transformers: at the end of its step."""
    from transformers import TrainerCallback  # which is there, as its trainer is

    waiting: list[dict[str, float]] = []

    class LogOfOptimizer(TrainerCallback):  # type: ignore[misc, unused-ignore]  # has no types
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            while waiting:  # it counts its steps only now
                trainer.log(waiting.pop(0))

        on_train_end = on_step_end

    trainer.add_callback(LogOfOptimizer())
    return lambda values, step: waiting.append(dict(values))


class CsvFile:
    """A table with a line for each step that is written, which is whole at any time.

    The first column is `step`. A file that is there is continued. Where keys come that have no
    column, the table is written again with these.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Adds a line."""
        if not _is_first_rank():
            return
        row = {"step": step, **values}
        header = self._header()
        if header is None:
            self._rewrite(list(row), [row])
            return
        if new := [key for key in row if key not in header]:
            self._rewrite([*header, *new], [*self._rows(), row])
            return
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, header).writerow(row)

    def _header(self) -> list[str] | None:
        with contextlib.suppress(FileNotFoundError), self.path.open(newline="") as file:
            return next(csv.reader(file), None)
        return None

    def _rows(self) -> list[dict[str, Any]]:
        with self.path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def _rewrite(self, header: list[str], rows: list[dict[str, Any]]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=self.path.parent, suffix=".csv")
        try:
            with os.fdopen(number, "w", newline="", encoding="utf-8") as file:
                table = csv.DictWriter(file, header)
                table.writeheader()
                table.writerows(rows)
            os.replace(name, self.path)
        except BaseException:
            pathlib.Path(name).unlink(missing_ok=True)
            raise


def _is_first_rank() -> bool:
    """Whether this process writes files: of several ranks, one does."""
    import torch.distributed as dist

    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0
