"""Complex tensors as pairs of real numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dualgraph_compiler.ops.pairs import ViewAsComplex, ViewAsReal

from .._dispatch import apply

if TYPE_CHECKING:
    from .._tensor import Tensor


def view_as_real(input: Tensor) -> Tensor:
    """The real and imaginary parts, side by side in a new last dimension: [..] -> [.., 2]. A view.

    Raises:
        DTypeError: the input is not complex.
    """
    return apply(ViewAsReal(), input)


def view_as_complex(input: Tensor) -> Tensor:
    """The complex numbers whose parts lie side by side in the last dimension: [.., 2] -> [..].

    A view. Raises:
        ShapeError: the last dimension is not of size 2.
        DTypeError: the input is not of float32 or float64.
    """
    return apply(ViewAsComplex(), input)
