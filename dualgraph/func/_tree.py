"""Nested arguments, and which of them a transform is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .._tensor import Tensor
from ..tracing.tree import flatten, map_leaves, structure

__all__ = ["chosen", "flatten", "leaves", "map_leaves", "rebuilt", "structure", "tensors_in"]


def leaves(tree: Any) -> list[Any]:
    """The leaves in order."""
    return [leaf for _, leaf in flatten(tree)]


def rebuilt(tree: Any, values: Sequence[Any]) -> Any:
    """`tree` with other leaves, given in order."""
    rest = iter(values)
    return map_leaves(lambda _: next(rest), tree)


def tensors_in(tree: Any) -> list[Tensor]:
    """The leaves that are tensors."""
    return [x for x in leaves(tree) if isinstance(x, Tensor)]


def chosen(
    name: str, argnums: int | tuple[int, ...], args: tuple[Any, ...]
) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """The arguments that `argnums` names, and a function that puts others in their places.

    Raises:
        RuntimeError, IndexError: `argnums` names none, or one that is not there.
    """
    numbers = argnums if isinstance(argnums, tuple) else (argnums,)
    if not all(type(n) is int for n in numbers):
        raise RuntimeError(f"argnum must be int or Tuple[int, ...], got: {type(argnums)}")
    if not numbers:
        raise RuntimeError(f"{name}: argnums must be non-empty")
    for n in numbers:
        if not -len(args) <= n < len(args):
            raise RuntimeError(
                f"Got argnum={n}, but only {len(args)} positional inputs (when calling {name})"
            )
    at = [n % len(args) for n in numbers]
    if len(set(at)) < len(at):
        raise RuntimeError(f"argnums elements must be unique, got {argnums}")
    several = isinstance(argnums, tuple)
    picked = tuple(args[n] for n in at) if several else args[at[0]]

    def put(new: Any) -> tuple[Any, ...]:
        out = list(args)
        for n, value in zip(at, new if several else (new,), strict=True):
            out[n] = value
        return tuple(out)

    return picked, put


def with_aux(name: str, out: Any) -> tuple[Any, Any]:
    """The pair that a function with auxiliary output returned."""
    if not (isinstance(out, tuple) and len(out) == 2):
        raise RuntimeError(
            f"{name}: output of function f should be a tuple: (output, aux) if has_aux is True"
        )
    return out


def require_tensors(name: str, tree: Any, what: str = "f(*args)") -> list[Tensor]:
    """The leaves of a result, which must all be tensors."""
    found = leaves(tree)
    for x in found:
        if not isinstance(x, Tensor):
            raise RuntimeError(
                f"{name}: Expected {what} to return only tensors, got unsupported type {type(x)}"
            )
    return found
