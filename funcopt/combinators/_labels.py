"""Labels of parameters: by name, by predicate, or as a tree."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from .. import tree
from .._core.names import names_of
from ..errors import LabelError
from ..typing import TypeAliasType

Labels = TypeAliasType("Labels", Any)
"""One of three:

* a list of pairs ``(which, label)``, of which the first that fits a parameter is used. `which` is a
  regular expression that is searched for in the name, or a predicate ``(name, tensor) -> bool``;
* a function ``(name, tensor) -> label``;
* a tree of labels like the parameters, where a label may stand for a whole subtree.
"""


class Choice:
    """`labels` as a function of name and tensor; `owner` is named in the errors."""

    def __init__(self, owner: str, labels: Labels) -> None:
        self._owner = owner
        self._by: Callable[[str | None, Tensor], Any]
        self._rules: Sequence[tuple[Any, Any]] = ()
        if _is_rules(labels):
            self._rules, self._by = labels, self._by_rules
        elif callable(labels):
            self._by = labels
        else:
            named = zip(names_of(labels), tree.flatten(labels)[0], strict=True)
            self._tree, self._by = dict(named), self._by_tree

    def of(self, name: str | None, p: Tensor) -> Any:
        """The label of one parameter.

        Raises:
            LabelError: If there is none.
        """
        try:
            return self._by(name, p)
        except TypeError as error:
            raise LabelError(
                f"`{self._owner}`: a function that labels is called as `(name, tensor)`, and that "
                f"failed: {error}. Where Optax has a function of the whole tree, pass its result."
            ) from error

    def check(self, params: Sequence[tuple[str | None, Tensor]]) -> None:
        """Refuses a pattern that fits no parameter, and a parameter without a label."""
        for name, p in params:
            self.of(name, p)
        for which, label in self._rules if params else ():
            if not any(_fits(self._owner, which, name, p) for name, p in params):
                raise LabelError(
                    f"`{self._owner}`: {_shown(which)} of label {label!r} fits none of the "
                    f"parameters {[name for name, _ in params]}."
                )

    def _by_rules(self, name: str | None, p: Tensor) -> Any:
        for which, label in self._rules:
            if _fits(self._owner, which, name, p):
                return label
        raise LabelError(
            f"`{self._owner}`: nothing fits parameter `{name}` of shape {tuple(p.shape)}: end the "
            "list with a pair such as (r'.*', label)."
        )

    def _by_tree(self, name: str | None, p: Tensor) -> Any:
        if name is not None:
            parts = name.split("/")
            for end in range(len(parts), -1, -1):
                if (label := self._tree.get("/".join(parts[:end]))) is not None:
                    return label
        if "" in self._tree:
            return self._tree[""]
        raise LabelError(
            f"`{self._owner}`: the tree of labels has none for parameter `{name}`; it has labels "
            f"for {list(self._tree)}."
        )


def choice_of_mask(owner: str, mask: Labels) -> Choice:
    """The choice by a mask, whose labels are bools: one pattern is True for all that it fits."""
    return Choice(owner, [(mask, True), (_any, False)] if isinstance(mask, str) else mask)


def _any(name: str | None, p: Tensor) -> bool:
    return True


def _is_rules(labels: Labels) -> bool:
    return isinstance(labels, list) and bool(labels) and all(map(_is_rule, labels))


def _is_rule(pair: Any) -> bool:
    if not isinstance(pair, tuple) or len(pair) != 2:
        return False
    return isinstance(pair[0], str) or callable(pair[0])


def _fits(owner: str, which: Any, name: str | None, p: Tensor) -> bool:
    if callable(which):
        return bool(which(name, p))
    if name is None:
        raise LabelError(
            f"`{owner}`: the pattern {which!r} needs names, and the parameters have none: pass "
            "`model.named_parameters()`."
        )
    return re.search(which, name) is not None


def _shown(which: Any) -> str:
    return f"the pattern {which!r}" if isinstance(which, str) else f"the predicate {which!r}"
