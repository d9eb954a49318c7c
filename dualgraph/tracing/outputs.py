"""What a traced function returned, with outputs of the graph in place of tensors."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.dims import Dim, SizeNumber, evaluate
from dualgraph_compiler.dims.numbers import number_value
from dualgraph_compiler.graph import Value
from dualgraph_compiler.ops import Op

from .._tensor import Size, Tensor
from . import tree
from .attributes import Held
from .results import holds_traced, renewed

if TYPE_CHECKING:
    from .capture import Capture
    from .traced import Holder


class OutputIndex:
    """Stands in a traced result for output `index` of the graph, as a Python number if `number`.

    No dataclass, so it is a leaf.
    """

    def __init__(self, index: int, number: bool = False) -> None:
        self.index = index
        self.number = number


class Sized:
    """Stands for what depends on the sizes of the arguments: a size, a number, a shape."""

    def __init__(self, what: Any) -> None:
        self.what = what

    def value(self, sizes: Mapping[str, int]) -> Any:
        """What it is for these sizes."""
        if isinstance(self.what, Size):
            return Size(Sized(d).value(sizes) for d in self.what)
        if isinstance(self.what, SizeNumber):
            return number_value(self.what, sizes)
        return evaluate(self.what, sizes) if isinstance(self.what, Dim) else self.what


class Fresh:
    """Stands for an object that the function made: every call gets a copy of its own."""

    def __init__(self, what: Any) -> None:
        self.what = what


class Fill:
    """Called with a leaf of a traced result: what it is in one call."""

    def __init__(self, outputs: Sequence[Tensor], sizes: Mapping[str, int]) -> None:
        self.outputs = outputs
        self.sizes = sizes

    def __call__(self, leaf: Any) -> Any:
        cls = type(leaf)
        if cls is OutputIndex:
            found = self.outputs[leaf.index]
            return found.item() if leaf.number else found
        if cls is Sized:
            return leaf.value(self.sizes)
        return copy.copy(leaf.what) if cls is Fresh else leaf


def described(result: Any) -> Any:
    """A traced result with the outputs' numbers in their place; None where it holds anything else.

    That is, anything but lists, tuples, dicts with names, and constants that are no integers.
    """
    try:
        return _described(result)
    except TypeError:
        return None


def _described(x: Any) -> Any:
    cls = type(x)
    if cls is OutputIndex and not x.number:
        return x.index
    if cls is list or cls is tuple:
        return cls(_described(item) for item in x)
    if cls is dict and all(type(key) is str for key in x):
        return {key: _described(item) for key, item in x.items()}
    if cls not in (bool, float, str, type(None)):
        raise TypeError(cls)
    return x


class Results:
    """Declares outputs for the tensors in results and in changes of Python data.

    `views` are outputs that are (views of) an argument, of state, or of another output; `fns` the
    tape entries of the others; `sized` says whether sizes of the arguments are among the results.
    """

    def __init__(
        self,
        capture: Capture,
        inputs: Sequence[Tensor],
        declare: Callable[[Value, str], int],
    ) -> None:
        self.views: dict[int, tuple[Holder | OutputIndex, tuple[Op, ...]]] = {}
        self.fns: dict[int, Any] = {}
        self.sized = False
        self._capture = capture
        self._declare = declare
        self._argument = {id(t): i for i, t in enumerate(inputs)}
        slots = [s for s in capture.slots.values() if type(s) is Held]
        self._slots = {id(s.tensor): s for s in slots}
        self._known: dict[int, OutputIndex] = {}
        self._kept: list[Tensor] = []  # alive, so that identities stay unique
        self._shared: set[int] = set()

    def take(self, result: Any, labels: Iterable[str]) -> Any:
        """`result` with stand-ins for what differs from call to call."""
        tensors = {id(x): x for _, x in tree.flatten(result) if isinstance(x, Tensor)}
        bases = [t._base.base for t in tensors.values() if t._base is not None]
        times = Counter(map(id, bases))
        self._shared |= {i for i, n in times.items() if n > 1 or i in tensors}
        names = iter(labels)
        return tree.map_leaves(lambda leaf: self._leaf(leaf, next(names)), result, {})

    def _leaf(self, leaf: Any, label: str) -> Any:
        from .convert import refuse_open

        if isinstance(leaf, Tensor):
            return self._tensor(leaf, label)
        if isinstance(leaf, Dim | SizeNumber) or (
            isinstance(leaf, Size) and any(isinstance(d, Dim) for d in leaf)
        ):
            self.sized = True
            return Sized(leaf)
        if type(leaf) in (int, float, bool, str, type(None)):
            return leaf
        refuse_open(leaf)
        if holds_traced(leaf, self._capture.graph):
            raise self._capture.failure(
                f"the compiled function returns a {type(leaf).__name__} that holds tensors "
                "computed in it",
                "Return the tensors in tuples, lists, dicts or dataclasses.",
            )
        watch = self._capture.watch
        if watch is not None and (id(leaf) in watch.made or renewed(leaf) is not leaf):
            outside = {id(x) for seen in watch.seen.values() for x, _ in seen.before.copies}
            return leaf if id(leaf) in outside else Fresh(leaf)
        return leaf

    def _tensor(self, t: Tensor, label: str) -> OutputIndex:
        found = self._known.get(id(t))
        if found is not None:
            return found
        self._kept.append(t)
        capture = self._capture
        slot = self._slots.get(id(t))
        value = capture.value_of(t) if slot is None or slot.value is None else slot.value
        shown = (slot, ()) if slot is not None else self._shown(t)
        index = self._declare(value, label)
        if shown is not None:
            self.views[index] = shown
        elif (fn := capture.edge(t)) is not None:
            self.fns[index] = fn
        self._known[id(t)] = OutputIndex(index, t._weak)
        return self._known[id(t)]

    def _shown(self, t: Tensor) -> tuple[Holder | OutputIndex, tuple[Op, ...]] | None:
        """Of what `t` is a view, and by what ops; None if it is none."""
        concrete = type(t._data) is not Value
        info = t._base
        if info is not None and (
            info.ops is None or not info.recorded or info.base._ver is not t._ver
        ):
            return None
        base, ops = (t, ()) if info is None else (info.base, info.ops)
        if concrete:
            if self._shows_replaced(t):
                return None
            of, _ = self._capture.reads.get(id(t._data), (t, None))
            if of is not t:
                same = "whose memory a result shows"
                self._capture.guard(same, lambda: of._data is t._data, True)
            return t, ()
        if id(base) in self._argument:
            return self._argument[id(base)], ops
        if type(base._data) is not Value:
            return base, ops
        if info is not None and id(base) in self._shared:
            return self._tensor(base, "base"), ops
        return None

    def _shows_replaced(self, t: Tensor) -> bool:
        """Whether `t` is not one that had data assigned, but shows the old or the new data."""
        replaced = self._capture.replaced.values()
        return any(
            t is not of and (t._data is of._data or t._data is data) for of, data, _, _ in replaced
        )
