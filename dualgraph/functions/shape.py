"""Other shapes of the same elements: views where the memory allows, as in PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler.dims import Dim, DimLike, Shape, product
from dualgraph_compiler.errors import ShapeError
from dualgraph_compiler.ops.base import normalize_axes, shape_text
from dualgraph_compiler.ops.movement import Expand, Permute, Reshape

from .._dispatch import apply1, make
from .basics import axis_of, infer_size, sizes_of

if TYPE_CHECKING:
    from .._tensor import Tensor


def _shape_of(shape: tuple[Any, ...], input: Tensor, name: str) -> Shape:
    """Sizes as given to `reshape`, with -1 inferred."""
    sizes = sizes_of(shape)
    return infer_size(name, sizes, input._data.size) if -1 in sizes else sizes


def reshape(input: Tensor, *shape: Any) -> Tensor:
    """The elements in row-major order in another shape; one size may be -1. A view if possible."""
    return apply1(Reshape(_shape_of(shape, input, "reshape")), input)


_SIZES = (int, tuple, list, Dim)


def view(self: Tensor, *shape: Any) -> Tensor:
    """As `reshape`, but never a copy; or with a dtype, the same bytes read as that dtype.

    Raises:
        ShapeError: the elements' strides allow no view of this shape.
    """
    if len(shape) == 1 and not isinstance(shape[0], _SIZES):
        return _view_as_dtype(self, shape[0])
    out: Tensor = apply1(Reshape(_shape_of(shape, self, "view")), self)
    if out._base is None and not out.is_symbolic and out._data.size:
        raise ShapeError(
            "view size is not compatible with input tensor's size and stride (at least one "
            "dimension spans across two contiguous subspaces). Use .reshape(...) instead."
        )
    return out


def _view_as_dtype(self: Tensor, dtype: Any) -> Tensor:
    from dualgraph_compiler import dtypes as dt

    out = make(self._concrete("view(dtype)").view(dt.as_dtype(dtype).np))
    out._ver = self._ver
    return out


def view_as(self: Tensor, other: Tensor) -> Tensor:
    """A view with the other tensor's shape."""
    return view(self, tuple(other._data.shape))


def reshape_as(self: Tensor, other: Tensor) -> Tensor:
    """The elements in the other tensor's shape."""
    return reshape(self, tuple(other._data.shape))


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions `start_dim` to `end_dim` (inclusive) merged into one.

    Shapes: [.., a, b, .., c, ..] -> [.., a b .. c, ..]; [] -> [1].
    """
    shape = tuple(input._data.shape)
    if not shape:
        return reshape(input, (1,))
    first, last = (axis_of("flatten", d, len(shape)) for d in (start_dim, end_dim))
    if first > last:
        raise ShapeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if first == last:
        return input
    merged = product(shape[first : last + 1])
    return reshape(input, (*shape[:first], merged, *shape[last + 1 :]))


def ravel(input: Tensor) -> Tensor:
    """All elements in one dimension."""
    return reshape(input, (input._data.size,))


def unflatten(input: Tensor, dim: int, sizes: Any) -> Tensor:
    """Dimension `dim` split into `sizes`, of which one may be -1."""
    shape = tuple(input._data.shape)
    axis = axis_of("unflatten", dim, len(shape))
    parts = sizes_of((tuple(sizes),))
    if -1 in parts:
        parts = infer_size("unflatten", parts, shape[axis])
    if product(parts) != shape[axis]:
        raise ShapeError(
            f"unflatten: Provided sizes {shape_text(parts)} don't multiply up to the size of dim "
            f"{axis} ({shape[axis]}) in the input tensor"
        )
    return reshape(input, (*shape[:axis], *parts, *shape[axis + 1 :]))


def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """Without dimensions of size 1: all of them, or those among `dim`."""
    shape = tuple(input._data.shape)
    if dim is None:
        kept = tuple(d for d in shape if d != 1)
    elif not shape:
        return reshape(input, ())
    else:
        dims = (dim,) if isinstance(dim, int) else tuple(dim)
        axes = normalize_axes("squeeze", dims, len(shape))
        kept = tuple(d for i, d in enumerate(shape) if i not in axes or d != 1)
    return reshape(input, kept)


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """With a dimension of size 1 inserted at `dim`."""
    shape = tuple(input._data.shape)
    at = axis_of("unsqueeze", dim, len(shape) + 1)
    return apply1(Reshape((*shape[:at], 1, *shape[at:])), input)


# -- order of dimensions --------------------------------------------------------------------------


def permute(input: Tensor, *dims: Any) -> Tensor:
    """Dimensions reordered: dimension i of the result is `dims[i]` of the input."""
    order = dims[0] if len(dims) == 1 and not isinstance(dims[0], int) else dims
    ndim = input._data.ndim
    axes = tuple(axis_of("permute", d, ndim) for d in order)
    if len(axes) != ndim:
        raise ShapeError(
            "permute(sparse_coo): number of dimensions in the tensor input does not match the "
            f"length of the desired ordering of dimensions i.e. input.dim() = {ndim} is not equal "
            f"to len(dims) = {len(axes)}"
        )
    if len(set(axes)) != ndim:
        raise ShapeError(f"permute(): duplicate dims are not allowed, got {tuple(order)}")
    return apply1(Permute(axes), input)


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions exchanged."""
    ndim = input._data.ndim
    a, b = axis_of("transpose", dim0, ndim), axis_of("transpose", dim1, ndim)
    axes = list(range(ndim))
    if ndim:
        axes[a], axes[b] = b, a
    return apply1(Permute(tuple(axes)), input)


