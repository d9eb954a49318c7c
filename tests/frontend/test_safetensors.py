"""State in safetensors files: what goes in comes out, and nothing else is taken for it."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import pickle
import stat
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import dualgraph as dg
from dualgraph import optim
from dualgraph.serialization import _safetensors, load, save
from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import SerializationError


def tensor(values: Any, dtype: str = "float32") -> dg.Tensor:
    return dg.from_numpy(np.asarray(values).astype(dt.BY_NAME[dtype].np))


def assert_same(got: Any, expected: Any) -> None:
    """Equal in value, type and order."""
    if isinstance(expected, dg.Tensor):
        assert isinstance(got, dg.Tensor)
        assert got.dtype is expected.dtype
        assert not got.requires_grad
        np.testing.assert_array_equal(got.numpy(), expected.detach().numpy())
        assert tuple(got.shape) == tuple(expected.shape)
    elif isinstance(expected, dict):
        assert list(got) == list(expected)
        assert [type(k) for k in got] == [type(k) for k in expected]
        for key, value in expected.items():
            assert_same(got[key], value)
    elif isinstance(expected, list | tuple):
        assert type(got) is type(expected)
        assert len(got) == len(expected)
        for a, b in zip(got, expected, strict=True):
            assert_same(a, b)
    else:
        assert type(got) is type(expected)
        assert got == expected or (got != got and expected != expected)


@pytest.mark.parametrize("dtype", [d.name for d in dt.ALL if not d.is_narrow])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 2), (1,)], ids=str)
def test_every_dtype_and_shape(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2, size=shape) * (1.5 + 0.5j)
    value = dg.from_numpy(
        np.asarray(values if dt.BY_NAME[dtype].is_complex else values.real).astype(
            dt.BY_NAME[dtype].np
        )
    )
    save({"x": value}, tmp_path / "a.safetensors")
    assert_same(load(tmp_path / "a.safetensors"), {"x": value})


@pytest.mark.parametrize("dtype", dt.NARROW, ids=str)
def test_dtypes_that_files_do_not_hold(dtype: dt.DType, tmp_path: Path) -> None:
    value = dg.ones(2).to(dtype)
    with pytest.raises(SerializationError, match=f"'x' is {dtype.name}.*convert it first"):
        save({"x": value}, tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()


def test_nested_state(tmp_path: Path) -> None:
    state = {
        "model": {"0.weight": tensor([[1, 2], [3, 4]]), "0.bias": tensor([1])},
        "optimizer": {
            "state": {0: {"step": tensor(3.0), "exp_avg": tensor([1.0])}, 1: {}},
            "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "foreach": None, "params": [0, 1]}],
        },
        "epoch": 7,
        "best": math.inf,
        "loss": math.nan,
        "name": "näme",
        "flags": [True, False, None, 1 + 2j, 2**80],
        "empty": [{}, [], ()],
        "0.weight": tensor(5, "int64"),
        1.5: "number",
        None: "none",
        True: "true",
    }
    save(state, tmp_path / "a.safetensors")
    assert_same(load(tmp_path / "a.safetensors"), state)


@pytest.mark.parametrize("value", [tensor([1, 2]), [tensor(1), tensor(2)], 3, None, {}, (1,)])
def test_any_top_level(value: Any, tmp_path: Path) -> None:
    save(value, tmp_path / "a.safetensors")
    assert_same(load(tmp_path / "a.safetensors"), value)


def test_names_that_collide(tmp_path: Path) -> None:
    state = {
        "a.b": tensor(1),
        "a": {"b": tensor(2), "b~1": tensor(3)},
        "a.b~1": tensor(4),
        "__metadata__": tensor(5),
        "": tensor(6),
    }
    save(state, tmp_path / "a.safetensors")
    assert_same(load(tmp_path / "a.safetensors"), state)


def test_order_of_keys_is_kept(tmp_path: Path) -> None:
    state = {name: tensor([i]) for i, name in enumerate("zyxabc")}
    save(state, tmp_path / "a.safetensors")
    assert list(load(tmp_path / "a.safetensors")) == list("zyxabc")


def test_layout_numpy_scalars_and_grad(tmp_path: Path) -> None:
    columns = dg.from_numpy(np.arange(6.0).reshape(2, 3).T)
    parameter = dg.tensor([1.0, 2.0], requires_grad=True)
    state = {"t": columns, "p": parameter, "s": np.float32(0.5), "i": np.int64(3)}
    save(state, tmp_path / "a.safetensors")
    assert_same(load(tmp_path / "a.safetensors"), {"t": columns, "p": parameter, "s": 0.5, "i": 3})


def test_other_programs_read_and_write(tmp_path: Path) -> None:
    save({"w": tensor([[1, 2]]), "b": tensor([3], "int64")}, tmp_path / "ours.safetensors")
    theirs = load_file(tmp_path / "ours.safetensors")
    np.testing.assert_array_equal(theirs["w"], np.array([[1, 2]], np.float32))
    assert sorted(theirs) == ["b", "w"]
    save_file({"x": np.arange(3)}, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    assert_same(load(tmp_path / "theirs.safetensors"), {"x": tensor([0, 1, 2], "int64")})


def test_pytorch_reads_bfloat16(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file as torch_load

    save({"w": tensor([1.5, 2.5], "bfloat16")}, tmp_path / "a.safetensors")
    assert torch_load(tmp_path / "a.safetensors")["w"].tolist() == [1.5, 2.5]
    assert torch_load(tmp_path / "a.safetensors")["w"].dtype == torch.bfloat16


def test_optimizer_state_round_trip(tmp_path: Path) -> None:
    p = dg.tensor([1.0, 2.0], requires_grad=True)
    p.grad = tensor([0.5, -0.5])
    optimizer = optim.Adam([p], lr=0.25)
    optimizer.step()
    save(optimizer.state_dict(), tmp_path / "a.safetensors")
    twin = optim.Adam([p])
    twin.load_state_dict(load(tmp_path / "a.safetensors"))
    assert_same(twin.state_dict(), optimizer.state_dict())


def test_map_location(tmp_path: Path) -> None:
    save({"a": [tensor(1)], "b": (tensor(2), 3)}, tmp_path / "a.safetensors")
    state = load(tmp_path / "a.safetensors", map_location="cpu", weights_only=True)
    assert_same(state, {"a": [tensor(1)], "b": (tensor(2), 3)})


def test_map_location_of_other_kinds(tmp_path: Path) -> None:
    save({"a": tensor([1, 2], "complex64")}, tmp_path / "a.safetensors")
    seen = []
    for place in ({"cpu": "cpu"}, lambda storage, location: seen.append(location)):
        assert_same(
            load(tmp_path / "a.safetensors", map_location=place),
            {"a": tensor([1, 2], "complex64")},
        )
    assert seen == ["cpu"]


def test_tied_weights_stay_tied_and_are_all_in_the_file(tmp_path: Path) -> None:
    weight, numbers = tensor([[1, 2]]), tensor([1j], "complex64")
    state = {"a": weight, "b": {"c": weight, "d": weight.T}, "z": [numbers, numbers]}
    save(state, tmp_path / "a.safetensors")
    loaded = load(tmp_path / "a.safetensors")
    assert_same(loaded, state)
    loaded["a"].fill_(7.0)
    loaded["z"][0].fill_(3.0)
    assert loaded["b"]["c"].tolist() == [[7, 7]]
    assert loaded["b"]["c"]._version == loaded["a"]._version == 1
    assert loaded["z"][1].tolist() == [3]
    assert set(load_file(tmp_path / "a.safetensors")) == {"a", "b.c", "b.d", "z.0", "z.1"}


def test_files_that_are_open(tmp_path: Path) -> None:
    state = {"x": tensor([1, 2]), "y": [tensor([3], "bfloat16"), "text"]}
    save(state, tmp_path / "a.safetensors")
    content = (tmp_path / "a.safetensors").read_bytes()
    assert_same(load(io.BytesIO(content)), state)
    with pytest.raises(SerializationError, match="cannot load BytesIO: expected a complete safet"):
        load(io.BytesIO(content[:-1]))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, {2: object()}]}, r"cannot save a object \(at \['a'\]\[1\]\[2\]\)"),
        (lambda: 0, "cannot save a function .at the top level"),
        ({"a": {(1, 2): 3}}, r"key of type tuple \(at \['a'\]\)"),
        ({"a": np.zeros(3)}, "cannot save a ndarray"),
    ],
    ids=["object", "function", "key", "array"],
)
def test_what_cannot_be_saved(value: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(SerializationError, match=message):
        save(value, tmp_path / "a.safetensors")
    assert os.listdir(tmp_path) == []


def test_endless_nesting_is_refused(tmp_path: Path) -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(SerializationError, match="nested too deeply"):
        save(loop, tmp_path / "a.safetensors")


# -- files ----------------------------------------------------------------------------------------


def test_failed_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.safetensors"
    save({"x": tensor([1])}, target)

    def fail(arrays: Any, path: str, metadata: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(_safetensors, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save({"x": tensor([2])}, target)
    assert os.listdir(tmp_path) == ["a.safetensors"]
    assert_same(load(target), {"x": tensor([1])})


def test_save_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    link = tmp_path / "link.safetensors"
    link.symlink_to(tmp_path / "real")
    save({"x": tensor([1])}, link)
    assert link.is_symlink()
    assert_same(load(tmp_path / "real"), {"x": tensor([1])})


def test_new_files_have_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    save(1, tmp_path / "a.safetensors")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "a.safetensors")]
    assert modes[0] == modes[1]
    (tmp_path / "a.safetensors").chmod(0o640)
    save(2, tmp_path / "a.safetensors")
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == 0o640


def test_loaded_tensors_do_not_depend_on_the_file(tmp_path: Path) -> None:
    save({"x": tensor([1, 2, 3])}, tmp_path / "a.safetensors")
    state = load(tmp_path / "a.safetensors")
    state["x"].numpy()[0] = 9
    (tmp_path / "a.safetensors").write_bytes(b"")
    assert state["x"].tolist() == [9, 2, 3]


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        save(1, tmp_path / "nowhere" / "a.safetensors")
    for action in (load, lambda f: save(1, f)):
        with pytest.raises(IsADirectoryError, match="it is a folder"):
            action(tmp_path)


FOREIGN = {
    "empty": (b"", "of 0 bytes is truncated"),
    "text": (b"hello world, this is no checkpoint", "truncated, damaged or something else"),
    "zip": (b"PK\x03\x04" + bytes(100), "a zip archive that is damaged"),
    "pickle": (pickle.dumps({"a": 1}), "a Python pickle, but none that torch.save wrote"),
    "npy": (b"\x93NUMPY\x01\x00" + bytes(100), "a NumPy array file"),
    "gzip": (b"\x1f\x8b" + bytes(100), "compressed with gzip"),
    "page": (b"<!DOCTYPE html><html>", "a web page"),
    "tar": (bytes(257) + b"ustar" + bytes(300), "a tar archive"),
    "huge header": (struct.pack("<Q", 2**62) + b"{}", "truncated, damaged"),
    "list header": (struct.pack("<Q", 5) + b"[1,2]", "truncated, damaged"),
    "bad header": (struct.pack("<Q", 5) + b"{1,2}", "expected a complete safetensors file"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files(name: str, tmp_path: Path) -> None:
    content, message = FOREIGN[name]
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(SerializationError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save({"x": tensor([1, 2, 3]), "y": [tensor([4.0], "float64")]}, path)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(SerializationError):
            load(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(SerializationError):
        load(path)


def raw_file(path: Path, header: dict[str, Any], data: bytes = b"") -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


BAD_HEADERS: list[dict[str, Any]] = [
    {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
    {"x": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 8]}},
    {"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]}},
    {"x": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}},
    {"x": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}},
    {"x": {"dtype": "Q99", "shape": [2], "data_offsets": [0, 8]}},
    {"x": {"dtype": "F8_E5M2", "shape": [8], "data_offsets": [0, 8]}},
    {"x": {"shape": [2]}},
]


@pytest.mark.parametrize("header", BAD_HEADERS, ids=str)
def test_headers_that_do_not_fit_the_data(header: dict[str, Any], tmp_path: Path) -> None:
    raw_file(tmp_path / "a.safetensors", header, bytes(8))
    with pytest.raises(SerializationError, match="cannot load"):
        load(tmp_path / "a.safetensors")


BAD_STRUCTURES = [
    "",
    "{",
    "[1]",
    '{"tensor": "x", "shares": "y"}',
    '{"tensor": "x", "shares": "x"}',
    '{"tensor": "y"}',
    '{"tensor": ["x"]}',
    '{"tensor": "x", "dtype": "complex64"}',
    '{"tensor": "x", "dtype": "int8"}',
    '{"module": "os"}',
    '{"list": 3}',
    '{"dict": [[1]]}',
    '{"dict": [[[1], 2]]}',
    '{"list": [], "tuple": []}',
    '{"complex": ["a", "b"]}',
    '{"list":[' * 100_000,
    '{"list":[' * 5_000 + "]}" * 5_000,
]


@pytest.mark.parametrize("structure", BAD_STRUCTURES, ids=lambda s: s[:20])
def test_damaged_structures(structure: str, tmp_path: Path) -> None:
    save_file({"x": np.zeros(3)}, tmp_path / "a.safetensors", metadata={"dualgraph": structure})
    with pytest.raises(SerializationError, match="expected the structure dualgraph.save writes"):
        load(tmp_path / "a.safetensors")


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.complex_numbers()
leaves = scalars | st.lists(st.floats(width=32), max_size=4).map(lambda v: tensor(v))
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(tree=trees)
def test_any_tree(tree: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "tree.safetensors"
    save(tree, path)
    assert_same(load(path), tree)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_bytes_never_crash(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    save({"a": tensor([1, 2]), "b": {0: (tensor([1], "bfloat16"), 2.5)}}, path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(SerializationError):
        load(path)
