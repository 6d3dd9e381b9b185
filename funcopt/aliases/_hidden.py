"""Labels of the weights of hidden layers, by name and shape."""

import math
import re
from typing import Literal

from torch import Tensor

from .._core import checks
from .._core.record import Record
from .._numerics.names import plain_name
from ..errors import HyperparameterError, LabelError

_PART = r"(?<![^./])(?:{})(?![^./])"  # everything between dots
_WORD = r"(?<![^./_])(?:{})(?![^./_])"  # everything between dots and underscores

OTHERS = re.compile(
    "|".join(
        [
            _WORD.format(r"(un)?(emb|embed|embedding|embeddings|embedder)\d*"),
            _PART.format(r"w[tp]e"),
            _PART.format(r"(\w+_)?(head|classifier|logits)"),
            r"^((?!\d+[./])[^./]+[./])*" + _PART.format(r"(\w+_)?heads"),  # of no numbered block
            r"^((model|module|decoder)[./])*(fc|output|score)[./]"
            r"(parametrizations[./]weight[./]original\d*|weight(_\w+)?)$",
            _WORD.format(r"[^./_]*norms?\d*|normali[sz]ation|(ln|bn)\d*|bias(es)?\d*"),
            _WORD.format(r"(cls|class|dist|mask|reg|register)_tokens?"),
        ]
    ),
    re.IGNORECASE,
)


class hidden_weights(Record):
    """Labels for `partition`: the matrices of hidden layers, and all other parameters.

        partition({"soap": soap(), "adamw": adamw()}, hidden_weights(hidden="soap"))

    The weights of hidden layers are all parameters but those that are excluded

        by shape   vectors, also those with further dimensions of size 1; without `dims`, tensors of
                   more than two dimensions
        by name    embeddings (`embed`, `emb`, `embedding`, `wte`, `wpe` ...), heads (`head`,
                   `lm_head`, `classifier`, `logits`, and at the top `fc`, `output`, `score`),
                   norms (`norm`, `layernorm`, `ln`, `bn`), biases and learned tokens

    Words are matched whole, between dots and underscores: `normalizer_proj` is not a norm. `heads`
    are heads of the model, but not in a numbered block: in `blocks.0.attn.heads.1.key.weight` they
    are those of attention, and hidden.

    A layer with another name, such as the last one of a `torch.nn.Sequential`, is not recognized:
    check with `optim.explain`, and put pairs of your own in front:

        labels = [(r"^4[.]", "adamw"), (lambda name, p: p.ndim < 2, "adamw"), (r"", "muon")]

    Args:
        dims: What the matrices of a tensor of more than two dimensions are, as in `scale_by_muon`;
            with either, such tensors are hidden weights.
        hidden: The label of the weights of hidden layers; by default that of `muon`.
        other: The label of all other parameters; by default that of `muon`.
        vectors: The label of those that are excluded by shape as vectors; by default that of all
            others.

    Raises:
        HyperparameterError: If `dims` is unknown, or the labels are not two different strings.
        LabelError: If a matrix has no name, as those of `model.parameters()`: an embedding or
            head would be taken for a hidden layer.
    """

    dims: Literal["batch", "flatten"] | None = None
    hidden: str = "muon"
    other: str = "adamw"
    vectors: str | None = None

    def __post_init__(self) -> None:
        checks.choice(self, "dims", self.dims, (None, "batch", "flatten"))
        labels = (self.hidden, self.other)
        if not all(isinstance(label, str) for label in labels) or self.hidden == self.other:
            raise HyperparameterError(
                "`hidden_weights`: `hidden` and `other` must be two different labels, got "
                f"{self.hidden!r} and {self.other!r}."
            )
        if not isinstance(self.vectors, str | None):
            raise HyperparameterError(
                f"`hidden_weights`: `vectors` must be a label or None, got {self.vectors!r}."
            )

    def __call__(self, name: str | None, p: Tensor) -> str:
        if self.vectors is not None and self._is_vector(p):
            return self.vectors
        return self.hidden if self._is_hidden(name, p) else self.other

    def _is_vector(self, p: Tensor) -> bool:
        if p.dim() < 2 or (p.dim() > 2 and self.dims is None):
            return sum(n != 1 for n in p.shape) < 2
        rows, columns = p.shape[-2:]
        if self.dims == "flatten":
            rows, columns = p.shape[0], math.prod(p.shape[1:])
        return min(rows, columns) == 1

    def _is_hidden(self, name: str | None, p: Tensor) -> bool:
        if self._is_vector(p) or (p.dim() > 2 and self.dims is None):
            return False
        if name is None:
            raise LabelError(
                "`hidden_weights`: the weights of hidden layers are recognized by their names, "
                f"and a matrix of shape {tuple(p.shape)} has none: pass "
                "`model.named_parameters()`, in parameter groups as lists of pairs, "
                "`{'params': list(module.named_parameters())}`; or `labels`, such as "
                '`labels="muon"` of `muon` for matrices of hidden layers alone.'
            )
        return OTHERS.search(plain_name(name)) is None
