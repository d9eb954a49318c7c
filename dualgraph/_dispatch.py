"""Applying an op to tensors: the path of every operation, eager or traced.

Eager: run the op's kernel on the operands' arrays, wrap the result, and, if an operand requires a
gradient, leave a node on the tape. Shapes and dtypes are not checked beforehand; when a kernel
complains, `infer` is asked what is wrong, so that a good call pays nothing for a good message.

Traced: operands that are symbolic (or any operand while a capture is active in this thread) append
a node to the graph instead. The tape is kept in both cases.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler.dims import Dim
from dualgraph_compiler.errors import DeviceError, DualGraphError, TraceError
from dualgraph_compiler.graph import Value
from dualgraph_compiler.ops import Op
from dualgraph_compiler.ops.base import SMALLEST, array_module
from dualgraph_compiler.ops.movement import Reshape
from dualgraph_compiler.types import type_of
from dualgraph_runtime.device import device_of

from .autograd.grad_mode import local
from .autograd.tape import Leaf, Pick, record
from .transforms.levels import Wrapped, process, settled, transforms

if TYPE_CHECKING:
    from ._tensor import Tensor
    from .tracing.capture import Capture

_ndarray = np.ndarray
_new = object.__new__
_Tensor: Any = None  # the class; set by `_tensor`, which imports this module


class Symbolic:
    """Whether any graph is open anywhere: while zero, the eager path looks no further."""

    def __init__(self) -> None:
        self.open_graphs = 0
        self._lock = threading.Lock()

    def opened(self) -> None:
        with self._lock:
            self.open_graphs += 1

    def closed(self) -> None:
        with self._lock:
            self.open_graphs -= 1


class _Captures(threading.local):
    current: Capture | None = None
    disabled: bool = False  # whether compiled functions run eagerly, see ``dualgraph.compiler``
    autocast: bool = False  # what `disabled` is apart from ``amp.autocast``, which sets it


symbolic = Symbolic()
captures = _Captures()


class ViewInfo:
    """How a view was made: `ops` applied in turn to `base`.

    `version` is the storage version at which the view's tape entry (or traced value) was right;
    after an in-place write anywhere in the storage it is made anew. A view made while recording was
    off stays off the tape: it is not `recorded`, and its `ops` are None (in a trace they are kept,
    since there they say what its value is). `recorded` is None for what `detach` gives in a trace.
    """

    __slots__ = ("_base", "ops", "recorded", "version")

    def __init__(
        self,
        base: Tensor,
        ops: tuple[Op, ...] | None,
        version: int,
        recorded: bool | None = True,
    ) -> None:
        self._base = base
        self.ops = ops
        self.version = version
        self.recorded = recorded

    @property
    def base(self) -> Tensor:
        """The tensor whose memory it is: where that has become a view in place, what it was."""
        base = self._base
        if base._base is not None:
            base = self._base = base.__dict__["_was"]
        return base


def apply(op: Op, *inputs: Tensor) -> Tensor:
    """`op`, which has one output, on tensors. For several outputs see :func:`apply_many`.

    Raises:
        ShapeError, DTypeError, ...: as ``op.infer`` raises for operands it refuses.
    """
    if symbolic.open_graphs:
        if transforms.autocast is not None:
            inputs = transforms.autocast.operands(op, inputs)
        if transforms.levels and _any_wrapped(inputs):
            return _apply_wrapped(op, inputs)
        capture = capture_for(inputs)
        if capture is not None:
            return _apply_traced(capture, op, inputs)
    plain = True  # no operand is on the tape or a view: nothing to record
    arrays = []
    edges = []
    for t in inputs:
        arrays.append(t._data)
        if t._base is not None:
            current_fn(t)
        fn = t._fn
        edges.append(fn)
        if fn is not None:
            plain = False
    first = arrays[0]
    xp = np if type(first) is _ndarray else array_module(first)
    accelerator = op.accelerator
    try:
        if accelerator is not None and type(first) is _ndarray and first.size >= SMALLEST:
            y = accelerator(op, *arrays)
        else:
            y = op.eager(xp, *arrays)
    except Exception as error:
        if Value in map(type, arrays):  # a symbolic operand outside its graph's `with` block
            capture = capture_for(inputs)
            assert capture is not None
            return _apply_traced(capture, op, inputs)
        if _any_wrapped(inputs):  # of a level that is over, or of another thread
            return apply(op, *map(settled, inputs))
        together = _numbers_moved(inputs)
        if together is not None:
            return apply(op, *together)
        y = _recover(op, xp, arrays, error)
    if type(y) is not _ndarray:
        if type(y) is tuple:
            many = _wrap_many(op, inputs, arrays, edges, tuple(map(xp.asarray, y)))
            return many  # type: ignore[return-value]  # apply_many lets it out
        y = xp.asarray(y)
    out: Tensor = _new(_Tensor)
    out._data = y
    out._fn = None
    out._ver = cell = [0]
    out._base = None
    if op.is_view:
        _link_view(op, inputs[0], out)
    if not plain and local.grad and op.differentiable and y.dtype.kind in "fcV":
        out._fn = record(op, edges, arrays, y, [t._ver for t in inputs], cell)
    return out


def apply_many(op: Op, *inputs: Tensor) -> tuple[Tensor, ...]:
    """`apply` for an op with several outputs (or one, in a tuple)."""
    outputs: Any = apply(op, *inputs)
    return outputs if type(outputs) is tuple else (outputs,)


def apply1(op: Op, t: Tensor) -> Tensor:
    """`apply` for one operand and one result, in fewer steps: most of what eager code runs."""
    if symbolic.open_graphs:
        return apply(op, t)
    x = t._data
    if t._base is not None:
        current_fn(t)
    fn = t._fn
    xp = np if type(x) is _ndarray else array_module(x)
    try:
        if type(x) is not _ndarray:
            y = op.eager(xp, x)
        elif op.accelerator is not None and x.size >= SMALLEST:
            y = op.accelerator(op, x)
        elif op.numpy_ufunc is not None:
            y = op.numpy_ufunc(x)
        else:
            y = op.eager(np, x)
    except Exception:
        return apply(op, t)  # which explains, or knows what to do
    if type(y) is not _ndarray:
        if type(y) is tuple:
            return apply(op, t)
        y = xp.asarray(y)
    out: Tensor = _new(_Tensor)
    out._data = y
    out._fn = None
    out._ver = cell = [0]
    out._base = None
    if op.is_view:
        _link_view(op, t, out)
    if fn is not None and local.grad and op.differentiable and y.dtype.kind in "fcV":
        out._fn = record(op, (fn,), (x,), y, (t._ver,), cell)
    return out


def apply2(op: Op, a: Tensor, b: Tensor) -> Tensor:
    """`apply` for two operands and one result of their dtype or bool, in fewer steps."""
    if symbolic.open_graphs:
        return apply(op, a, b)
    x = a._data
    y = b._data
    if a._base is not None:
        current_fn(a)
    if b._base is not None:
        current_fn(b)
    fa = a._fn
    fb = b._fn
    try:
        if type(x) is not _ndarray:
            z = op.eager(array_module(x), x, y)
        elif op.accelerator is not None and x.size >= SMALLEST:
            z = op.accelerator(op, x, y)
        elif op.numpy_ufunc is not None:
            z = op.numpy_ufunc(x, y)
        else:
            z = op.eager(np, x, y)
    except Exception:
        return apply(op, a, b)
    if type(z) is not _ndarray:
        z = array_module(x).asarray(z)
    out: Tensor = _new(_Tensor)
    out._data = z
    out._fn = None
    out._ver = cell = [0]
    out._base = None
    if (fa is not None or fb is not None) and local.grad and op.differentiable:
        out._fn = record(op, (fa, fb), (x, y), z, (a._ver, b._ver), cell)
    return out


def _wrap_many(
    op: Op,
    inputs: Sequence[Tensor],
    arrays: Sequence[Any],
    edges: Sequence[Any],
    outputs: tuple[Any, ...],
) -> tuple[Tensor, ...]:
    """Tensors for the outputs of an op that has several."""
    tensors = tuple(make(y) for y in outputs)
    if local.grad and op.differentiable and any(e is not None for e in edges):
        node = record(op, edges, arrays, outputs, [t._ver for t in inputs], None)
        if op.saves_output:
            node.cells = [*node.cells, *(t._ver for t in tensors)]
        for i, t in enumerate(tensors):
            if t.dtype.is_differentiable:
                t._fn = Pick(node, i)
    return tensors


def make(data: Any, fn: Any = None) -> Tensor:
    """A Tensor around an array or Value, with its producer on the tape."""
    out: Tensor = _new(_Tensor)
    out._data = data
    out._fn = fn
    out._ver = [0]
    out._base = None
    return out


def _recover(op: Op, xp: Any, arrays: Sequence[Any], error: Exception) -> Any:
    """Explain a kernel's failure through `infer`; run again if it was only a NumPy warning."""
    if isinstance(error, DualGraphError):
        raise error
    if isinstance(error, RuntimeWarning):
        # Overflow, 0/0 and the like are results, not faults; PyTorch says nothing of them. Only
        # reached where warnings are turned into errors: the filter in __init__ keeps them quiet.
        with np.errstate(all="ignore"):
            return op.eager(xp, *arrays)
    places = [str(device_of(a)) for a in arrays]
    if len(set(places)) > 1:
        listed = ", ".join(f"operand {i} on {place}" for i, place in enumerate(places))
        raise DeviceError(
            f"{op.name}: expected all tensors to be on the same device, but found {listed}; move "
            "them with .to(device)"
        ) from error
    op.infer(*map(type_of, arrays))
    raise error


