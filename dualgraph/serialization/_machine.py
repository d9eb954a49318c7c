"""A pickle reader that builds data and runs nothing.

Python's own unpickler imports and calls whatever a pickle names. This one knows the opcodes that
write data, and of the others no more than an allow list (`_allowed.py`) and what the user added to
it. Memory and time are bounded by the size of the file: what would copy memory is charged against a
budget, and keys of dicts must be small enough to be hashed.

Source of the format: the Python library's ``pickletools``, protocols 2 to 5.
"""

from __future__ import annotations

import struct
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, Protocol

from dualgraph_compiler.errors import RefusedPickle, SerializationError

__all__ = ["Allowed", "Machine", "Source"]

_LONGEST_NAME = 1024
_LARGEST_KEY = 10_000


class Source(Protocol):
    """Where a pickle is read from."""

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, or an error."""

    def readline(self, limit: int) -> bytes:
        """A line with its end, no longer than `limit`."""


class Allowed:
    """A function that a pickle may call, with checks of its own; `name` is what the pickle says."""

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        self.name = name
        self.call = call  # with the machine, then the pickle's arguments


class Machine:
    """Reads one pickle.

    Args:
        source: where from.
        allowed: what a full name (`module.name`) that the pickle asks for stands for.
        trusted: functions and classes of the user's, by full name, that may be called.
        persistent_load: what a persistent id stands for.
        later: called with functions to be called when storages have their content.
        budget: bytes that may be copied, beyond what the opcodes themselves write.
        encoding: of strings that Python 2 wrote, or "bytes".
    """

    def __init__(
        self,
        source: Source,
        *,
        allowed: dict[str, Any],
        trusted: dict[str, Any],
        persistent_load: Callable[[Any], Any],
        later: Callable[[Callable[[], None]], None],
        budget: int,
        encoding: str = "utf-8",
    ) -> None:
        self._source = source
        self._allowed = allowed
        self._trusted = trusted
        self._persistent_load = persistent_load
        self.later = later
        self._budget = budget
        self._encoding = encoding
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """Return the object.

        Raises:
            RefusedPickle: the pickle asks for more than data.
            SerializationError, and whatever Python raises for operands that do not fit: the pickle
                is damaged.
        """
        read = self._source.read
        while (code := read(1)) != _STOP:
            handler = _HANDLERS.get(code)
            if handler is None:
                raise RefusedPickle(f"Unsupported operand {code[0]}")
            handler(self)
        return self._stack.pop()

    def charge(self, size: int) -> None:
        """Take `size` bytes from the budget.

        Raises:
            SerializationError: the budget is used up.
        """
        self._budget -= size
        if self._budget < 0:
            raise SerializationError("it unpacks to much more memory than it takes on disk")

    # -- reading ----------------------------------------------------------------------------------

    def _number(self, layout: str) -> Any:
        return struct.unpack(layout, self._source.read(struct.calcsize(layout)))[0]

    def _counted(self, layout: str) -> bytes:
        return self._source.read(self._number(layout))

    def _line(self) -> str:
        line = self._source.readline(_LONGEST_NAME)
        if not line.endswith(b"\n"):
            raise SerializationError("the name of a global is cut off or too long")
        return line[:-1].decode("utf-8")

    def _pop_mark(self) -> list[Any]:
        items = self._stack
        self._stack = self._marks.pop()
        return items

    # -- what a pickle may ask for ----------------------------------------------------------------

    def _push_global(self, module: str, name: str) -> None:
        full = f"{_RENAMED.get(module, module)}.{name}"
        if full in self._allowed:
            self._stack.append(self._allowed[full])
        elif full in self._trusted:
            self._stack.append(self._trusted[full])
        else:
            raise RefusedPickle(
                f"Unsupported global: GLOBAL {full} was not an allowed global by default. If you "
                f"trust it, allow it with `dualgraph.serialization.add_safe_globals([{name}])` or "
                f"`safe_globals([{name}])`; weights_only=False allows everything, and so runs "
                "whatever code the file holds"
            )

    def _is_trusted(self, candidate: Any) -> bool:
        return any(candidate is known for known in self._trusted.values())

    def call(self, function: Any, arguments: Any) -> Any:
        """Call what the pickle wants to have called, if it may be."""
        if isinstance(function, Allowed):
            return function.call(self, *arguments)
        if self._is_trusted(function):
            return function(*arguments)
        raise RefusedPickle(f"Trying to call {function!r}, which is data")

    def _reduce(self) -> None:
        arguments = self._stack.pop()
        self._stack[-1] = self.call(self._stack[-1], arguments)

    def _new_object(self) -> None:
        arguments = self._stack.pop()
        kind = self._stack.pop()
        if isinstance(kind, type) and self._is_trusted(kind):
            self._stack.append(kind.__new__(kind, *arguments))
        else:
            self._stack.append(self.call(kind, arguments))

    def _build(self) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if type(target) is OrderedDict:
            # `_metadata` of a state_dict, and its like; not what would hide a method.
            for name, value in state.items():
                if not isinstance(name, str) or hasattr(OrderedDict, name):
                    raise RefusedPickle(f"Trying to set {name!r} of an OrderedDict")
                target.__dict__[name] = value
        elif self._is_trusted(type(target)):
            _set_state(target, state)
        else:
            raise RefusedPickle(f"Trying to set the state of a {type(target).__name__}")

    def _load_persistent(self) -> None:
        self._stack.append(self._persistent_load(self._stack.pop()))

    # -- containers -------------------------------------------------------------------------------

    def _append_all(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise RefusedPickle(f"Can only append to lists, but got {type(target).__name__}")
        target.extend(items)

    def _add_all(self) -> None:
        items = self._pop_mark()
        target = self._stack[-1]
        if type(target) is not set:
            raise RefusedPickle(f"Can only add to sets, but got {type(target).__name__}")
        target.update(self.keys(items))

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) not in (dict, OrderedDict, Counter) and not (
            isinstance(target, MutableMapping) and self._is_trusted(type(target))
        ):
            raise RefusedPickle(f"Can only set items of dicts, but got {type(target).__name__}")
        if len(items) % 2:
            raise SerializationError("a dict has a key without a value")
        for key, value in zip(self.keys(items[::2]), items[1::2]):
            target[key] = value

    def keys(self, candidates: list[Any]) -> Iterator[Any]:
        """Yield keys of a dict or items of a set that are safe to hash.

        Tuples that hold a tuple twice, and so on, are small in a file and take for ever to hash.
        """
        for key in candidates:
            pending, size = [key], 0
            while pending:
                part = pending.pop()
                if isinstance(part, tuple | frozenset):
                    pending += part
                    size += len(part)
                elif type(part) is int:
                    size += part.bit_length() // 64
                if size > _LARGEST_KEY:
                    raise SerializationError("the key of a dict is too large")
            yield key

    # -- the memo ---------------------------------------------------------------------------------

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    # -- opcodes that need more than a line -------------------------------------------------------

    def _global(self) -> None:
        module = self._line()
        self._push_global(module, self._line())

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if type(name) is not str or type(module) is not str:
            raise SerializationError("the name of a global is no string")
        self._push_global(module, name)

    def _protocol(self) -> None:
        version = self._number("<B")
        if version > 5:
            raise SerializationError(f"pickles of protocol {version} are not known")

    def _string(self) -> None:
        text = self._counted("<B")
        self._stack.append(text if self._encoding == "bytes" else text.decode(self._encoding))

    def _tuple_of(self, count: int) -> None:
        if len(self._stack) < count:
            raise SerializationError("a tuple lacks items")
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set_items([key, value])

    def _mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:  # the top of the stack is a mark
            self._pop_mark()

    def _frozen_set(self) -> None:
        items = self._pop_mark()
        self._stack.append(frozenset(self.keys(items)))


def _set_state(target: Any, state: Any) -> None:
    """What Python's own unpickler does with the state of an object."""
    if hasattr(target, "__setstate__"):
        target.__setstate__(state)
        return
    slots = None
    if isinstance(state, tuple) and len(state) == 2:
        state, slots = state
    if state:
        target.__dict__.update(state)
    for name, value in (slots or {}).items():
        setattr(target, name, value)


