"""Model files: saving without loss, and reading what nobody should trust."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualgraph_compiler.errors import OnnxError
from dualgraph_compiler.graph import Graph, interpret
from dualgraph_compiler.onnx import export_graph, import_model, load_model, save_model
from dualgraph_compiler.onnx import save as save_module
from dualgraph_compiler.ops.pointwise import Add
from tests.onnx.helpers import run_onnxruntime


def weights_graph(fill: float = 1.0, count: int = 1000) -> Graph:
    graph = Graph()
    w = graph.add_param(np.full(count, fill, np.float32), "w")
    x = graph.add_input(w.type, "x")
    b = graph.add_param(np.arange(count, dtype=np.float32), "b")
    graph.set_outputs([graph.call(Add(), (graph.call(Add(), (x, w)), b))], ["y"])
    return graph


ZEROS = np.zeros(1000, np.float32)


# -- saving --------------------------------------------------------------------------------------


def test_save_and_load(tmp_path: Path) -> None:
    model = export_graph(weights_graph())
    save_model(model, tmp_path / "m.onnx")
    assert os.listdir(tmp_path) == ["m.onnx"]
    assert load_model(tmp_path / "m.onnx").proto == model


def test_external_data(tmp_path: Path) -> None:
    model = export_graph(weights_graph())
    before = model.SerializeToString()
    save_model(model, tmp_path / "m.onnx", external_data=True)
    assert model.SerializeToString() == before
    assert sorted(os.listdir(tmp_path)) == ["m.onnx", "m.onnx.data"]
    assert (tmp_path / "m.onnx").stat().st_size < 1000
    onnx.checker.check_model(str(tmp_path / "m.onnx"))
    expected = ZEROS + 1 + np.arange(1000)
    np.testing.assert_array_equal(run_onnxruntime(tmp_path / "m.onnx", {"x": ZEROS})[0], expected)
    for weights in ("constant", "param"):
        graph = import_model(tmp_path / "m.onnx", weights=weights)
        np.testing.assert_array_equal(interpret(graph, [ZEROS])[0], expected)


def test_saving_again_keeps_one_data_file_and_never_mixes_two_models(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    for fill in (1.0, 2.0, 3.0):
        save_model(export_graph(weights_graph(fill)), path, external_data=True)
        assert len(os.listdir(tmp_path)) == 2
        assert interpret(import_model(path), [ZEROS])[0][0] == fill
    save_model(export_graph(weights_graph()), path)
    assert load_model(path).proto.graph.initializer[0].raw_data


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("failing", [1, 2])
def test_a_failed_save_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, external: bool, failing: int
) -> None:
    path = tmp_path / "m.onnx"
    save_model(export_graph(weights_graph(1)), path, external_data=external)
    before = {f: (tmp_path / f).read_bytes() for f in os.listdir(tmp_path)}
    calls = 0

    def full_disk(file: int) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError("No space left on device")

    monkeypatch.setattr(save_module.os, "fsync", full_disk)
    if failing == 2 and not external:
        pytest.skip("one file is written, so there is no second failure")
    with pytest.raises(OSError, match="No space left"):
        save_model(export_graph(weights_graph(2)), path, external_data=external)
    for name, data in before.items():
        assert (tmp_path / name).read_bytes() == data
    assert interpret(import_model(path), [ZEROS])[0][0] == 1
    assert not list(tmp_path.glob("*.tmp"))


def test_models_over_the_protobuf_limit_get_external_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(save_module, "MAX_PROTO_BYTES", 5000)
    save_model(export_graph(weights_graph()), tmp_path / "m.onnx")
    assert sorted(os.listdir(tmp_path)) == ["m.onnx", "m.onnx.data"]


def test_saving_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "m.onnx").symlink_to(tmp_path / "real" / "m.onnx")
    save_model(export_graph(weights_graph()), tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").is_symlink()
    assert (tmp_path / "real" / "m.onnx").is_file()


def test_saving_into_a_missing_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(OnnxError, match="folder .*nowhere does not exist"):
        save_model(export_graph(weights_graph()), tmp_path / "nowhere" / "m.onnx")


# -- sources -------------------------------------------------------------------------------------


def test_every_kind_of_source(tmp_path: Path) -> None:
    model = export_graph(weights_graph())
    data = model.SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with path.open("rb") as file:
        for source in (str(path), path, data, bytearray(data), io.BytesIO(data), file, model):
            assert load_model(source).proto == model
    loaded = load_model(path)
    assert load_model(loaded) is loaded


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\x00" * 64, "not an ONNX model"),
        (b"PK\x03\x04 a zip file, perhaps", "not an ONNX model"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "has no graph"),
    ],
)
def test_what_is_no_model(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(data)
    with pytest.raises(OnnxError, match=f"bad.onnx.*{message}"):
        load_model(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(OnnxError, match="cannot read .*absent.onnx: No such file"):
        load_model(tmp_path / "absent.onnx")
    with pytest.raises(OnnxError, match="is a folder"):
        load_model(tmp_path)
    with pytest.raises(OnnxError, match="got int"):
        load_model(3)
    with pytest.raises(OnnxError, match="binary mode"):
        load_model(io.StringIO("text"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_rather_than_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(OnnxError, match="not a regular file"):
        load_model(tmp_path / "pipe.onnx")


def test_size_limit(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\0" * 101)
    for source in (path, path.read_bytes(), io.BytesIO(path.read_bytes())):
        with pytest.raises(OnnxError, match="limit of 100"):
            load_model(source, max_bytes=100)


def test_unknown_opset() -> None:
    model = export_graph(weights_graph())
    model.opset_import[0].version = 1000
    with pytest.raises(OnnxError, match="uses opset 1000; the installed onnx .* knows 1 to"):
        load_model(model)


SMALL = export_graph(weights_graph(count=20)).SerializeToString()


@given(st.integers(0, len(SMALL) - 1))
def test_a_truncated_model_is_an_error_or_still_a_model(length: int) -> None:
    """Never another exception, a crash or a hang."""
    with contextlib.suppress(OnnxError):
        import_model(SMALL[:length])


@given(st.integers(0, len(SMALL) - 1), st.integers(0, 255))
def test_a_corrupted_model_is_an_error_or_still_a_model(position: int, byte: int) -> None:
    data = bytearray(SMALL)
    data[position] = byte
    with contextlib.suppress(OnnxError):
        import_model(bytes(data))


# -- external data -------------------------------------------------------------------------------


def external_model(folder: Path, **entries: str) -> Path:
    """A model whose tensor "w" of 1000 floats claims to lie where `entries` says."""
    path = folder / "m.onnx"
    save_model(export_graph(weights_graph()), path, external_data=True)
    model = onnx.load(str(path), load_external_data=False)
    (w, _) = model.graph.initializer
    for entry in w.external_data:
        entry.value = entries.get(entry.key, entry.value)
    path.write_bytes(model.SerializeToString())
    return path


def secret(folder: Path) -> Path:
    path = folder / "secret"
    path.write_bytes(b"\1" * 100_000)
    return path


@pytest.mark.parametrize(
    "location",
    [
        "../secret",
        "sub/../../secret",
        "..\\secret",
        "C:\\secret",
        "C:secret",
        "\\\\host\\x",
        "",
        "a\0b",
    ],
)
def test_hostile_locations(tmp_path: Path, location: str) -> None:
    secret(tmp_path)
    folder = tmp_path / "models"
    folder.mkdir()
    with pytest.raises(OnnxError, match="external data of tensor 'w'"):
        import_model(external_model(folder, location=location))


def test_an_absolute_location(tmp_path: Path) -> None:
    with pytest.raises(OnnxError, match="expected a relative path"):
        import_model(external_model(tmp_path, location=str(secret(tmp_path))))


@pytest.mark.parametrize("through_folder", [False, True])
def test_a_link_out_of_the_folder(tmp_path: Path, through_folder: bool) -> None:
    target = secret(tmp_path)
    folder = tmp_path / "models"
    folder.mkdir()
    if through_folder:
        (folder / "link").symlink_to(tmp_path)
        location = "link/secret"
    else:
        (folder / "link").symlink_to(target)
        location = "link"
    with pytest.raises(OnnxError, match="leaves the model's folder"):
        import_model(external_model(folder, location=location))


def test_a_data_file_in_a_subfolder_is_fine(tmp_path: Path) -> None:
    path = external_model(tmp_path, location="weights/w.bin", offset="0")
    (tmp_path / "weights").mkdir()
    np.full(1000, 7, np.float32).tofile(tmp_path / "weights" / "w.bin")
    assert interpret(import_model(path), [ZEROS])[0][0] == 7


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "absent"}, "cannot open 'absent'"),
        ({"location": "."}, "not a regular file"),
        ({"offset": "100000"}, "which has only"),
        ({"offset": "-4"}, "expected a byte count as `offset`"),
        ({"offset": "9" * 30}, "expected a byte count as `offset`"),
        ({"offset": "1e3"}, "expected a byte count as `offset`"),
        ({"length": "12"}, "need 4000 bytes, `length` is 12"),
    ],
)
def test_wrong_places(tmp_path: Path, entries: dict[str, str], message: str) -> None:
    with pytest.raises(OnnxError, match=message):
        import_model(external_model(tmp_path, **entries))


def test_a_shape_of_terabytes_is_refused_before_memory_is_asked_for(tmp_path: Path) -> None:
    path = external_model(tmp_path)
    model = onnx.load(str(path), load_external_data=False)
    w = model.graph.initializer[0]
    w.dims[:] = [2**40, 2**20]
    del w.external_data[2:]  # no length
    path.write_bytes(model.SerializeToString())
    with pytest.raises(OnnxError, match="which has only"):
        import_model(path)


def test_external_data_needs_a_folder(tmp_path: Path) -> None:
    data = external_model(tmp_path).read_bytes()
    with pytest.raises(OnnxError, match="not read from a file"):
        import_model(data)


@pytest.mark.parametrize("dims", [[3], [-1], [2**40]])
def test_a_tensor_of_another_shape_than_its_data(dims: list[int]) -> None:
    model = export_graph(weights_graph(count=20))
    model.graph.initializer[0].dims[:] = dims
    with pytest.raises(OnnxError, match="tensor 'w'"):
        import_model(model)
