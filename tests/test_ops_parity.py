"""Elementwise ops against PyTorch: values and gradients, to rounding, special values included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dualgraph_compiler.ops import REGISTRY

torch = pytest.importorskip("torch")
F = torch.nn.functional

FLOATS = (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)
INTS = (np.uint8, np.int8, np.int32, np.int64)
# Ops of the same name, and those that go by another one.
UNARY: dict[str, Callable[..., Any]] = {
    n: getattr(torch, n)
    for n in (
        *("neg", "abs", "sign", "reciprocal", "sqrt", "rsqrt", "exp", "exp2", "expm1", "log"),
        *("log2", "log10", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh"),
        *("tanh", "asinh", "acosh", "atanh", "erf", "floor", "ceil", "round", "trunc", "relu"),
        *("sigmoid", "selu", "isnan", "isinf", "isfinite", "logical_not", "bitwise_not"),
    )
} | {
    "hardtanh": F.hardtanh,
    "leaky_relu": F.leaky_relu,
    "log_sigmoid": F.logsigmoid,
    "softplus": F.softplus,
    "elu": F.elu,
    "celu": F.celu,
    "hard_sigmoid": F.hardsigmoid,
    "silu": F.silu,
    "gelu": F.gelu,
    "mish": F.mish,
    "hard_swish": F.hardswish,
    "softsign": F.softsign,
}
BINARY: dict[str, Callable[..., Any]] = {
    n: getattr(torch, n)
    for n in (
        *("add", "sub", "mul", "div", "remainder", "fmod", "pow", "maximum", "minimum", "atan2"),
        *("greater", "less_equal", "not_equal", "logical_and", "logical_xor", "bitwise_and"),
    )
} | {
    "floor_div": torch.floor_divide,
    "trunc_div": lambda a, b: torch.div(a, b, rounding_mode="trunc"),
    "equal": torch.eq,
    "shift_left": torch.bitwise_left_shift,
    "shift_right": torch.bitwise_right_shift,
}
# Where PyTorch's own formula cancels: the absolute error it may have.
COARSE = {"gelu": 3e-7, "hard_sigmoid": 1e-7}

SPECIAL = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, 1, -1, 0.5, -0.5, 1.5, 2.5, -2.5, 3, -3, 7, -7, 20, -20]
)
WHOLE = np.array([0, 1, 2, 3, 5, 7, 100, -1, -2, -3, -7, -128, 127, 64])


def to_torch(x: np.ndarray) -> Any:
    if x.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(x.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(x.copy())


def from_torch(x: Any) -> np.ndarray:
    if x.dtype == torch.bfloat16:
        return x.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return x.numpy()


def floats(arity: int) -> list[tuple[np.ndarray, ...]]:
    """Special values in every combination, and ordinary ones."""
    rng = np.random.default_rng(0)
    special = tuple(v.ravel() for v in np.meshgrid(*[SPECIAL] * arity))
    return [special, tuple(rng.standard_normal(1000) * 3 for _ in range(arity))]


def assert_close(got: np.ndarray, want: np.ndarray, ulps: float, error: float = 1e-35) -> None:
    """Equal but for `ulps` of the last place or an absolute `error`."""
    assert got.dtype == want.dtype
    if got.dtype.kind in "biu":
        np.testing.assert_array_equal(got, want)
        return
    info = ml_dtypes.finfo(got.dtype)
    eps, tiny = float(info.eps), float(info.smallest_normal)
    a, b = got.astype(np.float64), want.astype(np.float64)
    np.testing.assert_allclose(a, b, rtol=ulps * eps, atol=max(ulps * eps * tiny, error))


@pytest.mark.parametrize(("name", "arity"), [(n, 1) for n in UNARY] + [(n, 2) for n in BINARY])
def test_values(name: str, arity: int) -> None:
    function = (UNARY if arity == 1 else BINARY)[name]
    op = REGISTRY[name]()
    bits = name.startswith(("bitwise", "shift"))
    for dtype in () if bits else FLOATS:
        for operands in floats(arity):
            xs = tuple(x.astype(dtype) for x in operands)
            with np.errstate(all="ignore"):
                got = np.asarray(op.eager(np, *xs))
            # Narrow floats may round twice, in one library or the other.
            ulps = 1.01 if np.dtype(dtype).itemsize == 2 else 8
            if (name, np.dtype(dtype)) == ("floor_div", np.dtype(ml_dtypes.bfloat16)):
                continue  # PyTorch floors a quotient that it has rounded to 8 bits
            want = from_torch(function(*map(to_torch, xs)))
            assert_close(got, want, ulps, COARSE.get(name, 1e-35))
    if name in ("floor_div", "trunc_div", "remainder", "fmod", "pow", "abs", "neg") or bits:
        whole = WHOLE[WHOLE > 0] if name in ("pow",) else WHOLE
        for dtype in INTS:
            xs = tuple(v.ravel().astype(dtype) for v in np.meshgrid(*[whole] * arity))
            if name in ("floor_div", "trunc_div", "remainder", "fmod"):
                keep = xs[1] != 0
                xs = (xs[0][keep], xs[1][keep])
            with np.errstate(all="ignore"):
                got = op.eager(np, *xs)
            assert_close(got, from_torch(function(*map(to_torch, xs))), 0)


NOT_DIFFERENTIABLE = {"floor_div"}  # in PyTorch
ODD = {"hardtanh", "softsign"}  # PyTorch's gradient at NaN or infinity depends on vector width


@pytest.mark.parametrize(
    ("name", "arity"),
    [
        (n, arity)
        for arity, table in ((1, UNARY), (2, BINARY))
        for n in table
        if REGISTRY[n].differentiable and n not in NOT_DIFFERENTIABLE
    ],
)
def test_gradients(name: str, arity: int) -> None:
    function = (UNARY if arity == 1 else BINARY)[name]
    op = REGISTRY[name]()
    for operands in floats(arity):
        xs = tuple(x[np.isfinite(x)] for x in operands) if name in ODD else operands
        tensors = [to_torch(x).requires_grad_() for x in xs]
        y = function(*tensors)
        y.backward(torch.ones_like(y))
        with np.errstate(all="ignore"):
            result = op.eager(np, *xs)
            found = op.vjp(np.ones_like(result), result, *xs)
            found = [g() if callable(g) else g for g in found]
        for g, t in zip(found, tensors):
            want = np.zeros_like(g) if t.grad is None else t.grad.numpy()
            # hardsigmoid's slope is 1/6 in float32 there, whatever the dtype.
            np.testing.assert_allclose(g, want, rtol=1e-6, atol=1e-300)
