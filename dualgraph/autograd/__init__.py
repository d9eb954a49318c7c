"""Automatic differentiation: the tape, the backward engine, and custom functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler.errors import ArgumentError, AutogradError

from .. import functions
from .._dispatch import captures, current_fn, make, symbolic
from ..transforms.levels import Wrapped
from . import engine, forward_ad, graph, inplace
from .anomaly_mode import detect_anomaly, set_detect_anomaly
from .grad_mode import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from .gradcheck import gradcheck, gradgradcheck
from .graph import GradientEdge
from .tape import Leaf

__all__ = [
    "Function",
    "Variable",
    "detect_anomaly",
    "forward_ad",
    "functional",
    "gradcheck",
    "gradgradcheck",
    "graph",
    "is_inference_mode_enabled",
    "set_detect_anomaly",
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
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """The gradients of the sum of `outputs` with respect to `inputs`; no `grad` is touched.

    Args:
        outputs: one tensor or several.
        inputs: the tensors to differentiate by, or their gradient edges.
        grad_outputs: what to weight the outputs with; ones for 0-d outputs if left out.
        retain_graph: keep saved values, so that backward may run again; default `create_graph`.
        create_graph: record the gradients' own computation.
        only_inputs: without meaning, as in PyTorch.
        allow_unused: give None where an input takes no part in the outputs.
        is_grads_batched: `grad_outputs` have a batch as their first axis, and so have the results.
        materialize_grads: give zeros instead of None.

    Raises:
        AutogradError: there are no inputs, or one takes no part in the outputs (unless
            `allow_unused`).
    """
    ins = _as_sequence(inputs)
    if not ins:
        raise AutogradError("grad: expected inputs to differentiate by, got none")
    if is_grads_batched:
        return _batched(outputs, ins, grad_outputs, create_graph, allow_unused, materialize_grads)
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


def _batched(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any,
    create_graph: bool,
    allow_unused: bool | None,
    materialize_grads: bool,
) -> tuple[Any, ...]:
    """`grad` for each of a batch of weights."""
    from ..func import vmap

    absent: list[int] = []

    def one(*weights: Any) -> tuple[Any, ...]:
        found = grad(
            outputs,
            inputs,
            weights,
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=allow_unused,
            materialize_grads=materialize_grads,
        )
        absent.extend(i for i, g in enumerate(found) if g is None)
        return tuple(g for g in found if g is not None)

    if grad_outputs is None:
        raise ArgumentError("grad: `is_grads_batched` needs `grad_outputs`")
    present = iter(vmap(one)(*_as_sequence(grad_outputs)))
    return tuple(None if i in absent else next(present) for i in range(len(inputs)))


def _as_tensor(g: Any, create_graph: bool) -> Any:
    """A gradient from the engine as a tensor of its own: others may hold the same array."""
    if create_graph:
        return g
    return make(np.array(g) if isinstance(g, np.ndarray | np.generic) else g)


def _producers(inputs: Sequence[Any]) -> list[Any]:
    found = []
    for i, t in enumerate(inputs):
        if type(t) is GradientEdge:
            found.append(t.entry)
            continue
        fn = t._fn if t._base is None else current_fn(t)
        capture = captures.current if symbolic.open_graphs else None
        if fn is not None and capture is not None and not isinstance(t._data, Wrapped):
            fn = capture.edge(t)
        if fn is None:
            raise AutogradError(
                f"One of the differentiated Tensors does not require grad (input {i})"
            )
        found.append(fn)
    return found


def _as_sequence(x: Any) -> Sequence[Any]:
    from dualgraph._tensor import Tensor

    return (x,) if isinstance(x, Tensor | GradientEdge) else tuple(x)


def _roots(tensors: Any, grad_tensors: Any, create_graph: bool) -> list[tuple[Any, Any]]:
    outputs = _as_sequence(tensors)
    given = (None,) * len(outputs) if grad_tensors is None else _as_sequence(grad_tensors)
    if len(given) != len(outputs):
        raise ArgumentError(f"got {len(outputs)} tensors and {len(given)} gradients for them")
    return [engine.root(t, g, create_graph) for t, g in zip(outputs, given, strict=True)]


def __getattr__(name: str) -> Any:
    # These build on Tensor, which builds on this package's tape.
    if name == "Function":
        from .function import Function

        return Function
    if name == "Variable":
        from ..legacy import Variable

        return Variable
    if name == "functional":
        import importlib

        return importlib.import_module(".functional", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if TYPE_CHECKING:
    from ..legacy import Variable
    from . import functional
    from .function import Function
