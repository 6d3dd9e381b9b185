"""Adam-mini, with blocks by name and shape."""

import re

import torch
from torch import Tensor

from .._core import checks
from .._core.record import Record
from .._core.tensor_rule import GradientTransformation, TensorRule
from .._hints.calls import explained
from .._numerics.names import plain_name
from ..combinators import Labels, chain, partition
from ..errors import LabelError
from ..transforms import (
    add_decayed_weights,
    scale_by_adam,
    scale_by_adam_mini,
    scale_by_learning_rate,
)
from ..typing import Scalar

NORMS = re.compile(r"norm|(?<![^./_])ln")
QUERIES = re.compile(r"q_proj|wq|query")
KEYS = re.compile(r"k_proj|wk|key")
ROWS = re.compile(
    r"embed|embd|wte|lm_head|output|final_layer|v_proj|wv|value|o_proj|wo|attn\.proj|feed_forward|"
    r"linear|mlp"
)


class adam_mini_blocks(Record):
    """Labels for `adam_mini`: how a parameter is cut into blocks, by name, as the authors do.

        partition({"row": ..., "tensor": ..., ...}, adam_mini_blocks())

    In a name, in small letters, the first that is found decides:

        bias     `bias`
        norm     `norm`, `ln`
        query    `q_proj`, `wq`, `query`; key: `k_proj`, `wk`, `key`; both only with `heads`
        row      `embed`, `embd`, `wte`, `lm_head`, `output`, `final_layer`, `v_proj`, `wv`,
                 `value`, `o_proj`, `wo`, `attn.proj`, `feed_forward`, `linear`, `mlp`; queries and
                 keys without `heads`
        tensor   all others

    Args:
        heads: Whether queries and keys are cut into heads.

    Raises:
        LabelError: If a matrix has no name, as those of `model.parameters()`; a vector without one
            is one block.
    """

    heads: bool = False

    def __post_init__(self) -> None:
        checks.switch(self, "heads", self.heads)

    def __call__(self, name: str | None, p: Tensor) -> str:
        if name is None and p.dim() < 2:
            return "tensor"
        if name is None:
            raise LabelError(
                "`adam_mini_blocks`: blocks are chosen by name, and a parameter of shape "
                f"{tuple(p.shape)} has none: pass `model.named_parameters()`, or `labels`."
            )
        name = plain_name(name).lower()
        if "bias" in name:
            return "bias"
        if NORMS.search(name):
            return "norm"
        if QUERIES.search(name):
            return "query" if self.heads else "row"
        if KEYS.search(name):
            return "key" if self.heads else "row"
        return "row" if ROWS.search(name) else "tensor"


@explained
def adam_mini(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    *,
    n_heads: int | None = None,
    n_kv_heads: int | None = None,
    labels: Labels | None = None,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Adam-mini: AdamW with one second moment for each head, row or tensor.

    A `partition` whose labels say how a parameter is cut into blocks, each with
    `scale_by_adam_mini` but for biases, which have Adam:

        query    n_heads blocks; key: n_kv_heads blocks
        row      a block for each index of the first dimension
        tensor   one block; norm: one, without weight decay
        bias     a block for each entry, without weight decay

    Steps and defaults are those of the authors' `Adam_mini`, and names are matched as there, by
    `adam_mini_blocks`. In an optimizer each label is a parameter group; `optim.explain` shows which
    parameters are in which. The moments are stored in `state_dtype`, else in the dtype of the
    parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its mean square, in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        n_heads: The number of heads of queries; `None` for a block for each of their rows.
        n_kv_heads: That of keys; by default `n_heads`.
        labels: The label of each parameter, as `partition` takes it; by default `adam_mini_blocks`.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.
        LeafError: If a query or key cannot be cut into so many heads.
        LabelError: If `labels` do not fit the parameters; without `labels`, if these have no names.

    References:
        Zhang et al., "Adam-mini: Use Fewer Learning Rates To Gain More", ICLR 2025.
        https://arxiv.org/abs/2406.16793
    """
    for name, count in (("n_heads", n_heads), ("n_kv_heads", n_kv_heads)):
        if count is not None:
            checks.whole_number("adam_mini", name, count, least=1)

    def of(scaling: TensorRule, *, decays: bool = True) -> GradientTransformation:
        decay = (add_decayed_weights(weight_decay),) if decays else ()
        return chain(scaling, *decay, scale_by_learning_rate(lr))

    def blocks(count: int) -> TensorRule:
        return scale_by_adam_mini(betas, eps, count, state_dtype=state_dtype)

    return partition(
        {
            "query": of(blocks(n_heads or 0)),
            "key": of(blocks(n_kv_heads or n_heads or 0)),
            "row": of(blocks(0)),
            "tensor": of(blocks(1)),
            "norm": of(blocks(1), decays=False),
            "bias": of(scale_by_adam(betas, eps, state_dtype=state_dtype), decays=False),
        },
        adam_mini_blocks(heads=n_heads is not None) if labels is None else labels,
    )
