"""The leaves of a pure update: checked on their way in, and put back into their trees."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import tree
from .._numerics import shards
from .._numerics.names import plain_name, plain_names
from .._numerics.scalars import is_plain, is_traced, moved
from ..errors import (
    LeafError,
    MissingParamsError,
    SparseGradientError,
    StructureError,
    TiedParametersError,
)
from ..typing import Params, Slots
from . import precision
from .warning import warn

OF_A_MODEL = "`split_module(model).params`"


def warn_of_history(who: str, names: Sequence[str], leaves: Sequence[Any]) -> None:
    """Warns where a loop of updates would keep the graphs of all of them."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return
    for name, p in zip(names, leaves, strict=True):
        if isinstance(p, torch.nn.Parameter) and p.requires_grad:
            which = f"`{name}`" if name else "this"
            warn(
                f"`{who}`: {which} is a parameter that requires grad, so autograd follows every "
                f"update, and keeps the graphs of all of them. Detach: {OF_A_MODEL}, or "
                "`p.detach()` of each. (Where derivatives by these parameters are wanted, pass "
                "`p.view_as(p)`.)"
            )
            return


def checked_params(who: str, params: Params) -> tuple[list[Any], tree.Spec[Any]]:
    """The leaves of `params` and their structure.

    Raises:
        LeafError: If a leaf is not a floating-point or complex tensor, dense.
        TiedParametersError: If two leaves are the same memory.
    """
    leaves, spec = tree.flatten(params)
    seen: dict[Any, int] = {}
    for i, p in enumerate(leaves):
        if p is None:
            continue
        if not isinstance(p, Tensor) or p.layout is not torch.strided:
            name = tree.names(params)[i]
            what = f"parameter `{name}` must be a dense tensor" if name else "expected tensors"
            got = p.layout if isinstance(p, Tensor) else f"{type(p).__name__}"
            raise LeafError(
                f"`{who}`: {what}, got {got}. A tree of tensors is wanted, without what is not "
                f"trained: {OF_A_MODEL}."
            )
        if not (p.is_floating_point() or p.is_complex()):
            raise LeafError(
                f"`{who}`: parameter `{tree.names(params)[i]}` must be floating-point or complex, "
                f"got {p.dtype}. A `state_dict()` holds integer buffers; use {OF_A_MODEL}."
            )
        for key in _identities(p):
            if (first := seen.setdefault(key, i)) != i:
                names = tree.names(params)
                raise TiedParametersError(
                    f"`{who}`: parameters `{names[first]}` and `{names[i]}` are the same memory, "
                    f"and would be updated twice. Keep one, as {OF_A_MODEL} does."
                )
    return leaves, spec


