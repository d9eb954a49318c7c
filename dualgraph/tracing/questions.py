"""``if x.shape[0] == 1``: equality of symbolic sizes asked by user code while it is traced.

For the framework a size that is not provably 1 is not 1. User code would take the wrong branch
without a word, and the graph would hold that branch only; so there an open question is an error.
"""

from __future__ import annotations

import sys

import dualgraph_compiler
import dualgraph_runtime
from dualgraph_compiler.dims import Dim, differ
from dualgraph_compiler.errors import UndecidedSize

from .._dispatch import captures
from .failure import OURS

_PACKAGES = (
    OURS,
    *(next(iter(p.__path__)) for p in (dualgraph_compiler, dualgraph_runtime)),
)


def _doubt(size: Dim, other: object) -> None:
    """Raise if user code in a trace asks for an equality that depends on the sizes of a run."""
    if captures.current is None or not isinstance(other, int | Dim):
        return
    frame = sys._getframe(2)  # of whoever compares; comparisons in C have no frame
    code = frame.f_code
    if code.co_filename.startswith(_PACKAGES) or code.co_name in ("__eq__", "__hash__"):
        return
    if not differ(size, other):
        where = f"{code.co_filename}:{frame.f_lineno}"
        raise UndecidedSize(f"whether {size} == {other} is not known (at {where})", size, other)


Dim.doubt = _doubt
