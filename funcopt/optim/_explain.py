"""What an optimizer does, with which parameters: a block for each parameter group."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .._core.explanation import Explanation, Row, Table, html_of, in_bytes
from .._core.kinds import described
from .._core.record import value_repr
from .._core.tensor_rule import GradientTransformation
from .._numerics.names import plain_name
from ..combinators import explain_transformation
from ..errors import HyperparameterError
from ._averages import TRAIN_MODE
from ._groups import ParameterGroups
from ._observed import ObservedOptimizer
from ._options import named_parameters
from ._planned_memory import memory_table, plan_of_optimizer, plan_of_tree, trained
from ._shown import stages_in_short

SKIPPED = frozenset({"params", "param_names", "name"})
PLAIN = (False, None)
"""Values of options that are left out, as they change nothing."""

EXECUTION = {"maximize", "differentiable", "capturable"}
"""Options of every group that are no hyperparameters, and that a step reads."""

SHOWN = 24
"""How many lines of parameters a group has at most."""


def explain(
    what: torch.optim.Optimizer | GradientTransformation, params: Any = None
) -> Explanation:
    """What an optimizer or a transformation does, as a table.

        print(explain(opt))
        print(explain(adamw(), model))
        explain(tx).markdown()

    Of an optimizer, torch's too: its chain, and a block for each parameter group, with its
    hyperparameters, and its parameters by name and shape; parameters whose names differ in numbers
    alone share a line. Of a transformation: a row for each stage, with its formula,
    hyperparameters, slots and the bytes that these take. At most 100 columns wide.

    The last block is the memory of the optimizer state, slot by slot and for each entry of the
    parameters, and that of parameters and gradients. Nothing is allocated to find it, and
    parameters may be on the meta device. Frozen parameters (`requires_grad=False`) of an optimizer
    or a module have no state; of sharded ones, the part on this rank counts.

    Args:
        what: An optimizer, or a transformation.
        params: With a transformation, the tree of parameters or the module for which to count
            bytes. Without, they are counted for each entry of a float32 matrix.

    Returns:
        A string; its method `markdown` has the same as Markdown, and notebooks show it as HTML.
        Its attribute `memory` has the bytes as numbers: `state`, `parameters`, `gradients`; of the
        state, `by("group")`, `by("parameter")` and `by("slot")`, and a row of `entries` for each
        tensor. It is `None` where the state is not known.

    Raises:
        HyperparameterError: If it is neither.
    """
    if isinstance(what, GradientTransformation):
        return _of_transformation(what, params)
    if not isinstance(what, torch.optim.Optimizer):
        raise HyperparameterError(
            "`explain`: expected an optimizer such as `Optimizer(params, tx)`, or a transformation "
            f"such as `adamw()`, got {described(what)}"
        )
    title = type(what).__name__
    if isinstance(what, ObservedOptimizer):
        title += f": {stages_in_short(what.tx)}"
    groups = getattr(what, "_groups", None)
    tables = [
        _of_group(
            i,
            group,
            _options(group) if groups is None else _read(groups, group),
            what.state,
            groups.schedules[i] if groups else {},
        )
        for i, group in enumerate(what.param_groups)
    ]
    tables.insert(0, Table(title, (), ()))
    if groups is None and not what.state:  # of torch's, it is not known what they will keep
        return Explanation(tables)
    plan = plan_of_optimizer(what.param_groups, what.state, groups)
    if groups is not None:
        plan = plan._replace(offloaded=what._store.offload.wanted)  # type: ignore[attr-defined]
    return Explanation([*tables, memory_table(plan)], plan)


def _of_transformation(tx: GradientTransformation, params: Any) -> Explanation:
    if params is None:
        return explain_transformation(tx)
    plan = plan_of_tree(tx, params)
    tables = explain_transformation(tx, trained(params)[0]).tables
    return Explanation([*tables, memory_table(plan)], plan)


@html_of.register
def _(opt: ObservedOptimizer) -> str:
    return explain(opt)._repr_html_()


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in a group beside its parameters, but what changes nothing."""
    return {k: v for k, v in group.items() if k not in SKIPPED and not _is_plain(v)}


def _read(groups: ParameterGroups, group: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a step reads: no notes, and no switches of the stages of other labels."""
    of = list(named_parameters(group))
    read = groups.factory.read_by(of) | EXECUTION
    found = {k: v for k, v in _options(group).items() if k in read}
    return found if group.get(TRAIN_MODE, True) else {**found, TRAIN_MODE: False}


def _of_group(
    index: int,
    group: Mapping[str, Any],
    options: Mapping[str, Any],
    state: Mapping[Any, Any],
    schedules: Mapping[str, Any],
) -> Table:
    params = group["params"]
    name = f'group "{group["name"]}"' if "name" in group else f"group {index}"
    title = f"{name}: {_counted(len(params), 'parameter')}, "
    title += _counted(sum(p.numel() for p in params), "entry", "entries")
    if size := sum(map(_bytes_of, (state.get(p, {}) for p in params))):
        title += f", state {in_bytes(size)}"
    said = ", ".join(
        f"{key}={_shown(value)}" + (f" of {schedules[key]!r}" if key in schedules else "")
        for key, value in sorted(options.items())
    )
    rows = [Row(cells) for cells in _patterns(group)]
    if len(rows) > SHOWN + 1:
        rows = [*rows[:SHOWN], Row((f"... and {len(rows) - SHOWN} more", "", ""))]
    return Table(title, ("parameter", "shape", "count"), rows, closing=said)


def _patterns(group: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Names, shapes and counts of the parameters; numbers that vary are a range."""
    params: Sequence[Tensor] = group["params"]
    names = group.get("param_names") or [str(i) for i in range(len(params))]
    found: dict[tuple[Any, ...], list[str]] = {}
    for name, p in zip(map(plain_name, names), params, strict=True):
        key = (re.sub(r"\d+", "*", name), str(tuple(p.shape)))
        found.setdefault(key, []).append(name)
    return [
        (_pattern(every), shape, "" if len(every) == 1 else f"x {len(every)}")
        for (_, shape), every in found.items()
    ]


def _pattern(names: Sequence[str]) -> str:
    """One name for several that differ in numbers alone, such as ``layers.0-11.bias``."""
    columns = zip(*(re.split(r"(\d+)", name) for name in names), strict=True)
    return "".join(_range(column) for column in columns)


def _range(parts: Sequence[str]) -> str:
    if len(set(parts)) == 1:
        return parts[0]
    numbers = sorted({int(part) for part in parts})
    whole = numbers == list(range(numbers[0], numbers[-1] + 1))
    return f"{numbers[0]}-{numbers[-1]}" if whole else "{" + ",".join(map(str, numbers)) + "}"


def _is_plain(value: Any) -> bool:
    return any(value is plain for plain in PLAIN)


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"tensor({value.item():.6g})" if value.device.type == "cpu" else str(value.device)
    return value_repr(value)


def _bytes_of(stored: Any) -> int:
    if not isinstance(stored, Mapping):
        return 0
    return sum(x.numel() * x.element_size() for x in stored.values() if isinstance(x, Tensor))


def _counted(count: int, one: str, several: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else several or one + 's'}"
