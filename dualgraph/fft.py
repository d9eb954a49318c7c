"""Discrete Fourier transforms, as ``torch.fft``.

Every function is composed of three ops on pairs of real numbers (`Dft`, `RealDft`,
`InverseRealDft`), so that it differentiates to any order, traces, and exports as ONNX DFT.

`n` or `s` are the lengths transformed: what is shorter is filled up with zeros at its end, what is
longer is cut off. `norm` says where the sum is divided by the number n of its terms: "backward"
(the default) in the inverse, "forward" in the forward transform, "ortho" by sqrt(n) in both.
Integers become the default floating-point type.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dims import product
from dualgraph_compiler.errors import ArgumentError, DTypeError, ShapeError
from dualgraph_compiler.ops.fourier import Dft, InverseRealDft, RealDft
from dualgraph_compiler.ops.padding import Pad
from dualgraph_compiler.ops.pairs import ViewAsComplex, ViewAsReal

from ._dispatch import apply
from ._promote import Defaults, cast
from .functions.basics import axis_of, finish
from .functions.creation import arange
from .functions.joining import cat, roll
from .functions.sizes import sym_sqrt

if TYPE_CHECKING:
    from ._tensor import Tensor

__all__ = [
    "fft",
    "fft2",
    "fftfreq",
    "fftn",
    "fftshift",
    "hfft",
    "hfft2",
    "hfftn",
    "ifft",
    "ifft2",
    "ifftn",
    "ifftshift",
    "ihfft",
    "ihfft2",
    "ihfftn",
    "irfft",
    "irfft2",
    "irfftn",
    "rfft",
    "rfft2",
    "rfftfreq",
    "rfftn",
]


# -- what all of them share -----------------------------------------------------------------------


def _floats(name: str, x: Tensor) -> Tensor:
    """`x` as it is, or integers in the default floating-point type."""
    if x.dtype.category < dt.FLOAT:
        return cast(x, Defaults.dtype)
    if x.dtype in (dt.float16, dt.bfloat16):
        raise DTypeError(f"{name}: Unsupported dtype {x.dtype.name}")
    return x


def _real(name: str, x: Tensor) -> Tensor:
    if x.dtype.is_complex:
        raise DTypeError(f"{name} expects a real input tensor, but got {x.dtype.name}")
    return _floats(name, x)


def _pairs(x: Tensor) -> Tensor:
    """Numbers as pairs of real ones; imaginary parts of real ones are zeros."""
    return apply(ViewAsReal(), x if x.dtype.is_complex else cast(x, dt.COMPLEX_OF[x.dtype]))


def _fit(x: Tensor, axis: int, size: Any) -> Tensor:
    """`x` cut off or filled up with zeros along an axis."""
    now = x._data.shape[axis]
    if now == size:
        return x
    pads: list[tuple[Any, Any]] = [(0, 0)] * x._data.ndim
    pads[axis] = (0, size - now)
    return apply(Pad(tuple(pads)), x)


def _checked(n: Any) -> Any:
    if isinstance(n, int) and n < 1:
        raise ArgumentError(f"Invalid number of data points ({n}) specified")
    return n


_DIVIDED = {  # the power of n that a sum is divided by: in a forward transform, in an inverse one
    None: (0, 1),
    "backward": (0, 1),
    "ortho": (0.5, 0.5),
    "forward": (1, 0),
}


def _scaled(x: Tensor, norm: str | None, lengths: Sequence[Any], inverse: bool) -> Tensor:
    """`x`, a plain sum or one divided by n in an inverse, divided as `norm` says."""
    if norm not in _DIVIDED:
        raise ArgumentError(f'Invalid normalization mode: "{norm}"')
    power = _DIVIDED[norm][inverse] - inverse
    if not power:
        return x
    n = product(tuple(lengths))
    factor = sym_sqrt(n) if abs(power) == 0.5 else n
    return x / factor if power > 0 else x * factor


def _turned(norm: str | None) -> str | None:
    """The `norm` of an inverse transform that divides as a forward one does, and the other way."""
    return {None: "forward", "backward": "forward", "forward": "backward"}.get(norm, norm)


def _axes(name: str, x: Tensor, s: Any, dim: Any) -> tuple[tuple[int, ...], list[Any]]:
    """The axes of a transform over several, and the lengths along them."""
    ndim = x._data.ndim
    if isinstance(s, int):
        s = (s,)
    if isinstance(dim, int):
        dim = (dim,)
    if dim is None:
        if s is not None and len(s) > ndim:
            raise ArgumentError(
                f"Got shape with {len(s)} values but input tensor only has {ndim} dimensions."
            )
        dim = range(ndim) if s is None else range(ndim - len(s), ndim)
    axes = tuple(axis_of(name, d, ndim) for d in dim)
    if len(set(axes)) != len(axes):
        raise ArgumentError("FFT dims must be unique")
    if s is not None and len(s) != len(axes):
        raise ArgumentError(
            "When given, dim and shape arguments must have the same length: "
            f"got {len(axes)} and {len(s)}"
        )
    sizes = [x._data.shape[a] for a in axes]
    if s is not None:
        sizes = [old if n == -1 else n for n, old in zip(s, sizes, strict=True)]
    return axes, [_checked(n) for n in sizes]


def _complex(
    x: Tensor, axes: Sequence[int], sizes: Sequence[Any], norm: str | None, inverse: bool
) -> Tensor:
    """Pairs from pairs, transformed along several axes."""
    for axis, size in zip(axes, sizes, strict=True):
        x = apply(Dft(axis, inverse), _fit(x, axis, size))
    return _scaled(x, norm, sizes, inverse) if axes else x


def _one(name: str, x: Tensor, n: Any, dim: int) -> tuple[int, Any]:
    """The axis of a transform over one, and the length along it."""
    if not x._data.ndim:
        axis_of(name, dim, 0)
        raise ShapeError(f"{name}: expected a tensor of one dimension or more, got a scalar")
    axis = axis_of(name, dim, x._data.ndim)
    return axis, _checked(x._data.shape[axis] if n is None else n)


# -- over one dimension ---------------------------------------------------------------------------


def fft(
    input: Tensor, n: Any = None, dim: int = -1, norm: str | None = None, *, out: Any = None
) -> Tensor:
    """The discrete Fourier transform along `dim`: [.., n, ..] -> complex [.., n, ..]."""
    x = _floats("fft", input)
    axis, size = _one("fft", x, n, dim)
    return finish(apply(ViewAsComplex(), _complex(_pairs(x), [axis], [size], norm, False)), out)


def ifft(
    input: Tensor, n: Any = None, dim: int = -1, norm: str | None = None, *, out: Any = None
) -> Tensor:
    """The inverse of `fft` along `dim`: [.., n, ..] -> complex [.., n, ..]."""
    x = _floats("ifft", input)
    axis, size = _one("ifft", x, n, dim)
    return finish(apply(ViewAsComplex(), _complex(_pairs(x), [axis], [size], norm, True)), out)


def rfft(
    input: Tensor, n: Any = None, dim: int = -1, norm: str | None = None, *, out: Any = None
) -> Tensor:
    """The first half of `fft` of real numbers: [.., n, ..] -> complex [.., n // 2 + 1, ..]."""
    x = _real("rfft", input)
    axis, size = _one("rfft", x, n, dim)
    return finish(apply(ViewAsComplex(), _half(x, axis, size, norm)), out)


def _half(x: Tensor, axis: int, size: Any, norm: str | None) -> Tensor:
    """The pairs of `rfft`."""
    return _scaled(apply(RealDft(axis), _fit(x, axis, size)), norm, [size], False)


def irfft(
    input: Tensor, n: Any = None, dim: int = -1, norm: str | None = None, *, out: Any = None
) -> Tensor:
    """The `n` real numbers whose `rfft` is given: [.., m, ..] -> [.., n, ..], 2 (m - 1) by default.

    Imaginary parts that no such transform has are ignored.
    """
    x = _floats("irfft", input)
    axis, size = _whole_length("irfft", x, n, dim)
    return finish(_whole(_pairs(x), axis, size, norm), out)


def _whole_length(name: str, x: Tensor, n: Any, dim: int) -> tuple[int, Any]:
    axis, size = _one(name, x, None, dim)
    return axis, _checked(2 * (size - 1) if n is None else n)


def _whole(x: Tensor, axis: int, size: Any, norm: str | None) -> Tensor:
    """`irfft` of pairs."""
    y = apply(InverseRealDft(axis, size), _fit(x, axis, size // 2 + 1))
    return _scaled(y, norm, [size], True)


def hfft(
    input: Tensor, n: Any = None, dim: int = -1, norm: str | None = None, *, out: Any = None
) -> Tensor:
    """The real transform of a signal that is its own mirror image, conjugated, of which the first
    half is given: [.., m, ..] -> [.., n, ..], 2 (m - 1) by default."""
    x = _floats("hfft", input)
    axis, size = _whole_length("hfft", x, n, dim)
    return finish(_whole(_pairs(x.conj()), axis, size, _turned(norm)), out)


def ihfft(
    input: Tensor, n: Any = None, dim: int = -1, norm: str | None = None, *, out: Any = None
) -> Tensor:
    """The inverse of `hfft` of real numbers: [.., n, ..] -> complex [.., n // 2 + 1, ..]."""
    x = _real("ihfft", input)
    axis, size = _one("ihfft", x, n, dim)
    return finish(apply(ViewAsComplex(), _half(x, axis, size, _turned(norm))).conj(), out)


# -- over several ---------------------------------------------------------------------------------


def fftn(
    input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None, *, out: Any = None
) -> Tensor:
    """`fft` along several dimensions: all, or the last len(s), by default."""
    x = _floats("fftn", input)
    axes, sizes = _axes("fftn", x, s, dim)
    return finish(apply(ViewAsComplex(), _complex(_pairs(x), axes, sizes, norm, False)), out)


def ifftn(
    input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None, *, out: Any = None
) -> Tensor:
    """`ifft` along several dimensions: all, or the last len(s), by default."""
    x = _floats("ifftn", input)
    axes, sizes = _axes("ifftn", x, s, dim)
    return finish(apply(ViewAsComplex(), _complex(_pairs(x), axes, sizes, norm, True)), out)


def _some(name: str, axes: Sequence[int]) -> None:
    if not axes:
        raise ArgumentError(f"{name} must transform at least one axis")


def rfftn(
    input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None, *, out: Any = None
) -> Tensor:
    """`fftn` of real numbers, of which the last dimension transformed is given by half."""
    x = _real("rfftn", input)
    axes, sizes = _axes("rfftn", x, s, dim)
    _some("rfftn", axes)
    y = _half(x, axes[-1], sizes[-1], norm)
    return finish(apply(ViewAsComplex(), _complex(y, axes[:-1], sizes[:-1], norm, False)), out)


def irfftn(
    input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None, *, out: Any = None
) -> Tensor:
    """The inverse of `rfftn`; the last length is 2 (m - 1) for a half of m unless given by `s`."""
    x = _floats("irfftn", input)
    axes, sizes = _axes("irfftn", x, s, dim)
    _some("irfftn", axes)
    size = _last_length(s, sizes)
    y = _complex(_pairs(x), axes[:-1], sizes[:-1], norm, True)
    return finish(_whole(y, axes[-1], size, norm), out)


def _last_length(s: Any, sizes: Sequence[Any]) -> Any:
    last = None if s is None else s if isinstance(s, int) else s[-1]
    return _checked(2 * (sizes[-1] - 1)) if last is None or last == -1 else sizes[-1]


def hfftn(
    input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None, *, out: Any = None
) -> Tensor:
    """`fft` along all dimensions but the last that is transformed, and `hfft` along that."""
    x = _floats("hfftn", input)
    axes, sizes = _axes("hfftn", x, s, dim)
    _some("hfftn", axes)
    size, turned = _last_length(s, sizes), _turned(norm)
    # The conjugate of a transform is the inverse transform of the conjugate.
    y = _complex(_pairs(x.conj()), axes[:-1], sizes[:-1], turned, True)
    return finish(_whole(y, axes[-1], size, turned), out)


def ihfftn(
    input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None, *, out: Any = None
) -> Tensor:
    """The inverse of `hfftn`, of real numbers."""
    x = _real("ihfftn", input)
    axes, sizes = _axes("ihfftn", x, s, dim)
    _some("ihfftn", axes)
    turned = _turned(norm)
    y = _half(x, axes[-1], sizes[-1], turned)
    y = _complex(y, axes[:-1], sizes[:-1], turned, False)
    return finish(apply(ViewAsComplex(), y).conj(), out)


def fft2(
    input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None, *, out: Any = None
) -> Tensor:
    """`fftn` along the last two dimensions."""
    return fftn(input, s, dim, norm, out=out)


def ifft2(
    input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None, *, out: Any = None
) -> Tensor:
    """`ifftn` along the last two dimensions."""
    return ifftn(input, s, dim, norm, out=out)


def rfft2(
    input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None, *, out: Any = None
) -> Tensor:
    """`rfftn` along the last two dimensions."""
    return rfftn(input, s, dim, norm, out=out)


def irfft2(
    input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None, *, out: Any = None
) -> Tensor:
    """`irfftn` along the last two dimensions."""
    return irfftn(input, s, dim, norm, out=out)


def hfft2(
    input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None, *, out: Any = None
) -> Tensor:
    """`hfftn` along the last two dimensions."""
    return hfftn(input, s, dim, norm, out=out)


def ihfft2(
    input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None, *, out: Any = None
) -> Tensor:
    """`ihfftn` along the last two dimensions."""
    return ihfftn(input, s, dim, norm, out=out)


# -- frequencies ----------------------------------------------------------------------------------


def fftfreq(
    n: Any,
    d: float = 1.0,
    *,
    out: Any = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """The frequencies of `fft`'s `n` results, for samples `d` apart: 0, 1, .., -2, -1 by n d."""
    kind = Defaults.dtype if dtype is None else dtype
    first = arange((n + 1) // 2, dtype=kind, device=device)
    found = cat([first, arange(-(n // 2), 0, dtype=kind, device=device)]) * (1 / (n * d))
    return finish(found.requires_grad_() if requires_grad else found, out)


def rfftfreq(
    n: Any,
    d: float = 1.0,
    *,
    out: Any = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """The frequencies of `rfft`'s n // 2 + 1 results, for samples `d` apart: 0, 1, .. by n d."""
    kind = Defaults.dtype if dtype is None else dtype
    found = arange(n // 2 + 1, dtype=kind, device=device) * (1 / (n * d))
    return finish(found.requires_grad_() if requires_grad else found, out)


def fftshift(input: Tensor, dim: Any = None) -> Tensor:
    """Frequency 0 moved to the middle of the dimensions (all by default) of a transform."""
    dims = _shifted(input, dim)
    return roll(input, [input._data.shape[d] // 2 for d in dims], dims)


def ifftshift(input: Tensor, dim: Any = None) -> Tensor:
    """The inverse of `fftshift`."""
    dims = _shifted(input, dim)
    return roll(input, [(input._data.shape[d] + 1) // 2 for d in dims], dims)


def _shifted(x: Tensor, dim: Any) -> list[int]:
    if dim is None:
        return list(range(x._data.ndim))
    return [dim] if isinstance(dim, int) else list(dim)
