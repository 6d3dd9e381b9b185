"""Trees that are like those before: their leaves, and trees of results, by machine code.

What optree finds of any tree is compared here with a structure that is known, in some nanoseconds
for each node. Lists, tuples, named tuples and dicts are walked; other nodes are not known.
"""

import array
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from .. import tree
from ._guards import Unsupported
from ._huge_pages import LARGE, SMALL, ask_for_huge_pages
from ._ready_call import Words, objects, repeats_steps
from ._ready_guard import place_words
from ._tensor_guard import dynamo_check, python_check

LEAF, LIST, TUPLE, NAMED, DICT = range(5)

PLACES = 9
"""Where the places of addresses stand among the words."""

_KINDS: dict[Any, int] = {list: LIST, tuple: TUPLE, dict: DICT}


class KnownTrees:
    """Trees like `given`, in all but the values of tensors.

    `take` finds the leaves of such trees, and makes `fresh` tensors: a list of both, whose
    addresses are where they are wanted; `None` if the trees are not like those. `give` makes the
    results of such a list.

    Args:
        given: A tuple of trees, as a step is given them.
        fresh: Tensors; those that are made are like them.
        results: A tuple of trees, whose leaves say which of the list stands there.
        clock: Which leaf is the count of the steps before, and which of the list that of the next,
            if there is one.

    Raises:
        Unsupported: If there are others than plain nodes, or no machine code.
    """

    def __init__(
        self,
        given: Any,
        fresh: Sequence[Tensor],
        results: Any,
        clock: tuple[int, int] | None = None,
    ) -> None:
        leaves, _ = tree.flatten(given)
        check, make = dynamo_check(leaves) or python_check(leaves), _function_that_makes()
        if make is None or not repeats_steps():
            raise Unsupported("there is no machine code that walks trees")
        self.count = array.array("q", [0])
        """What the clock says after `take`."""

        args = [(tuple(x.shape), x.stride(), x.dtype) for x in fresh]
        begins = array.array("q", bytes(8 * (len(leaves) + len(fresh))))
        of_given, of_results = _Nodes(given), _Nodes(results)
        if list(map(id, of_given.leaves)) != list(map(id, leaves)):
            raise Unsupported("nodes that only optree knows")
        which = array.array("q", of_results.leaves)
        self._kept = of_given.kept, of_results.kept, check, make, args
        self._words = Words(
            *(of_given.words, id(check), objects(args), id(make)),
            *(len(leaves), len(fresh), *(clock or (-1, -1)), self.count),
            *(0, 0, 0, begins),
            *(of_results.words, which),
        )
        sizes = {len(leaves) + k: x.nbytes for k, x in enumerate(fresh) if x.nbytes > SMALL}
        self._begins, self._sizes = begins, sizes
        self._taken, self.give = self._words.call("take"), self._words.call("give")
        self.take = self._take_large if sum(sizes.values()) >= LARGE else self._taken

    def _take_large(self, trees: Any) -> list[Any] | None:
        found: list[Any] | None = self._taken(trees)
        if found is not None:
            begins = self._begins
            ask_for_huge_pages([(begins[k], size) for k, size in self._sizes.items()])
        return found

    def pass_on_to(self, places: Sequence[tuple[int, int]]) -> None:
        """Writes addresses to these places in each step: address, and which of the list's."""
        self._words.replace(PLACES, *place_words(places))


class _Nodes:
    """The nodes of trees, as machine code reads them."""

    def __init__(self, trees: Any) -> None:
        kinds, counts, order = (array.array("q") for _ in range(3))
        types: list[type] = []
        keys: list[Any] = []
        self.leaves: list[Any] = []
        for node, own in tree.nodes(trees):
            kind = LEAF if own is None else _kind_of(node)
            kinds.append(kind)
            counts.append(len(own or ()))
            types.append(type(node))
            if kind == LEAF:
                self.leaves.append(node)
            elif kind == DICT:
                at = {key: k for k, key in enumerate(own or ())}
                order.extend(at[key] for key in node)
                keys += at
        self.kept = types, keys
        self.words = Words(kinds, counts, objects(types), objects(keys), order)


def _kind_of(node: Any) -> int:
    if isinstance(node, tuple) and type(node) is not tuple:
        return NAMED
    if (kind := _KINDS.get(type(node))) is None:
        raise Unsupported(f"a {type(node).__name__} of trees")
    return kind


def _function_that_makes() -> Callable[..., Tensor] | None:
    """The function by which the code of Inductor makes a tensor; not a public part of torch."""
    from torch._C._dynamo import guards

    return getattr(guards, "_empty_strided_cpu", None)
