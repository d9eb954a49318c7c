"""Control flow that depends on the values of tensors: `cond`, `while_loop`, `scan`.

Eagerly each is the plain Python it stands for, differentiated operation by operation. In a trace
each becomes one node that holds the traced functions as nested graphs, and exports to ONNX as If,
Loop or Scan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dualgraph_compiler.dims import Dim
from dualgraph_compiler.dtypes import bool_, int64
from dualgraph_compiler.errors import ArgumentError, ShapeError, TraceError
from dualgraph_compiler.graph import Graph, Value
from dualgraph_compiler.ops.control import If
from dualgraph_compiler.ops.loop import NO_LIMIT, Loop
from dualgraph_compiler.ops.scan import Scan
from dualgraph_compiler.types import TensorType

from ._dispatch import apply_many, capture_for, make, symbolic
from ._tensor import Tensor
from .autograd.grad_mode import no_grad
from .autograd.inplace import assign
from .functions import stack
from .tracing import tree
from .tracing.body import (
    BodyCapture,
    as_tensor,
    described,
    formal,
    require_same_structure,
    require_same_type,
    split_captured,
)
from .tracing.capture import Capture


def cond(
    pred: Any,
    true_fn: Callable[..., Any],
    false_fn: Callable[..., Any],
    operands: Sequence[Any] = (),
) -> Any:
    """``true_fn(*operands)`` if `pred` holds, else ``false_fn(*operands)``.

    Args:
        pred: a bool, or a tensor of one element. A bool chooses at once, in a trace too.
        true_fn, false_fn: functions of the operands. Traced, both run, and must return the same
            structure of tensors of the same dtypes and shapes. They may read any tensor around
            them, but write only to buffers.
        operands: arguments, nested at will.

    Raises:
        TraceError, ShapeError, DTypeError: in a trace, the branches do not agree. The message says
            what each returns, and where.

    Source: torch.cond; ONNX If.
    """
    capture = _capture((pred, operands)) if isinstance(pred, Tensor) else None
    if capture is None:
        return (true_fn if pred else false_fn)(*operands)
    branches = [
        BodyCapture(capture, name, function)
        for name, function in (("then_branch", true_fn), ("else_branch", false_fn))
    ]
    one, other = (branch.run(branch.function, *operands) for branch in branches)
    require_same_structure("cond", (described(true_fn), one), (described(false_fn), other))
    outputs: list[list[Value]] = [[], []]
    labelled = tree.flatten(one)
    leaves = [leaf for _, leaf in tree.flatten(other)]
    kept: list[Any] = []
    for (path, a), b in zip(labelled, leaves, strict=True):
        if not isinstance(a, Tensor) and not isinstance(b, Tensor) and a == b:
            kept.append(a)
            continue
        pair = _agreeing("cond", path, branches, (a, b))
        kept.append(_OUTPUT)
        for values, branch, t in zip(outputs, branches, pair, strict=True):
            values.append(branch.value_of(t))
    results = apply_if(_condition("cond", pred), branches, outputs)
    found = iter(kept)
    return tree.map_leaves(lambda _: next(results) if (x := next(found)) is _OUTPUT else x, one)


_OUTPUT = object()  # stands for a result that is a tensor


def _agreeing(
    what: str, path: str, bodies: Sequence[BodyCapture], leaves: tuple[Any, Any]
) -> list[Tensor]:
    """The results of two functions at one place, as tensors of one type."""
    like = next((x._type() for x in leaves if isinstance(x, Tensor)), None)
    made = []
    for body, leaf in zip(bodies, leaves, strict=True):
        with body:
            made.append(as_tensor(leaf, like))
    sides = [(b.function, t, t._type()) for b, t in zip(bodies, made, strict=True)]
    require_same_type(what, path, sides[0], sides[1])
    return made


def apply_if(pred: Tensor, branches: list[BodyCapture], outputs: list[list[Value]]) -> Any:
    """The results of the If, in turn; what the branches write is written."""
    states = list({id(t._data): t for b in branches for t in b.states()}.values())
    rebound = list({id(t): t for b in branches for t, _ in b.rebound.values()}.values())
    n = len(outputs[0])
    pairs = zip(*outputs, strict=True)
    taped_results = [
        any(b.requires_grad(v) for b, v in zip(branches, pair, strict=True)) for pair in pairs
    ]
    for ys, branch in zip(outputs, branches, strict=True):
        ys += [branch.value_of(t) for t in states]
        ys += [branch.last_value_of(t) for t in rebound]
    if not outputs[0]:
        return iter(())
    keys = list(dict.fromkeys(key for branch in branches for key in branch.captured))
    captured = [next(b.captured[k] for b in branches if k in b.captured)[:2] for k in keys]
    graphs = [
        b.finish([b.input_for(t, outside) for t, outside in captured], ys)
        for b, ys in zip(branches, outputs, strict=True)
    ]
    made = list(apply_many(If(graphs[0], graphs[1]), pred, *(t for t, _ in captured)))
    for t, is_taped in zip(made, taped_results, strict=False):
        if not is_taped:
            t._fn = None  # detached in both branches
    taped = branches[0].taped | branches[1].taped
    _write_back(states, made[n : n + len(states)], taped)
    for t, new in zip(rebound, made[n + len(states) :], strict=True):
        if any(branch.rebinds_on_tape(t) for branch in branches):
            assign(t, new)
        else:
            with no_grad():
                assign(t, new.detach())
    return iter(made[:n])


# -- while_loop -----------------------------------------------------------------------------------


def while_loop(
    cond_fn: Callable[..., Any], body_fn: Callable[..., Any], carried_inputs: Sequence[Any]
) -> tuple[Any, ...]:
    """``while cond_fn(*carried): carried = body_fn(*carried)``; returns the last carried values.

    Args:
        cond_fn: gives a bool, or a tensor of one element.
        body_fn: gives the next values, in the structure of `carried_inputs` and with the same
            dtypes and shapes. Both may read any tensor around them, but write only to buffers.
        carried_inputs: tensors and numbers, nested at will; numbers become tensors.

    Eagerly gradients are those of the steps taken. In a trace they are not defined, because the
    number of steps is not known: use :func:`scan`.

    Raises:
        TraceError, ShapeError, DTypeError: a step changes the structure or a type.

    Source: torch.while_loop; ONNX Loop.
    """
    carried = tuple(tree.map_leaves(as_tensor, x) for x in carried_inputs)
    if not carried:
        raise ArgumentError("while_loop: expected carried values, got none")
    capture = _capture(carried)
    if capture is not None:
        return _traced_while(capture, cond_fn, body_fn, carried)  # type: ignore[no-any-return]
    while cond_fn(*carried):
        carried = _next_carried("while_loop", body_fn, carried, _as_tuple(body_fn(*carried)))
    return carried


def _traced_while(
    capture: Capture, cond_fn: Callable[..., Any], body_fn: Callable[..., Any], carried: Any
) -> Any:
    begin = cond_fn(*carried)
    if not isinstance(begin, Tensor):
        if not begin:
            return carried
        begin = make(capture.graph.constant(np.asarray(True)))
    initial = [leaf for _, leaf in tree.flatten(carried)]
    body = BodyCapture(capture, "body", body_fn)
    number = formal(body, TensorType(int64, ()))
    own = [formal(body, t._type(), t) for t in initial]
    inputs = [t._data for t in (number, *own)]  # the body may write to the tensors in place
    inside = iter(own)
    args = tree.map_leaves(lambda _: next(inside), carried)
    following = _next_carried(
        "while_loop", body_fn, args, _as_tuple(body.run(body_fn, *args)), body
    )
    more = body.run(cond_fn, *following)
    with body:
        going = body.value_of(_condition("while_loop", as_tensor(more)))
    outputs = [body.value_of(leaf) for _, leaf in tree.flatten(following)]
    states, shared = split_captured(body)
    graph = body.finish(
        inputs + [v for _, v in (*states, *shared)],
        [going, *outputs, *(body.value_of(t) for t, _ in states)],
    )
    limit = make(capture.graph.constant(np.asarray(NO_LIMIT)))
    op = Loop(graph, len(initial) + len(states))
    first = _condition("while_loop", begin)
    made = list(apply_many(op, limit, first, *initial, *(t for t, _ in (*states, *shared))))
    _write_back([t for t, _ in states], made[len(initial) :], body.taped)
    results = iter(made)
    return tree.map_leaves(lambda _: next(results), carried)


def _as_tuple(result: Any) -> tuple[Any, ...]:
    return tuple(result) if isinstance(result, tuple | list) else (result,)


def _next_carried(
    what: str, function: Callable[..., Any], before: Any, after: Any, body: Any = None
) -> Any:
    """What a step made of the carried values, if it kept their structure and types."""
    require_same_structure(what, (described(function), after), ("the carried values", before))
    was = tree.flatten(before)

    def keep(leaf: Any) -> Tensor:
        path, old = next(was)
        if body is None:
            new = as_tensor(leaf, old._type())
        else:
            with body:
                new = as_tensor(leaf, old._type())
        sides = (function, new, new._type()), ("the carried values", None, old._type())
        require_same_type(what, path, *sides)
        return new

    return tree.map_leaves(keep, after)


# -- scan -----------------------------------------------------------------------------------------


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: Any = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """``carry, y = f(carry, x)`` for every slice x of `xs`; the last carry and the stacked ys.

    Args:
        f: one step. It must keep the structure, dtypes and shapes of the carry; y may be any
            structure. It may read any tensor around it, but write only to buffers.
        init: the first carry: tensors and numbers, nested at will; numbers become tensors.
        xs: tensors, nested at will, all of one size along axis 0, which is scanned. None where
            there is nothing to scan: x is None, too.
        length: the number of steps; needed without xs.
        reverse: go from the last slice to the first; ys stand where their slices do.

    Differentiable to any order, eagerly and in a trace.

    Raises:
        ArgumentError, ShapeError: sizes that are missing or do not agree.
        TraceError, ShapeError, DTypeError: a step changes the carry's structure or a type.

    Source: jax.lax.scan; ONNX Scan.
    """
    carry = tree.map_leaves(as_tensor, init)
    slices = [leaf for _, leaf in tree.flatten(xs)] if xs is not None else []
    length = _length(slices, length)
    capture = _capture((carry, xs))
    if capture is None and (isinstance(length, Dim) or int(length) > 0):
        return _eager_scan(f, carry, xs, int(length), reverse)
    around = capture or Capture(Graph("scan"))
    with around:
        traced = _TracedScan(around, f, carry, xs)
    if capture is None:
        empty = [
            make(np.zeros((0, *y.shape), y.dtype.np)) for y in traced.outputs[traced.carried :]
        ]
        return carry, traced.stacked(empty)
    return traced.apply(length, reverse)


def _length(slices: Sequence[Any], length: Any) -> Any:
    for x in slices:
        if not isinstance(x, Tensor) or x.ndim == 0:
            what = f"a tensor {x._type()}" if isinstance(x, Tensor) else type(x).__name__
            raise ArgumentError(f"scan: expected xs of tensors with an axis to scan, got {what}")
        if length is not None and x.shape[0] != length:
            raise ShapeError(
                f"scan: expected {length} slices along axis 0 of every xs, got {x._type()}"
            )
        length = x.shape[0]
    if length is None:
        raise ArgumentError("scan: expected xs or a length, got neither")
    return length


def _eager_scan(
    f: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any, length: int, reverse: bool
) -> tuple[Any, Any]:
    steps: list[list[Any]] = []
    y: Any = None
    for i in range(length - 1, -1, -1) if reverse else range(length):
        new, y = _pair(f, f(carry, None if xs is None else _slice(xs, i)))
        carry = _next_carried("scan", f, carry, new)
        steps.append([leaf for _, leaf in tree.flatten(y)])
    if reverse:
        steps.reverse()
    columns = iter(zip(*steps, strict=True))

    def stacked(leaf: Any) -> Any:
        column = next(columns)
        return leaf if leaf is None else stack([as_tensor(v) for v in column])

    return carry, tree.map_leaves(stacked, y)


def _slice(xs: Any, i: int) -> Any:
    return tree.map_leaves(lambda x: x[i], xs)


def _pair(f: Callable[..., Any], result: Any) -> Any:
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise TraceError(
            f"scan: expected a pair (carry, y) from {described(f)}, got {type(result).__name__}"
        )
    return result


class _TracedScan:
    """One step, traced."""

    def __init__(self, capture: Capture, f: Callable[..., Any], carry: Any, xs: Any) -> None:
        self.carry = carry
        self.initial = [leaf for _, leaf in tree.flatten(carry)]
        self.scanned = [leaf for _, leaf in tree.flatten(xs)] if xs is not None else []
        self.carried = len(self.initial)
        self.body = body = BodyCapture(capture, "body", f)
        self.own = [formal(body, t._type(), t) for t in self.initial]
        sliced = [TensorType(x.dtype, tuple(x.shape[1:])) for x in self.scanned]
        self.own += [formal(body, t, x) for t, x in zip(sliced, self.scanned, strict=True)]
        self.inputs = [t._data for t in self.own]  # f may write to the tensors in place
        own = iter(self.own)
        inside = tree.map_leaves(lambda _: next(own), carry)
        x = tree.map_leaves(lambda _: next(own), xs) if xs is not None else None
        new, self.y = _pair(f, body.run(f, inside, x))
        new = _next_carried("scan", f, inside, new, body)
        leaves = [leaf for _, leaf in tree.flatten(self.y) if leaf is not None]
        with body:
            ys = [as_tensor(leaf) for leaf in leaves]
        self.outputs = [body.value_of(t) for t in [*(v for _, v in tree.flatten(new)), *ys]]

    def stacked(self, results: Sequence[Tensor]) -> Any:
        """The stacked results in the structure of one step's."""
        found = iter(results)
        return tree.map_leaves(lambda y: y if y is None else next(found), self.y)

    def apply(self, length: Any, reverse: bool) -> tuple[Any, Any]:
        """The last carry and the stacked results, of a new node."""
        n, m = self.carried, len(self.scanned)
        states, shared = split_captured(self.body)
        outputs = [*self.outputs[:n], *(self.body.value_of(t) for t, _ in states)]
        outputs += self.outputs[n:]
        if not outputs:
            return self.carry, self.y
        own = self.inputs
        inner = [v for _, v in states], [v for _, v in shared]
        graph = self.body.finish([*own[:n], *inner[0], *own[n:], *inner[1]], outputs)
        k = n + len(states)
        initial = [*self.initial, *(t for t, _ in states)]
        op = Scan(graph, k, m, length, reverse)
        made = list(apply_many(op, *initial, *self.scanned, *(t for t, _ in shared)))
        _write_back([t for t, _ in states], made[n:], self.body.taped)
        last = iter(made[:n])
        return tree.map_leaves(lambda _: next(last), self.carry), self.stacked(made[k:])


# -- what they share ------------------------------------------------------------------------------


def _capture(arguments: Any) -> Capture | None:
    """The capture that must record control flow on these arguments, or None to run it eagerly."""
    if not symbolic.open_graphs:
        return None
    return capture_for([leaf for _, leaf in tree.flatten(arguments) if isinstance(leaf, Tensor)])


def _write_back(states: Sequence[Tensor], results: Sequence[Tensor], taped: set[int]) -> None:
    """Overwrite state with what control flow made of it, on the tape where it was so inside."""
    for t, new in zip(states, results, strict=False):
        if id(t._data) in taped:
            assign(t, new)
        else:
            with no_grad():
                assign(t, new.detach())


def _condition(what: str, pred: Tensor) -> Tensor:
    """A condition as a bool tensor without dimensions."""
    if pred.ndim:
        if pred.numel() != 1:
            raise ShapeError(f"{what}: expected a condition of one element, got {pred._type()}")
        pred = pred.reshape(())
    return pred if pred.dtype is bool_ else pred != 0
