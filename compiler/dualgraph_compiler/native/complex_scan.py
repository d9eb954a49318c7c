"""Running products of complex numbers, and linear recurrences, on their parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..ops.base import Kind, Op
from ..types import TensorType


@dataclass(frozen=True, slots=True, repr=False)
class ComplexScan(Op):
    """``y_t = a_t y_{t-1} + b_t`` along `axis`, on parts: (a.re, a.im, b.re, b.im) -> (re, im).

    With two operands it is the running product, ``y_t = a_t y_{t-1}`` from 1; else y begins at 0.
    """

    axis: int
    reverse: bool
    operands: int
    name: ClassVar[str] = "complex_scan"
    kind: ClassVar[Kind] = Kind.LIBRARY
    n_outputs: ClassVar[int] = 2

    def infer(self, *parts: TensorType) -> tuple[TensorType, ...]:
        return parts[0], parts[0]
