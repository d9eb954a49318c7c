"""Convolutions and products with an activation behind them, forms of GELU, and operators whose
standard counterpart came later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import OnnxError
from .. import creation, f, padding, rearrange, sampling, selection
from ..activation import Elu, LeakyRelu
from ..composite import Gelu, Softsign
from ..conv import Conv, import_padding
from ..onnx_rules import RULES, Import, from_onnx

# -- activations ----------------------------------------------------------------------------------

# The function of x and its parameters, and their defaults.
_ACTIVATIONS: dict[str, tuple[Callable[..., Any], tuple[float, ...]]] = {
    "Relu": (lambda x: f.clip(x, 0, None), ()),
    "Tanh": (f.tanh, ()),
    "Sigmoid": (f.sigmoid, ()),
    "Softplus": (f.softplus, ()),
    "Softsign": (lambda x: Softsign()(x), ()),
    "LeakyRelu": (lambda x, alpha: LeakyRelu(alpha)(x), (0.01,)),
    "Elu": (lambda x, alpha: Elu(alpha)(x), (1.0,)),
    "Clip": (f.clip, (-3.4028234663852886e38, 3.4028234663852886e38)),
    "HardSigmoid": (lambda x, a, b: f.clip(x * f.like(x, a) + f.like(x, b), 0, 1), (0.2, 0.5)),
    "ThresholdedRelu": (lambda x, alpha: f.where(f.greater(x, alpha), x, 0), (1.0,)),
}


def activated(x: Any, name: str | None, parameters: Sequence[float]) -> Any:
    """The activation `name` of x; defaults stand for parameters that are missing at the end."""
    if not name:
        return x
    found = _ACTIVATIONS.get(name)
    if found is None:
        raise OnnxError(f"unknown activation {name!r}")
    function, defaults = found
    return function(x, *parameters[: len(defaults)], *defaults[len(parameters) :])


@from_onnx("com.microsoft::FusedConv")
def _fused_conv(ctx: Import, x: Any, w: Any, b: Any = None, z: Any = None) -> Any:
    y = RULES["Conv"](ctx, x, w, b)
    y = y if z is None else y + z
    return activated(y, ctx.attr("activation"), ctx.attr("activation_params", ()))


@from_onnx("com.microsoft::FusedGemm")
def _fused_gemm(ctx: Import, a: Any, b: Any, c: Any = None) -> Any:
    given = (ctx.attr(f"activation_{k}") for k in ("alpha", "beta", "gamma"))
    parameters = [v for v in given if v is not None]
    return activated(RULES["Gemm"](ctx, a, b, c), ctx.attr("activation"), parameters)


def _turned(x: Any, batch: bool, last: bool) -> Any:
    """A matrix operand: its first axis moved before the last, then the last two swapped."""
    if x.ndim < 2:
        return x
    if batch:
        x = f.permute(x, (*range(1, x.ndim - 1), 0, x.ndim - 1))
    return f.transpose(x) if last else x


@from_onnx("com.microsoft::FusedMatMul", "com.microsoft::TransposeMatMul")
def _fused_matmul(ctx: Import, a: Any, b: Any) -> Any:
    a, b = (
        _turned(x, bool(ctx.attr(f"transBatch{side}", 0)), bool(ctx.attr(f"trans{side}", 0)))
        for x, side in ((a, "A"), (b, "B"))
    )
    y, alpha = RULES["MatMul"](ctx, a, b), ctx.attr("alpha", 1.0)
    return y if alpha == 1.0 else y * f.like(y, alpha)


@from_onnx("com.microsoft::NhwcConv")
def _nhwc_conv(ctx: Import, x: Any, w: Any, b: Any = None) -> Any:
    """X [N, *S, C], w [M, *K, C / groups] -> [N, *P, M]."""
    last, rank = x.ndim - 1, x.ndim - 2
    x, w = (f.permute(v, (0, last, *range(1, last))) for v in (x, w))
    stride = tuple(ctx.attr("strides", (1,) * rank))
    dilation = tuple(ctx.attr("dilations", (1,) * rank))
    pads = import_padding(ctx, x.shape[2:], w.shape[2:], stride, dilation)
    y = Conv(stride, pads, dilation, ctx.attr("group", 1))(x, w, *([] if b is None else [b]))
    return f.permute(y, (0, *range(2, last + 1), 1))


# -- GELU -----------------------------------------------------------------------------------------


@from_onnx("com.microsoft::Gelu")
def _gelu(ctx: Import, x: Any) -> Any:
    return Gelu()(x)


@from_onnx("com.microsoft::BiasGelu")
def _bias_gelu(ctx: Import, x: Any, bias: Any) -> Any:
    return Gelu()(x + bias)


@from_onnx("com.microsoft::FastGelu")
def _fast_gelu(ctx: Import, x: Any, bias: Any = None) -> Any:
    return Gelu("tanh")(x if bias is None else x + bias)


@from_onnx("com.microsoft::QuickGelu")
def _quick_gelu(ctx: Import, x: Any) -> Any:
    return x * f.sigmoid(x * f.like(x, ctx.attr("alpha", 1.702)))


@from_onnx("com.microsoft::BiasSplitGelu")
def _bias_split_gelu(ctx: Import, x: Any, bias: Any) -> Any:
    """The first half of the features times the GELU of the second."""
    x = x + bias
    last, half = x.ndim - 1, x.shape[x.ndim - 1] // 2
    return f.slice_axis(x, last, 0, half) * Gelu()(f.slice_axis(x, last, half, 2 * half))


@from_onnx("com.microsoft::BiasAdd")
def _bias_add(ctx: Import, x: Any, bias: Any, skip: Any) -> Any:
    return x + bias + skip


# -- later standard -------------------------------------------------------------------------------


@from_onnx("com.microsoft::ExpandDims")
def _expand_dims(ctx: Import, x: Any, axis: Any) -> Any:
    (at,) = ctx.ints(axis, "the axis of ExpandDims")
    shape = list(x.shape)
    if not -x.ndim - 1 <= at <= x.ndim:
        raise OnnxError(f"ExpandDims: expected an axis of {x.ndim + 1}, got {at}")
    shape.insert(at if at >= 0 else x.ndim + 1 + at, 1)
    return f.reshape(x, shape)


@from_onnx("com.microsoft::Range")
def _range(ctx: Import, start: Any, limit: Any, delta: Any = None) -> Any:
    one = ctx.constant(np.ones((), start.dtype.np)) if delta is None else delta
    return RULES["Range"](ctx, start, limit, one)


# Operands and attributes are those of the standard operator.
_SOURCES = (creation, padding, rearrange, sampling, selection)  # whose rules are read here
for _name in ("Trilu", "Pad", "GridSample", "Unique"):
    from_onnx(f"com.microsoft::{_name}")(RULES[_name])
