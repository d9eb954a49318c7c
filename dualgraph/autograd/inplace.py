"""In-place operations, gradients' storage and hooks: what changes a tensor that already exists.

An in-place operation is its functional twin followed by :func:`assign`: the result is written to
the tensor's memory, the storage's version goes up (so that values saved from it are known to be
stale), and the tensor takes the result's place on the tape. Through a view, the base takes a new
place too: the functional write-back of the view (``op.unview``), recorded like any operation.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import AutogradError, DTypeError, ShapeError
from dualgraph_compiler.graph import Value
from dualgraph_compiler.ops.base import shape_text

from .._dispatch import apply, capture_for, current_fn, make, symbolic
from .grad_mode import local
from .tape import Leaf

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
    _check(target, result)
    base = target._base.base if target._base is not None else target
    if local.grad and type(base._fn) is Leaf:
        what = "a view of a leaf Variable" if base is not target else "a leaf Variable"
        raise AutogradError(f"{what} that requires grad is being used in an in-place operation.")
    if result.dtype is not target.dtype:
        from .._promote import cast

        result = cast(result, target.dtype)
    capture = capture_for((target, result)) if symbolic.open_graphs else None
    tape = local.grad and (result._fn is not None or base._fn is not None)
    if target._base is not None and (capture is not None or tape):
        _write_through(target, base, result, capture)
    elif capture is not None:
        _write_traced(target, result, capture)
        target._fn = result._fn if local.grad else None
    else:
        if local.grad:
            target._fn = result._fn
        _copy(target, result)
    return target


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
        raise AutogradError(
            "unsupported operation: more than one element of the written-to tensor refers to a "
            "single memory location, or its memory is read-only. Please clone() the tensor before "
            "performing the operation."
        )
    data[...] = result._data
    target._ver[0] += 1


def _write_traced(target: Tensor, result: Tensor, capture: Any) -> None:
    value = capture.value_of(result)
    if type(target._data) is Value:
        target._data = value
    else:
        capture.write(target, value)
    target._ver[0] += 1


def _write_through(view: Tensor, base: Tensor, result: Tensor, capture: Any) -> None:
    """Write a view: the base becomes the write-back of the result through the view's ops."""
    info = view._base
    if info.ops is None:
        raise AutogradError(
            "A view was created in no_grad mode and is being modified inplace with grad mode "
            "enabled. Clone it, or make the view where recording is on."
        )
    # The chain of values from the base to the view's parent, then back with each op undone.
    chain = [make(base._data, base._fn)]
    if type(base._data) is not Value:
        chain[0]._data = base._data if capture is None else capture.value_of(base)
    for op in info.ops[:-1]:
        chain.append(apply(op, chain[-1]))
    new = result
    for op, parent in zip(reversed(info.ops), reversed(chain), strict=True):
        new = op.unview(parent, new)
    base._fn = new._fn if local.grad else None
    if capture is not None:
        _write_traced(base, new, capture)
    else:
        _copy(view, result)
    if view._ver is not base._ver:
        view._ver[0] += 1
    current_fn(view)


# -- gradients ------------------------------------------------------------------------------------


def get_grad(t: Tensor) -> Tensor | None:
    """See ``Tensor.grad``."""
    if type(t._fn) is Leaf:
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
    return t.__dict__.get("_free_grad")


def set_grad(t: Tensor, value: Tensor | None) -> None:
    """Set or clear ``Tensor.grad``, checking that it fits."""
    if value is not None:
        if tuple(value.shape) != tuple(t.shape):
            raise ShapeError(
                f"assigned grad has shape {shape_text(value.shape)}; expected the tensor's "
                f"{shape_text(t.shape)}"
            )
        if value.dtype is not t.dtype:
            raise DTypeError(f"assigned grad has data of type {value.dtype}; expected {t.dtype}")
    if type(t._fn) is Leaf:
        t._fn.grad = value
    else:
        t.__dict__["_free_grad"] = value


def retain_grad(t: Tensor) -> None:
    """See ``Tensor.retain_grad``."""
    if not t.requires_grad:
        raise AutogradError("can't retain_grad on Tensor that has requires_grad=False")
    if t.is_leaf or "_retained" in t.__dict__:
        return
    held: dict[str, Any] = {}
    t.__dict__["_retained"] = held

    def keep(g: Tensor) -> None:
        held["grad"] = g if held.get("grad") is None else held["grad"] + g

    register_hook(t, keep)


class RemovableHandle:
    """Removes a registered hook, by `remove()` or as a context manager."""

    def __init__(self, hooks: dict[int, Any], hook: Any) -> None:
        self._hooks = hooks
        self.id = next(_hook_ids)
        hooks[self.id] = hook

    def remove(self) -> None:
        """Forget the hook; harmless when done twice."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


def register_hook(t: Tensor, hook: Hook | Callable[[Tensor], None]) -> RemovableHandle:
    """See ``Tensor.register_hook``."""
    fn = t._fn if t._base is None else current_fn(t)
    if fn is None:
        raise AutogradError("cannot register a hook on a tensor that doesn't require gradient")
    if fn.hooks is None:
        fn.hooks = {}
    return RemovableHandle(fn.hooks, hook)


def register_post_accumulate_grad_hook(
    t: Tensor, hook: Callable[[Tensor], None]
) -> RemovableHandle:
    """See ``Tensor.register_post_accumulate_grad_hook``."""
    fn = t._fn
    if type(fn) is not Leaf:
        raise AutogradError("post accumulate grad hooks cannot be registered on non-leaf tensors")
    if fn.post_hooks is None:
        fn.post_hooks = {}
    return RemovableHandle(fn.post_hooks, lambda _grad: hook(t))


def is_differentiable(t: Tensor) -> bool:
    """Whether gradients of this dtype exist."""
    return t.dtype.category >= dt.FLOAT
