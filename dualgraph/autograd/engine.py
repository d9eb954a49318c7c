"""Backward: walks the tape from the roots, newest operation first.

Without `create_graph` the gradient rules run on bare arrays (or graph Values, in a trace): no
tensor is built until a gradient reaches a leaf or a hook. With it they run on tensors, and are
taped in turn.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Sequence
from heapq import heappop, heappush
from sys import getrefcount
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler.errors import AutogradError, DTypeError, ShapeError, TraceError
from dualgraph_compiler.graph import Value
from dualgraph_compiler.ops.base import shape_text
from dualgraph_compiler.ops.eager_steps import Shaped, is_large

from .. import functions
from .._dispatch import captures, current_fn, make, symbolic
from .anomaly_mode import Anomaly, checked
from .grad_mode import local
from .inplace import assign
from .reach import leading_to, parents
from .tape import Leaf, Node, Pick, used_up

if TYPE_CHECKING:
    from dualgraph._tensor import Tensor

    from ..tracing.capture import Capture


def run_backward(
    roots: Sequence[tuple[Any, Any]],
    *,
    retain_graph: bool = False,
    create_graph: bool = False,
    targets: dict[Any, Any] | None = None,
    accumulate: bool = True,
) -> None:
    """Propagate gradients from `roots`, pairs of a producer and its gradient.

    Gradients are Tensors if `create_graph`, else arrays or Values. They accumulate in every leaf
    reached, unless `accumulate` is off. With `targets` (a dict whose keys are producers) they are
    stored as its values too, and paths that lead to no target are skipped.
    """
    capture = captures.current if symbolic.open_graphs else None
    if capture is not None:
        _enter_capture(capture, roots, accumulate, targets)
        capture.graph.loc = capture.location()
    checking = symbolic.open_graphs != 0 and Anomaly.enabled
    mode, local.grad = local.grad, create_graph
    try:
        _propagate(roots, retain_graph, create_graph, targets, accumulate, checking)
    finally:
        local.grad = mode
        if capture is not None:
            capture.graph.loc = None


def _enter_capture(
    capture: Capture,
    roots: Sequence[tuple[Any, Any]],
    accumulate: bool,
    targets: dict[Any, Any] | None,
) -> None:
    """Refuse gradients that would go on into what was recorded before a capture."""
    if not capture.whole or not (accumulate or targets):
        return
    seen: set[Any] = set()
    stack = [fn for fn, _ in roots]
    while stack:
        fn = stack.pop()
        if fn in seen or fn is None:
            continue
        seen.add(fn)
        if fn.name == "CaptureSource" and _goes_on(capture, fn, targets):
            raise TraceError(
                "backward() inside a compiled function leads to a tensor that was computed outside "
                "of it: detach() the tensor, or compute it inside"
            )
        stack.extend(parents(fn))


def _goes_on(capture: Capture, source: Any, targets: dict[Any, Any] | None) -> bool:
    """Whether gradients that arrive at `source` have somewhere to go outside the capture."""
    outside = capture.outside
    if targets is None:
        return True
    if source not in outside:
        return False
    wanted = dict.fromkeys(outside.get(t, t) for t in targets)
    return bool(leading_to([(outside[source], None)], wanted))


def _propagate(
    roots: Sequence[tuple[Any, Any]],
    retain: bool,
    create_graph: bool,
    targets: dict[Any, Any] | None,
    accumulate: bool,
    checking: bool,
) -> None:
    """The walk; one long loop, since every call in it is paid for by every node."""
    useful = inner = None
    if targets is not None:
        inner = leading_to(roots, targets)
        useful = inner | targets.keys()
    grads: dict[Any, Any] = {}
    heap: list[tuple[float, Any]] = []
    leaves: list[Leaf] = []  # nothing follows from them: they come last, in order of arrival
    for fn, g in roots:
        if useful is not None and fn not in useful:
            continue
        if fn in grads:
            grads[fn] = _add(grads[fn], g)
            continue
        grads[fn] = g
        if type(fn) is Leaf:
            leaves.append(fn)
        else:
            heappush(heap, (-fn.seq, fn))
    general = create_graph or checking or captures.current is not None
    while heap:
        fn = heappop(heap)[1]
        g = grads.pop(fn)
        kind = type(fn)
        if fn.hooks and type(g) is not list:
            g = _call_hooks(fn, g, create_graph)
        if targets is not None:
            if fn in targets:
                targets[fn] = g
            if fn not in inner:  # type: ignore[operator]
                continue
        if kind is Node:
            inputs = fn.inputs
            if general or inputs is None or type(g) is list:
                gs = node_gradients(fn, g, create_graph)
                if checking:
                    gs = checked(fn, gs)
            else:
                version = fn.version
                for cell in fn.cells:
                    version -= cell[0]
                if version:
                    raise fn.stale()
                op = fn.op
                try:
                    if op.accelerator is not None and is_large(g, inputs):
                        gs = op.accelerator.gradients(op, g, fn.output, inputs, fn.edges)
                    elif len(inputs) == 2:  # most, and faster than unpacking them
                        gs = op.vjp(g, fn.output, inputs[0], inputs[1])
                    else:
                        gs = op.vjp(g, fn.output, *inputs)
                except RuntimeWarning:
                    gs = _quietly(op.vjp, g, fn.output, *inputs)
            if not retain and fn.cells:
                fn.inputs = fn.output = inputs = None
        elif kind is Pick:
            many = grads.get(fn.node)
            if many is None:
                grads[fn.node] = many = [None] * fn.node.op.n_outputs
                heappush(heap, (-fn.node.seq, fn.node))
            many[fn.index] = g
            continue
        else:
            gs = fn.run_towards(g, create_graph, useful)
            if checking:
                gs = checked(fn, gs)
            if not retain:
                fn.release()
        edges = fn.edges
        for i, gi in enumerate(gs):
            if gi is None:
                continue
            edge = edges[i]
            if edge is None or (useful is not None and edge not in useful):
                continue
            if type(gi) is FunctionType:
                try:
                    gi = gi()
                except RuntimeWarning:
                    gi = _quietly(gi)
                if gi is None:
                    continue
            if edge in grads:
                grads[edge] = _add(grads[edge], gi)
                continue
            grads[edge] = gi
            if type(edge) is Leaf:
                leaves.append(edge)
            else:
                heappush(heap, (-edge.seq, edge))
    g = gs = gi = inputs = None  # whose gradients nobody else has can keep them, see `_store`
    for leaf in leaves:
        g = grads.pop(leaf)
        if leaf.hooks:
            g = _call_hooks(leaf, g, create_graph)
        if targets is not None and leaf in targets:
            targets[leaf] = g
        if accumulate:
            _store(leaf, g, create_graph, getrefcount(g))


def _add(a: Any, b: Any) -> Any:
    try:
        return a + b
    except RuntimeWarning:
        return _quietly(operator.add, a, b)


def _quietly(function: Any, *args: Any) -> Any:
    """`function(*args)`, run again without NumPy's warnings after one was raised as an error.

    Only reached where warnings are errors: ours are filtered out otherwise (see ``dualgraph``), and
    entering ``np.errstate`` for every backward would cost more than a small one takes.
    """
    with np.errstate(all="ignore"):
        return function(*args)


def node_gradients(node: Node, g: Any, create_graph: bool, entry: Any = None) -> Any:
    """The gradients of a node's operands, from its op's rule: the general case.

    `entry` is what stands for the node on the tape, if it is not there itself.
    """
    inputs = node.inputs
    op = node.op
    if inputs is None:
        raise used_up(node.name)
    if sum(cell[0] for cell in node.cells) != node.version:
        raise node.stale()
    if type(g) is list:
        g = tuple(g)
    if not create_graph:
        capture = captures.current
        if capture is not None and capture.root.keeps_steps:
            return capture.gradients(op, g, node.output, inputs, node.edges)
        if op.accelerator is not None and is_large(g, inputs):
            return _quietly(op.accelerator.gradients, op, g, node.output, inputs, node.edges)
        return _quietly(op.vjp, g, node.output, *inputs)
    wrapped, output = _as_tensors(node, inputs, entry or node)
    return op.vjp(g, output, *wrapped)


def _as_tensors(node: Node, inputs: Sequence[Any], entry: Any) -> tuple[list[Any], Any]:
    """A node's saved operands and output as tensors, for rules that are recorded in turn.

    They get back their places on the tape, and their version cells: overwriting one later must be
    noticed by what is recorded now as well.
    """
    op = node.op
    flags = op.saves_inputs[: len(inputs)]
    flags += (op.saves_rest,) * (len(inputs) - len(flags))
    cells = iter(node.cells)
    wrapped: list[Any] = []
    for x, edge, saved in zip(inputs, entry.edges, flags, strict=True):
        t: Any = x if type(x) is Shaped else make(x, edge)
        if saved:
            cell = next(cells)
            if type(t) is not Shaped:
                t._ver = cell
        wrapped.append(t)
    output = node.output
    if op.saves_output:
        if type(output) is tuple:
            output = tuple(make(y, Pick(entry, i)) for i, y in enumerate(output))
        else:
            output = make(output, entry)
        for t, cell in zip(output if type(output) is tuple else (output,), cells, strict=False):
            t._ver = cell
    return wrapped, output


_ndarray = np.ndarray
_accumulating = threading.Lock()
_acquire = _accumulating.acquire  # called by themselves: `with` takes three times as long
_release = _accumulating.release


def _store(leaf: Leaf, g: Any, create_graph: bool, references: int) -> None:
    """Add `g` to a leaf's gradient; keep the array itself only if nobody else can see it."""
    if not leaf.active:
        return
    if symbolic.open_graphs and captures.current is not None:
        captures.current.observe(leaf)
    _acquire()  # several threads may run backward into one leaf
    try:
        if leaf.grad is not None:
            _accumulate(leaf, leaf.grad, g, create_graph)
        elif create_graph:
            leaf.grad = g
        elif type(g) is _ndarray and references <= _UNSHARED and g.base is None:
            leaf.grad = make(g)
        elif type(g) is _ndarray or isinstance(g, np.generic):
            leaf.grad = make(np.array(g))
        else:
            leaf.grad = make(g.copy() if hasattr(g, "copy") else g)
    finally:
        _release()
    if leaf.post_hooks:
        for post in list(leaf.post_hooks.values()):
            post(leaf.grad)


