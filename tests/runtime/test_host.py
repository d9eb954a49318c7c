"""Scripts written for ONNX Runtime, and what they expect of a runtime that hosts them."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import dualgraph_runtime as rt
from dualgraph_compiler.onnx import save_model
from tests.onnx.helpers import make_model

node = helper.make_node
WEIGHT = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
CPU = ["CPUExecutionProvider"]


def affine(ir_version: int = 10) -> onnx.ModelProto:
    """y = x @ w + b, where b = [1, 2] may be fed as well; `positive` says where y > 0."""
    model = make_model(
        [
            node("MatMul", ["x", "w"], ["m"]),
            node("Add", ["m", "b"], ["y"]),
            node("Greater", ["y", "zero"], ["positive"]),
        ],
        {"x": ["batch", 3], "b": [2]},
        ["y", "positive"],
        initializers={"w": WEIGHT, "b": np.array([1, 2], np.float32), "zero": np.float32(0)},
        dtypes={"positive": TensorProto.BOOL},
    )
    model.ir_version = ir_version
    model.producer_name, model.model_version = "someone", 3
    return model


X = np.arange(12, dtype=np.float32).reshape(4, 3)

SCRIPT = """
options = ort.SessionOptions()
options.intra_op_num_threads = 2
options.inter_op_num_threads = 1
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
options.log_severity_level = 3
options.enable_mem_pattern = False
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
print(options.get_session_config_entry("session.intra_op.allow_spinning"))
print(options.enable_profiling, options.use_deterministic_compute, options.logid)
session = ort.InferenceSession(path, sess_options=options, providers=ort.get_available_providers())
session.set_providers(["CPUExecutionProvider"])
print(session.get_providers(), session.get_provider_options())
for arg in session.get_inputs() + session.get_outputs() + session.get_overridable_initializers():
    print(arg, arg.name, arg.type, arg.shape)
meta = session.get_modelmeta()
print(meta.producer_name, meta.graph_name, meta.version, meta.custom_metadata_map)
names = [o.name for o in session.get_outputs()]
print(session.run(names, {"x": x})[0])
print(session.run(None, {session.get_inputs()[0].name: x, "b": np.array([-30, 0], "f")}))
run = ort.RunOptions()
run.log_severity_level = 3
run.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
print(run.get_run_config_entry("memory.enable_memory_arena_shrinkage"), run.terminate)
print(session.run(["positive"], {"x": x - 5}, run_options=run))

value = ort.OrtValue.ortvalue_from_numpy(x, "cpu", 0)
print(value.shape(), value.data_type(), value.device_name(), value.is_tensor(), value.has_value())
print(value.element_type(), value.tensor_size_in_bytes(), value.is_tensor_sequence())
print(value.__dlpack_device__(), np.asarray(value).sum())
print([v.numpy() for v in session.run_with_ort_values(["y"], {"x": value})])
empty = ort.OrtValue.ortvalue_from_shape_and_type([2, 3], np.float32, "cpu", 0)
print(empty.shape(), empty.data_type())
half = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(np.zeros(3, np.uint16), 16)
print(half.data_type(), half.shape())
print(ort.OrtDevice.make("cpu", 0).device_type(), ort.OrtDevice.make("cpu", 0).device_id())

binding = session.io_binding()
binding.bind_cpu_input("x", x)
binding.bind_output("y")
session.run_with_iobinding(binding, run)
print(binding.copy_outputs_to_cpu(), [v.shape() for v in binding.get_outputs()])

done = threading.Event()
def callback(results, user_data, error):
    print(results[0].shape, user_data, repr(error))
    done.set()
session.run_async(["y"], {"x": x}, callback, "mine")
done.wait(30)

state = ort.capi.onnxruntime_pybind11_state
for wrong in ({"x": x.astype("d")}, {"x": x[0]}, {"x": x[:, :2]}, {"x": x, "q": x}):
    try:
        session.run(None, wrong)
    except state.InvalidArgument:
        print("invalid argument")
try:
    session.run(None, {})
except ValueError:
    print("missing")
try:
    session.run(["nothing"], {"x": x})
