"""The tape: what is remembered about an operation so that it can be differentiated.

Every tensor that takes part in differentiation points to the object that produced it:

- :class:`Leaf`   a tensor the user made; gradients end here, in `grad`.
- :class:`Node`   one recorded operation.
- :class:`Pick`   one output of an operation that has several.
- :class:`CustomNode`   an operation that is no op: a custom function, a compiled call, ...

Each has a `seq`, larger than those of everything it was computed from; backward visits in
descending `seq`, which is a reverse topological order without any sorting pass over the graph.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dualgraph_compiler.errors import AutogradError
from dualgraph_compiler.ops import Op
from dualgraph_compiler.ops.eager_steps import Shaped
from dualgraph_compiler.ops.f import zeros_like

if TYPE_CHECKING:
    from dualgraph._tensor import Tensor

_ndarray = np.ndarray
next_seq = itertools.count().__next__
Hook: TypeAlias = "Callable[[Tensor], Tensor | None]"


class EntryName(str):
    """An entry's name; also called, as ``grad_fn.name()``."""

    __slots__ = ()

    def __call__(self) -> str:
        return str(self)


class Leaf:
    """Where gradients of a user's tensor accumulate.

    It outlives ``requires_grad_(False)``, with `active` off: what was recorded before leads here.
    """

    __slots__ = ("__weakref__", "active", "grad", "hooks", "post_hooks", "seq")
    name = EntryName("AccumulateGrad")
    edges: Sequence[Any] = ()
    next_functions: tuple[tuple[Any, int], ...] = ()

    def __init__(self) -> None:
        self.seq = next_seq()
        self.active = True
        self.grad: Tensor | None = None
        self.hooks: dict[int, Hook] | None = None
        self.post_hooks: dict[int, Callable[[Tensor], None]] | None = None

    def register_hook(self, fn: Callable[..., Any]) -> Any:
        """Call ``fn((), (grad,))`` after a gradient has accumulated here."""
        from .entry_hooks import after_leaf

        return after_leaf(self, fn)

    def register_prehook(self, fn: Callable[..., Any]) -> Any:
        """Call ``fn((grad,))`` before a gradient accumulates here; a result replaces it."""
        from .entry_hooks import before

        return before(self, fn)

    @property
    def metadata(self) -> dict[str, Any]:
        """Nothing: for code that looks."""
        return {}


class Node:
    """One recorded operation.

    `edges` are the producers of its operands (None where no gradient is wanted), `inputs` the saved
    operands (an array, or a Shaped), `output` the saved result(s). `cells` are the version cells of
    what was saved and `version` the sum of their counts then: counts only grow, so an equal sum
    means that none has changed. `inputs` is None once a backward pass has used the node up.
    """

    __slots__ = (
        "__weakref__",
        "cells",
        "edges",
        "hooks",
        "inputs",
        "op",
        "output",
        "seq",
        "version",
    )

    op: Op
    edges: Sequence[Any]
    inputs: Sequence[Any] | None
    output: Any
    cells: Sequence[list[int]]
    version: int
    seq: int
    hooks: dict[int, Hook] | None

    @property
    def name(self) -> EntryName:
        return name_of(self.op)

    @property
    def is_used_up(self) -> bool:
        """Whether a backward pass has freed the saved values."""
        return self.inputs is None

    def register_hook(self, fn: Callable[..., Any]) -> Any:
        """Call ``fn(grad_inputs, grad_outputs)`` after the rule; a result replaces the first."""
        from .entry_hooks import after

        return after(self, fn)

    def register_prehook(self, fn: Callable[..., Any]) -> Any:
        """Call ``fn(grad_outputs)`` when they are known; a result replaces them."""
        from .entry_hooks import before

        return before(self, fn)

    @property
    def metadata(self) -> dict[str, Any]:
        """What anomaly mode knows: the call stack in which the entry was recorded."""
        from .anomaly_mode import metadata

        return metadata(self)

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """The producers of the operands, as PyTorch shows them."""
        return tuple((e.node, e.index) if type(e) is Pick else (e, 0) for e in self.edges)

    def __repr__(self) -> str:
        return f"<{self.name} object at {id(self):#x}>"

    def stale(self) -> AutogradError:
        """The error for a saved value that was overwritten since."""
        now = sum(c[0] for c in self.cells)
        return AutogradError(
            "one of the variables needed for gradient computation has been modified by an inplace "
            f"operation: the values saved for {self.name} are at version {now}; expected version "
            f"{self.version} instead. Clone the tensor before the in-place operation."
        )