class Leaves:
    """The tensors of one pure update that have a gradient, ready for a pass."""

    def __init__(
        self,
        who: str,
        needs_params: str | None,
        updates: Any,
        slots: Slots,
        params: Any,
        examples: bool = False,
        fill: Callable[..., tuple[list[Any], dict[int, Any]]] | None = None,
    ) -> None:
        self._who, self._updates, self.has_params = who, updates, params is not None
        leaves, self._spec = tree.flatten(updates)
        self._old_slots = self._like_updates("state", slots)
        if params is None and needs_params is not None:
            raise MissingParamsError(
                f"`{needs_params}` needs the parameters: call `update(updates, state, params)`."
            )
        all_ps: list[Any] = [None] * len(leaves)
        if params is not None:
            all_ps = self._like_updates("params", params)
        if updates is None and params is not None and not isinstance(params, Tensor):
            raise StructureError(
                f"`{who}`: the updates are None, where `params` is a {type(params).__name__}: pass "
                "the gradients, in the structure of `params`, with None where there is none."
            )
        self._due: dict[int, Any] = {}  # flags of those whose gradient is one of these zeros
        if fill is not None and not examples:
            leaves, self._due = fill(leaves, self._old_slots, all_ps, updates)
        self._old, self._all_ps, self._examples = leaves, all_ps, examples
        self.active = [i for i, g in enumerate(leaves) if g is not None]
        self._wide: list[torch.dtype] = []
        self.tensors: list[Tensor] = []  # as they were given
        self.gs: list[Tensor] = []
        self.ps: list[Any] = []
        self.slots: list[Slots] = []
        for i in self.active:
            g, p, mine = leaves[i], all_ps[i], self._old_slots[i]
            self._check(i, g, p)
            wide = precision.compute_dtype(g, p, mine)
            self._wide.append(wide)
            self.tensors.append(g if p is None else p)
            if examples:
                self.gs.append(precision.lift_examples(g, wide))
            else:
                self.gs.append(precision.lift(g if p is None else shards.placed_as(g, p), wide))
            self.ps.append(None if p is None else precision.lift(p, wide))
            self.slots.append(precision.lift_slots(mine, g if p is None else p, wide))

    def names(self) -> list[str]:
        """The names of the tensors of this pass."""
        names = tree.names(self._updates)
        return [plain_name(names[i]) for i in self.active]

    def keys(self) -> list[str]:
        """The same, in which no two are equal."""
        names = plain_names(tree.names(self._updates))
        return [names[i] for i in self.active]

    def lift(self, name: str, values: Any) -> list[Any]:
        """An extra argument that is a tree like the parameters, for the tensors of this pass.

        Where it is `None`, no stage may ask for it.
        """
        flat, out = self._like_updates(name, values), []
        for i, wide in zip(self.active, self._wide, strict=True):
            x = flat[i]
            if x is not None and not isinstance(x, Tensor):
                raise StructureError(
                    f"`{self._who}`: `{name}` of `{self._name(i)}` must be a tensor, got {x!r}."
                )
            out.append(None if x is None else precision.lift(x, wide))
        return out

    def put(self, ps: Sequence[Tensor]) -> Any:
        """The tree of the parameters, with `ps` in the place of those of this pass."""
        now = list(self._all_ps)
        for i, p in zip(self.active, ps, strict=True):
            now[i] = precision.lower(p, now[i])
        return self._spec.unflatten(now)

    def lower(self, us: list[Tensor], slots: list[Slots], exact: bool = False) -> tuple[Any, Slots]:
        """The trees of the updates, in the gradients' dtype, and of the slots, each in its own.

        Updates that are `exact` stay in the dtype in which they were computed.
        """
        new_us, new_slots = list(self._old), list(self._old_slots)
        for i, u, new in zip(self.active, us, slots, strict=True):
            old = self._like(i)
            if i in self._due:
                u, new = self._if_due(i, u, new)
            if u.numel() != old.numel() * (2 if old.is_complex() else 1) and not (
                shards.is_sharded(old)
            ):
                raise StructureError(
                    f"`{self._who}`: the update of `{self._name(i)}` must have the gradient's "
                    f"shape {tuple(old.shape)}, got {tuple(u.shape)}."
                )
            if any(u is entry for entry in precision.entries(new)):
                u = u.clone()  # else who changes the update in place changes the state
            new_us[i] = precision.lower(u, old, u.dtype if exact else None)
            new_slots[i] = precision.lower_slots(new, self._old_slots[i])
        return self._spec.unflatten(new_us), self._spec.unflatten(new_slots)

    def _if_due(self, i: int, u: Tensor, new: Slots) -> tuple[Tensor, Slots]:
        """The update and slots of a tensor, as they were where none is due."""
        flag = moved(self._due[i], u.device)
        before = self.slots[self.active.index(i)]
        kept = precision.map_slots(
            lambda x, old: x if x is old else torch.where(flag, x, old), new, before
        )
        return torch.where(flag, u, -0.0), kept

    def _like(self, i: int) -> Tensor:
        """What the update of a tensor looks like: its gradient, or that of one example."""
        g: Tensor = self._old[i]
        if not self._examples:
            return g
        p = self.tensors[self.active.index(i)]
        return p if shards.is_sharded(p) else torch.empty(p.shape, dtype=g.dtype, device="meta")

    def _like_updates(self, what: str, other: Any) -> list[Any]:
        try:
            return self._spec.flatten_up_to(other)
        except StructureError as error:
            detail = str(error)
        ours = tree.names(self._updates)
        theirs = tree.names(other)
        if what == "state":
            raise StructureError(
                f"`{self._who}`: the state belongs to other parameters than the updates {ours}; "
                f"call `init(params)` again. In detail, {detail}"
            )
        raise StructureError(
            f"`{self._who}`: `{what}` must have the structure of the updates; only the updates "
            f"have {sorted(set(ours) - set(theirs))}, only `{what}` has "
            f"{sorted(set(theirs) - set(ours))}. In detail, {detail}"
        )

    def _check(self, i: int, g: Any, p: Any) -> None:
        if not isinstance(g, Tensor):
            raise LeafError(
                f"`{self._who}`: the gradient of `{self._name(i)}` must be a tensor or None, got "
                f"{g!r}."
            )
        if not (g.is_floating_point() or g.is_complex()):
            raise LeafError(
                f"`{self._who}`: the gradient of `{self._name(i)}` must be floating-point or "
                f"complex, got {g.dtype}."
            )
        if isinstance(p, Tensor) and g.is_complex() != p.is_complex():
            raise LeafError(
                f"`{self._who}`: the gradient of `{self._name(i)}` must be "
                f"{'complex' if p.is_complex() else 'real'}, as the parameter of {p.dtype} is, got "
                f"{g.dtype}."
            )
        if g.layout is not torch.strided:
            raise SparseGradientError(
                f"`{self._who}` does not support sparse gradients, and that of `{self._name(i)}` "
                "is: make it dense with `grad.to_dense()`, or build the embedding with "
                "`sparse=False`."
            )
        if p is None and self.has_params:
            raise StructureError(
                f"`{self._who}`: there is a gradient for `{self._name(i)}`, but `params` has None."
            )
        if p is not None and not isinstance(p, Tensor):
            raise StructureError(
                f"`{self._who}`: there is one gradient of shape {tuple(g.shape)} for a "
                f"{type(p).__name__} of parameters: updates must have the structure of `params`."
            )
        if p is not None and p.shape != (g.shape[1:] if self._examples else g.shape):
            if self._examples:
                raise StructureError(
                    f"`{self._who}` takes one gradient for each example: that of `{self._name(i)}` "
                    f"must have the shape (examples, {', '.join(map(str, p.shape))}), got "
                    f"{tuple(g.shape)}. `vmap(grad(loss), in_dims=(None, 0))` computes them."
                )
            raise StructureError(
                f"`{self._who}`: the gradient of `{self._name(i)}` must have the parameter's shape "
                f"{tuple(p.shape)}, got {tuple(g.shape)}."
            )

    def _name(self, i: int) -> str:
        return tree.names(self._updates)[i]


def _identities(p: Tensor) -> list[Any]:
    """Keys that two leaves have in common if they are the same memory; none while compiling."""
    if torch.compiler.is_compiling():
        return []
    dense = is_plain(p) and p.layout is torch.strided
    if not dense or is_traced(p) or p.is_meta or not p.numel():
        return [id(p)]
    return [id(p), (p.device, p.data_ptr(), p.shape, p.stride())]
