"""Optimizers that see only some of the parameters, as inside of `ZeroRedundancyOptimizer`."""

import sys

from .._core.tensor_rule import GradientTransformation, TensorRule
from ..combinators import walk
from ..errors import StructureError


def made_by_zero() -> bool:
    """Whether `ZeroRedundancyOptimizer` is making the optimizer whose function calls this one."""
    frame = sys._getframe(1)
    for _ in range(12):
        if frame.f_globals.get("__name__") == "torch.distributed.optim.zero_redundancy_optimizer":
            return True
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False


def check_sums(who: str, tx: GradientTransformation) -> None:
    """Refuses a sum over tensors where only some of them are there to be summed."""
    for _, node in walk(tx):
        if isinstance(node, TensorRule) and node.measures and node.measure_per == "tree":
            raise StructureError(
                f"`{who}`: `{type(node).__name__}` sums over all parameters, "
                "and inside `ZeroRedundancyOptimizer` each rank has only some: say which ranks "
                "have the others, `zero.optim.measure_group = torch.distributed.group.WORLD`."
            )
