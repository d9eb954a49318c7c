"""What every op does to tangents against central differences, over the ops' own samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from dualgraph._dispatch import make
from dualgraph._tensor import Tensor
from dualgraph.autograd.grad_mode import no_grad
from dualgraph.transforms.tangents import push

from ..op_samples import all_samples

RECORDS = {
    name: record
    for name, record in all_samples().items()
    if record.op.differentiable and any(s.grad for s in record.samples)
}
STEP = 1e-6

each_op = pytest.mark.parametrize("record", RECORDS.values(), ids=list(RECORDS))


def as_tuple(x: Any) -> tuple[Any, ...]:
    return tuple(x) if isinstance(x, tuple | list) else (x,)


def direction(x: np.ndarray, seed: int) -> np.ndarray | None:
    """A random tangent; None for what has no gradient."""
    if x.dtype.kind not in "fc":
        return None
    rng = np.random.default_rng(seed)
    t = rng.normal(size=x.shape)
    return np.asarray(t if x.dtype.kind == "f" else t + 1j * rng.normal(size=x.shape), x.dtype)


def difference(op: Any, inputs: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
    """The change of each output along the tangents."""

    def at(step: float) -> tuple[Any, ...]:
        moved = [x if t is None else x + step * t for x, t in zip(inputs, tangents, strict=True)]
        return as_tuple(op.eager(np, *moved))

    ends = zip(at(STEP), at(-STEP), strict=True)
    return [(a - b) / (2 * STEP) if np.asarray(a).dtype.kind in "fc" else None for a, b in ends]


@each_op
def test_tangents_are_directional_derivatives(record: Any) -> None:
    for sample in [s for s in record.samples if s.grad][:6]:
        arrays = [np.array(x) for x in sample.inputs]
        given = [None if i in record.no_grad else direction(x, i) for i, x in enumerate(arrays)]
        present = [i for i, t in enumerate(given) if t is not None]
        for chosen in [present, *([i] for i in present if len(present) > 1)]:
            tangents = [t if i in chosen else None for i, t in enumerate(given)]
            want = difference(sample.op, arrays, tangents)
            with no_grad():
                got = pushed(sample.op, arrays, tangents)
            for y, w in zip(got, want, strict=True):
                if w is None:
                    continue
                y = np.zeros_like(w) if y is None else y._data
                tol = max(sample.grad_tol, 1e-6) * 20
                np.testing.assert_allclose(y, w, rtol=tol, atol=tol, err_msg=str(sample))


def pushed(op: Any, arrays: Sequence[Any], tangents: Sequence[Any]) -> list[Tensor | None]:
    found = push(op, [make(x) for x in arrays], [None if t is None else make(t) for t in tangents])
    return [t for _, t in found] if type(found) is list else [found[1]]
