"""Fourier transforms against NumPy's, eagerly, traced, compiled and in ONNX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph_compiler.errors import ArgumentError, DTypeError

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(3, 4, 5))
COMPLEX = REAL + 1j * RNG.normal(size=REAL.shape)
NORMS = [None, "backward", "ortho", "forward"]


def close(a: Any, b: Any, tol: float = 1e-12) -> None:
    np.testing.assert_allclose(a.numpy(), b, rtol=tol, atol=tol)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft", "hfft", "ihfft"])
def test_one_dimension(name: str, norm: str | None) -> None:
    ours, theirs = getattr(dg.fft, name), getattr(np.fft, name)
    x = REAL if name in ("rfft", "ihfft") else COMPLEX
    for dim in (0, -1):
        for n in (None, 1, 3, 4, 9):
            close(ours(dg.tensor(x), n, dim, norm), theirs(x, n, dim, norm))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft"])
def test_several_dimensions(name: str, norm: str | None) -> None:
    x = REAL if name == "rfft" else COMPLEX
    for s, dim in ((None, (0, 1)), ((2, 6), (0, 2)), (None, (1,)), ((3, 3, 3), (2, 0, 1))):
        want = getattr(np.fft, name + "n")(x, s, dim, norm)
        close(getattr(dg.fft, name + "n")(dg.tensor(x), s, dim, norm), want)
    close(getattr(dg.fft, name + "2")(dg.tensor(x)), getattr(np.fft, name + "2")(x))


def test_hermitian_transforms_undo_each_other() -> None:
    x = dg.tensor(REAL)
    for dim in ((0, 1), (2,), None):
        again = dg.fft.hfftn(
            dg.fft.ihfftn(x, dim=dim), [REAL.shape[d] for d in dim or range(3)], dim
        )
        close(again, REAL)
    close(dg.fft.hfft2(dg.fft.ihfft2(x), (4, 5)), REAL)


def test_frequencies_and_shifts() -> None:
    for n in (1, 4, 5):
        close(dg.fft.fftfreq(n, 0.5, dtype=dg.float64), np.fft.fftfreq(n, 0.5))
        close(dg.fft.rfftfreq(n, 0.5, dtype=dg.float64), np.fft.rfftfreq(n, 0.5))
    for dim in (None, 1, (0, 2)):
        close(dg.fft.fftshift(dg.tensor(REAL), dim), np.fft.fftshift(REAL, dim))
        close(dg.fft.ifftshift(dg.tensor(REAL), dim), np.fft.ifftshift(REAL, dim))
    assert dg.fft.fft(dg.tensor([1, 2])).dtype is dg.complex64


def test_refused() -> None:
    x = dg.tensor(COMPLEX)
    with pytest.raises(DTypeError, match="real"):
        dg.fft.rfft(x)
    with pytest.raises(ArgumentError, match="data points"):
        dg.fft.fft(x, 0)
    with pytest.raises(ArgumentError, match="normalization"):
        dg.fft.fft(x, norm="other")
    with pytest.raises(ArgumentError, match="unique"):
        dg.fft.fftn(x, dim=(0, 0))
    with pytest.raises(ArgumentError, match="at least one"):
        dg.fft.irfftn(x, dim=())
    with pytest.raises(IndexError):
        dg.fft.fft(x, dim=3)


def smooth(x: Any) -> Any:
    """Real numbers by way of complex ones."""
    y = dg.fft.rfft2(x) * (0.5 + 0.25j)
    return dg.fft.irfft2(y * y.conj(), (x.shape[-2], x.shape[-1])) + dg.fft.fft(x).abs()


def test_gradients_against_differences() -> None:
    x = dg.tensor(REAL[0], requires_grad=True)
    (g,) = dg.autograd.grad(smooth(x).sum(), x, create_graph=True)
    step = np.random.default_rng(1).normal(size=REAL[0].shape)

    def slope(f: Callable[[Any], Any]) -> float:
        ends = [f(dg.tensor(REAL[0] + s * step)).item() for s in (1e-5, -1e-5)]
        return (ends[0] - ends[1]) / 2e-5

    assert (g * dg.tensor(step)).sum().item() == pytest.approx(slope(lambda v: smooth(v).sum()))

    def squares(v: Any) -> Any:
        v.requires_grad_()
        (first,) = dg.autograd.grad(smooth(v).sum(), v, create_graph=True)
        return (first * first).sum()

    (second,) = dg.autograd.grad((g * g).sum(), x)
    assert (second * dg.tensor(step)).sum().item() == pytest.approx(slope(squares), rel=1e-4)


def test_compiled_and_exported(tmp_path: Path) -> None:
    x = dg.tensor(REAL[0].astype(np.float32))
    want = smooth(x).numpy()
    np.testing.assert_allclose(dg.compile(smooth)(x).numpy(), want, rtol=1e-5, atol=1e-5)
    ort = pytest.importorskip("onnxruntime")
    path = tmp_path / "smooth.onnx"
    dg.onnx.export(smooth, (x,), str(path), dynamic_shapes={"x": {0: "rows"}})
    session = ort.InferenceSession(str(path))
    for rows in (4, 3):
        some = x.numpy()[:rows]
        (found,) = session.run(None, {session.get_inputs()[0].name: some})
        np.testing.assert_allclose(found, smooth(dg.tensor(some)).numpy(), rtol=1e-4, atol=1e-4)
