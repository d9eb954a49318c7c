"""Einstein sums, carried out as permutes, reshapes and matrix products.

No op of its own: what it is made of differentiates, exports and compiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..dims import DimLike, product
from ..errors import ArgumentError, ShapeError
from . import f
from .base import Array
from .onnx_rules import Import, from_onnx
from .rearrange import Diagonal


def einsum(equation: str, operands: Sequence[Array]) -> Array:
    """Sums of products over named dimensions: ``einsum("bij,bjk->bik", [a, b])``.

    Without "->" the result has the letters that occur once, in alphabetical order; "..." stands for
    dimensions that broadcast. The operands are of one dtype. Source: ONNX Einsum-12, torch.einsum.

    Raises:
        ArgumentError, ShapeError: the equation is malformed, or does not fit the operands.
    """
    terms, output = _parse(equation, operands)
    pairs = [_diagonals(x, labels) for x, labels in zip(operands, terms, strict=True)]
    _check_sizes(pairs)
    x, labels = pairs[0]
    if len(pairs) == 1:
        x, labels = _sum_out(x, labels, set(output))
    for i, (y, other) in enumerate(pairs[1:], start=2):
        later = set(output).union(*(later_labels for _, later_labels in pairs[i:]))
        x, labels = _contract(x, labels, y, other, later)
    if not all(c in labels for c in output):
        raise ArgumentError(f"einsum(): output of {equation!r} has a subscript no operand has")
    return _arranged(x, tuple(labels.index(c) for c in output))


def _parse(equation: str, operands: Sequence[Array]) -> tuple[list[str], str]:
    """Each operand's labels, and the result's; "..." becomes labels of its own, right-aligned."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(operands):
        raise ArgumentError(
            f"einsum(): the equation {equation!r} has {len(terms)} operands, got {len(operands)}"
        )
    shared = 0
    for term, x in zip(terms, operands, strict=True):
        named = term.replace("...", "")
        if not all(c.isalpha() for c in named) or term.count("...") > 1:
            raise ArgumentError(f"einsum(): invalid subscripts {term!r} in {equation!r}")
        rest = len(x.shape) - len(named)
        if rest < 0 or (rest > 0 and "..." not in term):
            raise ShapeError(
                f"einsum(): the number of subscripts in {term!r} does not match the number of "
                f"dimensions ({len(x.shape)}) of its operand"
            )
        shared = max(shared, rest if "..." in term else 0)
    hidden = "".join(chr(0x100 + i) for i in range(shared))
    filled = []
    for term, x in zip(terms, operands, strict=True):
        rest = len(x.shape) - len(term.replace("...", ""))
        filled.append(term.replace("...", hidden[shared - rest :] if rest else ""))
    if not arrow:
        letters = inputs.replace(",", "").replace("...", "")
        output = hidden + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    else:
        output = output.replace("...", hidden)
    if len(set(output)) != len(output):
        raise ArgumentError(f"einsum(): a subscript appears twice in the output of {equation!r}")
    return filled, output


def _arranged(x: Array, axes: tuple[int, ...]) -> Array:
    return x if axes == tuple(range(len(axes))) else f.permute(x, axes)


def _diagonals(x: Array, labels: str) -> tuple[Array, str]:
    """Repeated labels of one operand taken as its diagonal."""
    for c in dict.fromkeys(labels):
        while labels.count(c) > 1:
            a = labels.index(c)
            b = labels.index(c, a + 1)
            if x.shape[a] != x.shape[b]:
                raise ShapeError(f"einsum(): subscript {c} is repeated with different sizes")
            x = Diagonal(0, a, b)(x)
            labels = labels[:a] + labels[a + 1 : b] + labels[b + 1 :] + c
    return x, labels


def _check_sizes(pairs: list[tuple[Array, str]]) -> None:
    sizes: dict[str, DimLike] = {}
    for x, labels in pairs:
        for c, d in zip(labels, x.shape, strict=True):
            held = sizes.get(c, 1)
            if held != 1 and d != 1 and held != d:
                raise ShapeError(
                    f"einsum(): operands do not broadcast: subscript {c} has sizes {held} and {d}",
                    sizes=(held, d),
                )
            if held == 1:
                sizes[c] = d


def _sum_out(x: Array, labels: str, keep: set[str]) -> tuple[Array, str]:
    """Sum over the labels that nothing later needs."""
    gone = tuple(i for i, c in enumerate(labels) if c not in keep)
    if not gone:
        return x, labels
    return f.sum(x, gone), "".join(c for c in labels if c in keep)


def _contract(x: Array, a: str, y: Array, b: str, later: set[str]) -> tuple[Array, str]:
    """The product of two operands, summed over what nothing later needs."""
    x, a = _sum_out(x, a, later | set(b) - _ones(y, b))
    y, b = _sum_out(y, b, later | set(a) - _ones(x, a))
    x, a = _sum_out(x, a, later | set(b))
    both = [c for c in a if c in b]
    inside = [c for c in both if c not in later]
    batch = [c for c in both if c in later]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]
    x = _arranged(x, tuple(a.index(c) for c in (*batch, *rows, *inside)))
    y = _arranged(y, tuple(b.index(c) for c in (*batch, *inside, *columns)))
    n, r, k = len(batch), len(rows), len(inside)
    sx, sy = tuple(x.shape), tuple(y.shape)
    labels = "".join((*batch, *rows, *columns))
    if not inside:
        return f.reshape(x, sx + (1,) * len(columns)) * f.reshape(
            y, sy[:n] + (1,) * r + sy[n:]
        ), labels
    if sx[n + r :] != sy[n : n + k]:
        raise ShapeError("einsum(): contracted sizes differ")
    # Batch sizes of 1 broadcast in the matrix product itself.
    left = f.reshape(x, (*sx[:n], product(sx[n : n + r]), product(sx[n + r :])))
    right = f.reshape(y, (*sy[:n], product(sy[n : n + k]), product(sy[n + k :])))
    out = f.matmul(left, right)
    return f.reshape(out, (*out.shape[:n], *sx[n : n + r], *sy[n + k :])), labels


def _ones(x: Array, labels: str) -> set[str]:
    """Labels along which an operand has size 1, and so only broadcasts."""
    return {c for c, d in zip(labels, x.shape, strict=True) if d == 1}


@from_onnx("Einsum")
def _import_einsum(ctx: Import, *operands: Any) -> Any:
    return einsum(ctx.attr("equation"), operands)
