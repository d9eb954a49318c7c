"""Import rules of If, Loop and Scan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..dims import Dim, DimLike
from ..dtypes import int64
from ..errors import NeedsValue, OnnxError, UndecidedSize
from ..graph import Graph, Value
from ..ops import f
from ..ops.control import If, with_open_sizes
from ..ops.loop import NO_LIMIT, Loop, as_scan, never_stops
from ..ops.onnx_rules import from_onnx
from ..ops.scan import Scan
from ..types import TensorType
from .legacy import BATCHED_SCAN

if TYPE_CHECKING:
    import onnx

    from .importer import Importer
    from .subgraph import Subgraph

_LONGEST = 1 << 20  # steps of a scan whose numbers are an operand of the body
_ROUNDS = 4  # in which carried values may turn out to change more of their sizes


def _subgraph(ctx: Importer, graph: Graph) -> Subgraph:
    from .subgraph import Subgraph  # an Importer, and the importer imports these rules

    return Subgraph(ctx, graph)


def _scalar(value: Value) -> Value:
    """An operand that may be written as one element or as none of any axes."""
    return f.reshape(value, ()) if value.ndim else value


@from_onnx("If")
def _if(ctx: Importer, cond: Value) -> Any:
    known = ctx.array(cond)
    names = ("then_branch", "else_branch")
    if known is not None:
        return _subgraph(ctx, ctx.graph).read(ctx.attr(names[not known.all()]), [])
    try:
        return _either(ctx, cond, *(ctx.attr(name) for name in names))
    except NeedsValue:
        if ctx.whole is None or not ctx.whole.may_know(cond):
            raise
        raise NeedsValue(cond, "which branch is taken") from None
    except UndecidedSize:
        raise
    except Exception as error:  # a branch that is never taken may not fit what is there
        raise NeedsValue(cond, f"which branch is taken ({error})") from error


def _either(
    ctx: Importer, cond: Value, then_branch: onnx.GraphProto, else_branch: onnx.GraphProto
) -> Any:
    """Both branches, as a node."""
    branches = [_subgraph(ctx, Graph(name)) for name in ("then_branch", "else_branch")]
    for branch, proto in zip(branches, (then_branch, else_branch), strict=True):
        branch.read(proto, [])
    captured = list(dict.fromkeys(v for branch in branches for v in branch.captured))
    for branch in branches:
        branch.graph.inputs = [branch.capture(v) for v in captured]
    op = with_open_sizes(
        If,
        lambda: ctx.fresh_size("if_size"),
        [v.type for v in captured],
        then_branch=branches[0].graph,
        else_branch=branches[1].graph,
    )
    return ctx.graph.call(op, [_scalar(cond), *captured])


# -- Loop -----------------------------------------------------------------------------------------


@from_onnx("Loop")
def _loop(
    ctx: Importer, limit: Value | None = None, cond: Value | None = None, *initial: Value
) -> Any:
    proto: onnx.GraphProto = ctx.attr("body")
    body = _loop_body(ctx, proto, [v.type for v in initial])
    captured = list(body.captured)
    length = _length(ctx, limit, cond)
    n = len(initial)
    draft = Loop(body.graph, n)
    if length is not None and never_stops(body.graph) and not draft._varying():
        scan, numbers = as_scan(draft, length)
        made = [ctx.graph.call(x, ()) if isinstance(length, Dim) else x for x in numbers]
        return ctx.graph.call(scan, [*initial, *made, *captured])
    stacked = len(body.graph.outputs) > 1 + n
    op = with_open_sizes(
        Loop,
        lambda: ctx.fresh_size("loop_size"),
        [v.type for v in (*initial, *captured)],
        body=body.graph,
        carried=n,
        trips=ctx.fresh_size("trips") if stacked else 0,
    )
    most = f.cast(_scalar(limit), int64) if limit is not None else np.int64(NO_LIMIT)
    begin = _scalar(cond) if cond is not None else np.True_
    return ctx.graph.call(op, [most, begin, *initial, *captured])


def unrolled(
    ctx: Importer, limit: Value | None = None, cond: Value | None = None, *initial: Any
) -> tuple[Any, ...]:
    """The steps of a Loop one after the other, where `ctx` can tell how many there are.

    Raises:
        NeedsValue: it cannot.
        OnnxError: too many.
    """
    assert ctx.whole is not None
    proto: onnx.GraphProto = ctx.attr("body")
    most = None if limit is None else int(ctx.array(limit, "the steps of a loop").reshape(()))
    going = True if cond is None else _truth(ctx, cond)
    carried: list[Any] = list(initial)
    rows: list[list[Any]] = []
    while going and (most is None or len(rows) < most):
        ctx.whole.spend()
        number = _declared_rank(ctx.constant(np.int64(len(rows))), proto.input[0])
        true = _declared_rank(ctx.constant(np.True_), proto.input[1])
        still, *outputs = ctx.nested(proto, [number, true, *carried])
        going = _truth(ctx, still)
        carried = outputs[: len(carried)]
        rows.append(outputs[len(carried) :])
    if not rows and len(proto.output) > 1 + len(carried):
        raise OnnxError("no step of the loop tells what its results are")
    return *carried, *(f.stack(column, 0) for column in zip(*rows, strict=True))


def _truth(ctx: Importer, cond: Value) -> bool:
    return bool(ctx.array(cond, "whether a loop goes on").reshape(()))


def _length(ctx: Importer, limit: Value | None, cond: Value | None) -> DimLike | None:
    """The number of steps that a loop takes unless its body stops it; None if not known."""
    begins = cond is None or ((known := ctx.array(cond)) is not None and bool(known.all()))
    sizes = ctx.contents(limit) if limit is not None else None
    if not begins or sizes is None:
        return None
    size = sizes.reshape(-1)[0]
    if isinstance(size, Dim):
        return size
    return max(int(size), 0) if int(size) <= _LONGEST else None


def _loop_body(ctx: Importer, proto: onnx.GraphProto, carried: Sequence[TensorType]) -> Subgraph:
    """The body for carried values of these types, or of open sizes where a step changes them."""
    types = list(carried)
    if len(proto.input) != 2 + len(types) or len(proto.output) < 1 + len(types):
        raise OnnxError(
            f"its body has {len(proto.input)} inputs and {len(proto.output)} outputs for "
            f"{len(types)} carried values"
        )
    opened: set[DimLike] = set()
    for _ in range(_ROUNDS):
        body = _subgraph(ctx, Graph("body"))
        number = body.graph.add_input(TensorType(int64, ()), proto.input[0].name)
        body.number = number
        own = [
            body.graph.add_input(t, info.name)
            for t, info in zip(types, proto.input[2:], strict=True)
        ]
        # While the body runs, the condition that it is given holds.
        going = _declared_rank(body.graph.constant(np.True_), proto.input[1])
        outputs = body.read(proto, [_declared_rank(number, proto.input[0]), going, *own])
        wider = [_widened(ctx, t, y.type, opened) for t, y in zip(types, outputs[1:], strict=False)]
        if wider == types:
            outputs[0] = _scalar(outputs[0])
            body.graph.set_outputs(outputs, body.graph.output_names)
            body.graph.inputs = [number, *own, *body.captured.values()]
            return body
        types = wider
    raise OnnxError("the sizes of its carried values change in a way that is not supported")


def _declared_rank(value: Value, info: onnx.ValueInfoProto) -> Value:
    """A single number with as many axes as a body's input declares."""
    axes = len(info.type.tensor_type.shape.dim)
    return f.reshape(value, (1,) * axes) if axes else value


