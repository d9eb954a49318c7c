"""Views: reshape, expand, permute. See :mod:`.slicing` and :mod:`.rearrange` for the rest."""

from __future__ import annotations

from typing import Any, ClassVar

from ..dims import Dim, DimLike, Shape, bounds, product
from ..errors import IndexOutOfRange, ShapeError
from ..kernels.broadcast import broadcast_to
from ..types import TensorType
from . import f
from .base import (
    REGISTRY,
    Array,
    Grad,
    Kind,
    Onnx,
    Op,
    broadcast_shapes,
    normalize_axis,
    op,
    shape_text,
)
from .onnx_rules import Export, Import, from_onnx

# Bounds of an axis up to this are taken as its size where a model reshapes to that.
_FEW = 1 << 20


class Movement(Op):
    """Moves elements; the dtype stays."""

    __slots__ = ()
    kind = Kind.MOVEMENT

    def unview(self, base: Array, v: Array) -> Array:
        """`base` with the elements this op shows replaced by `v` (view ops only)."""
        raise NotImplementedError(type(self).__name__)


@op
class Reshape(Movement):
    """x with another shape of as many elements, in row-major order. Source: ONNX Reshape-25."""

    shape: Shape
    is_view: ClassVar[bool] = True

    def infer(self, x: TensorType) -> TensorType:
        if x.size != product(self.shape):
            raise ShapeError(
                f"reshape: shape {shape_text(self.shape)} is invalid for input of size {x.size} "
                f"(shape {shape_text(x.shape)})",
                sizes=(x.size, product(self.shape)),
            )
        return x.with_shape(self.shape)

    def eager(self, xp: Any, x: Array) -> Array:
        return x.reshape(self.shape)

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return (f.reshape(g, _x.shape),)

    def unview(self, base: Array, v: Array) -> Array:
        return f.reshape(v, base.shape)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        old = ctx.type(x).shape
        # 0 keeps the input's size and -1 is what remains: both spare computing symbolic sizes.
        kept: list[DimLike] = [
            0 if isinstance(d, Dim) and i < len(old) and old[i] == d else d
            for i, d in enumerate(self.shape)
        ]
        symbolic = [i for i, d in enumerate(kept) if isinstance(d, Dim)]
        if any(d == 0 and isinstance(d, int) for d in self.shape):
            if ctx.opset < 14:  # 0 keeps a size there; what has no elements can be made anew
                zero = ctx.constant(0, ctx.type(x).dtype)
                return ctx.emit("Expand", zero, ctx.shape(self.shape))
            return ctx.emit("Reshape", x, ctx.shape(self.shape), allowzero=1)
        if len(symbolic) == 1:
            kept[symbolic[0]] = -1
        return ctx.emit("Reshape", x, ctx.shape(tuple(kept)))


@op
class Expand(Movement):
    """x broadcast to `shape`, which has at least as many axes. Source: ONNX Expand-13."""

    shape: Shape
    is_view: ClassVar[bool] = True

    def infer(self, x: TensorType) -> TensorType:
        lead = len(self.shape) - x.ndim
        for i, d in enumerate(x.shape):
            if lead < 0 or (d != 1 and d != self.shape[i + lead]):
                raise ShapeError(
                    f"expand: shape {shape_text(x.shape)} does not expand to "
                    f"{shape_text(self.shape)}; sizes must match or be 1 in the input",
                    sizes=None if lead < 0 else (d, self.shape[i + lead]),
                )
        if lead < 0:
            raise ShapeError(
                f"expand: the target {shape_text(self.shape)} has fewer axes than the input "
                f"{shape_text(x.shape)}"
            )
        return x.with_shape(self.shape)

    def eager(self, xp: Any, x: Array) -> Array:
        return broadcast_to(xp, x, self.shape)

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return (f.unbroadcast(g, _x.shape),)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        old = (1,) * (len(self.shape) - ctx.type(x).ndim) + ctx.type(x).shape
        # ONNX broadcasts both ways, so 1 keeps a size and only real expansions need one.
        wanted = tuple(1 if o == d else d for o, d in zip(old, self.shape, strict=True))
        return ctx.emit("Expand", x, ctx.shape(wanted))


