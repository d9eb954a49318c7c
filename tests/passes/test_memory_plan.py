"""Buffer planning: lifetimes, offsets in the arena, and runs that follow the plan."""

from __future__ import annotations

import dataclasses
import gc
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualgraph_compiler import arena, parse_graph
from dualgraph_compiler.arena import Lifetime, peak, place
from dualgraph_compiler.errors import GraphError
from dualgraph_compiler.graph import Interpreter, interpret
from dualgraph_compiler.graph import planned as graph_planned
from dualgraph_compiler.memory import check_plan, plan_memory

from .test_random_graphs import SIZES, graphs

CHAIN = """\
dim n: 1..100
graph g(%x: f32[n, 16], %w: f32[16, 16]):
  %1: f32[n, 16] = matmul(%x, %w)
  %2: f32[n, 16] = relu(%1)
  %3: f32[n, 16] = matmul(%2, %w)
  %4: f32[n, 16] = exp(%3)
  %5: f32[16, n] = permute(%4, axes=(1, 0))
  %6: f32[16, n] = softmax(%5, axis=1)
  %7: f32[n, 16] = matmul(%2, %w)
  %8: f32[n, n] = matmul(%7, %6)
  return %8 as out"""


def test_lifetimes():
    made = plan_memory(parse_graph(CHAIN))
    spans = [(len(s.values), s.first, s.last, s.escapes) for s in made.storages]
    assert spans == [
        (2, 0, 6, False),  # relu in the memory of the product
        (2, 2, 5, False),  # exp; the transpose is a view of it
        (1, 5, 7, False),
        (1, 6, 7, False),
        (1, 7, 7, True),
    ]


def test_offsets_for_the_sizes_of_a_run():
    made = plan_memory(parse_graph(CHAIN))
    for n in (1, 100):
        placed = made.place({"n": n})
        check_plan(made.in_place, placed)
        one = -(-n * 64 // 64) * 64
        assert placed.peak_bytes == 3 * one
        assert placed.arena_bytes == 3 * one
        assert placed.total_bytes == 4 * n * 64
        assert placed.value_bytes == 6 * n * 64
    text = str(made.place({"n": 100}))
    assert "arena 18.75 KiB for 4 buffers of 25 KiB (37.5 KiB of values)" in text
    assert "at least 18.75 KiB" in text
    assert "%" not in text
    assert "5 buffers, 1 of them results; 2 of 8 nodes in an operand's memory" in str(made)


def test_the_checker_finds_overlapping_buffers():
    made = plan_memory(parse_graph(CHAIN))
    placed = made.place({"n": 10})
    for storage in list(placed.offsets)[1:]:
        wrong = dataclasses.replace(placed, offsets=placed.offsets | {storage: 0})
        if placed.offsets[storage] == 0:
            continue
        with pytest.raises(GraphError, match="overwrit"):
            check_plan(made.in_place, wrong)


@given(
    drawn=st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 20), st.integers(0, 5000)), max_size=30
    ),
    many=st.sampled_from([0, 2000]),
)
@settings(max_examples=100)
def test_buffers_alive_together_do_not_overlap(drawn, many):
    lifetimes = [Lifetime(size, at, at + time) for at, time, size in drawn]
    saved, arena._MANY = arena._MANY, many
    try:
        offsets, total = place(lifetimes)
    finally:
        arena._MANY = saved
    spans = [(t, o, o + t.size) for t, o in zip(lifetimes, offsets, strict=True)]
    for i, (s, a, b) in enumerate(spans):
        assert a % 64 == 0
        assert b <= total
        for t, c, d in spans[:i]:
            apart = s.last < t.first or t.last < s.first
            assert apart or b <= c or d <= a or a == b or c == d
    assert peak(lifetimes) <= total <= sum(t.size + 63 for t in lifetimes)


@pytest.mark.parametrize("many", [0, 2000])
def test_the_arena_of_a_chain_is_no_larger_than_it_must_be(many, monkeypatch):
    monkeypatch.setattr(arena, "_MANY", many)
    lifetimes = [Lifetime(1000 * (i % 3 + 1), i, i + 1) for i in range(300)]
    assert place(lifetimes)[1] <= 1.5 * peak(lifetimes)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(graph=graphs(), row_major=st.booleans())
@settings(max_examples=60)
def test_plans_of_random_graphs(graph, row_major):
    made = plan_memory(graph, row_major=row_major)
    check_plan(made.in_place, made.place(SIZES), row_major=row_major)


# -- runs -----------------------------------------------------------------------------------------


def planned(graph, *, poison=True):
    run = Interpreter(graph)
    run.planner.min_bytes = 0
    run.planner.poison = poison
    return run


def feed(n, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=s).astype(np.float32) for s in ((n, 16), (16, 16))]


