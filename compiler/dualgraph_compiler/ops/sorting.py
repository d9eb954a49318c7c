"""Order along an axis: sort, top-k, positions of extremes.

NaN counts as greater than every number, and equal elements keep their order. Indices are int64.
Values differentiate through their indices, as a gather does.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ..dims import DimLike
from ..dtypes import COMPLEX, DType, bool_, float16, float32, float64, int32, int64
from ..errors import DTypeError, OnnxError, ShapeError
from ..kernels import sorting as kernels
from ..types import TensorType, type_of
from . import f
from .base import Array, Grad, Op, normalize_axis, op
from .creation import DimValue
from .indexing import ScatterAdd
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import emit

# What ONNX Runtime's TopK computes in; other types are cast to one that holds them.
_TOPK = (float32, float64, float16, int64, int32)


def _check_order(name: str, x: TensorType) -> TensorType:
    if x.dtype.category == COMPLEX:
        raise DTypeError(f"{name}: complex numbers have no order")
    return x


class _Ordered(Op):
    """Gives values taken along `axis`, and their int64 indices."""

    __slots__ = ()
    axis: int

    def vjp(self, g: tuple[Array, ...], y: tuple[Array, ...], _x: Array) -> tuple[Grad, ...]:
        if g[0] is None:
            return (None,)
        return (ScatterAdd(self.axis)(f.zeros(g[0], tuple(_x.shape)), y[1], g[0]),)


@op
class Sort(_Ordered):
    """Elements in ascending (or descending) order along `axis`, and where each came from.

    Stable. Shapes: x -> values and indices of x's shape. Source: torch.sort; ONNX TopK-11.
    """

    axis: int
    descending: bool = False
    n_outputs: ClassVar[int] = 2

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        normalize_axis("sort", self.axis, x.ndim)
        return _check_order("sort", x), x.with_dtype(int64)

    def eager(self, xp: Any, x: Array) -> tuple[Array, Array]:
        return kernels.sort(xp, x, self.axis, self.descending)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        t = ctx.type(x)
        if t.ndim == 0:
            return x, ctx.constant(0, int64)
        return _emit_topk(ctx, x, t, t.shape[self.axis], self.axis, self.descending, True)


@op
class TopK(_Ordered):
    """The `k` largest (or smallest) elements along `axis`, and their indices.

    Of equal elements the first are taken. In order where `sorted`, else in any. Shapes: x [.., d,
    ..] -> values and indices [.., k, ..]. Source: ONNX TopK-24, torch.topk.
    """

    k: DimLike
    axis: int
    largest: bool = True
    sorted: bool = True
    n_outputs: ClassVar[int] = 2

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        axis = normalize_axis("top_k", self.axis, x.ndim)
        size = x.shape[axis] if x.ndim else 1
        if isinstance(self.k, int) and isinstance(size, int) and not 0 <= self.k <= size:
            raise ShapeError(
                f"top_k: k must be within [0, {size}], the size of dimension {axis}, got {self.k}"
            )
        out = x.with_shape(self.k if i == axis else d for i, d in enumerate(x.shape))
        if x.ndim == 0 and self.k != 1:
            out = x.with_shape((0,))
        return _check_order("top_k", out), out.with_dtype(int64)

    def eager(self, xp: Any, x: Array) -> tuple[Array, Array]:
        try:
            return kernels.topk(xp, x, self.k, self.axis, self.largest, self.sorted)  # type: ignore[arg-type]
        except ValueError:
            self.infer(type_of(x))
            raise

    def to_onnx(self, ctx: Export, x: str) -> Any:
        t = ctx.type(x)
        if t.ndim == 0:
            if self.k == 1:
                return x, ctx.constant(0, int64)
            raise OnnxError("top_k: ONNX has no top 0 of a 0-d tensor")
        return _emit_topk(ctx, x, t, self.k, self.axis, self.largest, self.sorted)


def _emit_topk(
    ctx: Export, x: str, t: TensorType, k: DimLike, axis: int, largest: bool, sorted: bool
) -> tuple[str, str]:
    dtype = t.dtype
    if dtype not in _TOPK:
        x = ctx.emit("Cast", x, to=_holding(dtype))
    attributes = {"axis": axis, "largest": int(largest), "sorted": int(sorted)}
    values, at = ctx.emit("TopK", x, ctx.shape((k,)), outputs=2, **attributes)
    return (values if dtype in _TOPK else ctx.emit("Cast", values, to=dtype)), at


def _holding(dtype: DType) -> DType:
    """A type that TopK takes and that keeps the order of all values of `dtype`."""
    if dtype.category == float32.category:
        return float32
    return int32 if dtype.itemsize <= 2 else int64


@from_onnx("TopK")
def _import_topk(ctx: Import, x: Any, k: Any) -> Any:
    axis = normalize_axis("TopK", ctx.attr("axis", -1), x.ndim)
    (count,) = ctx.sizes(k, "the k of TopK")
    largest, in_order = bool(ctx.attr("largest", 1)), bool(ctx.attr("sorted", 1))
    if in_order and count == x.shape[axis]:
        values, at = Sort(axis, largest)(x)
    else:
        values, at = TopK(count, axis, largest, in_order)(x)
    return (values, at) if ctx.n_outputs > 1 else values


# -- positions ------------------------------------------------------------------------------------


class _Position(Op):
    """The int64 index of an extreme element along `axis`."""

    __slots__ = ()
    axis: int
    keepdims: bool

    def infer(self, x: TensorType) -> TensorType:
        axis = normalize_axis(self.name, self.axis, x.ndim)
        _check_order(self.name, x)
        if x.ndim and isinstance(x.shape[axis], int) and x.shape[axis] == 0:
            raise ShapeError(f"{self.name}: expected a dimension {axis} of a size above 0, got {x}")
        kept = tuple(1 if i == axis else d for i, d in enumerate(x.shape))
        if not self.keepdims:
            kept = kept[:axis] + kept[axis + 1 :]
        return TensorType(int64, kept)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        t = ctx.type(x)
        if t.ndim == 0:
            return ctx.constant(0, int64)
        name = "ArgMax" if self.name == "arg_max" else "ArgMin"
        if t.dtype is bool_:
            x = ctx.emit("Cast", x, to=int32)
            t = t.with_dtype(int32)
        return emit(ctx, t.dtype, name, x, axis=self.axis, keepdims=int(self.keepdims))


@op
class ArgMax(_Position):
    """Where the largest element along `axis` is; the first of several, and NaN before all.

    Shapes: x [.., d, ..] -> int64 without `axis` (size 1 with `keepdims`). Source: ONNX ArgMax-13.
    """

    axis: int
    keepdims: bool = False

    def eager(self, xp: Any, x: Array) -> Array:
        return kernels.argmax(xp, x, self.axis, self.keepdims)


@op
class ArgMin(_Position):
    """Where the smallest element along `axis` is; the first of several, and NaN before all.

    Shapes: x [.., d, ..] -> int64 without `axis` (size 1 with `keepdims`). Source: ONNX ArgMin-13.
    """

    axis: int
    keepdims: bool = False

    def eager(self, xp: Any, x: Array) -> Array:
        return kernels.argmin(xp, x, self.axis, self.keepdims)


def _import_position(cls: type[ArgMax] | type[ArgMin], ctx: Import, x: Any) -> Any:
    axis = normalize_axis(cls.__name__, ctx.attr("axis", 0), x.ndim)
    position = cls(axis, bool(ctx.attr("keepdims", 1)))
    if not ctx.attr("select_last_index", 0):
        return position(x)
    # The last of equal elements is the first of the reversed axis.
    found = position(f.flip(x, (axis,)))
    last = ctx.graph.call(DimValue(x.shape[axis] - 1), ())
    return last - found


@from_onnx("ArgMax")
def _import_argmax(ctx: Import, x: Any) -> Any:
    return _import_position(ArgMax, ctx, x)


@from_onnx("ArgMin")
def _import_argmin(ctx: Import, x: Any) -> Any:
    return _import_position(ArgMin, ctx, x)
