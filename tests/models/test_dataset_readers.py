"""Datasets in files: arrays, IDX, folders of images, tables; through the DataLoader, too."""

from __future__ import annotations

import builtins
import gzip
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph.utils.data import DataLoader
from dualgraph_compiler.errors import ArgumentError
from dualgraph_models.datasets import (
    CsvDataset,
    CsvError,
    IdxDataset,
    IdxError,
    ImageFolder,
    NpyDataset,
    map_idx,
    open_image,
    read_idx,
)
from dualgraph_models.transforms import ToTensor
from tests.models.test_datasets import idx_bytes

# -- arrays ---------------------------------------------------------------------------------------


def test_arrays(tmp_path: Path) -> None:
    x, y = np.arange(24.0).reshape(6, 2, 2), np.arange(6)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    data = NpyDataset(tmp_path / "x.npy", tmp_path / "y.npy")
    assert len(data) == 6
    assert data[-1][0].tolist() == x[-1].tolist()
    assert isinstance(data._arrays[0], np.memmap)
    data[0][0][0] = 99  # a sample is a copy
    assert data[0][0].tolist() == x[0].tolist()
    assert [y.item() for _, y in data.__getitems__([4, 0, 2])] == [4, 0, 2]
    with pytest.raises(IndexError, match="out of range for 6 samples"):
        data[6]
    assert len(pickle.dumps(data)) < 1000
    for options in ({}, {"num_workers": 2, "multiprocessing_context": "spawn"}):
        batches = list(DataLoader(data, batch_size=4, **options))
        assert dg.cat([b[1] for b in batches]).tolist() == y.tolist()
        assert dg.cat([b[0] for b in batches]).tolist() == x.tolist()


def test_arrays_that_do_not_fit(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(3))
    np.save(tmp_path / "b.npy", np.ones(4))
    np.save(tmp_path / "0.npy", np.float32(1))
    np.save(tmp_path / "o.npy", np.array([None]), allow_pickle=True)
    (tmp_path / "t.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-1])
    (tmp_path / "e.npy").write_bytes(b"")
    for names, message in (
        ((), "got none"),
        (("a", "b"), r"one first dimension, got \[\(3,\), \(4,\)\]"),
        (("0",), "one first dimension"),
        (("o",), "no complete .npy file of numbers"),
        (("t",), "t.npy: no complete .npy file"),
        (("e",), "e.npy: no complete .npy file"),
    ):
        with pytest.raises(ArgumentError, match=message):
            NpyDataset(*(tmp_path / f"{name}.npy" for name in names))
    with pytest.raises(FileNotFoundError):
        NpyDataset(tmp_path / "nothing.npy")


# -- IDX ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_idx_pairs(packed: bool, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
    labels = np.arange(5, dtype=np.uint8)
    paths = []
    for name, array in (("images", images), ("labels", labels)):
        content = idx_bytes(array)
        paths.append(tmp_path / name)
        paths[-1].write_bytes(gzip.compress(content) if packed else content)
    data = IdxDataset(*paths, transform=ToTensor(), target_transform=lambda label: label + 10)
    assert len(data) == 5
    image, label = data[2]
    np.testing.assert_allclose(image.numpy()[0], images[2] / np.float32(255))
    assert label == 12
    assert isinstance(data._images, np.memmap) is not packed
    plain = IdxDataset(*paths)
    assert len(pickle.dumps(plain)) < 1000
    loader = DataLoader(plain, 5, num_workers=1)
    (batch,) = loader
    np.testing.assert_array_equal(batch[0].numpy(), images)
    assert batch[1].tolist() == labels.tolist()


@pytest.mark.parametrize("dtype", ["u1", "i1", ">i2", ">i4", ">f4", ">f8"])
@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 3)], ids=str)
def test_mapped_idx_is_read_idx(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    (tmp_path / "a").write_bytes(idx_bytes(np.asarray(array)))
    mapped = map_idx(tmp_path / "a")
    np.testing.assert_array_equal(mapped, read_idx(tmp_path / "a"))
    assert not mapped.flags.writeable or mapped.size == 0
    content = (tmp_path / "a").read_bytes()
    for damaged in (content[:-1], content + b"\0", content[:3]):
        (tmp_path / "b").write_bytes(damaged)
        with pytest.raises(IdxError):
            map_idx(tmp_path / "b")


def test_idx_pairs_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(idx_bytes(np.ones((3, 2), np.uint8)))
    (tmp_path / "b").write_bytes(idx_bytes(np.ones(4, np.uint8)))
    with pytest.raises(IdxError, match=r"labels of shape \(4,\) do not fit samples of shape"):
        IdxDataset(tmp_path / "a", tmp_path / "b")


# -- folders --------------------------------------------------------------------------------------


def make_folder(root: Path) -> dict[str, Any]:
    image = pytest.importorskip("PIL.Image")
    colours = {"cats/1.png": 10, "cats/deep/2.PNG": 20, "birds/x.bmp": 30, "birds/y.png": 40}
    for name, colour in colours.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image.new("RGB", (4, 3), (colour, 0, 0)).save(root / name)
    (root / "cats" / "notes.txt").write_text("no image")
    (root / "readme.txt").write_text("no class")
    return colours


def test_image_folder(tmp_path: Path) -> None:
    make_folder(tmp_path)
    data = ImageFolder(tmp_path, transform=ToTensor())
    assert data.classes == ["birds", "cats"]
    assert data.class_to_idx == {"birds": 0, "cats": 1}
    assert data.targets == [0, 0, 1, 1]
    assert data.imgs is data.samples
    assert [Path(path).name for path, _ in data.samples] == ["x.bmp", "y.png", "1.png", "2.PNG"]
    loader = DataLoader(data, batch_size=4, num_workers=1, multiprocessing_context="spawn")
    ((images, labels),) = loader
    assert tuple(images.shape) == (4, 3, 3, 4)
    assert (images[:, 0, 0, 0] * 255).round().tolist() == [30, 40, 10, 20]
    assert labels.tolist() == [0, 0, 1, 1]
    image, target = ImageFolder(tmp_path, target_transform=lambda t: -t)[3]
    assert (image.mode, image.size, target) == ("RGB", (4, 3), -1)
    names = ImageFolder(
        tmp_path, loader=lambda path: Path(path).name, is_valid_file=lambda p: p.endswith(".txt"),
        allow_empty=True,
    )  # fmt: skip
    assert list(names) == [("notes.txt", 1)]


def test_image_folders_that_lack_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="Couldn't find any class folder"):
        ImageFolder(tmp_path)
    make_folder(tmp_path)
    (tmp_path / "dogs").mkdir()
    with pytest.raises(FileNotFoundError, match="no valid file for the classes dogs"):
        ImageFolder(tmp_path)
    assert ImageFolder(tmp_path, allow_empty=True).classes == ["birds", "cats", "dogs"]
    (tmp_path / "cats" / "1.png").write_bytes(b"damaged")
    with pytest.raises(OSError, match="cannot identify image file"):
        open_image(str(tmp_path / "cats" / "1.png"))
    found = builtins.__import__

    def absent(name: str, *args: Any) -> Any:
        if name.partition(".")[0] == "PIL":
            raise ModuleNotFoundError("No module named 'PIL'", name="PIL")
        return found(name, *args)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ModuleNotFoundError, match="Pillow is needed to read image files; install"):
        ImageFolder(tmp_path, allow_empty=True)


