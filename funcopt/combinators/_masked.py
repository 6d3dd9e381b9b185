"""A transformation for some of the parameters only."""

from collections.abc import Mapping

from torch import Tensor

from .._core.functions import identity
from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..transforms import set_to_zero
from ._by_label import ByLabel
from ._labels import Choice, Labels, choice_of_mask

INNER, REST = "inner", "rest"


class masked(ByLabel):
    """Applies `inner` to the parameters of the mask; the updates of the others pass unchanged.

        chain(scale_by_adam(), masked(add_decayed_weights(0.1), lambda name, p: p.ndim > 1))

    The others are not negated, so ``masked(sgd(0.1), mask)`` would *ascend* on them: to keep their
    values, use `freeze` or `partition`.

    Args:
        inner: A transformation that works tensor by tensor.
        mask: A regular expression that is searched for in the names; a predicate of name and
            tensor; a list of pairs of either and a bool, of which the first that fits is used; or a
            tree of bools, where one may be for a whole subtree.

    Raises:
        LabelError: If a pattern fits no parameter, or the mask has no value for a parameter.
        HyperparameterError: If `inner` takes whole trees or per-example gradients.
    """

    inner: GradientTransformation
    mask: Labels

    def __post_init__(self) -> None:
        self.check_branches()

    def children(self) -> dict[str, GradientTransformation]:
        return {INNER: self.inner}

    def with_children(self, children: Mapping[str, GradientTransformation]) -> "masked":
        return masked(children[INNER], self.mask)

    def branches(self) -> Mapping[str, GradientTransformation]:
        return {INNER: self.inner, REST: identity()}

    def choice(self) -> Choice:
        return choice_of_mask("masked", self.mask)

    def branch(self, choice: Choice, name: str | None, p: Tensor) -> str:
        return INNER if choice.of(name, p) else REST


@explained
def freeze(mask: Labels = True) -> masked:
    """Freezes the parameters of the mask: sets their updates to zero.

    It has no state. As a branch of `partition`, ``freeze()`` freezes all parameters of its label;
    at the start of a chain it would not stop later stages, such as weight decay: put it last.

    Args:
        mask: As for `masked`; by default, all parameters.
    """
    return masked(set_to_zero(), mask)
