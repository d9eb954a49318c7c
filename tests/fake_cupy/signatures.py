"""Functions and methods from a table of signatures: what CuPy takes, and nothing else."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .transfers import to_host

# Functions that read from the device to know the size of their result, or to check an operand.
_WAITS = frozenset(
    {
        "nonzero",
        "flatnonzero",
        "argwhere",
        "unique",
        "unique_all",
        "unique_counts",
        "unique_inverse",
        "unique_values",
        "bincount",
        "extract",
        "compress",
        "delete",
        "trim_zeros",
        "setdiff1d",
        "intersect1d",
        "union1d",
        "setxor1d",
        "histogram",
        "choose",
        "place",
        "interp",
        "lstsq",
        "inv",
        "solve",
        "det",
        "cholesky",
    }
)
# Functions whose result is no array.
_PLAIN = frozenset(
    {
        "can_cast",
        "promote_types",
        "result_type",
        "ndim",
        "shape",
        "size",
        "isscalar",
        "iscomplexobj",
        "isrealobj",
        "isfortran",
        "may_share_memory",
        "shares_memory",
        "issubdtype",
        "isdtype",
        "broadcast_shapes",
        "common_type",
        "iterable",
        "mintypecode",
        "typename",
    }
)
# Operands that may be lists or arrays of the host; CuPy uploads them.
_UPLOADS = frozenset({"take", "array", "asarray", "asanyarray", "ascontiguousarray", "full"})
# Parameters of CuPy's functions that NumPy's lack.
_OWN = frozenset({"blocking", "max_work"})


class Signature:
    """One line of a table."""

    def __init__(self, line: str) -> None:
        self.path, _, arguments = line.partition("(")
        self.name = self.path.rpartition(".")[2]
        names: dict[str, Any] = {}
        exec(f"def f({arguments}: pass", {"float": float, "int": int}, names)
        self.signature = inspect.signature(names["f"])

    def run(self, function: Any, args: Any, kw: Any, first: Any = None) -> Any:
        """NumPy's `function` on the arguments as CuPy's signature takes them."""
        from .array import CupyArray, wrap

        try:
            bound = self.signature.bind(*args, **kw)
        except TypeError as error:
            raise TypeError(f"{self.path}: {error}") from None
        seen: list[CupyArray] = []
        upload = self.name in _UPLOADS
        positional: list[Any] = [] if first is None else [_inside(first, seen, upload)]
        named: dict[str, Any] = {}
        out = None
        in_order = True
        for name, p in self.signature.parameters.items():
            value = bound.arguments.get(name)
            if name not in bound.arguments:
                in_order = False
            elif p.kind is p.VAR_POSITIONAL:
                positional += [_inside(v, seen, upload) for v in value]
            elif p.kind is p.VAR_KEYWORD:
                named |= {k: _inside(v, seen, upload) for k, v in value.items()}
            elif name in _OWN or (value is None and p.default is None):
                in_order = False
            else:
                if name == "out":
                    out = value
                given = _inside(value, seen, upload)
                if in_order and p.kind is not p.KEYWORD_ONLY:
                    positional.append(given)
                else:
                    named[name] = given
        if self.name in _WAITS or (self.name == "where" and len(positional) == 1):
            to_host(f"{self.path}()")
        if self.name == "repeat" and not isinstance(bound.arguments["repeats"], int):
            to_host("repeat() by an array")
        with np.errstate(all="ignore"):
            found = function(*positional, **named)
        if out is not None:
            return out
        if self.name in _PLAIN or found is None:
            return found
        if isinstance(found, tuple | list):
            kind = list if isinstance(found, list) else tuple  # CuPy's have no names
            return kind(wrap(x, *seen) for x in found)
        return wrap(found, *seen)


def _inside(x: Any, seen: list[Any], upload: bool) -> Any:
    """`x` with NumPy's arrays in the place of ours; refuses NumPy's own."""
    from .array import CupyArray, unwrap

    if isinstance(x, CupyArray):
        seen.append(x)
        return unwrap(x)
    if isinstance(x, np.ndarray) and not upload:
        raise TypeError(f"Unsupported type {type(x)}")
    if type(x) in (list, tuple):
        return type(x)(_inside(v, seen, upload) for v in x)
    return x


def read_signatures(path: Path) -> Iterator[Signature]:
    """The signatures of a table, one a line."""
    return map(Signature, path.read_text().splitlines())
