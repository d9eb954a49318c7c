"""Spectra of what changes in time: short-time Fourier transforms, and the windows for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import ArgumentError, DTypeError, ShapeError
from dualgraph_compiler.ops.base import shape_text

from .basics import dtype_or_default
from .creation import ones
from .joining import cat
from .pairs import view_as_complex, view_as_real

if TYPE_CHECKING:
    from .._tensor import Tensor


# -- windows --------------------------------------------------------------------------------------


def _length(name: str, n: Any, dtype: Any) -> dt.DType:
    if isinstance(n, int) and n < 0:
        raise ArgumentError(f"{name} requires non-negative window_length, got window_length={n}")
    kind = dtype_or_default(dtype)
    if kind.category != dt.FLOAT:
        raise DTypeError(f"{name} expects floating point dtypes, got: {kind}")
    return kind


def hann_window(
    window_length: Any,
    periodic: bool = True,
    *,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """sin(pi k / n)**2 for k = 0, 1, ..; n = `window_length`, or one less unless `periodic`.

    Shapes: [window_length].
    """
    return _general(
        "hann_window", window_length, periodic, [0.5, 0.5], dtype, device, requires_grad
    )


def hamming_window(
    window_length: Any,
    periodic: bool = True,
    alpha: float = 0.54,
    beta: float = 0.46,
    *,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Alpha - beta cos(2 pi k / n), with n = `window_length`, or one less unless `periodic`.

    Shapes: [window_length].
    """
    return _general(
        "hamming_window", window_length, periodic, [alpha, beta], dtype, device, requires_grad
    )


