"""Removing and resizing parameters, when a model is pruned or grown."""

from torch import Tensor

from .._numerics.names import plain_name
from ..errors import StructureError
from ._groups import ParameterGroups
from ._options import Options, named_parameters
from ._state import State, StateStore


def drop(
    param_groups: list[Options], state: State, groups: ParameterGroups, which: str | Tensor
) -> None:
    """Takes a parameter out of its group and out of the state.

    Raises:
        StructureError: If there is no such parameter.
    """
    index, at = _find(f"{groups.who}.drop", param_groups, which)
    groups.refresh(param_groups)
    group = param_groups[index]
    state.pop(group["params"].pop(at), None)
    if "param_names" in group:
        del group["param_names"][at]
    groups.refresh(param_groups)


def resize(
    param_groups: list[Options],
    state: State,
    store: StateStore,
    which: str | Tensor,
    new: Tensor,
    index_map: Tensor,
    dim: int,
) -> None:
    """Puts `new` in the place of a parameter, with what of the state belongs to the rows kept.

    Raises:
        StructureError: If there is no such parameter, or the map does not fit; nothing changes.
    """
    groups = store.groups
    call = f"{groups.who}.resize"
    index, at = _find(call, param_groups, which)
    name, p = list(named_parameters(param_groups[index]))[at]
    dim = dim % max(p.dim(), 1)
    _check_map(call, p, new, index_map, dim)
    old = state.get(p)
    tx = groups.transformation(param_groups, index).tx
    initial = store.initial(tx, name, new, param_groups[index])
    if old is not None:
        index_map = index_map.to(store.offload.device(p))
        kept = index_map >= 0
        for key, x in initial.items():
            before = old.get(key)
            if before is None:
                continue
            like_p = before.dim() == p.dim() and before.shape[dim] == p.shape[dim]
            if like_p and x.dim() == p.dim() and x.shape[dim] == new.shape[dim]:
                picked = before.index_select(dim, index_map[kept]).to(x.dtype)
                x.index_copy_(dim, kept.nonzero().flatten(), picked)
            elif before.shape == x.shape:
                x.copy_(before)
    groups.replace(param_groups, index, at, new)  # nothing has been changed before
    if old is not None:
        del state[p]
        state[new] = {**old, **initial}


def _find(call: str, param_groups: list[Options], which: str | Tensor) -> tuple[int, int]:
    """The group of a parameter, given by name or by itself, and its place there."""
    for index, group in enumerate(param_groups):
        for at, (name, p) in enumerate(named_parameters(group)):
            if p is which or (isinstance(which, str) and name == plain_name(which)):
                return index, at
    names = [name for group in param_groups for name, _ in named_parameters(group)]
    what = repr(which) if isinstance(which, str) else f"of shape {tuple(which.shape)}"
    raise StructureError(
        f"`{call}`: there is no parameter {what} among {names}. Names "
        "are known if the optimizer was made of `model.named_parameters()`."
    )


def _check_map(call: str, p: Tensor, new: Tensor, index_map: Tensor, dim: int) -> None:
    """Refuses a map that does not lead from the rows of `new` to those of `p`."""
    rows = new.shape[dim] if new.dim() == p.dim() and p.dim() else -1
    others = [n for i, n in enumerate(new.shape) if i != dim]
    if rows < 0 or others != [n for i, n in enumerate(p.shape) if i != dim]:
        raise StructureError(
            f"`{call}`: only dimension {dim} may change, and "
            f"{tuple(p.shape)} became {tuple(new.shape)}: resize one dimension after another."
        )
    if index_map.shape != (rows,) or (rows and int(index_map.max()) >= p.shape[dim]):
        raise StructureError(
            f"`{call}`: `index_map` must have an entry below "
            f"{p.shape[dim]} for each of the {rows} rows of the new parameter, got "
            f"{index_map.tolist()}."
        )