swapaxes = swapdims = transpose


def t(input: Tensor) -> Tensor:
    """A matrix transposed; a vector or a 0-d tensor as it is."""
    if input._data.ndim > 2:
        raise ShapeError(f"t() expects a tensor with <= 2 dimensions, but self is {input.ndim}D")
    return apply1(_REVERSED[2], input) if input._data.ndim == 2 else input


_REVERSED = [Permute(tuple(reversed(range(n)))) for n in range(65)]


def reverse_dims(self: Tensor) -> Tensor:
    """All dimensions in reverse order (``x.T``)."""
    return apply1(_REVERSED[self._data.ndim], self)


def matrix_transpose(self: Tensor) -> Tensor:
    """The last two dimensions exchanged (``x.mT``)."""
    if self._data.ndim < 2:
        raise ShapeError(
            "tensor.mT is only supported on matrices or batches of matrices. Got "
            f"{self._data.ndim}-D tensor."
        )
    return transpose(self, -2, -1)


def adjoint(input: Tensor) -> Tensor:
    """The conjugate transpose of the last two dimensions (``x.mH``)."""
    return matrix_transpose(input).conj()


def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """Dimensions `source` moved to `destination`, the others in their order.

    Shapes: the same sizes in another order.
    """
    ndim = input._data.ndim
    sources = (source,) if isinstance(source, int) else tuple(source)
    targets = (destination,) if isinstance(destination, int) else tuple(destination)
    if len(sources) != len(targets):
        raise ShapeError(
            f"movedim: Invalid source or destination dims: source ({list(sources)} dims) should "
            f"contain the same number of dims as destination ({list(targets)} dims)"
        )
    froms = [axis_of("movedim", d, ndim) for d in sources]
    tos = [axis_of("movedim", d, ndim) for d in targets]
    if len(set(froms)) != len(froms) or len(set(tos)) != len(tos):
        raise ShapeError("movedim: repeated dim in `source` or `destination`")
    order = [i for i in range(ndim) if i not in froms]
    for to, origin in sorted(zip(tos, froms, strict=True)):
        order.insert(to, origin)
    return apply1(Permute(tuple(order)), input)


moveaxis = movedim

# -- repetition -----------------------------------------------------------------------------------


def expand(self: Tensor, *sizes: Any, implicit: bool = False) -> Tensor:
    """A view with dimensions of size 1 repeated to `sizes`; -1 keeps a size."""
    wanted = sizes_of(sizes)
    shape = tuple(self._data.shape)
    if -1 in wanted:
        lead = len(wanted) - len(shape)
        if -1 in wanted[: max(lead, 0)]:
            raise ShapeError(
                "expand: The expanded size of the tensor (-1) isn't allowed in a leading, "
                f"non-existing dimension 0: {shape_text(wanted)} for {shape_text(shape)}"
            )
        if lead >= 0:
            wanted = tuple(
                shape[i - lead] if type(d) is int and d == -1 else d for i, d in enumerate(wanted)
            )
    return apply1(Expand(wanted), self)


def expand_as(self: Tensor, other: Tensor) -> Tensor:
    """A view expanded to the other tensor's shape."""
    return apply1(Expand(tuple(other._data.shape)), self)


