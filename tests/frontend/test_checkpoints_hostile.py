"""Checkpoints that are damaged or made to harm give our error, quickly and in little memory."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dualgraph as dg
from dualgraph import nn
from dualgraph.serialization import get_unsafe_globals_in_checkpoint
from dualgraph_compiler.errors import RefusedPickle, SerializationError


def stored(obj: Any, new: bool = True) -> bytes:
    buffer = io.BytesIO()
    dg.save(obj, buffer, _use_new_zipfile_serialization=new)
    return buffer.getvalue()


STATE = {
    "model": nn.Linear(2, 3).state_dict(),
    "parameter": nn.Parameter(dg.ones(2)),
    "views": [dg.arange(6.0).reshape(2, 3).T, dg.ones(1).expand(4)],
    "rest": (1, 2.5, "text", b"bytes", {3, 4}, None, True, 1j, bytearray(b"x"), dg.float32),
}
FILES = {"archive": stored(STATE), "old": stored(STATE, new=False)}


def load(content: bytes, **options: Any) -> Any:
    return dg.load(io.BytesIO(content), **options)


def archive(stream: bytes, members: dict[str, bytes] | None = None) -> bytes:
    """An archive of a pickle, and of storages."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a/data.pkl", stream)
        file.writestr("a/byteorder", "little")
        for name, content in (members or {}).items():
            file.writestr(f"a/data/{name}", content)
        file.writestr("a/version", "3\n")
    return buffer.getvalue()


# -- any damage -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FILES)
def test_every_truncation_is_noticed(kind: str) -> None:
    content = FILES[kind]
    for length in range(0, len(content), 1 if kind == "old" else 7):
        with pytest.raises(SerializationError):
            load(content[:length])


@pytest.mark.parametrize("kind", FILES)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_bytes_never_crash(kind: str, data: st.DataObject) -> None:
    content = bytearray(FILES[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try_to_load(bytes(content))


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_damaged_pickles_never_crash(data: st.DataObject) -> None:
    """Their checksums are right, so all damage reaches the reader of pickles."""
    with zipfile.ZipFile(io.BytesIO(FILES["archive"])) as file:
        parts = {name.split("/", 1)[1]: file.read(name) for name in file.namelist()}
    stream = bytearray(parts["data.pkl"])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(stream) - 1))
        if data.draw(st.booleans()):
            stream[place] = data.draw(st.integers(0, 255))
        else:
            end = place + data.draw(st.integers(0, 20))
            stream[place:end] = data.draw(st.binary(max_size=8))
    members = {name.removeprefix("data/"): c for name, c in parts.items() if "data/" in name}
    try_to_load(archive(bytes(stream), members))


@settings(max_examples=200, deadline=None)
@given(stream=st.binary(max_size=60))
def test_pickles_of_noise_never_crash(stream: bytes) -> None:
    try_to_load(archive(b"\x80\x02" + stream + b"."))


def try_to_load(content: bytes) -> None:
    with contextlib.suppress(SerializationError):
        load(content)


def test_bits_flipped_in_storages_are_noticed() -> None:
    weights = dg.arange(64.0)
    content = bytearray(stored(weights))
    place = content.index(weights.numpy().tobytes())
    for offset in range(0, 256, 17):
        damaged = bytearray(content)
        damaged[place + offset] ^= 1 << (offset % 8)
        with pytest.raises(SerializationError, match="the checksum is wrong"):
            load(bytes(damaged))


# -- pickles --------------------------------------------------------------------------------------


def call(module: str, name: str, arguments: bytes) -> bytes:
    return b"c" + f"{module}\n{name}\n".encode() + arguments + b"R"


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def storage(key: str = "0", count: int = 4, kind: str = "FloatStorage") -> bytes:
    parts = text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + number(count)
    return b"(" + parts + b"tQ"


def tensor(
    size: bytes, stride: bytes, offset: bytes = number(0), place: bytes = storage()
) -> bytes:
    arguments = b"(" + place + offset + size + stride + b"\x89" + b"N" + b"t"
    return call("torch._utils", "_rebuild_tensor_v2", arguments)


def tuple_of(*values: int) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


