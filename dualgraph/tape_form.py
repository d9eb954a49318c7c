"""Gradients in TensorFlow's form: ``with GradientTape() as tape: ...; tape.gradient(loss, xs)``.

It is the same tape as that of ``loss.backward()``, asked in another way; nothing accumulates in
``.grad``, and optimizers take the gradients by ``optimizer.apply_gradients(zip(grads, xs))``.
"""

from __future__ import annotations

import contextlib
import enum
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from dualgraph_compiler.errors import ArgumentError, AutogradError

from . import autograd
from . import functions as fn
from ._tensor import Tensor

__all__ = ["GradientTape", "UnconnectedGradients"]


class UnconnectedGradients(enum.Enum):
    """What stands for the gradient by a source that the target does not depend on."""

    NONE = "none"
    ZERO = "zero"


class _Open(threading.local):
    """The tapes whose blocks the thread is in, the innermost last."""

    def __init__(self) -> None:
        self.tapes: list[GradientTape] = []


_open = _Open()


class GradientTape:
    """Records what is computed in a `with` block, so that gradients can be asked for after it.

    Tensors that require gradients (parameters, say) are watched wherever they are used; others are
    watched from :meth:`watch` on. A gradient that is asked for in the block of another tape, or in
    the tape's own, is recorded itself: nested tapes give higher derivatives.

    Args:
        persistent: whether :meth:`gradient` may be called more than once.
        watch_accessed_variables: whether tensors that require gradients are watched unasked.

    Source: ``tf.GradientTape``.
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True) -> None:
        self._persistent = persistent
        self._automatic = watch_accessed_variables
        self._watched: dict[int, Tensor] = {}
        self._made: list[Tensor] = []  # that require gradients for being watched only
        self._used = False
        self._alone = True
        self._grad_mode: Any = None

    def __enter__(self) -> GradientTape:
        if self._grad_mode is not None:
            raise AutogradError("the tape is recording already")
        for other in _open.tapes:
            other._alone = False
        self._alone = self._alone and not _open.tapes
        _open.tapes.append(self)
        self._grad_mode = autograd.enable_grad()
        self._grad_mode.__enter__()
        self._require(True)
        return self

    def __exit__(self, *exception: Any) -> None:
        self._require(False)
        self._grad_mode.__exit__(*exception)
        self._grad_mode = None
        _open.tapes.remove(self)

    def watch(self, tensor: Any) -> None:
        """Record what is computed from `tensor`, or from each tensor in a nested structure.

        Raises:
            AutogradError: the tape is not recording.
            TypeError: something that is no tensor, or has no gradients (integers, say).
        """
        if self._grad_mode is None:
            raise AutogradError("watch() belongs in the tape's block")
        for t in _leaves(tensor):
            if not isinstance(t, Tensor):
                raise TypeError(f"GradientTape.watch expects tensors, got {type(t).__name__}")
            if not t.dtype.is_differentiable:
                raise TypeError(f"{t.dtype} tensors have no gradients")
            self._watched[id(t)] = t
            if not t.requires_grad:
                self._made.append(t)
                t.requires_grad_()

    def watched_variables(self) -> tuple[Tensor, ...]:
        """The tensors given to :meth:`watch`."""
        return tuple(self._watched.values())

    @contextlib.contextmanager
    def stop_recording(self) -> Iterator[None]:
        """Record nothing in a block within the tape's."""
        with autograd.no_grad():
            yield

    def reset(self) -> None:
        """Forget what is watched, and that gradients have been asked for."""
        self._require(False)
        self._watched.clear()
        self._made.clear()
        self._used = False

    def gradient(
        self,
        target: Any,
        sources: Any,
        output_gradients: Any = None,
        unconnected_gradients: UnconnectedGradients | str = UnconnectedGradients.NONE,
    ) -> Any:
        """The gradient of the sum of all elements of `target` by each of `sources`.

        Args:
            target: a tensor, or a nested structure of tensors that are summed.
            sources: a tensor, or a list, tuple or dict of tensors, nested at will.
            output_gradients: for each target, weights of its elements instead of ones.
            unconnected_gradients: "none" or "zero", for sources that no target depends on.

        Returns:
            Gradients in the structure of `sources`, each of its source's shape and dtype; None
            for a source that is not connected or not watched.

        Raises:
            AutogradError: a tape that is not persistent was asked before.
        """
        self._ask()
        zero = UnconnectedGradients(unconnected_gradients) is UnconnectedGradients.ZERO
        flat = _leaves(sources)
        with self._differentiable():
            known = [t for t in flat if self._is_watched(t)]
            found = iter(self._grad(target, known, output_gradients))
            grads = [next(found) if self._is_watched(t) else None for t in flat]
        if zero:
            grads = [fn.zeros_like(t) if g is None else g for t, g in zip(flat, grads)]
        return _like(sources, iter(grads))

    def jacobian(
        self,
        target: Tensor,
        sources: Any,
        unconnected_gradients: UnconnectedGradients | str = UnconnectedGradients.NONE,
    ) -> Any:
        """The derivative of every element of `target` by every element of `sources`.

        Returns:
            For each source, in the structure of `sources`, a tensor of shape
            ``[*target.shape, *source.shape]``; None for one that is not connected.

        Raises:
            AutogradError: a tape that is not persistent was asked before.
        """
        self._ask()
        persistent = self._persistent
        flat = _leaves(sources)
        rows: list[Any] = []
        try:
            self._persistent = True
            for weights in fn.eye(int(target.numel()), dtype=target.dtype, device=target.device):
                shaped = weights.reshape(tuple(target.shape))
                rows.append(self.gradient(target, flat, shaped, unconnected_gradients))
        finally:
            self._persistent = persistent
        parts: list[Tensor | None] = []
        for i, source in enumerate(flat):
            column = [row[i] for row in rows]
            if not column or any(g is None for g in column):
                parts.append(None)
            else:
                parts.append(fn.stack(column).reshape((*target.shape, *source.shape)))
        return _like(sources, iter(parts))

    def _ask(self) -> None:
        """Note that gradients are asked for, if they may be."""
        if self._used and not self._persistent:
            raise AutogradError(
                "A non-persistent GradientTape can only be used to compute one set of gradients "
                "(or jacobians)"
            )
        self._used = True

    def _grad(self, target: Any, sources: list[Tensor], weights: Any) -> tuple[Any, ...]:
        targets = _leaves(target)
        given = [None] * len(targets) if weights is None else _leaves(weights)
        if len(given) != len(targets):
            raise ArgumentError(f"got {len(targets)} targets and {len(given)} output_gradients")
        pairs = [(t, w) for t, w in zip(targets, given) if t.requires_grad]
        if not pairs or not sources:
            return (None,) * len(sources)
        recorded = bool(_open.tapes)
        return autograd.grad(
            [t for t, _ in pairs],
            sources,
            [fn.ones_like(t) if w is None else w for t, w in pairs],
            retain_graph=recorded or self._persistent or not self._alone,
            create_graph=recorded,
            allow_unused=True,
        )

    def _is_watched(self, t: Tensor) -> bool:
        return t.requires_grad and (self._automatic or not t.is_leaf or id(t) in self._watched)

    def _require(self, on: bool) -> None:
        """Let tensors that are watched without being asked to require gradients, or no longer."""
        for t in self._made:
            t.requires_grad_(on)

    @contextlib.contextmanager
    def _differentiable(self) -> Iterator[None]:
        """What is watched requires gradients, as it did in the tape's block."""
        recording = self._grad_mode is not None
        if not recording:
            self._require(True)
        try:
            yield
        finally:
            if not recording:
                self._require(False)


def _leaves(x: Any) -> list[Any]:
    """The tensors of a nested structure, in order."""
    if isinstance(x, Mapping):
        return [t for key in x for t in _leaves(x[key])]
    if isinstance(x, list | tuple):
        return [t for v in x for t in _leaves(v)]
    if isinstance(x, Iterator):
        raise TypeError("an iterator can be read once only: give a list of tensors")
    return [x]


def _like(structure: Any, values: Iterator[Any]) -> Any:
    """`values` in place of the tensors of a nested structure."""
    if isinstance(structure, Mapping):
        return {key: _like(structure[key], values) for key in structure}
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(_like(v, values) for v in structure))
    if isinstance(structure, list | tuple):
        return type(structure)([_like(v, values) for v in structure])
    return next(values)
