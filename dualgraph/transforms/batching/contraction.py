"""Matrix products and convolutions.

A convolution whose weights differ from element to element is one with as many groups as there are
elements, on channels that stand side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.dims import DimLike
from dualgraph_compiler.ops import conv as cv
from dualgraph_compiler.ops import f
from dualgraph_compiler.ops.conv_transpose import ConvTranspose
from dualgraph_compiler.ops.linalg import Linear, Matmul

from ..._dispatch import apply
from .rules import altered, everywhere, lifted, merged, parted, rule

if TYPE_CHECKING:
    from ..._tensor import Tensor


@rule(Matmul)
def _matmul(op: Any, _size: DimLike, xs: Sequence[Tensor], flags: Sequence[bool]) -> Any:
    ndim = max(x.ndim - own for x, own in zip(xs, flags, strict=True))
    return apply(op, *(lifted(x, ndim) if own else x for x, own in zip(xs, flags, strict=True)))


@rule(Linear)
def _linear(op: Any, size: DimLike, xs: Sequence[Tensor], flags: Sequence[bool]) -> Any:
    if not any(flags[1:]):
        return apply(op, *xs)
    x, w, *bias = xs
    rows = x if flags[0] else f.expand(x, (size, *x.shape))
    shape = tuple(rows.shape)
    rows = f.reshape(rows, (size, -1, shape[-1]))
    y = f.matmul(rows, f.transpose(w))
    y = f.reshape(y, (*shape[:-1], y.shape[-1]))
    if bias:
        (b,) = bias
        y = y + (lifted(b, len(shape) - 1) if flags[2] else b)
    return y


@rule(cv.Conv, ConvTranspose)
def _conv(op: Any, size: DimLike, xs: Sequence[Tensor], flags: Sequence[bool]) -> Any:
    x, w, *bias = xs
    if not any(flags[1:]):
        return parted(apply(op, merged(x), *xs[1:]), size)
    x, w = everywhere(size, (x, w), flags[:2])
    rest = [b if flags[2] else f.expand(b, (size, *b.shape)) for b in bias]
    y = apply(
        altered(op, groups=op.groups * size),
        _side_by_side(x),
        merged(w),
        *(f.reshape(b, (-1,)) for b in rest),
    )
    return _apart(y, size)


def _side_by_side(x: Tensor) -> Tensor:
    """[B, N, C, ...] as [N, B C, ...]."""
    moved = f.permute(x, (1, 0, *range(2, x.ndim)))
    return f.reshape(moved, (x.shape[1], x.shape[0] * x.shape[2], *x.shape[3:]))  # type: ignore[no-any-return]


def _apart(y: Tensor, size: DimLike) -> Tensor:
    """[N, B C, ...] as [B, N, C, ...]."""
    split = f.reshape(y, (y.shape[0], size, y.shape[1] // size, *y.shape[2:]))
    return f.permute(split, (1, 0, *range(2, split.ndim)))  # type: ignore[no-any-return]


@rule(cv.ConvInputGrad)
def _input_grad(op: Any, size: DimLike, xs: Sequence[Tensor], flags: Sequence[bool]) -> Any:
    if not flags[1]:
        return parted(apply(op, merged(xs[0]), xs[1]), size)
    g, w = everywhere(size, xs, flags)
    return _apart(apply(altered(op, groups=op.groups * size), _side_by_side(g), merged(w)), size)


@rule(cv.ConvWeightGrad)
def _weight_grad(op: Any, size: DimLike, xs: Sequence[Tensor], flags: Sequence[bool]) -> Any:
    g, x = everywhere(size, xs, flags)
    y = apply(altered(op, groups=op.groups * size), _side_by_side(g), _side_by_side(x))
    return parted(y, size)
