"""In-place planning: what may be overwritten, by whom and when; and the checker of such plans."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualgraph_compiler import parse_graph
from dualgraph_compiler.errors import ArgumentError, GraphError
from dualgraph_compiler.graph import Graph, Interpreter, interpret
from dualgraph_compiler.memory import check_plan, plan_in_place

from .test_random_graphs import SPECIAL, _inputs, graphs


def plan(text: str, donate: Any = ()) -> Any:
    """The checked plan of a graph given as text; `donate` names params for output indices."""
    graph = parse_graph(text)
    state = {v.name: v for v in [*graph.inputs, *graph.params]}
    made = plan_in_place(graph, [(i, state[name]) for i, name in donate])
    check_plan(made)
    return made


def reused(text: str) -> dict[int, int]:
    """By position in the graph: which node's result is computed in which one's memory."""
    made = plan(text)
    at = {n.output: i for i, n in enumerate(made.graph.nodes, 1)}
    return {at[a]: at[b] for a, b in made.reused.items()}


def test_the_last_reader_takes_the_memory():
    assert reused("""\
graph g(%x: f32[3], %y: f32[3]):
  %1: f32[3] = neg(%x)
  %2: f32[3] = add(%1, %y)
  %3: f32[3] = mul(%2, %2)
  return %3 as out""") == {2: 1, 3: 2}


@pytest.mark.parametrize(
    "body",
    [
        # read later
        "%2: f32[3, 3] = exp(%1)\n  %3: bool[3, 3] = less(%1, %2)\n  return %2 as a, %3 as b",
        # a view is read later
        "%2: f32[3, 3] = permute(%1, axes=(1, 0))\n  %3: f32[3, 3] = exp(%1)\n"
        "  %4: f32[3, 3] = add(%2, %3)\n  return %3 as a, %4 as b",
        # read as it is and through a view at once: elements would be overwritten before their turn
        "%2: f32[3, 3] = permute(%1, axes=(1, 0))\n  %3: f32[3, 3] = add(%1, %2)\n  return %3 as b",
        # an output
        "%2: f32[3, 3] = exp(%1)\n  return %1 as a, %2 as b",
        # a view is an output
        "%2: f32[9] = reshape(%1, shape=(9,))\n  %3: f32[3, 3] = exp(%1)\n"
        "  return %2 as a, %3 as b",
        # another type
        "%2: bool[3, 3] = less(%1, %x)\n  return %2 as a",
        # no kernel that could
        "%2: f32[3, 3] = cumsum(%1, axis=0)\n  return %2 as a",
    ],
)
def test_memory_still_needed_is_not_taken(body):
    head = "graph g(%x: f32[3, 3]):\n  %1: f32[3, 3] = neg(%x)\n  "
    assert 1 not in reused(head + body).values()


def test_a_choice_takes_only_its_last_operand():
    assert reused("""\
