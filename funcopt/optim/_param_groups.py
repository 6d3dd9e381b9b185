"""Parameter groups by name, by predicate, or by the kind of module that a parameter belongs to."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .._core import checks
from ..errors import LabelError

Which = str | type[nn.Module] | tuple[type[nn.Module], ...] | Callable[[str, Tensor], bool]
"""A regular expression that is searched for in the name, a class of modules or several, or a
predicate ``(name, tensor)``."""

Group = dict[str, Any]


def param_groups_by(
    rules: Sequence[tuple[Which, Mapping[str, Any]]], model: nn.Module
) -> list[Group]:
    r"""Sorts the parameters of a model into groups, for any optimizer.

        groups = param_groups_by([(r"\.bias$|norm", dict(weight_decay=0.0))], model)
        opt = AdamW(groups, lr=1e-3, weight_decay=0.1)

    The first rule that fits a parameter counts; parameters with equal options share a group, and
    those that no rule fits come to a group without options. Names go with the parameters, so that
    checkpoints are matched by name.

    Args:
        rules: Pairs of what to look for and the options of the group. A class of modules stands for
            the parameters that such a module holds itself.
        model: The model. Parameters that do not require gradients are left out.

    Raises:
        LabelError: If a rule fits no parameter at all.
    """
    owners = _owners(model)
    groups: dict[str, Group] = {}
    used: set[int] = set()
    for name, p in model.named_parameters():
        fitting = [i for i, (which, _) in enumerate(rules) if _fits(which, name, p, owners[p])]
        used.update(fitting)
        options = rules[fitting[0]][1] if fitting else {}
        if p.requires_grad:
            group = groups.setdefault(repr(sorted(options.items())), {"params": [], **options})
            group["params"].append((name, p))
    for i, (which, _) in enumerate(rules):
        if i not in used:
            raise LabelError(
                f"`param_groups_by`: {which!r} fits none of the parameters "
                f"{[name for name, _ in model.named_parameters()]}."
            )
    return list(groups.values())


def param_groups_weight_decay(model: nn.Module) -> list[tuple[Which, dict[str, Any]]]:
    """Rules for `param_groups_by`: no weight decay on norms, biases and embeddings.

        opt = AdamW(param_groups_by(param_groups_weight_decay(model), model), weight_decay=0.1)

    That is: parameters of less than two dimensions, and those of `torch.nn.Embedding`. A rule that
    fits nothing in `model` is left out.
    """
    rules: list[tuple[Which, dict[str, Any]]] = [
        (_is_vector, {"weight_decay": 0.0}),
        ((nn.Embedding, nn.EmbeddingBag), {"weight_decay": 0.0}),
    ]
    owners = _owners(model)
    params = list(model.named_parameters())
    return [rule for rule in rules if any(_fits(rule[0], n, p, owners[p]) for n, p in params)]


def param_groups_layer_decay(
    model: nn.Module, lr: float, decay: float, layer_of: Callable[[str], int]
) -> list[Group]:
    """Groups in which the learning rate falls from the last layer to the first.

        lr of layer i = lr decay^(n - i), for the layers 0 ... n

    Args:
        model: The model.
        lr: The rate of the last layer.
        decay: The factor from one layer to the one before it, in (0, 1].
        layer_of: The number of the layer that a parameter, by name, belongs to.

    Raises:
        HyperparameterError: If `lr` is negative, or `decay` outside (0, 1].

    References:
        Clark et al., "ELECTRA", ICLR 2020, https://arxiv.org/abs/2003.10555, for fine-tuning.
    """
    checks.non_negative("param_groups_layer_decay", "lr", lr)
    checks.positive_fraction("param_groups_layer_decay", "decay", decay)
    params = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    last = max((layer_of(name) for name, _ in params), default=0)
    groups: dict[int, Group] = {}
    for name, p in params:
        layer = layer_of(name)
        rate = lr * decay ** (last - layer)
        groups.setdefault(layer, {"params": [], "lr": rate, "name": f"layer {layer}"})[
            "params"
        ].append((name, p))
    return [groups[layer] for layer in sorted(groups)]


def explain(optimizer: torch.optim.Optimizer) -> str:
    """A table of the parameters of an optimizer: name, shape, group, and the group's numbers."""
    rows = [("parameter", "shape", "group", "hyperparameters")]
    for i, group in enumerate(optimizer.param_groups):
        names = group.get("param_names") or [f"{i}.{j}" for j in range(len(group["params"]))]
        skipped = {"params", "param_names", "name"}
        numbers = {k: v for k, v in group.items() if k not in skipped and _is_number(v)}
        said = ", ".join(f"{key}={value}" for key, value in sorted(numbers.items()))
        for name, p in zip(names, group["params"], strict=True):
            rows.append((name, str(tuple(p.shape)), str(group.get("name", i)), said))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
        for row in rows
    )


def _owners(model: nn.Module) -> dict[Tensor, list[nn.Module]]:
    """The modules that hold each parameter themselves."""
    found: dict[Tensor, list[nn.Module]] = {}
    for module in model.modules():
        for p in module.parameters(recurse=False):
            found.setdefault(p, []).append(module)
    return found


def _fits(which: Which, name: str, p: Tensor, owners: Iterable[nn.Module]) -> bool:
    if isinstance(which, str):
        return re.search(which, name) is not None
    if isinstance(which, (type, tuple)):
        return any(isinstance(module, which) for module in owners)
    return bool(which(name, p))


def _is_vector(name: str, p: Tensor) -> bool:
    return p.ndim < 2


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, tuple, Tensor)) and not isinstance(value, bool)
