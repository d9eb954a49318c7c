"""Automatic differentiation: the tape, the backward engine, and custom functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler.errors import AutogradError

from .. import functions
from .._dispatch import current_fn, make
from . import engine
from .grad_mode import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled

__all__ = [
    "Function",
    "backward",
    "enable_grad",
    "grad",
    "inference_mode",
    "is_grad_enabled",
    "no_grad",
    "set_grad_enabled",
]


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Accumulate the gradients of `tensors` in the `grad` of the leaves they depend on.

    Args:
        tensors: one tensor or several.
        grad_tensors: for each, the gradient to start from; may be omitted for one-element tensors.
        retain_graph: keep saved values, so that backward may run again; default `create_graph`.
        create_graph: record the gradients' own computation, for higher derivatives.
        inputs: accumulate in these leaves only.
    """
    roots = _roots(tensors, grad_tensors, create_graph)
    if inputs is None:
        engine.run_backward(
            roots,
            retain_graph=create_graph if retain_graph is None else retain_graph,
            create_graph=create_graph,
        )
        return
    leaves = _as_sequence(inputs)
    found = grad(tensors, leaves, grad_tensors, retain_graph, create_graph, allow_unused=True)
    for leaf, g in zip(leaves, found, strict=True):
        if g is not None:
            leaf.grad = g if leaf.grad is None else leaf.grad + g


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """The gradients of the sum of `outputs` with respect to `inputs`; no `grad` is touched.

    Raises:
        AutogradError: an input takes no part in the outputs (unless `allow_unused`).
    """
    ins = _as_sequence(inputs)
    targets: dict[Any, Any] = {}
    keys = []
    for i, t in enumerate(ins):
        fn = t._fn if t._base is None else current_fn(t)
        if fn is None:
            raise AutogradError(
                f"One of the differentiated Tensors does not require grad (input {i})"
            )
        keys.append(fn)
        targets[fn] = None
    roots = _roots(outputs, grad_outputs, create_graph)
    engine.run_backward(
        roots,
        retain_graph=create_graph if retain_graph is None else retain_graph,
        create_graph=create_graph,
        targets=targets,
    )
    out: list[Any] = []
    for i, (t, key) in enumerate(zip(ins, keys, strict=True)):
        g = targets[key]
        if g is None:
            if not allow_unused and not materialize_grads:
                raise AutogradError(
                    f"One of the differentiated Tensors (input {i}) appears to not have been used "
                    "in the graph. Set allow_unused=True if this is the desired behavior."
                )
            out.append(functions.zeros_like(t) if materialize_grads else None)
        else:
            out.append(g if create_graph else make(np.asarray(g) if np.isscalar(g) else g))
    return tuple(out)


def _as_sequence(x: Any) -> Sequence[Any]:
    from dualgraph._tensor import Tensor

    return (x,) if isinstance(x, Tensor) else tuple(x)


def _roots(tensors: Any, grad_tensors: Any, create_graph: bool) -> list[tuple[Any, Any]]:
    outputs = _as_sequence(tensors)
    given = (None,) * len(outputs) if grad_tensors is None else _as_sequence(grad_tensors)
    return [engine.root(t, g, create_graph) for t, g in zip(outputs, given, strict=True)]


def __getattr__(name: str) -> Any:
    # `Function` builds on Tensor, which builds on this package's tape.
    if name == "Function":
        from .function import Function

        return Function
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if TYPE_CHECKING:
    from .function import Function
