"""Keys of a parameter group that were perhaps meant to be others."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from torch import Tensor

from .._core.warning import warn
from .._hints.calls import synonym
from .._hints.nearest import one_edit_away

SYNONYMS = frozenset(
    {"wd", "l2", "weight_decay_rate", "learning_rate", "epsilon"}
    | {"b1", "b2", "beta", "beta1", "beta2", "beta_1", "beta_2"}
)
"""Names that mean a hyperparameter wherever they stand."""

NOTES = frozenset(
    # of torch: names, and what schedulers and averages keep
    {"name", "names", "param_names", "initial_lr", "base_lr", "max_lr", "min_lr", "swa_lr"}
    | {"base_momentum", "max_momentum", "step_size", "step"}
    # of torch's optimizers, which a checkpoint brings along
    | {"maximize", "foreach", "capturable", "differentiable", "fused", "decoupled_weight_decay"}
    # of timm, Megatron, DeepSpeed, schedule-free, D-Adaptation and others
    | {"lr_scale", "lr_mult", "wd_mult", "group_name", "layer_id", "param_group_name"}
    | {"is_expert", "is_decoupled_lr", "default_config", "use_muon", "bias_correction"}
    | {"scheduled_lr", "lr_max", "weight_sum", "train_mode", "k", "d", "r"}
)
"""What users and frameworks write into groups for themselves."""


def suspicious(keys: Iterable[str], live: Collection[str]) -> list[tuple[str, str]]:
    """Keys that no step reads, each with the live one that was meant, as far as one can tell.

    That is where it is a slip away, one letter too many, too few, wrong or out of place, or what
    another library calls it.
    """
    found = []
    for key in keys:
        if key in live or key in NOTES or not isinstance(key, str):
            continue
        meant = synonym(key, live) if key in SYNONYMS else None
        meant = meant or next((other for other in live if one_edit_away(key, other)), None)
        if meant is not None:
            found.append((key, meant))
    return found


def foreign_options(
    saved: Mapping[str, Any], numbers: Collection[str], known: Collection[str]
) -> str:
    """What tells that a saved group has the keys of another optimizer; "" if nothing does.

    That is where hyperparameters that are `numbers` are missing, and there are others instead. Keys
    alone that are not `known` may be notes, and where some are missing, the version may be older,
    or the chain has further stages.
    """
    missing = sorted(key for key in numbers if key not in saved)
    others = sorted(
        key
        for key, value in saved.items()
        if key not in known and key not in NOTES and is_numeric(value)
    )
    return f"{others} instead of {missing}" if missing and others else ""


def is_numeric(value: Any) -> bool:
    """Whether a value of a group is a number, or several."""
    return isinstance(value, (int, float, tuple, Tensor)) and not isinstance(value, bool)


def warn_of_suspicious(who: str, keys: Iterable[str], live: Collection[str]) -> set[str]:
    """Warns of each, and returns which; as if from the first caller outside this library."""
    found = suspicious(keys, live)
    for key, meant in found:
        warn(f"`{who}`: no step reads `{key}` of a parameter group: did you mean `{meant}`?")
    return {key for key, _ in found}
