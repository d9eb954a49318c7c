"""The operands every elementwise op is tried on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dualgraph_compiler.errors import DTypeError, ShapeError
from dualgraph_compiler.ops import Op

from . import BOOL, COMPLEX, FLOATS, INTS, OpSamples, Refused, Sample, rand, strided, t

SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 1e30, -1e30)
# Without numbers so large that the answer depends on how they are reduced.
NEAR = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5)


def elementwise(
    op: Op,
    arity: int = 1,
    *,
    dtypes: Sequence[Any] = FLOATS,
    low: float = -2.0,
    high: float = 2.0,
    complex: bool = False,
    special: Sequence[float] = SPECIAL,
    special_runtime: bool | str = True,
    grad: bool = True,
    tol: dict[Any, float] | None = None,
    positive: Sequence[int] = (),
) -> list[Sample]:
    """Samples of an op of `arity` operands of one dtype, uniform within [low, high].

    `positive` lists operands that must not be 0 or less (divisors, amounts). Of `special` values
    every combination is tried; `special_runtime` says whether ONNX Runtime follows there.
    """
    tol = tol or {}

    def operands(dtype: Any, *shapes: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        found = []
        for i, shape in enumerate(shapes):
            x = rand(*shape, dtype=dtype, low=low, high=high, seed=i)
            if i in positive:
                x = np.where(x > 0, x, np.ones((), x.dtype) - x).astype(x.dtype)
            found.append(x)
        return tuple(found)

    def sample(dtype: Any, *shapes: tuple[int, ...], **more: Any) -> Sample:
        return Sample(op, operands(dtype, *shapes), tol=tol.get(np.dtype(dtype)), **more)

    main = dtypes[-1] if np.dtype(np.float32) not in dtypes else np.dtype(np.float32)
    all_dtypes = (*dtypes, *(COMPLEX if complex else ()))
    samples = [sample(d, *[(2, 3)] * arity) for d in all_dtypes]
    samples.append(sample(main, *[()] * arity, what="0-d"))
    samples.append(sample(main, *[(0, 3)] * arity, what="no elements"))
    view = tuple(strided(x).T for x in operands(main, *[(3, 4)] * arity))
    samples.append(Sample(op, view, tol=tol.get(main), what="not contiguous"))
    if arity > 1:
        shapes = [(2, 1, 3), (4, 1), ()][:arity]
        samples.append(sample(main, *shapes, what="broadcast"))
    floats = np.dtype(np.float64) in dtypes
    if special and floats:
        values = tuple(v.copy() for v in np.meshgrid(*[np.array(special, np.float32)] * arity))
        samples.append(
            Sample(op, values, what="special values", runtime=special_runtime, tol=tol.get(main))
        )
    if grad and floats and op.differentiable:
        samples.append(sample(np.float64, *[(2, 3)] * arity, grad=True))
        samples.append(sample(np.float64, *[()] * arity, grad=True))
        if arity > 1:
            shapes = [(2, 1, 3), (4, 1), ()][:arity]
            samples.append(sample(np.float64, *shapes, grad=True, what="broadcast"))
        if complex:
            samples.append(sample(np.complex128, *[(2, 3)] * arity, grad=True))
    return samples


def refusals(op: Op, arity: int, dtypes: Sequence[str]) -> list[Refused]:
    """What every elementwise op refuses: `dtypes` (short names), and operands that do not fit."""
    found = [Refused(op, (t(f"{d}[2]"),) * arity, DTypeError, "expected") for d in dtypes]
    if arity == 2:
        ok = "bool" if "f32" in dtypes and "i32" in dtypes else "i32" if "f32" in dtypes else "f32"
        found += [
            Refused(op, (t(f"{ok}[2, 3]"), t(f"{ok}[4]")), ShapeError, "do not broadcast"),
            Refused(op, (t(f"{ok}[2]"), t("f64[2]")), DTypeError, "one dtype"),
        ]
    return found


def record(
    op: Op | type[Op],
    reference: Callable[..., Any],
    arity: int = 1,
    *,
    refuse: Sequence[str] = (),
    more: Sequence[Sample] = (),
    more_refused: Sequence[Refused] = (),
    onnx: bool | str = True,
    runtime: bool | str = True,
    **options: Any,
) -> OpSamples:
    """The record of an elementwise op; `reference` takes the widened operands."""
    instance = op() if isinstance(op, type) else op
    return OpSamples(
        type(instance),
        lambda _op, *xs: reference(*xs),
        [*elementwise(instance, arity, **options), *more],
        [*refusals(instance, arity, refuse), *more_refused],
        onnx=onnx,
        runtime=runtime,
    )


def edge(op: Op, inputs: Sequence[Any], *grads: Any, dtype: Any = np.float64) -> Sample:
    """A sample whose gradients at edges are stated; `inputs` are lists of numbers."""
    arrays = tuple(np.array(x, dtype) for x in inputs)
    return Sample(op, arrays, what="edges", expected_grads=grads)


__all__ = ["BOOL", "COMPLEX", "FLOATS", "INTS", "edge", "elementwise", "record", "refusals"]
