"""The recorded graph: its entries, hooks on them and on what they save. As ``autograd.graph``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dualgraph_compiler.errors import AutogradError

from .inplace import RemovableHandle, register_hook
from .saved import HookPair, hooked
from .tape import CustomNode, Leaf, Pick
from .tape import Node as _Recorded

if TYPE_CHECKING:
    from .._tensor import Tensor

__all__ = [
    "GradientEdge",
    "Node",
    "allow_mutation_on_saved_tensors",
    "disable_saved_tensors_hooks",
    "get_gradient_edge",
    "increment_version",
    "register_multi_grad_hook",
    "save_on_cpu",
    "saved_tensors_hooks",
]


class _NodeMeta(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _Recorded | CustomNode | Leaf | Pick)


class Node(metaclass=_NodeMeta):
    """What ``tensor.grad_fn`` is: for ``isinstance`` and annotations.

    Entries have `name()`, `next_functions`, `register_hook` and `register_prehook`.
    """


class GradientEdge(NamedTuple):
    """Where a tensor's gradient arrives: an entry, and which of its outputs the tensor is."""

    node: Any
    output_nr: int

    @property
    def entry(self) -> Any:
        """The tape entry."""
        several = getattr(getattr(self.node, "op", None), "n_outputs", 1) > 1
        return Pick(self.node, self.output_nr) if several else self.node


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """The edge of `tensor`, for ``autograd.grad(..., inputs=edge)``.

    Raises:
        RuntimeError: the tensor requires no gradient.
    """
    from .._dispatch import current_fn

    fn = tensor._fn if tensor._base is None else current_fn(tensor)
    if fn is None:
        raise AutogradError(
            "It is not possible to get the gradient edge for a Tensor that does not require "
            "gradients"
        )
    return GradientEdge(fn.node, fn.index) if type(fn) is Pick else GradientEdge(fn, 0)


class saved_tensors_hooks:
    """What is saved for the backward inside is packed, and unpacked when it is needed.

    Args:
        pack_hook: is given each tensor that an operation saves; what it returns is kept instead.
        unpack_hook: is given that, and returns the tensor.
    """

    def __init__(
        self, pack_hook: Callable[[Tensor], Any], unpack_hook: Callable[[Any], Tensor]
    ) -> None:
        self._pair = HookPair(pack_hook, unpack_hook)

    def __enter__(self) -> None:
        if _disabled.message is not None:
            raise RuntimeError(_disabled.message)
        self._entered = hooked(self._pair)
        self._entered.__enter__()

    def __exit__(self, *exception: Any) -> None:
        self._entered.__exit__(*exception)


class save_on_cpu(saved_tensors_hooks):
    """What is saved for the backward inside is kept in host memory, and moved back when needed."""

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        def pack(t: Tensor) -> Any:
            return t.device, t.cpu()

        def unpack(packed: Any) -> Tensor:
            device, t = packed
            return t.to(device)  # type: ignore[no-any-return]

        super().__init__(pack, unpack)


class _Mutations:
    """What :func:`allow_mutation_on_saved_tensors` gives; `clear` is there for PyTorch's sake."""

    def clear(self) -> None:
        """Nothing: copies go with the entries that hold them."""


@contextmanager
def allow_mutation_on_saved_tensors() -> Iterator[_Mutations]:
    """What is saved for the backward inside may be overwritten: copies are saved."""
    with hooked(HookPair(lambda t: t.clone(), lambda t: t, copies=True)):
        yield _Mutations()


class _Disabled(threading.local):
    message: str | None = None


_disabled = _Disabled()


@contextmanager
def disable_saved_tensors_hooks(error_message: str) -> Iterator[None]:
    """Entering :class:`saved_tensors_hooks` inside is an error with this message."""
    before, _disabled.message = _disabled.message, error_message
    try:
        yield
    finally:
        _disabled.message = before


def increment_version(tensor: Tensor | Sequence[Tensor]) -> None:
    """Note that tensors were written to in a way that was not seen."""
    for t in tensor if isinstance(tensor, tuple | list) else (tensor,):
        t._bump_version()


class _Several:
    """Handles removed together."""

    def __init__(self, handles: Sequence[RemovableHandle]) -> None:
        self.handles = tuple(handles)

    def remove(self) -> None:
        """Forget all the hooks."""
        for handle in self.handles:
            handle.remove()

    def __enter__(self) -> _Several:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


def register_multi_grad_hook(
    tensors: Sequence[Tensor],
    fn: Callable[..., None],
    *,
    mode: Literal["all", "any"] = "all",
) -> _Several:
    """Call `fn` once a backward pass has found the gradients of `tensors`.

    Args:
        mode: "all": with the list of gradients, when all of them are there. "any": with the first
            one that is found; again when a gradient of the same tensor arrives.
    """
    if mode not in ("all", "any"):
        raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")
    lock = threading.Lock()
    found: dict[int, Tensor] = {}

    def hook(index: int) -> Callable[[Tensor], None]:
        def call(g: Tensor) -> None:
            with lock:
                if index in found:  # another pass has begun
                    found.clear()
                found[index] = g
                ready = len(found) == (1 if mode == "any" else len(tensors))
                grads = [found.get(i) for i in range(len(tensors))]
            if ready:
                fn(g if mode == "any" else grads)

        return call

    return _Several([register_hook(t, hook(i)) for i, t in enumerate(tensors)])
