"""InferenceSession, side by side with ONNX Runtime's."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import dualgraph_runtime as rt
from dualgraph_compiler.graph import parse_graph
from dualgraph_compiler.onnx import export_graph, save_model
from tests.conftest import cuda_is_available
from tests.onnx.helpers import make_model, real_model

node = helper.make_node
WEIGHT = np.array([[1, 2], [3, 4], [5, 6]], np.float32)


def classifier() -> onnx.ModelProto:
    """scores = x @ w + b and its sign, for any batch."""
    model = make_model(
        [
            node("MatMul", ["x", "w"], ["m"]),
            node("Add", ["m", "b"], ["scores"]),
            node("Greater", ["scores", "zero"], ["positive"]),
        ],
        {"x": ["batch", 3], "b": [1, 2]},
        ["scores", "positive"],
        initializers={"w": WEIGHT, "zero": np.float32(0)},
        dtypes={"positive": TensorProto.BOOL},
    )
    model.producer_name, model.domain, model.doc_string = "someone", "org.example", "A model."
    model.model_version = 3
    model.graph.doc_string = "Its graph."
    helper.set_model_props(model, {"author": "x"})
    return model


FEED = {"x": np.ones((4, 3), np.float32), "b": np.array([[-9, -13]], np.float32)}


@pytest.fixture
def session() -> rt.InferenceSession:
    return rt.InferenceSession(classifier())


def theirs(model: onnx.ModelProto) -> Any:
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


# -- the same API --------------------------------------------------------------------------------


def test_same_results(session: rt.InferenceSession) -> None:
    for got, expected in zip(
        session.run(None, FEED), theirs(classifier()).run(None, FEED), strict=True
    ):
        assert type(got) is np.ndarray
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_same_inputs_and_outputs(session: rt.InferenceSession) -> None:
    other = theirs(classifier())
    for ours, expected in zip(
        [*session.get_inputs(), *session.get_outputs()],
        [*other.get_inputs(), *other.get_outputs()],
        strict=True,
    ):
        assert (ours.name, ours.type, ours.shape) == (expected.name, expected.type, expected.shape)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "uint8", "int64", "bool"])
def test_same_type_names(dtype: str) -> None:
    number = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    model = make_model(
        [node("Identity", ["x"], ["y"])], {"x": [None, 2]}, ["y"], dtypes={"x": number, "y": number}
    )
    (ours,), (expected,) = rt.InferenceSession(model).get_inputs(), theirs(model).get_inputs()
    assert (ours.type, ours.shape) == (expected.type, expected.shape)


def test_same_metadata(session: rt.InferenceSession) -> None:
    ours, expected = session.get_modelmeta(), theirs(classifier()).get_modelmeta()
    for name in (
        "producer_name",
        "graph_name",
        "domain",
        "description",
        "graph_description",
        "version",
        "custom_metadata_map",
    ):
        assert getattr(ours, name) == getattr(expected, name), name


def test_choosing_outputs(session: rt.InferenceSession) -> None:
    (positive,) = session.run(["positive"], FEED)
    assert positive.dtype == bool
    again, scores = session.run(["positive", "scores"], FEED)
    np.testing.assert_array_equal(again, positive)
    np.testing.assert_array_equal(scores > 0, positive)
    assert len(session.run([], FEED)) == 2


def test_other_names() -> None:
    assert set(rt.get_all_providers()) <= set(onnxruntime.get_all_providers())
    for name in ("get_available_providers", "get_device", "SessionOptions", "InferenceSession"):
        assert hasattr(onnxruntime, name)
        assert hasattr(rt, name)
    for level in rt.GraphOptimizationLevel:
        assert hasattr(onnxruntime.GraphOptimizationLevel, level.name)


# -- sources -------------------------------------------------------------------------------------


def test_every_kind_of_source(tmp_path: Path) -> None:
    model = classifier()
    save_model(model, tmp_path / "m.onnx", external_data=True)
    data = model.SerializeToString()
    expected = rt.InferenceSession(model).run(None, FEED)
    for source in (tmp_path / "m.onnx", str(tmp_path / "m.onnx"), data, io.BytesIO(data)):
        for got, wanted in zip(rt.InferenceSession(source).run(None, FEED), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(rt.OnnxError, match="bad.onnx is not an ONNX model"):
        rt.InferenceSession(tmp_path / "bad.onnx")


# -- feeds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": None}, "missing input 'x'; the inputs are 'x', 'b'"),
        ({"y": np.zeros(1)}, "unknown input 'y'; the inputs are 'x', 'b'"),
        ({"x": None, "X": np.zeros(1)}, "missing input 'x' and unknown input 'X'"),
        ({"x": np.ones((4, 3))}, "input 'x': expected dtype float32, got float64"),
        ({"x": np.array([["a"]])}, "input 'x': expected dtype float32, got <U1"),
        ({"x": np.ones(3, np.float32)}, "input 'x': expected 2 dimensions"),
        ({"x": np.ones((4, 5), np.float32)}, "input 'x': expected size 3 in dimension 1"),
        ({"x": [[1, 2], [3]]}, "input 'x': expected an array"),
        ({"x": [[1j, 2, 3]]}, "input 'x': expected dtype float32, got complex128"),
        ({"b": np.ones((1, 3), np.float32)}, "input 'b': expected size 2 in dimension 1"),
    ],
)
def test_feeds_that_do_not_fit(
    session: rt.InferenceSession, change: dict[str, Any], message: str
) -> None:
    feed = {k: v for k, v in {**FEED, **change}.items() if v is not None}
    with pytest.raises(rt.FeedError, match=message) as caught:
        session.run(None, feed)
    assert isinstance(caught.value, ValueError)


def test_sizes_of_one_name_must_agree() -> None:
    model = make_model([node("Add", ["x", "y"], ["z"])], {"x": ["n"], "y": ["n"]}, ["z"])
    session = rt.InferenceSession(model)
    with pytest.raises(rt.FeedError, match="input 'y'"):
        session.run(None, {"x": np.zeros(2, np.float32), "y": np.zeros(3, np.float32)})


def test_unknown_outputs_and_feeds_that_are_no_dict(session: rt.InferenceSession) -> None:
    with pytest.raises(rt.FeedError, match="no output 'score'; the outputs are 'scores', 'pos"):
        session.run(["score"], FEED)
    with pytest.raises(rt.FeedError, match="expected a dict of inputs by name, got list"):
        session.run(None, [FEED["x"]])


def test_lists_and_numbers_are_converted() -> None:
    model = make_model([node("Add", ["x", "y"], ["z"])], {"x": [2], "y": []}, ["z"])
    (z,) = rt.InferenceSession(model).run(None, {"x": [1, 2.5], "y": 1})
    assert z.dtype == np.float32
    np.testing.assert_array_equal(z, [2, 3.5])


def test_arrays_of_any_layout(session: rt.InferenceSession) -> None:
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    expected = session.run(None, {**FEED, "x": x})
    for same in (np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], x.astype(">f4")):
        for got, wanted in zip(session.run(None, {**FEED, "x": same}), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_empty_and_single_batches(session: rt.InferenceSession) -> None:
    for n in (0, 1, 5):
        scores, _ = session.run(None, {**FEED, "x": np.ones((n, 3), np.float32)})
        assert scores.shape == (n, 2)


# -- results belong to the caller ----------------------------------------------------------------


def test_changing_a_result_changes_nothing_else() -> None:
    model = make_model(
        [
            node("Identity", ["x"], ["y"]),
            node("Identity", ["w"], ["z"]),
            node("Transpose", ["w"], ["t"]),
        ],
        {"x": [2]},
        ["y", "z", "t"],
        initializers={"w": WEIGHT},
    )
    session = rt.InferenceSession(model)
    x = np.ones(2, np.float32)
    for result in session.run(None, {"x": x}):
        assert result.flags.c_contiguous
        result[...] = -1
    assert x.tolist() == [1, 1]
    np.testing.assert_array_equal(session.run(["z"], {"x": x})[0], WEIGHT)
    np.testing.assert_array_equal(session.run(["t"], {"x": x})[0], WEIGHT.T)


def test_threads(session: rt.InferenceSession) -> None:
    def one(n: int) -> bool:
        x = np.full((n % 5 + 1, 3), n, np.float32)
        scores, _ = session.run(None, {**FEED, "x": x})
        return bool(np.array_equal(scores, x @ WEIGHT + FEED["b"]))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(200)))


# -- options and providers -----------------------------------------------------------------------


@pytest.mark.parametrize("level", list(rt.GraphOptimizationLevel))
def test_every_optimisation_level_gives_the_same(level: rt.GraphOptimizationLevel) -> None:
    path = real_model("mnist.onnx")
    options = rt.SessionOptions()
    options.graph_optimization_level = level
    x = np.random.default_rng(0).random((1, 1, 28, 28), np.float32)
    session = rt.InferenceSession(path, options)
    assert session.get_session_options() is options
    (expected,) = onnxruntime.InferenceSession(str(path)).run(None, {"Input3": x})
    np.testing.assert_allclose(session.run(None, {"Input3": x})[0], expected, rtol=1e-4, atol=1e-4)


def test_the_optimised_model_can_be_kept(tmp_path: Path) -> None:
    options = rt.SessionOptions()
    options.optimized_model_filepath = tmp_path / "optimised.onnx"
    expected = rt.InferenceSession(classifier(), options).run(None, FEED)
    onnx.checker.check_model(str(tmp_path / "optimised.onnx"), full_check=True)
    again = rt.InferenceSession(tmp_path / "optimised.onnx").run(None, FEED)
    np.testing.assert_array_equal(again[0], expected[0])


def test_free_dimensions_can_be_fixed() -> None:
    options = rt.SessionOptions()
    options.add_free_dimension_override_by_name("batch", 4)
    session = rt.InferenceSession(classifier(), options)
    assert session.get_inputs()[0].shape == [4, 3]
    session.run(None, FEED)
    with pytest.raises(rt.FeedError, match="expected size 4 in dimension 0"):
        session.run(None, {**FEED, "x": np.ones((5, 3), np.float32)})


def test_options_that_exist_and_not() -> None:
    options = rt.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    with pytest.raises(AttributeError, match="no option 'graph_level'; there are"):
        options.graph_level = 1
    with pytest.raises(ValueError, match="7 is not a valid GraphOptimizationLevel"):
        options.graph_optimization_level = 7


CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.mark.parametrize("providers", [None, [], [CPU], [(CPU, {})], (CPU,)])
def test_providers(providers: Any) -> None:
    session = rt.InferenceSession(classifier(), providers=providers)
    assert session.get_providers() == [CPU]
    assert len(session.run(None, FEED)) == 2


@pytest.mark.skipif(cuda_is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    "providers", [[CUDA], [CUDA, CPU], [CPU, CUDA], [(CUDA, {"device_id": 0}), CPU]]
)
def test_an_absent_gpu_is_an_error_whatever_else_is_listed(providers: Any) -> None:
    with pytest.raises(rt.DeviceError, match="cuda:0 was asked for, but"):
        rt.InferenceSession(classifier(), providers=providers)


def test_providers_that_make_no_sense() -> None:
    with pytest.raises(rt.DeviceError, match="unknown execution provider 'TPU'; there are CUDA"):
        rt.InferenceSession(classifier(), providers=["TPU"])
    with pytest.raises(rt.DeviceError, match="must be a list"):
        rt.InferenceSession(classifier(), providers=CPU)
    with pytest.raises(rt.DeviceError, match="1 providers, but options for 2"):
        rt.InferenceSession(classifier(), providers=[CPU], provider_options=[{}, {}])


@pytest.mark.cuda
def test_on_a_gpu() -> None:
    session = rt.InferenceSession(classifier(), providers=[(CUDA, {"device_id": 0})])
    assert session.get_providers() == [CUDA]
    expected = rt.InferenceSession(classifier()).run(None, FEED)
    for got, wanted in zip(session.run(None, FEED), expected, strict=True):
        assert type(got) is np.ndarray
        np.testing.assert_allclose(got, wanted, rtol=1e-5)


# -- real models ---------------------------------------------------------------------------------


@pytest.mark.cuda
@pytest.mark.parametrize("provider", [CUDA])
@pytest.mark.parametrize(
    "name", ["mnist.onnx", "ultraface_version-RFB-320.onnx", "magika_v3_3.onnx"]
)
def test_real_models_on_a_gpu(name: str, provider: str) -> None:
    compare_on(real_model(name), provider)


@pytest.mark.parametrize(
    "name", ["mnist.onnx", "ultraface_version-RFB-320.onnx", "magika_v3_3.onnx"]
)
def test_real_models(name: str) -> None:
    compare_on(real_model(name), CPU)


def compare_on(path: Path, provider: str) -> None:
    rng = np.random.default_rng(0)
    session = rt.InferenceSession(path, providers=[provider])
    other = onnxruntime.InferenceSession(str(path), providers=[CPU])
    feed = {}
    for arg, expected in zip(session.get_inputs(), other.get_inputs(), strict=True):
        assert (arg.name, arg.type, arg.shape) == (expected.name, expected.type, expected.shape)
        shape = [d if isinstance(d, int) else 3 for d in arg.shape]
        if arg.type == "tensor(float)":
            feed[arg.name] = rng.standard_normal(shape, np.float32)
        else:
            feed[arg.name] = rng.integers(0, 257, shape).astype(np.int32)
    for got, wanted in zip(session.run(None, feed), other.run(None, feed), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


# -- compiled sessions -----------------------------------------------------------------------------


def test_a_compiled_session_gives_the_same_results(monkeypatch: pytest.MonkeyPatch) -> None:
    from dualgraph_runtime.native import find_compiler

    if find_compiler() is None:
        pytest.skip("needs a C compiler")
    graph = parse_graph("""
graph g(%x: f32[n, 8]):
  %1: f32[n, 8] = softmax(%x, axis=1)
  %2: f32[n, 8] = cumsum(%1, axis=1, exclusive=False, reverse=False)
  return %2 as y
""")
    model = export_graph(graph)
    x = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    (want,) = rt.InferenceSession(model).run(None, {"x": x})
    options = rt.SessionOptions()
    options.execution = "native"
    session = rt.InferenceSession(model, options)
    assert session.wait()
    np.testing.assert_allclose(session.run(None, {"x": x})[0], want, rtol=1e-5)
    monkeypatch.setenv("DUALGRAPH_EXECUTION", "native")
    assert rt.SessionOptions().execution == "native"
    options.graph_optimization_level = rt.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert not rt.InferenceSession(model, options).wait()
    with pytest.raises(ValueError, match="execution must be one of"):
        options.execution = "fast"
