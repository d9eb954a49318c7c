"""Padding with a constant or with the tensor's own elements."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dims import DimLike
from ..dtypes import dtype_of
from ..errors import ArgumentError, OnnxError, ShapeError
from ..types import TensorType
from . import f
from .base import Array, Grad, normalize_axis, op, shape_text
from .derive import export_formula
from .movement import Movement
from .onnx_rules import Export, Import, from_onnx

Pads = tuple[tuple[DimLike, DimLike], ...]  # (before, after) per axis


def _padded(name: str, x: TensorType, pads: Pads) -> TensorType:
    if len(pads) != x.ndim:
        raise ShapeError(
            f"{name}: expected a (before, after) pair for each of the {x.ndim} axes of "
            f"{shape_text(x.shape)}, got {len(pads)}"
        )
    out = tuple(d + lo + hi for d, (lo, hi) in zip(x.shape, pads, strict=True))
    if any(isinstance(d, int) and d < 0 for d in out):
        raise ShapeError(
            f"{name}: padding {shape_text(x.shape)} by {pads} leaves the negative sizes "
            f"{shape_text(out)}"
        )
    return x.with_shape(out)


def _onnx_pads(ctx: Export, pads: Pads) -> Any:
    return ctx.shape((*(lo for lo, _ in pads), *(hi for _, hi in pads)))


@op
class Pad(Movement):
    """`value` written before and after each axis; negative amounts crop.

    Shapes: [d0..dn], a (before, after) pair per axis -> [d0 + before + after, ..].
    Source: ONNX Pad-13, mode "constant".
    """

    pads: Pads
    value: complex = 0

    def infer(self, x: TensorType) -> TensorType:
        return _padded("pad", x, self.pads)

    def eager(self, xp: Any, x: Array) -> Array:
        shape = tuple(d + lo + hi for d, (lo, hi) in zip(x.shape, self.pads, strict=True))
        if min(shape, default=0) < 0:
            _padded("pad", TensorType(dtype_of(x), x.shape), self.pads)
        out = xp.full(shape, self.value, x.dtype) if self.value else xp.zeros(shape, x.dtype)
        inside = tuple(
            slice(max(lo, 0), max(max(lo, 0), n - max(hi, 0)))
            for n, (lo, hi) in zip(shape, self.pads, strict=True)
        )
        source = tuple(
            slice(max(-lo, 0), max(max(-lo, 0), d - max(-hi, 0)))
            for d, (lo, hi) in zip(x.shape, self.pads, strict=True)
        )
        out[inside] = x[source]
        return out

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return (f.pad(g, tuple((-lo, -hi) for lo, hi in self.pads)),)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        if not self.pads:
            return x
        value = ctx.constant(self.value, ctx.type(x).dtype) if self.value else ""
        return ctx.emit("Pad", x, _onnx_pads(ctx, self.pads), value)


_NUMPY_MODE: dict[str, Any] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
_ONNX_MODE = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _check_mode(name: str, x: TensorType, pads: Pads, mode: str) -> TensorType:
    if mode not in _NUMPY_MODE:
        raise ArgumentError(f"{name}: mode must be one of {', '.join(_NUMPY_MODE)}, got {mode!r}")
    out = _padded(name, x, pads)
    for axis, (size, pair) in enumerate(zip(x.shape, pads, strict=True)):
        for amount in pair:
            if not (isinstance(amount, int) and isinstance(size, int)):
                continue
            room = {"reflect": size - 1, "circular": size, "replicate": amount}[mode]
            if amount and (amount < 0 or amount > room or size == 0):
                raise ShapeError(
                    f"{name}: {mode} padding of dimension {axis} must be within [0, "
                    f"{room if size else 0}] for shape {shape_text(x.shape)}, got {amount}"
                )
    return out


@op
class PadMode(Movement):
    """Padding with x's own elements.

    `mode` is "reflect" (mirrored, the edge not repeated), "replicate" (the edge repeated) or
    "circular" (from the other end). Shapes as in Pad. Source: ONNX Pad-19.
    """

    pads: Pads
    mode: str

    def infer(self, x: TensorType) -> TensorType:
        return _check_mode("pad", x, self.pads, self.mode)

    def eager(self, xp: Any, x: Array) -> Array:
        _check_mode("pad", TensorType(dtype_of(x), x.shape), self.pads, self.mode)
        return xp.pad(x, self.pads, _NUMPY_MODE[self.mode]) if self.pads else x.copy()

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return (PadModeGrad(self.pads, self.mode)(g),)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        if not self.pads:
            return x
        if self.mode == "circular" and ctx.opset < 19:
            return export_formula(ctx, self, x, formula=self._wrapped)
        mode = _ONNX_MODE[self.mode]
        return ctx.emit("Pad", x, _onnx_pads(ctx, self.pads), mode=mode)

    def _wrapped(self, x: Array) -> Array:
        """Circular padding by concatenation."""
        for axis, (lo, hi) in enumerate(self.pads):
            size = x.shape[axis]
            ends = f.slice_axis(x, axis, size - lo, size), x, f.slice_axis(x, axis, 0, hi)
            x = f.concat(ends, axis) if lo != 0 or hi != 0 else x
        return x


@op
class PadModeGrad(Movement):
    """The transpose of PadMode: what was padded is added back to where it came from."""

    pads: Pads
    mode: str

    def infer(self, g: TensorType) -> TensorType:
        out = _padded("pad_mode_grad", g, tuple((-lo, -hi) for lo, hi in self.pads))
        _check_mode("pad_mode_grad", out, self.pads, self.mode)
        return out

    def eager(self, xp: Any, g: Array) -> Array:
        for axis, pair in enumerate(self.pads):
            lo, hi = map(int, pair)
            size = g.shape[axis] - lo - hi
            if lo or hi:
                # Which element each padded one repeats.
                source: Any = np.pad(np.arange(size), (lo, hi), _NUMPY_MODE[self.mode])
                before = (slice(None),) * axis
                out = g[(*before, slice(lo, lo + size))].copy()
                for at in (*range(lo), *range(lo + size, g.shape[axis])):
                    out[(*before, int(source[at]))] += g[(*before, at)]
                g = out
        return g.copy() if not any(map(any, self.pads)) else g

    def vjp(self, g: Array, _y: Array, _g: Array) -> tuple[Grad, ...]:
        return (PadMode(self.pads, self.mode)(g),)

    def to_onnx(self, ctx: Export, g: str) -> Any:
        return export_formula(ctx, self, g, formula=self._folded)

    def _folded(self, g: Array) -> Array:
        """Each edge cut off and added where its elements came from."""
        for axis, (lo, hi) in enumerate(self.pads):
            end = g.shape[axis]
            size = end - lo - hi
            left = f.slice_axis(g, axis, 0, lo)
            right = f.slice_axis(g, axis, end - hi, end)
            g = f.slice_axis(g, axis, lo, end - hi)
            for edge, width, is_left in ((left, lo, True), (right, hi, False)):
                if width != 0:
                    g = g + self._placed(edge, axis, size, width, is_left)
        return g

    def _placed(
        self, edge: Array, axis: int, size: DimLike, width: DimLike, is_left: bool
    ) -> Array:
        """One edge, `width` wide, as a tensor of the unpadded size."""
        if self.mode == "replicate":
            edge, near, width = f.sum(edge, (axis,), True), 0, 1
        elif self.mode == "reflect":
            edge, near = f.flip(edge, (axis,)), 1
        else:  # of the other end
            near, is_left = 0, not is_left
        gap = size - near - width
        pads: list[tuple[DimLike, DimLike]] = [(0, 0)] * len(edge.shape)
        pads[axis] = (near, gap) if is_left else (gap, near)
        return f.pad(edge, pads)


@from_onnx("Pad")
def _import_pad(ctx: Import, x: Any, pads: Any, value: Any = None, axes: Any = None) -> Any:
    amounts = ctx.sizes(pads, "the pads of Pad")
    along = ctx.ints(axes, "the axes of Pad") if axes is not None else range(x.ndim)
    pairs: list[tuple[DimLike, DimLike]] = [(0, 0)] * x.ndim
    for i, axis in enumerate(along):
        axis = normalize_axis("Pad", axis, x.ndim)
        pairs[axis] = amounts[i], amounts[i + len(along)]
    mode = ctx.attr("mode", "constant")
    if mode != "constant":
        ours = {v: k for k, v in _ONNX_MODE.items()}.get(mode)
        if ours is None:
            raise OnnxError(f"Pad: unknown mode {mode!r}")
        # ONNX lets these modes crop as well.
        crop = tuple((_least(lo), _least(hi)) for lo, hi in pairs)
        rest = tuple((lo - a, hi - b) for (lo, hi), (a, b) in zip(pairs, crop, strict=True))
        return f.pad(PadMode(rest, ours)(x) if any(map(any, rest)) else x, crop)
    if value is None:
        return f.pad(x, pairs)
    fill = ctx.array(value)
    if fill is not None:
        return f.pad(x, pairs, fill.reshape(()).item())
    outside = f.pad(f.full(x, x.shape, 0), pairs, 1)
    return f.where(f.equal(outside, 1), f.reshape(value, ()), f.pad(x, pairs))


def _least(amount: DimLike) -> DimLike:
    return min(amount, 0) if isinstance(amount, int) else 0
