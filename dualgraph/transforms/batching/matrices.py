"""Functions of matrices: axes in front are a batch to them already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.dims import DimLike
from dualgraph_compiler.ops import REGISTRY, f
from dualgraph_compiler.ops.base import Op

from ..._dispatch import apply
from .rules import as_is, everywhere, lifted, rule

if TYPE_CHECKING:
    from ..._tensor import Tensor

_ONE = (
    "adjugate",
    "cholesky",
    "det",
    "eig",
    "eigh",
    "eigvalsh",
    "frexp",
    "geqrf",
    "inverse",
    "ldl_factor",
    "lu_factor",
    "matrix_exp",
    "pivots_to_permutation",
    "qr",
    "slog_det",
    "svd",
    "svdvals",
    "view_as_complex",
    "view_as_real",
)
# How many axes of each operand are not a batch.
_SEVERAL = {
    "cholesky_solve": (2, 2),
    "ldl_solve": (2, 1, 2),
    "pinv": (2, 0, 0),
    "solve": (2, 2),
    "solve_triangular": (2, 2),
}

rule(*(REGISTRY[name] for name in _ONE))(as_is)


@rule(*(REGISTRY[name] for name in _SEVERAL))
def _together(op: Op, size: DimLike, xs: Sequence[Tensor], flags: Sequence[bool]) -> Any:
    cores = _SEVERAL[op.name]
    if op.name not in ("cholesky_solve", "solve_triangular"):
        # One operand alone tells the batch axes of some result.
        xs, flags = everywhere(size, xs, flags), [True] * len(xs)
    lead = max(x.ndim - own - core for x, own, core in zip(xs, flags, cores, strict=False))
    lined_up = [
        lifted(x, lead + core) if own else x for x, own, core in zip(xs, flags, cores, strict=False)
    ]
    found: Any = apply(op, *lined_up)
    if op.name != "solve":
        return found
    x, info = found
    return x, f.reshape(info, xs[0].shape[:-2])  # which is of the matrices alone