def _numbers_moved(inputs: Sequence[Tensor]) -> list[Tensor] | None:
    """The operands with 0-d ones of the CPU moved to the GPU that others are on.

    As in PyTorch, where those count as numbers. None where there is nothing to move.
    """
    gpus = [t._data for t in inputs if type(t._data) is not _ndarray]
    if not gpus or all(t._data.ndim or type(t._data) is not _ndarray for t in inputs):
        return None
    from .functions.convert import move

    there = device_of(gpus[0])
    if there.type == "cpu":
        return None
    return [t if t._data.ndim else move(t, there) for t in inputs]


# -- views ----------------------------------------------------------------------------------------


def _link_view(op: Op, base: Tensor, out: Tensor) -> None:
    """Note that `out` shows part of `base`, unless the kernel had to copy."""
    x, y = base._data, out._data
    traced = type(y) is Value
    if traced:
        if not _would_share(base, op):
            return
    else:
        owner = y.base
        seen = owner is not None and (owner is x or owner is x.base)
        if not seen and y.size and not array_module(x).may_share_memory(x, y):
            return
    _note_view(op, base, out, traced)


def _note_view(op: Op, base: Tensor, out: Tensor, traced: bool) -> None:
    out._ver = base._ver
    recorded: bool | None = local.grad
    ops: tuple[Op, ...] | None = (op,) if recorded or traced else None
    info = base._base
    if info is not None:
        ops = info.ops + ops if info.ops is not None and ops is not None else None
        recorded = recorded and info.recorded
        base = info.base
    out._base = ViewInfo(base, ops, out._ver[0], recorded)


