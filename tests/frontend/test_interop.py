"""Exchange with NumPy and, over DLPack, with other libraries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph._interop import from_dlpack
from dualgraph_compiler.errors import AutogradError, DTypeError

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
DTYPES += ["complex64", "complex128"]


def counting(dtype: str, shape: tuple[int, ...] = (2, 3)) -> dg.Tensor:
    values = np.arange(np.prod(shape)).reshape(shape)
    return dg.from_numpy(values.astype(getattr(dg, dtype).np))


# -- NumPy ----------------------------------------------------------------------------------------


def test_asarray_shares_memory() -> None:
    t = counting("float32")
    array = np.asarray(t)
    array[0, 0] = 9
    assert t[0, 0].item() == 9
    assert np.array(t, copy=False) is not None
    fresh = np.array(t)
    fresh[0, 0] = 1
    assert t[0, 0].item() == 9


def test_conversion_on_the_way() -> None:
    t = counting("float32")
    assert np.asarray(t, dtype=np.float64).dtype == np.float64
    assert np.asarray(t, dtype=np.float32).base is not None or np.shares_memory(t.numpy(), t)
    with pytest.raises(ValueError, match="Unable to avoid copy"):
        np.array(t, dtype=np.int64, copy=False)


def test_numpy_functions_take_tensors() -> None:
    assert np.sum(counting("float32").numpy()) == 15
    assert np.concatenate([counting("int64"), counting("int64")]).shape == (4, 3)


def test_gradients_do_not_reach_numpy() -> None:
    t = dg.tensor([1.0], requires_grad=True)
    with pytest.raises(RuntimeError, match="Use tensor.detach"):
        np.asarray(t)
    np.testing.assert_array_equal(np.asarray(t.detach()), [1.0])


# -- DLPack ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_to_numpy(dtype: str) -> None:
    t = counting(dtype)
    array = np.from_dlpack(t)
    np.testing.assert_array_equal(array, t.numpy())
    assert np.shares_memory(array, t.numpy())


@pytest.mark.parametrize("dtype", DTYPES)
def test_from_numpy(dtype: str) -> None:
    array = counting(dtype, (4, 6)).numpy()[::2, ::3]
    t = from_dlpack(array)
    assert t.dtype is getattr(dg, dtype)
    np.testing.assert_array_equal(t.numpy(), array)
    assert np.shares_memory(array, t.numpy())


@pytest.mark.parametrize("dtype", [*DTYPES, "bfloat16"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 2)], ids=str)
def test_to_and_from_pytorch(dtype: str, shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    t = counting(dtype, shape)
    other = torch.from_dlpack(t)
    assert other.dtype is getattr(torch, dtype)
    assert other.tolist() == t.tolist()
    back = from_dlpack(other)
    assert back.dtype is t.dtype
    assert back.tolist() == t.tolist()
    if t.numel():
        assert other.data_ptr() == t.numpy().ctypes.data
        assert back.numpy().ctypes.data == t.numpy().ctypes.data


def test_writes_are_seen_on_both_sides() -> None:
    torch = pytest.importorskip("torch")
    for dtype in ("float32", "bfloat16"):
        t = counting(dtype)
        other = torch.from_dlpack(t)
        other[1, 2] = 42
        assert t.numpy()[1, 2] == 42
        del t
        assert other[1, 2] == 42


def test_strided_bfloat16_from_pytorch() -> None:
    torch = pytest.importorskip("torch")
    other = torch.arange(12, dtype=torch.bfloat16).reshape(3, 4).t()[::2]
    t = from_dlpack(other)
    assert t.dtype is dg.bfloat16
    assert t.tolist() == other.tolist()


def test_a_bfloat16_round_trip_of_our_own() -> None:
    t = counting("bfloat16")
    assert from_dlpack(t).tolist() == t.tolist()
    assert from_dlpack(counting("float32")).tolist() == counting("float32").tolist()


def test_lifetime_of_bfloat16_memory() -> None:
    torch = pytest.importorskip("torch")
    for _ in range(50):
        other = torch.from_dlpack(dg.from_numpy(np.full(10_000, 3, dg.bfloat16.np)))
        assert other.float().sum() == 30_000


def test_device() -> None:
    assert counting("float32").__dlpack_device__() == (1, 0)


def test_gradients_cannot_be_exported() -> None:
    t = dg.tensor([1.0], requires_grad=True)
    with pytest.raises(AutogradError, match="Can't export tensors that require gradient"):
        t.__dlpack__()
    assert np.from_dlpack(t.detach()) == 1.0


def test_what_cannot_be_imported() -> None:
    with pytest.raises(TypeError, match="__dlpack__ and __dlpack_device__, got list"):
        from_dlpack([1, 2])

    class Elsewhere:
        def __dlpack_device__(self) -> tuple[int, int]:
            return 7, 0

        def __dlpack__(self, **_: Any) -> Any:
            raise AssertionError

    with pytest.raises(BufferError, match="device type 7"):
        from_dlpack(Elsewhere())
    if hasattr(np, "longdouble") and np.dtype(np.longdouble).itemsize == 16:
        with pytest.raises((DTypeError, BufferError)):
            from_dlpack(np.ones(2, np.longdouble))


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", DTYPES)
def test_cuda(dtype: str) -> None:
    import cupy

    t = counting(dtype).to("cuda")
    array = cupy.from_dlpack(t)
    assert array.data.ptr == t._data.data.ptr
    back = from_dlpack(array)
    assert back.is_cuda
    assert back.cpu().tolist() == t.cpu().tolist()
    assert t.__dlpack_device__()[0] == 2


# -- printing -------------------------------------------------------------------------------------


def test_repr_of_tensors() -> None:
    assert repr(dg.tensor([1.5, 2.0])) == "tensor([1.5000, 2.0000])"
    assert repr(dg.tensor([1, 2])) == "tensor([1, 2])"
    assert repr(counting("bfloat16", (2,))) == "tensor([0., 1.], dtype=dualgraph.bfloat16)"
    leaf = dg.tensor([1.0], requires_grad=True)
    assert repr(leaf) == "tensor([1.], requires_grad=True)"
    assert repr(leaf * leaf) == "tensor([1.], grad_fn=<MulBackward0>)"
    assert repr(counting("float64", ())) == "tensor(0., dtype=dualgraph.float64)"


@pytest.mark.cuda
def test_repr_of_cuda_tensors() -> None:
    t = dg.from_numpy(np.arange(5000, dtype=np.float32)).to("cuda")
    text = "tensor([0.0000e+00, 1.0000e+00, 2.0000e+00,  ..., 4.9970e+03, 4.9980e+03,\n"
    assert repr(t) == text + "        4.9990e+03], device='cuda:0')"


def test_arrays_are_operands_on_either_side() -> None:
    t = dg.ones(3)
    a = np.arange(3.0)
    for result in (a + t, t + a, a * t, t - a):
        assert isinstance(result, dg.Tensor)
        assert result.dtype is dg.float64
    assert (a - t).tolist() == [-1, 0, 1]
    assert (t - a.astype(np.float32)).dtype is dg.float32
    assert (np.float32(2) * t).tolist() == [2, 2, 2]
