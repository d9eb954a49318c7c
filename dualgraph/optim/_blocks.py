"""Cache-sized pieces of a parameter and the arrays that go with it.

An optimizer's update is a dozen element-wise passes over four or five arrays. Over whole arrays of
a large parameter each pass streams from memory; over one piece at a time every pass but the first
hits the cache. The pieces also settle, in one place, what an update rule should not have to know:
layout, complex numbers and half precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dualgraph._tensor import Tensor
from dualgraph_compiler.ops.base import array_module

__all__ = ["Array", "Workspace", "effective_grad"]

Array = Any  # numpy.ndarray or cupy.ndarray

# Elements of one piece: six pieces of float32 fit a 2 MiB cache, and the passes over one piece
# take far longer than the calls that start them.
BLOCK = 1 << 16


class Workspace:
    """Scratch memory for update rules, kept from one step to the next."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[np.dtype[Any], int], Array] = {}

    def blocks(
        self, param: Tensor, grad: Tensor, *state: Tensor | None, scratch: int
    ) -> Iterator[tuple[Any, ...]]:
        """Yield `(param, grad, *state, *buffers)` as flat real arrays of one length.

        Together the pieces cover every element once. A rule updates param and state in place; it
        must not write to grad. The `scratch` buffers hold garbage. Complex arrays come as their
        real and imaginary parts, half precision comes as float32 and is rounded once, when
        written back. State that is `None` comes as `None`. On a GPU there is one piece, the whole.

        Shapes: all tensors have the shape of `param`.
        """
        targets: list[Array] = [
            param._data,
            grad._data,
            *(None if t is None else t._data for t in state),
        ]
        xp = array_module(targets[0])
        flat: list[Array] = [None if t is None else _flat(t) for t in targets]
        length, dtype = flat[0].size, flat[0].dtype
        compute = np.dtype(np.float32) if dtype.itemsize < 4 else dtype
        block = BLOCK if xp is np else max(length, 1)
        for start in range(0, length, block):
            stop = min(start + block, length)
            whole = stop - start == length
            source = flat if whole else [a if a is None else a[start:stop] for a in flat]
            buffers = [self._buffer(xp, compute, i, stop - start) for i in range(scratch)]
            if compute is dtype:
                yield (*source, *buffers)
                continue
            pieces = [None if a is None else a.astype(compute) for a in source]
            yield (*pieces, *buffers)
            for index, (piece, home) in enumerate(zip(pieces, source, strict=True)):
                if piece is not None and index != 1:
                    home[...] = piece.astype(dtype)
        for index, (array, home) in enumerate(zip(flat, targets, strict=True)):
            if array is not None and index != 1 and not home.flags.c_contiguous:
                home[...] = array.view(home.dtype).reshape(home.shape)

    def _buffer(self, xp: Any, dtype: np.dtype[Any], index: int, length: int) -> Array:
        if xp is not np:
            return xp.empty(length, dtype)  # CuPy's memory pool is the workspace
        buffer = self._buffers.get((dtype, index))
        if buffer is None:
            buffer = self._buffers[dtype, index] = np.empty(BLOCK, dtype)
        return buffer[:length]


def _flat(array: Array) -> Array:
    """One-dimensional real view of `array`, or a copy where its layout allows no view."""
    flat = array.reshape(-1)
    if flat.dtype.kind == "c":
        # Raveling may give a strided view, which cannot be seen as pairs of reals.
        xp = array_module(flat)
        flat = xp.ascontiguousarray(flat).view(flat.real.dtype)
    return flat


def effective_grad(
    xp: Any, param: Array, grad: Array, weight_decay: float, maximize: bool, out: Array
) -> Array:
    """Return `±grad + weight_decay * param`, the direction an update rule descends along.

    The result is `grad` itself where nothing is to be done, and `out` otherwise.
    """
    if weight_decay != 0:
        xp.multiply(param, weight_decay, out=out)
        return (xp.subtract if maximize else xp.add)(out, grad, out=out)
    return xp.negative(grad, out=out) if maximize else grad
