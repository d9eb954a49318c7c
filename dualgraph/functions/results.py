"""Named results of functions that return several tensors, as ``torch.return_types``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .._tensor import Tensor


class _Named:
    """Prints as PyTorch prints its structured results."""

    __slots__ = ()

    def __repr__(self) -> str:
        body = ",\n".join(f"{k}={getattr(self, k)!r}" for k in self._fields)  # type: ignore[attr-defined]
        return f"dualgraph.return_types.{type(self).__name__}(\n{body})"


class _ValuesIndices(NamedTuple):
    values: Tensor
    indices: Tensor


class _MinMax(NamedTuple):
    min: Tensor
    max: Tensor


class _VarMean(NamedTuple):
    var: Tensor
    mean: Tensor


class _StdMean(NamedTuple):
    std: Tensor
    mean: Tensor


class _MantissaExponent(NamedTuple):
    mantissa: Tensor
    exponent: Tensor


class _Histogram(NamedTuple):
    hist: Tensor
    bin_edges: Any


MantissaExponent, Histogram = _MantissaExponent, _Histogram
ValuesIndices, MinMax, VarMean, StdMean = _ValuesIndices, _MinMax, _VarMean, _StdMean


def named(name: str, kind: type[Any]) -> Any:
    """A result type called `name` with the fields of `kind`; made from one tuple."""
    made: Any = type(name, (_Named, kind), {"__slots__": ()})
    return made._make
