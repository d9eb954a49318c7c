"""Import rules of operators as they were, where ONNX's converter does not see the change."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..dims import product
from ..dtypes import BY_NAME, BY_ONNX
from ..errors import OnnxError
from ..graph import Value
from ..kernels.interpolation import weights
from ..ops import f
from ..ops.base import normalize_axis
from ..ops.onnx_rules import from_onnx
from .resize import Axis, along_axis, known_size, nearest, taken
from .window_rules import hardmax

if TYPE_CHECKING:
    from .importer import Importer

_TYPES = {"FLOAT": "float32", "DOUBLE": "float64"}


@from_onnx("legacy::Cast")
def _cast(ctx: Importer, x: Value) -> Value:
    """Cast before opset 6, whose type is a name."""
    to = ctx.attr("to")
    if isinstance(to, str):
        name = _TYPES.get(to.upper(), to.lower())
        if name not in BY_NAME:
            raise OnnxError(f"Cast: {to!r} names no element type that is supported")
        return f.cast(x, BY_NAME[name])  # type: ignore[no-any-return]
    return f.cast(x, BY_ONNX[to])  # type: ignore[no-any-return]


@from_onnx("legacy::Hardmax")
def _hardmax(ctx: Importer, x: Value) -> Value:
    """Hardmax before opset 13, over all axes from the stated one on."""
    axis = normalize_axis("Hardmax", ctx.attr("axis", 1), x.ndim)
    rows = f.reshape(x, (product(x.shape[:axis]), product(x.shape[axis:])))
    return f.reshape(hardmax(ctx, rows, 1), x.shape)  # type: ignore[no-any-return]


@from_onnx("legacy::Upsample", "legacy::Resize")
def _resize(ctx: Importer, x: Value, scales: Value | None = None) -> Value:
    """Upsample, and Resize of opset 10: elements lie at their own numbers times the scale."""
    if scales is not None:
        factors = ctx.array(scales, "the scales").tolist()
    elif ctx.attr("scales") is not None:
        factors = list(ctx.attr("scales"))
    else:
        factors = [1.0, 1.0, ctx.attr("height_scale", 1.0), ctx.attr("width_scale", 1.0)]
    mode = ctx.attr("mode", "nearest")
    if len(factors) != x.ndim or mode not in ("nearest", "linear", "bilinear"):
        raise OnnxError(f"mode {mode!r} with the scales {factors} of {x.type} is not supported")
    for at, scale in enumerate(factors):
        if scale == 1:
            continue
        size = known_size(ctx, x, at)
        axis = Axis(size, math.floor(size * scale), scale)
        places = axis.coordinates("asymmetric")
        if mode == "nearest":
            rounding = "ceil" if scale < 1 else "floor"
            x = taken(ctx, x, at, nearest(axis, places, rounding))
        else:
            matrix = weights(places, axis.size, axis.scale)
            x = along_axis(ctx, x, at, matrix)
    return x
