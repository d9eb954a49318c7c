"""Import rules of ONNX operators that are no op of their own here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..dims import product
from ..errors import OnnxError
from ..graph import Value
from ..ops import f
from ..ops.onnx_rules import from_onnx
from ..types import is_static
from .symbolic import MAX_ELEMENTS

if TYPE_CHECKING:
    from .importer import Importer


@from_onnx("Identity")
def _identity(ctx: Importer, x: Value) -> Value:
    return x


@from_onnx("Constant")
def _constant(ctx: Importer) -> Value:
    array = ctx.attr("value")
    if array is None:
        array = ctx.attr("sparse_value")
    if array is None:
        kinds = {"value_float": "f4", "value_floats": "f4", "value_int": "i8", "value_ints": "i8"}
        name = next((n for n in kinds if ctx.attr(n) is not None), None)
        if name is None:
            raise OnnxError("only numbers are supported as constants")
        array = np.asarray(ctx.attr(name), kinds[name])
    return ctx.constant(array)


# -- shapes as data ------------------------------------------------------------------------------


@from_onnx("Shape")
def _shape(ctx: Importer, x: Value) -> Value:
    end = ctx.attr("end")
    shape = x.shape[ctx.attr("start", 0) :] if end is None else x.shape[ctx.attr("start", 0) : end]
    sizes = np.empty(len(shape), dtype=object)
    sizes[:] = shape
    return ctx.size_value(sizes)


@from_onnx("Size")
def _size(ctx: Importer, x: Value) -> Value:
    return ctx.size_value(x.size)


@from_onnx("ConstantOfShape")
def _constant_of_shape(ctx: Importer, shape: Value) -> Value:
    fill = np.asarray(ctx.attr("value", np.zeros(1, np.float32))).reshape(())
    sizes = ctx.sizes(shape, "the shape")
    if is_static(sizes) and product(sizes) <= MAX_ELEMENTS:
        return ctx.constant(np.full(sizes, fill))
    return f.expand(ctx.constant(fill), sizes)  # type: ignore[no-any-return]
