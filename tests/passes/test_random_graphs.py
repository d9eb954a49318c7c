"""Every pass keeps the results of random graphs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualgraph_compiler import Dim, Graph, TensorType, parse_graph
from dualgraph_compiler.compile import optimize, pipeline
from dualgraph_compiler.dims import DimLike
from dualgraph_compiler.dtypes import BY_SHORT, bool_, float32, float64, int32
from dualgraph_compiler.errors import DualGraphError
from dualgraph_compiler.graph import to_text
from dualgraph_compiler.ops.base import REGISTRY, Op
from dualgraph_compiler.ops.convert import Cast
from dualgraph_compiler.ops.creation import Full
from dualgraph_compiler.ops.movement import Expand, Permute, Reshape
from dualgraph_compiler.ops.padding import Pad
from dualgraph_compiler.ops.rearrange import Concat
from dualgraph_compiler.ops.reduction import Sum
from dualgraph_compiler.ops.slicing import Slice
from dualgraph_compiler.passes import (
    Decompose,
    FoldConstants,
    MergeCommon,
    RemoveDeadCode,
    Simplify,
)
from dualgraph_compiler.passes.group_pointwise import group_pointwise

from .helpers import assert_same_results, run_pass
from .test_group_pointwise import check_grouping

N = Dim("n")
SIZES = {"n": 4}
SHAPES: list[tuple[DimLike, ...]] = [(), (3,), (1, 3), (N, 3), (N, 1), (2, 1, 3)]
SPECIAL = [0.0, -0.0, 1.0, -1.0, 2.0, 0.5, -3.5, np.inf, -np.inf, np.nan, 1e-45, 3e38]
UNIFORM = [0.0, -0.0, 1.0, -1.0, 2.0, 0.5]
UNARY = ["neg", "abs", "relu", "floor", "round", "exp", "sqrt", "reciprocal", "logical_not"]
BINARY = ["add", "sub", "mul", "div", "pow", "maximum", "minimum", "greater", "equal"]
LOGICAL = ["logical_and", "logical_or", "logical_xor"]
# Steps and infinite slopes turn a rounding difference into a large one; where rounding may differ
# they are left out.
SMOOTH_UNARY, SMOOTH_BINARY = ["neg", "abs", "relu"], ["add", "sub", "mul", "maximum", "minimum"]


@st.composite
def graphs(draw, smooth=False):
    graph = Graph("random")
    values = []
    for i in range(draw(st.integers(1, 3))):
        dtype = float32 if smooth else draw(st.sampled_from([float32, float32, int32, float64]))
        values.append(graph.add_input(TensorType(dtype, draw(st.sampled_from(SHAPES))), f"x{i}"))
    for _ in range(draw(st.integers(0, 3))):
        shape = draw(st.sampled_from([(), (3,), (1, 3)]))
        number = draw(st.sampled_from(UNIFORM))
        values.append(graph.constant(np.full(shape, number, draw(st.sampled_from("fffd")))))
    for i in range(draw(st.integers(1, 12))):
        made = _step(draw, graph, values, smooth)
        if made is not None:
            made.name = f"v{i}" if draw(st.booleans()) else ""
            values.append(made)
    outputs = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
    graph.set_outputs(outputs, [f"out{i}" for i in range(len(outputs))])
    return graph


def _step(draw, graph, values, smooth):
    """One more value, or None where the ops drawn refuse their operands."""
    a = draw(st.sampled_from(values))
    same = [v for v in values if v.dtype is a.dtype]
    b = draw(st.sampled_from(same))
    ops: list[tuple[Op, list]] = [
        *((REGISTRY[name](), [a]) for name in (SMOOTH_UNARY if smooth else UNARY)),
        *((REGISTRY[name](), [a, b]) for name in (SMOOTH_BINARY if smooth else BINARY) * 2),
        *((REGISTRY[name](), [a, b]) for name in LOGICAL if a.dtype is bool_),
        *((REGISTRY["where"](), [c, a, b]) for c in values if c.dtype is bool_),
        (Sum(tuple(range(a.ndim)), draw(st.booleans())), [a]),
        (Sum((0,) if a.ndim else (), draw(st.booleans())), [a]),
        (Concat(0), [a]),
        (Concat(0), [a, b]),
        *_movements(draw, a),
    ]
    if not smooth:
        ops.append((Cast(BY_SHORT[draw(st.sampled_from(["f32", "f64", "f16", "i32"]))]), [a]))
    op, operands = draw(st.sampled_from(ops))
    try:
        return graph.call(op, operands)
    except DualGraphError:
        return None


def _movements(draw, a):
    axes = draw(st.permutations(range(a.ndim)))
    full = (0,) * a.ndim, a.shape, (1,) * a.ndim
    cut = tuple(d if isinstance(d, Dim) else draw(st.integers(0, d)) for d in a.shape)
    steps = tuple(draw(st.integers(1, 2)) for _ in a.shape)
    amount = draw(st.integers(0, 1))
    return [
        (Permute(tuple(axes)), [a]),
        (Reshape((a.size,)), [a]),
        (Reshape((1, *a.shape)), [a]),
        (Reshape(a.shape), [a]),
        (Expand((2, *a.shape)), [a]),
        (Expand(a.shape), [a]),
        (Slice(*full), [a]),
        (Slice(full[0], cut, steps), [a]),
        (Pad(((amount, 0),) * a.ndim), [a]),
        (Full(a.shape, draw(st.sampled_from(UNIFORM)), a.dtype), []),
    ]


def _inputs(graph, elements, seed):
    rng = np.random.default_rng(seed)
    arrays = []
    for v in graph.inputs:
        shape = [SIZES["n"] if d is N else d for d in v.shape]
        whole = v.dtype is int32
        array = rng.integers(-3, 4, shape) if whole else rng.choice(elements, shape)
        arrays.append(np.asarray(array).astype(v.dtype.np))
    return arrays


EXACT = [
    RemoveDeadCode(),
    FoldConstants(),
    MergeCommon(),
    Simplify(exact=True),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(graph=graphs(), seed=st.integers(0, 9))
@settings(max_examples=300)
def test_exact_passes_keep_every_bit(graph, seed):
    inputs = _inputs(graph, SPECIAL, seed)
    for p in EXACT:
        out, _ = run_pass(p, graph)
        assert_same_results(graph, out, inputs)
    strict = optimize(graph, numerics="strict", verify=True)
    assert_same_results(graph, strict, inputs)
    check_grouping(group_pointwise(strict))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(graph=graphs(smooth=True), seed=st.integers(0, 9))
@settings(max_examples=150)
def test_the_other_passes_keep_the_values(graph, seed):
    inputs = _inputs(graph, [0.5, -1.0, 2.0, 1.25, -0.75], seed)
    for p in [*pipeline(), Decompose()]:
        out, _ = run_pass(p, graph)
        assert_same_results(graph, out, inputs, tol=1e-5)
    assert_same_results(graph, optimize(graph, verify=True), inputs, tol=1e-5)


@given(graph=graphs())
def test_text_round_trips(graph):
    text = to_text(graph, full=True)
    assert to_text(parse_graph(text), full=True) == text


@given(graph=graphs())
def test_optimizing_twice_changes_nothing_more(graph):
    once = optimize(graph)
    assert len(optimize(once)) == len(once)
