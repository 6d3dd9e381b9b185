"""What a transformation of gradients is."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import Tensor

from .._numerics.autocast import outside_contexts
from ..errors import ExtraArgumentError
from ..typing import OptState, Params, Updates, is_hyperparameter
from .explanation import html_of
from .record import Record

NamedParams = Sequence[tuple[str | None, Tensor]]
"""Parameters, each with its name if that is known."""


class GradientTransformation(Record, ABC):
    """Transforms gradients into updates; pure, immutable, composable.

    What works on one tensor is better written as a `TensorRule`. Subclass this for what has to
    see a whole tree: declare the hyperparameters as fields, write `update`, and `init` if there is
    optimizer state.
    """

    hyperparameters: ClassVar[tuple[str, ...]] = ()
    """The fields annotated `Scalar`, or a tuple of it; found when the class is made."""

    chooses: ClassVar[bool] = False
    """Its treatment of a parameter depends on name or kind."""

    labeled: ClassVar[bool] = False
    """Its children stand under labels, which name what is in them."""

    comes_first: ClassVar[bool] = False
    """It evaluates the loss itself, so nothing may change the gradient before it."""

    mean_extra: ClassVar[tuple[str, ...]] = ("value",)
    """The extra arguments of `update`, numbers, that each rank has for its part of the data.

    An `Optimizer` gives their mean over ranks, so that all decide the same.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ("init", "update"):  # a step is no part of the model
            if name in cls.__dict__:
                setattr(cls, name, outside_contexts(cls.__dict__[name]))
        cls.hyperparameters = tuple(
            field.name for field in dataclasses.fields(cls) if is_hyperparameter(field.type)
        )

    def init(self, params: Params, *, capturable: bool = False) -> OptState:
        """Returns the state before the first step. Stateless unless overridden.

        Args:
            params: The parameters: a tree of floating-point or complex tensors.
            capturable: Keep the step count on the device of the parameters, for CUDA graphs.

        Raises:
            LeafError: If a leaf is no such tensor.
            TiedParametersError: If two leaves are the same memory.
        """
        del params, capturable
        return ()

    @abstractmethod
    def update(
        self, updates: Updates, state: OptState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, OptState]:
        """Transforms `updates`; nothing that is passed in is changed.

        Args:
            updates: Gradients, or the output of the previous stage, in the structure of the
                parameters. Where it is `None`, nothing happens to the parameter and its slots.
            state: What `init` or the previous call returned.
            params: The current parameters. Some transformations need them, e.g. weight decay.
            **extra: What a stage asks for by name, e.g. ``value=loss``.

        Returns:
            The new updates, with the structure, shapes and dtypes of `updates`, and the new state,
            with those of `state`.

        Raises:
            StructureError: If the trees do not match.
            MissingParamsError: If a stage needs `params`.
            ExtraArgumentError: If no stage takes an extra argument, or one is missing.
            SparseGradientError: If a gradient is sparse.
        """

    def update_and_ran(
        self, updates: Updates, state: OptState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, OptState, dict[tuple[str, ...], Any]]:
        """What `update` returns, and the stages that have run, by path, if they are known."""
        return *self.update(updates, state, params, **extra), {}

    def averaged(self, state: OptState, params: Params) -> Params:
        """The parameters to evaluate the model with: an average where one is kept."""
        del state
        return params

    def extra_names(self) -> frozenset[str] | None:
        """The extra arguments that `update` knows; `None` if it takes any."""
        return None

    def mean_extra_names(self) -> frozenset[str]:
        """The extra arguments that it, or what it is made of, takes as means over ranks."""
        known, parts = self.extra_names(), self.children().values()
        if parts and known is not None:
            return frozenset().union(*(part.mean_extra_names() for part in parts))
        return frozenset(name for name in self.mean_extra if known is None or name in known)

    @property
    def needs_closure(self) -> bool:
        """Whether it evaluates the loss itself, by ``value_fn`` or a closure."""
        return "value_fn" in (self.extra_names() or ())

    def check_extra(self, extra: Mapping[str, Any]) -> None:
        """Refuses extra arguments of `update` that no stage takes."""
        known = self.extra_names() if extra else None
        if known is not None and not known.issuperset(extra):
            raise ExtraArgumentError(
                f"`{type(self).__name__}`: no stage takes the extra arguments "
                f"{sorted(set(extra) - known)}; those taken are {sorted(known)}."
            )

    def is_per_tensor(self) -> bool:
        """Whether it works tensor by tensor, and so can share a pass with others that do."""
        return False

    def takes_examples(self) -> bool:
        """Whether gradients have one axis more than parameters, in front: one for each example."""
        return False

    def sign(self) -> int | None:
        """The sign of the updates: that of the gradients (1), or negated (-1), if it is known."""
        return None

    def _repr_html_(self) -> str:
        return html_of(self)

    if not TYPE_CHECKING:  # which knows better what there is

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):  # asked for by Python, and by steps that are compiled
                raise AttributeError(name)
            from .._hints.numbers import of_chain  # only where there is no such attribute

            raise AttributeError(of_chain(self, name))

    def children(self) -> dict[str, "GradientTransformation"]:
        """The transformations that this one is made of, by their place in it."""
        return {}

    def with_children(self, children: Mapping[str, "GradientTransformation"]) -> Self:
        """A copy that is made of `children` instead."""
        del children
        return self

    def with_child(self, place: str, child: "GradientTransformation") -> Self:
        """A copy with another child in a place, of which only hyperparameters are others."""
        return self.with_children({**self.children(), place: child})

    def params_of_children(self, params: NamedParams) -> dict[str, NamedParams]:
        """For each of the children, which of the parameters it may have to do with."""
        return dict.fromkeys(self.children(), params)
