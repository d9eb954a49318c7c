"""Cases run under PyTorch and here: the same result, or an error in both.

A case is a function of the library; it returns what is to be compared.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest

import dualgraph as dg

torch = pytest.importorskip("torch")


def leaf(lib: Any, *values: float, dtype: str = "float64") -> Any:
    """A tensor that requires a gradient."""
    return lib.tensor(list(values), dtype=getattr(lib, dtype), requires_grad=True)


def plain(x: Any) -> Any:
    """Tensors as lists, nested structures kept."""
    if hasattr(x, "detach"):
        return x.detach().tolist()
    return [plain(v) for v in x] if isinstance(x, list | tuple) else x


class Cases(dict[str, Callable[[Any], Any]]):
    """Cases by name; an instance decorates functions to add them."""

    def __call__(self, f: Callable[[Any], Any]) -> Callable[[Any], Any]:
        self[f.__name__] = f
        return f

    def check(self, name: str) -> None:
        """Run a case under both and compare."""
        results: list[Any] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for lib in (torch, dg):
                try:
                    results.append(plain(self[name](lib)))
                except Exception as error:
                    results.append(error)
        expected, got = results
        if isinstance(expected, Exception):
            assert isinstance(got, RuntimeError | TypeError), got
        elif isinstance(got, Exception):
            raise got
        else:
            assert got == expected
