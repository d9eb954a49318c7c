"""Matrix products."""

from __future__ import annotations

from typing import Any

from ..dims import DimLike, product
from ..dtypes import BOOL
from ..errors import DTypeError, ShapeError
from ..kernels import linalg
from ..kernels.arrays import narrow, widen
from ..types import TensorType, type_of
from . import f
from .base import Array, Grad, Kind, Onnx, Op, broadcast_shapes, op, require_same_dtype, shape_text
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import Writer, emit


def _require_numbers(name: str, *inputs: TensorType) -> None:
    if require_same_dtype(name, *inputs).category == BOOL:
        raise DTypeError(f"{name}: expected numeric operands, got bool")


def _hermitian(x: Array) -> Array:
    """The conjugate transpose of the last two axes."""
    return f.conj(f.transpose(x))


def _rows(x: Array) -> Array:
    """[..., n] as [rows, n]."""
    return f.reshape(x, (product(tuple(x.shape[:-1])), x.shape[-1]))


@op
class Matmul(Op):
    """Matrix products over the last two axes; the axes before them broadcast.

    Shapes: a (..., n, k), b (..., k, m) -> (..., n, m); both have at least two axes. One numeric
    dtype; narrow floats accumulate in float32. Source: ONNX MatMul-13.
    """

    kind = Kind.CONTRACTION
    is_bilinear = True
    onnx = Onnx("MatMul", 9)

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        _require_numbers("matmul", a, b)
        if a.ndim < 2 or b.ndim < 2:
            raise ShapeError(
                "matmul: expected operands of two or more dimensions, got shapes "
                f"{shape_text(a.shape)} and {shape_text(b.shape)}"
            )
        if a.shape[-1] != b.shape[-2]:
            raise ShapeError(
                f"matmul: shapes {shape_text(a.shape)} and {shape_text(b.shape)} cannot be "
                f"multiplied: {a.shape[-1]} columns against {b.shape[-2]} rows",
                sizes=(a.shape[-1], b.shape[-2]),
            )
        batch = broadcast_shapes("matmul", a.shape[:-2], b.shape[:-2])
        return a.with_shape((*batch, a.shape[-2], b.shape[-1]))

    def flops(self, y: TensorType, *inputs: TensorType) -> DimLike:
        return y.size * inputs[0].shape[-1] * 2

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        if a.dtype.char in "fdFD":  # most of all products: one call, no checks
            # For two matrices `dot` is the same BLAS call with less around it.
            return a.dot(b) if a.ndim == 2 == b.ndim else xp.matmul(a, b)
        return linalg.matmul(xp, a, b)

    def eager_into(self, xp: Any, out: Array, a: Array, b: Array) -> None:
        if out.dtype.char not in "fdFD":
            xp.copyto(out, self.eager(xp, a, b))
        elif a.ndim == 2 == b.ndim:
            xp.dot(a, b, out=out)
        else:
            xp.matmul(a, b, out=out)

    def vjp(self, g: Array, _y: Array, a: Array, b: Array) -> tuple[Grad, ...]:
        return lambda: self._grad_a(g, a, b), lambda: self._grad_b(g, a, b)

    def _grad_a(self, g: Array, a: Array, b: Array) -> Array:
        return f.unbroadcast(f.matmul(g, _hermitian(b)), a.shape)

    def _grad_b(self, g: Array, a: Array, b: Array) -> Array:
        if b.ndim == 2:  # one product over all rows, instead of a batch of them added up
            return f.matmul(_hermitian(_rows(a)), _rows(g))
        return f.unbroadcast(f.matmul(_hermitian(a), g), b.shape)

    def to_onnx(self, ctx: Export, a: str, b: str) -> str:
        return emit(ctx, ctx.type(a).dtype, "MatMul", a, b)


@from_onnx("MatMul")
def _import_matmul(ctx: Import, a: Any, b: Any) -> Any:
    left, right = a.ndim == 1, b.ndim == 1
    a = f.reshape(a, (1, *a.shape)) if left else a
    b = f.reshape(b, (*b.shape, 1)) if right else b
    y = Matmul()(a, b)
    shape = list(y.shape)
    if right:
        del shape[-1]
    if left:
        del shape[-2 if not right else -1]
    return f.reshape(y, tuple(shape))