def blackman_window(
    window_length: Any,
    periodic: bool = True,
    *,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """0.42 - 0.5 cos(2 pi k / n) + 0.08 cos(4 pi k / n), with n as of `hann_window`.

    Shapes: [window_length].
    """
    weights = [0.42, 0.5, 0.08]
    return _general(
        "blackman_window", window_length, periodic, weights, dtype, device, requires_grad
    )


def _general(
    name: str, n: Any, periodic: bool, weights: list[float], dtype: Any, device: Any, grad: bool
) -> Tensor:
    from ..signal.windows import general_cosine

    kind = _length(name, n, dtype)
    found = general_cosine(n, a=weights, sym=not periodic, dtype=_wide(kind), device=device)
    return _finished(found, kind, grad)


def _wide(kind: dt.DType) -> dt.DType:
    return dt.float64 if kind is dt.float64 else dt.float32


def _finished(x: Tensor, kind: dt.DType, requires_grad: bool) -> Tensor:
    x = x.to(kind)
    return x.requires_grad_() if requires_grad else x


def bartlett_window(
    window_length: Any,
    periodic: bool = True,
    *,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """A triangle, 1 - |2 k / n - 1|, with n as of `hann_window`: [window_length]."""
    from ..signal.windows import bartlett

    kind = _length("bartlett_window", window_length, dtype)
    found = bartlett(window_length, sym=not periodic, dtype=_wide(kind), device=device)
    return _finished(found, kind, requires_grad)


def kaiser_window(
    window_length: Any,
    periodic: bool = True,
    beta: float = 12.0,
    *,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """I0(beta sqrt(1 - (2 k / n - 1)**2)) / I0(beta), with n as of `hann_window`.

    Shapes: [window_length].
    """
    from ..signal.windows import kaiser

    kind = _length("kaiser_window", window_length, dtype)
    found = kaiser(window_length, beta=beta, sym=not periodic, dtype=_wide(kind), device=device)
    return _finished(found, kind, requires_grad)


# -- short-time Fourier transforms ----------------------------------------------------------------


def _framing(
    name: str, n_fft: int, hop: int | None, width: int | None, window: Tensor | None
) -> tuple[int, int]:
    """The distance between frames, and the length of the window."""
    hop = n_fft // 4 if hop is None else hop
    width = n_fft if width is None else width
    if hop <= 0:
        raise ArgumentError(f"{name}: expected hop_length > 0, but got hop_length={hop}")
    if not 0 < width <= n_fft:
        raise ArgumentError(f"{name}: expected 0 < win_length <= n_fft, but got win_length={width}")
    if window is not None and tuple(window._data.shape) != (width,):
        raise ShapeError(
            f"{name}: expected a 1D window tensor of size equal to win_length={width}, but got "
            f"window with size {shape_text(tuple(window._data.shape))}"
        )
    return hop, width


def _whole_window(
    x: Tensor, n_fft: int, width: int, window: Tensor | None, dtype: dt.DType
) -> Tensor | None:
    """The window in the middle of a frame; None where that is all ones."""
    from ..nn.functional import pad

    if width == n_fft:
        return window
    if window is None:
        window = ones(width, dtype=dtype, device=x.device)
    left = (n_fft - width) // 2
    return pad(window, (left, n_fft - width - left))


def stft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Tensor:
    """Fourier transforms of overlapping frames of a signal: [L] or [B, L] -> [.., F, T].

    Frames of `n_fft` numbers, `hop_length` (n_fft // 4) apart, are multiplied by `window` (of
    `win_length` numbers, put in their middle). With `center` the signal is padded by half a frame
    at both ends, so that frame t is about number t hop_length. F is n_fft // 2 + 1 if `onesided`
    (the default for real numbers), else n_fft; `normalized` divides by sqrt(n_fft). The result is
    complex, or with `return_complex=False` real with parts in a last dimension of 2.
    """
    from .. import fft
    from ..nn.functional import pad

    shape = tuple(input._data.shape)
    if input.dtype.category < dt.FLOAT or len(shape) not in (1, 2):
        raise ShapeError(
            "stft: expected a 1D or 2D tensor of floating types, "
            f"got {input.dtype.name} of shape {list(shape)}"
        )
    complex_ = input.dtype.is_complex or (window is not None and window.dtype.is_complex)
    if return_complex is None:
        if not complex_:
            raise ArgumentError(
                "stft requires the return_complex parameter be given for real inputs"
            )
        return_complex = True
    if align_to_window is not None and center:
        raise ArgumentError("stft: align_to_window should only be set when center = false")
    hop, width = _framing("stft", n_fft, hop_length, win_length, window)
    x = input if len(shape) == 2 else input.unsqueeze(0)
    if center:
        x = pad(x.unsqueeze(1), (n_fft // 2, n_fft // 2), pad_mode).squeeze(1)
    length = x._data.shape[-1]
    if isinstance(length, int) and not 0 < n_fft <= length:
        raise ArgumentError(f"stft: expected 0 < n_fft <= {length}, but got n_fft={n_fft}")
    whole = _whole_window(x, n_fft, width, window, input.dtype)
    if align_to_window:  # frames begin where the window does
        x = pad(x, ((n_fft - width) // 2,) * 2)
    frames = _framed(x, n_fft, hop)
    frames = frames if whole is None else frames * whole
    onesided = not complex_ if onesided is None else onesided
    if onesided and complex_:
        raise ArgumentError("Cannot have onesided output if window or input is complex")
    transform = fft.rfft if onesided else fft.fft
    y = transform(frames, norm="ortho" if normalized else None).transpose(-1, -2)
    y = y if len(shape) == 2 else y.squeeze(0)
    return y if return_complex else view_as_real(y)


def istft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Tensor:
    """The signal whose `stft` is nearest to the input: complex [.., F, T] -> [.., L].

    Frames are transformed back, multiplied by the window, added up where they overlap, and divided
    by the sum of the windows' squares there. L is `length`, or all that the frames tell.

    Raises:
        ArgumentError: the windows leave a place of the signal without weight.
    """
    from .. import fft

    x = input if input.dtype.is_complex else view_as_complex(input)
    if x._data.ndim not in (2, 3):
        raise ShapeError(f"istft: expected a tensor with 2 or 3 dimensions, but got {x._data.ndim}")
    hop, width = _framing("istft", n_fft, hop_length, win_length, window)
    bins, count = x._data.shape[-2:]
    half = bins != n_fft if onesided is None else onesided
    if isinstance(bins, int) and bins != (n_fft // 2 + 1 if half else n_fft):
        raise ShapeError(
            "istft: expected the frequency dimension (3rd to the last) of the input tensor to "
            f"match n_fft={n_fft} when onesided={half}, but got {bins}"
        )
    if return_complex and half:
        raise ArgumentError("istft: cannot have onesided input if return_complex is True")
    norm = "ortho" if normalized else None
    spectra = x.transpose(-1, -2)
    if return_complex:
        frames = fft.ifft(spectra, norm=norm)
    else:  # which takes the first half of the frequencies
        frames = fft.irfft(spectra, n_fft, norm=norm)
    real = dt.REAL_OF[x.dtype]
    whole = _whole_window(x, n_fft, width, window, real)
    if whole is None:
        whole = ones(n_fft, dtype=real, device=x.device)
    signal = _overlapped(frames * whole, hop)
    weights = _overlapped((whole * whole).expand((count, n_fft)), hop)
    start = n_fft // 2 if center else 0
    total = n_fft + hop * (count - 1)
    stop = start + length if length is not None else total - start if center else total
    if isinstance(stop, int) and isinstance(total, int) and stop > total:
        found = _shown(signal, weights, start, total)
        return _filled_up(found, stop - total)
    return _shown(signal, weights, start, stop)


def _shown(signal: Tensor, weights: Tensor, start: Any, stop: Any) -> Tensor:
    weights = weights[..., start:stop]
    known = type(weights._data) is np.ndarray or hasattr(weights._data, "get")
    if known and bool((weights.detach().abs() <= 1e-11).any()):
        raise ArgumentError("istft: window overlap add min: 1")
    return signal[..., start:stop] / weights


def _filled_up(x: Tensor, missing: int) -> Tensor:
    from ..nn.functional import pad

    return pad(x, (0, missing))


def _framed(x: Tensor, n: int, hop: int) -> Tensor:
    """Frames of `n` numbers, `hop` apart: [.., L] -> [.., T, n].

    The signal is cut into parts of a hop, of which a frame has as many as it needs, one after the
    other: a few slices, whatever the number of frames.
    """
    from ..nn.functional import pad

    *batch, length = x._data.shape
    count, parts = (length - n) // hop + 1, -(-n // hop)
    rows = count + parts - 1
    whole = pad(x, (0, rows * hop - length)).reshape((*batch, rows, hop))
    frames = cat([whole[..., i : i + count, :] for i in range(parts)], -1)
    return frames[..., :n]


def _overlapped(frames: Tensor, hop: int) -> Tensor:
    """Frames [.., T, n], `hop` apart, added up where they overlap: [.., n + hop (T - 1)].

    As in `_framed`, the other way round: parts i of all frames, one after the other, are the signal
    that begins i hops later.
    """
    from ..nn.functional import pad

    *batch, count, n = frames._data.shape
    parts = -(-n // hop)
    whole = pad(frames, (0, parts * hop - n)).reshape((*batch, count, parts, hop))
    total: Any = 0
    for i in range(parts):
        part = whole.select(-2, i).reshape((*batch, count * hop))
        total = total + pad(part, (i * hop, (parts - 1 - i) * hop))
    return total[..., : n + hop * (count - 1)]  # type: ignore[no-any-return]
