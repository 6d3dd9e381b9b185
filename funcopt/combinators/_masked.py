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
    """Transforms the parameters of the mask by `inner`, and leaves the updates of the others alone.

        chain(scale_by_adam(), masked(add_decayed_weights(0.1), lambda name, p: p.ndim > 1))

    What is left alone passes unchanged, so ``masked(sgd(0.1), mask)`` would *ascend* on the rest:
    where the others are to stand still, use `freeze`, or `partition`.

    Args:
        inner: A transformation that works tensor by tensor.
        mask: A regular expression that is searched for in the names; a predicate of name and
            tensor; a list of pairs of either and a bool, the first that fits counts; or a tree of
            bools, where one may stand for a whole subtree.

    Raises:
        LabelError: If a pattern fits no parameter, or nothing says whether one is of the mask.
        HyperparameterError: If `inner` sees whole trees, or single examples.
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
    """Sets the updates of the parameters of the mask to zero, so that they stand still.

    It remembers nothing. As a branch of `partition`, ``freeze()`` freezes all that come there; in
    front of a chain it would not stop what comes after, such as weight decay: put it last.

    Args:
        mask: As for `masked`; by default, all parameters.
    """
    return masked(set_to_zero(), mask)
