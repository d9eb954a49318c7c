"""Random tensors. Every function takes `generator=`; without it the default generator draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dims import Shape
from dualgraph_compiler.errors import ArgumentError, DTypeError, ShapeError
from dualgraph_compiler.ops.random import (
    Random,
    RandomBernoulli,
    RandomInt,
    RandomNormal,
    RandomPermutation,
    RandomUniform,
)
from dualgraph_compiler.ops.random_counts import BinomialOf, PoissonOf

from .._dispatch import apply
from .._promote import cast
from .basics import (
    device_for_like,
    device_from,
    dtype_or_default,
    finish,
    leaf,
    shape_from,
    sizes_of,
)

if TYPE_CHECKING:
    from .._random import Generator
    from .._tensor import Tensor


def draw(
    op: Random, generator: Generator | None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """What `op` gives with the generator's numbers (by default those of the default one)."""
    if generator is None:
        from .._random import default_generator

        out = default_generator.draw(op, device_from(device))
    else:
        out = generator.draw(op, device)
    return leaf(out, requires_grad)


def rand(
    *sizes: Any,
    size: Any = None,
    generator: Generator | None = None,
    out: Tensor | None = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """Uniform numbers in [0, 1)."""
    op = RandomUniform(shape_from(sizes, size), dtype_or_default(dtype))
    return finish(draw(op, generator, device, requires_grad), out)


def randn(
    *sizes: Any,
    size: Any = None,
    generator: Generator | None = None,
    out: Tensor | None = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """Numbers of the standard normal distribution.

    Shapes: `size`.
    """
    op = RandomNormal(shape_from(sizes, size), dtype_or_default(dtype))
    return finish(draw(op, generator, device, requires_grad), out)


def randint(
    *args: Any,
    low: int | None = None,
    high: int | None = None,
    size: Any = None,
    generator: Generator | None = None,
    out: Tensor | None = None,
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
    made = draw(RandomInt(first, last, sizes_of((tuple(size),)), drawn), generator, device)
    return finish(leaf(cast(made, kind), requires_grad), out)


def randperm(
    n: int,
    *,
    generator: Generator | None = None,
    out: Tensor | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    **_: Any,
) -> Tensor:
    """The numbers 0..n-1 in random order: int64 [n]."""
    if isinstance(n, int) and n < 0:
        raise ShapeError(f"Trying to create tensor with negative dimension {n}: [{n}]")
    made = draw(RandomPermutation(n), generator, device)
    kind = dt.int64 if dtype is None else dt.as_dtype(dtype)
    return finish(leaf(cast(made, kind), requires_grad), out)


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
        made = draw(RandomNormal(shape, kind), generator, device)
    else:
        from .shape import broadcast_shapes

        shape = tuple(broadcast_shapes(*(t._data.shape for t in tensors)))
        where = device_for_like(tensors[0], device)
        made = draw(RandomNormal(shape, tensors[0].dtype), generator, where)
    if not hasattr(std, "_data"):
        if std < 0:
            raise ArgumentError(f"normal expects std >= 0.0, but found std {std}")
    elif type(std._data) is np.ndarray and (std._data < 0).any():
        raise ArgumentError("normal expects all elements of std >= 0.0")
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
        if not 0 <= p <= 1:
            raise ArgumentError(f"bernoulli_ expects p to be in [0, 1], but got p={p:g}")
        mask = draw(RandomBernoulli(shape, float(p)), generator, where)
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
    drawn = draw(RandomUniform(shape, kind), generator, where)
    return finish(cast(drawn < chance.detach(), input.dtype), out)


def multinomial(
    input: Tensor,
    num_samples: int,
    replacement: bool = False,
    *,
    generator: Generator | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Indices drawn with the probabilities in each row (which need not add up to 1): int64.

    Shapes: [n] or [m, n] -> [num_samples] or [m, num_samples].

    Raises:
        ArgumentError: there is nothing to draw, or a row is no distribution (on the CPU).
    """
    _check_multinomial(input, num_samples, replacement)
    rows = input if input._data.ndim == 2 else input.reshape(1, -1)
    kind = dt.float64 if input.dtype is dt.float64 else dt.float32
    n, classes = rows._data.shape
    where = device_for_like(input, None)
    if replacement:
        # The inverse of the cumulative distribution, at uniform numbers.
        edges = rows.to(kind).cumsum(1)
        edges = edges / edges[:, -1:]
        u = draw(RandomUniform((n, num_samples), kind), generator, where)
        found = (u.unsqueeze(2) >= edges.unsqueeze(1)).sum(2).clamp(max=classes - 1)
    else:
        # The order of exponential variables with these rates: an exact draw without replacement.
        u = draw(RandomUniform((n, classes), kind), generator, where)
        found = (rows.to(kind) / -(1 - u).log()).topk(num_samples, 1)[1]
    return finish(found if input._data.ndim == 2 else found.reshape(-1), out)


def _check_multinomial(input: Tensor, num_samples: int, replacement: bool) -> None:
    if input.dtype.category != dt.FLOAT:
        raise DTypeError(
            f"multinomial only supports floating-point dtypes for input, got: {input.dtype.name}"
        )
    if input._data.ndim not in (1, 2):
        raise ArgumentError("prob_dist must be 1 or 2 dim")
    if num_samples <= 0:
        raise ArgumentError("cannot sample n_sample <= 0 samples")
    if not replacement and num_samples > input._data.shape[-1]:
        raise ArgumentError(
            "cannot sample n_sample > prob_dist.size(-1) samples without replacement"
        )
    data = input._data
    if type(data) is np.ndarray and data.size:  # a GPU is not waited for
        wide = data.astype(np.float64)
        if not (np.isfinite(wide) & (wide >= 0)).all():
            raise ArgumentError("probability tensor contains either `inf`, `nan` or element < 0")
        if not (wide.sum(-1) > 0).all():
            raise ArgumentError("invalid multinomial distribution (sum of probabilities <= 0)")


# -- counts ---------------------------------------------------------------------------------------


def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Poisson variables, each with the rate an element states; the gradient is zero.

    Raises ArgumentError for a negative rate, DTypeError for integers.
    """
    if input.dtype.category != dt.FLOAT:
        raise DTypeError(f'"poisson" not implemented for {input.dtype.name}')
    if type(input._data) is np.ndarray and not (input._data >= 0).all():
        raise ArgumentError("invalid Poisson rate, expected rate to be non-negative")
    shape = tuple(input._data.shape)
    rate = cast(input, dt.float64)
    u = draw(RandomUniform(shape, dt.float64), generator, device_for_like(input, None))
    return cast(apply(PoissonOf(), u, rate), input.dtype)


def binomial(count: Tensor, prob: Tensor, generator: Generator | None = None) -> Tensor:
    """Successes among `count` trials (rounded down) of probability `prob`; the gradient is zero.

    NaN for a probability outside [0, 1] and a count below 0.
    """
    from .shape import broadcast_shapes

    for x in (count, prob):
        if x.dtype.category != dt.FLOAT:
            raise DTypeError(f'"binomial" not implemented for {x.dtype.name}')
    shape = tuple(broadcast_shapes(count._data.shape, prob._data.shape))
    u = draw(RandomUniform(shape, dt.float64), generator, device_for_like(count, None))
    drawn = apply(BinomialOf(), u, cast(count, dt.float64), cast(prob, dt.float64))
    return cast(drawn, count.dtype)


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
    return draw(RandomUniform(shape, kind), generator, where, requires_grad)


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
    return draw(RandomNormal(shape, kind), generator, where, requires_grad)


def randint_like(
    input: Tensor,
    low: int,
    high: int | None = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    **_: Any,
) -> Tensor:
    """Uniform integers in [low, high), of the input's shape, dtype and device."""
    if high is None:
        low, high = 0, low
    shape, kind, where = _like(input, dtype, device)
    options = {"dtype": kind, "device": where, "requires_grad": requires_grad}
    return randint(low, high, shape, generator=generator, **options)
