"""What arrays fed to a graph tell of its symbolic sizes, and whether they fit what is declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .dims import evaluate, solve, symbols
from .dtypes import dtype_of
from .errors import FeedError


def bind_shapes(declared: Sequence[tuple[str, Any]], arrays: Sequence[Any]) -> dict[str, int]:
    """The values of the symbolic dims of `declared` (name, TensorType) pairs, given their arrays.

    Raises:
        FeedError: a count, dtype, rank or size that does not fit, or a dim seen with two sizes.
    """
    if len(declared) != len(arrays):
        raise FeedError(f"expected {len(declared)} inputs, got {len(arrays)}")
    sizes: list[tuple[str, int, Any, int]] = []  # input, axis, declared, found
    for (name, t), array in zip(declared, arrays, strict=True):
        if dtype_of(array) is not t.dtype:
            raise FeedError(
                f"input {name!r}: expected dtype {t.dtype.name}, got {dtype_of(array).name}"
            )
        if len(array.shape) != len(t.shape):
            raise FeedError(
                f"input {name!r}: expected {t.ndim} dimensions {t}, got shape {list(array.shape)}"
            )
        for axis, (d, n) in enumerate(zip(t.shape, array.shape, strict=True)):
            if not isinstance(d, int):
                sizes.append((name, axis, d, n))
            elif d != n:
                raise FeedError(
                    f"input {name!r}: expected size {d} in dimension {axis} of {t}, got "
                    f"shape {list(array.shape)}"
                )
    env = solve((d, n) for _, _, d, n in sizes)
    first: dict[str, str] = {}  # which input a dim took its size from
    for name, axis, d, n in sizes:
        if d.name is not None and d.name not in first:
            first[d.name] = f"{n} in dimension {axis} of {name!r}"
    for name, axis, d, n in sizes:
        _check_size(name, axis, d, n, env, first)
    return env


def _check_size(
    name: str, axis: int, d: Any, n: int, env: Mapping[str, int], first: Mapping[str, str]
) -> None:
    """Raise FeedError unless `n`, the size of an axis of an input, is what is declared."""
    where = f"input {name!r}: dimension {axis}"
    if not all(s.name in env for s in symbols(d)):
        raise FeedError(
            f"{where} is declared {d}, and no input tells the size of "
            f"{', '.join(sorted(s.name for s in symbols(d) if s.name not in env))}"
        )
    for s in symbols(d):
        size = env[s.name]
        if size < s.min or (s.max is not None and size > s.max):
            most = "" if s.max is None else f" and at most {s.max}"
            computed = "" if d.name else f", since {d} = {n}"
            raise FeedError(
                f"{where} has size {n}, but {s.name} is declared at least {s.min}{most}; got "
                f"{s.name} = {size}{computed}"
            )
    found = evaluate(d, env)
    if found == n:
        return
    if d.name is not None:
        raise FeedError(
            f"{where} has size {n}, but it is declared {d}, one size wherever it occurs, and {d} "
            f"is {first[d.name]}"
        )
    values = ", ".join(f"{s.name} = {env[s.name]}" for s in sorted(symbols(d), key=str))
    raise FeedError(f"{where} has size {n}, but it is declared {d}, which is {found} for {values}")
