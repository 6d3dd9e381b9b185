"""Plans of a rule that sees whole tensors: one for each way that it goes, when it is needed."""

from collections.abc import Sequence
from numbers import Real
from typing import Any, NamedTuple

from torch import Tensor

from .. import tree
from .._core.stage import Scalars
from ._call_log import CallLog
from ._guards import Guard, ScalarSource, Unsupported, guards_hold
from ._plan import Plan
from ._planner import Planner
from ._symbols import ScalarSymbol
from ._tiles import LEAST_COLUMNS
from ._traced_scalars import TracedScalars

LEAST_ENTRIES = 16384
"""Of a tensor: for fewer, calls take longer than what they do."""

MOST_WAYS = 8
"""For tensors of one shape: a step that refreshes a basis is another one than those between."""


class RuleWay(NamedTuple):
    """What a rule does where these guards hold; without a plan, what its functions do."""

    guards: Sequence[Guard]
    plan: Plan | None


BY_FUNCTIONS = RuleWay((), None)


class Plans:
    """Updates tensors by a `batched` rule: all that it does is to call functions.

    `spec` is the structure of the slots of a tensor.
    """

    def __init__(self, spec: tree.Spec[Any]) -> None:
        self._spec = spec
        self._of_leaf: dict[int, list[RuleWay]] = {}
        self._of_kind: dict[Any, list[RuleWay]] = {}  # by the metadata of what is given

    def update(
        self, rule: Any, leaf: int, tensors: Sequence[Tensor], s: Scalars
    ) -> tuple[Tensor, Any]:
        """The update and the new slots of a tensor: of its gradient, slots and itself."""
        if leaf not in self._of_leaf:
            g, kind = tensors[0], tuple((x.shape, x.stride(), x.dtype) for x in tensors)
            is_large = g.dim() > 1 and g.shape[-1] >= LEAST_COLUMNS and g.numel() >= LEAST_ENTRIES
            known = self._of_kind.setdefault(kind, [] if is_large else [BY_FUNCTIONS])
            self._of_leaf[leaf] = known
        ways = self._of_leaf[leaf]
        for guards, plan in ways:
            if guards_hold(guards, (s,)):  # type: ignore[arg-type]  # it stands for the nodes
                if plan is not None:
                    return plan.run(tensors, s)
                break
        else:
            if len(ways) < MOST_WAYS:
                made, way = _followed(rule, tensors, self._spec, s)
                ways.append(way)
                return made
        return _updated(rule, tensors, self._spec, s)


def _updated(
    rule: Any, tensors: Sequence[Tensor], spec: tree.Spec[Any], s: Scalars
) -> tuple[Tensor, Any]:
    g, *slots, p = tensors
    (u,), (new,) = rule.whole_tensors([g], [spec.unflatten(slots)], [p], [s])
    return u, new


def _followed(
    rule: Any, tensors: Sequence[Tensor], spec: tree.Spec[Any], s: Scalars
) -> tuple[tuple[Tensor, Any], RuleWay]:
    """What a rule makes of tensors by its functions, and the way that it went."""
    log, guards = CallLog(), list[Guard]()
    scalars: list[tuple[int, ScalarSource]] = []
    given = [log.given(x) for x in tensors]

    def seen(value: Any, source: ScalarSource) -> Any:
        """A scalar as the rule sees it."""
        if isinstance(value, (tuple, list)):
            return tuple(seen(x, source.item(k)) for k, x in enumerate(value))
        if isinstance(value, Tensor):
            value = log.given(value)
            scalars.append((log.of(value), source))
            return value
        if isinstance(value, Real) and not isinstance(value, bool):  # of NumPy, too
            number: Any = value
            return ScalarSymbol(number, source, guards)
        guards.append(Guard(source, value))
        return value

    def trace(name: str) -> Any:
        def scalar(given: Any, i: int) -> Any:
            return getattr(given[0], name)

        return seen(getattr(s, name), ScalarSource(scalar))

    names = {name: x for name, x in vars(s).items() if not name.startswith("_")}
    try:
        with log:
            made = _updated(rule, given, spec, TracedScalars(type(rule).__name__, names, trace))
    except Unsupported:
        return _updated(rule, tensors, spec, s), RuleWay(guards, None)
    u, new = made
    entries, new_spec = tree.flatten(new)
    planner = Planner(log.values, given[0].shape, given[0].dtype, guards)
    try:
        results = [planner.root(log.of(x)) for x in (u, *entries)]
        steps = planner.steps(results)
    except Unsupported:
        return made, RuleWay(guards, None)
    plan = Plan(len(log.values), scalars, steps, results[0], results[1:], new_spec)
    return made, RuleWay(guards, plan)
