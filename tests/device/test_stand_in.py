"""The stand-in for CuPy is as strict as CuPy, and knows no more than CuPy does."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_dtypes import bfloat16

from tests import fake_cupy
from tests.fake_cupy import count_transfers, installed

TABLES = Path(fake_cupy.__file__).parent


@pytest.fixture
def stand_in() -> Any:
    with installed() as cupy:
        yield cupy


def refusals(cp: Any) -> dict[str, tuple[type[Exception], str, Callable[[], Any]]]:
    a = cp.arange(6.0).reshape(2, 3)
    host = np.ones((2, 3))
    return {
        "asarray": (TypeError, "Implicit conversion", lambda: np.asarray(a)),
        "operand": (TypeError, "Unsupported type", lambda: a + host),
        "reflected": (TypeError, "Unsupported type", lambda: host * a),
        "in place": (TypeError, "Unsupported type", lambda: a.__iadd__(host)),
        "where of a ufunc": (TypeError, "Wrong arguments", lambda: cp.add(a, a, where=a > 0)),
        "assignment": (ValueError, "non-scalar numpy.ndarray", lambda: a.__setitem__(0, host[0])),
        "unknown function": (AttributeError, "vecdot", lambda: cp.vecdot),
        "unknown keyword": (TypeError, "unexpected keyword", lambda: cp.sum(a, where=a > 0)),
        "unknown method": (AttributeError, "newbyteorder", lambda: a.newbyteorder()),
        "sort": (ValueError, "kind can only be", lambda: cp.argsort(a, kind="quicksort")),
        "reduce": (NotImplementedError, "reduce", lambda: cp.maximum.reduce(a)),
        "types": (TypeError, "Wrong type", lambda: cp.floor(a.astype(np.complex64))),
        "cast": (TypeError, "casting rule", lambda: cp.add(a, 1, out=a.astype(np.int32))),
        "atomics": (TypeError, "data type", lambda: cp.add.at(a.astype(np.int64), 0, 1)),
        "masks": (NotImplementedError, "boolean", lambda: a[a[:, 0] > 0, a[0] > 0]),
        "strings": (ValueError, "Unsupported dtype", lambda: cp.asarray(["a"])),
        "hash": (TypeError, "unhashable", lambda: hash(a)),
        "joining": (TypeError, "Unsupported type", lambda: cp.concatenate([a, host])),
    }


@pytest.mark.parametrize("what", range(18))
def test_what_it_refuses(stand_in: Any, what: int) -> None:
    error, match, do = list(refusals(stand_in).values())[what]
    with pytest.raises(error, match=match):
        do()


def test_types(stand_in: Any) -> None:
    cp = stand_in
    f, h, i, b = (cp.ones(2, t) for t in (np.float32, np.float16, np.int32, np.int8))
    narrow = cp.ones(2, bfloat16)
    assert (f * 2.0).dtype == np.float32
    assert (f * np.float64(2)).dtype == np.float64
    assert (i * 2.0).dtype == np.float64
    assert (i / i).dtype == np.float64
    assert (h + f).dtype == np.float32
    assert cp.sqrt(b).dtype == np.float16
    assert cp.exp(narrow).dtype == narrow.sum().dtype == (narrow + 1).dtype == bfloat16
    assert type(f.sum()) is cp.ndarray
    assert f.sum().shape == ()
    assert np.add(f, f).dtype == np.float32
    assert np.concatenate([f, f]).shape == (4,)


def test_indices_wrap_around(stand_in: Any) -> None:
    a = stand_in.arange(3)
    at = stand_in.asarray([1, 3])
    assert a[at].get().tolist() == a.take(at).get().tolist() == [1, 0]


def test_views(stand_in: Any) -> None:
    a = stand_in.zeros((2, 3))
    view = a.T[1:]
    assert view.base is a
    view[...] = 1
    assert a.get().sum() == 4
    assert a[stand_in.asarray([0])].base is None


def test_waiting(stand_in: Any) -> None:
    cp = stand_in
    a = cp.arange(4.0)
    with count_transfers() as log:
        a + 1
        a[1:] *= cp.where(a[1:] > 1, 2.0, 0.0)
        cp.asarray([1, 2])
    assert not log
    with count_transfers() as log:
        float(a.sum()), a[a > 1], cp.nonzero(a), a.get(), repr(a), cp.unique(a), a.tolist()
    assert len(log) == 7
    assert all(f"{__file__}:" in line for line in log)


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed")
def test_the_tables_are_cupys() -> None:
    """Names, signatures and loops; needs CuPy, but no GPU. In a process that has no stand-in."""
    script = f"""
        import inspect, re, sys
        from pathlib import Path
        import cupy
        sys.path.insert(0, {str(TABLES.parents[1])!r})
        tables = Path({str(TABLES)!r})
        for line in (tables / "ufuncs.txt").read_text().splitlines():
            name, _, loops = line.partition(": ")
            missing = set(loops.split()) - set(getattr(cupy, name).types)
            assert not missing, (name, missing)
        for line in (tables / "functions.txt").read_text().splitlines():
            path, _, listed = line.partition("(")
            found = cupy
            for part in path.split("."):
                found = getattr(found, part)
            given = inspect.signature(found)
            plain = [p.replace(annotation=p.empty) for p in given.parameters.values()]
            given = given.replace(parameters=plain, return_annotation=given.empty)
            text = re.sub(r"<class '(\\w+)'>", r"\\1", str(given))
            assert text == "(" + listed, (path, text)
        for line in (tables / "methods.txt").read_text().splitlines():
            assert hasattr(cupy.ndarray, line.partition("(")[0]), line
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
