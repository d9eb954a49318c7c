"""Elements of less than a byte and 8-bit floats: in files, in casts, in sessions."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import dualgraph as dg
import dualgraph_runtime as rt
from dualgraph_compiler.dtypes import NARROW, DType, float8_e8m0fnu, float32
from dualgraph_compiler.errors import DTypeError, OnnxError
from dualgraph_compiler.graph import Graph, interpret
from dualgraph_compiler.onnx import export_graph, import_model, save_model
from dualgraph_compiler.ops.convert import FLOAT8, Cast, Float8Cast
from dualgraph_compiler.ops.pointwise import Add
from dualgraph_compiler.types import TensorType

each_dtype = pytest.mark.parametrize("dtype", NARROW, ids=str)


def every_element(dtype: DType) -> np.ndarray:
    """All codes of a type but those that are NaN, whose bits files need not keep."""
    codes = np.arange(2**dtype.bits, dtype=np.uint8)
    if dtype.name in ("int2", "int4"):
        return (codes.astype(np.int8) - 2 ** (dtype.bits - 1)).astype(dtype.np)
    found = codes.view(dtype.np)
    return found if dtype.category == dg.int8.category else found[np.isfinite(found.astype(float))]


def casting(dtype: DType, count: int, *, keep: bool = False) -> Graph:
    """A graph of a constant, itself if `keep`, and its numbers as float32."""
    graph = Graph("g")
    x = graph.add_input(TensorType(dtype, (count,)), "x")
    every = graph.constant(every_element(dtype), "every")
    outputs = [Cast(float32)(every), Cast(float32)(x)]
    graph.set_outputs([*outputs, every] if keep else outputs)
    return graph


@each_dtype
@pytest.mark.parametrize("external", [False, True])
def test_written_and_read(dtype: DType, external: bool, tmp_path) -> None:
    """Packed in files, also in those beside the model; fed to sessions and returned by them."""
    x = every_element(dtype)[:3]
    moves = dtype.bits != 6  # of which no operator but Cast takes any
    model = export_graph(casting(dtype, 3, keep=moves), opset=28)
    onnx.checker.check_model(model, full_check=True)
    save_model(model, tmp_path / "m.onnx", external_data=external)
    if external:
        move_out(tmp_path / "m.onnx")
    session = rt.InferenceSession(tmp_path / "m.onnx")
    assert session.get_inputs()[0].type == f"tensor({dtype.onnx_name})"
    a, b, *kept = session.run(None, {"x": x})
    np.testing.assert_array_equal(a, every_element(dtype).astype(np.float32))
    np.testing.assert_array_equal(b, x.astype(np.float32))
    if moves:
        assert kept[0].dtype == dtype.np
        assert kept[0].tobytes() == every_element(dtype).tobytes()


def move_out(path) -> None:
    """Put every initializer, however small, into a file beside the model."""
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, size_threshold=0, location="rest.bin")


@each_dtype
def test_int32_data(dtype: DType) -> None:
    """The other way that ONNX stores elements: one number, or one byte of them, each."""
    every = every_element(dtype)
    packed = numpy_helper.from_array(every).raw_data
    data = list(packed) if dtype.bits in (2, 4) else [int(c) for c in every.view(np.uint8)]
    weight = TensorProto(name="w", dims=every.shape, data_type=dtype.onnx, int32_data=data)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, every.shape)
    node = helper.make_node("Cast", ["w"], ["y"], to=TensorProto.FLOAT)
    model = helper.make_model(
        helper.make_graph([node], "g", [], [y], [weight]),
        opset_imports=[helper.make_opsetid("", 28)],
    )
    (got,) = interpret(import_model(model), [])
    np.testing.assert_array_equal(got, every.astype(np.float32))


@each_dtype
def test_data_of_the_wrong_length(dtype: DType) -> None:
    model = export_graph(casting(dtype, 3), opset=28)
    model.graph.initializer[0].raw_data += b"\0"
    with pytest.raises(OnnxError, match="needs .* bytes, the file has"):
        import_model(model)


@each_dtype
def test_casts_round_trip(dtype: DType) -> None:
    graph = Graph("g")
    x = graph.add_input(TensorType(float32, (7,)), "x")
    outputs = [Cast(dtype)(x)]
    if dtype in FLOAT8:
        outputs += [Float8Cast(dtype, s, "down")(x) for s in (True, False)]
    graph.set_outputs(outputs)
    model = export_graph(graph, opset=28)
    onnx.checker.check_model(model, full_check=True)
    data = np.array([0, 1, 0.3, 1.7, 1, 2, np.nan], np.float32)
    if dtype in FLOAT8:
        data[-2] = 1e6
    with np.errstate(all="ignore"):
        wanted = interpret(graph, [data])
        got = interpret(import_model(model), [data])
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_array_equal(a.astype(np.float32), b.astype(np.float32))


def test_opsets_that_lack_a_type() -> None:
    graph = Graph("g")
    graph.set_outputs([Cast(float8_e8m0fnu)(graph.add_input(TensorType(float32, (2,)), "x"))])
    with pytest.raises(OnnxError, match="needs opset 24"):
        export_graph(graph, opset=21)


@each_dtype
def test_front_end(dtype: DType) -> None:
    """Under PyTorch's names: converted, moved, compared; no arithmetic, no promotion."""
    assert getattr(dg, dtype.name) is dtype
    x = dg.ones(2, 3).to(dtype)
    assert x.dtype is dtype
    assert x.T.reshape(6).dtype is dtype
    assert dg.cat([x, x]).float().sum().item() == 12
    assert dg.where(x == x, x, x).to(dg.float32).tolist() == [[1, 1, 1], [1, 1, 1]]
    assert "1" in repr(x)
    with pytest.raises(TypeError, match="do not promote"):
        x + dg.ones(3)
    with pytest.raises(DTypeError, match="no arithmetic"):
        Add().infer(TensorType(dtype, (2,)), TensorType(dtype, (2,)))


def test_float8_follows_pytorch() -> None:
    torch = pytest.importorskip("torch")
    values = [0.0, 0.3, 17.0, 300.0, 448.0, -2.0]
    for name in ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"):
        if name != "float8_e4m3fn":  # whose largest number PyTorch gives since some version
            values += [500.0, 1e5, float("inf")]
        ours = dg.tensor(values).to(getattr(dg, name)).float().numpy()
        theirs = torch.tensor(values).to(getattr(torch, name)).float().numpy()
        np.testing.assert_array_equal(ours, theirs)
    assert dg.float8_e5m2.np == np.dtype(ml_dtypes.float8_e5m2)