def used_up(what: str) -> AutogradError:
    """The error for a tape entry whose saved values are gone."""
    return AutogradError(
        f"Trying to backward through the graph a second time: the values saved for {what} are "
        "freed after the first. Specify retain_graph=True if you need to backward twice or access "
        "saved values after calling backward."
    )


def name_of(op: Any) -> EntryName:
    """The name of the entries of `op`."""
    return EntryName("".join(p.capitalize() for p in op.name.split("_")) + "Backward0")


class Pick:
    """Output `index` of a node that has several. Picks of one output are equal.

    Hooks belong to the output, so they are kept with the node: ``node.hooks[index]``.
    """

    __slots__ = ("__weakref__", "index", "node", "seq")

    def __init__(self, node: Any, index: int) -> None:
        self.node = node
        self.index = index
        # After the node, before anything computed from the output, and no two alike.
        self.seq = node.seq + (index + 1) / (index + 2)

    def __eq__(self, other: object) -> bool:
        return type(other) is Pick and other.node is self.node and other.index == self.index

    def __hash__(self) -> int:
        return hash((id(self.node), self.index))

    @property
    def hooks(self) -> dict[int, Hook] | None:
        found = self.node.hooks
        return None if found is None else found.get(self.index)

    @hooks.setter
    def hooks(self, value: dict[int, Hook]) -> None:
        if self.node.hooks is None:
            self.node.hooks = {}
        self.node.hooks[self.index] = value

    @property
    def name(self) -> EntryName:
        return self.node.name  # type: ignore[no-any-return]

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """The producers of the operands, as PyTorch shows them."""
        return self.node.next_functions  # type: ignore[no-any-return]

    @property
    def metadata(self) -> dict[str, Any]:
        """As the node's."""
        return self.node.metadata  # type: ignore[no-any-return]

    def register_hook(self, fn: Callable[..., Any]) -> Any:
        """As the node's."""
        return self.node.register_hook(fn)

    def register_prehook(self, fn: Callable[..., Any]) -> Any:
        """As the node's."""
        return self.node.register_prehook(fn)


class CustomNode:
    """A tape entry that is no op; a subclass computes the operands' gradients in `run`."""

    __slots__ = ("__weakref__", "edges", "hooks", "seq")
    name = ""
    n_outputs = 1

    def __init__(self, edges: Sequence[Any]) -> None:
        self.edges = edges
        self.seq = next_seq()
        self.hooks: dict[int, Any] | None = None

    @property
    def op(self) -> CustomNode:
        """Says how many outputs there are, as a Node's op does."""
        return self

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """The producers of the operands, as PyTorch shows them."""
        return tuple((e.node, e.index) if type(e) is Pick else (e, 0) for e in self.edges)

    register_hook = Node.register_hook
    register_prehook = Node.register_prehook
    metadata = Node.metadata

    def run(self, g: Any, create_graph: bool) -> Sequence[Any]:
        """The operands' gradients, given the output's (a list of them where there are several)."""
        raise NotImplementedError

    def run_towards(self, g: Any, create_graph: bool, useful: Collection[Any] | None) -> Any:
        """`run`, where only gradients of producers in `useful` are wanted (None: all are)."""
        return self.run(g, create_graph)

    @property
    def is_used_up(self) -> bool:
        """Whether `run` cannot be called again, since `release` was."""
        return False

    def release(self) -> None:
        """Forget what is needed for `run` only: a backward pass has used the entry up."""