except state.InvalidArgument:
    print("no such output")
run.terminate = True
try:
    session.run(None, {"x": x}, run)
except state.Fail:
    print("stopped")
for source, kind in (("nowhere.onnx", state.NoSuchFile), (data[:-9], state.InvalidProtobuf)):
    try:
        ort.InferenceSession(source, providers=["CPUExecutionProvider"])
    except kind:
        print("refused")
ort.set_default_logger_severity(3)
print(ort.get_device(), "CPUExecutionProvider" in ort.get_all_providers())
"""


def test_one_script_prints_the_same_under_both(tmp_path: Path) -> None:
    save_model(affine(), tmp_path / "m.onnx")

    def printed(package: str) -> str:
        out = io.StringIO()
        names: dict[str, Any] = {
            "ort": importlib.import_module(package),
            "np": np,
            "threading": threading,
            "path": str(tmp_path / "m.onnx"),
            "data": (tmp_path / "m.onnx").read_bytes(),
            "x": X,
        }
        with contextlib.redirect_stdout(out):
            exec(SCRIPT, names)
        return out.getvalue()

    try:
        ours, theirs = printed("dualgraph_runtime"), printed("onnxruntime")
    finally:
        logging.getLogger("dualgraph").setLevel(logging.NOTSET)
    assert ours.splitlines() == theirs.splitlines()
    assert "refused\nrefused\n" in ours


def test_public_names_are_theirs() -> None:
    ours = {n for n in dir(rt.InferenceSession) if not n.startswith("_")}
    assert ours - set(dir(onnxruntime.InferenceSession)) == {"profile", "report", "trim", "wait"}
    for name in ("SessionOptions", "RunOptions"):
        made, other = getattr(rt, name)(), getattr(onnxruntime, name)()
        for field, value in vars(other.__class__).items():
            if isinstance(value, property) and hasattr(made, field):
                expected = getattr(other, field)
                assert getattr(made, field) == getattr(expected, "value", expected), field


# -- initializers ----------------------------------------------------------------------------------


def test_initializers_that_are_inputs_can_be_fed() -> None:
    session = rt.InferenceSession(affine())
    assert [a.name for a in session.get_inputs()] == ["x"]
    b = np.array([10, 20], np.float32)
    for _ in range(2):
        np.testing.assert_allclose(session.run(["y"], {"x": X, "b": b})[0], X @ WEIGHT + b)
        np.testing.assert_allclose(session.run(["y"], {"x": X})[0], X @ WEIGHT + [1, 2])
    with pytest.raises(rt.FeedError, match="input 'b': expected size 2"):
        session.run(None, {"x": X, "b": b[:1]})
    binding = session.io_binding()
    binding.bind_cpu_input("x", X)
    binding.bind_cpu_input("b", b)
    binding.bind_output("y")
    session.run_with_iobinding(binding)
    np.testing.assert_allclose(binding.copy_outputs_to_cpu()[0], X @ WEIGHT + b)


def test_before_ir_4_initializers_cannot_be_fed() -> None:
    session = rt.InferenceSession(affine(ir_version=3))
    assert session.get_overridable_initializers() == []
    with pytest.raises(rt.FeedError, match="unknown input 'b'"):
        session.run(None, {"x": X, "b": np.zeros(2, np.float32)})


@pytest.mark.parametrize("source", ["bytes", "stream"])
def test_initializers_can_be_fed_wherever_the_model_came_from(source: str) -> None:
    data = affine().SerializeToString()
    session = rt.InferenceSession(data if source == "bytes" else io.BytesIO(data))
    (y,) = session.run(["y"], {"x": X, "b": np.zeros(2, np.float32)})
    np.testing.assert_allclose(y, X @ WEIGHT)


def test_initializers_given_in_the_options() -> None:
    options = rt.SessionOptions()
    other = WEIGHT * 2
    options.add_initializer("w", rt.OrtValue.ortvalue_from_numpy(other))
    (y,) = rt.InferenceSession(affine(), options).run(["y"], {"x": X})
    np.testing.assert_allclose(y, X @ other + [1, 2])
    (y,) = rt.InferenceSession(affine()).run(["y"], {"x": X})
    np.testing.assert_allclose(y, X @ WEIGHT + [1, 2])
    for name, array, message in (
        ("v", other, "has no initializer 'v'"),
        ("w", other.T, "initializer 'w' is float32 of shape .3, 2., got float32 of shape .2, 3."),
        ("w", other.astype("d"), "got float64"),
    ):
        options = rt.SessionOptions()
        options.add_external_initializers([name], [rt.OrtValue.ortvalue_from_numpy(array)])
        with pytest.raises(rt.OnnxError, match=message):
            rt.InferenceSession(affine(), options)


# -- feeds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("execution", ["interpreter", "auto"])
def test_all_that_is_wrong_is_said_at_once(execution: Any) -> None:
    model = make_model(
        [node("Sum", ["x", "y", "z"], ["s"])],
        {"x": ["n", 3], "y": ["n", 3], "z": [3]},
        ["s"],
    )
    options = rt.SessionOptions()
    options.execution = execution
    session = rt.InferenceSession(model, options)

    def wrong(**feed: Any) -> str:
        with pytest.raises(rt.FeedError) as caught:
            session.run(None, feed)
        return str(caught.value)

    f = np.float32
    for _ in range(2):
        text = wrong(x=np.zeros((2, 4), f), y=np.zeros(3, f), z=np.zeros(3))
        for part in (
            "input 'x': expected size 3 in dimension 1 of f32[n, 3], got shape [2, 4]",
            "input 'y': expected 2 dimensions f32[n, 3], got shape [3]",
            "input 'z': expected dtype float32, got float64",
        ):
            assert part in text
        text = wrong(x=np.zeros((2, 4), f), q=np.zeros(3), z=[[1], "a"])
        for part in ("missing input 'y' and unknown input 'q'", "dimension 1", "input 'z': expect"):
            assert part in text
        text = wrong(x=np.zeros((2, 3), f), y=np.zeros((5, 3), f), z=np.zeros(3, f))
        assert "input 'y': dimension 0 has size 5" in text
        assert "n is 2 in dimension 0 of 'x'" in text
        session.run(None, {"x": np.zeros((2, 3), f), "y": np.zeros((2, 3), f), "z": np.zeros(3, f)})
        session.wait()


def test_sizes_can_be_fixed_by_denotation() -> None:
    model = affine()
    model.graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    options = rt.SessionOptions()
    options.add_free_dimension_override_by_denotation("DATA_BATCH", 4)
    session = rt.InferenceSession(model.SerializeToString(), options)
    other = onnxruntime.SessionOptions()
    other.add_free_dimension_override_by_denotation("DATA_BATCH", 4)
    expected = onnxruntime.InferenceSession(model.SerializeToString(), other, providers=CPU)
    assert session.get_inputs()[0].shape == expected.get_inputs()[0].shape == [4, 3]
    with pytest.raises(rt.FeedError, match="expected size 4 in dimension 0"):
        session.run(None, {"x": X[:2]})


# -- options ---------------------------------------------------------------------------------------


def test_a_profile_has_the_time_of_every_node(tmp_path: Path) -> None:
    options = rt.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    options.execution = "interpreter"
    session = rt.InferenceSession(affine(), options)
    assert session.get_profiling_start_time_ns() > 10**18
    for _ in range(2):
        (y,) = session.run(["y"], {"x": X})
        np.testing.assert_allclose(y, X @ WEIGHT + [1, 2])
    assert "interpreter" in session.report()
    path = session.end_profiling()
    assert path.startswith(str(tmp_path / "profile_"))
    events = json.loads(Path(path).read_text())
    nodes = [e for e in events if e["cat"] == "Node"]
    assert [e["args"]["op_name"] for e in nodes] == ["matmul", "add", "greater"] * 2
    assert nodes[0]["args"]["input_type_shape"] == [{"float": [4, 3]}, {"float": [3, 2]}]
    assert nodes[2]["args"]["output_type_shape"] == [{"bool": [4, 2]}]
    runs = [e for e in events if e["name"] == "model_run"]
    assert len(runs) == 2
    for e in events:
        assert e["ph"] == "X"
        assert e["dur"] >= 0 <= e["ts"]
    for run in runs:
        inside = [e for e in nodes if run["ts"] <= e["ts"] <= run["ts"] + run["dur"]]
        assert len(inside) == 3
    assert rt.InferenceSession(affine()).end_profiling() == ""
    options.profile_file_prefix = str(tmp_path / "nowhere" / "x")
    with pytest.raises(rt.DualGraphError, match="cannot write"):
        rt.InferenceSession(affine(), options).end_profiling()


def test_a_profile_where_sizes_depend_on_data(tmp_path: Path) -> None:
    infos = [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)]
    once = helper.make_graph([node("Identity", ["x"], ["b"])], "once", [], infos)
    twice = helper.make_graph([node("Concat", ["x", "x"], ["b"], axis=0)], "twice", [], infos)
    model = make_model(
        [
            node("If", ["c"], ["y"], then_branch=once, else_branch=twice),
            node("Shape", ["y"], ["s"]),
            node("Expand", ["one", "s"], ["z"]),
        ],
        {"x": ["n"], "c": []},
        ["y", "s", "z"],
        initializers={"one": np.ones(1, np.float32)},
        dtypes={"c": TensorProto.BOOL, "s": TensorProto.INT64},
    )
    options = rt.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    session = rt.InferenceSession(model, options)
    for n, c in ((3, True), (3, False), (0, True), (1, False)):
        y, shape, z = session.run(None, {"x": np.ones(n, np.float32), "c": np.bool_(c)})
        size = n if c else 2 * n
        assert (y.shape, shape.tolist(), z.tolist()) == ((size,), [size], [1.0] * size)


def test_deterministic_sessions_do_not_change_between_runs() -> None:
    options = rt.SessionOptions()
    options.use_deterministic_compute = True
    session = rt.InferenceSession(affine(), options)
    before = session.report()
    session.wait()
    assert session.report() == before


def test_an_endless_loop_can_be_stopped() -> None:
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [node("Identity", ["c"], ["going"]), node("Neg", ["v"], ["next"])],
        "body",
        [
            info("i", TensorProto.INT64, []),
            info("c", TensorProto.BOOL, []),
            info("v", TensorProto.FLOAT, [2]),
        ],
        [info("going", TensorProto.BOOL, []), info("next", TensorProto.FLOAT, [2])],
    )
    model = make_model(
        [node("Loop", ["", "go", "x"], ["y"], body=body)], {"x": [2], "go": []}, ["y"]
    )
    model.graph.input[1].type.tensor_type.elem_type = TensorProto.BOOL
    options = rt.SessionOptions()
    options.execution = "interpreter"
    session = rt.InferenceSession(model, options)
    x = np.ones(2, np.float32)
    run = rt.RunOptions()
    assert session.run(None, {"x": x, "go": np.bool_(False)}, run)[0].tolist() == [1, 1]
    threading.Timer(0.2, lambda: setattr(run, "terminate", True)).start()
    with pytest.raises(rt.RunStopped, match="the run was stopped"):
        session.run(None, {"x": x, "go": np.bool_(True)}, run)


def test_options_of_a_wrong_kind() -> None:
    options = rt.SessionOptions()
    with pytest.raises(rt.OnnxError, match="compiled for ONNX Runtime"):
        options.register_custom_ops_library("libcustom.so")
    for work, message in (
        (lambda: options.add_session_config_entry("", "x"), "two texts"),
        (lambda: options.add_free_dimension_override_by_name("n", -1), "0 or more, got -1"),
        (lambda: options.get_session_config_entry("a"), "no configuration entry 'a'"),
        (lambda: rt.RunOptions().get_run_config_entry("a"), "no configuration entry 'a'"),
        (lambda: rt.InferenceSession(affine(), {}), "expected SessionOptions, got dict"),
        (lambda: rt.set_default_logger_severity(9), "0 to 4, got 9"),
        (
            lambda: rt.InferenceSession(affine()).run(None, {"x": X}, {}),
            "expected RunOptions or None, got dict",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            work()
    with pytest.raises(AttributeError, match="RunOptions has no option 'teminate'"):
        rt.RunOptions().teminate = True


def test_an_error_in_another_thread_comes_to_the_callback() -> None:
    told: list[Any] = []
    done = threading.Event()

    def callback(results: Any, user_data: Any, wrong: str) -> None:
        told.extend((results, user_data, wrong))
        done.set()

    rt.InferenceSession(affine()).run_async(None, {"x": X[0]}, callback, 5)
    assert done.wait(30)
    assert told[:2] == [[], 5]
    assert "expected 2 dimensions" in told[2]


# -- values ----------------------------------------------------------------------------------------


def test_values_and_dlpack() -> None:
    x = X.copy()
    value = rt.OrtValue.ortvalue_from_numpy(x)
    shared = np.from_dlpack(value)
    assert np.may_share_memory(shared, x)
    again = rt.OrtValue.from_dlpack(x)
    again.update_inplace(x + 1)
    np.testing.assert_array_equal(x, X + 1)
    target = rt.OrtValue.ortvalue_from_shape_and_type([4, 3], TensorProto.FLOAT)
    rt.copy_tensors([value], [target])
    np.testing.assert_array_equal(target.numpy(), x)
    with pytest.raises(ValueError, match="other width"):
        rt.OrtValue.ortvalue_from_numpy_with_onnx_type(x, TensorProto.DOUBLE)
    with pytest.raises(rt.DeviceError, match="no device 'tpu'"):
        rt.OrtDevice.make("tpu", 0)
    (y,) = rt.InferenceSession(affine()).run(["y"], {"x": value})
    np.testing.assert_allclose(y, x @ WEIGHT + [1, 2])


def test_lists_of_tensors_as_values() -> None:
    value = rt.OrtValue([np.zeros(2, np.int64)])
    assert (value.is_tensor(), value.is_tensor_sequence()) == (False, True)
    assert value.data_type() == "seq(tensor(int64))"
    with pytest.raises(rt.FeedError, match="is no array"):
        value.numpy()
    assert not rt.OrtValue(None).has_value()


# -- large models ----------------------------------------------------------------------------------


def test_weights_over_2_gb_are_read_where_they_are_needed(tmp_path: Path) -> None:
    """A table of 2.4 GB in a file that is all holes but one row."""
    rows, width = 600_000_000 // 64, 64
    with (tmp_path / "table.bin").open("wb") as file:
        file.seek((rows - 1) * width * 4)
        file.write(np.arange(width, dtype=np.float32).tobytes())
    model = make_model([node("Gather", ["table", "i"], ["y"])], {"i": ["n"]}, ["y"])
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    table = model.graph.initializer.add()
    table.name, table.data_type, table.data_location = "table", 1, TensorProto.EXTERNAL
    table.dims.extend([rows, width])
    table.external_data.add(key="location", value="table.bin")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    options = rt.SessionOptions()
    options.execution = "interpreter"
    session = rt.InferenceSession(tmp_path / "m.onnx", options)
    (y,) = session.run(None, {"i": np.array([0, rows - 1])})
    np.testing.assert_array_equal(y, [np.zeros(width), np.arange(width)])


def test_draws_follow_from_a_seed() -> None:
    nodes = [
        node("RandomNormal", [], ["a"], shape=[4]),
        node("RandomUniform", [], ["b"], shape=[4]),
        node("Concat", ["a", "b"], ["y"], axis=0),
    ]
    session = rt.InferenceSession(make_model(nodes, {}, ["y"]))

    def draws() -> np.ndarray:
        return np.stack([session.run(None, {})[0] for _ in range(3)])

    rt.set_seed(7)
    first = draws()
    assert len(np.unique(first)) == first.size
    rt.set_seed(7)
    np.testing.assert_array_equal(draws(), first)
    rt.set_seed(8)
    assert not np.isin(draws(), first).any()


def test_debug_information(capsys: pytest.CaptureFixture[str]) -> None:
    rt.preload_dlls()
    rt.print_debug_info()
    assert "CPUExecutionProvider" in capsys.readouterr().out