graph g(%c: bool[3], %x: f32[3]):
  %1: f32[3] = neg(%x)
  %2: f32[3] = exp(%x)
  %3: f32[3] = where(%c, %1, %2)
  return %3 as out""") == {3: 2}


def test_operands_of_the_run_are_never_taken():
    assert not reused("graph g(%x: f32[3]):\n  %1: f32[3] = neg(%x)\n  return %1 as out")


STEP = """\
graph g(%x: f32[3]):
  param %w: f32[3]
  param %m: f32[3]
  const %c0: f32[] = 0.5
  %1: f32[3] = mul(%m, %c0)
  %2: f32[3] = add(%1, %x)
  %3: f32[3] = sub(%w, %2)
  %4: f32[3] = exp(%w)
  return %4 as out, %3 as w.new, %2 as m.new"""


def test_new_state_over_the_old():
    """The new `m` is read by the new `w`, so only `w` can wait for the end; `exp` comes first."""
    made = plan(STEP, [(1, "w"), (2, "m")])
    assert {i: v.name for i, v in made.donated.items()} == {1: "w"}
    assert [n.op.name for n in made.order] == ["mul", "add", "exp", "sub"]
    assert made.first_write == 3


ADAM = """\
graph g(%g: f32[3], %lr: f64[], %b1: f64[], %b2: f64[]):
  param %w: f32[3]
  param %t: f32[]
  param %m: f32[3]
  param %v: f32[3]
  %1: f32[3], %2: f32[], %3: f32[3], %4: f32[3] = adam_update(%w, {grad}, %t, %m, %v, %lr, %b1, \
%b2, eps=1e-08, weight_decay=0.0, amsgrad=False, maximize=False, decoupled=False)
  %5: f32[3] = neg(%w)
  return %5 as out, %1 as w.new, %2 as t.new, %3 as m.new, %4 as v.new"""
EACH = [(1, "w"), (2, "t"), (3, "m"), (4, "v")]


def test_an_optimizer_steps_in_place():
    made = plan(ADAM.replace("{grad}", "%g"), EACH)
    assert {i: v.name for i, v in made.donated.items()} == dict(EACH)
    assert made.order[-1].op.name == "adam_update"


def test_an_optimizer_does_not_overwrite_its_gradient():
    assert not plan(ADAM.replace("{grad}", "%w"), EACH).donated


def test_all_of_a_nodes_results_or_none():
    assert not plan(ADAM.replace("{grad}", "%g"), EACH[:3]).donated


SWAP = """\
graph g():
  param %a: f32[3]
  param %b: f32[3]
  %1: f32[3] = neg(%b)
  %2: f32[3] = exp(%a)
  return %1 as a.new, %2 as b.new"""


def test_states_that_swap():
    made = plan(SWAP, [(0, "a"), (1, "b")])
    assert len(made.donated) == 1
    ones, twos = np.ones(3, np.float32), np.full(3, 2, np.float32)
    run = Interpreter(made.graph, donate=[(0, made.graph.params[0]), (1, made.graph.params[1])]).run
    new_a, new_b = run([], [ones, twos], donate=True)
    np.testing.assert_array_equal(new_a, [-2] * 3)
    np.testing.assert_array_equal(new_b, np.exp(np.ones(3, np.float32)))
    assert (new_a is ones) + (new_b is twos) == 1


def test_state_that_is_also_shown_is_not_donated():
    for outputs in ("%1 as a, %1 as b", "%1 as a, %w as b", "%1 as a, %2 as b"):
        made = plan(
            "graph g():\n  param %w: f32[2, 2]\n  %1: f32[2, 2] = neg(%w)\n"
            f"  %2: f32[4] = reshape(%w, shape=(4,))\n  return {outputs}",
            [(0, "w")],
        )
        assert not made.donated


@pytest.mark.parametrize(
    ("pair", "message"),
    [((3, "w"), "no output 3"), ((0, "n"), "neither an input nor"), ((2, "w"), "cannot replace")],
)
def test_what_cannot_be_donated_is_refused(pair, message):
    graph = parse_graph(
        "graph g(%x: f32[2]):\n  param %w: f32[3]\n  %1: f32[3] = neg(%w)\n"
        "  return %1 as a, %1 as b, %x as c"
    )
    values = {"w": graph.params[0], "n": next(graph.nodes).output}
    with pytest.raises(ArgumentError, match=message):
        plan_in_place(graph, [(pair[0], values[pair[1]])])


MANY = """\
graph g(%g: f32[5], %h: f32[2, 3], %lr: f64[], %b1: f64[], %b2: f64[]):
{params}
  %1: f32[5], %2: f32[], %3: f32[5], %4: f32[5] = adam_update(%w0, %g, %t0, %m0, %v0, %lr, %b1, \
%b2, eps=1e-08, weight_decay=0.1, amsgrad=False, maximize=False, decoupled=True)
  %5: f32[2, 3], %6: f32[], %7: f32[2, 3], %8: f32[2, 3] = adam_update(%w1, %h, %t1, %m1, %v1, \
%lr, %b1, %b2, eps=1e-08, weight_decay=0.1, amsgrad=False, maximize=False, decoupled=True)
  return %1 as a, %2 as b, %3 as c, %4 as d, %5 as e, %6 as f, %7 as g, %8 as h"""


@pytest.mark.parametrize("counts", [(3, 3), (3, 4)])
@pytest.mark.parametrize("transposed", [False, True])
def test_small_parameters_step_together_with_the_bits_of_single_steps(counts, transposed):
    types = [("w", "f32[5]"), ("t", "f32[]"), ("m", "f32[5]"), ("v", "f32[5]")]
    lines = [f"  param %{n}0: {t}" for n, t in types]
    lines += [f"  param %{n}1: {t.replace('5', '2, 3')}" for n, t in types]
    graph = parse_graph(MANY.replace("{params}", "\n".join(lines)))
    rng = np.random.default_rng(0)

    def array(*shape):
        x = np.abs(rng.normal(size=shape)).astype(np.float32)
        return np.asfortranarray(x) if transposed else x

    inputs = [array(5), array(2, 3), np.asarray(1e-3), np.asarray(0.9), np.asarray(0.999)]
    params = []
    for count, shape in zip(counts, ((5,), (2, 3)), strict=True):
        params += [array(*shape), np.float32(count) * np.ones((), np.float32), array(*shape)]
        params.append(array(*shape))
    params = [np.asarray(p) for p in params]
    expected = Interpreter(graph).run(inputs, [p.copy() for p in params])
    got = Interpreter(graph, donate=list(enumerate(graph.params))).run(inputs, params, donate=True)
    for x, target, want in zip(got, params, expected, strict=True):
        assert x is target
        assert x.tobytes() == want.tobytes()


# -- the checker ----------------------------------------------------------------------------------


def broken(made: Any, **changes: Any) -> Any:
    return dataclasses.replace(made, **changes)


def test_the_checker_finds_mistakes():
    made = plan(STEP, [(1, "w")])
    mul, add, exp, sub = made.order
    _, m = made.graph.params
    no_writes = broken(made, donated={}, first_write=4)
    wrong = [
        ("which has been overwritten", broken(made, order=(mul, add, sub, exp), first_write=2)),
        ("comes before its operand", broken(made, order=(add, mul, exp, sub))),
        ("every node", broken(made, order=(mul, add, exp))),
        ("while later nodes may fail", broken(made, first_write=4)),
        ("more than donated results", broken(made, first_write=2)),
        ("which it may not", broken(made, reused={mul.output: m})),
        ("has been overwritten", broken(no_writes, reused={sub.output: add.output})),
        ("has been overwritten", broken(made, reused={exp.output: add.output})),
    ]
    for message, mistaken in wrong:
        with pytest.raises(GraphError, match=message):
            check_plan(mistaken)


def test_the_checker_finds_operands_overwritten_while_read():
    made = plan("""\