def test_runs_follow_the_plan_for_every_size():
    graph = parse_graph(CHAIN)
    run = planned(graph)
    for round in range(5):
        for n in (3, 7, 100):
            inputs = feed(n, round)
            assert run.run(inputs)[0].tobytes() == interpret(graph, inputs)[0].tobytes()
    bound = run.planner.find((("n", 100),))
    assert sum(step[5] is not None for step in bound.steps) == 6
    assert bound.placement.arena_bytes == 3 * 6400
    check_plan(bound.plan.in_place, bound.placement)


def test_verifying_checks_and_poisons(monkeypatch):
    monkeypatch.setenv("DUALGRAPH_VERIFY", "1")
    run = Interpreter(parse_graph(CHAIN))
    for i in range(4):
        run.run(feed(5, i))
    assert run.planner.poison
    bound = run.planner.find((("n", 5),))
    arena_ = run.planner._held
    assert (arena_.memory == 0xFF).all()
    assert bound.layouts
    # Were a buffer taken too early, its reader would find NaN.
    bound.dying = {0: [slice(None)]}
    assert np.isnan(run.run(feed(5))[0]).all()


def test_results_are_not_in_the_arena():
    run = planned(parse_graph(CHAIN), poison=False)
    kept = [run.run(feed(5, i))[0] for i in range(6)]
    copies = [k.copy() for k in kept]
    run.run(feed(5, 9))
    for a, b in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(a, b)


def test_operands_of_another_layout():
    """Strided operands give strided results, which add up in another order: the plan must yield."""
    graph = parse_graph("""\
graph g(%x: f32[64, 64], %y: f32[64, 64]):
  %1: f32[64, 64] = add(%x, %y)
  %2: f32[64, 64] = exp(%1)
  %3: f32[64] = sum(%2, axes=(0,), keepdims=False)
  return %3 as out""")
    run = planned(graph)
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(64, 64)).astype(np.float32) for _ in range(2))
    for i in range(24):
        feeds = [x.T, y.T] if i % 5 == 4 else [x, y]
        assert run.run(feeds)[0].tobytes() == interpret(graph, feeds)[0].tobytes()


def test_threads_have_arenas_of_their_own():
    graph = parse_graph(CHAIN)
    run = planned(graph, poison=False)
    inputs = [feed(50, i) for i in range(4)]
    expected = [interpret(graph, x)[0].tobytes() for x in inputs]
    for x in inputs:
        run.run(x)
    wrong = []

    def work(i):
        for _ in range(50):
            if run.run(inputs[i])[0].tobytes() != expected[i]:
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_graphs_that_take_turns_share_an_arena(monkeypatch):
    monkeypatch.setattr(graph_planned, "_free", [])  # none that other tests left
    runs = [planned(parse_graph(CHAIN)) for _ in range(3)]
    for _ in range(4):
        for n, run in zip((10, 100, 50), runs, strict=True):
            run.run(feed(n))
    (arena,) = live_arenas()
    assert arena >= 2 * 100 * 64
    del runs, run
    gc.collect()
    assert live_arenas() == []


def live_arenas():
    return sorted(x.memory.size for r in graph_planned._free if (x := r()) is not None)


def test_a_run_that_fails_writes_nothing():
    graph = parse_graph("""\
graph g(%at: i64[1]):
  param %w: f32[4]
  const %c0: f32[] = 2.0
  %1: f32[4] = mul(%w, %c0)
  %2: f32[1] = index_select(%w, %at, axis=0)
  return %2 as out, %1 as w.new""")
    run = Interpreter(graph, donate=[(1, graph.params[0])])
    w = np.arange(4, dtype=np.float32)
    with pytest.raises(Exception, match="out of"):
        run.run([np.array([7])], [w], donate=True)
    np.testing.assert_array_equal(w, [0, 1, 2, 3])
    out, new = run.run([np.array([3])], [w], donate=True)
    assert new is w
    np.testing.assert_array_equal(w, [0, 2, 4, 6])
    np.testing.assert_array_equal(out, [3])


@pytest.mark.parametrize("how", ["read-only", "a view of the other", "both the same", "strided"])
def test_memory_that_cannot_be_donated_is_left_alone(how):
    graph = parse_graph("""\
graph g(%x: f32[4]):
  param %w: f32[4]
  param %v: f32[4]
  %1: f32[4] = add(%w, %x)
  %2: f32[4] = mul(%v, %x)
  return %1 as w.new, %2 as v.new""")
    run = Interpreter(graph, donate=list(enumerate(graph.params)))
    x = np.full(4, 3, np.float32)
    w, v = np.arange(4, dtype=np.float32), np.arange(8, dtype=np.float32)
    if how == "read-only":
        v = v[:4].copy()
        v.flags.writeable = False
    elif how == "a view of the other":
        w, v = v[:4], v[2:6]
    elif how == "both the same":
        v = w
    else:
        v = v[::2]  # its own memory: written to, whatever the layout
    expected = w + x, v * x
    before = w.copy(), v.copy()
    got = run.run([x], [w, v], donate=True)
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_array_equal(g, e)
    if how == "strided":
        assert got[1] is v
    else:
        np.testing.assert_array_equal(w, before[0])
        np.testing.assert_array_equal(v, before[1])
