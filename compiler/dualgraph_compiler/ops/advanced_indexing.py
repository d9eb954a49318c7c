"""Indexing by several tensors at once, by masks, and what masks select.

Index and IndexPut follow NumPy: the index tensors broadcast together, and their axes stand where
the indexed axes were, or first where those are not adjacent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..dims import DimLike, product
from ..dtypes import bfloat16, bool_, float32, int64
from ..errors import DTypeError, ShapeError, TraceError
from ..kernels import indexing as kernels
from ..kernels.postponed import note
from ..types import TensorType, type_of
from . import f
from .base import (
    REGISTRY,
    Array,
    Grad,
    Op,
    broadcast_shapes,
    normalize_axes,
    op,
    require_same_dtype,
    shape_text,
)
from .creation import Arange, DimValue
from .derive import export_formula
from .indexing import checked, require_index, scatter_with
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import emit

if TYPE_CHECKING:
    from ..graph import Value


class _Advanced(Op):
    """Indexes `axes` of x by one tensor each; the other axes are kept whole."""

    __slots__ = ()
    axes: tuple[int, ...]

    @property
    def adjacent(self) -> bool:
        """Whether the indexed axes follow each other."""
        return self.axes == tuple(range(self.axes[0], self.axes[0] + len(self.axes)))

    def shown(self, x: TensorType, indices: tuple[TensorType, ...]) -> TensorType:
        """The type of ``x[indices]``."""
        require_index(self.name, *indices)
        if normalize_axes(self.name, self.axes, x.ndim) != self.axes or not self.axes:
            raise ShapeError(f"{self.name}: expected ascending, non-negative axes, got {self.axes}")
        if len(indices) != len(self.axes) or x.ndim == 0:
            raise ShapeError(
                f"{self.name}: expected an index for each of the axes {self.axes} of "
                f"{shape_text(x.shape)}, got {len(indices)}"
            )
        picked = broadcast_shapes(self.name, *(i.shape for i in indices))
        rest = [d for i, d in enumerate(x.shape) if i not in self.axes]
        at = self.axes[0] if self.adjacent else 0
        return x.with_shape((*rest[:at], *picked, *rest[at:]))

    def key(self, xp: Any, x: Array, indices: tuple[Array, ...]) -> tuple[Any, ...]:
        """The NumPy index, checked. As in PyTorch, indices on the CPU serve a GPU's array too."""
        key: list[Any] = [slice(None)] * x.ndim
        for axis, index in zip(self.axes, indices, strict=True):
            size = x.shape[axis]
            what = f"index of dimension {axis}"
            home = np if type(index) is np.ndarray else xp
            index = checked(
                self.name, kernels.check_indices, home, index, size, negative=True, what=what
            )
            key[axis] = index if home is xp else xp.asarray(index)
        return tuple(key)

    def to_front(self, ndim: int) -> tuple[int, ...]:
        """The permutation of x that puts the indexed axes first."""
        return (*self.axes, *(i for i in range(ndim) if i not in self.axes))

    def result_to_front(self, ndim: int, picked: int) -> tuple[int, ...]:
        """The permutation of the result that puts the index tensors' axes first."""
        at = self.axes[0] if self.adjacent else 0
        return (*range(at, at + picked), *range(at), *range(at + picked, ndim))

    def onnx_index(self, ctx: Export, indices: tuple[str, ...]) -> str:
        """int64 [*broadcast, number of axes]: the index tensors side by side."""
        shape = broadcast_shapes(self.name, *(ctx.type(i).shape for i in indices))
        target = ctx.shape((*shape, 1))
        columns = []
        for i in indices:
            own = ctx.type(i).shape
            column = ctx.emit("Unsqueeze", i, ctx.ints(len(own)))
            columns.append(column if own == shape else ctx.emit("Expand", column, target))
        if len(columns) == 1:
            return columns[0]  # type: ignore[no-any-return]
        return ctx.emit("Concat", *columns, axis=len(shape))  # type: ignore[no-any-return]