@op
class Linear(Op):
    """x wᵀ + b, the map of a fully connected layer.

    Shapes: x (..., in), w (out, in), optional b (out) -> (..., out). Source: PyTorch linear; ONNX
    Gemm-13 where x has two axes, else MatMul-13 and Add-14.
    """

    kind = Kind.COMPOSITE
    is_bilinear = True

    def infer(self, x: TensorType, w: TensorType, *b: TensorType) -> TensorType:
        _require_numbers("linear", x, w, *b)
        if w.ndim != 2 or x.ndim < 1 or x.shape[-1] != w.shape[1]:
            raise ShapeError(
                "linear: expected an input [..., in_features] and a weight [out_features, "
                f"in_features], got {shape_text(x.shape)} and {shape_text(w.shape)}"
            )
        if b and b[0].shape != w.shape[:1]:
            raise ShapeError(
                f"linear: expected a bias [{w.shape[0]}] for the weight {shape_text(w.shape)}, got "
                f"{shape_text(b[0].shape)}"
            )
        return x.with_shape((*x.shape[:-1], w.shape[0]))

    def flops(self, y: TensorType, *inputs: TensorType) -> DimLike:
        return y.size * inputs[0].shape[-1] * 2

    def eager(self, xp: Any, x: Array, w: Array, *b: Array) -> Array:
        if x.dtype is not w.dtype or (b and b[0].dtype is not w.dtype):
            self.infer(type_of(x), type_of(w), *map(type_of, b))
        # One product whatever the rank: a batched matmul would run one small product per item.
        rows = widen(x)
        if x.ndim != 2 and x.size:
            rows = rows.reshape(-1, x.shape[-1])
        y = linalg.matmul(xp, rows, widen(w).T)
        if b:
            y += widen(b[0])
        return narrow(y if x.ndim == 2 else y.reshape(*x.shape[:-1], w.shape[0]), x.dtype)

    def eager_into(self, xp: Any, out: Array, x: Array, w: Array, *b: Array) -> None:
        if out.dtype.char not in "fdFD" or not x.size or not out.flags.c_contiguous:
            xp.copyto(out, self.eager(xp, x, w, *b))
            return
        rows = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
        xp.matmul(rows, w.T, out=out if x.ndim == 2 else out.reshape(-1, w.shape[0]))
        if b:
            xp.add(out, b[0], out=out)

    def vjp(self, g: Array, _y: Array, x: Array, w: Array, *_b: Array) -> tuple[Grad, ...]:
        grads: tuple[Grad, ...] = (
            lambda: Linear()(g, _hermitian(w)),
            lambda: f.matmul(f.transpose(_rows(g)), f.conj(_rows(x))),
        )
        return (*grads, lambda: f.sum(g, range(g.ndim - 1))) if _b else grads

    def decompose(self, x: Array, w: Array, *b: Array) -> Array:
        y = f.matmul(x if x.ndim > 1 else f.reshape(x, (1, *x.shape)), f.transpose(w))
        y = y + b[0] if b else y
        return y if x.ndim > 1 else f.reshape(y, (w.shape[0],))

    def to_onnx(self, ctx: Export, x: str, w: str, *b: str) -> str:
        write = Writer(ctx, ctx.type(x).dtype)
        if ctx.type(x).ndim == 2:
            return write("Gemm", x, w, *b, transB=1)
        y = write("MatMul", x, ctx.emit("Transpose", w, perm=(1, 0)))
        return write("Add", y, b[0]) if b else y


@from_onnx("Gemm")
def _import_gemm(ctx: Import, a: Any, b: Any, c: Any = None) -> Any:
    alpha, beta = ctx.attr("alpha", 1.0), ctx.attr("beta", 1.0)
    a = f.transpose(a) if ctx.attr("transA", 0) else a
    transposed = bool(ctx.attr("transB", 0))
    fits = c is None or c.shape in (bias := ((b.shape[0],), (1, b.shape[0])))
    if transposed and fits and alpha == 1.0 and beta == 1.0:
        return Linear()(a, b) if c is None else Linear()(a, b, f.reshape(c, bias[0]))
    y = f.matmul(a, f.transpose(b) if transposed else b)
    y = y if alpha == 1.0 else y * f.like(y, alpha)
    if c is None or beta == 0.0:
        return y
    return y + (c if beta == 1.0 else c * f.like(c, beta))
