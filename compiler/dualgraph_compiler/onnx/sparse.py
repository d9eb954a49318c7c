"""Sparse tensors of a model as dense ones: there are no others here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import OnnxError

if TYPE_CHECKING:
    import onnx

_MAX_BYTES = 1 << 31  # a few bytes of a file must not ask for any amount of memory


def with_dense_initializers(model: onnx.ModelProto, source: str) -> onnx.ModelProto:
    """`model` itself if it has no sparse initializers, else a copy in which they are dense.

    Raises:
        OnnxError: a sparse tensor is malformed or too large.
    """
    from onnx import numpy_helper

    if not any(graph.sparse_initializer for graph in _graphs(model.graph)):
        return model
    out: onnx.ModelProto = type(model)()
    out.CopyFrom(model)
    for graph in _graphs(out.graph):
        for sparse in graph.sparse_initializer:
            array = dense(sparse, numpy_helper.to_array, source)
            graph.initializer.append(numpy_helper.from_array(array, sparse.values.name))
        del graph.sparse_initializer[:]
    return out


def dense(
    sparse: onnx.SparseTensorProto, read: Callable[[onnx.TensorProto], Any], source: str
) -> np.ndarray[Any, Any]:
    """The array of a sparse tensor, whose parts `read` reads.

    Its indices are linear [count] or a row for each element [count, rank].

    Raises:
        OnnxError: it is malformed or too large.
    """
    what = f"{source}: sparse tensor {sparse.values.name!r}"
    try:
        values, indices = read(sparse.values), read(sparse.indices)
    except (ValueError, TypeError, OverflowError) as error:
        raise OnnxError(f"{what} is malformed: {error}") from error
    shape = tuple(sparse.dims)
    size = math.prod(shape) * values.dtype.itemsize
    if any(d < 0 for d in shape) or size > _MAX_BYTES:
        raise OnnxError(f"{what} of shape {list(shape)} needs {size} bytes, over {_MAX_BYTES}")
    rows = (len(values), len(shape))
    if values.ndim != 1 or indices.dtype != np.int64 or indices.shape not in (rows[:1], rows):
        raise OnnxError(
            f"{what}: expected values [n] and int64 indices [n] or [n, {len(shape)}], got "
            f"{list(values.shape)} and {indices.dtype}{list(indices.shape)}"
        )
    array = np.zeros(shape, values.dtype)
    columns = (indices,) if indices.ndim == 1 else tuple(indices.T)
    sizes = (array.size,) if indices.ndim == 1 else shape
    if any(c.size and not (c.min() >= 0 and c.max() < n) for c, n in zip(columns, sizes)):
        raise OnnxError(f"{what}: an index is outside of the shape {list(shape)}")
    if indices.ndim == 1:
        array.reshape(-1)[indices] = values
    else:
        array[columns] = values
    return array


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those nested in it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)
            for inner in attribute.graphs:
                yield from _graphs(inner)