@op
class Permute(Movement):
    """Axes reordered: out axis i is x's axis `axes[i]`. Source: ONNX Transpose-25."""

    axes: tuple[int, ...]
    is_view: ClassVar[bool] = True
    onnx = Onnx("Transpose", 1, (("axes", "perm"),))

    def infer(self, x: TensorType) -> TensorType:
        if sorted(self.axes) != list(range(x.ndim)):
            raise ShapeError(
                f"permute: expected a permutation of the {x.ndim} axes of shape "
                f"{shape_text(x.shape)}, got {self.axes}"
            )
        return x.with_shape(x.shape[a] for a in self.axes)

    def eager(self, xp: Any, x: Array) -> Array:
        return x.transpose(self.axes)

    def inverse(self) -> Permute:
        """The permutation that undoes this one."""
        return Permute(tuple(self.axes.index(i) for i in range(len(self.axes))))

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return (self.inverse()(g),)

    def unview(self, base: Array, v: Array) -> Array:
        return self.inverse()(v)


def is_symbolic(shape: Shape) -> bool:
    """Whether some dimension is symbolic."""
    return any(isinstance(d, Dim) for d in shape)


# -- import ---------------------------------------------------------------------------------------


@from_onnx("Reshape")
def _import_reshape(ctx: Import, x: Any, shape: Any) -> Any:
    wanted = list(ctx.sizes(shape, "the shape of Reshape"))
    if not ctx.attr("allowzero", 0):
        wanted = [x.shape[i] if d == 0 else d for i, d in enumerate(wanted)]
    if -1 in wanted:
        at = wanted.index(-1)
        rest = product((*wanted[:at], *wanted[at + 1 :]))
        wanted[at] = x.size // rest if rest != 0 else 0
    return f.reshape(_filled(ctx, x, product(tuple(wanted))), tuple(wanted))


def _filled(ctx: Import, x: Any, size: DimLike) -> Any:
    """`x`, if need be with axes of at most k elements taken to have k, where that makes `size`.

    ``x[-1:]`` of an axis of n has min(1, n) elements, and what follows wants the one.
    """
    if x.size == size:
        return x
    most = [d if isinstance(d, int) else bounds(d)[1] for d in x.shape]
    full = tuple(
        int(m) if isinstance(d, Dim) and m is not None and 0 < m <= _FEW else d
        for d, m in zip(x.shape, most, strict=True)
    )
    if full == x.shape or product(full) != size:
        return x
    from ..graph.assumptions import Assumption

    for d, n in zip(x.shape, full, strict=True):
        if d != n:
            ctx.graph.assume(Assumption(d, ">=", n, f"Reshape to {n} elements in a dimension"))
    zeros, ones = (0,) * x.ndim, (1,) * x.ndim
    return ctx.graph.call(REGISTRY["slice"](zeros, full, ones), (x,))


@from_onnx("Flatten")
def _import_flatten(ctx: Import, x: Any) -> Any:
    axis = ctx.attr("axis", 1)
    if not -x.ndim <= axis <= x.ndim:
        raise IndexOutOfRange(f"Flatten: axis {axis} is not within {-x.ndim} and {x.ndim}")
    axis = axis + x.ndim if axis < 0 else axis
    return f.reshape(x, (product(x.shape[:axis]), product(x.shape[axis:])))


@from_onnx("Squeeze")
def _import_squeeze(ctx: Import, x: Any, axes: Any = None) -> Any:
    if axes is None:
        drop = {i for i, d in enumerate(x.shape) if d == 1}
    else:
        drop = {normalize_axis("Squeeze", a, x.ndim) for a in ctx.ints(axes, "Squeeze axes")}
    if any(isinstance(x.shape[i], int) and x.shape[i] != 1 for i in drop):
        raise ShapeError(f"Squeeze: axes {sorted(drop)} of {shape_text(x.shape)} are not all 1")
    return f.reshape(x, tuple(d for i, d in enumerate(x.shape) if i not in drop))


@from_onnx("Unsqueeze")
def _import_unsqueeze(ctx: Import, x: Any, axes: Any) -> Any:
    given = ctx.ints(axes, "Unsqueeze axes")
    ndim = x.ndim + len(given)
    new = {normalize_axis("Unsqueeze", a, ndim) for a in given}
    rest = iter(x.shape)
    return f.reshape(x, tuple(1 if i in new else next(rest) for i in range(ndim)))


@from_onnx("Expand")
def _import_expand(ctx: Import, x: Any, shape: Any) -> Any:
    wanted = ctx.sizes(shape, "the shape of Expand")
    return f.expand(x, broadcast_shapes("Expand", x.shape, wanted))


@from_onnx("Transpose")
def _import_transpose(ctx: Import, x: Any) -> Any:
    perm = ctx.attr("perm", tuple(reversed(range(x.ndim))))
    return f.permute(x, tuple(perm))
