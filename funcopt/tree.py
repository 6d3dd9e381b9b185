"""Trees of tensors: dicts, lists, tuples, named tuples, and node types registered with optree.

The only file that knows optree. `None` is a leaf here: it stands for a missing gradient.
Dicts are walked in the order of their sorted keys, as JAX and optree do.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar, overload

import optree
import torch
from torch import Tensor

from ._hints.names import explain_missing as _explain_missing
from ._numerics.scalars import sqrt
from .errors import StructureError
from .typing import Tree

__all__ = [
    "cast",
    "dot",
    "flatten",
    "leaves",
    "map",
    "names",
    "norm",
    "zeros_like",
]

NAMESPACE = "funcopt"

_Rebuilt = TypeVar("_Rebuilt", covariant=True)


class Spec(Protocol[_Rebuilt]):
    """The structure of a tree, without its leaves."""

    def unflatten(self, leaves: Sequence[Any], /) -> _Rebuilt: ...

    def flatten_up_to(self, tree: Any, /) -> list[Any]: ...


def flatten(tree: Tree) -> tuple[list[Any], Spec[Tree]]:
    """The leaves of `tree`, `None` among them, and what rebuilds it."""
    if torch.compiler.is_compiling():
        # optree's `unflatten` of constant leaves and of empty dicts fails under fullgraph.
        return [leaf for _, leaf in _walk(tree, ())], _Traced(tree)
    node: Any = tree  # optree has types of its own
    leaves, spec = optree.tree_flatten(node, none_is_leaf=True, namespace=NAMESPACE)
    return leaves, _Eager(spec)


class ParamTree(list[Any]):
    """A node with one child for each parameter of an optimizer.

    What a stage that sees whole trees keeps in such a node belongs to the parameters, one by one.
    """


optree.register_pytree_node(
    ParamTree, lambda node: (list(node), None), lambda _, kids: ParamTree(kids), namespace=NAMESPACE
)


def flatten_around(tree: Tree) -> tuple[list[Any], Spec[Tree]]:
    """The leaves of `tree`, where a `ParamTree` is one, and what rebuilds it."""
    node: Any = tree
    found, spec = optree.tree_flatten(
        node,
        is_leaf=lambda node: isinstance(node, ParamTree),
        none_is_leaf=True,
        namespace=NAMESPACE,
    )
    return found, _Eager(spec)


def leaves(tree: Tree) -> list[Any]:
    """The leaves of `tree` that are not `None`."""
    return [leaf for leaf in flatten(tree)[0] if leaf is not None]


def names(tree: Tree) -> list[str]:
    """The path of every leaf, `None` among them, such as ``layers/0/weight``.

    In a key, ``/`` is written ``~1`` and ``~`` as ``~0``, so that no two leaves have one name.
    """
    found = [_joined(path) for path, _ in _walk(tree, ())]
    if torch.compiler.is_compiling() or len(found) == len(flatten(tree)[0]):
        return found
    # A node type that is registered with optree only.
    node: Any = tree
    paths = optree.tree_paths(node, none_is_leaf=True, namespace=NAMESPACE)
    return [_joined(path) for path in paths]


@overload
def map(fn: Callable[[Tensor], Tensor], tree: Tree, /) -> Tree: ...


@overload
def map(fn: Callable[[Tensor, Any], Tensor], tree: Tree, other: Any, /) -> Tree: ...


@overload
def map(fn: Callable[..., Any], tree: Any, *rest: Any) -> Any: ...


def map(fn: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """`fn` of every leaf, and of what stands in its place in `rest`. `None` stays `None`.

    Raises:
        StructureError: If a tree of `rest` has another structure than `tree`.
    """
    first, spec = flatten(tree)
    others = [spec.flatten_up_to(other) for other in rest]
    return spec.unflatten(
        [
            None if leaf is None else fn(leaf, *others_)
            for leaf, *others_ in zip(first, *others, strict=True)
        ]
    )


def zeros_like(tree: Tree, dtype: torch.dtype | None = None) -> Tree:
    """A tree of zeros like `tree`."""

    def zeros(x: Tensor) -> Tensor:
        return torch.zeros_like(x, dtype=dtype)

    return map(zeros, tree)


def cast(tree: Tree, dtype: torch.dtype) -> Tree:
    """`tree` with its floating-point leaves in `dtype`; the others as they are."""

    def to_dtype(x: Tensor) -> Tensor:
        return x.to(dtype) if x.is_floating_point() else x

    return map(to_dtype, tree)


def dot(a: Tree, b: Tree) -> Tensor:
    """The sum over all entries of ``a * b``, in at least float32; 0 for a tree without leaves."""
    products = leaves(map(_dot, a, b))
    return torch.stack(products).sum() if products else torch.zeros(())


def norm(tree: Tree) -> Tensor:
    """The Euclidean norm of all entries together, in at least float32."""
    return sqrt(dot(tree, tree))


def _dot(a: Tensor, b: Tensor) -> Tensor:
    wide = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    product = a.to(wide).conj() * b.to(wide)
    return product.real.sum() if product.is_complex() else product.sum()


class _Eager:
    """A structure that optree has found."""

    def __init__(self, spec: optree.PyTreeSpec) -> None:
        self._spec = spec

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Eager) and bool(self._spec == other._spec)

    def __hash__(self) -> int:
        return hash(self._spec)

    def unflatten(self, leaves: Sequence[Any], /) -> Any:
        return self._spec.unflatten(leaves)

    def flatten_up_to(self, tree: Any, /) -> list[Any]:
        try:
            return self._spec.flatten_up_to(tree)
        except (ValueError, TypeError):
            # optree's message would print the values of all tensors.
            _up_to(self._spec.unflatten([0] * self._spec.num_leaves), tree, ())
            raise StructureError(f"{_DIFFERENT}.") from None


class _Traced:
    """A structure found by `_walk`: the same order, in Python that Dynamo can trace."""

    def __init__(self, tree: Any) -> None:
        self._tree = tree

    def unflatten(self, leaves: Sequence[Any], /) -> Any:
        return _rebuild(self._tree, iter(leaves))

    def flatten_up_to(self, tree: Any, /) -> list[Any]:
        return _up_to(self._tree, tree, ())


_DIFFERENT = "two trees that belong together differ in structure"


def _kind(node: Any) -> type | None:
    """What `node` is, as far as two nodes have to agree on it; `None` for a leaf."""
    if type(node) in (dict, OrderedDict, defaultdict):
        return dict
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        return type(node)
    return type(node) if type(node) in (tuple, list, ParamTree) else None


def _children(node: Any) -> list[tuple[Any, Any]]:
    """Keys and subtrees in optree's order."""
    if _kind(node) is not dict:
        return list(zip(getattr(node, "_fields", range(len(node))), node, strict=True))
    if type(node) is OrderedDict:
        return list(node.items())
    try:
        keys = sorted(node)
    except TypeError:  # keys that cannot be compared, by type
        keys = sorted(node, key=lambda key: (type(key).__qualname__, key))
    return [(key, node[key]) for key in keys]


