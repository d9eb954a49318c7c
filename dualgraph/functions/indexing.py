"""Indexing with square brackets: reading and writing.

Ints, slices, None and Ellipsis give views, as one Slice and one Reshape. Tensors, lists and masks
then pick from that view. As in PyTorch (and unlike NumPy) an int counts as basic wherever it is.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dims import Dim, DimLike, Shape, bounds, maximum, minimum
from dualgraph_compiler.dtypes import dtype_of
from dualgraph_compiler.errors import IndexOutOfRange, ShapeError
from dualgraph_compiler.ops import Op
from dualgraph_compiler.ops import advanced_indexing as adv
from dualgraph_compiler.ops.base import broadcast_shapes, shape_text
from dualgraph_compiler.ops.comparison import Where
from dualgraph_compiler.ops.movement import Reshape
from dualgraph_compiler.ops.slicing import Slice
from dualgraph_compiler.types import TensorType

from .._dispatch import ViewInfo, apply, apply1, captures, current_fn, make, symbolic
from .._promote import cast, is_number
from ..autograd.grad_mode import local
from ..autograd.inplace import assign
from ..autograd.tape import CustomNode
from .basics import number_like
from .data import tensor
from .sizes import require_size

if TYPE_CHECKING:
    from .._tensor import Tensor

_ndarray = np.ndarray
_BASIC = frozenset((int, slice, type(None), type(Ellipsis)))


class _Plan:
    """What an index means: `ops` to apply in turn, then `picks`, (axis, index tensor) pairs."""

    __slots__ = ("ops", "picks", "shape")

    def __init__(self, ops: list[Op], picks: list[tuple[int, Tensor]], shape: Shape) -> None:
        self.ops = ops
        self.picks = picks
        self.shape = shape


class _LazyView(ViewInfo):
    """A view by basic indexing whose ops are worked out when first needed."""

    __slots__ = ("_found", "key", "parent", "shape")

    def __init__(
        self, base: Tensor, parent: ViewInfo | None, shape: Shape, key: Any, at: int
    ) -> None:
        self._base = base
        self.version = at
        self.recorded = True
        self.parent = parent
        self.shape = shape
        self.key = key
        self._found: tuple[Op, ...] | None = None

    @property
    def ops(self) -> tuple[Op, ...] | None:  # type: ignore[override]
        if self._found is None:
            before = () if self.parent is None else self.parent.ops
            if before is None:
                return None
            ops = _plan(self.key, self.shape).ops or [Reshape(self.shape)]
            self._found = (*before, *ops)
        return self._found


def _is_basic(key: Any) -> bool:
    if key.__class__ is tuple:
        return all(k.__class__ in _BASIC for k in key)
    return key.__class__ in _BASIC


class IndexNode(CustomNode):
    """The tape entry of a view by basic indexing: the gradient lies in zeros, where the view was.

    One entry and no ops to build, where a Slice and a Reshape would say the same.
    """

    name = "SliceBackward0"

    def __init__(self, edge: Any, shape: Shape, key: Any) -> None:
        super().__init__((edge,))
        self.shape = shape
        self.key = key

    def run(self, g: Any, create_graph: bool) -> tuple[Any]:
        """The gradient of what was indexed."""
        if isinstance(g, _ARRAYS):
            out = np.zeros(self.shape, g.dtype)
            out[self.key] = g
            return (out,)
        ops = _plan(self.key, self.shape).ops
        shapes = [self.shape]
        for op in ops:
            shapes.append(op.infer(TensorType(dtype_of(g), shapes[-1])).shape)  # type: ignore[union-attr]
        for op, shape in zip(reversed(ops), reversed(shapes[:-1]), strict=True):
            (g,) = op.vjp(g, None, TensorType(dtype_of(g), shape))
        return (g,)


_ARRAYS = (np.ndarray, np.generic)


def _is_forward(key: Any) -> bool:
    """Whether no slice of a basic index goes backward."""
    for k in key if key.__class__ is tuple else (key,):
        if k.__class__ is slice and k.step is not None and k.step < 1:
            return False
    return True


def getitem(self: Tensor, key: Any) -> Tensor:
    """``self[key]``: a view for ints, slices, None, Ellipsis; a copy for tensors and masks."""
    data = self._data
    if data.__class__ is _ndarray and not symbolic.open_graphs and _is_basic(key):
        info = self._base
        return _view(self, data, info, self._fn if info is None else current_fn(self), key)
    return _read(self, _plan(key, tuple(data.shape)))


def _view(self: Tensor, data: Any, info: ViewInfo | None, fn: Any, key: Any) -> Tensor:
    """The short way, where nothing is being traced."""
    try:
        if key.__class__ is int:
            shown = data[key, ...]
        elif key.__class__ is tuple:
            shown = data[key if Ellipsis in key else (*key, ...)]
        else:
            shown = data[key]
    except IndexError:
        return _read(self, _plan(key, data.shape))  # for the message
    if shown.__class__ is not _ndarray or min(shown.strides, default=0) < 0:
        return _read(self, _plan(key, data.shape))
    out = make(shown)
    out._ver = version = self._ver
    base = self if info is None else info.base
    if local.grad:
        out._base = _LazyView(base, info, data.shape, key, version[0])
        if fn is not None:
            out._fn = IndexNode(fn, data.shape, key)
    else:
        out._base = ViewInfo(base, None, version[0], recorded=False)
    return out


def _read(self: Tensor, plan: _Plan) -> Tensor:
    x = _shown(self, plan)
    if not plan.picks:
        return x
    if len(plan.picks) == 1 and plan.picks[0][1].dtype is dt.bool_:
        mask = plan.picks[0][1]
        if tuple(mask._data.shape) == tuple(x._data.shape):
            return apply(adv.MaskedSelect(), x, mask)
    axes, indices = _indices(plan)
    return apply(adv.Index(axes), x, *indices)


def _shown(self: Tensor, plan: _Plan) -> Tensor:
    """The view that the basic part of an index shows."""
    x = self
    for op in plan.ops:
        x = apply1(op, x)
    if x is self and not plan.picks:
        x = apply1(Reshape(plan.shape), x)
    return x


def _indices(plan: _Plan) -> tuple[tuple[int, ...], list[Tensor]]:
    """Axes and int64 index tensors, masks replaced by the positions they select."""
    axes: list[int] = []
    indices: list[Tensor] = []
    for axis, index in plan.picks:
        if index.dtype is dt.bool_:
            at = apply1(adv.Nonzero(), index)
            for i in range(index._data.ndim):
                axes.append(axis + i)
                indices.append(at[:, i])
        else:
            axes.append(axis)
            indices.append(index)
    return tuple(axes), indices


# -- understanding an index -----------------------------------------------------------------------


def _plan(key: Any, shape: Shape) -> _Plan:
    items = [_item(k) for k in (key if key.__class__ is tuple else (key,))]
    items = _without_ellipsis(items, len(shape), shape)
    starts: list[DimLike] = []
    stops: list[DimLike] = []
    steps: list[int] = []
    result: list[DimLike] = []
    picks: list[tuple[int, Tensor]] = []
    sliced = reshaped = False
    axis = 0
    for item in items:
        if item is None:
            result.append(1)
            reshaped = True
            continue
        if item.__class__ is slice:
            start, stop, step = _bounds(item, shape[axis])
            sliced = sliced or (start, stop, step) != (0, shape[axis], 1)
            result.append(-((start - stop) // step))
        elif isinstance(item, int | Dim):
            start = _position(item, shape[axis], axis)
            stop, step = start + 1, 1
            sliced = sliced or shape[axis] != 1
            reshaped = True
        else:
            spanned = item._data.ndim if item.dtype is dt.bool_ else 1
            if item.dtype is dt.bool_:
                _check_mask(item, shape[axis : axis + spanned], axis)
            if spanned == 0:  # a bool alone: a new axis of size 1, kept or not
                picks.append((len(result), item.reshape(1)))
                result.append(1)
                reshaped = True
                continue
            picks.append((len(result), item))
            for size in shape[axis : axis + spanned]:
                starts.append(0)
                stops.append(size)
                steps.append(1)
                result.append(size)
            axis += spanned
            continue
        starts.append(start)
        stops.append(stop)
        steps.append(step)
        axis += 1
    ops: list[Op] = []
    if sliced:
        ops.append(Slice(tuple(starts), tuple(stops), tuple(steps)))
    if reshaped:
        ops.append(Reshape(tuple(result)))
    return _Plan(ops, picks, tuple(result))


def _item(k: Any) -> Any:
    """One part of an index as None, Ellipsis, a slice, an int, or an int64 or bool tensor."""
    if k.__class__ in _BASIC or isinstance(k, Dim):
        return k
    if isinstance(k, bool | np.bool_):
        return tensor(bool(k))
    if isinstance(k, np.integer):
        return int(k)
    if not hasattr(k, "_data"):
        if isinstance(k, float | complex | str):
            raise IndexOutOfRange(
                "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables "
                f"are valid indices (got {type(k).__name__})"
            )
        if isinstance(k, list | tuple | range) and len(k) == 0:
            return tensor(np.zeros(0, np.int64))
        k = tensor(list(k) if isinstance(k, range) else k)
    if k.dtype is dt.uint8:
        return cast(k, dt.bool_)
    if k.dtype.category > dt.INT:
        raise IndexOutOfRange(
            f"tensors used as indices must be long, int, byte or bool tensors, got {k.dtype.name}"
        )
    if k.dtype is dt.bool_:
        return k
    if not k._data.ndim and not k.is_symbolic and captures.current is None:
        return int(k._data)
    return cast(k, dt.int64)


def _without_ellipsis(items: list[Any], ndim: int, shape: Shape) -> list[Any]:
    used = 0
    dots = None
    for i, item in enumerate(items):
        if item is Ellipsis:
            if dots is not None:
                raise IndexOutOfRange("an index can only have a single ellipsis ('...')")
            dots = i
        elif item is not None:
            masked = hasattr(item, "_data") and item.dtype is dt.bool_
            used += item._data.ndim if masked else 1
    if used > ndim:
        raise IndexOutOfRange(
            f"too many indices for tensor of dimension {ndim} (shape {shape_text(shape)}): {used}"
        )
    rest = [slice(None)] * (ndim - used)
    if dots is None:
        return items + rest
    return items[:dots] + rest + items[dots + 1 :]


def _bounds(s: slice, size: DimLike) -> tuple[DimLike, DimLike, int]:
    step = 1 if s.step is None else operator.index(s.step)
    if step < 1:
        raise ValueError("step must be greater than zero")
    start = s.start if s.start is None or isinstance(s.start, Dim) else operator.index(s.start)
    stop = s.stop if s.stop is None or isinstance(s.stop, Dim) else operator.index(s.stop)
    if isinstance(size, int) and not isinstance(start, Dim) and not isinstance(stop, Dim):
        start, stop, step = slice(start, stop, step).indices(size)
        return start, max(start, stop), step
    start, stop = _within(start, 0, size), _within(stop, size, size)
    return start, (stop if start == 0 or stop == size else maximum(start, stop)), step


def _within(bound: DimLike | None, default: DimLike, size: DimLike) -> DimLike:
    """A slice bound of a symbolic axis, counted from the front and limited to the axis."""
    if bound is None:
        return default
    if isinstance(bound, int):
        return maximum(bound + size, 0) if bound < 0 else minimum(bound, size)
    low, high = bounds(bound)
    if high is not None and high <= 0:
        require_size(-bound, ">=", 1, f"the bound {bound} of a slice, counted from the end")
        return maximum(bound + size, 0)
    if bound == size - 1:  # negative only for a size of 0
        return maximum(bound, 0)
    if low < 0:
        require_size(bound, ">=", 0, f"the bound {bound} of a slice, counted from the start")
    return minimum(bound, size)


def _position(index: DimLike, size: DimLike, axis: int) -> DimLike:
    if isinstance(index, int) and isinstance(size, int) and -size <= index < size:
        return index + size if index < 0 else index
    why = f"index {index} is out of bounds for dimension {axis} with size {size}"
    if isinstance(index, int):
        require_size(size, ">=", -index if index < 0 else index + 1, why, IndexOutOfRange)
        return index + size if index < 0 else index
    high = bounds(index)[1]
    if high is not None and high < 0:
        index = index + size
    require_size(index, ">=", 0, why, IndexOutOfRange)
    require_size(size, ">=", index + 1, why, IndexOutOfRange)
    return index


def _check_mask(mask: Tensor, shape: Shape, axis: int) -> None:
    if tuple(mask._data.shape) != tuple(shape):
        raise IndexOutOfRange(
            f"The shape of the mask {shape_text(tuple(mask._data.shape))} at index {axis} does not "
            f"match the shape of the indexed tensor {shape_text(shape)} there"
        )


# -- writing --------------------------------------------------------------------------------------


def setitem(self: Tensor, key: Any, value: Any) -> None:
    """``self[key] = value``: a number, or a tensor that broadcasts, is converted and written."""
    data = self._data
    if (
        data.__class__ is _ndarray
        and not symbolic.open_graphs
        and (self._base is None or self._base.base._fn is None)
        and self._fn is None
        and _is_basic(key)
        and _is_forward(key)
    ):
        if value.__class__ in (int, float, bool):
            source = value
        elif hasattr(value, "_data") and (value._fn is None or not local.grad):
            source = value._data
        else:
            source = None
        if source is not None and data.flags.writeable and source.__class__ in _PLAIN:
            _write(self, data, key, source)
            return
    plan = _plan(key, tuple(data.shape))
    x = _shown(self, plan) if plan.ops else self
    if not plan.picks:
        assign(x, _fitted(value, x, tuple(x._data.shape)))
        return
    picks = plan.picks
    if len(picks) == 1 and picks[0][1].dtype is dt.bool_:
        result = _put_masked(x, *picks[0], value)
        if result is not None:
            assign(x, result)
            return
    axes, indices = _indices(plan)
    op = adv.IndexPut(axes)
    assign(x, apply(op, x, _fitted(value, x, _picked_shape(x, axes, indices)), *indices))


_PLAIN = (int, float, bool, _ndarray)


def _write(self: Tensor, data: Any, key: Any, source: Any) -> None:
    try:
        data[key] = source
    except IndexError as error:
        raise IndexOutOfRange(str(error)) from None
    except ValueError as error:
        raise ShapeError(str(error)) from None
    except RuntimeWarning:
        with np.errstate(all="ignore"):
            data[key] = source
    self._ver[0] += 1


def _picked_shape(x: Tensor, axes: tuple[int, ...], indices: list[Tensor]) -> Shape:
    """The shape of ``x[indices]``."""
    picked = broadcast_shapes("index_put", *(tuple(i._data.shape) for i in indices))
    shape = tuple(x._data.shape)
    rest = tuple(d for i, d in enumerate(shape) if i not in axes)
    at = axes[0] if axes == tuple(range(axes[0], axes[0] + len(axes))) else 0
    return (*rest[:at], *picked, *rest[at:])


def _fitted(value: Any, x: Tensor, shape: Shape) -> Tensor:
    """A value to be written to `x`, in its dtype and expanded to `shape`."""
    if not hasattr(value, "_data"):
        if is_number(value):
            value = number_like(value, x)
        else:
            value = tensor(value)
    value = cast(value, x.dtype)
    lead = value._data.ndim - len(shape)
    if lead > 0:  # leading axes of size 1 may be dropped
        value = value.reshape(tuple(value._data.shape[lead:]))
    return value.expand(shape)  # type: ignore[no-any-return]


def _put_masked(x: Tensor, axis: int, mask: Tensor, value: Any) -> Tensor | None:
    """``x`` with `value` where `mask` holds, if that needs no positions; else None."""
    if not hasattr(value, "_data") and not is_number(value):
        value = tensor(value)
    single = not hasattr(value, "_data") or value._data.size == 1
    shape = tuple(mask._data.shape)
    if single:
        if hasattr(value, "_data"):
            fill = cast(value, x.dtype).reshape(())
        else:
            fill = number_like(value, x)
        rest = x._data.ndim - axis - len(shape)
        return apply(Where(), mask.reshape((*shape, *(1,) * rest)), fill, x)
    if shape == tuple(x._data.shape) and value._data.ndim == 1:
        if mask._data.__class__ is _ndarray and int(mask._data.sum()) != value._data.size:
            return None
        return apply(adv.MaskedScatter(), x, mask, cast(value, x.dtype))
    return None
