"""In-place operations, gradients' storage and hooks: what changes a tensor that already exists.

An in-place operation is its functional twin followed by :func:`assign`: the result is written to
the tensor's memory, the storage's version goes up (so that values saved from it are known to be
stale), and the tensor takes the result's place on the tape. Through a view, the base takes a new
place too: the functional write-back of the view (``op.unview``), recorded like any operation.
"""

from __future__ import annotations

import itertools
import warnings
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dims import product
from dualgraph_compiler.errors import AutogradError, DTypeError, ShapeError, TraceError
from dualgraph_compiler.graph import Value
from dualgraph_compiler.ops.base import shape_text
from dualgraph_compiler.ops.movement import Expand, Reshape

from .. import _changes
from .._dispatch import apply, capture_for, captures, current_fn, make, symbolic
from ..transforms.levels import Wrapped
from .grad_mode import local
from .recompute import StandIn
from .saved import Packed
from .tape import Leaf, Node, Overwritten

if TYPE_CHECKING:
    from dualgraph._tensor import Tensor

    from .tape import Hook

_hook_ids = itertools.count()


def assign(target: Tensor, result: Tensor) -> Tensor:
    """Overwrite `target` with `result`, the outcome of the operation's functional twin.

    Raises:
        ShapeError, DTypeError: the result does not fit the target.
        AutogradError: the target is (a view of) a leaf that requires a gradient.
    """
    base = target._base.base if target._base is not None else target
    x, y = target._data, result._data
    if (
        target._fn is None
        and result._fn is None
        and base._fn is None
        and type(x) is np.ndarray
        and not symbolic.open_graphs
        and x.dtype is y.dtype
        and x.shape == y.shape
        and x.flags.writeable
    ):
        x[...] = y
        target._ver[0] += 1
        return target
    if isinstance(y, Wrapped) or isinstance(x, Wrapped):
        from .inplace_wrapped import assign_wrapped

        return assign_wrapped(target, base, result)
    _check(target, result)
    detached = base is not target and target._base.recorded is None
    if local.grad and (type(base._fn) is Leaf or type(target._fn) is Leaf) and not detached:
        what = "a view of a leaf Variable" if base is not target else "a leaf Variable"
        raise AutogradError(f"{what} that requires grad is being used in an in-place operation.")
    if result.dtype is not target.dtype:
        from .._promote import cast

        result = cast(result, target.dtype)
    capture = capture_for((target, result)) if symbolic.open_graphs else None
    tape = local.grad and (result._fn is not None or base._fn is not None)
    if tape and type(result._fn) is Node:
        _keep_operands(result._fn, target._ver)
    elif tape and isinstance(result._fn, StandIn | Packed):
        result._fn.keep_operands(target._ver)
    if target._base is not None and (capture is not None or tape):
        _write_through(target, base, result, capture)
    elif capture is not None:
        _write_traced(target, result, capture)
        _move(target, result)
    else:
        _copy(target, result)
        _move(target, result)
    return target


def _move(target: Tensor, result: Tensor) -> None:
    """Give `target` the place of `result` on the tape, if recording is on."""
    if not local.grad:
        return
    old = target._fn
    target._fn = result._fn
    if old is None and result._fn is not None:
        _changes.tensors.note()
    if result._fn is None and old is not None:
        target._fn = Overwritten((old,))
    if "_retained" in target.__dict__:
        keep_retaining(target, old)


def _keep_operands(node: Node, cell: list[int]) -> None:
    """Copy what `node` saved of the storage with version cell `cell`, about to be overwritten.

    An in-place operation does not make its own operands stale.
    """
    op = node.op
    if not any(c is cell for c in node.cells) or node.inputs is None:
        return
    flags = op.saves_inputs[: len(node.inputs)]
    flags += (op.saves_rest,) * (len(node.inputs) - len(flags))
    inputs = list(node.inputs)
    cells = list(node.cells)
    for i in [i for i, saved in enumerate(flags) if saved]:
        at = sum(flags[:i])
        if cells[at] is cell and hasattr(inputs[i], "copy"):
            inputs[i] = inputs[i].copy()
            cells[at] = [cell[0]]
    node.inputs, node.cells = inputs, cells


def _check(target: Tensor, result: Tensor) -> None:
    if tuple(result.shape) != tuple(target.shape):
        raise ShapeError(
            f"output with shape {shape_text(target.shape)} doesn't match the broadcast shape "
            f"{shape_text(result.shape)}"
        )
    if result.dtype.category > target.dtype.category:
        raise DTypeError(
            f"result type {result.dtype.name} can't be cast to the desired output type "
            f"{target.dtype.name}"
        )


def _copy(target: Tensor, result: Tensor) -> None:
    """Write the result's elements to the target's memory."""
    data = target._data
    if type(data) is np.ndarray and not data.flags.writeable:
        data = _writable(data)
    data[...] = result._data
    target._ver[0] += 1


