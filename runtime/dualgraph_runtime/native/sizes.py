"""Sizes that vary, as the launcher computes them: expressions as code for frame.c.

A frame made for some sizes serves other ones as long as every intermediate value fits into the
place it was given: the launcher computes shapes and bytes for each call from what the inputs tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dualgraph_compiler.dims import DimLike, Symbol, floordiv, product
from dualgraph_compiler.native import Slot

_END, _NUMBER, _SIZE, _ADD, _MULTIPLY, _DIVIDE, _LARGER = range(7)  # as in frame.c
_MOST = (1 << 63) - 1

# Where a size is found: the number of an input, its axis, the least and the most it may be.
Found = tuple[int, int, int, int]


def told(types: Sequence[tuple[str, Any]], names: Iterable[str]) -> list[Found] | None:
    """Where inputs of these (name, type) tell the sizes of these names; None where they do not."""
    found: dict[str, Found] = {}
    for i, (_, t) in enumerate(types):
        for axis, d in enumerate(t.shape):
            if not isinstance(d, int) and d.name is not None:
                symbol = d.terms[0][0][0]
                most = _MOST if symbol.max is None else symbol.max
                found.setdefault(d.name, (i, axis, symbol.min, most))
    names = list(names)
    return [found[name] for name in names] if found.keys() == set(names) else None


def code_of(x: DimLike, numbers: Mapping[str, int]) -> list[int]:
    """An expression of the sizes with these numbers, as code."""
    return [*_code(x, numbers), _END]


def _code(x: DimLike, numbers: Mapping[str, int]) -> list[int]:
    if isinstance(x, int):
        return [_NUMBER, x]
    code: list[int] = []
    for i, (monomial, factor) in enumerate(x.terms):
        code += [_NUMBER, factor]
        for atom in monomial:
            if isinstance(atom, Symbol):
                code += [_SIZE, numbers[atom.name]]
            else:
                code += [*_code(atom.left, numbers), *_code(atom.right, numbers)]
                code.append(_DIVIDE if atom.function == "floordiv" else _LARGER)
            code.append(_MULTIPLY)
        if i:
            code.append(_ADD)
    return code


def room_of(slot: Slot, threads: int) -> DimLike:
    """The bytes of a slot, of which each of so many threads may have its own."""
    size = product(slot.shape) * slot.dtype.itemsize
    return floordiv(size + 63, 64) * (64 * threads) if slot.own else size


def depth_of(code: Sequence[int]) -> int:
    """How many numbers are on the stack at most while an expression's code is carried out."""
    depth = deepest = 0
    words = iter(code)
    for word in words:
        if word in (_NUMBER, _SIZE):
            next(words)
            depth += 1
            deepest = max(deepest, depth)
        elif word != _END:
            depth -= 1
    return deepest


def grown(env: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    """Sizes to make room for, where there was room for those `before`.

    What has grown once will grow again: a quarter more, so that room is seldom made.
    """
    return {name: n if n <= before[name] else n + n // 4 for name, n in env.items()}
