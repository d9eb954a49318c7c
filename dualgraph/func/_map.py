"""vmap: a function of one sample, applied to a batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from dualgraph_compiler.errors import ArgumentError

from .. import functions
from .._dispatch import make
from .._tensor import Tensor
from ..transforms.arguments import moved_from_front, moved_to_front, written_back
from ..transforms.batched import Batched, BatchLevel
from ._tree import leaves, rebuilt, structure

Function = Callable[..., Any]


def vmap(
    func: Function,
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Function:
    """The function that applies `func`, which is written for one sample, to batches.

    The function runs once: each operation in it acts on the whole batch.

    Args:
        in_dims: the batch axis of each argument, or None where it has none; for nested arguments
            nested alike, or one for all that an argument holds.
        out_dims: where the batch axis of each result goes.
        randomness: what random draws do: "error", "same" (one draw for all samples) or "different".
        chunk_size: how many samples to take at once (None: all).

    Raises:
        ValueError: the arguments do not fit `in_dims`, or the batch sizes differ.
        AutogradError: the function asks for the value of a tensor, or draws random numbers though
            `randomness` is "error".
    """
    if randomness not in ("error", "same", "different"):
        raise RuntimeError(
            "Only allowed values for randomness are 'error', 'different', or 'same'. Got "
            f"{randomness}"
        )
    if chunk_size is not None and chunk_size < 1:
        raise ArgumentError(
            f"vmap: chunk_size should be None or greater than 0. (got {chunk_size})"
        )

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        flat, axes, size = _taken_apart(func, in_dims, args)
        # Keyword arguments are batches along their first axis, as in PyTorch.
        named = leaves(kwargs)
        if chunk_size is None or chunk_size >= size:
            call = _Call(func, out_dims, randomness)
            return call.run(args, flat, axes, kwargs, named, size)
        return _in_chunks(func, out_dims, randomness, chunk_size, args, flat, axes, kwargs, size)

    return wrapper


class _Call:
    """One batched call."""

    def __init__(self, func: Function, out_dims: Any, randomness: str) -> None:
        self.func = func
        self.out_dims = out_dims
        self.randomness = randomness

    def run(
        self,
        args: tuple[Any, ...],
        flat: Sequence[Any],
        axes: Sequence[int | None],
        kwargs: dict[str, Any],
        named: Sequence[Any],
        size: int,
    ) -> Any:
        given = [*flat, *named]
        places = [*axes, *(0 if isinstance(x, Tensor) else None for x in named)]
        with BatchLevel(size, self.randomness) as level:
            inner = [
                x if at is None else moved_to_front(x, at)
                for x, at in zip(given, places, strict=True)
            ]
            handed = [
                x if at is None else make(Batched(level, x))
                for x, at in zip(inner, places, strict=True)
            ]
            out = self.func(
                *rebuilt(args, handed[: len(flat)]), **rebuilt(kwargs, handed[len(flat) :])
            )
            written_back(inner, handed)
            results = self._results(out, level)
            del out  # what was made inside is gone from here on
            level.give_back()
            return results

    def _results(self, out: Any, level: BatchLevel) -> Any:
        results = leaves(out)
        places = _spread(self.func, self.out_dims, out)
        found = []
        for y, at in zip(results, places, strict=True):
            if not isinstance(y, Tensor):
                raise ValueError(
                    f"vmap({_name(self.func)}, ...): `{_name(self.func)}` must only return "
                    f"Tensors, got type {type(y)}. Did you mean to set out_dims= to None for "
                    "output?"
                )
            inner, own = level.parts(y)
            if at is None:
                if own:
                    raise ValueError(
                        f"vmap({_name(self.func)}, ...): `{_name(self.func)}` can not return a "
                        f"BatchedTensor when out_dim is None"
                    )
                found.append(inner)
                continue
            inner = level.rows(y)
            if not -inner.ndim <= at < inner.ndim:
                raise IndexError(
                    f"Dimension out of range (expected to be in range of [{-inner.ndim}, "
                    f"{inner.ndim - 1}], but got {at})"
                )
            found.append(moved_from_front(inner, at))
        return rebuilt(out, found)


def _name(func: Any) -> str:
    return getattr(func, "__name__", repr(func))


def _taken_apart(
    func: Function, in_dims: Any, args: tuple[Any, ...]
) -> tuple[list[Any], list[int | None], int]:
    """The arguments' leaves, the batch axis of each, and the batch's size."""
    if not isinstance(in_dims, int | tuple):
        raise ArgumentError(
            f"vmap({_name(func)}, in_dims={in_dims}, ...)(<inputs>): expected `in_dims` to be int "
            f"or a (potentially nested) tuple matching the structure of inputs, got: "
            f"{type(in_dims)}."
        )
    if not args:
        raise ArgumentError(
            f"vmap({_name(func)})(<inputs>): got no inputs. Maybe you forgot to add inputs, or you "
            "are trying to vmap over a function with no inputs. The latter is unsupported."
        )
    flat = leaves(args)
    axes = _spread_over(in_dims, args)
    if axes is None:
        raise ArgumentError(
            f"vmap({_name(func)}, in_dims={in_dims}, ...)(<inputs>): in_dims is not compatible "
            f"with the structure of inputs. in_dims has structure {structure(in_dims)} but inputs "
            f"has structure {structure(args)}."
        )
    placed = [_axis(func, in_dims, x, at) for x, at in zip(flat, axes, strict=True)]
    sizes = [x.shape[at] for x, at in zip(flat, placed, strict=True) if at is not None]
    if not sizes:
        raise ArgumentError("vmap: at least one Tensor input to vmap must be batched (in_dims)")
    if any(s != sizes[0] for s in sizes):
        raise ArgumentError(
            "vmap: Expected all tensors to have the same size in the mapped dimension, got sizes "
            f"{sizes} for the mapped dimension"
        )
    return flat, placed, sizes[0]


def _axis(func: Function, in_dims: Any, x: Any, at: Any) -> int | None:
    what = f"vmap({_name(func)}, in_dims={in_dims}, ...)(<inputs>): Got in_dim={at} for an input"
    if at is None:
        return None
    if not isinstance(at, int):
        raise ArgumentError(f"{what} but in_dim must be either an integer dimension or None.")
    if not isinstance(x, Tensor):
        raise ArgumentError(
            f"{what} but the input is of type {type(x)}. We cannot vmap over non-Tensor arguments, "
            "please use None as the respective in_dim"
        )
    if not -x.ndim <= at < x.ndim:
        raise ArgumentError(
            f"{what}, but that input is a Tensor of dimensionality {x.ndim} so expected in_dim to "
            f"satisfy -{x.ndim} <= in_dim < {x.ndim}."
        )
    return at % x.ndim


def _spread_over(dims: Any, tree: Any) -> list[Any] | None:
    """One entry of `dims` for each leaf of `tree`; None where their structures do not fit."""
    if dims is None or isinstance(dims, int):
        return [dims] * len(leaves(tree))
    if isinstance(tree, dict) and isinstance(dims, dict):
        parts = [(dims.get(k, _MISSING), v) for k, v in tree.items()]
        fits = dims.keys() == tree.keys()
    elif isinstance(tree, tuple | list) and isinstance(dims, tuple | list):
        parts = list(zip(dims, tree, strict=False))
        fits = len(dims) == len(tree)
    else:
        return None
    out: list[Any] = []
    for d, part in parts:
        found = _spread_over(d, part) if fits else None
        if found is None:
            return None
        out += found
    return out


_MISSING = object()


def _spread(func: Function, out_dims: Any, out: Any) -> list[Any]:
    if isinstance(out_dims, tuple) and len(out_dims) == 1 and isinstance(out, Tensor):
        out_dims = out_dims[0]
    found = _spread_over(out_dims, out)
    if found is None:
        raise ArgumentError(
            f"vmap({_name(func)}, ..., out_dims={out_dims}): out_dims is not compatible with the "
            f"structure of `outputs`. out_dims has structure {structure(out_dims)} but outputs has "
            f"structure {structure(out)}."
        )
    return found


def _in_chunks(
    func: Function,
    out_dims: Any,
    randomness: str,
    chunk_size: int,
    args: tuple[Any, ...],
    flat: Sequence[Any],
    axes: Sequence[int | None],
    kwargs: dict[str, Any],
    size: int,
) -> Any:
    parts = []
    for start in range(0, size, chunk_size):
        count = min(chunk_size, size - start)
        pieces = [
            x if at is None else x.narrow(at, start, count)
            for x, at in zip(flat, axes, strict=True)
        ]
        named = [x.narrow(0, start, count) if isinstance(x, Tensor) else x for x in leaves(kwargs)]
        call = _Call(func, out_dims, randomness)
        parts.append(call.run(args, pieces, axes, kwargs, named, count))
    first = parts[0]
    places = _spread(func, out_dims, first)
    columns = zip(*map(leaves, parts), strict=True)
    joined = [
        c[0] if at is None else functions.cat(c, at) for c, at in zip(columns, places, strict=True)
    ]
    return rebuilt(first, joined)
