"""A table of the stages of a transformation: formulas, hyperparameters, slots and bytes."""

import dataclasses
import inspect
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import precision
from .._core.explanation import Explanation, Row, Table, html_of, in_bytes
from .._core.record import value_repr, values_equal
from .._core.tensor_rule import GradientTransformation, NamedParams, PerTensor
from .._numerics import shards
from .._numerics.made_on import MadeOn
from ._by_label import ByLabel

REFERENCE = (1024, 1024)
"""The shape of the float32 matrix whose slots are counted where no parameters are given."""

PART = (64, 64)
"""That of a part of it."""

MANY = 64
"""So many slots of a matrix are those of small blocks."""

FORMULA = re.compile(r"\n\n((?: {4}.*(?:\n|$))+)")
"""The first indented block of a docstring."""


class _Stage(NamedTuple):
    depth: int
    label: str  # in a partition
    node: GradientTransformation
    params: NamedParams


def explain_transformation(
    tx: GradientTransformation, params: NamedParams | None = None
) -> Explanation:
    """The table of `tx`: a row for each stage, those inside of another one indented.

    Args:
        tx: Any transformation.
        params: The parameters for which to count bytes. Without, bytes are those of one float32
            matrix, per entry, which every label is shown with.
    """
    reference = params is None
    given = params or [("weight", torch.empty(REFERENCE, device="meta"))]
    rows, total = [], 0.0
    for depth, label, node, mine in _stages(tx, given, reference):
        slots, size = _slots(node, mine, reference)
        total += size
        name = f"{'  ' * depth}{label + ': ' if label else ''}{type(node).__name__}"
        numbers = ", ".join(f"{k}={v}" for k, v in _fields(node))
        bytes_ = "" if not size else _counted(size, reference)
        rows.append(Row((name, numbers, ", ".join(slots), bytes_), formula(node)))
    closing = f"state: {_counted(total, reference)}" if reference else ""
    columns = ("stage", "hyperparameters", "slots", "bytes")
    return Explanation([Table("", columns, rows, below="formula", closing=closing)])


def formula(node: GradientTransformation) -> tuple[str, ...]:
    """The formula of a stage, as its docstring has it; empty if it has none."""
    block = FORMULA.search("\n\n" + (inspect.getdoc(type(node)) or ""))
    if block is None:
        return ()
    lines = [line[4:].rstrip().replace("`", "") for line in block[1].splitlines()]
    text = "\n".join(lines)
    is_formula = " <- " in text or re.search(r"^\w+ += ", text, re.MULTILINE)
    is_code = re.search(r"\b(tx|opt|state|class|def)\b", text)
    return tuple(line for line in lines if line) if is_formula and not is_code else ()


@html_of.register
def _(tx: GradientTransformation) -> str:
    return explain_transformation(tx)._repr_html_()


def _stages(
    node: GradientTransformation,
    params: NamedParams,
    reference: bool,
    depth: int = 0,
    label: str = "",
) -> Iterator[_Stage]:
    """`node` and all stages in it, with the parameters of each; a chain itself is no row."""
    children = node.children()
    is_chain = type(node).__name__ == "chain"
    if not (is_chain and not label):
        yield _Stage(depth, label, node, params)
        depth += 1
    every = reference and isinstance(node, ByLabel)
    mine = dict.fromkeys(children, params) if every else node.params_of_children(params)
    for key, child in children.items():
        yield from _stages(child, mine.get(key, []), reference, depth, key if node.labeled else "")


def _fields(node: GradientTransformation) -> list[tuple[str, str]]:
    """The fields of a node that are no transformations: those given, and all hyperparameters."""
    found = []
    for field in dataclasses.fields(node):
        name, value = field.name, getattr(node, field.name)
        if _holds_transformations(value) or name in ("labels", "mask"):
            continue
        if name in node.hyperparameters or not values_equal(value, field.default):
            found.append((name, value_repr(value)))
    return found


def _holds_transformations(value: Any) -> bool:
    parts = value.values() if isinstance(value, dict) else value
    if isinstance(value, (dict, tuple, list)) and value:
        return any(map(_holds_transformations, parts))
    return isinstance(value, GradientTransformation)


def _slots(
    node: GradientTransformation, params: NamedParams, reference: bool
) -> tuple[list[str], float]:
    """The names of the slots that a node keeps itself, and how many bytes they are.

    Of small blocks the reference has hundreds of thousands: a part of it stands for all then.
    """
    if reference:
        part = [(name, torch.empty(PART, device="meta")) for name, _ in params]
        own, every = _slots_of(node, part)
        if every > MANY * len(part):
            return _in_all(own, math.prod(REFERENCE) / math.prod(PART))
    return _in_all(_slots_of(node, params)[0], 1)


def _slots_of(
    node: GradientTransformation, params: NamedParams
) -> tuple[list[tuple[str, Tensor]], int]:
    """The slots that a node keeps itself, on the meta device, with their names.

    And how many there are, with those of the transformations in it.
    """
    found: list[tuple[str, Tensor]] = []
    every = 0
    if not (isinstance(node, PerTensor) and node.is_per_tensor()):
        return found, every
    for name, p in params:
        with MadeOn("meta"):
            slots = node.init_slots(name, p)
        every += len(precision.entries(slots))
        for key, value in _own(node, slots).items():
            found += [(key, shards.part(x)) for x in precision.entries(value)]
    return found, every


def _in_all(slots: Sequence[tuple[str, Tensor]], times: float) -> tuple[list[str], float]:
    """Their names, and so many times their bytes."""
    size = sum(x.numel() * x.element_size() for _, x in slots)
    return list(dict.fromkeys(name for name, _ in slots)), times * size


def _own(node: GradientTransformation, slots: Any) -> dict[str, Any]:
    """The slots of a node by name, without those of the transformations in it."""
    if not hasattr(slots, "_fields"):
        return {} if node.children() or slots == () else {"": slots}
    found = dict(zip(slots._fields, slots, strict=True))
    return {key: value for key, value in found.items() if key != "inner"}


def _counted(size: float, of_reference: bool) -> str:
    if not of_reference:
        return in_bytes(size)
    entries = REFERENCE[0] * REFERENCE[1]
    return f"{size / entries:.3g} per entry"
