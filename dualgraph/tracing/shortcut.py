"""Calls like the one before, answered without Python code: what the launcher is told of them.

A shortcut holds all that must be as it was (the arguments' kinds, counts of changes, versions of
state that was folded in) and the compiled program that then computes the result
(``dualgraph_runtime/native/tensors.c``). Whatever is not as it was sends a call the general way,
which may find that the call is still the same, and makes a new shortcut.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from .. import _changes
from .._dispatch import ViewInfo, captures, current_fn
from .._tensor import Tensor
from ..autograd.grad_mode import local
from ..autograd.tape import Leaf, Pick, next_seq, watchers
from .arguments import KEYED_BY_VALUE

if TYPE_CHECKING:
    from .cache import Cached
    from .entry import Entry

MOST = 4  # shortcuts of one function: each is tried in turn

_T = TypeVar("_T", bound=type)
_callable: list[type] = []
_connected: list[Any] = []


def has_shortcuts(cls: _T) -> _T:
    """Let calls of objects of a class try what is in their slot ``_shortcuts`` first.

    That begins when there is a launcher; until then, and without one, they just are slower.
    """
    _callable.append(cls)
    return cls


def connect(extension: Any) -> None:
    """Tell the launcher, or None where there is none, what tensors and tape are made of."""
    from .compiled_node import CompiledNode

    if extension is None or extension in _connected:
        return
    _connected.append(extension)
    extension.use(Tensor, ViewInfo, Leaf, Pick, CompiledNode, next_seq, local, captures)
    for cls in _callable:
        cls.__call__ = extension.Caller(cls, "_shortcuts")  # type: ignore[method-assign]


def is_current(shortcut: Any) -> bool:
    """Whether a shortcut is as good as a new one: nothing was noted, its frame has room enough."""
    return shortcut.is_current() and shortcut.keeps.executable.frame is shortcut.frame


def shortcut_of(cached: Cached, args: Sequence[Any]) -> Any:
    """A shortcut for calls like one with these arguments, which was just made the general way.

    None where there can be none, or none yet.
    """
    entry, guards, pattern = cached.entry, cached.guards, cached.pattern
    if entry is None or not (pattern.is_fixed or pattern.is_free):
        return None
    try:
        arguments = _like(tuple(args), set())[1]
    except TypeError:
        return None
    program = entry.program_of_shortcut()
    native = None if program is None else program.native
    if program is None or native is None:
        return None
    # Read before what they count is looked at.
    counts = [(c, c.count) for c in (_changes.modules, _changes.tensors, _changes.memory)]
    if not guards.are_at(counts[0][1], counts[1][1]):
        return None
    found = native.shortcut([t._data for t in program.params])
    known = [*counts, (watchers, 0)]
    state = entry.folded_state
    if state is not None:
        if state.count != (counts[1][1], counts[2][1]) or state.cells != state.versions:
            return None
        known += [(cell, cell[0]) for cell in state.cells]
    if found is None or watchers.count:
        return None
    extension, frame, params = found
    after, node, taped = _tape_of(entry)
    return extension.Shortcut(
        frame,
        native,
        arguments,
        params,
        tuple(known),
        local.grad,
        guards.always,
        after,
        node,
        taped,
        entry.n_outputs,
        entry.n_results,
        not entry.is_flat,
        entry.nested,
    )


def _like(x: Any, met: set[int]) -> tuple[Any, Any]:
    """What an argument must be: that very object, a tensor of this class and producer, or such in a
    list or tuple. Those in `met` have occurred before.

    Raises:
        TypeError: the launcher does not know such arguments.
    """
    cls = type(x)
    if cls in KEYED_BY_VALUE:
        return None, x
    if id(x) in met and not (cls is tuple and not x):  # the empty tuple is one object
        raise TypeError("an object that occurs twice")
    met.add(id(x))
    if cls is list or cls is tuple:
        return cls, tuple(_like(item, met) for item in x)
    if not isinstance(x, Tensor):
        raise TypeError(cls)
    fn = x._fn if x._base is None else current_fn(x)
    return type(x), 0 if fn is None else 1 if type(fn) is Leaf else 2


def _tape_of(entry: Entry) -> tuple[Any, Any, tuple[int, ...]]:
    """How results come on the tape: by a function; or by a new node, and which they are."""
    from .compiled_node import CompiledNode

    taped = entry.taped
    if taped is None:
        return None, None, ()
    if taped.expected:
        return entry.finish_shortcut, None, ()
    return None, partial(CompiledNode, taped), tuple(entry.traced.fns)