def _would_share(base: Tensor, op: Op) -> bool:
    """Whether `op` on a traced view gives a view in eager code: asked of bytes laid out alike.

    What is no view itself is taken to lie in memory row by row, as most results of operations do.
    """
    info = base._base
    if type(op) is not Reshape or info is None or not info.ops:
        return True
    ops = (*info.ops, op)
    shape = info.base._data.shape
    if any(isinstance(d, Dim) for d in shape) or any(o.symbols() for o in ops):
        return True
    if info.base._data.size > 1 << 28:
        return True
    shown = start = np.empty(shape, np.bool_)
    for o in ops:
        shown = o.eager(np, shown)
    return not shown.size or np.may_share_memory(start, shown)


def current_fn(view: Tensor) -> Any:
    """The producer of a view, made anew if its storage has been written since."""
    info = view._base
    if info.version != view._ver[0] and info.ops is not None:
        _refresh(view, info)
    return view._fn


def _refresh(view: Tensor, info: ViewInfo) -> None:
    again = make(info.base._data, info.base._fn)
    again._ver = info.base._ver
    mode, local.grad = local.grad, True  # whoever asks first may be in a `no_grad` block
    try:
        for op in info.ops or ():
            again = apply(op, again)
    finally:
        local.grad = mode
    info.version = view._ver[0]
    if info.recorded and (again._fn is not None or type(view._fn) is not Leaf):
        old, view._fn = view._fn, again._fn
        if "_retained" in view.__dict__ and again._fn is not None:
            from .autograd.inplace import keep_retaining

            keep_retaining(view, old)
    if type(view._data) is Value or isinstance(again._data, Wrapped):
        view._data = again._data


