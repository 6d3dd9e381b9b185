"""Sharpness-aware minimization: the gradient at a perturbed point."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.reduction import Reduce
from .._core.stage import Bucket, Members, Node, Scalars
from .._core.tensor_rule import GradientTransformation, TensorRule
from .._numerics.scalars import sqrt
from ..errors import HyperparameterError
from ..typing import Memory, Scalar, Slots
from ._inner import check_inner
from ._labels import Choice, Labels, choice_of_mask
from ._wrapper import Wrapper


class SamSlots(NamedTuple):
    """The slots of `sam`."""

    inner: Slots


class SamMemory(NamedTuple):
    """The shared scalars of `sam`."""

    inner_updates: Tensor  # (), int64: updates that `inner` has made, for its schedules
    inner: Memory


class sam(Wrapper):
    """Gives `inner` the gradient at the perturbed point, the worst within `rho` to first order.

        e = rho g / (|g| + eps)                             |g| over all parameters
        u = inner(gradient of the loss at p + e)

    With `adaptive`, the perturbation is relative to each entry:

        T = abs(p) + eta
        e = rho T^2 g / (|T g| + eps)

    The loss is evaluated once more in every step, so ``update`` needs it as the extra argument
    `value_fn`, and an `Optimizer` a closure. `inner` is given only the gradient at the perturbed
    point: put clipping and decay inside. Gradients are accumulated inside too,
    ``sam(accumulate(inner, steps))``: each micro-batch has its own perturbed point. Modules with
    state, such as the running statistics of batch normalization, are evaluated at both points.

    Args:
        inner: The inner transformation, which works tensor by tensor.
        rho: The norm of the perturbation, in units of the parameters, or relative to them with
            `adaptive`.
        adaptive: Whether entries are scaled; for some parameters only if it is a mask as `masked`
            takes it. The official code scales weights, not biases: ``adaptive=r"weight"``.
        eta: Added to the absolute value of an entry; 0.01 as in the authors' code of ASAM.
        eps: Added to the norm in the denominator.

    Raises:
        HyperparameterError: If a hyperparameter is negative; if `inner` evaluates the loss itself,
            or takes whole trees or per-example gradients.
        LabelError: If a pattern of `adaptive` fits no parameter.

    References:
        Foret et al., "Sharpness-Aware Minimization for Efficiently Improving Generalization", 2021,
        https://arxiv.org/abs/2010.01412; Kwon et al., "ASAM: Adaptive Sharpness-Aware
        Minimization for Scale-Invariant Learning of Deep Neural Networks", 2021,
        https://arxiv.org/abs/2102.11600
    """

    inner: GradientTransformation
    rho: Scalar = 0.05
    adaptive: Labels = False
    eta: Scalar = 0.01
    eps: Scalar = 1e-12
    memory_per = "tree"
    comes_first = True

    def __post_init__(self) -> None:
        check_inner(self, self.inner)
        if self.inner.needs_closure:
            raise HyperparameterError(
                f"`sam`: `inner` must not evaluate the loss itself, for its gradients are those at "
                f"the perturbed point, got {self.inner!r}."
            )
        for name in ("rho", "eta", "eps"):
            checks.non_negative(self, name, getattr(self, name))

    def extra_names(self) -> frozenset[str]:
        return (self.inner.extra_names() or frozenset()) | {"value", "value_fn"}

    def params_needed_by(self) -> str:
        return "sam"

    def check_names(self, params: Sequence[tuple[str | None, Tensor]]) -> None:
        self._choice().check(params)
        super().check_names(params)

    def init_slots(self, name: str | None, p: Tensor) -> SamSlots:
        return SamSlots(self.clocked().init_slots(name, p))

    def init_memory(self, like: Tensor) -> SamMemory:
        zero = torch.zeros((), dtype=torch.int64)
        return SamMemory(zero, self.clocked().init_memory(like))

    def open(self, buckets: Sequence[Bucket], members: Members) -> Node:
        rows = [b._replace(tx=b.tx.ascent(), memory=()) for b in buckets]
        children = [self.ascent().open(rows, members), self.open_inner(buckets, members)]
        return Node([], [], [b.memory for b in buckets], members, children)

    def run(
        self,
        gs: list[Tensor],
        slots: list[Slots],
        ps: list[Tensor],
        node: Node,
        reduce: Reduce,
    ) -> tuple[list[Tensor], list[Slots]]:
        if node.members.nobody_waits:
            return gs, slots
        (up, child), (sizes, loss) = (
            node.children,
            (self._sizes(ps, node), node.members.loss_for("sam")),
        )
        scaled = [size * g for size, g in zip(sizes, gs, strict=True)]
        steps, _ = self.ascent().run(scaled, [()] * len(gs), ps, up, reduce)
        there = [p + size * e for p, size, e in zip(ps, sizes, steps, strict=True)]
        _, grads = loss.value_and_grad(there)
        us, new = self.clocked().run(grads, [own.inner for own in slots], ps, child, reduce)
        each = zip(node.memory, self.clocked().memory_after(child), strict=True)
        node.memory = [SamMemory(old.inner_updates + 1, own) for old, own in each]
        return us, [SamSlots(own) for own in new]

    def ascent(self) -> "ascent":
        """The rule that makes the perturbation from the first gradient."""
        return ascent(self.rho, self.eta, self.eps)

    def _sizes(self, ps: list[Tensor], node: Node) -> list[Any]:
        """The scale of every entry: 1 where nothing is scaled."""
        members, choice = node.members, self._choice()
        who = zip(members.names(), members.tensors, ps, node.children[0].scalars(ps), strict=True)
        return [p.abs() + s.eta if choice.of(name, like) else 1.0 for name, like, p, s in who]

    def _choice(self) -> Choice:
        return choice_of_mask("sam", self.adaptive)


class ascent(TensorRule):
    """Rescales the updates to the global norm `rho`."""

    rho: Scalar
    eta: Scalar
    eps: Scalar
    elementwise = True

    def measure_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> Tensor:
        return g.square().sum()

    def conclude(self, s: Scalars, memory: Memory, total: Any) -> tuple[dict[str, Any], Memory]:
        return {"scale": s.rho / (sqrt(total) + s.eps)}, memory

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return g * s.scale, slots