def _widened(
    ctx: Importer, before: TensorType, after: TensorType, opened: set[DimLike]
) -> TensorType:
    """`before` with an open size where a step changes one; `opened` are those there are already."""
    if before.ndim != after.ndim:
        return before  # the op says what is wrong
    shape = list(before.shape)
    for axis, (d, e) in enumerate(zip(before.shape, after.shape, strict=True)):
        if d != e and d not in opened:
            shape[axis] = ctx.fresh_size("size")
            opened.add(shape[axis])
    return before.with_shape(shape)


# -- Scan -----------------------------------------------------------------------------------------


@from_onnx("Scan")
def _scan(ctx: Importer, *operands: Value) -> Any:
    m = ctx.attr("num_scan_inputs")
    n = len(operands) - m
    if not 1 <= m <= len(operands):
        raise OnnxError(f"num_scan_inputs is {m}, but there are {len(operands)} operands")
    axes = ctx.attr("scan_input_axes") or (0,) * m
    xs = [_to_front(x, axis) for x, axis in zip(operands[n:], axes, strict=True)]
    body = _scan_body(ctx, ctx.attr("body"), [v.type for v in operands[:n]], [x.type for x in xs])
    backward = ctx.attr("scan_input_directions") or (0,) * m
    k = len(body.graph.outputs) - n
    prepended = ctx.attr("scan_output_directions") or (0,) * k
    # All the other way is a scan in reverse; a mixture is had by turning operands and results.
    reverse = all(backward)
    xs = [f.flip(x, (0,)) if b and not reverse else x for x, b in zip(xs, backward, strict=True)]
    captured = list(body.captured)
    op = Scan(body.graph, n, m, xs[0].shape[0], reverse)
    made = ctx.graph.call(op, [*operands[:n], *xs, *captured])
    results = list(made) if op.n_outputs > 1 else [made]
    out_axes = ctx.attr("scan_output_axes") or (0,) * k
    for i, (axis, first) in enumerate(zip(out_axes, prepended, strict=True), n):
        y = f.flip(results[i], (0,)) if bool(first) is not reverse else results[i]
        results[i] = _from_front(y, axis)
    return results