def _accumulate(leaf: Leaf, held: Tensor, g: Any, create_graph: bool) -> None:
    """Add `g` to the gradient that a leaf holds: in place, where nothing is recorded."""
    if create_graph:
        leaf.grad = held + g
        return
    fits = held._fn is None and held._data.shape == g.shape
    if fits and type(held._data) is _ndarray and type(g) is not Value:
        try:  # noqa: SIM105 - a context manager costs more than the addition
            np.add(held._data, g, out=held._data, casting="unsafe")
        except RuntimeWarning:
            pass  # the sum is there all the same
        held._ver[0] += 1
    elif fits and type(held._data) is Value:
        assign(held, held + make(g))  # in place, as above
    else:
        leaf.grad = held + make(g)


def _count_unshared() -> int:
    """What `getrefcount` says, in a call like the one of `_store`, of an object nobody else has.

    Measured, since it differs between Python versions.
    """

    def count(_leaf: object, _g: object, _create_graph: bool, references: int) -> int:
        return references

    g = np.zeros(1)
    return count(None, g, False, getrefcount(g))


_UNSHARED = _count_unshared()


def _call_hooks(fn: Any, g: Any, create_graph: bool) -> Any:
    for hook in list(fn.hooks.values()):
        # 0-d results of NumPy's are scalars, not arrays.
        t = g if create_graph else make(np.asarray(g) if isinstance(g, np.generic) else g)
        new = hook(t)
        if new is None:
            continue
        name = getattr(hook, "__name__", type(hook).__name__)
        if not hasattr(new, "_data"):
            raise TypeError(
                f"hook {name!r}: expected a Tensor or None to be returned, got {type(new).__name__}"
            )
        if tuple(new.shape) != tuple(t.shape):
            raise ShapeError(
                f"hook {name!r} has changed the size of the gradient: expected "
                f"{shape_text(t.shape)}, got {shape_text(new.shape)}"
            )
        if new.dtype is not t.dtype:
            raise DTypeError(
                f"hook {name!r} has changed the type of the gradient: expected {t.dtype}, got "
                f"{new.dtype}"
            )
        g = new if create_graph else new._data
    return g


