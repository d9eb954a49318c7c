"""Update rules of optimizers, in place, over cache-sized pieces of a parameter.

An update is a dozen element-wise passes over four or five arrays. Over whole arrays of a large
parameter each pass streams from memory; over one piece at a time every pass but the first hits the
cache. The pieces also settle, in one place, what a rule should not have to know: layout, complex
numbers and half precision.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

Array = Any  # numpy.ndarray or cupy.ndarray

# Elements of one piece: six pieces of float32 fit a 2 MiB cache, and the passes over one piece
# take far longer than the calls that start them.
BLOCK = 1 << 16


class Workspace:
    """Scratch memory for update rules, kept from one step to the next."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[np.dtype[Any], int], Array] = {}

    def blocks(
        self, xp: Any, param: Array, grad: Array, *state: Array | None, scratch: int
    ) -> Iterator[tuple[Any, ...]]:
        """Yield `(param, grad, *state, *buffers)` as flat real arrays of one length.

        Together the pieces cover every element once. A rule updates param and state in place; it
        must not write to grad. The `scratch` buffers hold garbage. Complex arrays come as their
        real and imaginary parts, half precision comes as float32 and is rounded once, when
        written back. State that is `None` comes as `None`. On a GPU there is one piece, the whole.

        Shapes: all arrays have the shape of `param`.
        """
        targets: list[Array] = [param, grad, *state]
        if xp is np and param.size <= BLOCK and _is_plain(targets):
            rows = [None if a is None else a.reshape(-1) for a in targets]
            yield (*rows, *[self._buffer(xp, param.dtype, i, param.size) for i in range(scratch)])
            return
        flat: list[Array] = [None if a is None else _flat(xp, a) for a in targets]
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


_spare: list[Workspace] = []  # taken and returned by whoever needs one, from any thread


def borrow() -> Workspace:
    """A workspace that nobody else uses, until it is given back."""
    try:
        return _spare.pop()
    except IndexError:
        return Workspace()


def give_back(workspace: Workspace) -> None:
    """Let others have a workspace from :func:`borrow`."""
    _spare.append(workspace)


def _is_plain(arrays: Sequence[Array | None]) -> bool:
    """Whether arrays lie row by row and their elements are computed with as they are."""
    for a in arrays:
        if a is None:
            continue
        if not a.flags.c_contiguous or a.dtype.kind != "f" or a.dtype.itemsize < 4:
            return False
    return True


def _flat(xp: Any, array: Array) -> Array:
    """One-dimensional real view of `array`, or a copy where its layout allows no view."""
    flat = array.reshape(-1)
    if flat.dtype.kind == "c":
        # Raveling may give a strided view, which cannot be seen as pairs of reals.
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


def sgd(
    xp: Any,
    param: Array,
    grad: Array,
    buffer: Array | None,
    direction: Array,
    update: Array,
    *,
    lr: float,
    momentum: float,
    first: bool,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
) -> None:
    """Gradient descent; `buffer` is the momentum, which the `first` step only fills."""
    grad = effective_grad(xp, param, grad, weight_decay, maximize, out=direction)
    if buffer is not None:
        if first:
            buffer[...] = grad
        else:
            xp.multiply(buffer, momentum, out=buffer)
            xp.multiply(grad, 1 - dampening, out=update)
            xp.add(buffer, update, out=buffer)
        if nesterov:
            xp.multiply(buffer, momentum, out=update)
            grad = xp.add(grad, update, out=direction)
        else:
            grad = buffer
    xp.multiply(grad, lr, out=update)
    xp.subtract(param, update, out=param)


