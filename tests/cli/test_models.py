"""verify, optimize and convert."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from dualgraph.cli.compared import compare_models
from dualgraph.cli.engines import difference, engines
from dualgraph.cli.verify import exposing, first_diverging, verify
from dualgraph_compiler.errors import OnnxError
from dualgraph_compiler.onnx import save_model
from tests.cli.conftest import Invoke, fails_with_one_line
from tests.onnx.helpers import make_model, real_model, run_onnxruntime

node = helper.make_node
REAL = ["mnist.onnx", "ultraface_version-RFB-320.onnx", "magika_v3_3.onnx"]
RNG = np.random.default_rng(0)


def classifier(opset: int = 17) -> onnx.ModelProto:
    """Convolution, batch norm, relu, a matrix product and softmax, sizes by constants."""
    weights = {
        "w": RNG.normal(size=(4, 1, 3, 3)).astype(np.float32),
        "scale": np.ones(4, np.float32),
        "shift": np.zeros(4, np.float32),
        "mean": RNG.normal(size=4).astype(np.float32),
        "var": np.ones(4, np.float32),
        "two": np.array([2], np.int64),
        "rest": np.array([-1], np.int64),
        "dense": RNG.normal(size=(144, 300), scale=0.02).astype(np.float32),
    }
    nodes = [
        node("Conv", ["x", "w"], ["c"], name="conv", doc_string="net.py:7"),
        node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["b"], name="norm"),
        node("Relu", ["b"], ["r"], name="relu"),
        node("Div", ["two", "two"], ["one"], name="sizes"),
        node("Concat", ["one", "rest"], ["shape"], axis=0, name="shape"),
        node("Reshape", ["r", "shape"], ["flat"], name="flat"),
        node("MatMul", ["flat", "dense"], ["m"], name="dense"),
        node("Softmax", ["m"], ["y"], name="softmax"),
    ]
    return make_model(nodes, {"x": [1, 1, 8, 8]}, ["y"], opset=opset, initializers=weights)


FEED = {"x": RNG.normal(size=(1, 1, 8, 8)).astype(np.float32)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_model(classifier(), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


# -- verify ----------------------------------------------------------------------------------------


def test_engines_that_agree(dualgraph: Invoke, path: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **FEED)
    for options in ([], ["--inputs", tmp_path / "x.npz"], ["--seed", 3]):
        result = dualgraph("verify", path, *options)
        assert result.exit_code == 0
        rows = {line.split("  ")[0].strip(): line for line in result.stdout.splitlines()}
        assert set(engines()) <= set(rows)
        for name in list(engines())[1:]:
            assert "agrees" in rows[name]


def test_an_engine_that_cannot_run_a_model_takes_no_part(capsys: Any) -> None:
    def refuse(model: Any, feeds: Any) -> Sequence[Any]:
        raise KeyError("this operator")

    ways = {"interpreter": engines()["interpreter"], "other": refuse}
    assert verify(Console(width=100), classifier(), FEED, ways, 1e-4) == 0
    assert "cannot run it: 'this operator'" in capsys.readouterr().out


@pytest.mark.parametrize("at", range(8))
def test_the_first_node_that_differs_is_found(at: int, capsys: Any) -> None:
    """An engine with one node of its own computes everything before it like the others."""
    model = classifier()
    broken = model.graph.node[at]
    right = engines()["interpreter"]

    def wrong(given: onnx.ModelProto, feeds: Any) -> Sequence[Any]:
        made = onnx.ModelProto()
        made.CopyFrom(given)
        nodes = list(made.graph.node)
        del made.graph.node[:]
        for n in nodes:
            made.graph.node.append(n)
            if list(n.output) == list(broken.output):
                name = n.output[0]
                made.graph.node[-1].output[0] = "before"
                made.graph.node.append(node("Add", ["before", "before"], [name]))
        for o in made.graph.output:
            o.type.tensor_type.ClearField("shape")
        return right(made, feeds)

    found = first_diverging(model, FEED, right, wrong, 1e-4)
    assert found == at
    if broken.name not in ("sizes", "shape"):  # without which the whole cannot run
        ways = {"interpreter": right, "other": wrong}
        assert verify(Console(width=100), model, FEED, ways, 1e-4) == 1
        text = capsys.readouterr().out
        assert f"other first differs at node {broken.name!r} ({broken.op_type})" in text
        assert "of the largest element" in text
        assert ("source    net.py:7" in text) == (at == 0)
        assert "operand   " in text


def test_exposed_values() -> None:
    part = exposing(classifier(), ["b"])
    assert [n.op_type for n in part.graph.node] == ["Conv", "BatchNormalization"]
    (b,) = run_onnxruntime(part, FEED)
    assert b.shape == (1, 4, 6, 6)


def test_differences() -> None:
    one = np.ones(3, np.float32)
    assert difference(one, one) == 0
    assert difference(one * 1.5, one) == 0.5
    assert difference(one, one.astype("d")) == np.inf
    assert difference(one, np.ones(4, np.float32)) == np.inf
    assert difference(one * np.nan, one) == np.inf
    assert difference(one * np.nan, one * np.nan) == 0
    assert difference(one * np.inf, one * np.inf) == 0
    assert difference(np.array(["a"]), np.array(["b"])) == np.inf


def test_bad_options_of_verify(dualgraph: Invoke, path: Path, tmp_path: Path) -> None:
    fails_with_one_line(dualgraph("verify", tmp_path / "no.onnx"), "no.onnx")
    fails_with_one_line(dualgraph("verify", path, "-d", "n=x"), "--dim n")
    result = dualgraph("verify", path, "--inputs", tmp_path / "no.npz")
    fails_with_one_line(result, "no.npz", "no such file")
    (tmp_path / "bad.npz").write_bytes(b"PK nothing")
    fails_with_one_line(dualgraph("verify", path, "--inputs", tmp_path / "bad.npz"), "not an .npz")


# -- optimize --------------------------------------------------------------------------------------


def test_optimized_files_compute_the_same(dualgraph: Invoke, path: Path, tmp_path: Path) -> None:
    to = tmp_path / "small.onnx"
    result = dualgraph("optimize", path, to)
    assert result.exit_code == 0
    rows = {
        line.split()[0]: line.split()[1:] for line in result.stdout.splitlines() if line.split()
    }
    assert rows["BatchNormalization"] == ["1", "0"]
    assert rows["nodes"][0] == "8"
    assert int(rows["nodes"][1]) <= 5
    model = onnx.load(to)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == 17
    assert len(model.graph.node) == int(rows["nodes"][1])
    for got, want in zip(run_onnxruntime(to, FEED), run_onnxruntime(path, FEED), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("command", [["optimize"], ["convert", "--opset", "23"]])
def test_models_that_run_in_steps(command: list[str], dualgraph: Invoke, tmp_path: Path) -> None:
    path, to = tmp_path / "m.onnx", tmp_path / "to.onnx"
    nodes = [
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        helper.make_node("Mul", ["x", "two"], ["m"]),
        helper.make_node("Mul", ["x", "two"], ["again"]),
        helper.make_node("Sub", ["m", "again"], ["s"]),
        helper.make_node("ReduceSum", ["s", "axes"], ["y"], keepdims=0),
    ]
    dtypes = {"axes": onnx.TensorProto.INT64}
    onnx.save(make_model(nodes, {"x": ["n", 3], "axes": [1]}, ["y"], dtypes=dtypes), path)
    result = dualgraph(*command, path, to)
    assert result.exit_code == 0, result.output
    assert "results differ by 0.0e+00" in result.output
    count = {"optimize": 3, "convert": 5}[command[0]]
    assert len(onnx.load(to).graph.node) == count


@pytest.mark.parametrize("name", REAL)
def test_real_models_optimized(name: str, dualgraph: Invoke, tmp_path: Path) -> None:
    source, to = real_model(name), tmp_path / "small.onnx"
    result = dualgraph("optimize", source, to)
    assert result.exit_code == 0, result.stderr
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    feeds = {}
    for arg in session.get_inputs():
        shape = [d if isinstance(d, int) else 2 for d in arg.shape]
        kind = np.float32 if arg.type == "tensor(float)" else np.int32
        feeds[arg.name] = RNG.integers(0, 200, shape).astype(kind)
    small = onnx.load(to)
    assert len(small.graph.node) <= len(onnx.load(source).graph.node)
    for got, want in zip(run_onnxruntime(small, feeds), session.run(None, feeds), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4 * np.abs(want).max())


def test_a_model_that_computes_something_else_is_not_written() -> None:
    other = classifier()
    other.graph.node[2].op_type = "Abs"
    other.graph.output[0].type.tensor_type.shape.dim.add().dim_value = 1
    other.graph.output[0].type.tensor_type.shape.dim.add().dim_param = "n"
    with pytest.raises(OnnxError, match="does not compute the same"):
        compare_models(classifier(), other)


# -- convert ---------------------------------------------------------------------------------------


def test_weights_beside_and_inside(dualgraph: Invoke, path: Path, tmp_path: Path) -> None:
    beside, inside = tmp_path / "beside.onnx", tmp_path / "inside.onnx"
    assert dualgraph("convert", path, beside, "--external").exit_code == 0
    assert (tmp_path / "beside.onnx.data").stat().st_size >= 144 * 300 * 4
    assert beside.stat().st_size < 5000
    assert dualgraph("convert", beside, inside, "--internal").exit_code == 0
    for made in (beside, inside):
        np.testing.assert_array_equal(
            run_onnxruntime(made, FEED)[0], run_onnxruntime(path, FEED)[0]
        )


def test_a_newer_opset(dualgraph: Invoke, path: Path, tmp_path: Path) -> None:
    to = tmp_path / "new.onnx"
    assert dualgraph("convert", path, to, "--opset", 22).exit_code == 0
    assert onnx.load(to).opset_import[0].version == 22
    np.testing.assert_allclose(
        run_onnxruntime(to, FEED)[0], run_onnxruntime(path, FEED)[0], atol=1e-6
    )
    for opset in (11, 999):
        fails_with_one_line(dualgraph("convert", path, to, "--opset", opset), "opset 17")


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision(half: str, dualgraph: Invoke, path: Path, tmp_path: Path) -> None:
    to = tmp_path / "half.onnx"
    result = dualgraph("convert", path, to, f"--{half}", "--keep", "Softmax", "--opset", 22)
    assert result.exit_code == 0, result.stderr
    assert to.stat().st_size < 0.6 * path.stat().st_size
    model = onnx.load(to)
    onnx.checker.check_model(model, full_check=True)
    number = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}[half]
    types = {t.name: t.data_type for t in model.graph.initializer}
    assert types[f"dense/{half}"] == number
    assert types["two"] == TensorProto.INT64
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    casts = [n.output[0] for n in model.graph.node if n.op_type == "Cast"]
    assert "m/float32" in casts, "the softmax stays float32"
    if half == "float16":
        got, want = run_onnxruntime(to, FEED)[0], run_onnxruntime(path, FEED)[0]
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, atol=5e-3)


def test_large_weights_become_the_largest_half(tmp_path: Path, dualgraph: Invoke) -> None:
    model = make_model(
        [node("Min", ["x", "w"], ["y"])],
        {"x": [3]},
        ["y"],
        initializers={"w": np.array([1e30, -1e30, np.inf], np.float32)},
    )
    save_model(model, tmp_path / "m.onnx")
    result = dualgraph(
        "convert", tmp_path / "m.onnx", tmp_path / "h.onnx", "--float16", "--no-check"
    )
    assert result.exit_code == 0
    (w,) = onnx.load(tmp_path / "h.onnx").graph.initializer
    assert numpy_helper.to_array(w).tolist() == [65504, -65504, np.inf]


def test_bad_options_of_convert(dualgraph: Invoke, path: Path, tmp_path: Path) -> None:
    to = tmp_path / "h.onnx"
    fails_with_one_line(dualgraph("convert", path, to, "--keep", "Relu"), "--keep", "--float16")
    fails_with_one_line(
        dualgraph("convert", path, to, "--float16", "--keep", "Nothing"), "no node or operator"
    )
    fails_with_one_line(dualgraph("convert", path, tmp_path / "no" / "h.onnx"), "no folder")
    branch = helper.make_graph(
        [node("Relu", ["x"], ["b"])], "g", [], [helper.make_tensor_value_info("b", 1, None)]
    )
    model = make_model(
        [node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)],
        {"x": [2], "c": []},
        ["y"],
        dtypes={"c": TensorProto.BOOL},
    )
    save_model(model, tmp_path / "if.onnx")
    fails_with_one_line(dualgraph("convert", tmp_path / "if.onnx", to, "--float16"), "control flow")
    assert not to.exists()
