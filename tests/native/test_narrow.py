"""Conversions to and from narrow floats, which processors have instructions for: every bit."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dualgraph_compiler.graph import parse_graph
from dualgraph_runtime.native import compile_graph

pytestmark = pytest.mark.compiler

NARROW = {"f16": np.float16, "bf16": ml_dtypes.bfloat16}


def converted(x: np.ndarray[Any, Any], old: str, new: str) -> Any:
    """`x` cast by a compiled graph."""
    graph = parse_graph(f"""
graph g(%x: {old}[n]):
  %1: {new}[n] = cast(%x, dtype={new})
  return %1 as output
""")
    (y,) = compile_graph(graph).run([x])
    return y


def same(a: Any, b: Any) -> bool:
    """Whether all bits are the same; those of NaN need not be."""
    whole = np.isnan(a.astype(np.float32)) == np.isnan(b.astype(np.float32))
    bits = a.view(np.uint16 if a.itemsize == 2 else np.uint32)
    other = b.view(bits.dtype)
    return bool((whole & ((bits == other) | np.isnan(b.astype(np.float32)))).all())


@pytest.mark.parametrize("name", NARROW)
def test_narrow_floats_become_wide(name: str) -> None:
    x = np.arange(2**16, dtype=np.uint16).view(NARROW[name])
    assert same(converted(x, name, "f32"), x.astype(np.float32))
    assert same(converted(x[:13], name, "f32"), x[:13].astype(np.float32))


@pytest.mark.parametrize("name", NARROW)
def test_wide_floats_are_rounded_to_the_nearest(name: str) -> None:
    every = np.arange(2**16, dtype=np.uint32) << 16
    rng = np.random.default_rng(0)
    some = rng.integers(0, 2**32, 2**16, dtype=np.uint64).astype(np.uint32)
    near = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32).view(np.uint32)
    halves = near + np.uint32(0x1000)  # in the middle between two float16 of the normal range
    x = np.concatenate([every, every + 0x8000, some, near, halves, halves + 1]).view(np.float32)
    with np.errstate(all="ignore"):
        assert same(converted(x, "f32", name), x.astype(NARROW[name]))
        assert same(converted(x[-7:], "f32", name), x[-7:].astype(NARROW[name]))
