"""Models that are no single graph: how they are cut, what they keep."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import onnx
import pytest

import dualgraph_runtime as rt
from dualgraph_compiler.errors import DualGraphError, FeedError, OnnxError
from tests.onnx.helpers import make_model
from tests.onnx.stepwise import (
    INT,
    agrees,
    floats,
    native,
    node,
    session,
)


def shaped() -> onnx.ModelProto:
    return make_model(
        [
            node("Relu", ["x"], ["r"]),
            node("Reshape", ["r", "shape"], ["s"]),
            node("ReduceSum", ["s", "axes"], ["y"], keepdims=0),
        ],
        {"x": ["n", 6], "shape": [2], "axes": [1]},
        ["y"],
        dtypes={"shape": INT, "axes": INT},
    )


@pytest.mark.parametrize("execution", ["interpreter", "native"])
def test_shapes_and_axes_are_fed(execution: Any) -> None:
    model = shaped()
    s = session(model, execution)
    for n, shape, axis in [(2, [3, 4], 0), (2, [4, 3], 1), (4, [-1, 2], 0), (2, [3, 4], -1)]:
        agrees(s, model, {"x": floats(n, 6), "shape": np.array(shape), "axes": np.array([axis])})
    assert "made for the contents of axes, shape" in s.report()


def test_one_graph_serves_all_sizes() -> None:
    model = shaped()
    s = session(model)
    for n in range(2, 20, 2):
        feeds = {"x": floats(n, 6), "shape": np.array([-1, 3]), "axes": np.array([1])}
        agrees(s, model, feeds)
    assert len(s._steps._graphs) == 1


def test_graphs_that_are_kept_are_bounded() -> None:
    model = shaped()
    s = session(model)
    for n in range(1, 80):
        feeds = {"x": floats(n, 6), "shape": np.array([6, n]), "axes": np.array([0])}
        assert s.run(None, feeds)[0].shape == (n,)
    assert len(s._steps._graphs) == 65


def test_every_step_keeps_a_graph() -> None:
    """Slices by what is computed of the slice before, one after the other."""
    nodes, x = [], "x"
    for i in range(70):
        nodes += [
            node("ReduceMax", [x], [f"top{i}"]),
            node("Cast", [f"top{i}"], [f"end{i}"], to=INT),
            node("Mul", [x, "w"], [f"x{i}"]),
            node("Slice", [f"x{i}", "start", f"end{i}"], [f"s{i}"]),
        ]
        x = f"s{i}"
    weights = {"start": np.array([0]), "w": np.ones(1, np.float32)}
    model = make_model(nodes, {"x": ["n"]}, [x], initializers=weights)
    s = session(model)
    graphs = s._steps._graphs
    for n in (40, 41):
        (y,) = s.run(None, {"x": np.full(n, 30, np.float32)})
        np.testing.assert_array_equal(y, np.full(30, 30, np.float32))
    made = list(graphs.values())
    assert len(made) == 71
    s.run(None, {"x": np.full(42, 30, np.float32)})
    assert list(graphs.values()) == made


@pytest.mark.parametrize("execution", ["interpreter", "native"])
def test_sizes_that_differ_often_become_symbols(execution: Any) -> None:
    """After some graphs for one shape each, one serves all shapes."""
    model = make_model(
        [
            node("Expand", ["x", "shape"], ["e"]),
            node("Add", ["e", "one"], ["p"]),
            node("TopK", ["p", "k"], ["y", "at"]),
        ],
        {"x": ["n"], "shape": [2], "k": [1]},
        ["y", "at"],
        dtypes={"shape": INT, "k": INT, "at": INT},
        initializers={"one": np.ones(1, np.float32)},
    )
    s = session(model, execution)
    graphs = s._steps._graphs
    for n in range(3, 9):
        feeds = {"x": floats(n), "shape": np.array([n + 2, n]), "k": np.array([n - 1])}
        agrees(s, model, feeds)
    before = len(graphs)
    for n in range(9, 20):
        feeds = {"x": floats(n), "shape": np.array([2 * n, 1]), "k": np.array([n - 2])}
        agrees(s, model, feeds)
    assert len(graphs) <= before + 2
    assert "sizes from k, shape" in s.report()


def test_a_shape_computed_from_data() -> None:
    """The backbone and what reads the computed shape are graphs of their own."""
    model = make_model(
        [
            node("MatMul", ["x", "w"], ["h"]),
            node("Relu", ["h"], ["r"]),
            node("ReduceMax", ["r"], ["top"], keepdims=0),
            node("Cast", ["top"], ["count"], to=INT),
            node("Unsqueeze", ["count", "zero"], ["k"]),
            node("TopK", ["flat", "k"], ["best", "at"]),
            node("Reshape", ["r", "all"], ["flat"]),
            node("Gather", ["flat", "at"], ["again"]),
            node("Sub", ["again", "best"], ["difference"]),
        ],
        {"x": ["n", 4]},
        ["best", "difference"],
        initializers={
            "w": np.full((4, 3), 0.5, np.float32),
            "zero": np.array([0]),
            "all": np.array([-1]),
        },
    )
    order = [0, 1, 2, 3, 4, 6, 5, 7, 8]
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes[i] for i in order)
    s = session(model)
    for n, scale in [(3, 1), (3, 2), (5, 2)]:
        agrees(s, model, {"x": np.full((n, 4), scale, np.float32)})
    first, second = s._steps._plan.steps
    assert len(first.nodes) == 6
    assert len(second.nodes) == 3


def test_a_detector() -> None:
    """Boxes and scores, NonMaxSuppression, then what it selects, shaped by computed sizes."""
    model = make_model(
        [
            node("Conv", ["image", "w"], ["map"], pads=[1, 1, 1, 1]),
            node("Sigmoid", ["map"], ["heat"]),
            node("Shape", ["image"], ["shape"]),
            node("Gather", ["shape", "zero"], ["batch"]),
            node("Concat", ["batch", "rows"], ["flat"], axis=0),
            node("Reshape", ["heat", "flat"], ["cells"]),
            node("Transpose", ["cells"], ["by_cell"], perm=[0, 2, 1]),
            node("Split", ["by_cell", "parts"], ["boxes", "score"], axis=2),
            node("Transpose", ["score"], ["scores"], perm=[0, 2, 1]),
            node("NonMaxSuppression", ["boxes", "scores", "most", "iou", "least"], ["selected"]),
            node("Shape", ["selected"], ["found"]),
            node("Gather", ["found", "zero"], ["count"]),
            node("Gather", ["selected", "two"], ["at"], axis=1),
            node("Gather", ["boxes", "first"], ["all"], axis=0),
            node("Gather", ["all", "at"], ["best"], axis=0),
            node("Concat", ["count", "four"], ["wanted"], axis=0),
            node("Reshape", ["best", "wanted"], ["y"]),
        ],
        {"image": ["n", 3, "h", "w_"]},
        ["selected", "y"],
        dtypes={"selected": INT},
        initializers={
            "w": np.random.default_rng(1).standard_normal((5, 3, 3, 3)).astype(np.float32),
            "zero": np.array([0]),
            "first": np.array(0),
            "two": np.array(2),
            "four": np.array([4]),
            "rows": np.array([5, -1]),
            "parts": np.array([4, 1]),
            "most": np.array([20]),
            "iou": np.array([0.5], np.float32),
            "least": np.array([0.6], np.float32),
        },
    )
    for s in (rt.InferenceSession(model), rt.InferenceSession(model, native())):
        for n, h, w in [(1, 6, 5), (1, 8, 8), (1, 3, 3), (1, 6, 5)]:
            agrees(s, model, {"image": floats(n, 3, h, w)})


def test_a_scale_that_depends_on_data() -> None:
    model = make_model(
        [
            node("ReduceMax", ["x"], ["top"], keepdims=0),
            node("Unsqueeze", ["top", "zero"], ["one"]),
            node("Concat", ["ones", "one", "one"], ["scales"], axis=0),
            node("Resize", ["x", "", "scales"], ["y"], mode="nearest"),
        ],
        {"x": [1, 1, "h", "w"]},
        ["y"],
        initializers={"zero": np.array([0]), "ones": np.ones(2, np.float32)},
    )
    s = session(model)
    for factor, h in [(2, 3), (3, 3), (2, 4)]:
        agrees(s, model, {"x": np.full((1, 1, h, 2), factor, np.float32)})


def test_an_input_of_unknown_rank() -> None:
    model = make_model([node("Relu", ["x"], ["r"]), node("Neg", ["r"], ["y"])], {"x": [1]}, ["y"])
    model.graph.input[0].type.tensor_type.ClearField("shape")
    s = session(model)
    for shape in [(), (3,), (2, 3), (0, 2), (2, 3, 4)]:
        agrees(s, model, {"x": floats(*shape)})
    with pytest.raises(FeedError, match="'x': expected dtype float32, got float64"):
        s.run(None, {"x": np.zeros(3)})


def test_sizes_that_must_be_numbers() -> None:
    """Resizing takes numbers; they come with the arrays."""
    model = make_model(
        [node("Resize", ["x", "", "scales"], ["y"], mode="linear")],
        {"x": [1, 2, "h", "w"]},
        ["y"],
        initializers={"scales": np.array([1, 1, 2, 2], np.float32)},
    )
    s = session(model)
    for h, w in [(3, 4), (5, 2), (3, 4)]:
        agrees(s, model, {"x": floats(1, 2, h, w)})


def test_errors_name_the_node() -> None:
    s = session(shaped())
    feeds = {"x": floats(2, 6), "shape": np.array([5, 5]), "axes": np.array([0])}
    with pytest.raises(OnnxError, match=r"node 's' \(Reshape\): .*\[5, 5\]"):
        s.run(None, feeds)
    with pytest.raises(FeedError, match="missing input 'axes'"):
        s.run(None, {"x": feeds["x"], "shape": feeds["shape"]})
    with pytest.raises(FeedError, match="'x': expected size 6 in dimension 1"):
        s.run(None, feeds | {"x": floats(2, 5)})


def test_malformed_models_are_refused_on_loading() -> None:
    model = shaped()
    model.graph.node.append(node("NoSuchThing", ["y"], ["z"]))
    with pytest.raises(OnnxError, match="operators that are not supported: NoSuchThing"):
        rt.InferenceSession(model)


def test_a_fed_shape_beyond_all_memory() -> None:
    model = make_model(
        [node("Expand", ["x", "shape"], ["e"]), node("Exp", ["e"], ["y"])],
        {"x": [1], "shape": [2]},
        ["y"],
        dtypes={"shape": INT},
    )
    s = session(model)
    for sizes in ([1 << 30, 1 << 20], [1 << 30, 1 << 21], [4, 1 << 40]):
        for _ in range(3):
            with pytest.raises(DualGraphError, match="bytes"):
                s.run(None, {"x": np.ones(1, np.float32), "shape": np.array(sizes)})
    agrees(s, model, {"x": np.ones(1, np.float32), "shape": np.array([2, 3])})


def test_a_cycle_is_refused() -> None:
    nodes = [node("SequenceAt", ["s", "b"], ["a"]), node("Size", ["a"], ["b"])]
    model = make_model(nodes, {"x": [1]}, ["b"])
    model.graph.node.insert(0, node("SequenceConstruct", ["x"], ["s"]))
    with pytest.raises(OnnxError, match="'b' is read but nothing before defines it"):
        rt.InferenceSession(model)


def test_runs_from_several_threads() -> None:
    model = shaped()
    s = session(model)
    wrong: list[Any] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(20):
            n, axis = int(rng.integers(1, 5)) * 2, int(rng.integers(0, 2))
            x = rng.standard_normal((n, 6)).astype(np.float32)
            (y,) = s.run(None, {"x": x, "shape": np.array([-1, 4]), "axes": np.array([axis])})
            if not np.allclose(y, np.maximum(x, 0).reshape(-1, 4).sum(axis), atol=1e-5):
                wrong.append((n, axis))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
