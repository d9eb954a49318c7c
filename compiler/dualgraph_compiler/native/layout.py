"""Which values of a graph are blocked images, decided over the whole graph.

Convolutions run best on images whose channels lie in blocks of a vector's lanes (`blocked`). What
a convolution makes is blocked, and stays so through pointwise ops, pooling, joining of channels and
reductions over space; values get their plain form back, in ordinary ops, only where something else
reads them. An operand is brought into blocks the same way, so that no op but those of `blocked`
knows about layouts.

Lanes behind the last channel hold a number known at compile time, 0 behind a convolution: were it
not finite, it would spoil the sums of the next one, and then the op stays plain.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dims import DimLike, Shape
from ..dtypes import float32, int32
from ..graph import Graph, Node, Value, prune
from ..kernels.windows import divisor_of
from ..ops import f
from ..ops.base import Kind
from ..ops.indexing import IndexSelect
from ..types import is_static
from .blocked import BlockedConv, BlockedPool, block, unblock
from .render.sliding import WIDEST
from .sparse import taps
from .words import centred, image_and_weight, is_exact_in_float, known_cast, words

_CONVOLUTIONS = ("conv", "conv_integer")
_FEW_TAPS = 4  # weights of cubic interpolation
_POOLS = ("max_pool", "avg_pool")


def choose_layouts(graph: Graph, lanes: int) -> None:
    """Rewrite convolutions, and what stands between them, to blocked images."""
    if any(node.op.name in (*_CONVOLUTIONS, *_POOLS) for node in graph.nodes):
        _Layouts(graph, lanes).run()


class _Layouts:
    """`twins`: the blocked form of plain values, where there is one; `behind`: what the lanes
    behind the last channel of a twin hold, None where there are none."""

    def __init__(self, graph: Graph, lanes: int) -> None:
        self.graph = graph
        self.lanes = lanes
        self.twins: dict[Value, Value] = {}
        self.behind: dict[Value, Any] = {}

    def run(self) -> None:
        for node in list(self.graph.nodes):
            if len(node.outputs) != 1:
                continue
            with self.graph.inserting_before(node):
                self._visit(node)
        prune(self.graph)

    def _visit(self, node: Node) -> None:
        twin = self._twin(node)
        if twin is None:
            return
        old = node.output
        channels = _channels(old)
        parts = _parts(twin, channels)
        plain = unblock(twin, channels, parts)
        shape = old.shape
        if plain.shape != shape:  # a reduction that drops the axes
            plain = f.reshape(plain, shape)
        elif parts == 1:
            self.twins[plain] = twin
            self.behind[plain] = self.behind.pop(old, 0) if channels % self.lanes else None
        plain.name, old.name = old.name, ""
        self.graph.replace_uses(old, plain)

    def _twin(self, node: Node) -> Value | None:
        """The blocked form of a node's result; None where it stays plain."""
        op: Any = node.op
        if node.output.dtype is float32 and op.name == "conv":
            return self._conv(node)
        if op.name == "conv_integer":
            return self._conv_integer(node)
        if op.name in _POOLS and self._is_worth_blocks(node):
            return self._lone_pool(node)
        if not any(v in self.twins for v in node.inputs):
            return None
        if op.kind is Kind.POINTWISE:
            return self._pointwise(node)
        rule = getattr(self, f"_{op.name}", None)
        if op.kind is Kind.REDUCTION:
            rule = self._reduction
        return rule(node) if rule is not None else None

    def _is_worth_blocks(self, node: Node) -> bool:
        """Whether the windows of a pool over a plain image pay for bringing that in blocks."""
        op: Any = node.op
        (x,), channels = node.inputs, node.inputs[0].shape[1]
        known = isinstance(channels, int) and channels % self.lanes == 0
        if x in self.twins or x.dtype is not float32 or x.ndim != 4 or not known:
            return False
        return bool(math.prod(op.kernel) > math.prod(op.stride))

    def _lone_pool(self, node: Node) -> Value | None:
        """The pool of blocks that nobody else is to read."""
        (x,) = node.inputs
        self.twins[x], self.behind[x] = block(x, self.lanes), None
        made: Value | None = getattr(self, f"_{node.op.name}")(node)
        del self.twins[x], self.behind[x]
        return made

    # -- convolutions and pooling -----------------------------------------------------------------

    def _conv(self, node: Node) -> Value | None:
        op: Any = node.op
        x, w = node.inputs
        if not is_static(w.shape) or not 3 <= x.ndim <= 5 or not isinstance(x.shape[1], int):
            return None
        outs, ins, *window = map(_known, w.shape)
        twin = self.twins.get(x)
        if 0 in (outs, ins, *window):
            return None
        depthwise = ins == 1 < op.groups
        if depthwise and window[-1] > WIDEST:
            return None
        if op.groups > 1 and not depthwise and ins % self.lanes:
            return None
        if twin is None and outs < self.lanes // 2:
            return None
        plain = twin is None and op.groups == 1 and ins < 2 * self.lanes
        if twin is None:
            twin = x if plain else block(x, self.lanes)
        made = BlockedConv(
            op.stride, op.padding, op.dilation, op.groups, x.shape[1], self.lanes, plain
        )
        return made(twin, w)  # type: ignore[no-any-return]

    def _conv_integer(self, node: Node) -> Value | None:
        """Of int16, whose words are pairs of channels."""
        op: Any = node.op
        x, w = node.inputs[:2]
        channels, lanes = x.shape[1], self.lanes
        if not is_static(w.shape) or not 3 <= x.ndim <= 5 or not isinstance(channels, int):
            return None
        outs, ins, *window = map(_known, w.shape)
        if 0 in (outs, ins, *window) or lanes % 2:
            return None
        if ins == 1 < op.groups:
            return self._depthwise_integer(node)
        if op.groups > 1 and (ins % lanes or outs // op.groups % lanes):
            return None
        wide, weight = image_and_weight(op, *node.inputs)
        twin = self.twins.get(x)
        if twin is not None:
            wide = centred(twin, node.inputs[2])
        else:
            wide = block(wide, min(lanes, 4) if channels <= 4 else lanes)
        made = BlockedConv(op.stride, op.padding, op.dilation, op.groups, channels, lanes, False)
        return made(wide, words(weight, 1))  # type: ignore[no-any-return]

    def _depthwise_integer(self, node: Node) -> Value | None:
        """Of bytes as they lie, with few products in a sum, in float32, which holds it exactly."""
        op: Any = node.op
        x, w, zero = node.inputs[:3]
        if _known(w.shape[-1]) > WIDEST or not is_exact_in_float(w):
            return None
        image = self.twins.get(x)
        image = block(x, self.lanes) if image is None else image
        known = zero.is_constant
        if not known:
            image = f.cast(centred(image, zero), float32)
        weight = known_cast(image_and_weight(op, *node.inputs)[1], float32)
        channels, number = _known(x.shape[1]), int(zero.data) if known else 0
        made = BlockedConv(
            op.stride, op.padding, op.dilation, op.groups, channels, self.lanes, False, number
        )
        return f.cast(made(image, weight), int32)  # type: ignore[no-any-return]

    def _max_pool(self, node: Node) -> Value | None:
        op: Any = node.op
        self.behind[node.output] = self.behind[node.inputs[0]]
        return self._pool(node, "max", op.dilation)

    def _avg_pool(self, node: Node) -> Value | None:
        op: Any = node.op
        (x,) = node.inputs
        sizes, places = x.shape[2:], node.output.shape[2:]
        if self.behind[x] not in (None, 0):
            return None
        if not is_static((*sizes, *places, *(v for pair in op.padding for v in pair))):
            return None
        total = self._pool(node, "sum", (1,) * len(op.kernel))
        if total is None:
            return None
        count = divisor_of(
            np,
            tuple(map(_known, sizes)),
            tuple(map(_known, places)),
            op.kernel,
            op.stride,
            op.padding,
            op.count_include_pad,
            op.divisor,
        )
        if np.ndim(count):
            count = np.reshape(count, (1, 1, *places, 1))
        return total / self.graph.constant(np.asarray(count, np.float32))

    def _pool(self, node: Node, fold: str, dilation: tuple[int, ...]) -> Value | None:
        op: Any = node.op
        (x,) = node.inputs
        if x.dtype is not float32 or x.ndim > 5 or op.kernel[-1] > WIDEST:
            return None
        before = tuple(lo for lo, _ in op.padding)
        places = node.output.shape[2:]
        made = BlockedPool(fold, op.kernel, op.stride, dilation, before, places)
        return made(self.twins[x])  # type: ignore[no-any-return]

    def _adaptive_avg_pool(self, node: Node) -> Value | None:
        op: Any = node.op
        (x,) = node.inputs
        if any(p != 1 for p in op.output_size) or self.behind[x] not in (None, 0):
            return None
        return f.mean(self.twins[x], tuple(range(2, x.ndim)), True)  # type: ignore[no-any-return]

    # -- what goes through ------------------------------------------------------------------------

    def _pointwise(self, node: Node) -> Value | None:
        y = node.output
        if y.ndim < 3 or not isinstance(y.shape[1], int):
            return None
        channels = y.shape[1]
        full = [v for v in node.inputs if v.ndim == y.ndim and v.shape == y.shape]
        if not any(v in self.twins for v in full):
            return None
        if not all(v in self.twins for v in full) and not self._feeds_conv(y):
            return None
        if channels % self.lanes:
            behind = self._behind(node)
            if behind is None:
                return None
            self.behind[y] = behind
        return self._apply(node.op, [self._operand(v, y.shape) for v in node.inputs])

    def _behind(self, node: Node) -> Any:
        """What a pointwise op makes of the lanes behind the last channel; None where that is not
        known or not finite."""
        args = []
        for v in node.inputs:
            if v in self.twins:
                found = self.behind[v]
            elif v.is_constant and v.data.size == 1:
                found = v.data.reshape(())
            elif _aligned(v.shape, node.output.ndim)[1] != 1:
                found = 0
            else:
                found = None
            if found is None:
                return None
            args.append(np.asarray(found).astype(v.dtype.np))
        with np.errstate(all="ignore"):
            y = np.asarray(node.op.eager(np, *args))
        return y if np.isfinite(y) else None

    def _operand(self, v: Value, shape: Shape) -> Value:
        """An operand that broadcasts against `shape`, as it broadcasts against the blocked form."""
        if v in self.twins:
            return self.twins[v]
        if v.size == 1:
            return f.reshape(v, ()) if v.ndim else v
        n, c, *sizes = _aligned(v.shape, len(shape))
        if c == 1:
            return f.reshape(v, (n, 1, *sizes, 1))  # type: ignore[no-any-return]
        if v.is_constant:
            return self.graph.constant(block(v.data.reshape(n, c, *sizes), self.lanes))
        return block(f.reshape(v, (n, c, *sizes)), self.lanes)  # type: ignore[no-any-return]

    def _apply(self, op: Any, operands: Sequence[Value]) -> Value:
        return op(*operands)  # type: ignore[no-any-return]

    def _feeds_conv(self, value: Value) -> bool:
        return any(n.op.name in _CONVOLUTIONS for n in value.uses)

    def _reduction(self, node: Node) -> Value | None:
        (x,) = node.inputs
        attributes = node.op.attributes()
        axes = attributes.get("axes", ())
        if not axes or min(axes) < 2 or "keepdims" not in attributes:
            return None
        if not attributes["keepdims"] and len(axes) != x.ndim - 2:
            return None
        behind = self.behind[x]
        if behind is not None and behind != 0:
            return None
        op: Any = node.op
        op = dataclasses.replace(op, keepdims=True)
        return self._apply(op, [self.twins[x]])

    def _concat(self, node: Node) -> Value | None:
        op: Any = node.op
        xs = node.inputs
        counts = [_channels(v) for v in xs]
        if op.axis != 1 or any(v not in self.twins for v in xs):
            return None
        if any(c % self.lanes for c in counts[:-1]):
            return None
        self.behind[node.output] = self.behind[xs[-1]]
        return self._apply(op, [self.twins[v] for v in xs])

    def _reshape(self, node: Node) -> Value | None:
        """A reshape of space."""
        (x,), y = node.inputs, node.output
        if y.ndim < 3 or y.shape[:2] != x.shape[:2]:
            return None
        self.behind[y] = self.behind[x]
        shape = (*self.twins[x].shape[:2], *y.shape[2:], self.lanes)
        return f.reshape(self.twins[x], shape)  # type: ignore[no-any-return]

    def _expand(self, node: Node) -> Value | None:
        """Places repeated, as an enlarged image has them."""
        (x,), y = node.inputs, node.output
        if y.ndim != x.ndim or y.shape[:2] != x.shape[:2]:
            return None
        self.behind[y] = self.behind[x]
        shape = (*self.twins[x].shape[:2], *y.shape[2:], self.lanes)
        return f.expand(self.twins[x], shape)  # type: ignore[no-any-return]

    def _permute(self, node: Node) -> Value | None:
        """Axes of space in another order."""
        op: Any = node.op
        (x,) = node.inputs
        if op.axes[:2] != (0, 1) or x.ndim < 3:
            return None
        self.behind[node.output] = self.behind[x]
        source, axes = _source(self.twins[x])
        axes = tuple(axes[a] for a in (*op.axes, x.ndim))
        return source if axes == (*range(source.ndim),) else f.permute(source, axes)

    def _index_select(self, node: Node) -> Value | None:
        """Rows, or columns, of an image by their number."""
        op: Any = node.op
        x, index = node.inputs
        if x not in self.twins or op.axis < 2 or index.ndim != 1:
            return None
        self.behind[node.output] = self.behind[x]
        return self._apply(op, [self.twins[x], index])

    def _matmul(self, node: Node) -> Value | None:
        """A product along an axis of space, with a matrix that has few weights in a column, as
        interpolation has: the sum of what they weigh."""
        x, matrix = node.inputs
        if x not in self.twins or x.dtype is not float32 or x.ndim < 3:
            return None
        if not matrix.is_constant or matrix.ndim != 2 or self.behind[x] not in (None, 0):
            return None
        terms = few_taps(matrix.data)
        if terms is None:
            return None
        self.behind[node.output] = self.behind[x]
        source, axes = _source(self.twins[x])
        axis = axes[x.ndim - 1]
        total: Any = None
        for index, weight in terms:
            weight = weight.reshape(-1, *(1,) * (source.ndim - 1 - axis))
            part = IndexSelect(axis)(source, self.graph.constant(index))
            part = part * self.graph.constant(weight)
            total = part if total is None else total + part
        return total if axes == (*range(source.ndim),) else f.permute(total, axes)  # type: ignore[no-any-return]

    def _slice(self, node: Node) -> Value | None:
        """A slice of whole blocks of channels."""
        op: Any = node.op
        (x,) = node.inputs
        low, high = op.starts[1], op.stops[1]
        if op.steps[1] != 1 or not isinstance(low, int) or not isinstance(high, int):
            return None
        if low % self.lanes or high % self.lanes:
            return None
        lanes = self.lanes
        starts = (op.starts[0], low // lanes, *op.starts[2:], 0)
        stops = (op.stops[0], high // lanes, *op.stops[2:], lanes)
        made = dataclasses.replace(op, starts=starts, stops=stops, steps=(*op.steps, 1))
        return self._apply(made, [self.twins[x]])


def _known(d: DimLike) -> int:
    assert isinstance(d, int)
    return d


def _channels(value: Value) -> int:
    return _known(value.shape[1])


def _parts(twin: Value, channels: int) -> int:
    """Into how many parts that begin a block a twin's channels fall; 1 where they are adjacent."""
    op = twin.node.op if twin.node is not None else None
    if not isinstance(op, BlockedConv) or channels // op.parts % op.lanes == 0:
        return 1
    return op.parts


def few_taps(matrix: Any) -> list[tuple[Any, Any]] | None:
    """For a matrix [size, out] that has few weights in each column, pairs of arrays [out].

    Each pair has the index (int64) and the weight of one element that an output is a sum of; None
    for other matrices.
    """
    size = len(matrix)
    count = (matrix != 0).sum(axis=0).max(initial=0)
    if not 0 < count <= min(_FEW_TAPS, size // 2):
        return None
    return taps(matrix, int(count))


def _source(twin: Value) -> tuple[Value, tuple[int, ...]]:
    """What a twin is a permutation of, and the axes."""
    if twin.node is not None and twin.node.op.name == "permute":
        op: Any = twin.node.op
        return twin.node.inputs[0], op.axes
    return twin, tuple(range(twin.ndim))


def _aligned(shape: Shape, ndim: int) -> Shape:
    """`shape` with sizes of 1 in front, as broadcasting takes it."""
    return (*(1,) * (ndim - len(shape)), *shape)