def nodes(tree: Any) -> Iterator[tuple[Any, list[Any] | None]]:
    """The nodes of a tree, each before its children, and their keys as they are walked.

    A leaf has `None` for its keys, as has a node of a type that is registered with optree only.
    """
    if _kind(tree) is None:
        yield tree, None
        return
    children = _children(tree)
    yield tree, [key for key, _ in children]
    for _, child in children:
        yield from nodes(child)


def _walk(node: Any, path: tuple[Any, ...]) -> list[tuple[tuple[Any, ...], Any]]:
    if _kind(node) is None:
        return [(path, node)]
    return [found for key, child in _children(node) for found in _walk(child, (*path, key))]


def _rebuild(node: Any, leaves: Iterator[Any]) -> Any:
    kind = _kind(node)
    if kind is None:
        return next(leaves)
    made = {key: _rebuild(child, leaves) for key, child in _children(node)}
    if kind is not dict:
        return kind(*made.values()) if hasattr(node, "_fields") else kind(made.values())
    ordered = {key: made[key] for key in node}
    if type(node) is defaultdict:
        return defaultdict(node.default_factory, ordered)
    return OrderedDict(ordered) if type(node) is OrderedDict else ordered


def _up_to(node: Any, other: Any, path: tuple[Any, ...]) -> list[Any]:
    if _kind(node) is None:
        return [other]
    if _kind(node) is not _kind(other) or len(node) != len(other) or _keys(node) != _keys(other):
        where = f" at `{_joined(path)}`" if path else ""
        raise StructureError(f"{_DIFFERENT}{where}: {_outline(node)} and {_outline(other)}.")
    theirs = dict(_children(other))
    return [
        leaf for key, child in _children(node) for leaf in _up_to(child, theirs[key], (*path, key))
    ]


def _joined(path: tuple[Any, ...]) -> str:
    return "/".join(str(key).replace("~", "~0").replace("/", "~1") for key in path)


def _keys(node: Any) -> set[Any]:
    return {key for key, _ in _children(node)}


def _outline(node: Any) -> str:
    """What `node` is, without what is in it."""
    if _kind(node) is None:
        return "None" if node is None else f"a leaf of type `{type(node).__name__}`"
    if _kind(node) is dict:
        return f"a dict with the keys {list(node)}"
    return f"a {type(node).__name__} of {len(node)}"


_explain_missing(__name__)
