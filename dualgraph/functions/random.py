"""Random tensors. Every function takes `generator=`; without it the default generator draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dims import Shape
from dualgraph_compiler.errors import ArgumentError, DTypeError
from dualgraph_compiler.ops.random import (
    Random,
    RandomBernoulli,
    RandomInt,
    RandomNormal,
    RandomPermutation,
    RandomUniform,
)

from .._promote import cast
from .basics import device_for_like, device_from, dtype_or_default, finish, leaf, sizes_of

if TYPE_CHECKING:
    from .._random import Generator
    from .._tensor import Tensor


def _draw(
    op: Random, generator: Generator | None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    if generator is None:
        from .._random import default_generator

        out = default_generator.draw(op, device_from(device))
    else:
        out = generator.draw(op, device)
    return leaf(out, requires_grad)


def rand(
    *size: Any,
    generator: Generator | None = None,
    out: Tensor | None = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """Uniform numbers in [0, 1)."""
    op = RandomUniform(sizes_of(size), dtype_or_default(dtype))
    return finish(_draw(op, generator, device, requires_grad), out)


def randn(
    *size: Any,
    generator: Generator | None = None,
    out: Tensor | None = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """Numbers of the standard normal distribution."""
    op = RandomNormal(sizes_of(size), dtype_or_default(dtype))
    return finish(_draw(op, generator, device, requires_grad), out)


def randint(
    *args: Any,
    low: int | None = None,
    high: int | None = None,
    size: Any = None,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    **_: Any,
) -> Tensor:
    """Uniform integers in [low, high): ``randint(high, size)`` or ``randint(low, high, size)``."""
    rest = list(args)
    if size is None:
        size = rest.pop()
    if rest and high is None:
        high = rest.pop()
    if rest and low is None:
        low = rest.pop()
    first, last = int(low or 0), int(high)  # type: ignore[arg-type]
    if first >= last:
        raise ArgumentError(
            f"random_ expects 'from' to be less than 'to', but got from={first} >= to={last}"
        )
    kind = dt.int64 if dtype is None else dt.as_dtype(dtype)
    drawn = kind if kind.category == dt.INT else dt.int64
    made = _draw(RandomInt(first, last, sizes_of((tuple(size),)), drawn), generator, device)
    return leaf(cast(made, kind), requires_grad)


def randperm(
    n: int,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    **_: Any,
) -> Tensor:
    """The numbers 0..n-1 in random order: int64 [n]."""
    made = _draw(RandomPermutation(n), generator, device)
    return leaf(cast(made, dt.int64 if dtype is None else dt.as_dtype(dtype)), requires_grad)


def normal(
    mean: Any,
    std: Any = 1.0,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    layout: Any = None,
    out: Tensor | None = None,
) -> Tensor:
    """Normal numbers with this mean and standard deviation: numbers (with `size`) or tensors."""
    tensors = [x for x in (mean, std) if hasattr(x, "_data")]
    if not tensors:
        shape = sizes_of((tuple(size),))
        kind = dtype_or_default(dtype)
        made = _draw(RandomNormal(shape, kind), generator, device)
    else:
        from .shape import broadcast_shapes

        shape = tuple(broadcast_shapes(*(t._data.shape for t in tensors)))
        where = device_for_like(tensors[0], device)
        made = _draw(RandomNormal(shape, tensors[0].dtype), generator, where)
    if not hasattr(std, "_data") and std < 0:
        raise ArgumentError(f"normal expects std >= 0.0, but found std {std}")
    scaled = made * std if hasattr(std, "_data") or std != 1 else made
    shifted = scaled + mean if hasattr(mean, "_data") or mean != 0 else scaled
    return finish(leaf(shifted, requires_grad) if requires_grad else shifted, out)


def bernoulli(
    input: Tensor, p: Any = None, *, generator: Generator | None = None, out: Any = None
) -> Tensor:
    """1 with the probability each element states (or with `p`), else 0; the input's dtype."""
    shape = tuple(input._data.shape)
    where = device_for_like(input, None)
    if p is not None and not hasattr(p, "_data"):
        mask = _draw(RandomBernoulli(shape, float(p)), generator, where)
        return finish(cast(mask, input.dtype), out)
    chance = input if p is None else p
    if chance.dtype.category != dt.FLOAT:
        raise DTypeError(
            f"bernoulli: expected floating-point probabilities, got {chance.dtype.name}"
        )
    if type(chance._data) is np.ndarray and chance._data.size:  # a GPU is not waited for
        low, high = float(chance._data.min()), float(chance._data.max())
        if not (low >= 0 and high <= 1):
            raise ArgumentError("Expected p_in >= 0 && p_in <= 1 to be true, but got false.")
    kind = dt.float64 if chance.dtype is dt.float64 else dt.float32
    drawn = _draw(RandomUniform(shape, kind), generator, where)
    return finish(cast(drawn < chance.detach(), input.dtype), out)


