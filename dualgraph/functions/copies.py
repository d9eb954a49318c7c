"""Copies of parts of a tensor, and copies with a part replaced.

``name_copy`` is what the view ``name`` shows, in memory of its own; ``name_scatter`` is a copy of
the whole in which that view shows other values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .basics import finish
from .indexing import getitem
from .joining import diagonal
from .pairs import view_as_complex, view_as_real
from .parts import chunk, narrow, select, split, unbind, unfold
from .shape import expand, permute, reshape, squeeze, t, transpose, unsqueeze

if TYPE_CHECKING:
    from .._tensor import Tensor


def alias_copy(input: Tensor, *, out: Any = None) -> Tensor:
    """A copy.

    Shapes: any -> the same.
    """
    return finish(input.clone(), out)


def diagonal_copy(
    input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1, *, out: Any = None
) -> Tensor:
    """A copy of a diagonal.

    Shapes: as of `diagonal`.
    """
    return finish(diagonal(input, offset, dim1, dim2).clone(), out)


def expand_copy(input: Tensor, size: Any, *, implicit: bool = False, out: Any = None) -> Tensor:
    """A copy, broadcast to `size`."""
    return finish(expand(input, tuple(size)).clone(), out)


def narrow_copy(input: Tensor, dim: int, start: int, length: int, *, out: Any = None) -> Tensor:
    """A copy of `length` slices along `dim` from `start` on."""
    return finish(narrow(input, dim, start, length).clone(), out)


def permute_copy(input: Tensor, dims: Any, *, out: Any = None) -> Tensor:
    """A copy with its dimensions in another order."""
    return finish(permute(input, tuple(dims)).clone(), out)


def select_copy(input: Tensor, dim: int, index: int, *, out: Any = None) -> Tensor:
    """A copy of one slice along `dim`."""
    return finish(select(input, dim, index).clone(), out)


def split_copy(tensor: Tensor, split_size: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Copies of pieces along `dim`."""
    return tuple(piece.clone() for piece in split(tensor, split_size, dim))


unsafe_split = split_copy


def unsafe_chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """As `chunk`, with pieces that are no views.

    Shapes: as of `chunk`.
    """
    return tuple(piece.clone() for piece in chunk(input, chunks, dim))


def split_with_sizes_copy(input: Tensor, split_sizes: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Copies of pieces of the given sizes along `dim`."""
    return tuple(piece.clone() for piece in split(input, list(split_sizes), dim))


unsafe_split_with_sizes = split_with_sizes_copy


def detach_copy(input: Tensor, *, out: Any = None) -> Tensor:
    """A copy off the tape.

    Shapes: any -> the same.
    """
    return finish(input.detach().clone(), out)


def view_as_real_copy(input: Tensor, *, out: Any = None) -> Tensor:
    """A copy of complex numbers as pairs of reals.

    Shapes: [..] -> [.., 2].
    """
    return finish(view_as_real(input).clone(), out)


def view_as_complex_copy(input: Tensor, *, out: Any = None) -> Tensor:
    """A copy of pairs of reals as complex numbers.

    Shapes: [.., 2] -> [..].
    """
    return finish(view_as_complex(input).clone(), out)


def squeeze_copy(input: Tensor, dim: Any = None, *, out: Any = None) -> Tensor:
    """A copy without dimensions of size 1, or without `dim` if it is of size 1."""
    return finish(squeeze(input, dim).clone(), out)


def t_copy(input: Tensor, *, out: Any = None) -> Tensor:
    """A transposed copy of a matrix.

    Shapes: [n, m] -> [m, n].
    """
    return finish(t(input).clone(), out)


def transpose_copy(input: Tensor, dim0: int, dim1: int, *, out: Any = None) -> Tensor:
    """A copy with two dimensions exchanged."""
    return finish(transpose(input, dim0, dim1).clone(), out)


def unbind_copy(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Copies of all slices along `dim`."""
    return tuple(piece.clone() for piece in unbind(input, dim))


def unfold_copy(input: Tensor, dimension: int, size: int, step: int, *, out: Any = None) -> Tensor:
    """A copy of the windows that `unfold` shows.

    Shapes: as of `unfold`.
    """
    return finish(unfold(input, dimension, size, step).clone(), out)


def unsqueeze_copy(input: Tensor, dim: int, *, out: Any = None) -> Tensor:
    """A copy with a dimension of size 1 put in."""
    return finish(unsqueeze(input, dim).clone(), out)


def view_copy(input: Tensor, size: Any, *, out: Any = None) -> Tensor:
    """A copy of another shape, or with its bytes seen as another dtype."""
    if isinstance(size, list | tuple):
        return finish(reshape(input, tuple(size)).clone(), out)
    return finish(input.view(size).clone(), out)


# -- a part replaced ------------------------------------------------------------------------------


def diagonal_scatter(
    input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Tensor:
    """A copy of the input with `src` as a diagonal.

    Shapes: input any, src that of its diagonal -> that of input.
    """
    whole = input.clone()
    diagonal(whole, offset, dim1, dim2).copy_(src)
    return whole


def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """A copy of the input with `src` as one slice along `dim`."""
    whole = input.clone()
    select(whole, dim, index).copy_(src)
    return whole


def slice_scatter(
    input: Tensor,
    src: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Tensor:
    """A copy of the input with `src` in place of ``input[start:end:step]`` along `dim`."""
    whole = input.clone()
    axis = dim % max(input._data.ndim, 1)
    at = (*(slice(None) for _ in range(axis)), slice(start, end, step))
    getitem(whole, at).copy_(src)
    return whole
