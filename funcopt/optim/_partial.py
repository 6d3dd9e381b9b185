"""Optimizers that see only some of the parameters, as inside of `ZeroRedundancyOptimizer`."""

from .._core.tensor_rule import GradientTransformation
from ..combinators import partition, walk
from ..errors import StructureError
from ._callers import called_by


def sees_all(who: str, tx: GradientTransformation) -> bool:
    """Whether the optimizer that is being made will see all parameters.

    Raises:
        StructureError: If `ZeroRedundancyOptimizer` makes it, and it would have groups of its own.
    """
    if not called_by("torch.distributed.optim.zero_redundancy_optimizer"):
        return True
    labels = [label for _, x in walk(tx) if isinstance(x, partition) for label in x.children()]
    if labels:
        raise StructureError(
            f"`{who}`: every label of a `partition`, here {', '.join(map(repr, labels))}, becomes "
            "a parameter group, and `ZeroRedundancyOptimizer` has to know all groups itself. Make "
            "one for each label: `ZeroRedundancyOptimizer(params_of_the_label, "
            "optimizer_class=funcopt.Optimizer, tx=transformation_of_the_label)`."
        )
    return False


def check_sums(who: str, tx: GradientTransformation) -> None:
    """Refuses a sum over tensors where only some of them are there to be summed."""
    for _, node in walk(tx):
        if getattr(node, "measures_tree", False):
            raise StructureError(
                f"`{who}`: `{type(node).__name__}` sums over all parameters, "
                "and inside `ZeroRedundancyOptimizer` each rank has only some: say which ranks "
                "have the others, `zero.optim.measure_group = torch.distributed.group.WORLD`."
            )
