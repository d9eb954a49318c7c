"""Random number generators: a seed, and how far its stream has been used.

Numbers are pure functions of (seed, offset), see ``dualgraph_compiler.ops.random``; a draw advances
the offset by what it consumed. Both are 0-d uint64 tensors, so that to a trace they are state like
any other: read as inputs of the graph, and the new offset written back.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.ops.random import Random

from ._dispatch import apply, capture_for, captures, make, symbolic
from ._tensor import Tensor
from .autograd.grad_mode import no_grad
from .autograd.inplace import assign
from .functions.basics import device_from
from .transforms.levels import transforms

_MASK = (1 << 64) - 1
_FIRST_SEED = 67280421310721


class Generator:
    """A stream of random numbers. The same seed gives the same numbers on every device."""

    def __init__(self, device: Any = "cpu") -> None:
        self.device = device_from(device)
        self._seed = make(np.array(_FIRST_SEED, np.uint64))
        self._offset = make(np.array(0, np.uint64))

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream of `seed` from its beginning; negative seeds count from 2**64 down."""
        if not -(1 << 63) <= seed <= _MASK:
            raise ArgumentError(
                f"Overflow when unpacking long: seed {seed} is not a 64-bit integer"
            )
        self._set(np.uint64(seed & _MASK), np.uint64(0))
        return self

    def _set(self, seed: Any, offset: Any) -> None:
        """Go to a place in a stream; in a capture, at every call of what is captured."""
        capture = captures.current
        for state, value in ((self._seed, seed), (self._offset, offset)):
            if capture is None:
                state._data[...] = value
            else:
                with no_grad():
                    assign(state, make(capture.graph.constant(np.asarray(value))))

    def seed(self) -> int:
        """Start a stream chosen by the operating system; returns its seed."""
        _outside_captures("Generator.seed()")
        value = int.from_bytes(os.urandom(8), "little")
        self.manual_seed(value)
        return value

    def initial_seed(self) -> int:
        """The seed of the stream."""
        _outside_captures("Generator.initial_seed()")
        return int(self._seed._data)

    def get_state(self) -> Tensor:
        """Seed and offset: uint8 [16]."""
        _outside_captures("Generator.get_state()")
        words = np.array([self._seed._data, self._offset._data], np.uint64)
        return make(words.view(np.uint8).copy())

    def set_state(self, new_state: Tensor) -> Generator:
        """Go back to a state that `get_state` gave."""
        _outside_captures("Generator.set_state()")
        data = np.asarray(new_state._data)
        if data.dtype != np.uint8 or data.shape != (16,):
            raise ArgumentError(
                f"RNG state must be a uint8 tensor of 16 elements, got {new_state.dtype.name} "
                f"{list(data.shape)}"
            )
        seed, offset = data.copy().view(np.uint64)
        self._set(seed, offset)
        return self

    def clone_state(self) -> Generator:
        """A generator that gives the numbers this one would give next."""
        return Generator(self.device).set_state(self.get_state())

    def get_offset(self) -> int:
        """How much of the stream has been used, in blocks of four 32-bit words."""
        _outside_captures("Generator.get_offset()")
        return int(self._offset._data)

    def set_offset(self, offset: int) -> None:
        """Go to a place in the stream of the present seed."""
        if not 0 <= offset <= _MASK:
            raise ArgumentError(f"set_offset expects 0 <= offset < 2**64, got {offset}")
        _outside_captures("Generator.set_offset()")
        self._offset._data[...] = np.uint64(offset)

    def __getstate__(self) -> Any:
        return str(self.device), self.initial_seed(), int(self._offset._data)

    def __setstate__(self, state: Any) -> None:
        self.__init__(state[0])  # type: ignore[misc]
        self.manual_seed(state[1])
        self._offset._data[...] = state[2]

    def draw(self, op: Random, device: Any = None) -> Tensor:
        """The numbers `op` gives at the present offset, which moves on."""
        if transforms.levels:
            from .transforms.drawing import draw_in_levels

            return draw_in_levels(op, lambda op: self._draw(op, device))
        return self._draw(op, device)

    def _draw(self, op: Random, device: Any) -> Tensor:
        if captures.current is not None or (
            symbolic.open_graphs and capture_for((self._seed,)) is not None
        ):
            return self._draw_traced(op)
        where = self.device if device is None else device_from(device)
        seed, offset = self._seed._data, self._offset._data
        if where.type == "cpu":
            out = np.asarray(op.eager(np, seed, offset))
        else:
            with where.active():
                out = where.xp.asarray(op.eager(where.xp, seed, offset))
        offset[...] = np.uint64((int(offset) + int(op.counters)) & _MASK)
        return make(out)

    def _draw_traced(self, op: Random) -> Tensor:
        with no_grad():
            out: Tensor = apply(op, self._seed, self._offset)
            assign(self._offset, self._offset + op.counters)
        return out


def _outside_captures(what: str) -> None:
    if captures.current is not None:
        raise captures.current.failure(
            f"{what} in a traced function would freeze what it is now", "Please call it outside."
        )


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Seed the default generator, which every draw uses that names no other."""
    return default_generator.manual_seed(int(seed))


def seed() -> int:
    """Seed the default generator from the operating system; returns the seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed of the default generator."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """The default generator's state: uint8 [16]."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Set the default generator's state."""
    default_generator.set_state(new_state)
