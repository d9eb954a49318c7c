"""Random numbers as pure functions of a seed and an offset into its stream (Philox4x32-10).

Operands of every op here: `seed` and `offset`, both 0-d uint64. Equal operands give equal numbers,
on every device. A generator adds `counters` to its offset after each call.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..dims import DimLike, Shape, product
from ..dtypes import BOOL, FLOAT, INT, DType, bool_, float64, int64, uint64
from ..errors import ArgumentError, DTypeError, ShapeError
from ..kernels import random as kernels
from ..types import TensorType
from . import random_formula as formulas
from .base import Array, Kind, Op, op, shape_text
from .derive import export_formula
from .onnx_rules import Export

if TYPE_CHECKING:
    from ..graph import Value


class Random(Op):
    """Draws `shape` elements of `dtype` from the stream of `seed` at `offset`."""

    __slots__ = ()
    kind = Kind.LIBRARY
    reads_on_host: ClassVar[bool] = True

    def result(self) -> TensorType:
        """The type of the numbers drawn."""
        raise NotImplementedError

    @property
    def counters(self) -> DimLike:
        """How far the offset must advance so that the next draw is independent."""
        result = self.result()
        n: DimLike = product(result.shape)
        return -(-n * self.words(result.dtype) // 4)

    def words(self, dtype: DType) -> int:
        """32-bit words of the stream per element."""
        real = dtype.itemsize // 2 if dtype.is_complex else dtype.itemsize
        return (2 if real > 4 else 1) * (2 if dtype.is_complex else 1)

    def infer(self, seed: TensorType, offset: TensorType) -> TensorType:
        for what, t in (("seed", seed), ("offset", offset)):
            if t.dtype is not uint64 or t.shape != ():
                raise DTypeError(f"{self.name}: expected a 0-d uint64 {what}, got {t}")
        result = self.result()
        if any(isinstance(d, int) and d < 0 for d in result.shape):
            raise ShapeError(
                f"{self.name}: sizes must not be negative, got {shape_text(result.shape)}"
            )
        return result

    def formula(self, seed: Value, offset: Value) -> Array:
        """The draw in other ops."""
        raise NotImplementedError

    def to_onnx(self, ctx: Export, seed: str, offset: str) -> Any:
        # ONNX's own generators keep hidden state; the formula gives the very numbers.
        return export_formula(ctx, self, seed, offset, formula=self.formula)


def _known(shape: Shape) -> tuple[int, ...]:
    return tuple(map(int, shape))  # symbolic sizes have been resolved before an op runs


def _float(name: str, dtype: DType) -> DType:
    if dtype.category != FLOAT:
        raise DTypeError(f"{name}: expected a floating-point dtype, got {dtype.name}")
    return dtype


@op
class RandomUniform(Random):
    """Uniform numbers in [0, 1). Source: Salmon et al. 2011 (Philox)."""

    shape: Shape
    dtype: DType

    def result(self) -> TensorType:
        return TensorType(_float("random_uniform", self.dtype), self.shape)

    def eager(self, xp: Any, seed: Array, offset: Array) -> Array:
        return kernels.uniform(xp, int(seed), int(offset), _known(self.shape), self.dtype.np)

    def formula(self, seed: Value, offset: Value) -> Array:
        return formulas.uniform(seed, offset, self.shape, self.dtype)


@op
class RandomNormal(Random):
    """Numbers of the standard normal distribution; complex ones have unit variance in all."""

    shape: Shape
    dtype: DType

    @property
    def counters(self) -> DimLike:
        n: DimLike = product(self.shape)
        if not self.dtype.is_complex:
            n = n + n % 2  # drawn in pairs
        return -(-n * self.words(self.dtype) // 4)

    def result(self) -> TensorType:
        if not self.dtype.is_complex:
            _float("random_normal", self.dtype)
        return TensorType(self.dtype, self.shape)

    def eager(self, xp: Any, seed: Array, offset: Array) -> Array:
        return kernels.normal(xp, int(seed), int(offset), _known(self.shape), self.dtype.np)

    def formula(self, seed: Value, offset: Value) -> Array:
        return formulas.normal(seed, offset, self.shape, self.dtype)


@op
class RandomBernoulli(Random):
    """A bool mask, true with probability `p`."""

    shape: Shape
    p: float

    def result(self) -> TensorType:
        if not 0 <= self.p <= 1:
            raise ArgumentError(f"random_bernoulli: expected 0 <= p <= 1, got {self.p}")
        return TensorType(bool_, self.shape)

    def eager(self, xp: Any, seed: Array, offset: Array) -> Array:
        return kernels.bernoulli(xp, int(seed), int(offset), _known(self.shape), float(self.p))

    def formula(self, seed: Value, offset: Value) -> Array:
        return formulas.bernoulli(seed, offset, self.shape, float(self.p))


@op
class RandomInt(Random):
    """Uniform integers in [low, high)."""

    low: int
    high: int
    shape: Shape
    dtype: DType = int64

    def words(self, dtype: DType) -> int:
        return 2

    def result(self) -> TensorType:
        if self.low >= self.high:
            raise ArgumentError(
                f"random_int: expected low < high, got low={self.low} and high={self.high}"
            )
        if self.dtype.category == BOOL and (self.low, self.high) not in ((0, 1), (0, 2)):
            raise ArgumentError("random_int: bool takes low=0 and high=2")
        if self.dtype.category == INT:
            limits = np.iinfo(self.dtype.np)
            if self.low < limits.min or self.high - 1 > limits.max:
                raise ArgumentError(
                    f"random_int: [{self.low}, {self.high}) does not fit into {self.dtype.name}"
                )
        return TensorType(self.dtype, self.shape)

    def eager(self, xp: Any, seed: Array, offset: Array) -> Array:
        bounds = self.low, self.high
        return kernels.randint(
            xp, int(seed), int(offset), *bounds, _known(self.shape), self.dtype.np
        )

    def formula(self, seed: Value, offset: Value) -> Array:
        return formulas.integers(seed, offset, self.low, self.high, self.shape, self.dtype)


@op
class RandomPermutation(Random):
    """The numbers 0..n-1 in random order: int64 [n]."""

    n: DimLike

    def result(self) -> TensorType:
        return TensorType(int64, (self.n,))

    def eager(self, xp: Any, seed: Array, offset: Array) -> Array:
        return kernels.permutation(xp, int(seed), int(offset), int(self.n))

    def formula(self, seed: Value, offset: Value) -> Array:
        return formulas.permutation(seed, offset, self.n)


_seeds: random.Random = random.SystemRandom()


def set_seed(seed: int) -> None:
    """Have every `FreshSeed` from now on follow from this number, in the order that they run."""
    global _seeds
    _seeds = random.Random(seed)


@op
class FreshSeed(Op):
    """A seed that differs from run to run: 0-d uint64, from the operating system or `set_seed`."""

    is_pure: ClassVar[bool] = False
    kind = Kind.CREATION

    def infer(self) -> TensorType:
        return TensorType(uint64, ())

    def eager(self, xp: Any) -> Array:
        return xp.asarray(np.uint64(_seeds.getrandbits(64)))

    def to_onnx(self, ctx: Export) -> Any:
        # Bits of ONNX's own generator, which keeps state.
        low, high = (
            ctx.emit("RandomUniform", shape=(), dtype=float64, low=0.0, high=2.0**32)
            for _ in range(2)
        )
        low, high = (ctx.emit("Cast", v, to=uint64) for v in (low, high))
        return ctx.emit("Add", ctx.emit("Mul", high, ctx.constant(2**32, uint64)), low)
