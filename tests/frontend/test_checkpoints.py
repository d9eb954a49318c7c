"""PyTorch's checkpoint formats: both ways to PyTorch and back, and what loading lets through."""

from __future__ import annotations

import collections
import copy
import io
import os
import pickle
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dualgraph as dg
from dualgraph import nn, optim, serialization
from dualgraph.serialization import (
    UntypedStorage,
    add_safe_globals,
    clear_safe_globals,
    get_safe_globals,
    get_unsafe_globals_in_checkpoint,
    safe_globals,
)
from dualgraph.serialization._names import DTYPES
from dualgraph_compiler.errors import (
    ArgumentError,
    DeviceError,
    RefusedPickle,
    SerializationError,
)
from dualgraph_runtime.device import Device

FORMATS = pytest.mark.parametrize("new", [True, False], ids=["archive", "old"])


def stored(obj: Any, new: bool = True, save: Any = dg.save) -> io.BytesIO:
    buffer = io.BytesIO()
    save(obj, buffer, _use_new_zipfile_serialization=new)
    buffer.seek(0)
    return buffer


def again(obj: Any, new: bool = True) -> Any:
    return dg.load(stored(obj, new))


def plain(value: Any) -> Any:
    """Tensors of ours and of PyTorch as what they have in common, containers as they are."""
    if hasattr(value, "tolist") and hasattr(value, "requires_grad"):
        kind = type(value).__name__
        dtype = str(value.dtype).split(".")[-1]
        numbers = value.detach()
        if dtype.startswith("float8"):
            numbers = numbers.float()
        return kind, dtype, value.requires_grad, tuple(value.shape), str(numbers.tolist())
    if isinstance(value, dict):
        kind = "OrderedDict" if isinstance(value, collections.OrderedDict) else type(value).__name__
        return kind, {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value).__name__, [plain(item) for item in value]
    if type(value).__name__ in ("dtype", "DType"):
        return str(value).split(".")[-1]
    if type(value).__name__.lower() == "device":
        return str(value)
    return type(value).__name__, value


def make_state(lib: Any) -> dict[str, Any]:
    """Everything a checkpoint may hold, made by PyTorch or by us."""
    base = lib.arange(12.0).reshape(3, 4)
    parameter = lib.nn.Parameter(lib.ones(2, 3))
    return {
        "contiguous": base,
        "transposed": base.T,
        "strided": base[1:, ::2],
        "expanded": lib.ones(1, 3).expand(4, 3),
        "empty": lib.zeros(0, 5),
        "0-d": lib.tensor(2.5, dtype=lib.float64),
        "parameter": parameter,
        "the same": parameter,
        "frozen": lib.nn.Parameter(lib.zeros(1), requires_grad=False),
        "leaf": lib.ones(2, requires_grad=True),
        "size": base.shape,
        "dtype": lib.bfloat16,
        "device": lib.device("cuda", 1),
        "cpu": lib.device("cpu"),
        "numbers": [0, 1, -1, 255, 256, 65536, -(2**31), 2**40, -(2**70), 1.5, float("inf"), 2j],
        "others": (
            None,
            True,
            False,
            "text",
            "äöü",
            b"bytes\xff",
            bytearray(b"ab"),
            "",
            bytearray(),
        ),
        "sets": [{1, "a"}, set()],
        "ordered": collections.OrderedDict(z=1, a=2),
        "counter": collections.Counter("aab"),
        "nested": {1: {"x": [(lib.ones(2), [])]}, (1, 2): 3, None: 4},
        "model": lib.nn.BatchNorm1d(3).state_dict(),
    }


@FORMATS
def test_state_from_pytorch(new: bool) -> None:
    torch = pytest.importorskip("torch")
    loaded = dg.load(stored(make_state(torch), new, torch.save))
    assert plain(loaded) == plain(make_state(torch))
    check_sharing(loaded)