@op
class Index(_Advanced):
    """``x[.., index, ..]`` with an int64 tensor for each of `axes` (ascending).

    Operands: x, then the index tensors. Shapes: as NumPy's advanced indexing; see the module.
    Source: NumPy, ONNX GatherND-13.
    """

    axes: tuple[int, ...]

    def infer(self, x: TensorType, *indices: TensorType) -> TensorType:
        return self.shown(x, indices)

    def eager(self, xp: Any, x: Array, *indices: Array) -> Array:
        y = x[self.key(xp, x, indices)]
        # NumPy lets indexed axes vary slowest in memory, wherever they stand in the shape.
        return y if y.flags.c_contiguous else y.copy()

    def vjp(self, g: Array, _y: Array, _x: Array, *indices: Array) -> tuple[Grad, ...]:
        zeros = f.zeros(g, tuple(_x.shape))
        return IndexPut(self.axes, True)(zeros, g, *indices), *(None for _ in indices)

    def to_onnx(self, ctx: Export, x: str, *indices: str) -> Any:
        if len(indices) == 1:
            return ctx.emit("Gather", x, indices[0], axis=self.axes[0])
        ndim = ctx.type(x).ndim
        picked = max(ctx.type(i).ndim for i in indices)
        x = _transpose(ctx, x, self.to_front(ndim))
        y = ctx.emit("GatherND", x, self.onnx_index(ctx, indices))
        moved = self.result_to_front(ndim - len(self.axes) + picked, picked)
        return _transpose(ctx, y, _inverse(moved))


@op
class IndexPut(_Advanced):
    """A copy of x with ``x[.., index, ..]`` set to `values`, or increased by them.

    Operands: x, values, then an int64 tensor for each of `axes`. `values` has the shape that Index
    gives. With `accumulate`, values at repeated positions add up; without, one of them is written.
    Source: torch.index_put, ONNX ScatterND-18.
    """

    axes: tuple[int, ...]
    accumulate: bool = False

    def infer(self, x: TensorType, values: TensorType, *indices: TensorType) -> TensorType:
        require_same_dtype("index_put", x, values)
        shown = self.shown(x, indices)
        if shown != values:
            raise ShapeError(
                f"index_put: expected values of shape {shape_text(shown.shape)}, got "
                f"{shape_text(values.shape)}"
            )
        return x

    def eager(self, xp: Any, x: Array, values: Array, *indices: Array) -> Array:
        if values.dtype is not x.dtype:
            self.infer(*map(type_of, (x, values, *indices)))
        key = self.key(xp, x, indices)
        if self.accumulate:
            return xp.add(x, kernels.put_add(xp, x.shape, key, values), dtype=x.dtype)
        out = x.copy()
        out[key] = values
        return out

    def vjp(
        self, g: Array, _y: Array, _x: Array, _values: Array, *indices: Array
    ) -> tuple[Grad, ...]:
        def base() -> Array:
            return g if self.accumulate else self(g, f.zeros(g, tuple(_values.shape)), *indices)

        return base, lambda: Index(self.axes)(g, *indices), *(None for _ in indices)

    def to_onnx(self, ctx: Export, x: str, values: str, *indices: str) -> Any:
        if self.accumulate and ctx.opset < 16:
            return export_formula(ctx, self, x, values, *indices, formula=self._in_turn)
        ndim, shown = ctx.type(x).ndim, ctx.type(values).ndim
        picked = max(ctx.type(i).ndim for i in indices)
        front = self.to_front(ndim)
        x = _transpose(ctx, x, front)
        values = _transpose(ctx, values, self.result_to_front(shown, picked))
        reduction = "add" if self.accumulate else None
        at = self.onnx_index(ctx, indices)
        y = ctx.emit("ScatterND", x, at, values, reduction=reduction)
        return _transpose(ctx, y, _inverse(front))

    def _in_turn(self, x: Value, values: Value, *indices: Value) -> Array:
        """One value after another added where it belongs: what ONNX has before its reductions."""
        front, picked = self.to_front(x.ndim), max(i.ndim for i in indices)
        shape = broadcast_shapes(self.name, *(i.shape for i in indices))
        count, n = product(shape), len(self.axes)
        if count == 0:
            return x
        dtype = x.dtype
        if dtype is bfloat16:  # loops hold it from opset 16 on
            x, values = f.cast(x, float32), f.cast(values, float32)
        columns = [f.reshape(f.expand(i, shape), (count,)) for i in indices]
        base = f.permute(x, front)
        rows = f.permute(values, self.result_to_front(values.ndim, picked))
        rows = f.reshape(rows, (count, *rows.shape[picked:]))
        body = type(x.graph)("index_put")
        y = body.add_input(base.type)
        operands = (rows, *columns)
        row, *at = (body.add_input(v.type.with_shape(v.shape[1:])) for v in operands)
        axes = tuple(range(n))
        at = [f.reshape(i, (1,)) for i in at]
        more = Index(axes)(y, *at) + f.reshape(row, (1, *row.shape))
        body.set_outputs([IndexPut(axes)(y, more, *at)], ["y"])
        scan = REGISTRY["scan"](body, 1, len(operands), count)
        return f.cast(f.permute(scan(base, *operands), _inverse(front)), dtype)


