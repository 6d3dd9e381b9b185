"""The metrics of a step: by parameter group, by parameter, or one number for each name."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Node
from .._core.tensor_rule import PerTensor
from .._numerics.scalars import double, moved, where
from ..combinators import Measurement, MetricKey, measurements, walk
from ._options import named_parameters, same_value

Groups = Sequence[Mapping[str, Any]]

Per = Literal["step", "group", "layer"]
"""What metrics are given for."""

PER: tuple[Any, ...] = (None, "step", "group", "layer")


class Step(NamedTuple):
    """A step that was made, as the metrics are found of it: of all parameters, or of one."""

    tx: PerTensor  # that of one of the groups
    node: Node
    group_of: Sequence[int]  # the group of each bucket
    left_out: Tensor | None = None  # (): not 0 if no update was made, as a scaler has found


def metrics(who: str, steps: Sequence[Step], groups: Groups, per: Per | None) -> dict[str, Tensor]:
    """The numbers of a step, under keys that depend on groups and stages alone.

    Args:
        who: Whose metrics these are.
        steps: The last step, if there was one; or those of all parameters, if each had its own.
        groups: All parameter groups.
        per: What there is a number of, as in `Optimizer.metrics`.

    Raises:
        HyperparameterError: If `per` is none of these.
    """
    checks.choice(f"{who}.metrics", "per", per, PER)
    if not steps:
        return {}
    found: dict[str, list[tuple[str, Tensor]]] = {}
    said: dict[MetricKey, list[Measurement]] = {}
    group_of: list[int] = []
    for step in steps:
        buckets = range(len(step.group_of))
        for at, each in measurements(step.tx, step.tx.nodes(step.node, buckets)).items():
            said.setdefault(at, []).extend(_moved_by(len(group_of), x) for x in each)
        group_of += step.group_of
    for key, name, value in _by_key(steps[0].tx, group_of, said, groups, per):
        found.setdefault(key, []).append((name, value))
    # Of its own: a rate in a group, or a stage's memory, is written in place later.
    one = {key: _over_stages(values).clone() for key, values in found.items()}
    left_out = steps[0].left_out if steps else None
    if left_out is None:
        return one
    return {key: where(left_out != 0, math.nan, value) for key, value in one.items()}


def group_names(groups: Groups) -> list[str]:
    """What each group is called in keys: by its name, or its number; each otherwise."""
    found: list[str] = []
    for i, group in enumerate(groups):
        name = str(group.get("name", i))
        found.append(f"{name}_{i}" if name in found else name)
    return found


def _moved_by(count: int, x: Measurement) -> Measurement:
    """A measurement whose bucket comes after so many others."""
    return x if x.bucket is None else x._replace(bucket=count + x.bucket)


def _by_key(
    tx: PerTensor,
    group_of: Sequence[int],
    said: Mapping[MetricKey, list[Measurement]],
    groups: Groups,
    per: Per | None,
) -> Iterator[tuple[str, str, Tensor]]:
    """Keys, what the number is called, and the numbers that each stage has for them."""
    called = group_names(groups)
    nodes, paths = dict(walk(tx)), [_paths(tx, group) for group in groups]
    for at, each in said.items():
        several = sum(at.path in own for own in paths) > 1
        by_group = several and at.name in nodes[at.path].hyperparameters
        of_all = _is_of_all(at.name, nodes[at.path])
        combined = _over_buckets(at.name, of_all)
        groups_of = [None if x.bucket is None else group_of[x.bucket] for x in each]
        present = [i for i in dict.fromkeys(groups_of) if i is not None]
        mine = {i: [x for x, of in zip(each, groups_of, strict=True) if of == i] for i in present}
        if per == "step" or not by_group or None in groups_of:
            yield at.own if per == "step" else at.key, at.name, combined(each)
        if (by_group and per != "step") or (per == "group" and len(groups) > 1 and not of_all):
            for i, own in mine.items():
                yield f"{at.own}/{called[i]}", at.name, combined(own)
        if per == "layer":
            for one in each:
                if one.tensor is not None:
                    yield f"{at.own}/{one.tensor}", at.name, _tensor(one.value)


def _is_of_all(name: str, node: Any) -> bool:
    """Whether a number is the norm of all tensors together, and so the same in all buckets."""
    return name.endswith("norm") and getattr(node, "measure_per", "tree") == "tree"


def _over_buckets(name: str, of_all: bool) -> Callable[[list[Measurement]], Tensor]:
    """How the numbers of one stage become one: the norms of tensors add up, others are averaged."""

    def combined(each: list[Measurement]) -> Tensor:
        if of_all:
            return _tensor(each[0].value)
        if name.endswith("norm"):
            return root_of_squares([_tensor(x.value) for x in each])
        distinct: list[Any] = []
        for one in each:
            if not any(same_value(one.value, value) for value in distinct):
                distinct.append(one.value)
        return _mean([_tensor(x) for x in distinct])

    return combined


def _tensor(value: Any) -> Tensor:
    """A number as a 0-d tensor; Python numbers as they are, in float64."""
    if isinstance(value, Tensor):
        return value
    dtype = torch.float64 if isinstance(value, float) else None
    return torch.tensor(value, dtype=dtype, device="cpu")  # whatever the default device is


def _over_stages(values: list[tuple[str, Tensor]]) -> Tensor:
    """One number of those of several stages, such as the labels of a partition."""
    (name, first), *others = values
    if not others:
        return first
    each = [value for _, value in values]
    return root_of_squares(each) if name.endswith("norm") else _mean(each)


def root_of_squares(norms: Sequence[Tensor]) -> Tensor:
    """The norm of all of which these are the norms of the parts."""
    return norms[0] if len(norms) == 1 else _together(norms).square().sum().sqrt()


def _mean(values: Sequence[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else _together(values).mean()


def _together(values: Sequence[Tensor]) -> Tensor:
    first = next((x for x in values if x.device.type != "cpu"), values[0])  # then nothing waits
    wide = first if first.is_floating_point() else double(first)
    return torch.stack([moved(x, first.device).to(wide.dtype) for x in values])


def _paths(tx: PerTensor, group: Mapping[str, Any]) -> set[tuple[str, ...]]:
    """The paths of the stages that a group is for."""
    return {path for path, _ in walk(tx, of=list(named_parameters(group)))}