def adam(
    xp: Any,
    param: Array,
    grad: Array,
    mean: Array,
    mean_sq: Array,
    largest_sq: Array | None,
    direction: Array,
    work: Array,
    *,
    step: float,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
) -> None:
    """Adam, or with `decoupled` weight decay AdamW; `step` counts from 1."""
    if decoupled:
        if weight_decay != 0:
            xp.multiply(param, 1 - lr * weight_decay, out=param)
        weight_decay = 0.0
    grad = effective_grad(xp, param, grad, weight_decay, maximize, out=direction)

    # mean += (1 - beta1) * (grad - mean)
    xp.subtract(grad, mean, out=work)
    xp.multiply(work, 1 - beta1, out=work)
    xp.add(mean, work, out=mean)
    # mean_sq = beta2 * mean_sq + (1 - beta2) * grad**2
    xp.multiply(grad, grad, out=work)
    xp.multiply(work, 1 - beta2, out=work)
    xp.multiply(mean_sq, beta2, out=mean_sq)
    xp.add(mean_sq, work, out=mean_sq)
    if largest_sq is not None:
        mean_sq = xp.maximum(largest_sq, mean_sq, out=largest_sq)

    # param -= lr / c1 * mean / (sqrt(mean_sq) / c2 + eps), multiplied through by c2
    correction1 = 1 - beta1**step
    correction2 = math.sqrt(1 - beta2**step)
    xp.sqrt(mean_sq, out=work)
    xp.add(work, eps * correction2, out=work)
    xp.divide(mean, work, out=work)
    xp.multiply(work, lr * correction2 / correction1, out=work)
    xp.subtract(param, work, out=param)


def rmsprop(
    xp: Any,
    param: Array,
    grad: Array,
    mean_sq: Array,
    mean: Array | None,
    buffer: Array | None,
    direction: Array,
    work: Array,
    *,
    lr: float,
    momentum: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    """RMSprop; centered where `mean` is given, with momentum where `buffer` is."""
    grad = effective_grad(xp, param, grad, weight_decay, maximize, out=direction)
    # mean_sq = alpha * mean_sq + (1 - alpha) * grad**2
    xp.multiply(grad, grad, out=work)
    xp.multiply(work, 1 - alpha, out=work)
    xp.multiply(mean_sq, alpha, out=mean_sq)
    xp.add(mean_sq, work, out=mean_sq)
    if mean is None:
        xp.sqrt(mean_sq, out=work)
    else:
        # mean += (1 - alpha) * (grad - mean); the deviation is sqrt(mean_sq - mean**2)
        xp.subtract(grad, mean, out=work)
        xp.multiply(work, 1 - alpha, out=work)
        xp.add(mean, work, out=mean)
        xp.multiply(mean, mean, out=work)
        xp.subtract(mean_sq, work, out=work)
        xp.sqrt(work, out=work)
    xp.add(work, eps, out=work)
    xp.divide(grad, work, out=work)
    if buffer is not None:
        xp.multiply(buffer, momentum, out=buffer)
        xp.add(buffer, work, out=buffer)
        xp.multiply(buffer, lr, out=work)
    else:
        xp.multiply(work, lr, out=work)
    xp.subtract(param, work, out=param)


def adagrad(
    xp: Any,
    param: Array,
    grad: Array,
    total_sq: Array,
    direction: Array,
    work: Array,
    *,
    step: float,
    lr: float,
    lr_decay: float,
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    """Adagrad; `step` counts from 1."""
    lr = lr / (1 + (step - 1) * lr_decay)
    grad = effective_grad(xp, param, grad, weight_decay, maximize, out=direction)
    xp.multiply(grad, grad, out=work)
    xp.add(total_sq, work, out=total_sq)
    xp.sqrt(total_sq, out=work)
    xp.add(work, eps, out=work)
    xp.divide(grad, work, out=work)
    xp.multiply(work, lr, out=work)
    xp.subtract(param, work, out=param)


def vector_norm(xp: Any, array: Array, order: float) -> Array:
    """p-norm of all elements taken as one vector, in float32 at least."""
    flat = array.reshape(-1)
    if flat.dtype.itemsize < 4:
        flat = flat.astype(np.float32)
    if flat.size == 0:  # NumPy has no largest element of nothing; the norm of nothing is 0
        return xp.zeros((), flat.real.dtype)
    return xp.asarray(xp.linalg.norm(flat, order))
