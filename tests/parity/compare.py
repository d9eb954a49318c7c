"""Results of theirs and ours side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import torch

import dualgraph as dg

from .translate import array

# Relative to the largest element, for values computed in each precision.
TOLERANCE = {
    "float16": 5e-3,
    "bfloat16": 4e-2,
    "float32": 2e-4,
    "complex64": 2e-4,
    "float64": 1e-6,
    "complex128": 1e-6,
}


class Different(Exception):
    """How two results differ."""


def numpy(t: dg.Tensor) -> np.ndarray[Any, Any]:
    return t.detach().numpy()


def same(ours: Any, theirs: Any, what: str, *, values: bool = True) -> None:
    """Raise unless `ours` is what `theirs` is: structure, dtypes, shapes and (`values`) numbers."""
    if isinstance(theirs, torch.Tensor):
        _same_tensor(ours, theirs, what, values)
    elif isinstance(theirs, torch.Size):
        if tuple(ours) != tuple(theirs):
            raise Different(f"{what}: {tuple(ours)}, not {tuple(theirs)}")
    elif isinstance(theirs, list | tuple):
        if not isinstance(ours, list | tuple) or len(ours) != len(theirs):
            raise Different(f"{what}: {_kind(ours)}, not {len(theirs)} results")
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            same(a, b, f"{what}[{i}]", values=values)
    elif isinstance(theirs, dict):
        for key, b in theirs.items():
            same(ours[key], b, f"{what}[{key!r}]", values=values)
    elif isinstance(theirs, torch.dtype):
        if str(ours).rpartition(".")[2] != str(theirs).rpartition(".")[2]:
            raise Different(f"{what}: {ours}, not {theirs}")
    elif isinstance(theirs, bool | int | float | complex):
        if isinstance(ours, dg.Tensor):
            raise Different(f"{what}: a tensor, not {type(theirs).__name__}")
        if type(ours) is not type(theirs) or (
            values and not np.isclose(ours, theirs, equal_nan=True)
        ):
            raise Different(f"{what}: {ours!r}, not {theirs!r}")
    elif theirs is None and ours is not None:
        raise Different(f"{what}: {_kind(ours)}, not None")


def _kind(x: Any) -> str:
    return f"{len(x)} results" if isinstance(x, list | tuple) else type(x).__name__


def _same_tensor(ours: Any, theirs: torch.Tensor, what: str, values: bool) -> None:
    theirs = theirs.to_dense() if theirs.is_sparse else theirs  # gradients, where asked for so
    if not isinstance(ours, dg.Tensor):
        raise Different(f"{what}: {_kind(ours)}, not a tensor")
    name = str(theirs.dtype).removeprefix("torch.")
    if ours.dtype.name != name:
        raise Different(f"{what}: dtype {ours.dtype.name}, not {name}")
    if tuple(ours.shape) != tuple(theirs.shape):
        raise Different(f"{what}: shape {list(ours.shape)}, not {list(theirs.shape)}")
    if values and theirs.numel():
        close(numpy(ours), array(theirs), TOLERANCE.get(name), what)


def close(ours: Any, theirs: Any, tolerance: float | None, what: str) -> None:
    """Raise unless two arrays agree to `tolerance`, or exactly if there is none."""
    if tolerance is None:
        wrong = ours != theirs
    else:
        wide = np.complex128 if np.iscomplexobj(theirs) else np.float64
        ours, theirs = ours.astype(wide), theirs.astype(wide)
        finite = np.abs(theirs[np.isfinite(theirs)])
        slack = tolerance * (1 + float(finite.max(initial=0)))
        wrong = ~np.isclose(ours, theirs, tolerance, slack, equal_nan=True)
    if np.any(wrong):
        at = tuple(int(i) for i in np.argwhere(np.asarray(wrong))[0])
        count = int(np.count_nonzero(wrong))
        raise Different(f"{what}: {count} of {wrong.size} differ, {ours[at]} not {theirs[at]}")


def tensors(x: Any, kind: type) -> Iterator[Any]:
    """The tensors in nested results or arguments."""
    if isinstance(x, kind):
        yield x
    elif isinstance(x, list | tuple):
        for v in x:
            yield from tensors(v, kind)
    elif isinstance(x, dict):
        for v in x.values():
            yield from tensors(v, kind)


def gradients(results: Any, leaves: list[Any], framework: Any, make: Any) -> list[Any]:
    """Gradients of a fixed weighted sum of all results, or [] where nothing asks for one."""
    outputs = [r for r in tensors(results, framework.Tensor) if r.requires_grad]
    if not outputs:
        return []
    weights = []
    for i, r in enumerate(outputs):
        drawn = np.random.default_rng(i).uniform(0.5, 1.5, tuple(r.shape))
        if r.is_complex():
            drawn = drawn + 1j * np.random.default_rng(i + 99).uniform(0.5, 1.5, tuple(r.shape))
        weights.append(make(np.asarray(drawn)).to(r.dtype))
    found = framework.autograd.grad(outputs, leaves, weights, allow_unused=True)
    return [None if g is None else g.clone() for g in found]  # PyTorch may give one without memory


def same_gradients(ours: list[Any], theirs: list[Any], what: str) -> None:
    """Raise unless gradients agree; none is as good as zeros."""
    if not theirs:
        return
    if not ours:
        raise Different(f"{what}: results do not require gradients")
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if a is None or b is None:
            other = array(b) if b is not None else numpy(a) if a is not None else np.zeros(())
            if np.any(other.astype(np.complex128)):
                raise Different(f"{what} {i}: {'missing' if a is None else 'not None'}")
        else:
            same(a, b, f"{what} {i}")


def from_numpy(a: np.ndarray[Any, Any]) -> torch.Tensor:
    if a.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(a)