REFUSED = {
    "a system call": call("os", "system", text("true") + b"\x85"),
    "old names": call("__builtin__", "eval", text("1") + b"\x85"),
    "a method": call("builtins", "getattr", b"}" + text("clear") + b"\x86"),
    "a private function": call("torch.serialization", "_load", b")"),
    "a nested name": b"\x8c\x05torch\x8c\x0cos.path.join\x93",
    "an import": b"cos\nsystem\n",
    "data called": text("x") + b")R",
    "a dtype called": b"ctorch\nfloat32\n)R",
    "the state of a dict": b"}}b",
    "the state of a tensor": tensor(tuple_of(4), tuple_of(1)) + b"}b",
    "a method of an OrderedDict": call("collections", "OrderedDict", b")")
    + b"}" + text("items") + b"Nsb",
    "an instance": b"(ios\nsystem\n",
    "an extension": b"\x82\x01",
    "text opcodes": b"I1\n",
    "appending to a tuple": b")Na",
    "items of a list": b"]NNs",
    "adding to a list": b"](N\x90",
}  # fmt: skip

DAMAGED = {
    "nothing": b"",
    "an empty stack": b"0.",
    "no mark": b"t",
    "a memo that is empty": b"h\x05",
    "a key without a value": b"}(Nu",
    "a key that cannot be one": b"}]Ns",
    "a name cut off": b"ctorch",
    "a long name": b"c" + b"a" * 5000 + b"\n",
    "a name that is no text": b"]]\x93",
    "text that is none": b"X\x02\x00\x00\x00\xff\xfe",
    "a version": b"\x80\x09",
    "a huge string": b"\x8d" + struct.pack("<Q", 2**62),
    "a huge bytearray": b"\x96" + struct.pack("<Q", 2**62),
    "a negative length": b"\x8b" + struct.pack("<i", -5),
    "a huge memo": b"Nr\xff\xff\xff\xff0h\x01",
    "a reference to nothing": text("x") + b"Q",
    "a reference of other things": b"(" + text("module") + b"NNNtQ",
    "a missing storage": tensor(tuple_of(4), tuple_of(1), place=storage("7")),
    "a storage of another size": tensor(tuple_of(4), tuple_of(1), place=storage(count=5)),
    "a storage of negative size": tensor(tuple_of(4), tuple_of(1), place=storage(count=-4)),
    "a path": tensor(tuple_of(4), tuple_of(1), place=storage("../../data.pkl")),
    "beyond the storage": tensor(tuple_of(5), tuple_of(1)),
    "beyond the storage by stride": tensor(tuple_of(2, 2), tuple_of(3, 1)),
    "beyond the storage by offset": tensor(tuple_of(4), tuple_of(1), number(1)),
    "before the storage": tensor(tuple_of(2), tuple_of(1), number(-1)),
    "a negative stride": tensor(tuple_of(2), tuple_of(-1), number(1)),
    "a negative size": tensor(tuple_of(-2), tuple_of(1)),
    "more strides than sizes": tensor(tuple_of(2), tuple_of(1, 1)),
    "a size that is no tuple": tensor(b"N", b"N"),
    "a size of text": tensor(b"(" + text("a") + b"t", tuple_of(1)),
    "too many dimensions": tensor(tuple_of(*[1] * 70), tuple_of(*[1] * 70)),
    "a tensor of a dtype": call("torch._utils", "_rebuild_tensor", b"(ctorch\nint8\nK\x00))t"),
    "gradients of integers": call(
        "torch._utils",
        "_rebuild_tensor_v2",
        b"(" + storage(kind="IntStorage") + number(0) + tuple_of(4) + tuple_of(1) + b"\x88Nt",
    ),
    "a parameter of nothing": call("torch._utils", "_rebuild_parameter", b"N\x88N\x87"),
    "a device": call("torch", "device", text("toaster") + b"\x85"),
    "a layout": call("torch.serialization", "_get_layout", text("torch.sparse_coo") + b"\x85"),
    "a tensor of any size": call("torch", "Tensor", number(2**30) + number(2**30) + b"\x86"),
    "a bytearray of any size": call("builtins", "bytearray", number(2**30) + b"\x85"),
    "a complex of text": call("builtins", "complex", text("1" * 100) + b"\x85"),
    "an encoding": call("_codecs", "encode", text("a") + text("zlib_codec") + b"\x86"),
    "a set of itself": b"\x8fq\x00(h\x00\x90",
    "too few arguments": call("torch._utils", "_rebuild_tensor_v2", b")"),
    "arguments that are none": call("torch", "Size", b"N"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_pickles_that_ask_for_more_than_data(name: str) -> None:
    with pytest.raises(RefusedPickle):
        load(archive(b"\x80\x02" + REFUSED[name] + b".", {"0": bytes(16)}))


@pytest.mark.parametrize("name", DAMAGED)
def test_pickles_that_make_no_sense(name: str) -> None:
    with pytest.raises(SerializationError, match="cannot load BytesIO: "):
        load(archive(b"\x80\x02" + DAMAGED[name] + b".", {"0": bytes(16)}))


def test_the_pickles_above_are_refused_for_what_they_say() -> None:
    good = b"\x80\x02" + tensor(tuple_of(2, 2), tuple_of(2, 1)) + b"."
    assert load(archive(good, {"0": bytes(16)})).tolist() == [[0, 0], [0, 0]]
    with pytest.raises(SerializationError, match="damaged"):
        get_unsafe_globals_in_checkpoint(io.BytesIO(archive(b"\x80\x02I")))
    found = get_unsafe_globals_in_checkpoint(io.BytesIO(archive(b"\x80\x02cos\nsystem\n.")))
    assert found == ["os.system"]


def nested_tuples(depth: int, twice: bool) -> bytes:
    return b")" + (b"2\x86" if twice else b"\x85") * depth


BOMBS = {
    "a deep key": b"}" + nested_tuples(200_000, twice=False) + b"Ns",
    "a wide key": b"}" + nested_tuples(60, twice=True) + b"Ns",
    "a wide item": b"\x8f(" + nested_tuples(60, twice=True) + b"\x90",
    "a wide frozen set": b"(" + nested_tuples(60, twice=True) + b"\x91",
    "large numbers as keys": b"\x8b" + struct.pack("<i", 10**6) + b"\x01" * 10**6 + b"q\x00"
    + b"}" + b"h\x00Ns" * 1000,
    "copies of bytes": text("x" * 10**6) + b"q\x00" + b"0"
    + b"]" + call("_codecs", "encode", b"h\x00" + text("latin1") + b"\x86") * 1000,
    "copies of lists": b"]q\x00(" + b"N" * 10**5 + b"e0"
    + call("builtins", "set", b"h\x00\x85") * 10_000,
    "copies of tensors": call(
        "torch._utils",
        "_rebuild_tensor_v2",
        b"(" + storage() + number(0) + tuple_of(2**20, 2**20) + tuple_of(0, 0)
        + b"\x89N}" + text("conj") + b"\x88st",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_small_files_stay_small(name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(SerializationError):
            load(archive(b"\x80\x02" + BOMBS[name] + b".", {"0": bytes(16)}))
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()


def test_deep_values_load() -> None:
    value = load(archive(b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b"."))
    for _ in range(49_999):
        (value,) = value
    assert value == []


# -- archives -------------------------------------------------------------------------------------


def test_compressed_archives_are_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/data.pkl", bytes(100_000_000))
    assert len(buffer.getvalue()) < 200_000
    with pytest.raises(SerializationError, match="is compressed, which torch.save never does"):
        load(buffer.getvalue())


def test_members_that_overlap_are_refused() -> None:
    """A hundred storages, all of them the same megabyte of the file."""
    references = b"".join(storage(str(i), 10**6, "ByteStorage") + b"0" for i in range(100))
    content = bytearray(archive(b"\x80\x02" + references + b"N.", {"0": bytes(10**6)}))
    end = content.rindex(b"PK\x05\x06")
    (entries,) = struct.unpack("<H", content[end + 10 : end + 12])
    directory = content[struct.unpack("<I", content[end + 16 : end + 20])[0] : end]
    first = directory.index(b"a/data/0") - 46
    entry = directory[first : first + 54]
    for i in range(1, 100):
        name = f"a/data/{i}".encode()
        directory += entry[:28] + struct.pack("<H", len(name)) + entry[30:46] + name
    tail = bytearray(content[end:])
    tail[8:12] = struct.pack("<HH", entries + 99, entries + 99)
    tail[12:16] = struct.pack("<I", len(directory))
    start = struct.unpack("<I", content[end + 16 : end + 20])[0]
    with pytest.raises(SerializationError, match="its parts overlap"):
        load(bytes(content[:start] + directory + tail))


def test_members_that_lie_about_their_place() -> None:
    content = bytearray(
        archive(b"\x80\x02" + tensor(tuple_of(4), tuple_of(1)) + b".", {"0": bytes(16)})
    )
    central = content.rindex(b"a/data/0") - 46
    for name, at, value in (
        ("size", 24, 2**31),
        ("packed", 20, 2**31),
        ("both", 20, 17),
        ("offset", 42, 5),
        ("offset", 42, 2**31),
        ("checksum", 16, 1),
        ("encrypted", 8, 1),
    ):
        damaged = bytearray(content)
        layout = "<H" if name == "encrypted" else "<I"
        damaged[central + at : central + at + struct.calcsize(layout)] = struct.pack(layout, value)
        with pytest.raises(SerializationError):
            load(bytes(damaged))


def test_archives_of_something_else() -> None:
    for members, message in (
        ({}, "none that torch.save wrote"),
        ({"x/data.pkl": b"N.", "y/data.pkl": b"N."}, "none that torch.save wrote"),
        ({"x/data.pkl": b"N.", "x/constants.pkl": b""}, "TorchScript archive, which holds code"),
    ):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            file.writestr("readme", "hello")
            for name, content in members.items():
                file.writestr(name, content)
        with pytest.raises(SerializationError, match=message):
            load(buffer.getvalue())


def test_damaged_files_that_are_mapped(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    content = FILES["archive"]
    for length in (0, 10, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(SerializationError, match="cannot load .*a.pt"):
            dg.load(path, mmap=True)


# -- the old format -------------------------------------------------------------------------------


def old(stream: bytes, keys: Any, data: bytes = b"") -> bytes:
    heads = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    return b"".join(pickle.dumps(h, 2) for h in heads) + stream + pickle.dumps(keys, 2) + data


def old_storage(count: int, key: str = "0", view: bytes = b"N") -> bytes:
    return storage(key, count)[:-2] + view + b"tQ"


def test_old_checkpoints_with_parts_of_storages() -> None:
    view = b"(" + text("v") + number(1) + number(2) + b"t"
    place = tensor(tuple_of(2), tuple_of(1), place=old_storage(4, view=view))
    data = np.arange(4, dtype=np.float32).tobytes()
    content = old(b"\x80\x02" + place + b".", ["0"], struct.pack("<q", 4) + data)
    assert load(content).tolist() == [1, 2]
    outside = b"(" + text("v") + number(3) + number(2) + b"t"
    place = tensor(tuple_of(2), tuple_of(1), place=old_storage(4, view=outside))
    with pytest.raises(SerializationError, match="reaches beyond it"):
        load(old(b"\x80\x02" + place + b".", ["0"], struct.pack("<q", 4) + data))


def test_old_checkpoints_that_are_damaged() -> None:
    place = b"\x80\x02" + tensor(tuple_of(4), tuple_of(1), place=old_storage(4)) + b"."
    data = struct.pack("<q", 4) + bytes(16)
    assert load(old(place, ["0"], data)).tolist() == [0, 0, 0, 0]
    huge = b"\x80\x02" + old_storage(2**31 - 1) + b"."
    for content, message in (
        (old(place, [], data), "list of storages is damaged"),
        (old(place, 3, data), "list of storages is damaged"),
        (old(place, ["0", "1"], data), "nothing refers to its storage '1'"),
        (old(place, ["0"], struct.pack("<q", 5) + bytes(20)), "another size"),
        (old(place, ["0"], data[:-1]), "cut off"),
        (old(place, ["0"], data[:5]), "another size"),
        (old(huge, ["0"]), "larger than the file"),
        (pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(7, 2), "version 7 of the old"),
    ):
        with pytest.raises(SerializationError, match=message):
            load(content)