def multinomial(
    input: Tensor,
    num_samples: int,
    replacement: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Indices drawn with the probabilities in each row (which need not add up to 1): int64."""
    rows = input if input._data.ndim == 2 else input.reshape(1, -1)
    kind = dt.float64 if input.dtype is dt.float64 else dt.float32
    n, classes = rows._data.shape
    where = device_for_like(input, None)
    if replacement:
        # The inverse of the cumulative distribution, at uniform numbers.
        edges = rows.to(kind).cumsum(1)
        edges = edges / edges[:, -1:]
        u = _draw(RandomUniform((n, num_samples), kind), generator, where)
        found = (u.unsqueeze(2) >= edges.unsqueeze(1)).sum(2).clamp(max=classes - 1)
    else:
        # The order of exponential variables with these rates: an exact draw without replacement.
        if num_samples > classes:
            raise ArgumentError(
                "cannot sample n_sample > prob_dist.size(-1) samples without replacement"
            )
        u = _draw(RandomUniform((n, classes), kind), generator, where)
        found = (rows.to(kind) / -(1 - u).log()).topk(num_samples, 1)[1]
    return found if input._data.ndim == 2 else found.reshape(-1)  # type: ignore[no-any-return]


# -- like another tensor --------------------------------------------------------------------------


def _like(input: Tensor, dtype: Any, device: Any) -> tuple[Shape, dt.DType, Any]:
    kind = input.dtype if dtype is None else dt.as_dtype(dtype)
    return tuple(input._data.shape), kind, device_for_like(input, device)


def rand_like(
    input: Tensor,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    **_: Any,
) -> Tensor:
    """Uniform numbers in [0, 1), of the input's shape, dtype and device."""
    shape, kind, where = _like(input, dtype, device)
    return _draw(RandomUniform(shape, kind), generator, where, requires_grad)


def randn_like(
    input: Tensor,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    **_: Any,
) -> Tensor:
    """Standard normal numbers, of the input's shape, dtype and device."""
    shape, kind, where = _like(input, dtype, device)
    return _draw(RandomNormal(shape, kind), generator, where, requires_grad)


def randint_like(
    input: Tensor,
    low: int,
    high: int | None = None,
    *,
    dtype: Any = None,
    device: Any = None,
    **_: Any,
) -> Tensor:
    """Uniform integers in [low, high), of the input's shape, dtype and device."""
    if high is None:
        low, high = 0, low
    shape, kind, where = _like(input, dtype, device)
    return randint(low, high, shape, dtype=kind, device=where)


# -- in place -------------------------------------------------------------------------------------


def uniform_(
    self: Tensor,
    from_: float = 0.0,
    to: float = 1.0,
    *,
    generator: Generator | None = None,
    **old: Any,
) -> Tensor:
    """Fill with uniform numbers in [from, to)."""
    start = old.get("from", from_)
    if start > to:
        raise ArgumentError(
            f"uniform_ expects to return a [from, to) range, but found from={start} > to={to}"
        )
    drawn = rand_like(self, generator=generator)
    if (start, to) != (0, 1):
        drawn = drawn * (to - start) + start
    return self.copy_(drawn)


def normal_(
    self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with normal numbers."""
    if std < 0:
        raise ArgumentError(f"normal_ expects std >= 0.0, but found std={std}")
    drawn = randn_like(self, generator=generator)
    if (mean, std) != (0, 1):
        drawn = drawn * std + mean
    return self.copy_(drawn)


def bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill with 1 with probability `p`, else 0."""
    return self.copy_(bernoulli(self, p, generator=generator))


def random_(
    self: Tensor, from_: int = 0, to: int | None = None, *, generator: Generator | None = None
) -> Tensor:
    """Fill with uniform integers in [from, to); ``random_(to)`` starts at 0."""
    if to is None and from_:
        from_, to = 0, from_
    if to is None:
        kind = self.dtype
        bits = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}
        to = (
            2 ** bits[kind.name] + 1
            if kind.name in bits
            else 2 ** (kind.itemsize * 8 - kind.is_signed)
        )
    drawn = randint(from_, min(to, 2**63 - 1), self.shape, generator=generator, device=None)
    return self.copy_(drawn)


def exponential_(self: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with exponentially distributed numbers of rate `lambd`."""
    drawn = rand_like(self, generator=generator)
    return self.copy_(-(1 - drawn).log() / lambd)
