"""State written in place by compiled programs: results in the memory of what they replace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dualgraph_runtime.native.executable as executable
from dualgraph_compiler import Dim
from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.graph import Graph, Interpreter, interpret, parse_graph
from dualgraph_compiler.native import build
from dualgraph_runtime.native import Executable, compile_graph

from .test_random_graphs import row_graphs

pytestmark = pytest.mark.compiler


@pytest.fixture(params=["launcher", "ctypes"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to call a program."""
    if request.param == "ctypes":
        monkeypatch.setattr(executable, "frame_type", lambda compiler: None)


def rand(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def pairs(graph: Graph, donate: dict[int, str]) -> list[tuple[int, Any]]:
    of = {v.name: v for v in [*graph.inputs, *graph.params]}
    return [(i, of[name]) for i, name in donate.items()]


def compiled(text: str, donate: dict[int, str]) -> tuple[Graph, Executable]:
    graph = parse_graph(text)
    return graph, compile_graph(graph, donate=pairs(graph, donate))


def check(text: str, donate: dict[int, str], arrays: Sequence[Any], written: set[str]) -> None:
    """Results are the interpreter's; `written` names what the program writes in place."""
    graph, run = compiled(text, donate)
    names = [v.name for v in graph.inputs]
    assert {names[i] for i in run.program.donated.values()} == written
    want = interpret(graph, [a.copy() for a in arrays])
    for allowed in (True, False, True):
        fed = [a.copy() for a in arrays]
        found = run.run(fed, donate=allowed)
        for i, (a, b) in enumerate(zip(found, want, strict=True)):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=f"output {i}")
        for name, x, before in zip(names, fed, arrays, strict=True):
            if not (allowed and name in written):
                assert x.tobytes() == before.tobytes(), f"{name} was changed"
        for i, operand in run.program.donated.items():
            assert (found[i] is fed[operand]) is allowed


UPDATE = """
graph g(%w: f32[n, 5], %g: f32[n, 5]):
  %1: f32[n, 5] = mul(%g, %g)
  %2: f32[n, 5] = sub(%w, %1)
  return %2 as output
"""


def test_an_update() -> None:
    for n in (3, 1, 0, 9):
        check(UPDATE, {0: "w"}, [rand(n, 5), rand(n, 5, seed=1)], {"w"})


def test_a_row_that_is_read_twice() -> None:
    text = """
graph g(%w: f32[7, 20]):
  %1: f32[7, 20] = softmax(%w, axis=1)
  return %1 as output
"""
    check(text, {0: "w"}, [rand(7, 20)], {"w"})


def test_a_column_that_is_read_twice() -> None:
    text = """
graph g(%w: f32[20, 7]):
  %1: f32[1, 7] = mean(%w, axes=(0,), keepdims=True)
  %2: f32[20, 7] = sub(%w, %1)
  return %2 as output
"""
    check(text, {0: "w"}, [rand(20, 7)], {"w"})


@pytest.mark.parametrize(
    "read",
    ["flip(%w, axes=(0,))", "permute(%w, axes=(1, 0))", "sum(%w, axes=(0,), keepdims=True)"],
)
def test_elements_read_at_another_place(read: str) -> None:
    shape = "1, 4" if "sum" in read else "4, 4"
    text = f"""
graph g(%w: f32[4, 4]):
  %1: f32[{shape}] = {read}
  %2: f32[4, 4] = add(%1, %w)
  %3: f32[4, 4] = mul(%2, %w)
  return %3 as output
"""
    check(text, {0: "w"}, [rand(4, 4)], {"w"} if "sum" in read else set())


def test_an_earlier_element_of_a_row() -> None:
    """Each step of the loop reads what the one before would have overwritten."""
    text = """
graph g(%w: f32[40]):
  %1: f32[39] = slice(%w, starts=(0,), stops=(39,), steps=(1,))
  %2: f32[40] = pad(%1, pads=((1, 0),), value=0.0)
  %3: f32[40] = add(%w, %2)
  return %3 as output
"""
    check(text, {0: "w"}, [rand(40)], set())