@FORMATS
def test_state_to_pytorch(new: bool) -> None:
    torch = pytest.importorskip("torch")
    loaded = torch.load(stored(make_state(dg), new))
    assert plain(loaded) == plain(make_state(torch))
    base, view = loaded["contiguous"], loaded["strided"]
    assert base.untyped_storage().data_ptr() == view.untyped_storage().data_ptr()
    assert view.stride() == (4, 2)
    assert loaded["expanded"].stride() == (0, 1)
    assert loaded["parameter"] is loaded["the same"]
    assert loaded["model"]._metadata == make_state(torch)["model"]._metadata


@FORMATS
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_state_round_trip(new: bool, protocol: int) -> None:
    buffer = io.BytesIO()
    dg.save(make_state(dg), buffer, pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    buffer.seek(0)
    loaded = dg.load(buffer)
    assert plain(loaded) == plain(make_state(dg))
    check_sharing(loaded)


def check_sharing(loaded: dict[str, Any]) -> None:
    assert loaded["parameter"] is loaded["the same"]
    loaded["strided"].fill_(-1.0)
    assert loaded["contiguous"].tolist()[1] == [-1, 5, -1, 7]
    assert loaded["transposed"].tolist()[0] == [0, -1, -1]
    assert loaded["contiguous"]._version == loaded["strided"]._version == 1
    assert loaded["model"]._metadata == {"": {"version": 2}}


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 2)], ids=str)
def test_every_dtype_both_ways(name: str, shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).integers(1, 3, shape).tolist()
    theirs = torch.tensor(values, dtype=torch.float32).to(getattr(torch, name))
    ours = dg.tensor(values, dtype=dg.float32).to(getattr(dg, name))
    assert plain(dg.load(stored(theirs, save=torch.save))) == plain(ours)
    assert plain(torch.load(stored(ours))) == plain(theirs)


def test_dtypes_that_pytorch_has_not() -> None:
    with pytest.raises(SerializationError, match="a tensor is float4_e2m1fn.*convert it first"):
        dg.save({"x": dg.ones(2).to(dg.float4_e2m1fn)}, io.BytesIO())
    with pytest.raises(SerializationError, match="is uint16, which the old format does not hold"):
        stored(dg.ones(2, dtype=dg.uint16), new=False)


@FORMATS
def test_conjugated_and_negated_views(new: bool) -> None:
    torch = pytest.importorskip("torch")
    source = torch.tensor([1 + 2j, 3 - 1j])
    views = {"conj": source.conj(), "imag": source.clone().conj().imag, "source": source}
    loaded = dg.load(stored(views, new, torch.save))
    assert {name: plain(value) for name, value in loaded.items()} == {
        name: plain(value.resolve_conj().resolve_neg()) for name, value in views.items()
    }


class Tagged(dg.Tensor):
    """A subclass of the user's."""


@FORMATS
def test_attributes_and_subclasses(new: bool) -> None:
    tensor = dg.ones(2)
    tensor.note = "kept"
    parameter = nn.Parameter(dg.ones(2))
    parameter.decay = False
    loaded = again([tensor, parameter], new)
    assert (loaded[0].note, loaded[1].decay) == ("kept", False)
    if new:
        torch = pytest.importorskip("torch")
        theirs = torch.load(stored([tensor, parameter]))
        assert (theirs[0].note, theirs[1].decay) == ("kept", False)
        assert dg.load(stored(theirs, save=torch.save))[1].decay is False
    tagged = dg.ones(2)
    tagged.__class__ = Tagged
    file = stored(tagged, new)
    with pytest.raises(RefusedPickle, match="Tagged"):
        dg.load(file)
    with safe_globals([Tagged]):
        file.seek(0)
        assert type(dg.load(file)) is Tagged


def test_models_and_optimizers_round_trip(tmp_path: Path) -> None:
    def make() -> Any:
        model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
        optimizer = optim.AdamW(
            [
                {"params": model[0].parameters(), "lr": 0.1},
                {"params": model[2].parameters(), "betas": (0.5, 0.9)},
            ]
        )
        return model, optimizer, optim.lr_scheduler.StepLR(optimizer, 2)

    def train(model: Any, optimizer: Any, scheduler: Any, steps: int) -> list[float]:
        losses = []
        for _ in range(steps):
            optimizer.zero_grad()
            loss = (model(dg.ones(5, 3)) - 3).square().mean()
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
        return losses

    first = make()
    train(*first, 3)
    dg.save([part.state_dict() for part in first], tmp_path / "state.pt")
    second = make()
    for part, state in zip(second, dg.load(tmp_path / "state.pt")):
        part.load_state_dict(state)
    assert train(*second, 5) == train(*first, 5)


