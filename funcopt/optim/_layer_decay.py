"""Parameter groups whose learning rate falls from the last layer of a model to the first."""

import re
from collections.abc import Callable, Collection, Sequence

from torch import Tensor, nn

from .._core import checks
from .._core.kinds import check_module
from .._numerics.names import plain_name
from ..errors import HyperparameterError, LabelError
from ..typing import Scalar
from ._param_groups import Group, Which, decay_group, undecayed

_WHO = "param_groups_layer_decay"
_GLUED = re.compile(r"(\w*(?:layer|stage|block|group)s?)_?(\d+)")  # as `layer1` of a ResNet
_INPUT = re.compile(
    r"(\w+_)?(emb|embed|embedding|embeddings|embedder|stem)(_\w+)?|wte|wpe|\w+_tokens?"
)
_HEAD = re.compile(r"(\w+_)?(head|heads|classifier|logits)")


def param_groups_layer_decay(
    model: nn.Module,
    *,
    lr: float | Tensor,
    layer_decay: float = 0.75,
    weight_decay: Scalar | None = None,
    no_weight_decay_list: Collection[Which] = (),
    weight_decay_exclude_1d: bool = True,
    min_scale: float = 0.0,
    layer_of: Callable[[str], int] | None = None,
) -> list[Group]:
    """Groups in which the learning rate falls layer by layer, and norms and biases do not decay.

        opt = AdamW(param_groups_layer_decay(model, lr=1e-3, layer_decay=0.75), weight_decay=0.05)

    For the layers i = 0 ... n,

        learning rate of layer i = lr max(min_scale, layer_decay^(n - i))

    Each layer has up to two groups, ``layer_3_no_decay`` and ``layer_3_decay``, as
    `param_groups_weight_decay` divides them. They hold the names of their parameters, so that
    checkpoints are matched by name. `explain` shows which layer each parameter is in.

    Without `layer_of`, the layers are the numbered blocks of the model, by the first number in a
    name: ``blocks.3.``, ``layers.11.``, ``h.0.``, ``encoder.layer.5.``, ``layer1.``. Embeddings,
    stems and all that comes before the first block are layer 0, heads and all that comes after the
    last block are a layer of their own; what is between two blocks goes with the first. Several
    stacks, such as those of an encoder and a decoder, are counted each by itself: a shorter one
    that comes before the longest starts with it, one that comes after ends with it.

    Args:
        model: The model. Parameters that do not require gradients are left out, but counted as
            layers; tied ones are in the layer of their first name.
        lr: The learning rate of the last layer; a scheduler changes those of all layers.
        layer_decay: The factor from one layer to the one before it, in (0, 1].
        weight_decay: That of the parameters that decay; by default that of the optimizer.
        no_weight_decay_list: Further parameters without weight decay, as in
            `param_groups_weight_decay`.
        weight_decay_exclude_1d: Whether norms and biases are without weight decay.
        min_scale: Lower bound of the factor of `lr`, in [0, 1].
        layer_of: The number of the layer that a parameter, by name, belongs to.

    Raises:
        HyperparameterError: If a value is out of range; if `lr` is a schedule, which has no
            learning rate to be multiplied: a scheduler of torch, on the optimizer, follows the
            groups; if `layer_of` returns no whole number.
        LabelError: If there are no numbered blocks, and no `layer_of`; if an entry of the list
            fits no parameter.

    References:
        Clark et al., "ELECTRA", ICLR 2020, https://arxiv.org/abs/2003.10555; Bao et al., "BEiT",
        ICLR 2022, https://arxiv.org/abs/2106.08254. The arguments are those of timm, whose groups
        have an ``lr_scale`` in place of a learning rate.
    """
    check_module("param_groups_layer_decay", model)
    for name, value in (("lr", lr), ("layer_decay", layer_decay), ("min_scale", min_scale)):
        if callable(value):
            raise HyperparameterError(
                f"`{_WHO}`: `{name}` must be a number, got {value!r}. Let a scheduler of torch "
                "change the learning rates of all groups."
            )
    checks.non_negative(_WHO, "lr", lr)
    checks.positive_fraction(_WHO, "layer_decay", layer_decay)
    checks.fraction(_WHO, "min_scale", min_scale)
    listed = undecayed(_WHO, model, no_weight_decay_list, vectors=weight_decay_exclude_1d)
    layers = _layers([plain_name(name) for name, _ in model.named_parameters()], layer_of)
    last = max(layers.values(), default=0)
    groups: dict[tuple[int, bool], Group] = {}
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        key = layer, decays = layers[plain_name(name)], name not in listed
        if key not in groups:
            group = decay_group(_WHO, decays, weight_decay)
            scale = max(min_scale, layer_decay ** (last - layer))
            groups[key] = {**group, "lr": lr * scale, "name": f"layer_{layer}_{group['name']}"}
        groups[key]["params"].append((name, p))
    return [groups[key] for key in sorted(groups)]


def _layers(names: Sequence[str], layer_of: Callable[[str], int] | None) -> dict[str, int]:
    if layer_of is None:
        return numbered_layers(names)
    layers = {name: layer_of(name) for name in names}
    for name, layer in layers.items():
        if isinstance(layer, bool) or not isinstance(layer, int):
            raise HyperparameterError(
                f"`{_WHO}`: `layer_of` must return a whole number, got {layer!r} for {name!r}."
            )
    return layers


def numbered_layers(names: Sequence[str]) -> dict[str, int]:
    """The layer of every parameter, by the numbered blocks in the names.

    Raises:
        LabelError: If there are names, and none has a numbered block.
    """
    blocks = {name: block for name in names if (block := _block(name)) is not None}
    stacks: dict[str, set[int]] = {}  # in the order of the model
    for stack, number in blocks.values():
        stacks.setdefault(stack, set()).add(number)
    if names and not stacks:
        raise LabelError(
            f"`{_WHO}`: there is no numbered block, such as `blocks.3.`, in the names "
            f"{list(names)}: say with `layer_of` which layer a parameter belongs to."
        )
    depth = max(map(len, stacks.values()), default=0)
    at: dict[tuple[str, int], int] = {}
    after = False  # the longest stack
    for stack, numbers in stacks.items():
        after = after or len(numbers) == depth
        first = 1 + depth - len(numbers) if after else 1
        at.update({(stack, number): first + i for i, number in enumerate(sorted(numbers))})
    layers, here = {}, 0
    ending = next((name for name in reversed(names) if name in blocks), None)
    for name in names:
        here = at[blocks[name]] if name in blocks else here
        parts = name.split(".")
        if name in blocks:
            layers[name] = here
        elif any(map(_INPUT.fullmatch, parts)):
            layers[name] = 0
        else:
            layers[name] = depth + 1 if any(map(_HEAD.fullmatch, parts)) else here
        here = depth + 1 if name == ending else here
    return layers


def _block(name: str) -> tuple[str, int] | None:
    """The stack and the number of the block that a parameter is in; `None` if it is in none."""
    before: list[str] = []
    for part in name.split("."):
        if part.isdecimal():
            return ".".join(before), int(part)
        if glued := _GLUED.fullmatch(part):
            return ".".join([*before, glued[1]]), int(glued[2])
        if _INPUT.fullmatch(part) or _HEAD.fullmatch(part):
            return None
        before.append(part)
    return None
