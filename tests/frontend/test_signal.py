"""Windows and short-time Fourier transforms against NumPy's, eagerly and in ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph.signal import windows
from dualgraph_compiler.errors import ArgumentError, DTypeError, ShapeError

RNG = np.random.default_rng(0)
SIGNAL = RNG.normal(size=(2, 100))


@pytest.mark.parametrize("n", [0, 1, 2, 5, 8])
def test_windows(n: int) -> None:
    theirs = {
        "hann": np.hanning,
        "hamming": np.hamming,
        "blackman": np.blackman,
        "bartlett": np.bartlett,
        "kaiser": lambda m: np.kaiser(m, 12.0),
    }
    for name, function in theirs.items():
        ours = getattr(windows, name)
        found = ours(n, dtype=dg.float64)
        np.testing.assert_allclose(found.numpy(), function(n), atol=1e-8)
        if n > 1:
            periodic = function(n + 1)[:-1]
            np.testing.assert_allclose(
                ours(n, sym=False, dtype=dg.float64).numpy(), periodic, atol=1e-8
            )
            top = getattr(dg, f"{name}_window")(n)
            assert top.dtype is dg.float32
            np.testing.assert_allclose(top.numpy(), periodic, atol=1e-6)


def test_other_windows() -> None:
    k = np.arange(7)
    for found, want in (
        (windows.cosine(7), np.sin(np.pi * (k + 0.5) / 7)),
        (windows.exponential(7, tau=2.0), np.exp(-abs(k - 3) / 2)),
        (windows.exponential(7, tau=2.0, center=1.0, sym=False), np.exp(-abs(k - 1) / 2)),
        (windows.gaussian(7, std=2.0), np.exp(-((k - 3) ** 2) / 8)),
        (windows.general_hamming(7, alpha=0.7), 0.7 - 0.3 * np.cos(2 * np.pi * k / 6)),
        (windows.general_cosine(7, a=[0.5, 0.5]), np.hanning(7)),
        (windows.nuttall(7, sym=False), None),
    ):
        if want is not None:
            np.testing.assert_allclose(found.numpy(), want, atol=1e-6)
    assert windows.hann(3, requires_grad=True).requires_grad


def test_windows_refused() -> None:
    for call in (
        lambda: windows.hann(-1),
        lambda: windows.exponential(3, tau=0),
        lambda: windows.exponential(3, center=1.0),
        lambda: windows.gaussian(3, std=0),
        lambda: windows.kaiser(3, beta=-1),
        lambda: windows.hann(3, dtype=dg.int64),
        lambda: windows.general_cosine(3, a=[]),
        lambda: dg.hann_window(-1),
    ):
        with pytest.raises(ArgumentError):
            call()
    with pytest.raises(DTypeError):
        dg.hann_window(3, dtype=dg.int32)


def frames(x: Any, n: int, hop: int, window: Any) -> Any:
    starts = range(0, x.shape[-1] - n + 1, hop)
    return np.stack([x[..., s : s + n] * window for s in starts], -2)


@pytest.mark.parametrize("hop", [3, 4, 7])
@pytest.mark.parametrize("center", [True, False])
def test_stft(hop: int, center: bool) -> None:
    window = np.hanning(14)[1:-1]
    x = np.pad(SIGNAL, ((0, 0), (8, 8)), "reflect") if center else SIGNAL
    want = np.fft.rfft(frames(x, 16, hop, np.pad(window, (2, 2)))).swapaxes(-1, -2)
    given = {"win_length": 12, "window": dg.tensor(window), "center": center}
    found = dg.stft(dg.tensor(SIGNAL), 16, hop, return_complex=True, **given)
    np.testing.assert_allclose(found.numpy(), want, atol=1e-12)
    one = dg.stft(dg.tensor(SIGNAL[0]), 16, hop, return_complex=False, **given)
    np.testing.assert_allclose(one.numpy()[..., 0], want[0].real, atol=1e-12)
    whole = dg.tensor(SIGNAL).stft(16, hop, onesided=False, return_complex=True, **given)
    np.testing.assert_allclose(whole.numpy()[:, :9], want, atol=1e-12)


@pytest.mark.parametrize("normalized", [True, False])
def test_istft_undoes_stft(normalized: bool) -> None:
    x = dg.tensor(SIGNAL)
    for n, hop, onesided in ((16, 4, True), (15, 5, False), (16, 5, True)):
        window = dg.hann_window(n, dtype=dg.float64)
        y = dg.stft(
            x, n, hop, window=window, normalized=normalized, onesided=onesided, return_complex=True
        )
        back = dg.istft(y, n, hop, window=window, normalized=normalized, length=95)
        np.testing.assert_allclose(back.numpy(), SIGNAL[:, :95], atol=1e-12)
    z = dg.tensor(SIGNAL + 1j * SIGNAL[::-1])
    y = z.stft(16, 4, return_complex=True)
    np.testing.assert_allclose(
        y.istft(16, 4, return_complex=True).numpy(), z.numpy()[:, :100], atol=1e-12
    )


def test_gradients() -> None:
    x = dg.tensor(SIGNAL[0, :30], requires_grad=True)
    window = dg.hann_window(8, dtype=dg.float64)

    def loss(v: Any) -> Any:
        y = dg.stft(v, 8, window=window, return_complex=True)
        return (y.abs() ** 2).sum() + (dg.istft(y * (1 + 1j), 8, window=window) ** 3).sum()

    (g,) = dg.autograd.grad(loss(x), x)
    step = RNG.normal(size=30)
    ends = [loss(dg.tensor(SIGNAL[0, :30] + s * step)).item() for s in (1e-5, -1e-5)]
    assert (g * dg.tensor(step)).sum().item() == pytest.approx((ends[0] - ends[1]) / 2e-5)


def test_refused() -> None:
    x = dg.tensor(SIGNAL)
    with pytest.raises(ArgumentError, match="return_complex"):
        dg.stft(x, 16)
    with pytest.raises(ArgumentError, match="n_fft"):
        dg.stft(x, 200, center=False, return_complex=True)
    with pytest.raises(ArgumentError, match="hop_length"):
        dg.stft(x, 16, 0, return_complex=True)
    with pytest.raises(ShapeError, match="window"):
        dg.stft(x, 16, window=dg.ones(5, dtype=dg.float64), return_complex=True)
    with pytest.raises(ArgumentError, match="onesided"):
        dg.stft(dg.complex(x, x), 16, onesided=True)
    y = dg.stft(x, 16, return_complex=True)
    with pytest.raises(ShapeError, match="n_fft"):
        dg.istft(y, 20)
    with pytest.raises(ArgumentError, match="window overlap"):
        dg.istft(y, 16, window=dg.zeros(16, dtype=dg.float64))


def test_exported(tmp_path: Path) -> None:
    """As one DFT of the frames, which a few slices make; for signals of any length."""
    ort = pytest.importorskip("onnxruntime")

    def spectrogram(x: Any) -> Any:
        y = dg.stft(x, 16, 4, window=dg.hann_window(16), return_complex=True)
        return y.abs()

    x = SIGNAL.astype(np.float32)
    path = tmp_path / "stft.onnx"
    sizes = {"x": {0: "batch", 1: "length"}}
    model = dg.onnx.export(spectrogram, (dg.tensor(x),), str(path), dynamic_shapes=sizes)
    assert [n.op_type for n in model.graph.node].count("DFT") == 1
    assert [n.op_type for n in model.graph.node].count("Slice") < 10
    session = ort.InferenceSession(str(path))
    for some in (x, x[:1], x[:, :41]):
        (found,) = session.run(None, {session.get_inputs()[0].name: some})
        np.testing.assert_allclose(found, spectrogram(dg.tensor(some)).numpy(), atol=1e-4)
