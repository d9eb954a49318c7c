"""Remainders of floats: bit for bit what NumPy gives, whatever the operands."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dualgraph_compiler.graph import parse_graph
from dualgraph_compiler.native import Target, build
from dualgraph_runtime.native import Executable, find_compiler

pytestmark = pytest.mark.compiler

SPECIAL = [0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3e38, -3e38, 2.5, -2.5, 7, 3]
SPECIAL += [1e-38, 5e8, 0.1, -0.1, 16777215, 2.0**28, 2.0**28 + 32]


def operands() -> tuple[np.ndarray, np.ndarray]:
    """All pairs of special numbers, any bits, quotients next to integers, common numbers."""
    rng = np.random.default_rng(0)
    a, b = (x.ravel() for x in np.meshgrid(*[np.array(SPECIAL, np.float32)] * 2))
    one, other = rng.integers(0, 2**32, (2, 50_001), dtype=np.uint32).view(np.float32)
    divisor = (rng.random(30_000) + 0.5).astype(np.float32)
    near = (rng.integers(1, 2**20, 30_000) * divisor).astype(np.float32)
    up, down = (np.nextafter(near, np.float32(to)) for to in (np.inf, 0))
    x, y = (10 * rng.standard_normal((2, 20_003))).astype(np.float32)
    a = np.concatenate([a, one, near, up, down, x])
    b = np.concatenate([b, other, divisor, divisor, divisor, y])
    return np.concatenate([a, -a, a]), np.concatenate([b, b, -b])


@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
@pytest.mark.parametrize("op", ["fmod", "remainder"])
def test_every_bit(op: str, vector_bytes: int) -> None:
    compiler = find_compiler()
    assert compiler is not None
    flags = tuple("-O1" if flag == "-O2" else flag for flag in compiler.flags)
    graph = parse_graph(
        f"graph g(%x: f32[n], %y: f32[n]):\n  %1: f32[n] = {op}(%x, %y)\n  return %1 as z"
    )
    run = Executable(build(graph, Target(vector_bytes)), dataclasses.replace(compiler, flags=flags))
    a, b = operands()
    for n in (len(a), 0, 1, 7, 9, 17):
        (got,) = run.run([a[:n], b[:n]])
        with np.errstate(all="ignore"):
            want = getattr(np, op)(a[:n], b[:n])
        same = (got.view(np.uint32) == want.view(np.uint32)) | (np.isnan(got) & np.isnan(want))
        assert same.all(), (a[:n][~same][:4], b[:n][~same][:4], got[~same][:4], want[~same][:4])
