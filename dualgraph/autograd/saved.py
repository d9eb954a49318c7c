"""Hooks on what the tape saves: packed when an operation is recorded, unpacked when it is needed.

While hooks are set, each entry that saves values is replaced by a :class:`Packed`, which keeps its
place on the tape and, instead of the values, what the hook made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from dualgraph_compiler.ops.eager_steps import Shaped

from .tape import CustomNode, Node, name_of, regions, used_up, watchers

if TYPE_CHECKING:
    from .._tensor import Tensor


class HookPair(NamedTuple):
    """See ``autograd.graph.saved_tensors_hooks``."""

    pack: Callable[[Tensor], Any]
    unpack: Callable[[Any], Tensor]
    copies: bool = False  # whether what is packed does not mind writes to what was saved


class _Seer:
    def __init__(self, pair: HookPair) -> None:
        self.pair = pair

    def see(self, entry: Any) -> Any:
        """What takes the entry's place."""
        if type(entry) is Node and entry.cells:
            return Packed(entry, self.pair)
        return entry


@contextmanager
def hooked(pair: HookPair) -> Iterator[None]:
    """Hooks on what is saved inside, in this thread; inner ones replace outer ones."""
    before = regions.seers
    regions.seers = (*(s for s in before if not isinstance(s, _Seer)), _Seer(pair))
    watchers.count += 1
    try:
        yield
    finally:
        watchers.count -= 1
        regions.seers = before


def current_hooks() -> HookPair | None:
    """The hooks that are set in this thread."""
    return next((s.pair for s in reversed(regions.seers) if isinstance(s, _Seer)), None)


def pack(pair: HookPair, data: Any) -> Any:
    """What the hook makes of saved data."""
    from .._dispatch import make
    from .grad_mode import no_grad

    with no_grad():
        return pair.pack(make(data))


def unpack(pair: HookPair, packed: Any) -> Any:
    """The data again.

    Raises:
        TypeError: the hook returned no tensor.
    """
    from .._tensor import Tensor
    from .grad_mode import no_grad

    with no_grad():
        found = pair.unpack(packed)
    if not isinstance(found, Tensor):
        raise TypeError(
            f"Output of saved tensor unpack_hook expected to be a Tensor but got result of type "
            f"{type(found)}"
        )
    return found._data


class _Kept(NamedTuple):
    """Something packed, as opposed to what was kept as it is."""

    packed: Any


class Packed(CustomNode):
    """The entry of an operation whose saved values went through hooks."""

    def __init__(self, entry: Node, pair: HookPair) -> None:
        self.edges = entry.edges
        self.seq = entry.seq
        self.hooks = None
        self._op = entry.op
        self._pair = pair
        self.n_outputs = entry.op.n_outputs
        self.cells: Sequence[list[int]] | None = () if pair.copies else entry.cells
        self._version = 0 if pair.copies else entry.version
        flags = entry.op.saves_inputs[: len(entry.inputs or ())]
        flags += (entry.op.saves_rest,) * (len(entry.inputs or ()) - len(flags))
        self._inputs = [
            self._pack(x) if saved and type(x) is not Shaped else x
            for x, saved in zip(entry.inputs or (), flags, strict=True)
        ]
        self._output = self._packed_output(entry)

    def _pack(self, x: Any) -> _Kept:
        return _Kept(pack(self._pair, x))

    def _packed_output(self, entry: Node) -> Any:
        if not entry.op.saves_output:
            return entry.output
        if type(entry.output) is tuple:
            return tuple(map(self._pack, entry.output))
        return self._pack(entry.output)

    def _unpacked(self, x: Any) -> Any:
        if type(x) is _Kept:
            return unpack(self._pair, x.packed)
        return tuple(map(self._unpacked, x)) if type(x) is tuple else x

    @property
    def name(self) -> str:  # type: ignore[override]
        """As the entry's whose place this has."""
        return name_of(self._op)

    @property
    def op(self) -> Any:
        """The operation."""
        return self._op

    def keep_operands(self, cell: list[int]) -> None:
        """An in-place operation does not make its own operands stale."""
        self.cells = [[cell[0]] if c is cell else c for c in self.cells or ()]

    @property
    def is_used_up(self) -> bool:
        """Whether a backward pass has released it."""
        return self.cells is None

    def run(self, g: Any, create_graph: bool) -> Sequence[Any]:
        """See :class:`CustomNode`."""
        return self.run_towards(g, create_graph, None)

    def run_towards(
        self, g: Any, create_graph: bool, useful: Collection[Any] | None
    ) -> Sequence[Any]:
        """The operands' gradients, from values unpacked."""
        from .engine import node_gradients

        if self.cells is None:
            raise used_up(self.name)
        entry = Node.__new__(Node)
        entry.op, entry.edges, entry.seq, entry.hooks = self._op, self.edges, self.seq, None
        entry.cells, entry.version = self.cells, self._version
        entry.inputs = [self._unpacked(x) for x in self._inputs]
        entry.output = self._unpacked(self._output)
        found: Sequence[Any] = node_gradients(entry, g, create_graph, self)
        return found

    def release(self) -> None:
        """Forget what was packed."""
        self.cells = None
        self._inputs, self._output = [], None
