"""Updates of optimizers and clipping of gradients, as kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dualgraph_compiler.dtypes import float32, float64
from dualgraph_compiler.graph import Graph, interpret
from dualgraph_compiler.native import build
from dualgraph_compiler.ops import f
from dualgraph_compiler.ops.optimizer import AdamUpdate, SgdUpdate, VectorNorm
from dualgraph_compiler.types import TensorType
from dualgraph_runtime.native import compile_graph

_SHAPE = (8, 4, 3, 3)


def _update(op: Any, scaled: bool) -> Graph:
    """One parameter's update; `scaled`: by a factor that is computed from the gradient."""
    graph = Graph("update")
    param, grad = (graph.add_input(TensorType(float32, _SHAPE)) for _ in range(2))
    state = [
        graph.add_input(TensorType(float32, () if name == "step" else _SHAPE)) for name in op.state
    ]
    numbers = [graph.add_input(TensorType(float64, ()), name) for name in op.numbers]
    if scaled:
        norm = graph.call(VectorNorm(2.0), (grad,))
        grad = grad * f.where(f.greater(norm, f.like(norm, 1)), 1 / norm, f.like(norm, 1))
    made = graph.call(op, (param, grad, *state, *numbers))
    graph.set_outputs(made if op.state else (made,))
    return graph


UPDATES = [AdamUpdate(weight_decay=0.1, decoupled=True), AdamUpdate(), SgdUpdate(momentum=True)]


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("op", UPDATES, ids=lambda op: op.name)
def test_update_of_a_parameter_is_one_loop(op: Any, scaled: bool) -> None:
    program = build(_update(op, scaled))
    over = [k for k in program.kernels if "f32[8, 4, 3, 3]" in k]
    assert len(over) == 1, program.report()


@pytest.mark.compiler
@pytest.mark.parametrize("op", UPDATES, ids=lambda op: op.name)
def test_update_is_that_of_the_interpreter(op: Any) -> None:
    graph = _update(op, scaled=True)
    rng = np.random.default_rng(0)
    numbers = {"lr": 0.1, "beta1": 0.9, "beta2": 0.95, "momentum": 0.9, "first": 0.0}
    feeds = [
        np.asarray(numbers.get(v.name, rng.random(v.shape) + 3 * (v.shape == ())), v.dtype.np)
        for v in graph.inputs
    ]
    wanted = interpret(graph, [np.array(a) for a in feeds])
    for found, want in zip(compile_graph(graph).run(feeds), wanted, strict=True):
        np.testing.assert_allclose(found, want, rtol=2e-5, atol=1e-6)


@pytest.mark.compiler
def test_vector_norms() -> None:
    orders = [0.0, 1.0, 2.0, 3.0, np.inf, -np.inf]
    shapes: list[tuple[int, ...]] = [(), (0, 3), (5,), (4, 7, 3)]
    graph = Graph("norms")
    xs = [graph.add_input(TensorType(float32, s)) for s in shapes]
    graph.set_outputs([graph.call(VectorNorm(p), (x,)) for x in xs for p in orders])
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    executable = compile_graph(graph)
    assert "interpreted" not in executable.report()
    found = iter(executable.run(arrays))
    for a in arrays:
        for p in orders:
            flat = a.astype(np.float64).reshape(-1)
            want = np.linalg.norm(flat, p) if flat.size else 0.0
            np.testing.assert_allclose(next(found), want, rtol=1e-6, atol=1e-7, err_msg=str(p))
