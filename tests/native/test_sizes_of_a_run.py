"""Compiled graphs with sizes that only a run tells: those of loops that stop when they like."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dualgraph_compiler.graph import interpret, parse_graph
from dualgraph_compiler.native import Interpreted, Segment
from dualgraph_runtime.native import compile_graph

pytestmark = pytest.mark.compiler

# A loop between kernels. What comes behind needs its number of steps, even where it reads nothing
# else of it: a sum with the first kernel's result must not move to the front.
WHILE = """\
graph g(%limit: i64[], %x: f64[n]):
  const %go: bool[] = True
  %0: f64[n] = exp(%x)
  %1: f64[n], %2: f64[trips, n] = loop(%limit, %go, %0, carried=1, trips=trips, sizes=())
    body(%i: i64[], %a: f64[n]):
      const %c0: f64[] = 1.5
      const %c1: f64[] = 100.0
      %1: f64[n] = mul(%a, %c0)
      %2: f64[] = sum(%1, axes=(0,), keepdims=False)
      %3: bool[] = less(%2, %c1)
      return %3 as go, %1 as a, %a as y
  %3: f64[n, trips] = permute(%2, axes=(1, 0))
  %4: f64[n, trips] = exp(%3)
  %5: f64[trips] = sum(%4, axes=(0,), keepdims=False)
  %6: i64[] = dim_value(dim=trips)
  %7: f64[] = cast(%6, dtype=f64)
  %8: f64[n] = mul(%0, %7)
  %9: f64[n] = cumsum(%8, axis=0, exclusive=False, reverse=False)
  return %1 as last, %4 as columns, %5 as sums, %8 as scaled, %9 as running"""

GROWING = """\
graph g(%limit: i64[], %x: f64[n]):
  const %go: bool[] = True
  %1: f64[m] = loop(%limit, %go, %x, carried=1, trips=0, sizes=(m,))
    body(%i: i64[], %a: f64[k]):
      const %go: bool[] = True
      %1: f64[2*k] = concat(%a, %a, axis=0)
      return %go as go, %1 as a
  %2: f64[m + 1] = pad(%1, pads=((0, 1),), value=7.0)
  %3: f64[m + 1] = mul(%2, %2)
  %4: f64[k2] = loop(%limit, %go, %3, carried=1, trips=0, sizes=(k2,))
    body(%i: i64[], %a: f64[k]):
      const %go: bool[] = True
      %1: f64[k + 1] = pad(%a, pads=((0, 1),), value=1.0)
      return %go as go, %1 as a
  %5: f64[k2] = neg(%4)
  return %3 as squares, %5 as more"""


@pytest.mark.parametrize("text", [WHILE, GROWING], ids=["while", "growing"])
def test_segments_around_a_loop(text: str) -> None:
    graph = parse_graph(text)
    run = compile_graph(graph)
    assert sum(isinstance(s, Segment) for s in run.program.steps) >= 2
    for limit in (3, 0, 9, 1):
        for n in (2, 1, 5):
            arrays: list[Any] = [np.array(limit), np.linspace(0.5, 1.0, n)]
            for got, want in zip(run.run(arrays), interpret(graph, arrays), strict=True):
                assert got.shape == want.shape
                np.testing.assert_allclose(got, want, rtol=1e-12)


# A loop of unknown length over as many rows as were found, and a branch whose results differ in
# their sizes.
NESTED = """\
graph g(%limit: i64[], %x: f64[n, 3], %pick: bool[n]):
  const %go: bool[] = True
  %at: i64[1, found] = positions(%pick, size=found)
  %rows: i64[found] = reshape(%at, shape=(found,))
  %some: f64[found, 3] = index_select(%x, %rows, axis=0)
  %1: f64[found, 3], %2: f64[trips, 3] = loop(%limit, %go, %some, carried=1, trips=trips, sizes=())
    body(%i: i64[], %a: f64[f, 3]):
      const %c0: f64[] = 4.0
      %1: f64[3] = sum(%a, axes=(0,), keepdims=False)
      %2: f64[] = max(%1, axes=(0,), keepdims=False)
      %3: bool[] = less(%2, %c0)
      %4: f64[f, 3] = add(%a, %a)
      return %3 as go, %4 as a, %1 as y
  %c: i64[] = dim_value(dim=trips)
  const %two: i64[] = 2
  %many: bool[] = greater(%c, %two)
  %3: f64[k, 3] = if(%many, %2, %x, sizes=(k,))
    then_branch(%y: f64[t, 3], %z: f64[m, 3]):
      return %y as out
    else_branch(%y: f64[t, 3], %z: f64[m, 3]):
      %1: f64[m, 3] = exp(%z)
      return %1 as out
  return %1 as last, %3 as either"""


def test_bodies_of_what_is_left_are_compiled() -> None:
    graph = parse_graph(NESTED)
    run = compile_graph(graph)
    held = [s for s in run.program.steps if isinstance(s, Interpreted) and s.bodies]
    assert [s.op.name for s in held] == ["loop", "if"]
    bodies = [b for s in held for b in s.bodies]
    assert all(isinstance(step, Segment) for b in bodies for step in b.steps)
    rng = np.random.default_rng(0)
    for n in (4, 1, 7, 0, 4):
        for limit in (9, 0, 2):
            for share in (0.5, 0.0, 1.0):
                x, pick = rng.random((n, 3)), rng.random(n) < share
                arrays: list[Any] = [np.array(limit), x, pick]
                got, want = run.run(arrays), interpret(graph, arrays)
                assert [y.shape for y in got] == [y.shape for y in want]
                for a, b in zip(got, want, strict=True):
                    np.testing.assert_allclose(a, b, rtol=1e-12)
                    assert not any(np.may_share_memory(a, given) for given in arrays)