def test_optimizer_state_is_exchanged_with_pytorch() -> None:
    torch = pytest.importorskip("torch")
    weights = {"weight": [[1.0, 2.0]], "bias": [0.5]}

    def make(lib: Any) -> Any:
        model = lib.nn.Linear(2, 1)
        model.load_state_dict({name: lib.tensor(value) for name, value in weights.items()})
        return model, lib.optim.Adam(model.parameters(), lr=0.1)

    def step(lib: Any, model: Any, optimizer: Any) -> float:
        optimizer.zero_grad()
        loss = model(lib.tensor([[1.0, 3.0]])).square().sum()
        loss.backward()
        optimizer.step()
        return float(loss.item())

    ours, theirs = make(dg), make(torch)
    assert step(dg, *ours) == pytest.approx(step(torch, *theirs))
    for source, target, save, load in (
        (theirs, ours, torch.save, dg.load),
        (ours, theirs, dg.save, torch.load),
    ):
        states = load(stored([part.state_dict() for part in source], save=save))
        for part, state in zip(target, states):
            part.load_state_dict(state)
        for _ in range(3):
            assert step(dg, *ours) == pytest.approx(step(torch, *theirs), rel=1e-5)


# -- memory ---------------------------------------------------------------------------------------


def test_tied_weights_stay_tied() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    state = again(model.state_dict())
    state["0.weight"].zero_()
    assert state["1.weight"].tolist() == dg.zeros(4, 4).tolist()
    twins = again([*model.parameters(), model[1].weight])
    assert twins[0] is twins[3]


def test_only_what_is_used_of_memory_is_saved() -> None:
    large = dg.zeros(1_000_000)
    assert stored(large[10:13]).getbuffer().nbytes < 2000
    # Two parts that overlap share; a third one far away does not bring what is between.
    parts = again([large[0:6], large[4:8], large[999_000:]])
    parts[0].fill_(5.0)
    assert parts[1].tolist() == [5, 5, 0, 0]
    assert stored([large[0:6], large[4:8], large[999_900:]]).getbuffer().nbytes < 3000


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4)[::-1],
        np.arange(12.0).reshape(3, 4)[:, ::-2],
        np.arange(24, dtype=np.uint8).view(np.dtype([("a", "u1"), ("b", "<i2")]))["b"],
        np.lib.stride_tricks.as_strided(np.arange(4.0), (2, 3), (8, 8)),
        np.broadcast_to(np.float32(3), (2, 2)),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.frombuffer(b"12345678", np.int32),
    ],
    ids=["reversed", "backwards", "unaligned", "overlapping", "broadcast", "fortran", "bytes"],
)
def test_memory_of_any_layout(array: Any) -> None:
    with np.errstate(all="ignore"):
        tensor = dg.from_numpy(array) if array.flags.writeable else dg.tensor(array)
    assert again(tensor).tolist() == array.tolist()


def test_views_of_other_dtypes_are_kept_apart() -> None:
    floats = dg.ones(4)
    loaded = again([floats, floats.view(dg.int32)])
    assert loaded[0].tolist() == [1.0] * 4
    assert loaded[1].tolist() == [0x3F800000] * 4


