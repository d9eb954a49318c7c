"""In-place draws: ``x.normal_()``. Every method takes `generator=`, returns the tensor, and writes
numbers of its dtype; what is drawn is computed in float64 for float64 and integers, else in
float32, and rounded once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import ArgumentError, DTypeError
from dualgraph_compiler.ops.random import RandomUniform

from .basics import device_for_like
from .creation import complex
from .random import bernoulli, draw, randint, randn_like

if TYPE_CHECKING:
    from .._random import Generator
    from .._tensor import Tensor


def _uniform(self: Tensor, generator: Generator | None) -> Tensor:
    """Uniform numbers in [0, 1), of the tensor's shape, to compute with."""
    kind = dt.float32 if self.dtype.category == dt.FLOAT else dt.float64
    kind = dt.float64 if self.dtype is dt.float64 else kind
    op = RandomUniform(tuple(self._data.shape), kind)
    return draw(op, generator, device_for_like(self, None))


def _continuous(name: str, self: Tensor) -> None:
    if self.dtype.category < dt.FLOAT:
        raise DTypeError(
            f"{name} distribution is a continuous probability distribution. dtype must be a "
            f"floating point but you specified {self.dtype.name}"
        )


def uniform_(
    self: Tensor,
    from_: float = 0.0,
    to: float = 1.0,
    *,
    generator: Generator | None = None,
    **old: Any,
) -> Tensor:
    """Fill with uniform numbers in [from, to); real and imaginary parts of complex tensors each."""
    start = old.get("from", from_)
    if start > to:
        raise ArgumentError(
            f"uniform_ expects to return a [from, to) range, but found from={start} > to={to}"
        )
    _continuous("Uniform", self)
    shape, where = tuple(self._data.shape), device_for_like(self, None)
    if self.dtype.is_complex:
        real = next(r for r, c in dt.COMPLEX_OF.items() if c is self.dtype)
        pairs = draw(RandomUniform((*shape, 2), real), generator, where)
        drawn = complex(pairs[..., 0] * (to - start) + start, pairs[..., 1] * (to - start) + start)
        return self.copy_(drawn)
    drawn = draw(RandomUniform(shape, self.dtype), generator, where)
    if (start, to) != (0, 1):
        drawn = drawn * (to - start) + start
    return self.copy_(drawn)


def normal_(
    self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with normal numbers."""
    if std < 0:
        raise ArgumentError(f"normal_ expects std >= 0.0, but found std={std}")
    _continuous("Normal", self)
    drawn = randn_like(self, generator=generator)
    if (mean, std) != (0, 1):
        drawn = drawn * std + mean
    return self.copy_(drawn)


def log_normal_(
    self: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with numbers whose logarithm is normal with this mean and standard deviation."""
    if std <= 0:
        raise ArgumentError(f"log_normal_ expects std > 0.0, but found std={std:g}")
    _continuous("Log normal", self)
    return self.copy_((randn_like(self, generator=generator) * std + mean).exp())


def cauchy_(
    self: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with numbers of the Cauchy distribution."""
    if sigma <= 0:
        raise ArgumentError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma:g}")
    _continuous("Cauchy", self)
    return self.copy_(((_uniform(self, generator) - 0.5) * math.pi).tan() * sigma + median)


def exponential_(self: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with exponentially distributed numbers of rate `lambd`."""
    if not lambd > 0:
        raise ArgumentError(f"exponential_ expects lambda > 0.0, but found lambda={lambd:g}")
    _continuous("Exponential", self)
    return self.copy_(-(-_uniform(self, generator)).log1p() / lambd)


def geometric_(self: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Fill with the number of trials of probability `p` up to the first success: 1, 2, ..."""
    if not 0 < p < 1:
        raise ArgumentError(f"geometric_ expects p to be in (0, 1), but got p={p:g}")
    failures = ((-_uniform(self, generator)).log1p() / math.log1p(-p)).floor()
    return self.copy_(failures + 1)


def bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill with 1 with probability `p`, a number or a tensor, else 0."""
    return self.copy_(bernoulli(self, p, generator=generator))


# The whole numbers that a floating-point type holds without gaps: bits of its significand.
_SIGNIFICANDS = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}


def random_(
    self: Tensor,
    from_: int | None = None,
    to: int | None = None,
    *,
    generator: Generator | None = None,
    **old: Any,
) -> Tensor:
    """Fill with uniform integers in [from, to); ``random_(to)`` starts at 0.

    Without `to` they go up to the largest integer of the dtype, or, for floating-point dtypes, to
    the largest below which all are exact.
    """
    start = old.get("from", from_)
    if to is None and "from" not in old and start is not None:
        start, to = 0, start
    start = 0 if start is None else start
    kind = self.dtype
    bits = _SIGNIFICANDS.get(kind.name)
    limit = 2**bits + 1 if bits else 2 ** (kind.itemsize * 8 - kind.is_signed)
    limit = 2 if kind is dt.bool_ else limit
    to = limit if to is None else to
    if bits is None and to > limit:
        raise ArgumentError(f"to - 1 is out of bounds for {kind.name}")
    where = device_for_like(self, None)
    drawn = randint(start, min(to, 2**63 - 1), self.shape, generator=generator, device=where)
    return self.copy_(drawn)
