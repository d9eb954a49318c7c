"""Whole models as single graphs, each for one kind of call.

A kind of call is what the element types and shapes of all inputs are, and the elements of those few
small ones that ranks, sizes or branches hang on. All of it is compared at every call: a program is
for its kind alone, and what there is none for runs in steps.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dualgraph_compiler.dtypes import as_dtype
from dualgraph_compiler.errors import DualGraphError, NeedsValue
from dualgraph_compiler.onnx.stepwise import Plan, WholeGraph, Words, import_whole
from dualgraph_compiler.onnx.stepwise.plan import is_setting
from dualgraph_compiler.types import TensorType

if TYPE_CHECKING:
    from .walker import Runnable, Walker

_MOST = 16  # programs that are kept, fewer where weights are large: each packs its own
_MOST_BYTES = 1 << 29
_AT_ONCE = 4  # kinds that get a program when they are first met, the others when met again
_MOST_MET = 64  # kinds that are remembered
_MOST_TENSORS = 256  # of a call: lists may be of any length
_IN_VAIN = 3  # kinds that cannot have a program, for each that has, before no more are tried
_UNUSED = 256  # calls without a program before another takes its place: kinds may come in turns

# Types and shapes of the inputs, and then the elements of some.
Shaped: TypeAlias = tuple[Any, ...]
Kind: TypeAlias = tuple[Shaped, tuple[bytes, ...]]


@dataclass(frozen=True, slots=True)
class Special:
    """A program for one kind of call.

    `known` are the positions of the inputs whose elements are part of it. `fed` are those of the
    graph's inputs among the tensors of a call, None for all in order. `outputs` is what
    :class:`~dualgraph_compiler.onnx.stepwise.WholeGraph` has, None where the graph's outputs are
    the model's. `about` says which kind, and `array` gives the elements of a tensor.
    """

    runnable: Runnable
    known: tuple[int, ...]
    fed: tuple[int, ...] | None
    outputs: list[Any] | None
    about: str
    array: Callable[[Any], Any]

    def run(self, values: Sequence[Any]) -> list[Any]:
        """The model's outputs, for the values of its inputs."""
        if self.fed is not None:
            tensors = list(_tensors(values))
            values = [tensors[i] for i in self.fed]
        found = self.runnable.run(values)
        if self.outputs is None:
            return list(found)
        return [_arranged(place, found, self.array) for place in self.outputs]


