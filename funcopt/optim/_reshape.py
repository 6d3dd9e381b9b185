"""Parameters that go, and parameters that change their shape while they are trained."""

from torch import Tensor

from ..errors import StructureError
from ._groups import Named, named
from ._layout import begin
from ._state import Stored


class Reshaped(Stored):
    """What an optimizer does when the model is pruned or grown."""

    def drop(self, which: str | Tensor) -> None:
        """Forgets a parameter, by name or by itself: it is not stepped, and its state is gone.

        Raises:
            StructureError: If there is no such parameter.
        """
        index, (_, p) = self._find("drop", which)
        group = self.param_groups[index]
        at = next(i for i, other in enumerate(group["params"]) if other is p)
        del group["params"][at]
        if "param_names" in group:
            del group["param_names"][at]
        self.state.pop(p, None)
        self._forget()

    def resize(self, which: str | Tensor, new: Tensor, index_map: Tensor, *, dim: int = 0) -> None:
        """Puts `new` in the place of a parameter, and takes its state along.

            opt.resize("fc.weight", new_weight, index_map=torch.tensor([0, 2, -1]))

        Row i of every slot becomes row ``index_map[i]`` of the old one, exactly, or begins afresh
        where that is negative. Slots without that dimension stay, if they have the shape that they
        should, and else begin afresh; clocks go on.

        Args:
            which: The old parameter, by name or by itself.
            new: The new parameter.
            index_map: For every row of `new`, the row of the old parameter that it was, or -1.
            dim: The dimension that the rows are counted along.

        Raises:
            StructureError: If there is no such parameter, or the map does not fit; nothing changes.
        """
        index, (name, p) = self._find("resize", which)
        dim = dim % max(p.dim(), 1)
        self._check_map(p, new, index_map, dim)
        old, begun = self.state.get(p), begin(self._group(index).tx, name, new)[1]
        if old is not None:
            index_map = index_map.to(p.device)
            kept = index_map >= 0
            for key, x in begun.items():
                before = old.get(key)
                if before is None:
                    continue
                like_p = before.dim() == p.dim() and before.shape[dim] == p.shape[dim]
                if like_p and x.dim() == p.dim() and x.shape[dim] == new.shape[dim]:
                    picked = before.index_select(dim, index_map[kept]).to(x.dtype)
                    x.index_copy_(dim, kept.nonzero().flatten(), picked)
                elif before.shape == x.shape:
                    x.copy_(before)
        group = self.param_groups[index]  # nothing has been changed before
        group["params"][next(i for i, q in enumerate(group["params"]) if q is p)] = new
        if old is not None:
            del self.state[p]
            self.state[new] = {**old, **begun}
        self._forget()

    def _check_map(self, p: Tensor, new: Tensor, index_map: Tensor, dim: int) -> None:
        rows = new.shape[dim] if new.dim() == p.dim() and p.dim() else -1
        others = [n for i, n in enumerate(new.shape) if i != dim]
        if rows < 0 or others != [n for i, n in enumerate(p.shape) if i != dim]:
            raise StructureError(
                f"`{type(self).__name__}.resize`: only dimension {dim} may change, and "
                f"{tuple(p.shape)} became {tuple(new.shape)}: resize one dimension after another."
            )
        if index_map.shape != (rows,) or (rows and int(index_map.max()) >= p.shape[dim]):
            raise StructureError(
                f"`{type(self).__name__}.resize`: `index_map` must have an entry below "
                f"{p.shape[dim]} for each of the {rows} rows of the new parameter, got "
                f"{index_map.tolist()}."
            )

    def _find(self, action: str, which: str | Tensor) -> tuple[int, Named]:
        for index, group in enumerate(self.param_groups):
            for name, p in named(group):
                if p is which or (isinstance(which, str) and name == which):
                    return index, (name, p)
        names = [name for group in self.param_groups for name, _ in named(group)]
        what = repr(which) if isinstance(which, str) else f"of shape {tuple(which.shape)}"
        raise StructureError(
            f"`{type(self).__name__}.{action}`: there is no parameter {what} among {names}. Names "
            "are known if the optimizer was made of `model.named_parameters()`."
        )
