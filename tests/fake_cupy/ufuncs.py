"""Elementwise functions: CuPy's choice of a loop from its table, NumPy's arithmetic inside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from .array import CupyArray, unwrap, wrap

_WEAK: dict[type, Any] = {bool: np.dtype(bool), int: np.dtype(np.int64)}
_WEAK |= {float: np.dtype(np.float64), complex: np.dtype(np.complex128)}
_KINDS = {"b": 0, "u": 1, "i": 1, "f": 2, "V": 2, "c": 3}
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

# Functions whose `at` CuPy has, and the dtypes that its atomic operations take.
_AT = {
    "add": "iIefdLQ",
    "subtract": "iI",
    "maximum": "iIlLqQfd",
    "minimum": "iIlLqQfd",
}


def _dtype_of(char: str) -> np.dtype[Any]:
    return _BFLOAT16 if char == "E" else np.dtype(char)


class Loop:
    """One line of CuPy's table: operand types -> result types."""

    def __init__(self, text: str) -> None:
        given, _, made = text.partition("->")
        self.inputs = [_dtype_of(c) for c in given]
        self.outputs = [_dtype_of(c) for c in made]


class Ufunc:
    """`cupy.ufunc`: `out`, `dtype` and `casting` are its only keywords."""

    def __init__(self, name: str, loops: Sequence[str]) -> None:
        self.name = f"cupy_{name}"
        self.__name__ = name
        self.types = list(loops)
        self._loops = [Loop(t) for t in loops]
        self.nin, self.nout = len(self._loops[0].inputs), len(self._loops[0].outputs)
        self.nargs = self.nin + self.nout
        self._numpy = getattr(np, name)

    def __repr__(self) -> str:
        return f"<ufunc '{self.name}'>"

    def __call__(
        self, *args: Any, out: Any = None, dtype: Any = None, casting: str = "same_kind", **kw: Any
    ) -> Any:
        if kw:
            raise TypeError(f"Wrong arguments {kw}")
        if not self.nin <= len(args) <= self.nargs:
            raise TypeError(f"Wrong number of arguments for {self.name!r}: {len(args)}")
        if len(args) > self.nin:
            if out is not None:
                raise ValueError("Cannot specify 'out' as both a positional and keyword argument")
            args, out = args[: self.nin], args[self.nin :]
        outs = out if isinstance(out, tuple) else () if out is None else (out,)
        operands = [unwrap(a) for a in args]
        into = [unwrap(o) for o in outs]
        if any(not isinstance(o, CupyArray) for o in outs):
            raise TypeError("return arrays must be of ArrayType")
        loop = self._loop_for(operands, None if dtype is None else np.dtype(dtype))
        with np.errstate(all="ignore"):
            cast = [np.asarray(x).astype(t) for x, t in zip(operands, loop.inputs, strict=True)]
            found = self._numpy(*cast)
        results = found if self.nout > 1 else (found,)
        made = []
        for i, (r, t) in enumerate(zip(results, loop.outputs, strict=True)):
            r = np.asarray(r)
            with np.errstate(all="ignore"):
                r = r if r.dtype == t else r.astype(t)
                if i < len(outs):
                    if not np.can_cast(t, into[i].dtype, casting):
                        raise TypeError(
                            f"output (typecode '{t.char}') could not be coerced to provided output "
                            f"parameter (typecode '{into[i].dtype.char}') according to the casting "
                            f"rule '{casting}'"
                        )
                    np.copyto(into[i], r, casting="unsafe")
            made.append(outs[i] if i < len(outs) else wrap(r))
        return made[0] if self.nout == 1 else tuple(made)

    def _loop_for(self, operands: Sequence[Any], dtype: Any) -> Loop:
        """The first loop that the operands, or the dtype asked for, can be cast to safely."""
        if dtype is not None:
            found = [x for x in self._loops if all(t == dtype for t in x.outputs)]
            if not found:
                raise TypeError(f"Wrong type ({dtype}) of arguments for {self.name}")
            return found[0]
        types = [_WEAK.get(type(x)) or x.dtype for x in operands]
        weak = [type(x) if type(x) in _WEAK else None for x in operands]
        strong = [_KINDS[t.kind] for t, w in zip(types, weak) if w is None]
        scalars = [_KINDS[t.kind] for t, w in zip(types, weak) if w is not None]
        if not strong or not scalars or max(strong) < max(scalars):
            weak = [None] * len(weak)
        for loop in self._loops:
            if all(map(_fits, types, loop.inputs, weak)):
                return loop
        raise TypeError(f"Wrong type ({tuple(types)}) of arguments for {self.name}")

    # -- what other ufuncs of NumPy have and most of CuPy's lack ----------------------------------

    def reduce(
        self, array: Any, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False
    ) -> Any:
        method = {"add": "sum", "multiply": "prod"}.get(self.__name__)
        if method is None:
            raise NotImplementedError(f"`{self.name}.reduce` is not supported yet")
        return getattr(array, method)(axis, dtype, out, keepdims)

    def accumulate(self, array: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
        method = {"add": "cumsum", "multiply": "cumprod"}.get(self.__name__)
        if method is None:
            raise NotImplementedError(f"`{self.name}.accumulate` is not supported yet")
        return getattr(array, method)(axis, dtype, out)

    def reduceat(self, *args: Any, **kw: Any) -> Any:
        raise NotImplementedError(f"`{self.name}.reduceat` is not supported yet")

    def outer(self, a: Any, b: Any, **kw: Any) -> Any:
        return self(a.reshape(a.shape + (1,) * b.ndim), b, **kw)

    def at(self, a: Any, indices: Any, b: Any = None) -> None:
        """In-place, repeated indices included, for the dtypes that have atomic operations."""
        if self.__name__ not in _AT:
            raise NotImplementedError(f"`{self.name}.at` is not supported yet")
        if a.dtype.char not in _AT[self.__name__] or a.dtype == _BFLOAT16:
            raise TypeError(f"cupy.{self.__name__}.at does not support {a.dtype} as data type")
        a._scatter(self._numpy.at, indices, b)


def _fits(given: Any, wanted: Any, weak: Any) -> bool:
    if np.can_cast(given, wanted):
        return True
    return weak is not None and np.result_type(weak(0), wanted) == wanted


def make_ufuncs() -> dict[str, Ufunc]:
    """All ufuncs of the table by name."""
    lines = (Path(__file__).parent / "ufuncs.txt").read_text().splitlines()
    named = (line.partition(": ") for line in lines)
    return {n: Ufunc(n, loops.split()) for n, _, loops in named if hasattr(np, n)}
