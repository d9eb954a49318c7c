"""One record per op: sample operands, operands that must be refused, and an independent reference.

Each module of this package is a family and defines ``SAMPLES: list[OpSamples]``.
``tests/test_ops.py`` crosses every record with every executor.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from dualgraph_compiler.dims import parse_dim
from dualgraph_compiler.dtypes import BY_SHORT
from dualgraph_compiler.errors import DualGraphError, ShapeError
from dualgraph_compiler.ops import Op
from dualgraph_compiler.types import TensorType

bfloat16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = (np.dtype(np.float16), bfloat16, np.dtype(np.float32), np.dtype(np.float64))
COMPLEX = (np.dtype(np.complex64), np.dtype(np.complex128))
INTS = tuple(map(np.dtype, ("int8", "int16", "int32", "int64", "uint8")))
BOOL = np.dtype(bool)

# Ops whose result's size depends on data: they run eagerly, and `infer` refuses them (tests/ops).
EAGER_ONLY = {"nonzero", "masked_select"}

# Tolerance (relative and absolute) by the dtype of the result, where a sample states none.
TOLERANCE: dict[Any, float] = {
    np.dtype(np.float16): 2e-3,
    bfloat16: 1.6e-2,
    np.dtype(np.float32): 1e-5,
    np.dtype(np.float64): 1e-10,
    np.dtype(np.complex64): 1e-5,
    np.dtype(np.complex128): 1e-10,
}


@dataclass(eq=False)
class Sample:
    """One call that must work.

    `inputs` are the operands, arrays of the dtypes and memory layouts meant. `what` says what the
    sample shows. `tol` is the relative and absolute tolerance of the values (default: by result
    dtype; integers and bools compare exactly).

    With `grad`, the operands are a smooth point: gradients are checked against central differences,
    to first and second order; the differentiable operands must be float64 or complex128 and the
    sizes small. `grad_tol` is that check's tolerance. `second_order=False` leaves the second order
    out and is for ops whose gradient is not differentiable by definition.

    `expected_grads` states gradients exactly (for edges: relu at 0, ...), for an output gradient of
    ones; None for an operand is not checked.

    `onnx` is True, or the reason why this sample is not exported. `runtime` is True, or the reason
    why ONNX Runtime's answer is not compared (the model is still checked and imported back).
    """

    op: Op
    inputs: tuple[np.ndarray[Any, Any], ...]
    what: str = ""
    tol: float | None = None
    grad: bool = False
    grad_tol: float = 1e-6
    second_order: bool = True
    expected_grads: tuple[Any, ...] | None = None
    onnx: bool | str = True
    runtime: bool | str = True

    def __str__(self) -> str:
        types = ", ".join(f"{x.dtype.name}{list(x.shape)}" for x in self.inputs)
        return f"{self.op} on {types}" + (f": {self.what}" if self.what else "")


@dataclass(eq=False)
class Refused:
    """One call that `infer` must refuse with `error`, whose message matches the regex `match`."""

    op: Op
    inputs: tuple[TensorType, ...]
    error: type[DualGraphError] = ShapeError
    match: str = ""


@dataclass(eq=False)
class OpSamples:
    """The record of one op.

    `reference(op, *inputs)` gives the expected result (a tuple for several outputs). It gets the
    operands widened (floats to float64, complex to complex128, the rest as they are) unless
    `widen=False`, must not call the framework's own kernels, and its result is compared as numbers:
    its dtype does not matter. It may call ``pytest.importorskip("torch")``.

    `check(op, inputs, outputs)` replaces the comparison where values are random.
    `no_grad` lists operands that are floating point and yet have no gradient, by definition.
    `onnx` and `runtime`: as in Sample, for all samples.
    """

    op: type[Op]
    reference: Callable[..., Any]
    samples: Sequence[Sample] = field(default_factory=list)
    refused: Sequence[Refused] = field(default_factory=list)
    widen: bool = True
    check: Callable[..., None] | None = None
    no_grad: tuple[int, ...] = ()
    onnx: bool | str = True
    runtime: bool | str = True


def t(text: str) -> TensorType:
    """A TensorType from its text: ``t("f32[2, n]")``."""
    match = re.fullmatch(r"(\w+)\[(.*)\]", text)
    assert match, text
    dims = [d for d in match[2].split(",") if d.strip()]
    return TensorType(BY_SHORT[match[1]], tuple(map(parse_dim, dims)))


def rand(
    *shape: int, dtype: Any = np.float32, low: float = -2.0, high: float = 2.0, seed: int = 0
) -> np.ndarray[Any, Any]:
    """Uniform numbers of any dtype, the same for the same arguments."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng([seed, *shape])
    if dtype == BOOL:
        return np.asarray(rng.random(shape) < 0.5)
    if dtype.kind in "iu":
        low = max(low, 0) if dtype.kind == "u" else low
        return np.asarray(rng.integers(int(low), int(high) + 1, shape)).astype(dtype)
    x = rng.uniform(low, high, shape)
    if dtype.kind == "c":
        x = x + 1j * rng.uniform(low, high, shape)
    return np.asarray(x).astype(dtype)


def strided(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """`x` in memory that is neither C- nor Fortran-contiguous."""
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    view = wide[..., ::2]
    view[...] = x
    return view


def all_samples() -> dict[str, OpSamples]:
    """Every record of the package, by op name."""
    found: dict[str, OpSamples] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.name.startswith("_"):
            continue
        for record in importlib.import_module(f"{__name__}.{module.name}").SAMPLES:
            assert record.op.name not in found, f"two records for {record.op.name}"
            found[record.op.name] = record
    return found
