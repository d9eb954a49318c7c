"""Parts of tensors along a dimension: views, except where said."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.dims import Dim, DimLike, bounds
from dualgraph_compiler.errors import ArgumentError, IndexOutOfRange, ShapeError
from dualgraph_compiler.ops.slicing import Slice, full_bounds

from .._dispatch import apply1
from .basics import axis_of, sizes_of
from .sizes import require_size, sym_max, sym_min

if TYPE_CHECKING:
    from .._tensor import Tensor


def narrow(input: Tensor, dim: int, start: Any, length: DimLike) -> Tensor:
    """A view of `length` elements along `dim`, from `start` on (which may count from the end)."""
    axis = axis_of("narrow", dim, input._data.ndim)
    size = input._data.shape[axis]
    start = start if isinstance(start, int | Dim) else int(start)
    if isinstance(size, int) and isinstance(start, int) and isinstance(length, int):
        if not -size <= start <= size:
            raise IndexOutOfRange(
                f"narrow: start out of range (expected to be in range of [{-size}, {size}], but "
                f"got {start})"
            )
        start = start + size if start < 0 else start
        if length < 0 or start + length > size:
            raise ShapeError(
                f"start ({start}) + length ({length}) exceeds dimension size ({size})."
            )
    else:
        why = f"start ({start}) + length ({length}) exceeds dimension size ({size})."
        if isinstance(start, int) and start < 0:
            start = start + size
        require_size(start, ">=", 0, f"narrow: start out of range: {start} of {size}")
        require_size(length, ">=", 0, f"narrow(): length must be non-negative, got {length}")
        require_size(size, ">=", start + length, why)
    return part(input, axis, start, start + length)


def part(input: Tensor, axis: int, start: DimLike, stop: DimLike, step: int = 1) -> Tensor:
    """``input[start:stop:step]`` along one axis; the bounds lie within it."""
    starts, stops, steps = full_bounds(tuple(input._data.shape))
    starts[axis], stops[axis], steps[axis] = start, stop, step
    return apply1(Slice(tuple(starts), tuple(stops), tuple(steps)), input)


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """``input[index]`` along `dim`, which is dropped: a view."""
    ndim = input._data.ndim
    if not ndim:
        raise IndexOutOfRange("select() cannot be applied to a 0-dim tensor.")
    axis = axis_of("select", dim, ndim)
    return input[(slice(None),) * axis + (index,)]


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The views ``input.select(dim, i)`` for every i."""
    axis = axis_of("unbind", dim, input._data.ndim)
    before = (slice(None),) * axis
    return tuple(input[(*before, i)] for i in range(int(input._data.shape[axis])))