graph g(%x: f32[3, 3]):
  %1: f32[3, 3] = neg(%x)
  %2: f32[3, 3] = permute(%1, axes=(1, 0))
  %3: f32[3, 3] = add(%1, %2)
  return %3 as out""")
    neg, _, add = made.order
    with pytest.raises(GraphError, match="while reading it"):
        check_plan(broken(made, reused={add.output: neg.output}))


# -- random graphs --------------------------------------------------------------------------------


@st.composite
def steps(draw):
    """A random graph and pairs of outputs that replace inputs."""
    graph = draw(graphs())
    made = [v for node in graph.nodes for v in node.outputs]
    pairs = []
    outputs = list(graph.outputs)
    for target in graph.inputs:
        fitting = [v for v in made if v.type == target.type]
        if fitting and draw(st.booleans()):
            pairs.append((len(outputs), target))
            outputs.append(draw(st.sampled_from(fitting)))
    graph.set_outputs(outputs, [f"out{i}" for i in range(len(outputs))])
    return graph, pairs


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(step=steps(), seed=st.integers(0, 9))
@settings(max_examples=100)
def test_random_steps(step: tuple[Graph, Any], seed: int) -> None:
    """Plans pass the checker; runs give the bits of plain ones, and write to nothing else."""
    graph, pairs = step
    check_plan(plan_in_place(graph, pairs))
    arrays = _inputs(graph, SPECIAL, seed)
    expected = interpret(graph, [a.copy() for a in arrays])
    run = Interpreter(graph, donate=pairs)
    assert run.planner is not None
    run.planner.min_bytes = 0
    run.planner.poison = True
    for _ in range(4):  # plain, looking at layouts, by the plan
        given_arrays = [a.copy() for a in arrays]
        results = run.run(given_arrays, donate=True)
        for got, want in zip(results, expected, strict=True):
            assert got.dtype == want.dtype
            assert got.shape == want.shape
            assert got.tobytes() == want.tobytes()
        donated = {id(v): i for i, v in pairs}
        for v, old, now in zip(graph.inputs, arrays, given_arrays, strict=True):
            overwritten = id(v) in donated and results[donated[id(v)]] is now
            assert overwritten or now.tobytes() == old.tobytes()
