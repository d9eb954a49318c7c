"""Running a layer of ours and PyTorch's with the same weights on the same input."""

from __future__ import annotations

from typing import Any

import numpy as np

import dualgraph as dg
from dualgraph import nn


def ours(value: Any) -> Any:
    """A PyTorch tensor, or a nesting of them, as tensors of ours."""
    if isinstance(value, tuple | list):
        return type(value)(ours(v) for v in value)
    if not hasattr(value, "detach"):
        return value
    array = value.detach().numpy().copy()
    out = dg.from_numpy(array)
    return out.requires_grad_() if value.requires_grad else out


def copy_state(theirs: Any, mine: nn.Module) -> None:
    state = {k: ours(v) for k, v in theirs.state_dict().items()}
    assert list(mine.state_dict()) == list(state)
    mine.load_state_dict(state)


def flat(value: Any) -> list[Any]:
    """The tensors of a nesting."""
    if isinstance(value, tuple | list):
        return [t for v in value for t in flat(v)]
    return [value]


def close(mine: Any, theirs: Any, tolerance: float = 2e-5) -> None:
    """Equal shapes, dtypes and, within the tolerance of the largest element, values."""
    a, b = mine.detach().numpy(), theirs.detach().numpy()
    assert a.shape == b.shape
    assert a.dtype == b.dtype
    scale = max(1.0, float(np.abs(b).max())) if b.size and b.dtype.kind == "f" else 1.0
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * scale)


def compare(mine: nn.Module, theirs: Any, inputs: Any, tolerance: float = 2e-5) -> None:
    """Outputs, gradients of inputs and parameters, and the state afterwards."""
    import torch

    copies = tuple(ours(x) for x in inputs)
    got, wanted = flat(mine(*copies)), flat(theirs(*inputs))
    assert len(got) == len(wanted)
    for g, w in zip(got, wanted, strict=True):
        close(g, w, tolerance)
    torch.manual_seed(1)
    parts = [(w, torch.randn_like(w)) for w in wanted if w.requires_grad]
    if parts:
        sum((w * r).sum() for w, r in parts).backward()
        total: Any = 0
        for g, (_, r) in zip([g for g in got if g.requires_grad], parts, strict=True):
            total = total + (g * ours(r)).sum()
        total.backward()
    for a, b in zip(flat(copies), flat(list(inputs)), strict=True):
        if hasattr(b, "grad") and b.grad is not None:
            close(a.grad, b.grad, tolerance)
    for (name, p), q in zip(mine.named_parameters(), theirs.parameters(), strict=True):
        if q.grad is None:
            assert p.grad is None, name
        else:
            close(p.grad, q.grad, tolerance)
    for name, b in theirs.state_dict().items():
        close(mine.state_dict()[name], b, tolerance)