def test_who_reads_the_old_value_comes_first() -> None:
    text = """
graph g(%w: f32[4, 4], %g: f32[4, 4]):
  %1: f32[4, 4] = sub(%w, %g)
  %2: f32[4, 4] = matmul(%g, %w)
  %3: f32[4, 4] = matmul(%1, %g)
  return %1 as new, %2 as before, %3 as after
"""
    check(text, {0: "w"}, [rand(4, 4), rand(4, 4, seed=1)], {"w"})


@pytest.mark.parametrize("turned", [False, True])
def test_two_that_swap(turned: bool) -> None:
    """Both are written over only where the new values wait in memory of their own."""
    text = """
graph g(%v: f32[4], %w: f32[4]):
  %1: f32[4] = tanh(%v)
  %2: f32[4] = tanh(%w)
"""
    if turned:
        text += """
  %3: f32[4] = flip(%2, axes=(0,))
  %4: f32[4] = flip(%1, axes=(0,))
  return %3 as v2, %4 as w2
"""
    else:
        text += "  return %2 as v2, %1 as w2\n"
    check(text, {0: "v", 1: "w"}, [rand(4), rand(4, seed=1)], {"v", "w"} if turned else {"v"})


def test_the_update_behind_a_matrix_product() -> None:
    text = """
graph g(%w: f32[13, 21], %x: f32[9, 13], %g: f32[9, 21]):
  %1: f32[13, 9] = permute(%x, axes=(1, 0))
  %2: f32[13, 21] = matmul(%1, %g)
  %3: f32[13, 21] = sub(%w, %2)
  return %3 as output
"""
    check(text, {0: "w"}, [rand(13, 21), rand(9, 13, seed=1), rand(9, 21, seed=2)], {"w"})


def test_the_operand_of_a_matrix_product() -> None:
    text = """
graph g(%w: f32[13, 13], %g: f32[13, 13]):
  %1: f32[13, 13] = matmul(%w, %g)
  %2: f32[13, 13] = sub(%w, %1)
  return %2 as output
"""
    check(text, {0: "w"}, [rand(13, 13), rand(13, 13, seed=1)], set())


def test_a_result_that_is_given_twice() -> None:
    text = UPDATE.replace("%2 as output", "%2 as a, %2 as b, %g as c")
    check(text, {0: "w"}, [rand(3, 5), rand(3, 5, seed=1)], {"w"})


def test_an_old_value_that_is_a_result() -> None:
    text = UPDATE.replace("%2 as output", "%2 as a, %w as b")
    check(text, {0: "w"}, [rand(3, 5), rand(3, 5, seed=1)], set())


FAILING = """
graph g(%w: i32[4], %x: i32[4], %y: i32[4]):
  %1: i32[4] = add(%w, %x)
  %2: i32[4] = flip(%y, axes=(0,))
  %3: i32[1] = max(%2, axes=(0,), keepdims=True)
  %4: i32[4] = floor_div(%x, %3)
  return %1 as new, %4 as quotient
"""


def test_nothing_is_written_by_a_run_that_fails() -> None:
    _, run = compiled(FAILING, {0: "w"})
    assert run.program.donated
    w, x = np.arange(4, dtype=np.int32), np.ones(4, np.int32)
    for _ in range(2):
        before = w.copy()
        with pytest.raises(ArgumentError, match="division by zero"):
            run.run([w, x, x * 0], donate=True)
        assert w.tolist() == before.tolist()
        assert run.run([w, x, x], donate=True)[0] is w
        assert w.tolist() == (before + 1).tolist()


def test_a_kernel_that_may_fail_writes_no_state() -> None:
    text = """
graph g(%w: i32[4], %x: i32[4]):
  %1: i32[4] = floor_div(%w, %x)
  return %1 as new
"""
    check(text, {0: "w"}, [np.arange(4, dtype=np.int32), np.ones(4, np.int32)], set())


