"""What depends on data: results whose size does, and indices out of range."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dualgraph_compiler.dtypes import float32
from dualgraph_compiler.errors import DTypeError, IndexOutOfRange, ShapeError, TraceError
from dualgraph_compiler.graph import Graph
from dualgraph_compiler.ops import advanced_indexing as ad
from dualgraph_compiler.ops import embedding as em
from dualgraph_compiler.ops import indexing as ix
from dualgraph_compiler.ops import sequence as sq
from dualgraph_compiler.ops.gru import GRU
from dualgraph_compiler.ops.lstm import LSTM
from dualgraph_compiler.types import TensorType

X = np.arange(6.0).reshape(2, 3)


def at(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    "x",
    [X, X > 2, np.zeros((2, 0)), np.array(3.0), np.array(0.0), np.array([np.nan, 0.0])],
    ids=str,
)
def test_nonzero(x: Any) -> None:
    y = ad.Nonzero().eager(np, x)
    assert y.dtype == np.int64
    want = [k for k in np.ndindex(x.shape) if x[k] != 0]
    assert y.shape == (len(want), x.ndim)
    assert [tuple(k) for k in y] == want


def test_masked_select_and_its_gradient() -> None:
    mask = np.array([[True, False, True], [False, False, True]])
    y = ad.MaskedSelect().eager(np, X, mask)
    np.testing.assert_array_equal(y, [0, 2, 5])
    gx, gm = ad.MaskedSelect().vjp(np.array([1.0, 2.0, 3.0]), y, X, mask)
    np.testing.assert_array_equal(gx, [[1, 0, 2], [0, 0, 3]])
    assert gm is None


def test_masked_select_refuses() -> None:
    with pytest.raises(ShapeError, match="expected a mask of shape"):
        ad.MaskedSelect().eager(np, X, np.array([True]))
    with pytest.raises(DTypeError, match="bool mask"):
        ad.MaskedSelect().eager(np, X, X)


@pytest.mark.parametrize("op", [ad.Nonzero(), ad.MaskedSelect()], ids=str)
def test_a_graph_cannot_hold_them(op: Any) -> None:
    graph = Graph("g")
    x = graph.add_input(TensorType(float32, (2, 3)), "x")
    operands = [x] if op.name == "nonzero" else [x, x > graph.constant(np.float32(0))]
    with pytest.raises(TraceError, match=f"{op.name}: .* depends on data"):
        graph.call(op, operands)


OUTSIDE: dict[str, Callable[[], Any]] = {
    "gather": lambda: ix.Gather(1)(X, at(0, 3).reshape(1, 2)),
    "scatter": lambda: ix.Scatter(0)(X, at(-3).reshape(1, 1), X[:1, :1]),
    "scatter_add": lambda: ix.ScatterAdd(0)(X, at(2).reshape(1, 1), X[:1, :1]),
    "index_select": lambda: ix.IndexSelect(0)(X, at(2)),
    "index_select_grad": lambda: ix.IndexSelectGrad(0, 2)(X, at(0, -3)),
    "index": lambda: ad.Index((0, 1))(X, at(0), at(3)),
    "index_put": lambda: ad.IndexPut((1,))(X, X[:, :1], at(-4)),
    "embedding": lambda: em.Embedding()(X, at(-1)),
    "one_hot": lambda: em.OneHot(2)(at(2)),
    "reverse_sequence": lambda: sq.ReverseSequence()(X, at(1, 3, 1)),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_an_index_out_of_range_is_an_error(name: str) -> None:
    with pytest.raises(IndexOutOfRange, match=rf"{name}: .*(out of bounds|expected lengths)"):
        OUTSIDE[name]()


def test_lengths_beyond_the_steps() -> None:
    def z(*shape: int) -> np.ndarray[Any, Any]:
        return np.zeros(shape)

    with pytest.raises(IndexOutOfRange, match="lengths within \\[0, 3\\], got 4"):
        GRU()(z(3, 1, 2), z(1, 2), z(6, 2), z(6, 2), z(6), z(6), at(4))
    with pytest.raises(IndexOutOfRange, match="lengths within"):
        LSTM()(z(3, 1, 2), z(1, 2), z(1, 2), z(8, 2), z(8, 2), z(8), z(8), at(-1))


def test_too_short_a_source() -> None:
    with pytest.raises(ShapeError, match="selects 6 elements, the source has 2"):
        ad.MaskedScatter().eager(np, X, X > -1, np.zeros(2))
