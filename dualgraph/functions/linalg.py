"""Products of matrices and vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dims import product
from dualgraph_compiler.errors import ArgumentError, DTypeError, ShapeError
from dualgraph_compiler.ops.base import shape_text
from dualgraph_compiler.ops.linalg import Matmul

from .._autocast import in_float32, in_lower_precision
from .._dispatch import apply2
from ..transforms.levels import transforms
from .basics import axis_of, finish
from .shape import broadcast_tensors, permute, reshape

if TYPE_CHECKING:
    from .._tensor import Tensor

_MATMUL = Matmul()


def matmul(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The product of matrices, of vectors (as rows on the left, columns on the right), or batches.

    Shapes: (.., n, k), (.., k, m) -> (.., n, m); a 1-d operand's dimension is dropped again.
    Operands have one dtype.
    """
    try:
        a, b = input._data.ndim, other._data.ndim
    except AttributeError:
        raise TypeError(
            f"matmul(): expected Tensors, got {type(input).__name__} and {type(other).__name__}"
        ) from None
    if input._data.dtype is not other._data.dtype:
        _require_one_dtype(input, other)
    if a >= 2 and b >= 2:
        y: Tensor = apply2(_MATMUL, input, other)
        return y if out is None else finish(y, out)
    if not a or not b:
        raise ShapeError(
            f"both arguments to matmul need to be at least 1D, but they are {a}D and {b}D"
        )
    if a == 1:
        input = reshape(input, (1, *input._data.shape))
    if b == 1:
        other = reshape(other, (*other._data.shape, 1))
    if input._data.shape[-1] != other._data.shape[-2]:
        raise ShapeError(
            f"inconsistent tensor size for matmul: {shape_text(tuple(input._data.shape))} and "
            f"{shape_text(tuple(other._data.shape))}"
        )
    y = apply2(_MATMUL, input, other)
    shape = list(y._data.shape)
    if b == 1:
        del shape[-1]
    if a == 1:
        del shape[-1 if b == 1 else -2]
    return finish(reshape(y, tuple(shape)), out)


def _require_one_dtype(a: Tensor, b: Tensor) -> None:
    if a.dtype is not b.dtype and transforms.autocast is None:
        raise DTypeError(
            f"expected m1 and m2 to have the same dtype, but got: {a.dtype.name} != {b.dtype.name}"
        )


def operator_matmul(self: Tensor, other: Any) -> Any:
    """Self @ other."""
    return matmul(self, other) if hasattr(other, "_data") else NotImplemented


def operator_rmatmul(self: Tensor, other: Any) -> Any:
    """Other @ self."""
    return matmul(other, self) if hasattr(other, "_data") else NotImplemented


def _require_ndim(name: str, wanted: Sequence[int], *tensors: Tensor) -> None:
    for t, n in zip(tensors, wanted, strict=True):
        if t._data.ndim != n:
            raise ShapeError(
                f"{name}: expected tensors of {', '.join(map(str, wanted))} dimensions, got shapes "
                + ", ".join(shape_text(tuple(x._data.shape)) for x in tensors)
            )


