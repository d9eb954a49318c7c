"""Running one call in this framework and in PyTorch, and comparing everything that can be seen.

`check("sum", x, dim=1)` calls ``dg.sum`` and ``torch.sum`` (or the method, if PyTorch has no such
function) on equal tensors; arrays among the arguments become tensors. Compared are values, dtypes
and shapes of all results, and the gradients of all floating-point tensors.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import dualgraph as dg

torch = pytest.importorskip("torch")

TOLERANCE = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 2e-5, "complex64": 2e-5}


def array(
    *shape: int, dtype: Any = np.float64, seed: int = 0, low: float = -2, high: float = 2
) -> Any:
    """Distinct numbers, the same on every call."""
    rng = np.random.default_rng(seed + sum(shape))
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return rng.random(shape) < 0.5
    if kind.kind in "iu":
        return rng.integers(
            max(0, int(low)) if kind.kind == "u" else int(low) * 3, int(high) * 3 + 1, shape
        ).astype(kind)
    if kind.kind == "c":
        return (rng.uniform(low, high, shape) + 1j * rng.uniform(low, high, shape)).astype(kind)
    return rng.uniform(low, high, shape).astype(kind)


def to_dg(a: Any, grad: bool) -> Any:
    t = dg.from_numpy(np.array(a))
    return t.requires_grad_() if grad and t.dtype.is_differentiable else t


def to_torch(a: Any, grad: bool) -> Any:
    a = np.array(a)
    if a.dtype == ml_dtypes.bfloat16:
        t = torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)
    else:
        t = torch.from_numpy(a)
    return t.requires_grad_() if grad and (t.is_floating_point() or t.is_complex()) else t


def translate(x: Any, one: Any) -> Any:
    """Arrays in nested arguments replaced by tensors, dtypes of dualgraph by PyTorch's."""
    if isinstance(x, np.ndarray):
        return one(x)
    if isinstance(x, list | tuple) and not hasattr(x, "_fields"):
        return type(x)(translate(v, one) for v in x)
    if isinstance(x, slice):
        return slice(translate(x.start, one), translate(x.stop, one), translate(x.step, one))
    if isinstance(x, dict):
        return {k: translate(v, one) for k, v in x.items()}
    return x


class Side:
    """One of the two frameworks, and the leaves made for a call."""

    def __init__(self, module: Any, make: Any, grad: bool) -> None:
        self.module = module
        self.make = make
        self.grad = grad
        self.leaves: list[Any] = []

    def tensor(self, a: Any) -> Any:
        t = self.make(a, self.grad)
        self.leaves.append(t)
        return t

    def dtype(self, x: Any) -> Any:
        if isinstance(x, dg.dtype) and self.module is torch:
            return getattr(torch, x.name)
        return x


def flat(x: Any) -> list[Any]:
    if isinstance(x, list | tuple) and not isinstance(x, dg.Size | torch.Size):
        return [v for e in x for v in flat(e)]
    return [x]


def numpy(t: Any) -> Any:
    t = t.detach()
    if isinstance(t, torch.Tensor):
        if t.dtype is torch.bfloat16:
            return t.float().numpy()
        return t.resolve_conj().numpy(force=True)
    a = t.numpy()
    return a.astype(np.float32) if a.dtype == ml_dtypes.bfloat16 else a


def same(ours: Any, theirs: Any, what: str, scale: float = 1.0) -> None:
    """One result against the other."""
    if not isinstance(theirs, torch.Tensor):
        assert not isinstance(ours, dg.Tensor), what
        assert tuple(ours) == tuple(theirs) if isinstance(theirs, torch.Size) else ours == theirs, (
            what
        )
        return
    assert isinstance(ours, dg.Tensor), f"{what}: {ours!r}"
    assert ours.dtype.name == str(theirs.dtype).removeprefix("torch."), f"{what}: {ours.dtype}"
    assert tuple(ours.shape) == tuple(theirs.shape), f"{what}: {ours.shape} {theirs.shape}"
    tolerance = TOLERANCE.get(ours.dtype.name, 1e-9) * scale
    np.testing.assert_allclose(
        numpy(ours), numpy(theirs), rtol=tolerance, atol=tolerance, err_msg=what
    )


def weights(shape: Any, seed: int) -> Any:
    return np.random.default_rng(seed).uniform(0.5, 1.5, tuple(shape))


def backward(side: Side, results: list[Any]) -> None:
    """Backward from a weighted sum of all results that can be differentiated."""
    total: Any = 0
    for i, r in enumerate(results):
        if getattr(r, "requires_grad", False):
            w = side.make(weights(r.shape, i), False)
            value = r.real + r.imag if (r.is_complex()) else r
            total = total + (value.to(w.dtype) * w).sum()
    if not isinstance(total, int):
        total.backward()


def check(
    name: str,
    *args: Any,
    grad: bool = True,
    method: bool | None = None,
    scale: float = 1.0,
    **kwargs: Any,
) -> None:
    """Compare one call; see the module. `method` chooses ``x.name()`` or ``module.name(x)``."""

    def run(side: Side) -> Any:
        a = translate(copy.deepcopy(args), side.tensor)
        k = {key: side.dtype(v) for key, v in translate(copy.deepcopy(kwargs), side.tensor).items()}
        a = tuple(side.dtype(v) for v in a)
        as_method = not hasattr(torch, name) if method is None else method
        return (
            getattr(a[0], name)(*a[1:], **k) if as_method else getattr(side.module, name)(*a, **k)
        )

    compare(run, f"{name}{args}{kwargs}", grad=grad, scale=scale)


def compare(run: Any, what: str, *, grad: bool = True, scale: float = 1.0) -> None:
    """Compare ``run(side)`` on both sides, gradients included."""
    ours, theirs = Side(dg, to_dg, grad), Side(torch, to_torch, grad)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = flat(run(theirs))
        got = flat(run(ours))
        assert len(got) == len(expected), what
        for g, e in zip(got, expected, strict=True):
            same(g, e, what, scale)
            assert getattr(g, "requires_grad", None) == getattr(e, "requires_grad", None), what
        backward(theirs, expected)
        backward(ours, got)
    for x, y in zip(ours.leaves, theirs.leaves, strict=True):
        if (x.grad is None) != (y.grad is None):  # no gradient here, zeros there
            assert not numpy(y.grad if x.grad is None else x.grad).any(), f"gradient of {what}"
        elif x.grad is not None:
            same(x.grad, y.grad, f"gradient of {what}", 10 * scale)


def refuses(name: str, error: type[Exception], *args: Any, **kwargs: Any) -> None:
    """Both refuse a call, and ours with an error PyTorch code would catch."""
    for side in (Side(torch, to_torch, False), Side(dg, to_dg, False)):
        a = translate(args, side.tensor)
        target = getattr(side.module, name, None) if hasattr(torch, name) else None
        with pytest.raises(error):
            target(*a, **kwargs) if target else getattr(a[0], name)(*a[1:], **kwargs)
