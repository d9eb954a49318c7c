"""Views by strides."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..errors import ShapeError
from ..types import TensorType
from . import f
from .advanced_indexing import IndexPut
from .base import Array, Grad, array_module, op, shape_text
from .derive import export_formula
from .indexing import IndexSelect, IndexSelectGrad
from .movement import Movement
from .onnx_rules import Export


def _positions(shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Where in memory each element lies, in row-major order, counted from the first one."""
    at = np.zeros(shape, np.int64)
    for axis, (size, step) in enumerate(zip(shape, strides, strict=True)):
        at += np.arange(size).reshape(-1, *(1,) * (len(shape) - 1 - axis)) * step
    return at.reshape(-1)


@op
class AsStrided(Movement):
    """The elements at `offset` + i . strides, counted from x's first one, of the memory x lies in.

    `source` are the strides by which x lies there. A view where x does lie so; otherwise the
    elements are moved as if it did. Elements of the memory that are not x's own are reached by
    eager code alone, and take no gradient. Shapes: -> `shape`. Source: PyTorch as_strided.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    source: tuple[int, ...]
    is_view: ClassVar[bool] = True
    may_alias: ClassVar[bool] = True

    def infer(self, x: TensorType) -> TensorType:
        if len(self.shape) != len(self.strides) or any(d < 0 for d in self.shape):
            raise ShapeError(
                f"as_strided: expected as many sizes as strides, got {self.shape} and "
                f"{self.strides}"
            )
        if len(self.source) != x.ndim or not all(isinstance(d, int) for d in x.shape):
            raise ShapeError(
                f"as_strided: expected {len(self.source)} known sizes, got {shape_text(x.shape)}"
            )
        if (self._places(x.shape) < 0).any():  # type: ignore[arg-type]
            raise ShapeError(
                f"as_strided: {shape_text(self.shape)} with strides {self.strides} from "
                f"{self.offset} on reaches beyond the elements of {shape_text(x.shape)}"
            )
        return x.with_shape(self.shape)

    def eager(self, xp: Any, x: Array) -> Array:
        size = x.dtype.itemsize
        if xp is np and x.strides == tuple(s * size for s in self.source):
            shown = _shown(x, self.shape, self.strides, self.offset)
            if shown is not None:
                return shown
        places = self._places(x.shape)
        if (places < 0).any():
            raise ShapeError("as_strided: elements beyond the tensor's own are not at hand")
        return x.reshape(-1)[xp.asarray(places)].reshape(self.shape)

    def _places(self, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """Which of x's elements, in row-major order, each result is; -1 where none is."""
        own, wanted = self._memory(shape)
        if not own.size or not wanted.size:
            return np.full(wanted.shape, -1)
        where = np.full(max(int(own.max()), int(wanted.max())) + 1, -1)
        where[own] = np.arange(own.size)
        return np.asarray(where[wanted])

    def _memory(self, shape: tuple[int, ...]) -> tuple[np.ndarray[Any, Any], ...]:
        """Where x's elements and those shown lie, from the first of either on."""
        own = _positions(tuple(map(int, shape)), self.source)
        wanted = _positions(self.shape, self.strides) + self.offset
        low = min(own.min(initial=0), wanted.min(initial=0))
        return own - low, wanted - low

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        shape = tuple(map(int, _x.shape))
        own, wanted = self._memory(shape)
        held = np.flatnonzero(np.isin(wanted, own))
        span = int(own.max(initial=-1)) + 1
        xp = array_module(g)
        at, back = xp.asarray(wanted[held]), xp.asarray(own)
        flat = f.reshape(g, (wanted.size,))
        if held.size != wanted.size:
            flat = IndexSelect(0)(flat, xp.asarray(held))
        memory = IndexSelectGrad(0, span)(flat, at)
        gx = f.reshape(IndexSelect(0)(memory, back), shape)
        counts = np.bincount(own, minlength=span)[own].reshape(shape)
        if counts.size and counts.max() > 1:  # several of x's elements share one place
            gx = gx * xp.asarray((1 / counts).astype(g.dtype if f.is_array(g) else g.dtype.np))
        return (gx,)

    def unview(self, base: Array, v: Array) -> Array:
        own, wanted = self._memory(tuple(map(int, base.shape)))
        last = np.full(int(max(own.max(initial=0), wanted.max(initial=0))) + 1, -1)
        last[wanted] = np.arange(wanted.size)
        written = np.flatnonzero(last[own] >= 0)
        xp = array_module(base)
        flat = f.reshape(base, (own.size,))
        new = IndexSelect(0)(f.reshape(v, (wanted.size,)), xp.asarray(last[own[written]]))
        return f.reshape(IndexPut((0,))(flat, new, xp.asarray(written)), base.shape)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        return export_formula(ctx, self, x, formula=self._taken)

    def _taken(self, x: Array) -> Array:
        flat = f.reshape(x, (x.size,))
        return f.reshape(IndexSelect(0)(flat, self._places(x.shape)), self.shape)


def _shown(x: Array, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> Array:
    """A NumPy view of the memory of `x`, or None where that cannot be had as one array.

    Raises:
        ShapeError: the memory ends before.
    """
    size = x.dtype.itemsize
    owner = x
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    if not (owner.flags.c_contiguous or owner.flags.f_contiguous):
        return None
    start = x.__array_interface__["data"][0] - owner.__array_interface__["data"][0] + offset * size
    reach = sum((d - 1) * s for d, s in zip(shape, strides, strict=True)) * size
    outside = start < 0 or start + reach + size > owner.nbytes
    if any(s < 0 for s in strides) or (outside and 0 not in shape):
        raise ShapeError(
            f"as_strided: sizes {list(shape)}, strides {list(strides)} and storage offset "
            f"{start // size} are out of bounds for storage of size {owner.nbytes}"
        )
    memory = (owner if owner.flags.c_contiguous else owner.T).reshape(-1).view(np.uint8)
    steps = tuple(s * size for s in strides)
    return np.ndarray(shape, x.dtype, memory, 0 if outside else start, steps)
