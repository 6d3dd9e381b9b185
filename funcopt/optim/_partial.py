"""Optimizers that see only some of the parameters, as inside of `ZeroRedundancyOptimizer`."""

from .._core.tensor_rule import GradientTransformation, TensorRule
from ..combinators import walk
from ..errors import StructureError
from ._callers import called_by


def made_by_zero() -> bool:
    """Whether `ZeroRedundancyOptimizer` is making the optimizer whose function calls this one."""
    return called_by("torch.distributed.optim.zero_redundancy_optimizer")


def check_sums(who: str, tx: GradientTransformation) -> None:
    """Refuses a sum over tensors where only some of them are there to be summed."""
    for _, node in walk(tx):
        if isinstance(node, TensorRule) and node.measures and node.measure_per == "tree":
            raise StructureError(
                f"`{who}`: `{type(node).__name__}` sums over all parameters, "
                "and inside `ZeroRedundancyOptimizer` each rank has only some: say which ranks "
                "have the others, `zero.optim.measure_group = torch.distributed.group.WORLD`."
            )