def broadcast_to(input: Tensor, size: Any) -> Tensor:
    """A view broadcast to `size`."""
    return expand(input, tuple(size))


def broadcast_shapes(*shapes: Any) -> Any:
    """The shape that tensors of these shapes broadcast to."""
    from dualgraph_compiler.ops.base import broadcast_shapes as common

    from .._tensor import Size

    given = [(s,) if isinstance(s, int) else tuple(s) for s in shapes]
    return Size(common("broadcast_shapes", *given))


def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Views of the tensors, broadcast to one shape."""
    shape = tuple(broadcast_shapes(*(t._data.shape for t in tensors)))
    return tuple(expand(t, shape) for t in tensors)


def repeat(self: Tensor, *repeats: Any) -> Tensor:
    """A copy repeated whole: `repeats[i]` times along dimension i, leading ones added as needed."""
    times = sizes_of(repeats)
    shape = tuple(self._data.shape)
    lead = len(times) - len(shape)
    if lead < 0:
        raise ShapeError(
            "Number of dimensions of repeat dims can not be smaller than number of dimensions of "
            f"tensor: {len(times)} < {len(shape)}"
        )
    shape = (1,) * lead + shape
    if all(type(n) is int and n == 1 for n in times):
        return reshape(self, shape).clone()
    split: list[DimLike] = []
    spread: list[DimLike] = []
    for n, d in zip(times, shape, strict=True):
        split += (1, d)
        spread += (n, d)
    wide = expand(reshape(self, tuple(split)), tuple(spread))
    return reshape(wide, tuple(n * d for n, d in zip(times, shape, strict=True)))


def tile(input: Tensor, *dims: Any) -> Tensor:
    """As `repeat`, with missing repeats taken as 1.

    Shapes: each size times its repetition, missing ones in front being 1.
    """
    times = sizes_of(dims)
    return repeat(input, (1,) * (input._data.ndim - len(times)) + times)


# -- memory ---------------------------------------------------------------------------------------


def is_contiguous(self: Tensor, memory_format: Any = None) -> bool:
    """Whether the elements lie in row-major order without gaps."""
    return self.is_symbolic or bool(self._data.flags.c_contiguous)


def contiguous(self: Tensor, memory_format: Any = None) -> Tensor:
    """This tensor if its elements are contiguous, else a copy where they are."""
    if self.is_symbolic or self._data.flags.c_contiguous:
        return self
    return copied(self, self._data.copy("C"))


def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """A copy; differentiable.

    Shapes: any -> the same.
    """
    data = input._data
    if type(data) is not np.ndarray and input.is_symbolic:
        return copied(input, data)
    # The layout is kept where it is one; repeated elements have none.
    repeats = type(data) is np.ndarray and 0 in data.strides
    return copied(input, data.copy("C" if repeats else "K"))


def copied(input: Tensor, data: Any) -> Tensor:
    """`data`, a copy of the input's elements, as a tensor with the input's place on the tape."""
    from dualgraph_compiler.ops.convert import Cast

    from .._dispatch import captures
    from ..autograd.grad_mode import local
    from ..autograd.tape import record
    from ..transforms.levels import Wrapped

    if captures.current is not None or input.is_symbolic or isinstance(data, Wrapped):
        return apply1(Cast(input.dtype), input)
    out = make(data)
    if local.grad and input.requires_grad:
        out._fn = record(Cast(input.dtype), [input._fn], [data], data, [out._ver], None)
    return out


def stride(self: Tensor, dim: int | None = None) -> Any:
    """Steps between neighbouring elements of each dimension, counted in elements."""
    data = self._concrete("stride()")
    steps = tuple(s // data.itemsize for s in data.strides)
    return steps if dim is None else steps[axis_of("stride", dim, len(steps))]


def data_ptr(self: Tensor) -> int:
    """The address of the first element."""
    data = self._concrete("data_ptr()")
    if isinstance(data, np.ndarray):
        return int(data.__array_interface__["data"][0])
    return int(data.data.ptr)


def storage_offset(self: Tensor) -> int:
    """Elements between the start of the storage this tensor shows and its own first element."""
    base = self if self._base is None else self._base.base
    apart = data_ptr(self) - data_ptr(base)
    return apart // self._concrete("storage_offset()").itemsize  # type: ignore[no-any-return]
