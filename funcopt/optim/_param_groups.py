"""Parameter groups by name, by predicate, or by the kind of module that a parameter belongs to."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from .._core import checks
from .._core.kinds import check_iterable, check_module
from .._numerics.names import plain_name
from ..errors import HyperparameterError, LabelError
from ..typing import Scalar

Which = str | type[nn.Module] | tuple[type[nn.Module], ...] | Callable[[str, Tensor], bool]
"""A regular expression that is searched for in the name, a class of modules or several, or a
predicate ``(name, tensor)``."""

Group = dict[str, Any]


def param_groups_by(
    rules: Sequence[tuple[Which, Mapping[str, Any]]], model: nn.Module
) -> list[Group]:
    r"""Sorts the parameters of a model into parameter groups, for any optimizer.

        groups = param_groups_by([(r"\.bias$|norm", dict(weight_decay=0.0))], model)
        opt = AdamW(groups, lr=1e-3, weight_decay=0.1)

    The general form of `param_groups_weight_decay` and `param_groups_layer_decay`.

    The first rule that fits a parameter counts; parameters with equal options share a group, and
    those that no rule fits come to a group without options. Names go with the parameters, so that
    checkpoints are matched by name.

    Args:
        rules: Pairs of what to look for and the options of the group. A class of modules stands for
            the parameters that such a module holds itself, those that a parametrization such as
            `weight_norm` has made of them too.
        model: The model. Parameters that do not require gradients are left out.

    Raises:
        LabelError: If a rule fits no parameter at all.
    """
    check_iterable("param_groups_by", "rules", rules, "a list of pairs of a pattern and options")
    check_module("param_groups_by", model)
    owners = _owners(model)
    groups: dict[str, Group] = {}
    used: set[int] = set()
    for name, p in model.named_parameters():
        plain = plain_name(name)
        fitting = [i for i, (which, _) in enumerate(rules) if _fits(which, plain, p, owners[p])]
        used.update(fitting)
        options = rules[fitting[0]][1] if fitting else {}
        if p.requires_grad:
            group = groups.setdefault(repr(sorted(options.items())), {"params": [], **options})
            group["params"].append((name, p))
    for i, (which, _) in enumerate(rules):
        if i not in used:
            raise LabelError(
                f"`param_groups_by`: {which!r} fits none of the parameters "
                f"{[plain_name(name) for name, _ in model.named_parameters()]}."
            )
    return list(groups.values())


def param_groups_weight_decay(
    model: nn.Module,
    weight_decay: Scalar | None = None,
    no_weight_decay_list: Collection[Which] = (),
) -> list[Group]:
    """Two groups: norms and biases without weight decay, and all other parameters with it.

        groups = param_groups_weight_decay(model, no_weight_decay_list=["pos_embed", nn.Embedding])
        opt = AdamW(groups, lr=1e-3, weight_decay=0.1)

    Without weight decay are all parameters of less than two dimensions, those whose name ends in
    ``.bias``, and those in the list; as in timm and optimi. The groups are named "no_decay" and
    "decay", and hold the names of their parameters, so that checkpoints are matched by name. For
    a learning rate for each layer as well: `param_groups_layer_decay`.

    Args:
        model: The model. Parameters that do not require gradients are left out, and tied ones are
            in one group, by their first name.
        weight_decay: That of the second group; by default that of the optimizer. (In timm 1e-5.)
        no_weight_decay_list: Further parameters without weight decay: names, in which ``*`` stands
            for anything, classes of modules, or predicates ``(name, tensor)``.

    Raises:
        HyperparameterError: If `weight_decay` is negative, or the list is a string.
        LabelError: If an entry of the list fits no parameter; names that the model itself returns,
            by the method `no_weight_decay` of timm's models, may be missing.
    """
    check_module("param_groups_weight_decay", model)
    who = "param_groups_weight_decay"
    listed = undecayed(who, model, no_weight_decay_list)
    groups: dict[bool, Group] = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            decays = name not in listed
            group = groups.setdefault(decays, decay_group(who, decays, weight_decay))
            group["params"].append((name, p))
    return [groups[decays] for decays in sorted(groups)]


def decay_group(who: str, decays: bool, weight_decay: Scalar | None) -> Group:
    """A group without parameters, of those that decay or of those that do not."""
    if not decays:
        return {"params": [], "weight_decay": 0.0, "name": "no_decay"}
    if weight_decay is None:
        return {"params": [], "name": "decay"}
    checks.non_negative(who, "weight_decay", weight_decay)
    return {"params": [], "weight_decay": weight_decay, "name": "decay"}


def undecayed(
    who: str, model: nn.Module, listed: Collection[Which], *, vectors: bool = True
) -> set[str]:
    """The names of the parameters without weight decay: those listed, and with `vectors` 1-D ones.

    Raises:
        HyperparameterError: If the list is a string.
        LabelError: If an entry fits no parameter.
    """
    if isinstance(listed, str):
        raise HyperparameterError(
            f"`{who}`: `no_weight_decay_list` must be a list, got {listed!r}: write [{listed!r}]."
        )
    owners, params = _owners(model), list(model.named_parameters())
    optional: Collection[str] = getattr(model, "no_weight_decay", tuple)()
    found = {name for name, p in params if vectors and (p.ndim < 2 or name.endswith(".bias"))}
    for which in listed:
        fitting = {name for name, p in params if _is_listed(which, plain_name(name), p, owners[p])}
        if not fitting and which not in optional:
            raise LabelError(
                f"`{who}`: {which!r} of `no_weight_decay_list` fits none of the parameters "
                f"{[plain_name(name) for name, _ in params]}. A string is a whole name, in which "
                "`*` stands for anything."
            )
        found |= fitting
    return found


def fitted_names(who: str, argument: str, model: nn.Module, listed: Collection[Which]) -> set[str]:
    """The names of the parameters that an entry of a list fits, as in `param_groups_by`.

    Raises:
        HyperparameterError: If the list is a string.
        LabelError: If an entry fits no parameter.
    """
    if isinstance(listed, str):
        raise HyperparameterError(
            f"`{who}`: `{argument}` must be a list, got {listed!r}: write [{listed!r}]."
        )
    owners, params = _owners(model), list(model.named_parameters())
    found: set[str] = set()
    for which in listed:
        mine = {name for name, p in params if _fits(which, plain_name(name), p, owners[p])}
        if not mine:
            raise LabelError(
                f"`{who}`: {which!r} of `{argument}` fits none of the parameters "
                f"{[plain_name(name) for name, _ in params]}."
            )
        found |= mine
    return found


def _owners(model: nn.Module) -> dict[Tensor, list[nn.Module]]:
    """The modules that hold each parameter themselves, or what it is made of."""
    found: dict[Tensor, list[nn.Module]] = {}
    for module in model.modules():
        made = getattr(module, "parametrizations", None)
        of = made.values() if is_parametrized(module) and isinstance(made, nn.ModuleDict) else ()
        for part in (module, *of):
            for p in part.parameters(recurse=False):
                found.setdefault(p, []).append(module)
    return found


def _fits(which: Which, name: str, p: Tensor, owners: Iterable[nn.Module]) -> bool:
    if isinstance(which, str):
        return re.search(which, name) is not None
    if isinstance(which, (type, tuple)):
        return any(isinstance(module, which) for module in owners)
    return bool(which(name, p))


def _is_listed(which: Which, name: str, p: Tensor, owners: Iterable[nn.Module]) -> bool:
    """As `_fits`, but a string is a name with wildcards, as in timm."""
    return fnmatchcase(name, which) if isinstance(which, str) else _fits(which, name, p, owners)
