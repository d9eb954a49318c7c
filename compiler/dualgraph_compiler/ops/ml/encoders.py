"""Categories as numbers, where neither are strings."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...dtypes import float32, int64
from ...errors import OnnxError
from .. import f
from ..indexing import IndexSelect
from ..onnx_rules import Import, from_onnx
from ..quantifier import Any as AnyOf
from ..sorting import ArgMax

# The kinds of keys and values, and what stands for a key that is not listed.
_DEFAULTS = {"int64": -1, "float": -0.0, "tensor": 0}


def _listed(ctx: Import, what: str) -> tuple[str, Any]:
    """The kind of the keys or values of a LabelEncoder, and they themselves."""
    for kind in ("tensor", "int64", "float"):
        found = ctx.attr(f"{what}_{kind}" if kind == "tensor" else f"{what}_{kind}s")
        if found is not None:
            types = {"int64": np.int64, "float": np.float32}
            array = np.asarray(found, types.get(kind)).reshape(-1)
            if array.dtype.kind not in "iuf":
                break
            return kind, array
    raise OnnxError(f"LabelEncoder: {what} that are strings are no numbers of a graph")


@from_onnx("ai.onnx.ml::LabelEncoder")
def _label_encoder(ctx: Import, x: Any) -> Any:
    (_, keys), (kind, values) = _listed(ctx, "keys"), _listed(ctx, "values")
    if len(keys) != len(values):
        raise OnnxError(f"LabelEncoder: {len(keys)} keys and {len(values)} values")
    default = ctx.attr("default_tensor")
    if default is None:
        default = ctx.attr(f"default_{kind}", _DEFAULTS[kind])
    table = np.concatenate([values, np.asarray(default).reshape(-1)[:1].astype(values.dtype)])
    return IndexSelect(0)(ctx.constant(table), _places(ctx, x, keys))


def _places(ctx: Import, x: Any, keys: np.ndarray[Any, Any]) -> Any:
    """Where each element of x is among `keys`, the last of equal ones; their number if nowhere."""
    n = len(keys)
    if n == 0:
        return f.expand(ctx.constant(np.int64(0)), x.shape)
    _, first = np.unique(keys[::-1], return_index=True)
    own = np.sort(n - 1 - first)  # of equal keys the last
    column = f.reshape(x, (*x.shape, 1))
    known = ctx.constant(keys[own].astype(x.dtype.np))
    same = f.equal(column, known)
    if keys.dtype.kind == "f" and np.isnan(keys).any():
        empty = f.not_equal(column, column)
        same = f.where(ctx.constant(np.isnan(keys[own])), empty, same)
    found = f.cast(same, float32)
    at = IndexSelect(0)(ctx.constant(own), ArgMax(x.ndim, False)(found))
    return f.where(AnyOf((x.ndim,), False)(same), at, f.like(at, n))


@from_onnx("ai.onnx.ml::OneHotEncoder")
def _one_hot(ctx: Import, x: Any) -> Any:
    if ctx.attr("cats_strings"):
        raise OnnxError("OneHotEncoder: categories that are strings are no numbers of a graph")
    categories = np.asarray(ctx.attr("cats_int64s", ()), np.int64)
    if not ctx.attr("zeros", 1):
        raise OnnxError("OneHotEncoder: unknown categories must be zeros in a graph")
    same = f.equal(f.reshape(f.cast(x, int64), (*x.shape, 1)), ctx.constant(categories))
    return f.cast(same, float32)