_ones: dict[Any, Any] = {}


def root(tensor: Tensor, gradient: Any, create_graph: bool) -> tuple[Any, Any]:
    """The pair (producer, gradient) to start from; see :func:`run_backward`.

    Raises:
        AutogradError: `tensor` requires no gradient, or is not a scalar and none was given.
        ShapeError, DTypeError: `gradient` does not fit.
    """
    fn = tensor._fn if tensor._base is None else current_fn(tensor)
    if fn is None:
        raise AutogradError(
            "element 0 of tensors does not require grad and does not have a grad_fn"
        )
    if gradient is not None:
        if tuple(gradient.shape) != tuple(tensor.shape):
            raise ShapeError(
                f"Mismatch in shape: grad_output has a shape of {shape_text(gradient.shape)} and "
                f"output has a shape of {shape_text(tensor.shape)}."
            )
        if gradient.dtype.is_complex != tensor.dtype.is_complex:
            raise DTypeError(f"expected a gradient of dtype {tensor.dtype}, got {gradient.dtype}")
        return fn, gradient if create_graph else gradient._data
    data = tensor._data
    if type(data) is np.ndarray and not create_graph and not data.ndim:
        one = _ones.get(data.dtype)
        if one is None:
            one = _ones[data.dtype] = np.ones((), data.dtype)
        return fn, one
    if tensor.numel() != 1:
        raise AutogradError(
            "grad can be implicitly created only for scalar outputs; this one has shape "
            f"{shape_text(tensor.shape)}"
        )
    one = functions.ones_like(tensor)
    return fn, one if create_graph else one._data