def _transpose(ctx: Export, x: str, perm: tuple[int, ...]) -> Any:
    return x if perm == tuple(range(len(perm))) else ctx.emit("Transpose", x, perm=perm)


def _inverse(perm: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(perm.index(i) for i in range(len(perm)))


def _columns(index: Any) -> list[Any]:
    """The index tensors that ONNX keeps side by side in the last axis."""
    last = index.ndim - 1
    index = f.cast(index, int64)
    return [f.select(index, last, i) for i in range(int(index.shape[-1]))]


@from_onnx("GatherND")
def _import_gather_nd(ctx: Import, x: Any, index: Any) -> Any:
    batch, columns = ctx.attr("batch_dims", 0), _columns(index)
    # Leading dimensions that x and the index share are indexed by their own numbers.
    picked = index.ndim - 1
    for axis in range(batch):
        numbers = ctx.graph.call(Arange(0, x.shape[axis], 1, int64), ())
        shape = (x.shape[axis], *(1,) * (picked - 1 - axis))
        columns.insert(axis, f.reshape(numbers, shape))
    return Index(tuple(range(len(columns))))(x, *columns)


@from_onnx("ScatterND")
def _import_scatter_nd(ctx: Import, x: Any, index: Any, values: Any) -> Any:
    reduction = ctx.attr("reduction", "none")
    columns = _columns(index)
    if reduction in ("none", "add"):
        return IndexPut(tuple(range(len(columns))), reduction == "add")(x, values, *columns)
    # As rows of a matrix, of which each index names one.
    row: Any = None
    for column, size in zip(columns, x.shape, strict=False):
        length = ctx.graph.call(DimValue(size), ())
        at = f.where(f.less(column, 0), column + length, column)
        row = at if row is None else row * length + at
    k = len(columns)
    rows, width = product(x.shape[:k]), product(x.shape[k:])
    count = product(index.shape[:-1])
    at = f.expand(f.reshape(row, (count, 1)), (count, width))
    table = f.reshape(x, (rows, width))
    y = scatter_with(reduction, 0, table, at, f.reshape(values, (count, width)))
    return f.reshape(y, x.shape)


# -- masks ----------------------------------------------------------------------------------------


def _refuse_trace(what: str, instead: str) -> TraceError:
    return TraceError(
        f"{what}: the size of its result depends on data, which a static graph cannot express; "
        f"{instead}"
    )


@op
class Nonzero(Op):
    """The int64 positions of elements that are not zero: x [d0..dn] -> [count, n + 1].

    Runs eagerly only. Source: torch.nonzero.
    """

    def infer(self, x: TensorType) -> TensorType:
        raise _refuse_trace("nonzero", "use where, or a mask in arithmetic, instead")

    def eager(self, xp: Any, x: Array) -> Array:
        if x.ndim == 0:
            return xp.zeros((int(bool(x)), 0), int64.np)
        return xp.stack(xp.nonzero(x), -1).astype(int64.np, copy=False)


@op
class MaskedSelect(Op):
    """The elements of x where the bool `mask` of its shape holds, in order: -> [count].

    Runs eagerly only. Source: torch.masked_select.
    """

    def infer(self, x: TensorType, mask: TensorType) -> TensorType:
        _check_mask("masked_select", x, mask)
        raise _refuse_trace("masked_select", "use where(mask, x, 0) instead")

    def eager(self, xp: Any, x: Array, mask: Array) -> Array:
        _check_mask("masked_select", type_of(x), type_of(mask))
        return xp.asarray(x)[mask]

    def vjp(self, g: Array, _y: Array, _x: Array, mask: Array) -> tuple[Grad, ...]:
        return MaskedScatter()(f.zeros(g, tuple(_x.shape)), mask, g), None


def _check_mask(name: str, x: TensorType, mask: TensorType) -> None:
    if mask.dtype is not bool_:
        raise DTypeError(f"{name}: expected a bool mask, got {mask.dtype.name}")
    if mask.shape != x.shape:
        raise ShapeError(
            f"{name}: expected a mask of shape {shape_text(x.shape)}, got {shape_text(mask.shape)}"
        )


@op
class MaskedScatter(Op):
    """A copy of x with the elements where `mask` holds replaced, in order, by those of `source`.

    Shapes: x and the bool mask of one shape; source [n] with at least as many elements as the mask
    has true ones. Source: torch.Tensor.masked_scatter.
    """

    def infer(self, x: TensorType, mask: TensorType, source: TensorType) -> TensorType:
        require_same_dtype("masked_scatter", x, source)
        _check_mask("masked_scatter", x, mask)
        if source.ndim != 1:
            raise ShapeError(
                f"masked_scatter: expected a 1-d source, got {shape_text(source.shape)}"
            )
        return x

    def eager(self, xp: Any, x: Array, mask: Array, source: Array) -> Array:
        if xp is not np:  # each element finds its place in the source, and nothing is waited for
            if not mask.size:
                return x.copy()
            at = xp.cumsum(mask.reshape(-1)) - 1
            note(xp, at[-1], -1, source.shape[0] - 1, "masked_scatter: place in the source")
            if not source.size:
                return x.copy()
            return xp.where(mask, xp.take(source, at).reshape(x.shape), x)
        count = int(xp.count_nonzero(mask))
        if count > source.shape[0]:
            raise ShapeError(
                f"masked_scatter: the mask selects {count} elements, the source has "
                f"{source.shape[0]}"
            )
        out = xp.array(x)
        out[mask] = source[:count]
        return out

    def vjp(self, g: Array, _y: Array, _x: Array, mask: Array, _source: Array) -> tuple[Grad, ...]:
        return (
            lambda: f.where(mask, 0, g),
            None,
            lambda: MaskedGather(_source.shape[0])(g, mask),
        )

    def to_onnx(self, ctx: Export, x: str, mask: str, source: str) -> Any:
        if ctx.type(source).shape == (0,):
            return x
        at = ctx.emit("Max", _rank(ctx, mask), ctx.ints(0))
        shape = ctx.type(x).shape
        found = ctx.emit("Reshape", ctx.emit("Gather", source, at), ctx.shape(shape))
        return emit(ctx, ctx.type(x).dtype, "Where", mask, found, x)


def _rank(ctx: Export, mask: str) -> str:
    """int64 [elements]: how many true elements precede each, itself included, less one."""
    flat = ctx.emit("Reshape", ctx.emit("Cast", mask, to=int64), ctx.ints(-1))
    count = ctx.emit("CumSum", flat, ctx.constant(0, int64))
    return ctx.emit("Sub", count, ctx.ints(1))  # type: ignore[no-any-return]


@op
class MaskedGather(Op):
    """The elements of x where `mask` holds, in order, then zeros: -> [size].

    MaskedSelect with a size that does not depend on data; the transpose of MaskedScatter.
    """

    size: DimLike

    def infer(self, x: TensorType, mask: TensorType) -> TensorType:
        _check_mask("masked_gather", x, mask)
        return x.with_shape((self.size,))

    def eager(self, xp: Any, x: Array, mask: Array) -> Array:
        if xp is not np:  # the positions of true elements come first in a stable sort
            order = xp.argsort((~mask).reshape(-1).astype(np.uint8), kind="stable")[: self.size]
            found = xp.where(xp.take(mask, order), xp.take(x, order), x.dtype.type(0))
        else:
            found = xp.asarray(x)[mask][: self.size]
        out = xp.zeros((self.size,), x.dtype)
        out[: found.shape[0]] = found
        return out

    def vjp(self, g: Array, _y: Array, _x: Array, mask: Array) -> tuple[Grad, ...]:
        return MaskedScatter()(f.zeros(g, tuple(_x.shape)), mask, g), None

    def to_onnx(self, ctx: Export, x: str, mask: str) -> Any:
        # Written to a place each, all that is not selected to one behind the end.
        end = ctx.shape((self.size,))
        at = ctx.emit("Where", ctx.emit("Reshape", mask, ctx.ints(-1)), _rank(ctx, mask), end)
        zeros = ctx.constant(0, ctx.type(x).dtype)
        zeros = ctx.emit("Expand", zeros, ctx.shape((self.size + 1,)))
        flat = ctx.emit("Reshape", x, ctx.ints(-1))
        y = ctx.emit("ScatterElements", zeros, ctx.emit("Min", at, end), flat)
        return ctx.emit("Slice", y, ctx.ints(0), end)
