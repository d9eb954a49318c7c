"""Einstein sums, in both of PyTorch's forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dualgraph_compiler.ops.einsum import einsum as _einsum

if TYPE_CHECKING:
    from .._tensor import Tensor


def einsum(equation: Any, *operands: Any) -> Tensor:
    """Sums of products over named dimensions: ``einsum("bij,bjk->bik", a, b)``.

    Without "->" the result has the letters that occur once, in alphabetical order; "..." stands for
    leading dimensions that broadcast. The list form
    ``einsum(a, [0, 1], b, [1, 2], [0, 2])`` works too.

    Raises:
        ArgumentError, ShapeError: the equation is malformed, or does not fit the operands.
    """
    if not isinstance(equation, str):
        equation, operands = _from_lists((equation, *operands))
    elif len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    return _einsum(equation, operands)  # type: ignore[no-any-return]


def _from_lists(arguments: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    def text(labels: Any) -> str:
        return "".join(
            "..." if d is Ellipsis else chr(ord("a") + d if d < 26 else d + 39) for d in labels
        )

    operands, terms = arguments[0::2], arguments[1::2]
    if len(arguments) % 2:
        return f"{','.join(map(text, terms))}->{text(operands[-1])}", operands[:-1]
    return ",".join(map(text, terms)), operands
