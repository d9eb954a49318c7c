"""The digits that come with the package, and the reader of IDX files."""

from __future__ import annotations

import difflib
import gzip
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dualgraph_models.datasets import (
    IdxError,
    digits_split,
    load_digits,
    load_mnist,
    read_idx,
)
from dualgraph_models.datasets.digits import FORM_STARTS
from dualgraph_models.datasets.idx import DTYPES

CODES = {dtype: code for code, dtype in DTYPES.items()}


def idx_bytes(array: npt.NDArray[np.generic]) -> bytes:
    big = array.astype(array.dtype.newbyteorder(">"))
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, CODES[big.dtype], array.ndim, *array.shape)
    return header + big.tobytes()


# ------------------------------------------------------------------------------------- digits


def test_digits_are_complete() -> None:
    images, labels = load_digits()
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0.0, 1.0)
    assert labels.dtype == np.int64
    # Class sizes of optdigits.tes as its documentation lists them.
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_first_digit_is_the_known_zero() -> None:
    images, labels = load_digits()
    assert labels[0] == 0
    assert (images[0, 0, 0] * 16).tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
    assert (images[0, 0, 7] * 16).tolist() == [0, 0, 6, 13, 10, 0, 0, 0]


def test_forms_begin_where_the_labels_start_over() -> None:
    _, labels = load_digits()
    whole = labels[:130].tolist()
    assert labels[FORM_STARTS[-1] :].tolist() == whole
    for start, end in zip(FORM_STARTS, [*FORM_STARTS[1:], 1797], strict=True):
        form = labels[start:end].tolist()
        assert difflib.SequenceMatcher(None, whole, form, autojunk=False).ratio() > 0.96


def test_default_split_holds_out_the_last_three_forms() -> None:
    images, labels = load_digits()
    split = digits_split()
    assert (len(split.train_labels), len(split.test_labels)) == (1415, 382)
    np.testing.assert_array_equal(split.train_images, images[:1415])
    np.testing.assert_array_equal(split.test_images, images[1415:])
    np.testing.assert_array_equal(split.test_labels, labels[1415:])


def test_seeded_split_is_stratified_and_repeatable() -> None:
    split, again, other = digits_split(seed=3), digits_split(seed=3), digits_split(seed=4)
    assert (len(split.train_labels), len(split.test_labels)) == (1438, 359)
    share = np.bincount(split.test_labels) / np.bincount(load_digits()[1])
    assert np.all(np.abs(share - 0.2) < 0.005)
    np.testing.assert_array_equal(split.test_images, again.test_images)
    assert not np.array_equal(split.test_images, other.test_images)


# ---------------------------------------------------------------------------------------- IDX


@given(
    dtype=st.sampled_from([dtype.newbyteorder("=") for dtype in DTYPES.values()]),
    shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    compressed=st.booleans(),
    data=st.data(),
)
def test_every_type_round_trips(
    tmp_path_factory: pytest.TempPathFactory,
    dtype: np.dtype[np.generic],
    shape: tuple[int, ...],
    compressed: bool,
    data: st.DataObject,
) -> None:
    array = data.draw(hnp.arrays(dtype, shape))
    encoded = idx_bytes(array)
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(gzip.compress(encoded) if compressed else encoded)
    read = read_idx(path)
    assert read.dtype == dtype
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, array)


COMPLETE = idx_bytes(np.arange(12, dtype=np.int32).reshape(3, 4))


@pytest.mark.parametrize("length", range(len(COMPLETE)))
@pytest.mark.parametrize("compressed", [False, True])
def test_every_truncation_is_refused(tmp_path: Path, length: int, compressed: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(COMPLETE[:length]) if compressed else COMPLETE[:length])
    with pytest.raises(IdxError, match="truncated|not an IDX file"):
        read_idx(path)


def test_truncated_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    packed = gzip.compress(COMPLETE)
    for length in range(2, len(packed)):
        path.write_bytes(packed[:length])
        with pytest.raises(IdxError, match="truncated|not an IDX file"):
            read_idx(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"PK\3\4 something", "not an IDX file: it starts with 50 4b 03 04", id="zip"),
        pytest.param(b"\0\0\x0a\1\0\0\0\0", "not an IDX file", id="unknown type"),
        pytest.param(b"\0\0\x08\xff" + b"\0" * 2000, "255 dimensions", id="rank"),
        pytest.param(b"\0\0\x0e\4" + b"\xff" * 16, "exceeds 1,073,741,824 bytes", id="huge"),
        pytest.param(b"\0\0\x08\3" + b"\0" * 4 + b"\xff" * 8, "exceeds", id="huge beside a zero"),
        pytest.param(b"\0\0\x08\1\x3f\xff\xff\xff abc", "the file holds 4", id="claims 1 GiB"),
        pytest.param(COMPLETE + b"!", "more data than its shape", id="trailing"),
        pytest.param(b"\x1f\x8b\x08garbage...", "gzip", id="damaged gzip"),
    ],
)
def test_malformed_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(IdxError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_a_gzip_bomb_stays_within_the_shape_it_claims(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\1\0\0\0\4" + bytes(50_000_000)))
    with pytest.raises(IdxError, match="more data"):
        read_idx(path)


def test_max_bytes_is_respected(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(COMPLETE)
    assert read_idx(path, max_bytes=48).shape == (3, 4)
    with pytest.raises(IdxError, match="exceeds 47 bytes"):
        read_idx(path, max_bytes=47)


# -------------------------------------------------------------------------------------- MNIST


def write_mnist(folder: Path, *, mark: str = "-", compressed: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for name, count in (("train", 7), ("t10k", 3)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        images[0, 0, 0] = 255
        labels = np.arange(count, dtype=np.uint8)
        for kind, array in ((f"images{mark}idx3", images), (f"labels{mark}idx1", labels)):
            content = idx_bytes(array)
            path = folder / f"{name}-{kind}-ubyte{'.gz' if compressed else ''}"
            path.write_bytes(gzip.compress(content) if compressed else content)


@pytest.mark.parametrize("place", [".", "raw", "MNIST/raw"])
@pytest.mark.parametrize(("mark", "compressed"), [("-", False), ("-", True), (".", False)])
def test_load_mnist(tmp_path: Path, place: str, mark: str, compressed: bool) -> None:
    write_mnist(tmp_path / place, mark=mark, compressed=compressed)
    mnist = load_mnist(tmp_path)
    assert mnist.train_images.shape == (7, 1, 28, 28)
    assert mnist.test_images.shape == (3, 1, 28, 28)
    assert mnist.train_images.dtype == np.float32
    assert mnist.train_images.max() == 1.0
    assert mnist.test_labels.dtype == np.int64
    assert mnist.test_labels.tolist() == [0, 1, 2]


def test_missing_file_is_named(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="t10k-labels-idx1-ubyte"):
        load_mnist(tmp_path)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("train-images-idx3-ubyte", np.zeros((7, 784), np.uint8), "not uint8 of rank 2"),
        ("train-images-idx3-ubyte", np.zeros((7, 28, 28), np.float32), "not float32 of rank 3"),
        ("train-labels-idx1-ubyte", np.zeros((7, 1), np.uint8), "labels are uint8 of rank 1"),
        ("train-labels-idx1-ubyte", np.zeros(6, np.uint8), "7 images, but 6 labels"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    tmp_path: Path, name: str, array: npt.NDArray[np.generic], message: str
) -> None:
    write_mnist(tmp_path)
    (tmp_path / name).write_bytes(idx_bytes(array))
    with pytest.raises(IdxError, match=message):
        load_mnist(tmp_path)
