"""Different transformations for different parameters."""

from collections.abc import Mapping

from torch import Tensor

from .._core.compact import in_message
from .._core.kinds import described
from .._core.tensor_rule import GradientTransformation
from ..errors import HyperparameterError, LabelError
from ._by_label import ByLabel
from ._labels import Choice, Labels


class partition(ByLabel):
    """Applies to every parameter the transformation of its label.

        tx = partition({"matrix": trace(0.9), "rest": scale_by_adam()},
                       [(lambda name, p: p.ndim == 2, "matrix"), (r".*", "rest")])

    A global norm is that of the parameters of one label where the stage is inside, and of all of
    them where it is outside. The slots of a tensor are a tuple with one entry per label, ``()`` for
    those that are not its own; so is the memory.

    In a torch optimizer, every label becomes a parameter group of that name.

    Args:
        transforms: The transformations, by label.
        labels: The label of every parameter: a list of pairs of a regular expression or predicate
            ``(name, tensor)`` and a label, of which the first that fits is used; a function of
            both; or a tree of labels, where one label may be for a whole subtree.

    Raises:
        LabelError: If a parameter has no label, a label no transformation, or a pattern fits
            nothing; if a label is not a string.
        HyperparameterError: If one of the transformations takes whole trees or per-example
            gradients.
    """

    transforms: Mapping[str, GradientTransformation]
    labels: Labels
    labeled = True

    def __post_init__(self) -> None:
        if not isinstance(self.transforms, Mapping) or not self.transforms:
            raise HyperparameterError(
                "`partition`: `transforms` must be a dict of a transformation for each label, got "
                f"{described(self.transforms)}"
            )
        self.check_branches()
        for label in self.transforms:
            if not isinstance(label, str):
                raise LabelError(
                    "`partition`: a label is a string, since it names a parameter group; got "
                    f"{label!r}."
                )

    def children(self) -> dict[str, GradientTransformation]:
        return dict(self.transforms)

    def with_children(self, children: Mapping[str, GradientTransformation]) -> "partition":
        return partition(dict(children), self.labels)

    def branches(self) -> Mapping[str, GradientTransformation]:
        return self.transforms

    def choice(self) -> Choice:
        return Choice(type(self).__name__, self.labels)

    def branch(self, choice: Choice, name: str | None, p: Tensor) -> str:
        label: str = choice.of(name, p)
        if label not in self.transforms:
            raise LabelError(
                f"`{type(self).__name__}`: parameter `{name}` has the label {in_message(label)}, "
                f"and there are only transformations for {list(self.transforms)}."
            )
        return label
