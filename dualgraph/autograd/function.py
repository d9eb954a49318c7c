"""Custom differentiable functions: ``autograd.Function`` as in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dualgraph_compiler.errors import AutogradError

from .._dispatch import current_fn, make
from .._tensor import Tensor
from .grad_mode import local, no_grad
from .tape import Outputs, Pick, next_seq


class FunctionContext:
    """What `forward` leaves for `backward`: ``ctx.save_for_backward(x)``, or any attribute."""

    needs_input_grad: tuple[bool, ...] = ()

    def __init__(self) -> None:
        self._saved: tuple[Tensor | None, ...] = ()
        self._dirty: tuple[Tensor, ...] = ()
        self._non_differentiable: tuple[Tensor, ...] = ()
        self._versions: list[int | None] = []
        self.materialize_grads = True

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for `backward`, where `saved_tensors` gives them back, versions checked."""
        self._saved = tensors
        self._versions = [None if t is None else t._ver[0] for t in tensors]

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors given to `save_for_backward`.

        Raises:
            AutogradError: one was modified in place since.
        """
        for t, version in zip(self._saved, self._versions, strict=True):
            if t is not None and t._ver[0] != version:
                raise AutogradError(
                    "one of the variables needed for gradient computation has been modified by an "
                    f"inplace operation: a tensor of shape {list(t.shape)} is at version "
                    f"{t._ver[0]}; expected version {version} instead."
                )
        return self._saved

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Declare inputs that `forward` modified in place."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Declare outputs that have no gradient."""
        self._non_differentiable = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether absent output gradients reach `backward` as zeros (the default) or None."""
        self.materialize_grads = value


class FunctionNode:
    """The tape entry of one call of a Function; the engine calls `run`."""

    def __init__(
        self, function: type[Function], ctx: FunctionContext, edges: Sequence[Any], n_outputs: int
    ) -> None:
        self.function = function
        self.ctx: FunctionContext | None = ctx
        self.edges = edges
        self.seq = next_seq()
        self.hooks: dict[int, Any] | None = None
        self.op = Outputs(n_outputs)
        self.shapes: list[Any] = []

    @property
    def name(self) -> str:
        return f"{self.function.__name__}Backward"

    def run(self, g: Any, create_graph: bool) -> list[Any]:
        """The gradients of the inputs, from the user's `backward`."""
        assert self.ctx is not None
        gs = g if isinstance(g, list) else [g]
        gs = [x if isinstance(x, Tensor) or x is None else make(x) for x in gs]
        if self.ctx.materialize_grads:
            gs = [_zeros(like) if x is None else x for x, like in zip(gs, self.shapes, strict=True)]
        found = self.function.backward(self.ctx, *gs)
        found = found if isinstance(found, tuple) else (found,)
        if len(found) < len(self.edges):
            raise AutogradError(
                f"function {self.name} returned an incorrect number of gradients (expected "
                f"{len(self.edges)}, got {len(found)})"
            )
        return [x if x is None or create_graph else x._data for x in found]


def _zeros(like: Tensor) -> Tensor:
    from ..functions import zeros_like

    return zeros_like(like)


class Function:
    """Base of custom functions: static `forward(ctx, *args)` and `backward(ctx, *grads)`.

    Use through ``MyFunction.apply(x, ...)``. `backward` returns one gradient for each argument of
    `forward` (None for those that are not tensors); written in tensor operations it can itself be
    differentiated.
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        """Compute the result."""
        raise NotImplementedError("You must implement the forward function for custom Function.")

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Compute the arguments' gradients from the results'."""
        raise NotImplementedError("You must implement the backward function for custom Function.")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Call `forward`, and record the call if an argument requires a gradient."""
        ctx = FunctionContext()
        edges = [_edge(a) for a in args]
        ctx.needs_input_grad = tuple(e is not None for e in edges)
        with no_grad():
            out = cls.forward(ctx, *args)
        if not (local.grad and any(ctx.needs_input_grad)):
            return out
        outputs = out if isinstance(out, tuple) else (out,)
        tensors = [o for o in outputs if isinstance(o, Tensor)]
        node = FunctionNode(cls, ctx, edges, len(tensors))
        node.shapes = [t.detach() for t in tensors]
        fresh: list[Any] = []
        for o in outputs:
            if not isinstance(o, Tensor):
                fresh.append(o)
                continue
            index = next(i for i, t in enumerate(tensors) if t is o)
            quiet = any(o is t for t in ctx._non_differentiable) or not o.dtype.is_differentiable
            dirty = any(o is t for t in ctx._dirty)
            # An input returned as it is must not lose its own place on the tape.
            kept = o if dirty or all(o is not a for a in args) else o.detach()
            if not quiet:
                kept._fn = node if len(tensors) == 1 else Pick(node, index)
            fresh.append(kept)
        return tuple(fresh) if isinstance(out, tuple) else fresh[0]


def _edge(x: Any) -> Any:
    if not isinstance(x, Tensor):
        return None
    return x._fn if x._base is None else current_fn(x)
