"""Differentiating by tensors of one's own: what all reverse-mode transforms do.

A transform differentiates by an *alias* of each argument, an entry on the tape that nothing else
leads to. So it sees only what its function does, and what the arguments were computed from before
(or closures need a gradient for) goes on, for whoever differentiates outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dualgraph_compiler.errors import AutogradError

from .._dispatch import captures, current_fn, make, symbolic
from .._tensor import Tensor
from ..autograd import engine
from ..autograd.grad_mode import local
from ..autograd.reach import parents, walked
from ..autograd.tape import CustomNode
from ..transforms.levels import Wrapped, transforms


class Alias(CustomNode):
    """An identity: where a transform's own gradients end, and others go through."""

    name = "AliasBackward0"

    def run(self, g: Any, create_graph: bool) -> Sequence[Any]:
        """The gradient itself."""
        return (g,) * len(self.edges)


class Own:
    """The aliases of one transform; `outer` is whether anybody records outside of it."""

    def __init__(self, tensors: Sequence[Any], name: str) -> None:
        self.outer = local.grad
        self.tensors = [self._alias(t, name) for t in tensors]
        self.entries = [t._fn for t in self.tensors]

    def _alias(self, t: Any, name: str) -> Tensor:
        if not isinstance(t, Tensor):
            raise RuntimeError(f"{name}: Expected all inputs to be Tensors, got {type(t)}")
        if not t.dtype.is_differentiable:
            raise AutogradError(
                f"{name}: only Tensors of floating point and complex dtype can require gradients, "
                f"got {t.dtype}"
            )
        fn = t._fn if t._base is None else current_fn(t)
        data = t._data
        capture = captures.current if symbolic.open_graphs else None
        top = transforms.levels[-1] if transforms.levels else None
        if top is not None and not (isinstance(data, Wrapped) and data.level is top):
            # It belongs to an outer level, and what it was computed from is found there.
            fn, data = None, top.lift(t)
        elif capture is not None and top is None:
            fn, data = capture.edge(t), capture.value_of(t)
        out = make(data, Alias((fn,) if fn is not None and self.outer else ()))
        if data is t._data:
            out._ver = t._ver
        return out

    def records(self, outputs: Sequence[Tensor]) -> bool:
        """Whether gradients of `outputs` must be recorded in turn."""
        return self.outer and (bool(transforms.levels) or not self._alone(outputs))

    def _alone(self, outputs: Sequence[Tensor]) -> bool:
        """Whether the tape of `outputs` leads to no tensor but our own."""
        own = set(self.entries)
        starts = (t._fn if t._base is None else current_fn(t) for t in outputs)
        return all(
            any(p is not None for p in parents(fn)) or fn in own for fn in walked(starts)
        ) and not any(fn.edges for fn in own)

    def gradients(
        self, outputs: Sequence[Tensor], cotangents: Sequence[Tensor], record: bool
    ) -> list[Tensor | None]:
        """Of `outputs`, weighted with `cotangents`, by our tensors; None where there is none."""
        targets: dict[Any, Any] = dict.fromkeys(self.entries)
        roots = []
        for y, g in zip(outputs, cotangents, strict=True):
            if y.requires_grad:
                roots.append(engine.root(y, g, record))
        engine.run_backward(
            roots, retain_graph=True, create_graph=record, targets=targets, accumulate=False
        )
        found = [targets[fn] for fn in self.entries]
        return [g if record or g is None else _owned(g) for g in found]

    def released(self, t: Any) -> Any:
        """A result, off the tape if that leads to nothing but our own tensors."""
        if not isinstance(t, Tensor) or not t.requires_grad:
            return t
        if self.outer and not self._alone([t]):
            return t
        out = make(t._data)
        out._ver = t._ver
        return out


def _owned(g: Any) -> Tensor:
    import numpy as np

    return make(np.array(g) if isinstance(g, np.ndarray | np.generic) else g)


class recording:
    """Recording for the function of a transform, whatever the mode outside."""

    def __enter__(self) -> None:
        self._mode = local.grad
        local.grad = True

    def __exit__(self, *exception: object) -> None:
        local.grad = self._mode
