"""The printed form of tensors, character by character against PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualgraph._repr import format_tensor, get_printoptions, printoptions, set_printoptions

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def _default_options() -> Iterator[None]:
    yield
    set_printoptions(profile="default")
    torch.set_printoptions(profile="default")


def ours(array: np.ndarray, **facts: Any) -> str:
    name = "bfloat16" if array.dtype == ml_dtypes.bfloat16 else array.dtype.name
    settled = {
        "dtype_name": name,
        "default_dtype": name in ("float32", "complex64"),
        "device": "cpu",
        "requires_grad": False,
        "grad_fn": None,
    }
    return format_tensor(array, **(settled | facts))


def theirs(array: np.ndarray) -> str:
    if array.dtype == ml_dtypes.bfloat16:
        tensor = torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    else:
        tensor = torch.from_numpy(array.copy())
    return repr(tensor).replace("torch.", "dualgraph.")


rng = np.random.default_rng(0)
BF16 = ml_dtypes.bfloat16
CASES = [
    np.float32(3.5),
    np.float32(2),
    np.float64(-0.0),
    np.int64(-7),
    np.bool_(True),
    np.complex64(1 - 2j),
    np.float32("nan"),
    np.float32("-inf"),
    [0.0, 0.0],
    [-0.0, 3.0],
    [1.0, 2.0, 30.0],
    [1.0, 1000.0],
    [1.0, 1001.0],
    [1e8, 1e8],
    [1.01e8, 1e8],
    [1e-4, 2e-4],
    [0.99e-4, 2e-4],
    [1e-5, 1.0],
    [1e-40, 1e-40],
    [float("nan"), 1.0],
    [float("nan"), 1.5, float("inf"), -float("inf")],
    [float("nan"), float("nan")],
    [float("inf"), 1e10, 0.0],
    [0.1, -0.2, 100.25],
    [True, False],
    [1, -200, 3],
    [2**62, -1],
    [1 + 1j, 2.5 - 3j],
    [complex("nan"), 1j, complex(0.0, -0.0), complex(1e6, 1e-6)],
    [complex(0, float("nan")), complex(0, float("-inf"))],
    rng.normal(size=(3, 4)),
    rng.normal(size=(2, 3, 4)),
    rng.normal(size=(2, 1, 2, 3)),
    rng.normal(size=100),
    rng.normal(size=(1, 60)),
    rng.normal(size=1000),
    rng.normal(size=1001),
    rng.normal(size=(40, 40)),
    rng.normal(size=(6, 300)),
    rng.normal(size=(7, 300)),
    rng.normal(size=(300, 2)),
    rng.normal(size=(11, 11, 11)),
    rng.normal(size=(2, 2, 2, 2, 100)),
    rng.normal(size=(40, 40)) * 1e5,
    rng.integers(-5, 5, size=(40, 40)),
    rng.integers(0, 2, size=(40, 40)).astype(bool),
    rng.normal(size=(40, 40)) + 1j * rng.normal(size=(40, 40)),
    rng.normal(size=(3, 4)) + 1j,
    np.zeros(0),
    np.zeros((0, 3)),
    np.zeros((2, 0, 3)),
]
DTYPES = [np.float32, np.float64, np.float16, BF16, np.int64, np.int32, np.uint8, bool]
DTYPES += [np.int8, np.int16, np.uint16, np.uint32, np.uint64, np.complex64, np.complex128]


@pytest.mark.filterwarnings("ignore:.*(invalid value|overflow|ComplexWarning|discards).*")
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("case", range(len(CASES)))
def test_matches_pytorch(case: int, dtype: Any) -> None:
    array = np.asarray(CASES[case])
    if array.dtype.kind == "c" and np.dtype(dtype).kind != "c":
        array = array.real
    array = array.astype(dtype)
    assert ours(array) == theirs(array)


OPTIONS: list[dict[str, Any]] = [
    {"precision": 2},
    {"precision": 8, "linewidth": 40},
    {"threshold": 5},
    {"threshold": 5, "edgeitems": 1},
    {"edgeitems": 0},
    {"edgeitems": 0, "threshold": 5},
    {"profile": "short"},
    {"profile": "full"},
    {"sci_mode": True},
    {"sci_mode": False},
    {"linewidth": 8},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.complex64])
def test_print_options(options: dict[str, Any], dtype: Any) -> None:
    torch.set_printoptions(**options)
    set_printoptions(**options)
    shapes = [(), (1,), (7,), (30,), (3, 9), (9, 2, 8), (40, 30)]
    arrays = [np.asarray(rng.normal(size=s) * 50) for s in shapes]
    for array in [*arrays, np.array([1.0, 2.0, 1e9]), np.zeros((0, 2))]:
        assert ours(array.astype(dtype)) == theirs(array.astype(dtype))


def test_options_are_restored_and_checked() -> None:
    before = get_printoptions()
    with printoptions(precision=1):
        assert ours(np.array([0.25], np.float32)) == "tensor([0.2])"
    assert get_printoptions() == before
    with pytest.raises(ValueError, match=r"one of \['default', 'full', 'short'\], got 'tiny'"):
        set_printoptions(profile="tiny")


@pytest.mark.parametrize("size", [*range(30), 70, 1001])
def test_grad_suffixes_break_lines_like_pytorch(size: int) -> None:
    values = rng.normal(size=size)
    leaf = torch.from_numpy(values).requires_grad_()
    expected = repr(leaf).replace("torch.", "dualgraph.")
    assert ours(values, requires_grad=True) == expected
    product = leaf * 2
    expected = repr(product).replace("torch.", "dualgraph.")
    doubled = product.detach().numpy()
    assert ours(doubled, requires_grad=True, grad_fn="MulBackward0") == expected


def test_device_and_prefix() -> None:
    values = np.arange(3, dtype=np.int32)
    expected = "tensor([0, 1, 2], device='cuda:0', dtype=dualgraph.int32)"
    assert ours(values, device="cuda:0") == expected
    assert ours(np.ones(2, np.float32), prefix="MyTensor") == "MyTensor([1., 1.])"


def test_default_dtype_is_what_goes_unsaid() -> None:
    values = np.ones(1)
    assert ours(values, default_dtype=True) == "tensor([1.])"
    assert ours(values, default_dtype=False) == "tensor([1.], dtype=dualgraph.float64)"
    assert ours(np.zeros(0, np.int64)) == "tensor([], dtype=dualgraph.int64)"


@settings(max_examples=300, deadline=None)
@given(
    values=st.lists(st.floats(width=32), min_size=1, max_size=40),
    columns=st.sampled_from([None, 1, 2, 5]),
    dtype=st.sampled_from([np.float32, np.float64, np.float16, BF16]),
)
def test_any_floats(values: list[float], columns: int | None, dtype: Any) -> None:
    with np.errstate(all="ignore"):
        array = np.array(values, np.float32).astype(dtype)
    if columns is not None and array.size % columns == 0:
        array = array.reshape(-1, columns)
    assert ours(array) == theirs(array)


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(
        st.complex_numbers(width=64, allow_nan=True, allow_infinity=True), min_size=1, max_size=20
    )
)
def test_any_complex(values: list[complex]) -> None:
    array = np.array(values, np.complex64)
    assert ours(array) == theirs(array)
