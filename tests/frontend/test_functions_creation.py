"""Making tensors, against PyTorch: from data, of given sizes, like others."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from .parity import array, check, compare, dg, same, torch


def both(f: Any) -> None:
    with np.errstate(all="ignore"):
        same(f(dg), f(torch), "creation")


@pytest.mark.parametrize(
    "data",
    [
        1,
        1.5,
        True,
        2j,
        [],
        [1, 2],
        [1.0, 2],
        [[1, 2], [3, 4]],
        [True, False],
        [1 + 2j],
        (1, 2),
        [[]],
        [[1.5], [2]],
        float("nan"),
        2**40,
        [np.float32(1.5)],
        np.float64(1.5),
        np.float32(2),
        np.int16(3),
    ],
    ids=repr,
)
def test_tensor(data: Any) -> None:
    both(lambda m: m.tensor(data))
    both(lambda m: m.tensor(data, dtype=m.complex64 if "j" in repr(data) else m.float64))
    both(lambda m: m.as_tensor(data))


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "int64", "uint8", "bool", "complex64"]
)
def test_tensor_of_arrays(dtype: str) -> None:
    a = array(2, 3, dtype=np.dtype(dtype))
    both(lambda m: m.tensor(a))
    both(lambda m: m.from_numpy(a.copy()))
    both(lambda m: m.tensor(a.T))
    both(lambda m: m.zeros(2, dtype=getattr(m, dtype)))
    both(lambda m: m.full((2,), 1, dtype=getattr(m, dtype)))


def test_sharing() -> None:
    a = np.zeros(3)
    dg.from_numpy(a)[0] = 5
    dg.as_tensor(a)[1] = 6
    dg.asarray(a)[2] = 7
    assert a.tolist() == [5, 6, 7]
    t = dg.tensor(a)
    t[0] = 0
    assert a[0] == 5
    assert dg.as_tensor(t) is t
    assert dg.asarray(t, copy=True).data_ptr() != t.data_ptr()
    with pytest.raises(ValueError, match="copy"):
        dg.asarray([1, 2], copy=False)


def test_tensors_in_lists() -> None:
    parts = [dg.tensor(1.0), dg.tensor(2.0)]
    assert dg.tensor(parts).tolist() == [1, 2]
    assert dg.tensor([dg.tensor([1, 2]), dg.tensor([3, 4])]).tolist() == [[1, 2], [3, 4]]
    assert dg.tensor([1.0, dg.tensor(2.0)]).tolist() == [1, 2]


def test_what_is_refused() -> None:
    with pytest.raises(TypeError):
        dg.tensor("text")
    with pytest.raises(TypeError):
        dg.tensor([None])
    with pytest.raises(ValueError):  # noqa: PT011
        dg.tensor([[1], [1, 2]])
    with pytest.raises((RuntimeError, TypeError)):
        dg.tensor([2**70])
    with pytest.raises(TypeError):
        dg.from_numpy([1])
    with pytest.raises(TypeError):
        dg.from_numpy(np.array(["a"]))
    with pytest.raises(RuntimeError):
        dg.zeros(-1)
    with pytest.raises(RuntimeError):
        dg.tensor([1], requires_grad=True)


@pytest.mark.parametrize("name", ["zeros", "ones", "empty"])
def test_sizes(name: str) -> None:
    for size in [(2, 3), ((2, 3),), ([2, 3],), (0,), ((),)]:
        ours, theirs = getattr(dg, name)(*size), getattr(torch, name)(*size)
        assert tuple(ours.shape) == tuple(theirs.shape)
        assert ours.dtype.name == "float32"
    assert getattr(dg, name)(2, dtype=dg.int32, requires_grad=False).dtype is dg.int32
    assert getattr(dg, name)(dg.Size([2, 3])).shape == (2, 3)


def test_full() -> None:
    for value in (1, 1.5, True, 2j):
        both(lambda m, v=value: m.full((2, 3), v))
        both(lambda m, v=value: m.full((), v))
    both(lambda m: m.full((2,), m.tensor(3.5)))


@pytest.mark.parametrize(
    "args",
    [
        (5,),
        (1, 5),
        (1, 10, 3),
        (5, 1, -2),
        (0, 1, 0.1),
        (1.5,),
        (0.0, 2.5),
        (10, 0, -0.5),
        (3, 3),
        (0,),
    ],
)
def test_arange(args: tuple) -> None:
    both(lambda m: m.arange(*args))
    both(lambda m: m.arange(*args, dtype=m.float64))
    if all(isinstance(v, int) for v in args):
        both(lambda m: m.arange(*args, dtype=m.int32))


def test_arange_refuses() -> None:
    for args in ((1, 5, -1), (5, 1), (0, 5, 0)):
        with pytest.raises(RuntimeError):
            dg.arange(*args)


def test_spaced() -> None:
    both(lambda m: m.linspace(0, 1, 5))
    both(lambda m: m.linspace(-2, 3, 7, dtype=m.float64))
    both(lambda m: m.linspace(0, 10, 1))
    both(lambda m: m.linspace(0, 10, 0))
    both(lambda m: m.linspace(0, 10, 5, dtype=m.int64))
    both(lambda m: m.logspace(0, 2, 5, dtype=m.float64))
    both(lambda m: m.logspace(0, 2, 3, base=2))


def test_eye_and_grids() -> None:
    both(lambda m: m.eye(3))
    both(lambda m: m.eye(2, 4, dtype=m.int64))
    for indexing in ("ij", "xy"):
        check("meshgrid", array(2), array(3), indexing=indexing)
        check("meshgrid", array(2), array(3), array(4), indexing=indexing)
    both(lambda m: m.nn.functional.one_hot(m.tensor([0, 2, 1])) if m is torch else _one_hot(m))


def _one_hot(m: Any) -> Any:
    from dualgraph.functions.creation import one_hot

    with pytest.raises(RuntimeError):
        one_hot(m.tensor([5]), 3)
    return one_hot(m.tensor([0, 2, 1]))


@pytest.mark.parametrize("name", ["zeros_like", "ones_like", "empty_like"])
def test_like(name: str) -> None:
    x = dg.ones(2, 3, dtype=dg.float16)
    made = getattr(dg, name)(x)
    assert made.shape == x.shape
    assert made.dtype is dg.float16
    assert getattr(dg, name)(x, dtype=dg.int64).dtype is dg.int64
    assert getattr(dg, name)(x, requires_grad=True).requires_grad
    both(lambda m: m.full_like(m.ones(2, 3), 2.5))


def test_new() -> None:
    x = dg.ones(2, dtype=dg.int16)
    for made in (
        x.new_zeros(3),
        x.new_ones((3,)),
        x.new_full((3,), 7),
        x.new_empty(3),
        x.new_tensor([1, 2, 3]),
    ):
        assert made.dtype is dg.int16
        assert made.shape == (3,)
    assert x.new_zeros(2, dtype=dg.float32).dtype is dg.float32


def test_requires_grad() -> None:
    for made in (
        dg.zeros(2, requires_grad=True),
        dg.tensor([1.0], requires_grad=True),
        dg.rand(2, requires_grad=True),
        dg.eye(2, requires_grad=True),
        dg.linspace(0, 1, 3, requires_grad=True),
    ):
        assert made.requires_grad
        assert made.is_leaf


def test_sizes_and_facts() -> None:
    for m in (torch, dg):
        x = m.zeros(2, 3)
        assert m.is_tensor(x)
        assert not m.is_tensor(1)
        assert m.numel(x) == x.numel() == x.nelement() == 6
        assert m.is_floating_point(x)
        assert not m.is_complex(x)
        assert x.size() == (2, 3)
        assert x.size(-1) == 3
        assert x.shape.numel() == 6
        assert x.dim() == x.ndim == 2
        assert x.shape[1:] == (3,)
    assert repr(dg.zeros(2, 3).shape) == "dualgraph.Size([2, 3])"
    compare(lambda s: s.module.zeros(2, 3).size(), "size")


def test_import_is_light() -> None:
    code = (
        "import sys, dualgraph\n"
        "heavy = {'onnx', 'safetensors', 'networkx', 'cupy', 'torch', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "dualgraph.nn, dualgraph.optim, dualgraph.save"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_sizes_by_name() -> None:
    for make in (dg.zeros, dg.ones, dg.empty, dg.rand, dg.randn):
        assert tuple(make(size=(2, 3)).shape) == (2, 3)
        assert tuple(make(size=[]).shape) == ()
