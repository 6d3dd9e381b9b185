"""What the stages of a transformation say of an update, by name."""

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
    """What a number of a stage is called; it does not depend on which stages run."""

    path: tuple[str, ...]  # of the stage
    name: str  # that the stage has for it
    own: str  # among those of the same label of a `partition`, or of none
    key: str  # among all: behind it the label, where several labels have it


class Measurement(NamedTuple):
    """A number of a stage in an update, with those whose number it is."""

    value: Any  # a number or a 0-d tensor
    bucket: int | None  # `None` if it is one for all
    tensor: str | None  # the name of a tensor, if each has its own


@explained
def update_with_metrics(
    tx: GradientTransformation,
    updates: Updates,
    state: OptState,
    params: Params | None = None,
    **extra: Any,
) -> tuple[Updates, OptState, dict[str, Tensor]]:
    """`tx.update`, and what the stages say of it, such as the norm before clipping.

        updates, state, said = update_with_metrics(tx, grads, state, params)
        said["grad_norm"], said["lr"]

    Numbers and keys are those of `Optimizer.metrics()`: the first stage that has a quantity owns
    the bare name, and where several labels of a `partition` have it, each has it as
    ``name/label``, such as ``lr/adamw``. What is measured of each tensor has its name behind that.
    What was not measured in this update is left out, such as the norm inside of an
    `accumulate` that waits. All are 0-d tensors, and no device is synchronised. As pure as
    `update`: in a compiled step, in `torch.func.vmap` and under derivatives it works as well.

    Args:
        tx: Any transformation.
        updates: As for `update`, and so are the others.
        state: What `init` or the previous call returned.
        params: The current parameters.
        **extra: What a stage asks for by name.

    Raises:
        HyperparameterError: If `tx` is no transformation; and all that `update` raises.
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
    """The numbers of the stages that have run, in the order of the stages."""
    found = {}
    for at in metric_keys(tx):
        if at.path in ran and (each := _measurements(ran[at.path], at.name)):
            found[at] = each
    return found


def metric_keys(tx: GradientTransformation) -> list[MetricKey]:
    """The keys of all that the stages of `tx` may say of an update, in order."""
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
    """The labels of the partitions that a stage stands in."""
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
