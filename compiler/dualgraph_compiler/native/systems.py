"""Determinants, inverses and systems of equations by factorizations, which have routines.

The eager ops ask LAPACK for the whole; what they say of singular matrices (`info`) is the same.
"""

from __future__ import annotations

from typing import Any

from ..dtypes import float32, float64, int32
from ..graph import Node, Value
from ..ops import f
from ..ops.base import REGISTRY
from ..ops.creation import Arange, Eye
from ..ops.lu import LuFactor, permuted
from ..ops.rearrange import Diagonal
from ..ops.triangular import SolveTriangular


def by_factors(node: Node) -> Value | list[Value] | None:
    """The results of a node of linear algebra; None for others and for other dtypes."""
    rule = _RULES.get(node.op.name)
    if rule is None or node.inputs[0].dtype not in (float32, float64):
        return None
    return rule(node.op, *node.inputs)  # type: ignore[no-any-return]


def _solve(op: Any, a: Value, b: Value) -> list[Value]:
    packed, pivots, info = LuFactor()(a)
    batch = (*_solved(a, b).shape[:-2], *b.shape[-2:])
    order = f.expand(pivots, (*batch[:-2], pivots.shape[-1]))
    y = permuted(f.expand(b, batch), order)
    y = SolveTriangular(False, True)(packed, y)
    return [SolveTriangular(True)(packed, y), info]


def _solved(a: Value, b: Value) -> Any:
    """The type of the x with a x = b."""
    return SolveTriangular(False).infer(a.type, b.type)


def _inverse(op: Any, a: Value) -> list[Value]:
    n = a.shape[-1]
    return _solve(op, a, a.graph.call(Eye(n, n, a.dtype), ()))


def _diagonal_and_exchanges(a: Value) -> tuple[Value, Value]:
    """The diagonal of U [.., n], and 1 or -1 as the number of exchanges is even or odd [..]."""
    packed, pivots, _ = LuFactor()(a)
    diagonal = Diagonal(0, a.ndim - 2, a.ndim - 1)(packed)
    place = a.graph.call(Arange(1, a.shape[-1] + 1, 1, int32), ())
    turned = f.where(f.equal(pivots, f.expand(place, pivots.shape)), f.like(diagonal, 1), -1)
    return diagonal, _product(turned)


def _product(x: Value) -> Value:
    return REGISTRY["prod"](axes=(x.ndim - 1,), keepdims=False)(x)  # type: ignore[no-any-return]


def _det(op: Any, a: Value) -> Value:
    diagonal, sign = _diagonal_and_exchanges(a)
    return _product(diagonal) * sign


def _slog_det(op: Any, a: Value) -> list[Value]:
    diagonal, sign = _diagonal_and_exchanges(a)
    directions = REGISTRY["sign"]()(diagonal)
    return [_product(directions) * sign, f.sum(f.log(f.abs(diagonal)), (diagonal.ndim - 1,))]


def _cholesky_solve(op: Any, factor: Value, b: Value) -> Value:
    turned = f.transpose(factor)
    low, up = (turned, factor) if op.upper else (factor, turned)
    return SolveTriangular(True)(up, SolveTriangular(False)(low, b))  # type: ignore[no-any-return]


_RULES: dict[str, Any] = {
    "solve": _solve,
    "inverse": _inverse,
    "det": _det,
    "slog_det": _slog_det,
    "cholesky_solve": _cholesky_solve,
}