def split(tensor: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of pieces along `dim`: of one size (the last may be smaller), or of given sizes."""
    axis = axis_of("split", dim, tensor._data.ndim)
    size = tensor._data.shape[axis]
    if isinstance(split_size_or_sections, int):
        step = split_size_or_sections
        if step < 0 or (step == 0 and size != 0):
            raise ArgumentError(f"split expects split_size be non-negative, but got {step}")
        if isinstance(size, Dim):
            return _split_symbolic(tensor, step, size, axis)
        bounds = [(i, min(i + step, size)) for i in range(0, int(size), step or 1)] or [(0, size)]
        return tuple(part(tensor, axis, a, b) for a, b in bounds)
    sections = sizes_of((tuple(split_size_or_sections),))
    total: DimLike = 0
    out = []
    for length in sections:
        out.append((total, total + length))
        total = total + length
    if total != size or any(type(n) is int and n < 0 for n in sections):
        raise ShapeError(
            "split_with_sizes expects split_sizes to sum exactly to "
            f"{size} (input tensor's size at dimension {axis}), but got split_sizes="
            f"{list(sections)}"
        )
    return tuple(part(tensor, axis, a, b) for a, b in out)


def _split_symbolic(tensor: Tensor, step: int, size: Dim, axis: int) -> tuple[Tensor, ...]:
    low, high = bounds(size)
    count = -(-size // step)
    if high is not None and step and -(-low // step) == -(-high // step):
        count = int(-(-low // step))
    if isinstance(count, Dim):
        raise ShapeError(
            f"split: how many pieces of {step} the symbolic size {size} (dimension {axis}) has is "
            "not known; use chunk, or split with a list of sizes"
        )
    ends: list[DimLike] = [*(step * i for i in range(count)), size]
    return tuple(part(tensor, axis, a, b) for a, b in pairwise(ends))


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` views of equal size along `dim`, the last one smaller if need be."""
    if chunks <= 0:
        raise ArgumentError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    size = input._data.shape[axis_of("chunk", dim, input._data.ndim)]
    step = -(-size // chunks)
    if isinstance(step, Dim):
        axis = axis_of("chunk", dim, input._data.ndim)
        if step * chunks != size:
            raise ShapeError(
                f"chunk: whether {chunks} divides the symbolic size {size} is not known; declare "
                f'the size as {chunks}*Dim("part"), or use split with sizes'
            )
        return tuple(part(input, axis, step * i, step * (i + 1)) for i in range(chunks))
    if size == 0:
        return tuple(part(input, axis_of("chunk", dim, input.ndim), 0, 0) for _ in range(chunks))
    return split(input, step, dim)


def tensor_split(input: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of pieces along `dim`: so many of nearly equal size, or between the given indices."""
    axis = axis_of("tensor_split", dim, input._data.ndim)
    size = input._data.shape[axis]
    if hasattr(indices_or_sections, "_data"):
        indices_or_sections = indices_or_sections.tolist()
    if isinstance(indices_or_sections, int):
        n = indices_or_sections
        if n <= 0:
            raise ArgumentError(f"number of sections must be larger than 0, got {n}")
        small, extra = divmod(size, n)
        ends = [i * small + sym_min(i, extra) for i in range(n + 1)]
    else:
        cuts = [sym_min(sym_max(i + size if i < 0 else i, 0), size) for i in indices_or_sections]
        ends = [0, *cuts, size]
    return tuple(part(input, axis, a, sym_max(a, b)) for a, b in pairwise(ends))


def unfold(self: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Windows of `size` every `step` along a dimension, as a new last dimension (a copy)."""
    if not self._data.ndim:
        from .shape import reshape

        return unfold(reshape(self, (1,)), dimension, size, step)[0]
    axis = axis_of("unfold", dimension, self._data.ndim)
    length = self._data.shape[axis]
    why = f"maximum size for tensor at dimension {axis} is {length} but size is {size}, step {step}"
    if step <= 0:
        raise ShapeError(why)
    require_size(length, ">=", size, why)
    count = (length - size) // step + 1
    columns = [part(self, axis, i, i + (count - 1) * step + 1, step) for i in range(size)]
    from .joining import stack

    return stack(columns, -1)


def split_with_sizes(input: Tensor, split_sizes: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of pieces of the given sizes along `dim`."""
    return split(input, list(split_sizes), dim)


def hsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Pieces side by side: along dimension 1, of a vector along 0."""
    return _split_evenly("hsplit", input, indices_or_sections, 0 if input._data.ndim == 1 else 1, 1)


def vsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Pieces one below the other: along dimension 0."""
    return _split_evenly("vsplit", input, indices_or_sections, 0, 2)


def dsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Pieces one behind the other: along dimension 2."""
    return _split_evenly("dsplit", input, indices_or_sections, 2, 3)


def _split_evenly(
    name: str, input: Tensor, sections: Any, axis: int, least: int
) -> tuple[Tensor, ...]:
    if input._data.ndim < least:
        raise ShapeError(
            f"torch.{name} requires a tensor with at least {least} dimension"
            f"{'s' * (least > 1)}, but got a tensor with {input._data.ndim} dimensions!"
        )
    size = input._data.shape[axis]
    if isinstance(sections, int) and (sections <= 0 or size % sections):
        raise ShapeError(
            f"torch.{name} attempted to split along dimension {axis}, but the size of the "
            f"dimension {size} is not divisible by the split_size {sections}!"
        )
    return tensor_split(input, sections, axis)
