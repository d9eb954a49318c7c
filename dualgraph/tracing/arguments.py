"""The arguments of a compiled call, taken apart and described by keys."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from .._tensor import Tensor
from ..autograd.grad_mode import local
from . import tree
from .keys import Same, key_of


def taken_apart(
    args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Hashable, Hashable, tuple[tuple[int, ...], ...], list[Tensor]]:
    """A key for the kind of call, one for its Python values, the tensors' shapes, the tensors.

    A tensor passed twice is listed once.

    Raises:
        Unkeyed: an argument cannot be compared.
    """
    kind: list[Any] = [local.grad]
    leaves: Any = args
    if kwargs or not all([isinstance(a, Tensor) for a in args]):  # noqa: C419 - faster
        whole = (args, kwargs)
        kind.append(tree.structure(whole))
        leaves = [leaf for _, leaf in tree.flatten(whole)]
        made = [*map(id, tree.containers(whole))]
        if len(set(made)) < len(made):
            kind.append(("containers", *map(made.index, made)))
    tensors: list[Tensor] = []
    shapes = []
    values: list[Any] = []
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            if tensors and (at := [*map(id, tensors)]).count(id(leaf)):
                kind.append(("same", at.index(id(leaf))))
                continue
            tensors.append(leaf)
            data = leaf._data
            wants: Any = leaf._fn is not None if leaf._base is None else leaf.requires_grad
            if wants and not leaf.is_leaf:
                wants = "non-leaf"  # in-place operations on it are legal
            kind.append((data.dtype, len(data.shape), wants))
            shapes.append(data.shape)
        else:
            key = key_of(leaf)
            kind.append(key if type(key) is Same else type(leaf))
            values.append(key)
    return tuple(kind), tuple(values), tuple(shapes), tensors