class Overwritten(CustomNode):
    """A tensor was overwritten with values off the tape: it stays on the tape, with gradient 0."""

    name = "OverwriteBackward0"

    def run(self, g: Any, create_graph: bool) -> Sequence[Any]:
        """Zeros."""
        return (lambda: zeros_like(g),)


class Regions(threading.local):
    """Who in this thread must see every entry that is recorded; see :mod:`.recompute`."""

    seers: Sequence[Any] = ()


regions = Regions()


class Watchers:
    """How many threads have seers: while zero, recording looks no further."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


watchers = Watchers()


def seen(entry: Any) -> Any:
    """The tape entry that takes the place of a new one."""
    for seer in reversed(regions.seers):
        entry = seer.see(entry)
    return entry


# A value of at most this many bytes is kept whole where its shape would do: cheaper than a Shaped.
_SMALL = 1024


def record(
    op: Op,
    edges: Sequence[Any],
    arrays: Sequence[Any],
    output: Any,
    cells: Sequence[list[int]],
    output_cell: list[int] | None,
) -> Node:
    """A tape node for `op` applied to `arrays`, whose producers are `edges`.

    `cells` are the operands' version cells; `output` is the result array (or tuple of arrays), with
    its version cell `output_cell`.
    """
    node = Node()
    node.op = op
    node.seq = next_seq()
    node.edges = edges
    node.hooks = None
    version = 0
    if op.saves_none:
        for a in arrays:
            if type(a) is not _ndarray or a.nbytes > _SMALL:
                arrays = [*map(_shape_of, arrays)]
                break
        watched: Sequence[list[int]] = ()
    else:
        if op.is_bilinear and (edges[0] is None or edges[1] is None):
            arrays, cells = _halved(edges, arrays, cells)
        if not op.saves_all:
            arrays, cells = _save(op, arrays, cells)
        watched = cells
        for cell in cells:
            version += cell[0]
    node.inputs = arrays
    if op.saves_output:
        node.output = output
        if output_cell is not None:
            watched = (*watched, output_cell)
            version += output_cell[0]
    elif type(output) is tuple:
        node.output = tuple(Shaped(x.shape, x.dtype) for x in output)
    else:
        node.output = None
    node.cells = watched
    node.version = version
    return seen(node) if watchers.count else node


def _shape_of(array: Any) -> Any:
    """What is kept of an operand whose values are not needed."""
    return (
        array
        if type(array) is _ndarray and array.nbytes <= _SMALL
        else Shaped(array.shape, array.dtype)
    )


# Stands for the version cell of an operand whose values are not needed.
_UNWATCHED = [0]


def _halved(
    edges: Sequence[Any], arrays: Sequence[Any], cells: Sequence[list[int]]
) -> tuple[list[Any], list[list[int]]]:
    """What a bilinear op saves where one of its two factors takes no gradient."""
    arrays, cells = list(arrays), list(cells)
    for own, other in ((0, 1), (1, 0)):
        if edges[other] is None:
            arrays[own] = _shape_of(arrays[own])
            cells[own] = _UNWATCHED
    return arrays, cells


def _save(
    op: Op, arrays: Sequence[Any], cells: Sequence[list[int]]
) -> tuple[list[Any], list[list[int]]]:
    """What of the operands is kept, and the version cells of what is kept with its values."""
    flags = op.saves_inputs[: len(arrays)]
    flags += (op.saves_rest,) * (len(arrays) - len(flags))
    inputs: list[Any] = []
    watched: list[list[int]] = []
    for array, cell, saved in zip(arrays, cells, flags, strict=True):
        if saved:
            inputs.append(array)
            watched.append(cell)
        else:
            inputs.append(_shape_of(array))
    return inputs, watched