def overwrite(target: Tensor, result: Tensor) -> None:
    """Write the elements of `result` to the memory of `target`, off the tape."""
    _copy(target, result)


_OVERLAP = (
    "unsupported operation: more than one element of the written-to tensor refers to a single "
    "memory location (it was expanded). Please clone() the tensor before performing the operation."
)


def _writable(data: Any) -> Any:
    """The same elements as an array that can be written to, where `data` is part of an expansion.

    Raises:
        AutogradError: an element of `data` stands for several, or its memory is read-only.
    """
    if any(step == 0 and size > 1 for step, size in zip(data.strides, data.shape, strict=True)):
        raise AutogradError(_OVERLAP)
    owner = data
    while getattr(owner, "base", None) is not None:
        owner = owner.base
    if type(owner) is not np.ndarray or not owner.flags.writeable or not owner.flags.c_contiguous:
        raise AutogradError(
            "the memory of this tensor is read-only (it was made from a read-only array). Please "
            "clone() the tensor before writing to it."
        )
    start = np.lib.array_utils.byte_bounds(owner)[0]
    offset = data.__array_interface__["data"][0] - start
    memory = owner.reshape(-1).view(np.uint8)
    return np.ndarray(data.shape, data.dtype, memory, offset, data.strides)


def _write_traced(target: Tensor, result: Tensor, capture: Any) -> None:
    value = capture.value_of(result)
    if type(target._data) is Value:
        capture.rebind(target, value)
    else:
        capture.write(target, value)  # which undoes the next line in the end
    target._ver[0] += 1


def _untaped(base: Tensor, result: Tensor) -> bool:
    return not local.grad or (base._fn is None and result._fn is None)


def _write_through(view: Tensor, base: Tensor, result: Tensor, capture: Any) -> None:
    """Write a view: the base becomes the write-back of the result through the view's ops."""
    info = view._base
    if base._ver is not view._ver:
        why = "a view is being modified inplace whose base has had other data assigned since"
        raise AutogradError(why) if capture is None else capture.failure(why, "Clone the view.")
    if info.ops is None or (info.recorded is False and not _untaped(base, result)):
        raise AutogradError(
            "A view was created in no_grad mode and is being modified inplace with grad mode "
            "enabled. Clone it, or make the view where recording is on."
        )
    if info.recorded is None and local.grad and result._fn is not None:
        raise TraceError(
            "a value that requires grad is written to a detached tensor; this cannot be captured. "
            "Write it to the tensor itself, or to a clone."
        )
    # The chain of values from the base to the view's parent, then back with each op undone.
    chain = [make(base._data, base._fn)]
    if type(base._data) is not Value:
        chain[0]._data = base._data if capture is None else capture.value_of(base)
    for op in info.ops[:-1]:
        chain.append(apply(op, chain[-1]))
    new = result
    for op, parent in zip(reversed(info.ops), reversed(chain[: len(info.ops)]), strict=True):
        if type(op) is not Expand:
            new = op.unview(parent, new)
        elif product(op.shape) == parent._data.size:
            new = apply(Reshape(tuple(parent._data.shape)), new)
        else:
            raise AutogradError(_OVERLAP)
    if capture is not None:
        _write_traced(base, new, capture)
    else:
        _copy(view, result)
    if info.recorded:
        _move(base, new)
    if view._ver is not base._ver:
        view._ver[0] += 1
    current_fn(view)


# -- gradients ------------------------------------------------------------------------------------


def get_grad(t: Tensor) -> Tensor | None:
    """See ``Tensor.grad``."""
    if type(t._fn) is Leaf:
        if symbolic.open_graphs and captures.current is not None:
            captures.current.track(t._fn, t)
            captures.current.observe(t._fn)
        return t._fn.grad
    held = t.__dict__.get("_retained")
    if held is not None:
        return held.get("grad")  # type: ignore[no-any-return]
    if t.grad_fn is not None:
        warnings.warn(
            "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its "
            ".grad attribute won't be populated during autograd.backward(). If you indeed want the "
            ".grad field to be populated for a non-leaf Tensor, use .retain_grad() on the non-leaf "
            "Tensor.",
            UserWarning,
            stacklevel=3,
        )
        return None
    frozen = t.__dict__.get("_frozen")
    if frozen is not None and symbolic.open_graphs and captures.current is not None:
        captures.current.track(frozen, t)
        captures.current.observe(frozen)
    return t.__dict__.get("_free_grad") if frozen is None else frozen.grad