# -- in function transforms ------------------------------------------------------------------------


def _any_wrapped(inputs: Sequence[Tensor]) -> bool:
    return any(isinstance(t._data, Wrapped) for t in inputs)


def _apply_wrapped(op: Op, inputs: Sequence[Tensor]) -> Tensor:
    """Let the level that the operands belong to carry out `op`, and keep that level's tape."""
    edges = [t._fn if t._base is None else current_fn(t) for t in inputs]
    data = process(op, inputs)
    arrays = [t._data for t in inputs]
    taped = local.grad and op.differentiable and any(e is not None for e in edges)
    # What is wrapped never changes, so nothing saved can go stale.
    cells = [[0] if isinstance(t._data, Wrapped) else t._ver for t in inputs]
    if type(data) is tuple:
        many = tuple(map(make, data))
        if taped:
            node = record(op, edges, arrays, data, cells, [0])
            for i, t in enumerate(many):
                if t.dtype.is_differentiable:
                    t._fn = Pick(node, i)
        return many  # type: ignore[return-value]
    out = make(data)
    if op.is_view:
        _link_wrapped(op, inputs[0], out)
    if taped and out.dtype.is_differentiable:
        out._fn = record(op, edges, arrays, data, cells, [0])
    return out


def _link_wrapped(op: Op, base: Tensor, out: Tensor) -> None:
    """As `_link_view`: a view if what is inside is one."""
    x, y = base._data, out._data
    if isinstance(x, Wrapped) and isinstance(y, Wrapped) and x.inner._ver is y.inner._ver:
        _note_view(op, base, out, traced=True)


# -- traced ---------------------------------------------------------------------------------------


def capture_for(inputs: Sequence[Tensor]) -> Capture | None:
    """The capture that must record an operation on `inputs`, or None to run it eagerly."""
    if captures.current is not None:
        return captures.current
    for t in inputs:
        if type(t._data) is Value:
            capture = getattr(t._data.graph, "capture", None)
            if capture is None:
                raise TraceError(
                    f"a tensor of the finished trace {t._data.graph.name!r} was used outside "
                    "of it; return it from the traced function instead"
                )
            return capture  # type: ignore[no-any-return]
    return None


def _apply_traced(capture: Capture, op: Op, inputs: Sequence[Tensor]) -> Tensor:
    """Append `op` to the capture's graph, and keep the tape as the eager path does.

    As with :func:`apply`, what is returned for several outputs is the tuple of them.
    """
    values: Sequence[Value] = [capture.value_of(t) for t in inputs]
    edges = [capture.edge(t) for t in inputs]
    if not local.grad:
        values = capture.off_tape(values, edges)
    outputs = capture.apply(op, values)
    taped = local.grad and op.differentiable and any(e is not None for e in edges)
    if op.n_outputs > 1:
        many = tuple(make(v) for v in outputs)
        if taped:
            node = record(op, edges, values, outputs, [[0]] * len(inputs), [0])
            capture.taped_values(outputs)
            for i, t in enumerate(many):
                if t.dtype.is_differentiable:
                    t._fn = Pick(node, i)
        return many  # type: ignore[return-value]
    out = make(outputs)
    if op.is_view:
        _link_view(op, inputs[0], out)
    if taped and outputs.dtype.is_differentiable:
        # Values never change, so nothing saved can go stale: the version cells are nobody's.
        out._fn = record(op, edges, values, outputs, [[0]] * len(inputs), [0])
        capture.taped_values((outputs,))
    return out
