"""Automatic differentiation: the tape, the backward engine, and custom functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler.errors import ArgumentError, AutogradError

from .. import functions
from .._dispatch import captures, current_fn, make, symbolic
from . import engine, inplace
from .grad_mode import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from .tape import Leaf

__all__ = [
    "Function",
    "Variable",
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
    targets: dict[Any, Any] | None = None
    chosen = () if inputs is None else _as_sequence(inputs)
    if inputs is not None:
        if not chosen:
            raise ArgumentError("backward: `inputs` is empty; expected at least one tensor")
        targets = dict.fromkeys(_producers(chosen))
    engine.run_backward(
        _roots(tensors, grad_tensors, create_graph),
        retain_graph=create_graph if retain_graph is None else retain_graph,
        create_graph=create_graph,
        targets=targets,
    )
    for t, fn in zip(chosen, targets or (), strict=False):
        if type(fn) is not Leaf and targets is not None and targets[fn] is not None:
            inplace.add_grad(t, _as_tensor(targets[fn], create_graph))


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
        AutogradError: there are no inputs, or one takes no part in the outputs (unless
            `allow_unused`).
    """
    ins = _as_sequence(inputs)
    if not ins:
        raise AutogradError("grad: expected inputs to differentiate by, got none")
    keys = _producers(ins)
    targets: dict[Any, Any] = dict.fromkeys(keys)
    roots = _roots(outputs, grad_outputs, create_graph)
    engine.run_backward(
        roots,
        retain_graph=create_graph if retain_graph is None else retain_graph,
        create_graph=create_graph,
        targets=targets,
        accumulate=False,
    )
    out: list[Any] = []
    for i, (t, key) in enumerate(zip(ins, keys, strict=True)):
        g = targets[key]
        if g is None:
            if not allow_unused and not materialize_grads:
                raise AutogradError(
                    f"The differentiated Tensor at index {i} appears to not have been used in the "
                    "graph. Set allow_unused=True if this is the desired behavior."
                )
            out.append(functions.zeros_like(t) if materialize_grads else None)
        else:
            out.append(_as_tensor(g, create_graph))
    return tuple(out)


def _as_tensor(g: Any, create_graph: bool) -> Any:
    """A gradient from the engine as a tensor of its own: others may hold the same array."""
    if create_graph:
        return g
    return make(np.array(g) if isinstance(g, np.ndarray | np.generic) else g)


def _producers(inputs: Sequence[Any]) -> list[Any]:
    found = []
    for i, t in enumerate(inputs):
        fn = t._fn if t._base is None else current_fn(t)
        if fn is not None and symbolic.open_graphs and captures.current is not None:
            fn = captures.current.edge(t)
        if fn is None:
            raise AutogradError(
                f"One of the differentiated Tensors does not require grad (input {i})"
            )
        found.append(fn)
    return found


def _as_sequence(x: Any) -> Sequence[Any]:
    from dualgraph._tensor import Tensor

    return (x,) if isinstance(x, Tensor) else tuple(x)


def _roots(tensors: Any, grad_tensors: Any, create_graph: bool) -> list[tuple[Any, Any]]:
    outputs = _as_sequence(tensors)
    given = (None,) * len(outputs) if grad_tensors is None else _as_sequence(grad_tensors)
    if len(given) != len(outputs):
        raise ArgumentError(f"got {len(outputs)} tensors and {len(given)} gradients for them")
    return [engine.root(t, g, create_graph) for t, g in zip(outputs, given, strict=True)]


def __getattr__(name: str) -> Any:
    # `Function` builds on Tensor, which builds on this package's tape.
    if name == "Function":
        from .function import Function

        return Function
    if name == "Variable":
        from ..legacy import Variable

        return Variable
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if TYPE_CHECKING:
    from ..legacy import Variable
    from .function import Function
