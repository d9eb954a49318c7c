"""Custom differentiable functions: ``autograd.Function`` as in PyTorch."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dualgraph_compiler.errors import AutogradError, ShapeError
from dualgraph_compiler.ops.base import shape_text
from dualgraph_compiler.ops.f import unbroadcast

from .._dispatch import current_fn, make, symbolic
from .._promote import cast
from .._tensor import Tensor
from ..transforms.custom import carried_out, is_wrapped
from .grad_mode import is_grad_enabled, local, no_grad
from .saved import HookPair, current_hooks, pack, unpack
from .tape import CustomNode, EntryName, Leaf, Pick, seen, watchers


class FunctionContext:
    """What `forward` leaves for `backward`: ``ctx.save_for_backward(x)``, or any attribute."""

    needs_input_grad: tuple[bool, ...] = ()

    def __init__(self) -> None:
        self._saved: tuple[Tensor | None, ...] | None = ()
        self._versions: list[int | None] = []
        self._outputs: dict[int, Any] = {}  # saved tensors that are outputs, by position: their fn
        self._packed: list[_PackedTensor | None] | None = None
        self._dirty: tuple[Tensor, ...] = ()
        self._non_differentiable: tuple[Tensor, ...] = ()
        self.materialize_grads = True

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for `backward`, where `saved_tensors` gives them back, versions checked."""
        for i, t in enumerate(tensors):
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(
                    "save_for_backward can only save tensors and None, got "
                    f"{type(t).__name__} at position {i}; keep anything else as an attribute of ctx"
                )
        self._saved = tensors

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors given to `save_for_backward`.

        Raises:
            AutogradError: one was modified in place since, or a backward pass has released them.
        """
        if self._saved is None:
            raise AutogradError(
                "Trying to backward through the graph a second time: the tensors saved by a custom "
                "function are freed after the first. Specify retain_graph=True if you need to "
                "backward twice or access saved tensors after calling backward."
            )
        for t, version in zip(self._saved, self._versions, strict=False):
            if t is not None and t._ver[0] != version:
                raise AutogradError(
                    "one of the variables needed for gradient computation has been modified by an "
                    f"inplace operation: a tensor of shape {list(t.shape)} is at version "
                    f"{t._ver[0]}; expected version {version} instead."
                )
        if self._packed is not None:
            return tuple(p if p is None else p.tensor() for p in self._packed)
        if not self._outputs:
            return self._saved
        back = list(self._saved)
        for i, fn in self._outputs.items():
            t = self._saved[i]
            assert t is not None
            back[i] = make(t._data, fn())
            back[i]._ver = t._ver  # type: ignore[union-attr]
        return tuple(back)

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Declare inputs that `forward` modified in place."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Declare outputs that have no gradient."""
        self._non_differentiable = tensors

    def save_for_forward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for `jvp`, where `saved_tensors` gives them, too."""
        if not self._saved:
            self.save_for_backward(*tensors)

    def set_materialize_grads(self, value: bool) -> None:
        """Whether absent output gradients reach `backward` as zeros (the default) or None."""
        self.materialize_grads = value

    def _seal(self, outputs: Mapping[int, Any]) -> None:
        """Note versions after `forward`; `outputs` are the results' tape entries by ``id``.

        A saved output is kept without its place on the tape, which would make a reference cycle.
        """
        saved = list(self._saved or ())
        self._versions = [None if t is None else t._ver[0] for t in saved]
        for i, t in enumerate(saved):
            if t is not None and id(t) in outputs:
                self._outputs[i] = outputs[id(t)]
                saved[i] = t.detach()
        hooks = current_hooks() if watchers.count else None
        if hooks is not None:
            producers = [self._outputs.get(i, lambda: None) for i in range(len(saved))]
            self._packed = [
                t if t is None else _PackedTensor(hooks, t, producer)
                for t, producer in zip(saved, producers, strict=True)
            ]
            saved, self._versions = [], []
        self._saved = tuple(saved)


class _PackedTensor:
    """A saved tensor that went through a hook, and its place on the tape."""

    def __init__(self, hooks: HookPair, t: Tensor, producer: Callable[[], Any]) -> None:
        self._hooks = hooks
        self._packed = pack(hooks, t._data)
        self._fn = t._fn if t._base is None else current_fn(t)
        self._producer = producer

    def tensor(self) -> Tensor:
        """The tensor again."""
        fn = self._fn if self._fn is not None else self._producer()
        return make(unpack(self._hooks, self._packed), fn)


class FunctionNode(CustomNode):
    """The tape entry of one call of a Function; the engine calls `run`."""

    def __init__(
        self,
        function: type[Function],
        ctx: FunctionContext,
        inputs: Sequence[Any],
        edges: Sequence[Any],
        n_outputs: int,
    ) -> None:
        super().__init__(edges)
        self.function = function
        self.ctx = ctx
        self.n_outputs = n_outputs
        self.shapes: list[Any] = []  # of the outputs, for absent gradients
        self.types = [t._type() if isinstance(t, Tensor) else None for t in inputs]

    @property
    def name(self) -> str:  # type: ignore[override]
        return EntryName(f"{self.function.__name__}Backward")

    def run(self, g: Any, create_graph: bool) -> list[Any]:
        """The gradients of the inputs, from the user's `backward`.

        Raises:
            AutogradError, ShapeError: their number or a shape is not that of the inputs.
        """
        gs = g if isinstance(g, list) else [g]
        gs = [x if isinstance(x, Tensor) or x is None else make(_array(x)) for x in gs]
        if self.ctx.materialize_grads:
            gs = [_zeros(like) if x is None else x for x, like in zip(gs, self.shapes, strict=True)]
        found = self.function.backward(self.ctx, *gs)
        found = tuple(found) if isinstance(found, tuple | list) else (found,)
        expected = len(self.edges)
        if len(found) < expected or any(x is not None for x in found[expected:]):
            raise AutogradError(
                f"function {self.name} returned an incorrect number of gradients (expected "
                f"{expected}, got {len(found)})"
            )
        checked = [self._checked(i, x) for i, x in enumerate(found[:expected])]
        return [x if x is None or create_graph else x._data for x in checked]

    def _checked(self, i: int, g: Any) -> Tensor | None:
        """Gradient `i` in the shape and dtype of input `i`; None where it leads nowhere."""
        if g is None:
            return None
        if not isinstance(g, Tensor):
            raise TypeError(
                f"function {self.name}: expected a Tensor or None as gradient {i}, got "
                f"{type(g).__name__}"
            )
        wanted = self.types[i]
        if wanted is None:
            raise AutogradError(
                f"function {self.name} returned a gradient different from None at position "
                f"{i + 1}, but the corresponding forward input was not a Tensor"
            )
        if self.edges[i] is None:
            return None
        if tuple(g.shape) != tuple(wanted.shape):
            try:
                g = unbroadcast(g, wanted.shape)
            except Exception:
                raise ShapeError(
                    f"function {self.name} returned an invalid gradient at index {i} - got "
                    f"{shape_text(g.shape)} but expected shape compatible with "
                    f"{shape_text(wanted.shape)}"
                ) from None
        return cast(g, wanted.dtype)

    @property
    def is_used_up(self) -> bool:
        """Whether a backward pass has freed the saved tensors."""
        return self.ctx._saved is None

    def release(self) -> None:
        """Forget the saved tensors."""
        self.ctx._saved = self.ctx._packed = None


def _array(x: Any) -> Any:
    return np.asarray(x) if isinstance(x, np.generic) else x  # 0-d results are scalars in NumPy


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

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """Compute the results' tangents from the arguments' (None: zero), for forward mode."""
        raise NotImplementedError("You must implement the jvp function for custom Function.")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(
            "Legacy autograd function with non-static forward method is deprecated. Please use "
            "new-style autograd function with static forward method."
        )

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Call `forward`, and record the call if an argument requires a gradient.

        `forward` is given the context first, or, where the class defines
        ``setup_context(ctx, inputs, output)``, the arguments alone.
        """
        ctx = FunctionContext()
        edges = [_edge(a) for a in args]
        ctx.needs_input_grad = tuple(e is not None for e in edges)
        wrapped = symbolic.open_graphs and is_wrapped(args)
        if wrapped and not (local.grad and any(ctx.needs_input_grad)):
            return carried_out(cls, args)
        with no_grad():
            out = run_forward(cls, ctx, args)
        if wrapped:
            _replace(out, carried_out(cls, args))
        if not (local.grad and any(ctx.needs_input_grad)):
            ctx._seal({})
            return out
        outputs = out if isinstance(out, tuple) else (out,)
        tensors = [o for o in outputs if isinstance(o, Tensor)]
        node = FunctionNode(cls, ctx, args, edges, len(tensors))
        node.shapes = [t.detach() for t in tensors]
        if watchers.count:
            node = seen(node)
        producers: dict[int, Any] = {}
        fresh: list[Any] = []
        for o in outputs:
            if isinstance(o, Tensor):
                index = next(i for i, t in enumerate(tensors) if t is o)
                o, fn = _placed(o, ctx, args, node, index)
                if fn is not None:
                    producers[id(tensors[index])] = fn
            fresh.append(o)
        ctx._seal(producers)
        return tuple(fresh) if isinstance(out, tuple) else fresh[0]


