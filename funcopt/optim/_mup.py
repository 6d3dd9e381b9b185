"""Parameter groups by muP: learning rates that stay good while a model gets wider."""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from torch import Tensor, nn

from .._core import checks
from .._core.kinds import check_module
from .._numerics.names import plain_name
from ..errors import HyperparameterError, LabelError
from ..typing import Scalar
from ._param_groups import Group, Which, fitted_names, undecayed

_WHO = "param_groups_mup"


def param_groups_mup(
    model: nn.Module,
    base: nn.Module | Mapping[str, Sequence[int]],
    *,
    lr: float | Tensor,
    weight_decay: Scalar | None = None,
    rule: Literal["adam", "sgd"] = "adam",
    readout: Collection[Which] = (),
    no_weight_decay_list: Collection[Which] = (),
    weight_decay_exclude_1d: bool = False,
) -> list[Group]:
    """Groups whose learning rates follow muP: tuned at a small width, they fit a larger one.

        small, large = GPT(width=128), GPT(width=1024)  # as many layers
        opt = AdamW(param_groups_mup(large, small, lr=1e-3, weight_decay=0.1, readout=["head"]))

    `base` has the width that `lr` was tuned at. Dimensions that differ between both are widths;
    with m_in and m_out for how many times wider the second and the first dimension are, and m for
    the one that differs, of a parameter with a single width,

        two widths (hidden weights)        adam: lr / m_in    sgd: lr m_out / m_in
        one width (embeddings, biases)     adam: lr           sgd: lr m
        one width, in `readout`            adam: lr / m       sgd: lr / m
        no width                           adam: lr           sgd: lr

    Weight decay is divided by the same factor, so that its product with the learning rate, which is
    the decay of a step of AdamW, stays as it was. `rule` is "adam" for all methods that normalize
    each entry of the gradient, "sgd" for those that follow it.

    muP is more than learning rates. Hidden weights are initialized with variance 1 / fan_in, the
    output layer with zeros or variance 1 / fan_in^2, attention scores are divided by the width of a
    head instead of its root. An output layer whose logits are divided by m in the model, as by
    `MuReadout` of the package `mup`, is not in `readout`.

    The groups hold the names of their parameters, so that checkpoints are matched by name.

    Args:
        model: The model. Parameters that do not require gradients are left out.
        base: The narrower model, or its shapes by name. It has the same parameters, and may be on
            "meta".
        lr: The learning rate of `base`; a scheduler changes those of all groups.
        weight_decay: The weight decay of `base`; not negative. `None` is that of the optimizer, the
            same in all groups: for methods that do not multiply it by the learning rate.
        rule: "adam" or "sgd".
        readout: The output layers, as in `param_groups_by`.
        no_weight_decay_list: Parameters without weight decay, as in `param_groups_weight_decay`.
        weight_decay_exclude_1d: Whether norms and biases are without weight decay.

    Raises:
        HyperparameterError: If a hyperparameter is out of range, or `lr` is a schedule, which has
            no learning rate to be divided; if `readout` is a string.
        LabelError: If the parameters of `base` differ in name or number of dimensions, more than
            two dimensions of one are widths, or an entry of a list fits no parameter.

    References:
        Yang et al., "Tensor Programs V: Tuning Large Neural Networks via Zero-Shot Hyperparameter
        Transfer", NeurIPS 2021, table 3. https://arxiv.org/abs/2203.03466
    """
    check_module(_WHO, model)
    if callable(lr):
        raise HyperparameterError(
            f"`{_WHO}`: `lr` must be a number, got {lr!r}. Let a scheduler of torch change the "
            "learning rates of all groups."
        )
    checks.non_negative(_WHO, "lr", lr)
    if weight_decay is not None:
        checks.fixed_number(_WHO, "weight_decay", weight_decay)
    checks.choice(_WHO, "rule", rule, ("adam", "sgd"))
    outputs = fitted_names(_WHO, "readout", model, readout)
    listed = undecayed(_WHO, model, no_weight_decay_list, vectors=weight_decay_exclude_1d)
    shapes = _shapes(base)
    groups: dict[tuple[float, bool], Group] = {}
    seen = set()
    for name, p in model.named_parameters():
        plain = plain_name(name)
        seen.add(plain)
        divisor = _divisor(plain, p, shapes, rule, name in outputs)
        if not p.requires_grad:
            continue
        key = divisor, name not in listed
        if key not in groups:
            group: Group = {"params": [], "lr": lr / divisor}
            if name in listed:
                group["weight_decay"] = 0.0
            elif weight_decay is not None:
                group["weight_decay"] = weight_decay * divisor  # type: ignore[operator]
            ending = "" if name not in listed else "_no_decay"
            groups[key] = {**group, "name": f"lr_over_{divisor:g}{ending}"}
        groups[key]["params"].append((name, p))
    if missing := sorted(shapes.keys() - seen):
        raise LabelError(f"`{_WHO}`: `base` has parameters that the model has not: {missing}.")
    return [groups[key] for key in sorted(groups)]


def _shapes(base: nn.Module | Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    if isinstance(base, nn.Module):
        return {plain_name(name): tuple(p.shape) for name, p in base.named_parameters()}
    if not isinstance(base, Mapping):
        raise HyperparameterError(
            f"`{_WHO}`: `base` must be a model, or a dict of shapes by name, got "
            f"{type(base).__name__}."
        )
    return {plain_name(name): tuple(shape) for name, shape in base.items()}


def _divisor(
    name: str, p: Tensor, shapes: Mapping[str, tuple[int, ...]], rule: str, is_readout: bool
) -> float:
    """What the learning rate of a parameter is divided by."""
    base = shapes.get(name)
    if base is None or len(base) != p.dim():
        raise LabelError(
            f"`{_WHO}`: parameter `{name}` of shape {tuple(p.shape)} "
            + (f"is of shape {base} in `base`." if base is not None else "is not in `base`.")
        )
    wider = [n / m for n, m in zip(p.shape, base, strict=True) if n != m]
    if len(wider) > 2:
        raise LabelError(
            f"`{_WHO}`: parameter `{name}` of shape {tuple(p.shape)}, and {base} in `base`, "
            f"differs in {len(wider)} dimensions; at most two may be widths."
        )
    if len(wider) == 2:
        out, into = wider
        return into if rule == "adam" else into / out
    if not wider or (rule == "adam" and not is_readout):
        return 1.0
    return wider[0] if is_readout else 1 / wider[0]