def _scan_body(
    ctx: Importer, proto: onnx.GraphProto, carried: Sequence[TensorType], xs: Sequence[TensorType]
) -> Subgraph:
    body = _subgraph(ctx, Graph("body"))
    types = [*carried, *(x.with_shape(x.shape[1:]) for x in xs)]
    if len(proto.input) != len(types) or len(proto.output) < len(carried):
        raise OnnxError(
            f"its body has {len(proto.input)} inputs and {len(proto.output)} outputs for "
            f"{len(carried)} carried and {len(xs)} scanned values"
        )
    own = [body.graph.add_input(t, i.name) for t, i in zip(types, proto.input, strict=True)]
    body.read(proto, own)
    return body


def _to_front(x: Value, axis: int) -> Value:
    if x.ndim == 0:
        raise OnnxError("a scanned operand has no axis to scan")
    axis %= x.ndim
    rest = [i for i in range(x.ndim) if i != axis]
    return f.permute(x, (axis, *rest)) if axis else x


def _from_front(x: Value, axis: int) -> Value:
    axis %= x.ndim
    order = [*range(1, axis + 1), 0, *range(axis + 1, x.ndim)]
    return f.permute(x, order) if axis else x


@from_onnx(BATCHED_SCAN)
def _batched_scan(ctx: Importer, lengths: Value | None, *operands: Value) -> Any:
    """Scan of opset 8: independent scans, one for each element of the operands' first axis."""
    if lengths is not None:
        raise OnnxError("sequence lengths of Scan-8 are not supported")
    m = ctx.attr("num_scan_inputs")
    n = len(operands) - m
    if not 1 <= m <= len(operands) or any(x.ndim < 1 + (i >= n) for i, x in enumerate(operands)):
        raise OnnxError("its operands do not fit num_scan_inputs")
    outer = Graph("body")
    own = [outer.add_input(x.type.with_shape(x.shape[1:])) for x in operands]
    body = _scan_body(ctx, ctx.attr("body"), [v.type for v in own[:n]], [v.type for v in own[n:]])
    captured = list(body.captured)
    own += [outer.add_input(v.type) for v in captured]
    reverse = ctx.attr("directions") or (0,) * m
    own[n : n + m] = [
        f.flip(x, (0,)) if r else x for x, r in zip(own[n : n + m], reverse, strict=True)
    ]
    inner = Scan(body.graph, n, m, own[n].shape[0])
    outer.set_outputs(outer.add_node(inner, own).outputs)
    op = Scan(outer, 0, n + m, operands[0].shape[0])
    return ctx.graph.call(op, [*operands, *captured])