def run_forward(cls: type[Function], ctx: FunctionContext, args: Sequence[Any]) -> Any:
    """The result of the user's `forward`; `ctx` holds what it leaves."""
    setup = getattr(cls, "setup_context", None)
    if setup is None:
        return cls.forward(ctx, *args)
    out = cls.forward(*args)
    setup(ctx, tuple(args), out)
    return out


def _replace(out: Any, found: Any) -> None:
    """Let tensors computed by a `forward` stand for what the rules of a transform give."""
    several = isinstance(out, tuple)
    for y, new in zip(out if several else (out,), found if several else (found,), strict=True):
        if isinstance(y, Tensor):
            y._data = new._data


def _placed(
    out: Tensor, ctx: FunctionContext, args: Sequence[Any], node: FunctionNode, index: int
) -> tuple[Tensor, Any]:
    """Output `index` with its place on the tape, and a function that gives that place."""
    if any(out is t for t in ctx._dirty):
        base = out if out._base is None else out._base.base
        if type(out._fn) is Leaf or type(base._fn) is Leaf:
            raise AutogradError(
                "a leaf Variable that requires grad has been used in an in-place operation."
            )
        if base is not out:
            raise AutogradError(
                f"{node.name}: mark_dirty was given a view; return a new tensor instead, or clone "
                "the argument first"
            )
    elif any(out is a for a in args):
        # An input returned as it is must not lose its own place on the tape.
        out = out.detach()
    if any(out is t for t in ctx._non_differentiable) or not out.dtype.is_differentiable:
        return out, None
    several = node.n_outputs > 1
    out._fn = Pick(node, index) if several else node
    weak = weakref.ref(node)

    def producer() -> Any:
        alive = weak()
        return Pick(alive, index) if several else alive

    return out, producer


def _edge(x: Any) -> Any:
    if not isinstance(x, Tensor):
        return None
    return x._fn if x._base is None else current_fn(x)


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a `backward` that must not be differentiated in turn: doing so is an error."""

    @functools.wraps(backward)
    def wrapped(ctx: Any, *grads: Any) -> Any:
        with no_grad():
            found = backward(ctx, *grads)
        needs = any(isinstance(g, Tensor) and g.requires_grad for g in grads)
        if not (is_grad_enabled() and (needs or any(ctx.needs_input_grad))):
            return found
        several = found if isinstance(found, tuple) else (found,)
        marked = []
        for g in several:
            if isinstance(g, Tensor) and g.dtype.is_differentiable:
                g = make(g._data, _Once(()))
            marked.append(g)
        return tuple(marked) if isinstance(found, tuple) else marked[0]

    return wrapped


class _Once(CustomNode):
    """Where a second derivative would go on that a function does not have."""

    name = "OnceDifferentiable"

    def run(self, g: Any, create_graph: bool) -> Sequence[Any]:
        """Refuse."""
        raise AutogradError(
            "trying to differentiate twice a function that was marked with @once_differentiable"
        )


FunctionCtx = FunctionContext  # as PyTorch calls it