def test_interpreted_nodes_come_before_anything_is_written() -> None:
    text = """
graph g(%w: f32[6], %x: f32[6]):
  %1: f32[6] = sub(%w, %x)
  %2: f32[6] = cumsum(%x, axis=0, exclusive=False, reverse=False)
  return %1 as new, %2 as total
"""
    check(text, {0: "w"}, [rand(6), rand(6, seed=1)], {"w"})


def test_memory_that_others_show_is_not_written_to() -> None:
    graph, run = compiled(UPDATE, {0: "w"})
    both = rand(7, 5)
    for w, g in ((both[:4], both[:4]), (both[:4], both[3:]), (both[3:], both[:4])):
        before = both.copy()
        (want,) = interpret(graph, [w, g])
        (found,) = run.run([w, g], donate=True)
        np.testing.assert_allclose(found, want, rtol=1e-5)
        assert found is not w
        np.testing.assert_array_equal(both, before)
    assert run.run([both[:4], rand(4, 5)], donate=True)[0] is not None


def test_arrays_that_moved_are_looked_at_again() -> None:
    _, run = compiled(UPDATE, {0: "w"})
    w, g = rand(4, 5), rand(4, 5, seed=1)
    assert run.run([w, g], donate=True)[0] is w
    assert run.run([g, w], donate=True)[0] is g
    before = w.copy()
    assert run.run([w, w], donate=True)[0] is not w
    np.testing.assert_array_equal(w, before)
    assert run.run([w, g], donate=True)[0] is w


def test_what_cannot_be_written_to() -> None:
    graph, run = compiled(UPDATE, {0: "w"})
    g = rand(4, 5, seed=1)
    fixed = rand(4, 5)
    fixed.flags.writeable = False
    for w in (fixed, np.asfortranarray(rand(4, 5)), rand(4, 10)[:, ::2]):
        before = w.copy()
        (found,) = run.run([w, g], donate=True)
        np.testing.assert_allclose(found, interpret(graph, [before, g])[0], rtol=1e-5)
        assert found is not w
        np.testing.assert_array_equal(w, before)


def test_pairs_that_cannot_be() -> None:
    graph = parse_graph(UPDATE)
    with pytest.raises(ArgumentError, match="no output 1"):
        build(graph, donate=[(1, graph.inputs[0])])
    with pytest.raises(ArgumentError, match="neither an input nor a param"):
        build(graph, donate=[(0, graph.outputs[0])])


@settings(max_examples=40)
@given(graph=row_graphs(), data=st.data())
def test_random_graphs(graph: Graph, data: Any) -> None:
    """Whatever is donated, results are the same and nothing else is written."""
    every = [
        (i, v)
        for i, y in enumerate(graph.outputs)
        for v in graph.inputs
        if y.type == v.type and graph.outputs.index(y) == i
    ]
    donate = [pair for pair in every if data.draw(st.booleans())]
    run, oracle = compile_graph(graph, donate=donate), Interpreter(graph)
    for n in (1, 3, 40):
        rng = np.random.default_rng(n)
        shapes = [[n if isinstance(d, Dim) else d for d in v.shape] for v in graph.inputs]
        arrays = [rng.uniform(-1, 1, s).astype(np.float32) for s in shapes]
        with np.errstate(all="ignore"):
            want = oracle.run([a.copy() for a in arrays])
        fed = [a.copy() for a in arrays]
        for got, expected in zip(run.run(fed, donate=True), want, strict=True):
            scale = max(1.0, np.abs(expected[np.isfinite(expected)]).max(initial=0))
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * scale)
        for i, (x, before) in enumerate(zip(fed, arrays, strict=True)):
            if i not in run.program.donated.values():
                assert x.tobytes() == before.tobytes()