# What modules of Python 2 are called now; protocol 2 writes the old names.
_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}

_STOP = b"."

_HANDLERS: dict[bytes, Callable[[Machine], None]] = {
    b"\x80": Machine._protocol,
    b"\x95": lambda m: m._number("<Q"),  # a frame: how much comes in one piece
    # names, calls, state
    b"c": Machine._global,
    b"\x93": Machine._stack_global,
    b"R": Machine._reduce,
    b"\x81": Machine._new_object,
    b"b": Machine._build,
    b"Q": Machine._load_persistent,
    # containers
    b"(": Machine._mark,
    b"]": lambda m: m._push([]),
    b"}": lambda m: m._push({}),
    b")": lambda m: m._push(()),
    b"\x8f": lambda m: m._push(set()),
    b"a": lambda m: m._append_all([m._stack.pop()]),
    b"e": lambda m: m._append_all(m._pop_mark()),
    b"s": Machine._set_item,
    b"u": lambda m: m._set_items(m._pop_mark()),
    b"\x90": Machine._add_all,
    b"\x91": Machine._frozen_set,
    b"t": lambda m: m._push(tuple(m._pop_mark())),
    b"\x85": lambda m: m._tuple_of(1),
    b"\x86": lambda m: m._tuple_of(2),
    b"\x87": lambda m: m._tuple_of(3),
    # constants
    b"N": lambda m: m._push(None),
    b"\x88": lambda m: m._push(True),
    b"\x89": lambda m: m._push(False),
    b"J": lambda m: m._push(m._number("<i")),
    b"K": lambda m: m._push(m._number("<B")),
    b"M": lambda m: m._push(m._number("<H")),
    b"G": lambda m: m._push(m._number(">d")),
    b"\x8a": lambda m: m._push(int.from_bytes(m._counted("<B"), "little", signed=True)),
    b"\x8b": lambda m: m._push(int.from_bytes(m._counted("<i"), "little", signed=True)),
    b"X": lambda m: m._push(str(m._counted("<I"), "utf-8", "surrogatepass")),
    b"\x8c": lambda m: m._push(str(m._counted("<B"), "utf-8", "surrogatepass")),
    b"\x8d": lambda m: m._push(str(m._counted("<Q"), "utf-8", "surrogatepass")),
    b"U": Machine._string,
    b"B": lambda m: m._push(m._counted("<I")),
    b"C": lambda m: m._push(m._counted("<B")),
    b"\x8e": lambda m: m._push(m._counted("<Q")),
    b"\x96": lambda m: m._push(bytearray(m._counted("<Q"))),
    # the stack and the memo
    b"0": Machine._pop,
    b"1": lambda m: _drop(m._pop_mark()),
    b"2": lambda m: m._push(m._stack[-1]),
    b"h": lambda m: m._get(m._number("<B")),
    b"j": lambda m: m._get(m._number("<I")),
    b"q": lambda m: m._put(m._number("<B")),
    b"r": lambda m: m._put(m._number("<I")),
    b"\x94": lambda m: m._put(len(m._memo)),
}


def _drop(items: list[Any]) -> None:
    """Forget what stood above a mark."""