def mm(input: Tensor, mat2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The product of two matrices.

    Shapes: [n, k], [k, m] -> [n, m].
    """
    _require_ndim("mm", (2, 2), input, mat2)
    return matmul(input, mat2, out=out)


def bmm(input: Tensor, mat2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Products of two batches of matrices: (b, n, k), (b, k, m) -> (b, n, m).

    Shapes: [b, n, k], [b, k, m] -> [b, n, m].
    """
    _require_ndim("bmm", (3, 3), input, mat2)
    if input._data.shape[0] != mat2._data.shape[0]:
        raise ShapeError(
            "bmm: expected batches of one size, got shapes "
            f"{shape_text(tuple(input.shape))} and {shape_text(tuple(mat2.shape))}"
        )
    return matmul(input, mat2, out=out)


def mv(input: Tensor, vec: Tensor, *, out: Tensor | None = None) -> Tensor:
    """A matrix times a vector.

    Shapes: [n, k], [k] -> [n].
    """
    _require_ndim("mv", (2, 1), input, vec)
    return matmul(input, vec, out=out)


def dot(input: Tensor, tensor: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The sum of the products of two vectors' elements."""
    _require_ndim("dot", (1, 1), input, tensor)
    return matmul(input, tensor, out=out)


def vdot(input: Tensor, other: Tensor) -> Tensor:
    """As `dot`, with the first vector conjugated.

    Shapes: [n], [n] -> [].
    """
    return dot(input.conj(), other)


def outer(input: Tensor, vec2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """All products of two vectors' elements: [n], [m] -> [n, m]."""
    _require_ndim("outer", (1, 1), input, vec2)
    return finish(reshape(input, (input._data.size, 1)) * vec2, out)


ger = outer


def inner(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Sums of products over the last dimension of both."""
    if not input._data.ndim or not other._data.ndim:
        return finish(input * other, out)
    return finish(tensordot(input, other, ([-1], [-1])), out)


@in_lower_precision
def addmm(
    input: Tensor,
    mat1: Tensor,
    mat2: Tensor,
    *,
    beta: Any = 1,
    alpha: Any = 1,
    out: Tensor | None = None,
) -> Tensor:
    """Beta * input + alpha * (mat1 @ mat2).

    Shapes: [n, m] or what broadcasts to it, [n, k], [k, m] -> [n, m].
    """
    return _added(input, mm(mat1, mat2), beta, alpha, out)


@in_lower_precision
def addmv(
    input: Tensor, mat: Tensor, vec: Tensor, *, beta: Any = 1, alpha: Any = 1, out: Any = None
) -> Tensor:
    """Beta * input + alpha * (mat @ vec).

    Shapes: [n] or [], [n, k], [k] -> [n].
    """
    return _added(input, mv(mat, vec), beta, alpha, out)


@in_lower_precision
def addr(
    input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: Any = 1, alpha: Any = 1, out: Any = None
) -> Tensor:
    """Beta * input + alpha * outer(vec1, vec2).

    Shapes: [n, m] or what broadcasts to it, [n], [m] -> [n, m].
    """
    return _added(input, outer(vec1, vec2), beta, alpha, out)


@in_lower_precision
def baddbmm(
    input: Tensor,
    batch1: Tensor,
    batch2: Tensor,
    *,
    beta: Any = 1,
    alpha: Any = 1,
    out: Tensor | None = None,
) -> Tensor:
    """Beta * input + alpha * (batch1 @ batch2), batch by batch.

    Shapes: [b, n, m] or what broadcasts to it, [b, n, k], [b, k, m] -> [b, n, m].
    """
    return _added(input, bmm(batch1, batch2), beta, alpha, out)


@in_lower_precision
def addbmm(
    input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1, out: Any = None
) -> Tensor:
    """Beta * input + alpha * the sum over the batch of batch1 @ batch2.

    Shapes: [n, m] or what broadcasts to it, [b, n, k], [b, k, m] -> [n, m].
    """
    return _added(input, bmm(batch1, batch2).sum(0), beta, alpha, out)


def _added(input: Tensor, y: Tensor, beta: Any, alpha: Any, out: Tensor | None) -> Tensor:
    if y.dtype.category < dt.FLOAT:  # factors are of the tensors' own kind
        exact = bool if y.dtype is dt.bool_ else int
        beta, alpha = exact(beta), exact(alpha)
    y = y if alpha == 1 else y * alpha
    if beta != 0:  # 0 leaves NaN and infinities of the input out
        y = y + (input if beta == 1 else input * beta)
    return finish(y, out)


def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Sums of products over pairs of dimensions: `dims` last of a with first of b, or two lists."""
    if isinstance(dims, int):
        if dims < 0:
            raise ArgumentError(f"tensordot expects dims >= 0, but got dims={dims}")
        left, right = list(range(a._data.ndim - dims, a._data.ndim)), list(range(dims))
    else:
        left, right = (
            [
                axis_of("tensordot", int(d), x._data.ndim)
                for d in ([given] if isinstance(given, int) else given)
            ]
            for given, x in zip(dims, (a, b), strict=True)
        )
    for i, j in zip(left, right, strict=True):  # a size of 1 is summed over first
        if a._data.shape[i] == 1 != b._data.shape[j]:
            b = b.sum(j, keepdim=True)
        elif b._data.shape[j] == 1 != a._data.shape[i]:
            a = a.sum(i, keepdim=True)
    sa, sb = tuple(a._data.shape), tuple(b._data.shape)
    if [sa[i] for i in left] != [sb[i] for i in right]:
        raise ShapeError(
            "contracted dimensions need to match, but got shapes "
            f"{shape_text(sa)} and {shape_text(sb)} along {left} and {right}"
        )
    rest_a = [i for i in range(len(sa)) if i not in left]
    rest_b = [i for i in range(len(sb)) if i not in right]
    rows, columns = tuple(sa[i] for i in rest_a), tuple(sb[i] for i in rest_b)
    inside = product(tuple(sa[i] for i in left))
    x = reshape(permute(a, (*rest_a, *left)), (product(rows), inside))
    y = reshape(permute(b, (*right, *rest_b)), (inside, product(columns)))
    return reshape(matmul(x, y), (*rows, *columns))


def trace(input: Tensor) -> Tensor:
    """The sum of a matrix' diagonal."""
    _require_ndim("trace", (2,), input)
    return input.diagonal().sum()


def kron(input: Tensor, other: Tensor) -> Tensor:
    """The Kronecker product: every element of the first times the whole second."""
    n = max(input._data.ndim, other._data.ndim)
    sa = (1,) * (n - input._data.ndim) + tuple(input._data.shape)
    sb = (1,) * (n - other._data.ndim) + tuple(other._data.shape)
    a = reshape(input, tuple(v for d in sa for v in (d, 1)))
    b = reshape(other, tuple(v for d in sb for v in (1, d)))
    return reshape(a * b, tuple(p * q for p, q in zip(sa, sb, strict=True)))


def matrix_power(input: Tensor, n: int) -> Tensor:
    """A square matrix (or a batch) multiplied with itself; its inverse for a negative n.

    Shapes: [.., n, n] -> the same.
    """
    if n < 0:
        from ..linalg.solvers import inv

        input, n = inv(input), -n
    if n == 0:
        from .creation import eye

        zeros = input.masked_fill(input == input, 0).masked_fill(input != input, 0)
        one = eye(input._data.shape[-1], dtype=input.dtype, device=input.device)
        return zeros + one
    result: Tensor | None = None
    while n:
        if n & 1:
            result = input if result is None else matmul(result, input)
        n >>= 1
        if n:
            input = matmul(input, input)
    assert result is not None
    return result


def cross(input: Tensor, other: Tensor, dim: int = -1) -> Tensor:
    """The vector product along a dimension of size 3."""
    a, b = broadcast_tensors(input, other)
    axis = axis_of("cross", dim, a._data.ndim)
    if a._data.shape[axis] != 3:
        raise ShapeError(
            f"linalg.cross: inputs dimension {dim} must have length 3. Got {a._data.shape[axis]}"
        )
    return a.roll(-1, axis) * b.roll(-2, axis) - a.roll(-2, axis) * b.roll(-1, axis)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-08) -> Tensor:
    """x1 . x2 / (|x1| |x2|) along `dim`, each length at least `eps`; both broadcast."""
    from .statistics import vector_norm

    a, b = broadcast_tensors(x1, x2)
    sizes = vector_norm(a, 2, dim).clamp_min(eps) * vector_norm(b, 2, dim).clamp_min(eps)
    return (a * b).sum(dim) / sizes


@in_float32
def cdist(
    x1: Tensor,
    x2: Tensor,
    p: float = 2.0,
    compute_mode: str = "use_mm_for_euclid_dist_if_necessary",
) -> Tensor:
    """Distances between all rows of two batches: [.., n, d], [.., m, d] -> [.., n, m].

    `compute_mode` is a hint of PyTorch: distances are always those of differences.
    """
    from .statistics import vector_norm

    return vector_norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), p, -1)
