"""The metrics that the stages of a transformation measure in an update, by name."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core.kinds import expect_transformation
from .._core.tensor_rule import GradientTransformation, Ran
from .._hints.calls import explained
from ..typing import OptState, Params, Updates
from ._hyperparams import labels, unique_keys, walk
from ._partition import partition


class MetricKey(NamedTuple):
    """The names of a metric of a stage; they do not depend on which stages run."""

    path: tuple[str, ...]  # of the stage
    name: str  # within the stage
    own: str  # among those of the same label of a `partition`, or of none
    key: str  # among all: followed by the label, where several labels have it


class Measurement(NamedTuple):
    """The value of a metric in an update, and what it belongs to."""

    value: Any  # a number or a 0-d tensor
    bucket: int | None  # `None` if there is one for all
    tensor: str | None  # the name of a tensor, if each has its own


@explained
def update_with_metrics(
    tx: GradientTransformation,
    updates: Updates,
    state: OptState,
    params: Params | None = None,
    **extra: Any,
) -> tuple[Updates, OptState, dict[str, Tensor]]:
    """`tx.update`, and the metrics of its stages, such as the norm before clipping.

        updates, state, metrics = update_with_metrics(tx, grads, state, params)
        metrics["grad_norm"], metrics["lr"]

    Values and keys are those of `Optimizer.metrics()`: the first stage that has a metric owns the
    bare name, and where several labels of a `partition` have it, each has it as ``name/label``,
    such as ``lr/adamw``. A metric of each tensor is followed by the name of the tensor. A metric
    that was not measured in this update is left out, such as the norm inside of an `accumulate`
    that waits. All are 0-d tensors, and there is no synchronization with a device. It is as pure as
    `update`, and works in a compiled step, in `torch.func.vmap` and under derivatives.

    Args:
        tx: Any transformation.
        updates: As for `update`, and so are the others.
        state: The result of `init` or of the previous call.
        params: The current parameters.
        **extra: Extra arguments of the stages, by name.

    Raises:
        HyperparameterError: If `tx` is not a transformation; and all errors of `update`.
    """
    who, order = "update_with_metrics", "update_with_metrics(tx, updates, state, params)"
    expect_transformation(who, tx, order)
    new_updates, new_state, ran = tx.update_and_ran(updates, state, params, **extra)
    found = {}
    for at, each in measurements(tx, ran).items():
        for one in each:
            found[at.key if one.tensor is None else f"{at.key}/{one.tensor}"] = torch.as_tensor(
                one.value
            )
    return new_updates, new_state, found


def measurements(
    tx: GradientTransformation, ran: Mapping[tuple[str, ...], Ran]
) -> dict[MetricKey, list[Measurement]]:
    """The metrics of the stages that have run, in the order of the stages."""
    found = {}
    for at in metric_keys(tx):
        if at.path in ran and (each := _measurements(ran[at.path], at.name)):
            found[at] = each
    return found


def metric_keys(tx: GradientTransformation) -> list[MetricKey]:
    """The keys of all metrics that the stages of `tx` may measure, in order."""
    nodes = dict(walk(tx))
    by_label: dict[str, list[tuple[tuple[str, ...], Any]]] = {}
    for path, node in nodes.items():
        by_label.setdefault(_label(nodes, path), []).append((path, node))
    own: dict[tuple[tuple[str, ...], str], str] = {}
    owners: dict[str, list[str]] = {}
    for label, members in by_label.items():
        called = zip(labels(node for _, node in members), members, strict=True)
        each = [(called, path, n) for called, (path, x) in called for n in _metrics_of(x)]
        keys = unique_keys((called, name) for called, _, name in each)
        for key, (_, path, name) in zip(keys, each, strict=True):
            own[path, name] = key
            owners.setdefault(key, []).append(label)
    found = []
    for path, node in nodes.items():
        for name in _metrics_of(node):
            key, label = own[path, name], _label(nodes, path)
            shared = label and len(owners[key]) > 1
            found.append(MetricKey(path, name, key, f"{key}/{label}" if shared else key))
    return found


def _metrics_of(node: GradientTransformation) -> tuple[str, ...]:
    return getattr(node, "metrics", ())


def _label(nodes: Mapping[tuple[str, ...], GradientTransformation], path: tuple[str, ...]) -> str:
    """The labels of the partitions that a stage is in."""
    inside = (path[:i] for i in range(len(path)))
    return "/".join(path[len(at)] for at in inside if isinstance(nodes[at], partition))


def _measurements(ran: Ran, name: str) -> list[Measurement]:
    node = ran.node
    rows = {i: row[name] for i, row in enumerate(node.rows) if name in row}
    if len(node.rows) == 1:
        only = ran.buckets[0] if len(ran.buckets) == 1 else None
        return [Measurement(value, only, None) for value in rows.values()]
    if node.row_buckets is None:
        return [Measurement(value, ran.buckets[i], None) for i, value in rows.items()]
    bucket_of = [ran.buckets[bucket] for bucket in node.row_buckets]  # a row for each tensor
    if name in node.per_tensor_scalars:
        keys = node.row_keys()
        return [Measurement(value, bucket_of[i], keys[i]) for i, value in rows.items()]
    first = {bucket_of[i]: value for i, value in reversed(rows.items())}
    return [Measurement(value, bucket, None) for bucket, value in sorted(first.items())]
