"""A training step as a program that runs without this library."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from .. import tree
from .._core.apply import state_dict
from .._core.kinds import check_function, check_tree
from ..typing import Tree


def export_step(
    step: Callable[[Tree, Any], tuple[Tree, Any]], state: Tree, batch: Any
) -> torch.export.ExportedProgram:
    """`step` as a `torch.export` program of flat dicts, which `torch.export.save` can write.

        program = export_step(train_step(loss, tx), state, batch)
        torch.export.save(program, "step.pt2")
        run, tensors = program.module(), state_dict(state)
        for batch in batches:
            tensors, value = run(tensors, batch)
        state = load_state_dict(state, tensors)

    `state` goes in and comes out as `state_dict` has it. The derivative is traced into the program
    first: `torch.export` alone loses track of the parameters inside `torch.func.grad`.

    Args:
        step: A pure function such as `train_step`, or ``vmap`` of one.
        state: A training state of the same shapes and dtypes as those to come.
        batch: A batch, likewise.
    """
    check_function("export_step", "step", step, "step(state, batch)", 2)
    check_tree("export_step", "state", state)
    names, (leaves, spec) = tree.names(state), tree.flatten(state)

    def flat(tensors: dict[str, Tensor], batch: Any) -> tuple[dict[str, Tensor], Any]:
        new, out = step(spec.unflatten([tensors[name] for name in names]), batch)
        return state_dict(new), out

    tensors = dict(zip(names, leaves, strict=True))
    graph = make_fx(flat, tracing_mode="fake")(tensors, batch)
    return torch.export.export(graph, (tensors, batch))
