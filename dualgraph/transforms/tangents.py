"""What an operation does to tangents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.ops import f
from dualgraph_compiler.ops.base import Kind, Op
from dualgraph_compiler.ops.convert import Cast, Conj, Imag, Real, StopGradient
from dualgraph_compiler.ops.cumulative import Cumsum
from dualgraph_compiler.ops.fourier import Dft
from dualgraph_compiler.ops.padding import Pad
from dualgraph_compiler.ops.pointwise import Add, Neg, Sub
from dualgraph_compiler.ops.reduction import Mean, Sum

from .._dispatch import apply, make
from ..autograd.grad_mode import local
from ..autograd.tape import Leaf

if TYPE_CHECKING:
    from .._tensor import Tensor

# Besides movements: the result's tangent is the operation on the operands' tangents.
_LINEAR: frozenset[type[Op]] = frozenset((Add, Sub, Neg, Sum, Mean, Cumsum, Dft, Conj, Real, Imag))


def push(op: Op, primals: Sequence[Tensor], tangents: Sequence[Tensor | None]) -> Any:
    """The pair of result and tangent (None: zero); a list of pairs where there are several."""
    outputs: Any = apply(op, *primals)
    several = type(outputs) is tuple
    if all(t is None for t in tangents) or type(op) is StopGradient or not op.differentiable:
        return [(y, None) for y in outputs] if several else (outputs, None)
    if several:
        found = _transposed_twice(op, outputs, primals, tangents)
        return list(zip(outputs, found, strict=True))
    if not outputs.dtype.is_differentiable:
        return outputs, None
    return outputs, _tangent(op, outputs, primals, tangents)


def _tangent(
    op: Op, y: Tensor, primals: Sequence[Tensor], tangents: Sequence[Tensor | None]
) -> Tensor | None:
    kind = type(op)
    if op.kind is Kind.MOVEMENT or kind in _LINEAR:
        if kind is Pad:
            op = replace(op, value=0)
        filled = [_or_zeros(p, t) for p, t in zip(primals, tangents, strict=True)]
        return apply(op, *filled)
    if kind is Cast:
        (t,) = tangents
        assert t is not None
        return apply(op, t)
    if op.is_bilinear and all(t is None for t in tangents[2:]):
        return _bilinear(op, primals, tangents)
    if op.kind is Kind.POINTWISE and not _any_complex(y, *primals):
        return _pointwise(op, y, primals, tangents)
    return _transposed_twice(op, (y,), primals, tangents)[0]


def _or_zeros(primal: Tensor, tangent: Tensor | None) -> Tensor:
    """The tangent; an operand that has none by its dtype (lengths, say) itself."""
    if tangent is not None or not primal.dtype.is_differentiable:
        return primal if tangent is None else tangent
    return f.zeros_like(primal)  # type: ignore[no-any-return]


def _any_complex(*tensors: Tensor) -> bool:
    return any(t.dtype.is_complex for t in tensors)


def _plus(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return apply(Add(), a, b)


def _bilinear(
    op: Op, primals: Sequence[Tensor], tangents: Sequence[Tensor | None]
) -> Tensor | None:
    a, b = primals[:2]
    ta, tb = tangents[:2]
    left = None if ta is None else apply(op, ta, b)
    return _plus(left, None if tb is None else apply(op, a, tb))


def _pointwise(
    op: Op, y: Tensor, primals: Sequence[Tensor], tangents: Sequence[Tensor | None]
) -> Tensor | None:
    """The Jacobian is diagonal, so that its transpose, the gradient rule, is itself."""
    shape = tuple(y.shape)
    full = [
        f.expand(p, shape) if t is not None else p for p, t in zip(primals, tangents, strict=True)
    ]
    total = None
    for i, t in enumerate(tangents):
        if t is None:
            continue
        gradient = op.vjp(f.expand(t, shape), y, *full)[i]
        gradient = gradient() if callable(gradient) else gradient
        total = _plus(total, gradient)
    return total


def _transposed_twice(
    op: Op,
    outputs: Sequence[Tensor],
    primals: Sequence[Tensor],
    tangents: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """The tangents of all outputs, from the gradient rule as a linear function of its gradient."""
    from ..autograd import grad

    many = op.n_outputs > 1
    mode, local.grad = local.grad, True
    try:
        cotangents = [
            make(f.zeros_like(y)._data, Leaf()) if y.dtype.is_differentiable else None
            for y in outputs
        ]
        g: Any = tuple(cotangents) if many else cotangents[0]
        found = op.vjp(g, tuple(outputs) if many else outputs[0], *primals)
        rows, weights = [], []
        for gradient, t in zip(found, tangents, strict=False):
            if t is None or gradient is None:
                continue
            value = (
                gradient() if callable(gradient) and not hasattr(gradient, "_data") else gradient
            )
            if value is not None and value._fn is not None:
                rows.append(value)
                weights.append(t)
    finally:
        local.grad = mode
    starts = [c for c in cotangents if c is not None]
    if not rows:
        return [None] * len(outputs)
    pushed = iter(grad(rows, starts, weights, create_graph=mode, allow_unused=True))
    return [None if c is None else next(pushed) for c in cotangents]