def set_grad(t: Tensor, value: Tensor | None) -> None:
    """Set or clear ``Tensor.grad``, checking that it fits."""
    if value is not None:
        if not hasattr(value, "_data"):
            raise TypeError(
                f"assigned grad expected to be a Tensor or None, got {type(value).__name__}"
            )
        if value is t:
            raise AutogradError("can't assign Variable as its own grad")
        if tuple(value.shape) != tuple(t.shape):
            raise ShapeError(
                f"assigned grad has shape {shape_text(value.shape)}; expected the tensor's "
                f"{shape_text(t.shape)}"
            )
        if value.dtype is not t.dtype:
            raise DTypeError(f"assigned grad has data of type {value.dtype}; expected {t.dtype}")
    if symbolic.open_graphs and captures.current is not None:
        _set_grad_traced(t, value)
    elif type(t._fn) is Leaf:
        t._fn.grad = value
    elif "_frozen" in t.__dict__:
        t.__dict__["_frozen"].grad = value
    else:
        t.__dict__["_free_grad"] = value


def _set_grad_traced(t: Tensor, value: Tensor | None) -> None:
    """As `set_grad`, of a tensor whose gradient is noted by the current capture."""
    leaf = t._fn if type(t._fn) is Leaf else t.__dict__.get("_frozen")
    if leaf is not None and captures.current is not None:
        captures.current.track(leaf, t)
        captures.current.overwrite(leaf)
        leaf.grad = value
    elif type(t._data) is Value:
        t.__dict__["_free_grad"] = value
    elif value is not get_grad(t):
        raise TraceError(
            "a compiled function cannot set the gradient of a tensor from outside that does not "
            "require one"
        )


def retain_grad(t: Tensor) -> None:
    """See ``Tensor.retain_grad``."""
    if not t.requires_grad:
        raise AutogradError("can't retain_grad on Tensor that has requires_grad=False")
    if t.is_leaf or "_retained" in t.__dict__:
        return
    _refuse_in_body(t, "retain_grad()")
    t.__dict__["_retained"] = {}
    keep_retaining(t)


def _refuse_in_body(t: Tensor, what: str) -> None:
    """Raise where a gradient is to be seen that only a nested graph will compute."""
    capture = captures.current if symbolic.open_graphs else None
    if capture is not None and type(t._data) is Value and capture.root is not capture:
        raise capture.failure(f"{what} in a branch or loop cannot be captured")


def keep_retaining(t: Tensor, old: Any = None) -> None:
    """Keep the gradient at the present place of `t` on the tape, and not at its `old` one."""
    held = t.__dict__["_retained"]
    if old is not None and old.hooks:
        old.hooks.pop(held.get("hook"), None)

    def keep(g: Tensor) -> None:
        held["grad"] = g.clone() if held.get("grad") is None else held["grad"] + g

    held["hook"] = register_hook(t, keep).id


def add_grad(t: Tensor, g: Tensor) -> None:
    """Add to the gradient kept of a non-leaf."""
    held = t.__dict__.setdefault("_retained", {})
    held["grad"] = g if held.get("grad") is None else held["grad"] + g


class RemovableHandle:
    """Removes a registered hook, by `remove()` or as a context manager.

    That there is a hook, and is not any more, is noted as a change of `what`.
    """

    def __init__(
        self, hooks: dict[int, Any], hook: Any, what: _changes.Changes = _changes.modules
    ) -> None:
        self._hooks = hooks
        self._what = what
        self.id = next(_hook_ids)
        hooks[self.id] = hook
        what.note()

    def remove(self) -> None:
        """Forget the hook; harmless when done twice."""
        self._hooks.pop(self.id, None)
        self._what.note()

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


def register_hook(t: Tensor, hook: Hook | Callable[[Tensor], None]) -> RemovableHandle:
    """See ``Tensor.register_hook``."""
    fn = t._fn if t._base is None else current_fn(t)
    if fn is None:
        raise AutogradError("cannot register a hook on a tensor that doesn't require gradient")
    _refuse_in_body(t, "register_hook()")
    if fn.hooks is None:
        fn.hooks = {}
    handle = RemovableHandle(fn.hooks, hook, _changes.tensors)
    kept = t.__dict__.get("_retained", {}).get("hook")
    if kept in fn.hooks:  # `retain_grad` keeps what the last hook leaves
        fn.hooks[kept] = fn.hooks.pop(kept)
    return handle


def register_post_accumulate_grad_hook(
    t: Tensor, hook: Callable[[Tensor], None]
) -> RemovableHandle:
    """See ``Tensor.register_post_accumulate_grad_hook``."""
    fn = t._fn
    if type(fn) is not Leaf:
        raise AutogradError("post accumulate grad hooks cannot be registered on non-leaf tensors")
    if fn.post_hooks is None:
        fn.post_hooks = {}
    of = weakref.ref(t)  # the leaf is part of `t`: no reference back

    def call(_grad: Tensor) -> None:
        alive = of()
        if alive is not None:
            hook(alive)

    return RemovableHandle(fn.post_hooks, call, _changes.tensors)


def is_differentiable(t: Tensor) -> bool:
    """Whether gradients of this dtype exist."""
    return t.dtype.category >= dt.FLOAT
