"""A program's text in parts: every function once, and the same results."""

from __future__ import annotations

import re

import numpy as np
import pytest

from dualgraph_compiler.graph import Graph, interpret, parse_graph
from dualgraph_compiler.native import Target, build
from dualgraph_compiler.native.units import split
from dualgraph_runtime.native import Executable, find_compiler, loading

FUNCTION = re.compile(r"^(?:static |__attribute__\S+ )?(?:void|int) (\w+)\(.*\{$", re.MULTILINE)


def chain(count: int) -> Graph:
    """Kernels that differ, one after another: sums over rows of many sizes, and matrix products."""
    lines = ["graph g(%x: f32[6, 40], %i: i64[3]):"]
    last = "x"
    for i in range(count):
        lines += [
            f"  %a{i}: f32[6, {41 + i}] = pad(%{last}, pads=((0, 0), (0, 1)), value=0.5)",
            f"  %b{i}: f32[6, {41 + i}] = softmax(%a{i}, axis=1)",
            f"  %c{i}: f32[6, {41 + i}] = add(%a{i}, %b{i})",
        ]
        last = f"c{i}"
    lines.append(f"  %t: f32[{40 + count}, 6] = permute(%{last}, axes=(1, 0))")
    lines.append(f"  %m: f32[6, 6] = matmul(%{last}, %t)")
    return parse_graph("\n".join([*lines, "  return %m as y"]))


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_every_function_is_in_one_part(count: int) -> None:
    text = build(chain(6), Target(32)).text
    parts = split(text, count)
    assert (len(parts) == 1) == (count == 1)
    assert len(parts) <= count
    everywhere = FUNCTION.findall(text[: text.index("static void kernel0")])
    found = [f for part in parts for f in FUNCTION.findall(part) if f not in everywhere]
    assert sorted(found) == sorted(f for f in FUNCTION.findall(text) if f not in everywhere)
    assert parts == split(text, count)


def test_a_text_with_variables_stays_whole() -> None:
    text = build(chain(6), Target(32)).text
    start = text.index("static void kernel")
    for shared in (
        "static i64 seen;\n",
        "static i64 seen = 0;\n",
        "i64 last(void) { return 1; }\n",
    ):
        assert len(split(text[:start] + shared + text[start:], 3)) == 1


@pytest.mark.compiler
def test_parts_make_one_program(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("DUALGRAPH_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(loading, "_UNIT", 1000)
    monkeypatch.setattr(loading, "available_cpus", lambda: 3)
    compiler = find_compiler()
    assert compiler is not None
    graph = chain(6)
    x = np.random.default_rng(0).normal(size=(6, 40)).astype(np.float32)
    i = np.arange(3)
    program = build(graph, compiler.target)
    assert len(split(program.text, 3)) == 3
    (y,) = Executable(program, compiler).run([x, i])
    np.testing.assert_allclose(y, interpret(graph, [x, i])[0], rtol=1e-4)
