"""Where the time of runs goes: by kernel, by node, as a table, and as a file for trace viewers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import dualgraph_runtime as rt
from dualgraph_compiler.native import build
from dualgraph_compiler.native.units import split
from dualgraph_compiler.onnx import import_model, load_model
from dualgraph_runtime.profile import Part, Tally

WEIGHT = np.arange(24, dtype=np.float32).reshape(4, 6)


def model(*, interpreted: bool = False) -> onnx.ModelProto:
    """y = softmax(relu(x w)); with `interpreted`, of the sorted distinct elements of x, too."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Relu", ["p"], ["r"]),
        helper.make_node("Softmax", ["r"], ["y"], axis=-1),
    ]
    names = ["y"]
    if interpreted:
        nodes.append(helper.make_node("Unique", ["x"], ["u"]))
        nodes.append(helper.make_node("Exp", ["u"], ["e"]))
        names.append("e")
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names],
        [onnx.numpy_helper.from_array(WEIGHT, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def x(n: int) -> np.ndarray[Any, Any]:
    return np.linspace(-1, 1, 4 * n, dtype=np.float32).reshape(n, 4)


def options(tmp_path: Path, execution: Any) -> rt.SessionOptions:
    made = rt.SessionOptions()
    made.enable_profiling = True
    made.profile_file_prefix = str(tmp_path / "profile")
    made.execution = execution
    return made


@pytest.mark.compiler
def test_kernels_are_timed_as_reports_name_them(tmp_path: Path) -> None:
    onnx.save(model(), tmp_path / "m.onnx")
    native = rt.SessionOptions()
    native.execution = "native"
    session = rt.InferenceSession(tmp_path / "m.onnx", native)
    (expected,) = session.run(None, {"x": x(5)})
    profile = session.profile({"x": x(5)}, runs=7)
    assert profile.runs == 7
    report = session.report()
    assert "us each" not in report  # which is of kernels that are not timed
    assert all(p.part.nodes in report for p in profile.parts)
    assert {p.calls for p in profile.parts} == {7}
    assert not any(p.part.interpreted for p in profile.parts)
    inside = sum(p.seconds for p in profile.parts)
    assert 0 < inside <= profile.seconds
    for p in profile.parts:
        assert p.best * p.calls <= p.seconds * (1 + 1e-9)
        assert p.best <= p.median
    (product,) = [p for p in profile.parts if "matmul" in p.part.ops]
    assert product.flops is not None
    assert product.flops >= 7 * (2 * 5 * 4 * 6 + 5 * 6)  # and at least the Relu's
    # x, the weight (packed, so maybe padded) and the result are counted
    assert product.bytes is not None
    assert product.bytes >= 7 * 4 * (5 * 4 + 4 * 6 + 5 * 6)
    text = str(profile)
    assert text.startswith("7 runs, ")
    assert "GFLOP/s" in text
    assert all(p.part.nodes in text for p in profile.parts)
    (again,) = session.run(None, {"x": x(5)})
    np.testing.assert_allclose(again, expected, rtol=1e-5)


@pytest.mark.compiler
def test_sizes_of_each_run_count(tmp_path: Path) -> None:
    session = rt.InferenceSession(model(), options(tmp_path, "native"))
    few = session.profile({"x": x(3)}, runs=2)
    many = session.profile({"x": x(30)}, runs=2)
    for a, b in zip(few.parts, many.parts, strict=True):
        assert a.flops is not None
        assert b.flops is not None
        assert b.flops == 10 * a.flops


@pytest.mark.compiler
def test_nodes_between_kernels_are_timed_as_well(tmp_path: Path) -> None:
    session = rt.InferenceSession(model(interpreted=True), options(tmp_path, "native"))
    y, e = session.run(None, {"x": x(3)})
    np.testing.assert_allclose(e, np.exp(np.unique(x(3))), rtol=1e-6)
    assert y.shape == (3, 6)
    profile = session.profile({"x": x(3)}, runs=3)
    (unique,) = [p for p in profile.parts if p.part.interpreted]
    assert "unique" in unique.part.ops[0]
    assert unique.calls == 3
    assert unique.seconds > 0
    assert "(interpreted)" in str(profile)


@pytest.mark.compiler
def test_a_trace_has_the_kernels_of_every_run(tmp_path: Path) -> None:
    session = rt.InferenceSession(model(), options(tmp_path, "auto"))
    for _ in range(3):
        session.run(None, {"x": x(2)})
    events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [e for e in events if e["cat"] == "Node"]
    runs = [e for e in events if e["name"] == "model_run"]
    assert len(runs) == 3
    assert nodes
    assert len(nodes) % 3 == 0
    report = session.report()
    assert all(n["args"]["nodes"] in report for n in nodes)
    for run in runs:
        inside = [e for e in nodes if run["ts"] <= e["ts"] <= run["ts"] + run["dur"]]
        assert len(inside) == len(nodes) // 3


def test_only_timed_texts_look_at_the_clock() -> None:
    graph = import_model(load_model(model().SerializeToString()))
    plain, timed = build(graph), build(graph, timed=True)
    assert "kernel_times" not in plain.text
    assert not plain.work
    assert len(timed.work) == len(timed.kernels) == timed.text.count("= now();") // 2
    assert build(graph, timed=True).text == timed.text
    first, *others = split(timed.text, 2)
    assert others
    assert "i64 kernel_times[" in first
    assert not any("kernel_times" in text for text in others)


def test_the_interpreter_is_timed_by_node(tmp_path: Path) -> None:
    session = rt.InferenceSession(model(), options(tmp_path, "interpreter"))
    profile = session.profile({"x": x(2)}, runs=4)
    assert [p.part.ops for p in profile.parts] == [("matmul",), ("relu",), ("softmax",)]
    assert all(p.part.interpreted and p.calls == 4 for p in profile.parts)


def test_what_cannot_be_profiled() -> None:
    session = rt.InferenceSession(model().SerializeToString())
    with pytest.raises(rt.DualGraphError, match="enable_profiling"):
        session.profile({"x": x(2)})


def test_a_tally_of_parts() -> None:
    tally = Tally([Part("%1 = add(%a, %b)", ("add",)), Part("%2 = sort(%1)", ("sort",), True)])
    assert str(tally.profile()) == "no runs were timed"
    tally.note(4_000, [(0, 1_000), (1_000, 3_000)], [(500, 2_000), (None, None)])
    tally.note(6_000, [(0, 3_000), (3_000, 5_000)], [(500, 2_000), (None, None)])
    profile = tally.profile()
    first, second = profile.parts
    assert (first.calls, first.seconds, first.best) == (2, pytest.approx(4e-6), 1e-6)
    assert first.gflops == pytest.approx(0.25)
    assert first.gbytes == pytest.approx(1.0)
    assert second.gflops is None
    lines = str(profile).splitlines()
    assert lines[0] == "2 runs, 5.0 us each"
    assert lines[2].split()[:2] == ["2.0", "40.0%"]
    assert lines[-1].split()[:2] == ["1.0", "20.0%"]
    assert lines[-1].endswith("calls and results")
    tally.clear()
    assert not tally.profile().parts