def test_loaded_tensors_can_be_written_to_and_trained(tmp_path: Path) -> None:
    dg.save(nn.Linear(2, 2), tmp_path / "a.pt")
    dg.save({"w": nn.Parameter(dg.ones(2))}, tmp_path / "b.pt")
    for mmap in (False, True):
        weight = dg.load(tmp_path / "b.pt", mmap=mmap)["w"]
        (weight * 3).sum().backward()
        assert weight.grad.tolist() == [3, 3]
        with dg.no_grad():
            weight.mul_(7.0)
        assert weight.tolist() == [7, 7]
    assert dg.load(tmp_path / "b.pt")["w"].tolist() == [1, 1]


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_mapped_files(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    dg.save({"x": dg.arange(5.0), "y": dg.ones(3, dtype=dg.bfloat16), "e": dg.zeros(0)}, path)
    state = dg.load(path, mmap=True)
    assert plain(state) == plain(dg.load(path))
    memory = state["x"]._data
    while memory.base is not None and not isinstance(memory, np.memmap):
        memory = memory.base
    assert not memory.flags.owndata
    state["x"][0] = 9.0
    assert dg.load(path)["x"][0].item() == 0
    os.replace(path, tmp_path / "moved")
    assert state["x"].tolist() == [9, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="f must be a file path"):
        dg.load(io.BytesIO((tmp_path / "moved").read_bytes()), mmap=True)


def test_mapping_what_pytorch_wrote(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save(make_state(torch), tmp_path / "a.pt")
    assert plain(dg.load(tmp_path / "a.pt", mmap=True)) == plain(make_state(torch))
    torch.save(make_state(torch), tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(SerializationError, match="mmap can only be used with files of the new"):
        dg.load(tmp_path / "b.pt", mmap=True)


def test_storages_are_aligned_in_files(tmp_path: Path) -> None:
    dg.save({f"x{n}": dg.ones(n) for n in range(1, 9)}, tmp_path / "some longer name.pt")
    content = (tmp_path / "some longer name.pt").read_bytes()
    for entry in zipfile.ZipFile(tmp_path / "some longer name.pt").infolist():
        start = content.index(b"PK\x03\x04", entry.header_offset) + 30
        start += len(entry.filename) + int.from_bytes(content[start - 2 : start], "little")
        assert start % 64 == 0, entry.filename
    # Equal objects give equal files.
    dg.save({f"x{n}": dg.ones(n) for n in range(1, 9)}, tmp_path / "some longer name.pt")
    assert (tmp_path / "some longer name.pt").read_bytes() == content


def rewritten(buffer: io.BytesIO, change: Callable[[str, bytes], bytes | None]) -> io.BytesIO:
    """The archive with other members: `change` of a name and content gives the new one."""
    out = io.BytesIO()
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = change(name.split("/", 1)[1], old.read(name))
            if content is not None:
                new.writestr(name, content)
    out.seek(0)
    return out


def test_bytes_in_the_other_order() -> None:
    state = {
        "f": dg.arange(3.0),
        "i": dg.arange(3, dtype=dg.int16),
        "c": dg.tensor([1 + 2j]),
        "b": dg.tensor([True, False]),
    }
    sizes = {"data/0": 4, "data/1": 2, "data/2": 4, "data/3": 1}
    other = {"little": b"big", "big": b"little"}[sys.byteorder]

    def swap(name: str, content: bytes) -> bytes:
        size = sizes.get(name)
        if size is None:
            return other if name == "byteorder" else content
        return np.frombuffer(content, f"V{size}").view(f"u{size}").byteswap().tobytes()

    assert plain(dg.load(rewritten(stored(state), swap))) == plain(state)
    with pytest.raises(SerializationError, match="order of bytes is b'middle'"):
        dg.load(rewritten(stored(state), lambda n, c: b"middle" if n == "byteorder" else c))
    wide = dg.ones(2, dtype=dg.uint16)
    with pytest.raises(SerializationError, match="another byte order"):
        dg.load(rewritten(stored(wide), swap))
    narrow = dg.ones(2).to(dg.float8_e5m2)
    assert plain(dg.load(rewritten(stored(narrow), lambda n, c: other if n == "byteorder" else c)))


def test_archives_without_an_order_or_checksums() -> None:
    torch = pytest.importorskip("torch")
    old = rewritten(stored(dg.arange(3)), lambda n, c: None if n == "byteorder" else c)
    assert dg.load(old).tolist() == [0, 1, 2]
    torch.serialization.set_crc32_options(False)
    try:
        file = stored(torch.arange(3), save=torch.save)
    finally:
        torch.serialization.set_crc32_options(True)
    assert dg.load(file).tolist() == [0, 1, 2]


# -- where to -------------------------------------------------------------------------------------


def on_gpu(state: Any) -> io.BytesIO:
    """A file that says that its tensors were saved from the second GPU."""

    def change(name: str, content: bytes) -> bytes:
        return content.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:1")

    return rewritten(stored(state), change)


def test_map_location() -> None:
    state = {"a": dg.ones(2), "b": [dg.zeros(3)]}
    seen: list[Any] = []

    def choose(storage: UntypedStorage, location: str) -> UntypedStorage | None:
        seen.append((storage.nbytes(), location))
        return storage

    for place in ("cpu", b"cpu", Device("cpu"), {"cuda:1": "cpu"}, choose):
        assert plain(dg.load(on_gpu(state), map_location=place)) == plain(state)
    assert seen == [(8, "cuda:1"), (12, "cuda:1")]
    assert plain(dg.load(stored(state), map_location=lambda storage, location: None)) == plain(
        state
    )


def test_map_location_errors() -> None:
    file = on_gpu(dg.ones(2))
    if not Device("cuda:1").is_available():
        for place in (None, {"cpu": "cpu"}, lambda storage, location: None, "cuda"):
            file.seek(0)
            with pytest.raises(DeviceError, match="Attempting to deserialize object on a CUDA dev"):
                dg.load(file, map_location=place)
        file.seek(0)
        with pytest.raises(DeviceError, match="cuda was asked for"):
            dg.load(file, map_location=lambda storage, location: storage.cuda())
    for place, kind, message in (
        ({"cuda:1": "mps"}, SerializationError, r"tagged with 'mps'.*map_location='cpu'"),
        (3, TypeError, "map_location should be a device"),
        (lambda storage, location: "cpu", TypeError, "should return a storage or None, got str"),
        (lambda storage, location: 1 / 0, ZeroDivisionError, "division"),
    ):
        file.seek(0)
        with pytest.raises(kind, match=message):
            dg.load(file, map_location=place)


# -- what may be loaded ---------------------------------------------------------------------------


class Config:
    """A class of the user's."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and other.rate == self.rate


class Slotted:
    __slots__ = ("value",)


class Stateful(dict[str, int]):
    def __setstate__(self, state: Any) -> None:
        self.seen = state


class Runs:
    """Unpickling this runs a program."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.fixture(autouse=True)
def _trust_nothing() -> Any:
    yield
    clear_safe_globals()


@FORMATS
def test_code_is_refused_and_not_run(new: bool, tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    file = stored({"x": dg.ones(2), "y": Runs(evil)}, new)
    with pytest.raises(RefusedPickle, match=r"Unsupported global: GLOBAL \w+.mkdir") as caught:
        dg.load(file)
    assert isinstance(caught.value, pickle.UnpicklingError)
    assert not evil.exists()
    file.seek(0)
    dg.load(file, weights_only=False)
    assert evil.exists()


def test_pickles_of_python_are_refused_unread(tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    with pytest.raises(RefusedPickle, match="Unsupported global"):
        dg.load(io.BytesIO(pickle.dumps(Runs(evil), protocol=2)))
    with pytest.raises(SerializationError, match="none that torch.save wrote"):
        dg.load(io.BytesIO(pickle.dumps({"a": 1})), weights_only=False)
    assert not evil.exists()


def test_safe_globals() -> None:
    file = stored([Config(0.5)])
    name = f"{Config.__module__}.Config"
    assert get_unsafe_globals_in_checkpoint(file) == [name]
    file.seek(0)
    with pytest.raises(RefusedPickle, match=r"GLOBAL .*Config was not an allowed .*add_safe_glob"):
        dg.load(file)
    with safe_globals([Config]):
        file.seek(0)
        assert dg.load(file) == [Config(0.5)]
        file.seek(0)
        assert get_unsafe_globals_in_checkpoint(file) == []
    assert get_safe_globals() == []
    add_safe_globals([(dict, name)])
    file.seek(0)
    with pytest.raises(SerializationError, match="no attribute '__dict__'"):
        dg.load(file)
    clear_safe_globals()
    add_safe_globals([Config, Slotted, Stateful])
    slotted, stateful = Slotted(), Stateful(a=1)
    slotted.value = 3
    stateful.seen = 5
    loaded = again([Config(1.0), slotted, stateful])
    assert (loaded[0], loaded[1].value, loaded[2]) == (Config(1.0), 3, {"a": 1})
    assert loaded[2].seen == {"seen": 5}
    for wrong in ((Config,), (Config, 3)):
        clear_safe_globals()
        add_safe_globals([wrong])
        with pytest.raises((ValueError, TypeError), match="Expected"):
            again(1)


def test_numpy_scalars_must_be_allowed_as_in_pytorch() -> None:
    best = np.float64(0.25)
    with pytest.raises(RefusedPickle, match="numpy"):
        again(best)
    scalar = type(best).__reduce__(best)[0]
    with safe_globals([scalar, np.dtype, type(np.dtype(np.float64))]):
        assert again(best) == 0.25
    assert dg.load(stored(best), weights_only=False) == 0.25


@FORMATS
def test_whole_objects(new: bool) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    file = stored([model, Config(2.0)], new)
    loaded, config = dg.load(file, weights_only=False)
    assert config == Config(2.0)
    x = dg.ones(3, 2)
    assert loaded.eval()(x).tolist() == model.eval()(x).tolist()
    assert all(isinstance(p, nn.Parameter) for p in loaded.parameters())
    tensor = dg.ones(2)
    tensor.note = Config(1.0)
    assert dg.load(stored(tensor, new), weights_only=False).note == Config(1.0)


def test_whole_objects_of_pytorch_are_named() -> None:
    torch = pytest.importorskip("torch")
    file = stored(torch.nn.Linear(2, 2), save=torch.save)
    for data_only in (True, False):
        file.seek(0)
        with pytest.raises(SerializationError, match=r"torch\.nn\.modules\.linear\.Linear"):
            dg.load(file, weights_only=data_only)
    for state, what in (
        ({"x": torch.ones(2).to_sparse()}, "a tensor of layout torch.sparse_coo"),
        ({"x": torch.ones(2, device="meta")}, "a tensor without data"),
    ):
        with pytest.raises(SerializationError, match=what):
            dg.load(stored(state, save=torch.save))


def test_options_of_pickles() -> None:
    file = stored({"x": 1})
    with pytest.raises(RuntimeError, match="Can not safely load weights when explicit pickle_mod"):
        dg.load(file, pickle_module=pickle, weights_only=True)
    assert dg.load(file, pickle_module=pickle) == {"x": 1}
    file.seek(0)
    with pytest.warns(UserWarning, match="pickle_load_args only works if"):
        dg.load(file, fix_imports=True)
    with pytest.raises(ArgumentError, match="pickle_module can be Python's"):
        dg.save(1, io.BytesIO(), pickle_module=copy)
    with pytest.raises(ArgumentError, match="pickle_protocol should be 2 to 5, got 1"):
        dg.save(1, io.BytesIO(), pickle_protocol=1)


def test_things_that_cannot_be_saved(tmp_path: Path) -> None:
    for value in (lambda: 0, {"a": (i for i in range(2))}):
        with pytest.raises(SerializationError, match="cannot be pickled: .*(lambda|generator)"):
            dg.save(value, tmp_path / "a.pt")
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(SerializationError, match="nested too deeply"):
        dg.save(nested, tmp_path / "a.pt")
    with pytest.raises(AttributeError, match="a file-like object with a 'write'"):
        dg.save(1, 3)
    with pytest.raises(AttributeError, match="file that is seekable"):
        dg.load(3)
    assert os.listdir(tmp_path) == []


def test_no_bytes_at_all() -> None:
    torch = pytest.importorskip("torch")
    assert torch.load(stored([b"", b""])) == [b"", b""]
    assert dg.load(stored([b""], save=torch.save)) == [b""]


def test_lists_that_hold_themselves() -> None:
    loop: list[Any] = [dg.ones(1)]
    loop.append(loop)
    loaded = again(loop)
    assert loaded[1] is loaded
    assert loaded[0].tolist() == [1]


keys = st.text(max_size=4) | st.integers() | st.none() | st.booleans() | st.binary(max_size=3)
leaves = (
    keys
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.sampled_from(list(DTYPES.values()))
    | st.sets(keys, max_size=3)
    | st.lists(st.floats(width=32, allow_nan=False), max_size=4).map(dg.tensor)
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys | st.tuples(keys, keys), inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3).map(collections.OrderedDict)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(tree=trees, new=st.booleans(), protocol=st.integers(2, 5))
def test_any_tree(tree: Any, new: bool, protocol: int) -> None:
    buffer = io.BytesIO()
    dg.save(tree, buffer, pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    buffer.seek(0)
    assert plain(dg.load(buffer)) == plain(tree)


# -- files ----------------------------------------------------------------------------------------


def test_files_of_every_kind(tmp_path: Path) -> None:
    state = {"x": dg.arange(3)}
    for target in (tmp_path / "a.pt", str(tmp_path / "b"), tmp_path / "c.pth"):
        dg.save(state, target)
        assert plain(dg.load(target)) == plain(state)
    with open(tmp_path / "d", "wb") as file:
        dg.save(state, file)
    with open(tmp_path / "d", "rb") as file:
        assert plain(dg.load(file)) == plain(state)
    with open(tmp_path / "e", "wb") as file:  # the old format can stand in a row
        dg.save(1, file, _use_new_zipfile_serialization=False)
        dg.save(state, file, _use_new_zipfile_serialization=False)
    with open(tmp_path / "e", "rb") as file:
        assert dg.load(file) == 1
        assert plain(dg.load(file)) == plain(state)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        dg.save(state, process.stdin)
        process.stdin.close()
        assert plain(dg.load(io.BytesIO(process.stdout.read()))) == plain(state)
    assert zipfile.ZipFile(tmp_path / "a.pt").namelist()[0] == "a/data.pkl"


class Plain:
    """A file that can do no more than it must."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)
        self.read, self.seek, self.tell = self._file.read, self._file.seek, self._file.tell
        self.readline = self._file.readline


@FORMATS
def test_files_without_readinto(new: bool) -> None:
    content = stored({"x": dg.arange(3)}, new).getvalue()
    assert dg.load(Plain(content))["x"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_a_crash_while_saving_leaves_the_old_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    dg.save({"x": dg.ones(3)}, path)
    script = f"""
import os, dualgraph as dg
from dualgraph.serialization import _atomic
_atomic.os.replace = lambda *a: os._exit(9)
dg.save({{"x": dg.zeros(100000)}}, {str(path)!r})
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=False)
    assert done.returncode == 9
    assert dg.load(path)["x"].tolist() == [1, 1, 1]


def test_a_failed_save_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise OSError("disk full")

    dg.save(1, tmp_path / "a.pt")
    monkeypatch.setattr(serialization._archive.zipfile.ZipFile, "writestr", fail)
    with pytest.raises(OSError, match="disk full"):
        dg.save(2, tmp_path / "a.pt")
    assert os.listdir(tmp_path) == ["a.pt"]
    assert dg.load(tmp_path / "a.pt") == 1


@pytest.mark.skipif(os.name != "posix", reason="has no such files")
def test_devices_are_written_to_not_replaced() -> None:
    dg.save(1, os.devnull)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_loading_imports_neither_pytorch_nor_anything_else(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save(make_state(torch), tmp_path / "a.pt")
    script = f"""
import sys, dualgraph as dg
dg.nn, dg.serialization
before = set(sys.modules)
dg.load({str(tmp_path / "a.pt")!r})
print(sorted(name for name in set(sys.modules) - before if not name.startswith("encodings")))
assert "torch" not in sys.modules
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    out = subprocess.run(
        [sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True
    )
    assert out.stdout.strip() == "[]"
