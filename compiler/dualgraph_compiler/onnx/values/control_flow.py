"""If, Loop and Scan step by step: the graphs they hold are run on values.

Used where a step must know values, or carries some that are no tensors of numbers; any other is
part of a graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import OnnxError
from .registry import Array, ValueContext, on_values


@on_values("If", any_tensors=True)
def _if(ctx: ValueContext, cond: Array) -> Any:
    return _results(ctx.call("then_branch" if _truth(cond) else "else_branch", []))


@on_values("Loop", any_tensors=True)
def _loop(
    ctx: ValueContext, limit: Array | None = None, cond: Array | None = None, *initial: Any
) -> Any:
    most = None if limit is None else int(np.asarray(limit).reshape(()))
    going = cond is None or _truth(cond)
    carried: list[Any] = list(initial)
    rows: list[list[Any]] = []
    while going and (most is None or len(rows) < most):
        number = np.array(len(rows), np.int64)
        outputs = ctx.call("body", [number, np.array(True), *carried])
        going = _truth(outputs[0])
        carried = outputs[1 : 1 + len(carried)]
        rows.append(outputs[1 + len(carried) :])
    body = next(a.g for a in ctx.node.attribute if a.name == "body")
    declared = body.output[1 + len(carried) :]
    stacked = [_stack(ctx.xp, [row[k] for row in rows], info) for k, info in enumerate(declared)]
    return _results([*carried, *stacked])


@on_values("Scan", any_tensors=True)
def _scan(ctx: ValueContext, *operands: Any) -> Any:
    m = ctx.attr("num_scan_inputs")
    n = len(operands) - m
    if not 1 <= m <= len(operands):
        raise OnnxError(f"num_scan_inputs is {m}, but there are {len(operands)} operands")
    axes = ctx.attr("scan_input_axes") or (0,) * m
    backward = ctx.attr("scan_input_directions") or (0,) * m
    xp = ctx.xp
    xs = [xp.moveaxis(x, axis, 0) for x, axis in zip(operands[n:], axes, strict=True)]
    xs = [xp.flip(x, (0,)) if b else x for x, b in zip(xs, backward, strict=True)]
    lengths = [x.shape[0] for x in xs]
    if len({*lengths}) > 1:
        raise OnnxError(f"the scanned axes have the sizes {lengths}")
    carried = list(operands[:n])
    rows: list[list[Any]] = []
    for i in range(lengths[0]):
        outputs = ctx.call("body", [*carried, *(xp.asarray(x[i]) for x in xs)])
        carried = outputs[:n]
        rows.append(outputs[n:])
    body = next(a.g for a in ctx.node.attribute if a.name == "body")
    declared = body.output[n:]
    out_axes = ctx.attr("scan_output_axes") or (0,) * len(declared)
    prepended = ctx.attr("scan_output_directions") or (0,) * len(declared)
    stacked = []
    for k, info in enumerate(declared):
        found = [row[k] for row in rows]
        y = _stack(xp, found[::-1] if prepended[k] else found, info)
        stacked.append(xp.moveaxis(y, 0, out_axes[k]))
    return _results([*carried, *stacked])


def _truth(cond: Array) -> bool:
    return bool(np.asarray(cond).reshape(()))


def _results(values: list[Any]) -> Any:
    return tuple(values) if len(values) != 1 else values[0]


def _stack(xp: Any, rows: list[Any], info: Any) -> Any:
    """The results of every step as one array; of none, with the sizes that the body declares."""
    from .sequences import dtype_number

    if rows:
        return xp.stack(rows)
    tensor = info.type.tensor_type
    sizes = [d.dim_value for d in tensor.shape.dim]
    string = tensor.elem_type == 8
    empty = np.empty((0, *sizes), object if string else dtype_number(tensor.elem_type))
    return empty if string else xp.asarray(empty)