class Specialized:
    """The programs of a model, made as calls come. Safe to call from several threads.

    Args:
        walker: says what tensors are, and makes graphs ready to run.
        plan: of the model.
        weight_bytes: the size of its weights.
    """

    def __init__(self, walker: Walker, plan: Plan, weight_bytes: int) -> None:
        self._walker = walker
        self._plan = plan
        self._most = max(2, min(_MOST, _MOST_BYTES // max(weight_bytes, 1)))
        self._known: dict[Shaped, tuple[int, ...]] = {}  # inputs whose elements count, by position
        self._programs: OrderedDict[Kind, Special] = OrderedDict()
        self._met: OrderedDict[Kind, bool] = OrderedDict()  # whether it cannot have a program
        self._in_vain = self._made = self._calls = 0
        self._used: dict[
            Kind, int
        ] = {}  # the last call of each program, as far as it was looked up
        self._lock = threading.Lock()

    @property
    def programs(self) -> list[Special]:
        """Those that are kept, that used last at the end."""
        with self._lock:
            return list(self._programs.values())

    def find(self, values: Sequence[Any]) -> Special | None:
        """The program for such values of the inputs; None where they are for the steps."""
        if not self._programs and self._is_vain():
            return None
        shaped = tuple([_kind(v) for v in values])
        known = self._known.get(shaped, ())
        array = self._walker.array
        kind = shaped, tuple([array(values[i]).tobytes() for i in known])
        found = self._programs.get(kind)
        if found is None:
            return self._make(kind, values) if self._is_due(kind) else None
        with self._lock:
            self._calls += 1
            if kind in self._programs:
                self._programs.move_to_end(kind)
                self._used[kind] = self._calls
        return found

    # -- making -----------------------------------------------------------------------------------

    def _is_vain(self) -> bool:
        """Whether it is hardly ever that a kind can have a program."""
        return self._in_vain >= _IN_VAIN * (1 + self._made)

    def _is_due(self, kind: Kind) -> bool:
        """Whether a program is to be made now for a kind that has none."""
        with self._lock:
            self._calls += 1
            before = self._met.get(kind)
            self._met[kind] = bool(before)
            self._met.move_to_end(kind)
            if len(self._met) > _MOST_MET:
                (shaped, _), _ = self._met.popitem(last=False)
                if not any(other == shaped for other, _ in (*self._met, *self._programs)):
                    self._known.pop(shaped, None)
            oldest = next(iter(self._programs), kind)
            recent = self._calls - self._used.get(oldest, 0) < _UNUSED
            if self._is_vain() or (recent and len(self._programs) >= self._most):
                return False
            tried = self._made + self._in_vain
            return before is False or (before is None and tried < _AT_ONCE)

    def _make(self, kind: Kind, values: Sequence[Any]) -> Special | None:
        try:
            made, known = self._imported(kind[0], values)
            special = self._special(made, values, known)
        except (DualGraphError, TypeError, ValueError, RecursionError):
            # In steps it may run; if not, that is where errors tell of the node.
            with self._lock:
                self._met[kind] = True
                self._in_vain += 1
            return None
        array = self._walker.array
        kind = kind[0], tuple([array(values[i]).tobytes() for i in known])
        with self._lock:
            self._made += 1
            self._known[kind[0]] = known
            found = self._programs.setdefault(kind, special)
            self._used[kind] = self._calls
            if len(self._programs) > self._most:
                oldest, _ = self._programs.popitem(last=False)
                self._used.pop(oldest, None)
        return found

    def _imported(
        self, shaped: Shaped, values: Sequence[Any]
    ) -> tuple[WholeGraph, tuple[int, ...]]:
        """A graph, and the positions of the inputs whose elements are part of it."""
        if sum(1 for _ in _tensors(values)) > _MOST_TENSORS:
            raise ValueError("too many tensors")
        walker, plan = self._walker, self._plan
        names = walker.inputs.names
        at = {name: i for i, name in enumerate(names)}
        askable = {
            n for n, v in zip(names, values, strict=True) if _is_tensor(v) and self._is_small(v)
        }
        known = set(self._known.get(shaped, ()))
        while True:
            given = {
                n: walker.array(v) if i in known else _types(v)
                for i, (n, v) in enumerate(zip(names, values, strict=True))
            }
            try:
                made = import_whole(walker.file, plan, given, askable, walker.weights)
                return made, tuple(sorted(known))
            except NeedsValue as error:
                tellers = {at[n] for n in error.names or () if n in at}
                if error.sizes or tellers <= known or not {names[i] for i in tellers} <= askable:
                    raise
                known |= tellers

    def _is_small(self, tensor: Any) -> bool:
        """Whether a tensor's elements may be part of a kind; those of data come but once."""
        array = self._walker.array(tensor)
        return is_setting(array) and array.dtype.kind in "iub"

    def _special(self, made: WholeGraph, values: Sequence[Any], known: tuple[int, ...]) -> Special:
        owners = [i for i, v in enumerate(values) for _ in _tensors([v])]
        fed = tuple([k for k, i in enumerate(owners) if i not in known])
        simple = not known and all(_is_tensor(v) for v in values)
        plain = made.outputs == list(range(len(made.graph.outputs)))
        about = [
            f"{name} = {self._walker.array(v).tolist()}" if i in known else f"{name}: {_types(v)}"
            for i, (name, v) in enumerate(zip(self._walker.inputs.names, values, strict=True))
        ]
        return Special(
            self._walker.make(made.graph),
            known,
            None if simple else fed,
            None if plain else made.outputs,
            ", ".join(about),
            self._walker.array,
        )


# -- values ---------------------------------------------------------------------------------------


def _kind(value: Any) -> Any:
    """What of a value is the same for all calls of a kind."""
    if isinstance(value, list):
        return tuple([_kind(v) for v in value])
    return None if value is None else (value.dtype, value.shape)


def _types(value: Any) -> Any:
    if isinstance(value, list):
        return [_types(v) for v in value]
    return None if value is None else TensorType(as_dtype(value.dtype), tuple(value.shape))


def _is_tensor(value: Any) -> bool:
    return value is not None and not isinstance(value, list)


def _tensors(values: Iterable[Any]) -> Iterator[Any]:
    """The tensors of a call, those in lists as well."""
    for value in values:
        if isinstance(value, list):
            yield from _tensors(value)
        elif value is not None:
            yield value


def _arranged(place: Any, found: Sequence[Any], array: Callable[[Any], Any]) -> Any:
    """An output of the model, from those of a graph."""
    if isinstance(place, list):
        return [_arranged(p, found, array) for p in place]
    if isinstance(place, Words):
        return np.asarray(place.words[array(found[place.at])], dtype=object)
    return None if place is None else found[place]