# -- tables ---------------------------------------------------------------------------------------


def table(tmp_path: Path, text: str) -> Path:
    (tmp_path / "t.csv").write_bytes(text.encode())
    return tmp_path / "t.csv"


def test_tables_of_classes(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        '\ufefflength, width,kind\r\n1,2.5,"rose, red"\r\n\r\n-3e2,nan,lily\r\n4,5,"rose, red"\r\n',
    )
    data = CsvDataset(path)
    assert data.columns == ["length", "width"]
    assert data.classes == ["lily", "rose, red"]
    np.testing.assert_array_equal(data.features, np.float32([[1, 2.5], [-300, np.nan], [4, 5]]))
    assert (data.features.dtype, data.targets.dtype) == (np.float32, np.int64)
    x, y = next(iter(DataLoader(data, batch_size=3)))
    assert y.tolist() == [1, 0, 1]
    assert (x.dtype, tuple(x.shape)) == (dg.float32, (3, 2))
    twice = CsvDataset(path, transform=lambda row: row * 2, target_transform=int)
    assert twice[0][0].tolist() == [2, 5]
    assert twice[0][1] == 1


def test_tables_of_numbers(tmp_path: Path) -> None:
    path = table(tmp_path, "a;b;c;name\n1;2;3;x\n4;5;6;y\n")
    data = CsvDataset(path, target="b", features=["c", "a"], delimiter=";")
    assert data.features.tolist() == [[3, 1], [6, 4]]
    assert (data.targets.tolist(), data.targets.dtype, data.classes) == ([2, 5], np.float32, [])


@pytest.mark.parametrize(
    ("text", "options", "kind", "message"),
    [
        ("", {}, CsvError, "the names of the columns, got nothing"),
        ("a,b\n1,2\n3\n", {}, CsvError, "t.csv:3: expected 2 columns, got 1"),
        ("a,b\n1,2\nx,2\n", {}, CsvError, "t.csv:3: expected a number in column 'a', got 'x'"),
        ('a,b\n1,"2\n', {}, CsvError, "t.csv:2: .*end of data"),
        ("a,b\n1,2\n", {"target": "z"}, ArgumentError, "no column 'z', only a, b"),
        ("a,b\n1,2\n", {"features": ["y"]}, ArgumentError, "no column 'y'"),
    ],
)
def test_tables_that_are_damaged(
    text: str, options: dict[str, Any], kind: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=message):
        CsvDataset(table(tmp_path, text), **options)


def test_tables_in_other_encodings(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("a,b\n1,\xe4\n".encode("latin1"))
    with pytest.raises(CsvError, match="t.csv:.*utf-8"):
        CsvDataset(tmp_path / "t.csv")
