"""ai.onnx.ml where strings or maps come in: encoders, and maps from and to tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import OnnxError
from .registry import Array, ValueContext, on_values, strings

_KINDS = ("tensor", "strings", "int64s", "floats")
_DEFAULTS = {"strings": "_Unused", "int64s": -1, "floats": -0.0}


def _listed(ctx: ValueContext, what: str) -> tuple[str, Array]:
    """The kind of the keys or values of a LabelEncoder, and they themselves."""
    for kind in _KINDS:
        found = ctx.attr(f"{what}_{kind}")
        if found is not None:
            return kind, _typed(kind, np.asarray(found, object).reshape(-1), found)
    raise OnnxError(f"expected {what}")


def _typed(kind: str, values: Array, given: Any) -> Array:
    if kind == "tensor":
        return np.asarray(given).reshape(-1)
    if kind == "strings":
        return values
    return values.astype(np.int64 if kind == "int64s" else np.float32)


def _looked_up(x: Array, table: dict[Any, Any], default: Any, dtype: Any) -> Array:
    """`table`'s value of each element, or `default`."""
    found = [table.get(_key(v), default) for v in x.flat]
    y = np.empty(len(found), dtype)
    y[:] = found
    return y.reshape(x.shape)


def _key(value: Any) -> Any:
    """A number as Python has it, and every NaN as one key."""
    if isinstance(value, np.generic):
        value = value.item()
    return "NaN" if isinstance(value, float) and value != value else value


@on_values("ai.onnx.ml::LabelEncoder")
def _label_encoder(ctx: ValueContext, x: Array) -> Array:
    classes = ctx.attr("classes_strings")
    if classes is not None:  # version 1: names and their places
        if x.dtype == object:
            table = {c: i for i, c in enumerate(classes)}
            return _looked_up(x, table, ctx.attr("default_int64", -1), np.int64)
        names = dict(enumerate(classes))
        return _looked_up(x, names, ctx.attr("default_string", "_Unused"), object)
    (_, keys), (kind, values) = _listed(ctx, "keys"), _listed(ctx, "values")
    if len(keys) != len(values):
        raise OnnxError(f"{len(keys)} keys and {len(values)} values")
    default = ctx.attr("default_tensor")
    if default is not None:
        default = np.asarray(default).reshape(-1)[0]
    elif kind == "tensor":
        default = "_Unused" if values.dtype == object else -1
    else:
        default = ctx.attr(f"default_{kind.removesuffix('s')}")
        default = _DEFAULTS[kind] if default is None else default
    table = {_key(k): v for k, v in zip(keys, values, strict=True)}
    return _looked_up(x, table, default, values.dtype)


@on_values("ai.onnx.ml::CategoryMapper")
def _category_mapper(ctx: ValueContext, x: Array) -> Array:
    names, numbers = ctx.attr("cats_strings", ()), ctx.attr("cats_int64s", ())
    if len(names) != len(numbers):
        raise OnnxError(f"{len(names)} strings and {len(numbers)} numbers")
    if x.dtype == object:
        table = dict(zip(names, numbers, strict=True))
        return _looked_up(x, table, ctx.attr("default_int64", -1), np.int64)
    table = dict(zip(numbers, names, strict=True))
    return _looked_up(x, table, ctx.attr("default_string", "_Unused"), object)


@on_values("ai.onnx.ml::OneHotEncoder")
def _one_hot(ctx: ValueContext, x: Array) -> Array:
    categories = ctx.attr("cats_strings") or ctx.attr("cats_int64s", ())
    known = np.asarray(categories, object if isinstance(categories[0], str) else np.int64)
    column = x[..., None] if x.dtype == object else x[..., None].astype(np.int64)
    y: Array = (column == known).astype(np.float32)
    if not ctx.attr("zeros", 1) and not y.any(-1).all():
        unknown = x[~y.any(-1)].reshape(-1)[0]
        raise OnnxError(f"expected one of {list(categories)}, got {unknown!r}")
    return y


# -- maps -----------------------------------------------------------------------------------------


@on_values("ai.onnx.ml::ZipMap")
def _zip_map(ctx: ValueContext, x: Array) -> list[dict[Any, Any]]:
    """A map from classes to scores for every row."""
    classes = ctx.attr("classlabels_strings") or ctx.attr("classlabels_int64s") or ()
    rows = x.reshape(1, -1) if x.ndim == 1 else x
    if rows.ndim != 2 or rows.shape[1] != len(classes):
        raise OnnxError(f"expected scores of {len(classes)} classes, got {list(x.shape)}")
    return [dict(zip(classes, row.tolist(), strict=True)) for row in rows]


def _row(values: Sequence[Any]) -> Array:
    """Values of a map as one row: strings, whole numbers as int64, others as float32."""
    if any(isinstance(v, str) for v in values):
        return strings(list(values)).reshape(1, -1)
    array = np.asarray(values)
    if array.dtype.kind in "iu":
        return array.astype(np.int64).reshape(1, -1)
    wide = any(isinstance(v, np.float64) for v in values)
    return array.astype(np.float64 if wide else np.float32).reshape(1, -1)


@on_values("ai.onnx.ml::DictVectorizer")
def _dict_vectorizer(ctx: ValueContext, x: dict[Any, Any]) -> Array:
    """The values of the vocabulary's keys in a row; nothing is 0 or empty."""
    keys = ctx.attr("string_vocabulary") or ctx.attr("int64_vocabulary") or ()
    if not isinstance(x, dict):
        raise OnnxError(f"expected a map, got {type(x).__name__}")
    nothing = "" if any(isinstance(v, str) for v in x.values()) else 0
    whole = all(isinstance(v, int | np.integer) for v in x.values()) and bool(x)
    return _row([x.get(k, nothing if whole or nothing == "" else 0.0) for k in keys])


@on_values("ai.onnx.ml::CastMap")
def _cast_map(ctx: ValueContext, x: dict[int, Any]) -> Array:
    """The values of a map in the order of its keys, or each at the place that its key says."""
    if not isinstance(x, dict):
        raise OnnxError(f"expected a map, got {type(x).__name__}")
    types = {"TO_FLOAT": np.float32, "TO_INT64": np.int64, "TO_STRING": object}
    dtype = types.get(ctx.attr("cast_to", "TO_FLOAT"))
    if dtype is None:
        raise OnnxError(f"unknown cast_to {ctx.attr('cast_to')!r}")
    if ctx.attr("map_form", "DENSE") == "SPARSE":
        length = ctx.attr("max_map", 1)
        if not all(0 <= k < length for k in x):
            raise OnnxError(f"expected keys below {length}, got {sorted(x)}")
        values = [x.get(i, "" if dtype is object else 0) for i in range(length)]
    else:
        values = [x[k] for k in sorted(x)]
    if dtype is object:
        return strings([v if isinstance(v, str) else _number_text(v) for v in values])[None]
    try:
        return np.array([float(v) for v in values]).astype(dtype)[None]
    except ValueError as error:
        raise OnnxError(f"a value of the map is no number: {error}") from error


def _number_text(value: Any) -> str:
    """A number as a string, as C++ streams write it."""
    return f"{value:g}" if isinstance(value, float) else str(value)
