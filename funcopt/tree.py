"""Trees of tensors: dicts, lists, tuples, named tuples, and whatever optree has been taught.

The only file that knows optree. `None` is a leaf here: it stands for a gradient that is not there.
Dicts are walked in the order of their sorted keys, as JAX and optree do.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import optree
import torch
from torch import Tensor

from .errors import StructureError

NAMESPACE = "funcopt"


class Spec(Protocol):
    """The structure of a tree, without its leaves."""

    def unflatten(self, leaves: Sequence[Any], /) -> Any: ...

    def flatten_up_to(self, tree: Any, /) -> list[Any]: ...


def flatten(tree: Any) -> tuple[list[Any], Spec]:
    """The leaves of `tree`, `None` among them, and what rebuilds it."""
    if torch.compiler.is_compiling():
        # optree's `unflatten` of constant leaves and of empty dicts fails under fullgraph.
        return [leaf for _, leaf in _walk(tree, ())], _Traced(tree)
    leaves, spec = optree.tree_flatten(tree, none_is_leaf=True, namespace=NAMESPACE)
    return leaves, _Eager(spec)


def leaves(tree: Any) -> list[Any]:
    """The leaves of `tree` that are not `None`."""
    return [leaf for leaf in flatten(tree)[0] if leaf is not None]


def names(tree: Any) -> list[str]:
    """The path of every leaf, `None` among them, such as ``layers/0/weight``."""
    found = ["/".join(str(key) for key in path) for path, _ in _walk(tree, ())]
    if torch.compiler.is_compiling() or len(found) == len(flatten(tree)[0]):
        return found
    # A kind of node that only optree has been taught.
    paths = optree.tree_paths(tree, none_is_leaf=True, namespace=NAMESPACE)
    return ["/".join(str(key) for key in path) for path in paths]


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


def zeros_like(tree: Any, dtype: torch.dtype | None = None) -> Any:
    """A tree of zeros like `tree`."""
    return map(lambda x: torch.zeros_like(x, dtype=dtype), tree)


def cast(tree: Any, dtype: torch.dtype) -> Any:
    """`tree` with its floating-point leaves in `dtype`; the others as they are."""
    return map(lambda x: x.to(dtype) if x.is_floating_point() else x, tree)


def dot(a: Any, b: Any) -> Tensor:
    """The sum over all entries of ``a * b``, in at least float32; 0 for a tree without leaves."""
    products = leaves(map(_dot, a, b))
    return torch.stack(products).sum() if products else torch.zeros(())


def norm(tree: Any) -> Tensor:
    """The Euclidean norm of all entries together, in at least float32."""
    return dot(tree, tree).sqrt()


def _dot(a: Tensor, b: Tensor) -> Tensor:
    wide = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    product = a.to(wide).conj() * b.to(wide)
    return product.real.sum() if product.is_complex() else product.sum()


class _Eager:
    """A structure that optree has found."""

    def __init__(self, spec: optree.PyTreeSpec) -> None:
        self._spec = spec

    def unflatten(self, leaves: Sequence[Any], /) -> Any:
        return self._spec.unflatten(leaves)

    def flatten_up_to(self, tree: Any, /) -> list[Any]:
        try:
            return self._spec.flatten_up_to(tree)
        except (ValueError, TypeError) as error:
            raise StructureError(_difference(str(error))) from None


class _Traced:
    """A structure found by `_walk`: the same order, in Python that Dynamo can trace."""

    def __init__(self, tree: Any) -> None:
        self._tree = tree

    def unflatten(self, leaves: Sequence[Any], /) -> Any:
        return _rebuild(self._tree, iter(leaves))

    def flatten_up_to(self, tree: Any, /) -> list[Any]:
        return _up_to(self._tree, tree)


def _children(node: Any) -> list[tuple[Any, Any]] | None:
    """Keys and subtrees in optree's order, or `None` if `node` is a leaf."""
    if isinstance(node, OrderedDict):
        return list(node.items())
    if isinstance(node, dict):
        return [(key, node[key]) for key in sorted(node)]
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        return list(zip(node._fields, node, strict=True))
    if isinstance(node, (tuple, list)):
        return list(enumerate(node))
    return None


def _walk(node: Any, path: tuple[Any, ...]) -> list[tuple[tuple[Any, ...], Any]]:
    children = _children(node)
    if children is None:
        return [(path, node)]
    return [found for key, child in children for found in _walk(child, (*path, key))]


def _rebuild(node: Any, leaves: Iterator[Any]) -> Any:
    children = _children(node)
    if children is None:
        return next(leaves)
    made = {key: _rebuild(child, leaves) for key, child in children}
    if isinstance(node, OrderedDict):
        return OrderedDict(made)
    if isinstance(node, dict):
        return {key: made[key] for key in node}
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        return type(node)(*made.values())
    return type(node)(made.values())


def _up_to(node: Any, other: Any) -> list[Any]:
    children = _children(node)
    if children is None:
        return [other]
    others = _children(other)
    if others is None or [key for key, _ in children] != [key for key, _ in others]:
        raise StructureError(_difference(f"expected {type(node)}, got {type(other)}"))
    pairs = zip(children, others, strict=True)
    return [leaf for (_, a), (_, b) in pairs for leaf in _up_to(a, b)]


def _difference(detail: str) -> str:
    return f"two trees that belong together differ in structure: {detail}"
