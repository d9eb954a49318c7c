"""Shapes, views, joins and conversions against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

from .parity import array, check, compare, dg, refuses, torch


def test_reshape() -> None:
    for shape in [(6, 4), (-1,), (2, -1, 2), (24, 1), [4, 6]]:
        check("reshape", array(2, 3, 4), shape)
    compare(lambda s: s.tensor(array(2, 6)).reshape(3, -1), "reshape")
    compare(lambda s: s.tensor(array(2, 6)).view(3, 4), "view")
    compare(lambda s: s.tensor(array(2, 6)).T.reshape(3, 4), "reshape of a transpose")
    compare(lambda s: s.tensor(array(4, 3)).view_as(s.tensor(array(6, 2))), "view_as")
    compare(lambda s: s.tensor(array(4, 3)).reshape_as(s.tensor(array(12))), "reshape_as")
    refuses("reshape", RuntimeError, array(2, 3), (4, -1))
    refuses("reshape", RuntimeError, array(2, 3), (7,))
    refuses("reshape", RuntimeError, array(2, 3), (-1, -1))
    refuses("reshape", RuntimeError, np.zeros((0, 3)), (-1, 0))


def test_view_never_copies() -> None:
    for module in (torch, dg):
        x = module.arange(12.0).reshape(3, 4)
        with pytest.raises(RuntimeError):
            x.T.view(12)
        y = x.view(-1)
        y[0] = 7
        assert x[0, 0] == 7
        assert x.T.reshape(-1).data_ptr() != x.data_ptr()


def test_view_as_another_dtype() -> None:
    x = dg.tensor([1.0, 2.0])
    assert x.view(dg.int32).tolist() == torch.tensor([1.0, 2.0]).view(torch.int32).tolist()


def test_flatten_and_back() -> None:
    x = array(2, 3, 4, 5)
    check("flatten", x)
    check("flatten", x, 1)
    check("flatten", x, 1, 2)
    check("flatten", np.array(3.0))
    check("ravel", x)
    check("unflatten", x, 1, (3, 1))
    check("unflatten", x, -1, (-1, 5))
    check("squeeze", array(1, 3, 1))
    check("squeeze", array(1, 3, 1), 0)
    check("squeeze", array(1, 3, 1), 1)
    check("squeeze", array(1, 3, 1), (0, 2))
    check("squeeze", np.array(3.0), 0)
    for dim in (0, 1, -1, 2, -3):
        check("unsqueeze", array(2, 3), dim)
    refuses("unsqueeze", IndexError, array(2, 3), 3)


def test_order_of_dims() -> None:
    x = array(2, 3, 4)
    check("permute", x, (2, 0, 1))
    check("permute", x, (-1, 0, 1))
    check("transpose", x, 0, 2)
    check("transpose", x, -1, 1)
    check("t", array(2, 3))
    check("t", array(3))
    check("movedim", x, 0, 2)
    check("movedim", x, (0, 1), (2, 0))
    check("swapaxes", x, 0, 1)
    check("adjoint", array(2, 3, dtype=np.complex128))
    for name in ("T", "mT", "mH"):
        compare(lambda s, n=name: getattr(s.tensor(array(2, 3)), n), name)
    refuses("permute", RuntimeError, x, (0, 1))
    refuses("permute", RuntimeError, x, (0, 1, 1))


def test_repetition() -> None:
    compare(lambda s: s.tensor(array(3, 1)).expand(3, 4), "expand")
    compare(lambda s: s.tensor(array(3, 1)).expand(2, -1, 4), "expand")
    compare(lambda s: s.tensor(array(3)).expand_as(s.tensor(array(2, 3))), "expand_as")
    check("broadcast_to", array(3, 1), (2, 3, 4))
    check("broadcast_tensors", array(3, 1), array(4))
    compare(lambda s: s.module.broadcast_shapes((3, 1), (4,), (2, 1, 1)), "broadcast_shapes")
    compare(lambda s: s.tensor(array(2, 3)).repeat(2, 1, 2), "repeat")
    compare(lambda s: s.tensor(array(2, 3)).repeat(1, 1), "repeat")
    check("tile", array(2, 3), (2,))
    check("tile", array(2, 3), (2, 1, 2))
    check("repeat_interleave", array(2, 3), 2)
    check("repeat_interleave", array(2, 3), 2, 0)
    check("repeat_interleave", array(2, 3), np.array([1, 0, 2]), 1)
    refuses("expand", RuntimeError, array(3), 4)
    refuses("expand", RuntimeError, array(3), 2, -1, 4)


def test_joining() -> None:
    a, b = array(2, 3), array(4, 3, seed=1)
    check("cat", [a, b])
    check("cat", [a, a], 1)
    check("cat", [a, a], dim=-1)
    check("cat", [a, b.astype(np.float32)])
    check("cat", [a, array(2, 3, dtype=np.int64)])
    check("cat", [np.zeros(0), a])
    check("stack", [a, a])
    check("stack", [a, a], 1)
    check("stack", [a, a], -1)
    for name in ("hstack", "vstack", "dstack", "column_stack"):
        check(name, [array(3), array(3, seed=1)])
        check(name, [a, a])
    check("atleast_1d", np.array(2.0))
    check("atleast_2d", array(3))
    check("atleast_3d", array(3, 2))
    refuses("cat", RuntimeError, [a, array(2, 4)])
    refuses("stack", RuntimeError, [a, b])
    refuses("cat", TypeError, [a, 3])


def test_parts() -> None:
    x = array(5, 6)
    for name, args in [
        ("split", (2,)),
        ("split", ([1, 4],)),
        ("split", (4, 1)),
        ("chunk", (3,)),
        ("chunk", (4, 1)),
        ("tensor_split", (3,)),
        ("tensor_split", ((1, 3), 1)),
        ("unbind", ()),
        ("unbind", (1,)),
        ("narrow", (0, 1, 3)),
        ("narrow", (1, -2, 2)),
        ("select", (1, 2)),
        ("select", (0, -1)),
    ]:
        check(name, x, *args)
    compare(lambda s: s.tensor(array(7)).unfold(0, 3, 2), "unfold")
    refuses("split", RuntimeError, x, [1, 3])
    refuses("narrow", RuntimeError, x, 0, 3, 4)
    refuses("chunk", RuntimeError, x, 0)


def test_rearranging() -> None:
    x = array(3, 4)
    check("flip", x, (0,))
    check("flip", x, (0, 1))
    check("fliplr", x)
    check("flipud", x)
    for args in [(1,), (2, 0), (-1, 1), ((1, 2), (0, 1)), (5, 1)]:
        check("roll", x, *args)
    for k in range(-1, 5):
        check("rot90", x, k)
    check("rot90", array(2, 3, 4), 1, (1, 2))
    for offset in (-1, 0, 2):
        check("diagonal", x, offset)
        check("diagonal", array(2, 3, 4), offset, 0, 2)
        check("diag", x, offset)
        check("diag", array(3), offset)
        check("diag_embed", array(2, 3), offset)
        check("tril", x, offset)
        check("triu", array(2, 3, 3), offset)
        check("tril_indices", 3, 4, offset)
    check("diag_embed", array(2, 3), 0, 0, 2)
    check("diagflat", array(2, 2))


def test_memory() -> None:
    for module in (torch, dg):
        x = module.arange(12.0).reshape(3, 4)
        assert x.is_contiguous()
        assert x.stride() == (4, 1)
        assert x.T.stride() == (1, 4)
        assert not x.T.is_contiguous()
        assert x.T.contiguous().is_contiguous()
        assert x.contiguous() is x
        assert x[1].storage_offset() == 4
        assert x.clone().data_ptr() != x.data_ptr()
        assert x[0].data_ptr() == x.data_ptr()
        assert x.element_size() == 4
        assert x.nbytes == 48
        assert x.stride(0) == 4
        assert x.get_device() == -1
    compare(lambda s: s.tensor(array(3, 4)).T.contiguous() * 2, "contiguous")
    compare(lambda s: s.tensor(array(3, 4)).clone() * 2, "clone")


def test_conversions() -> None:
    for name in ["float", "double", "half", "bfloat16", "long", "int", "short", "bool"]:
        check(name, array(3, 4), method=True, scale=2)
        check(name, array(4, dtype=np.int64), method=True)
    x = dg.ones(3)
    assert x.to(dg.float32) is x
    assert x.to("cpu") is x
    assert x.to(x) is x
    assert x.to(dg.float64).dtype is dg.float64
    assert x.to("cpu", dg.int64).dtype is dg.int64
    assert x.to(device="cpu", dtype=dg.float16, non_blocking=True).dtype is dg.float16
    assert x.to(x, copy=True).data_ptr() != x.data_ptr()
    assert x.type(dg.int32).dtype is dg.int32
    assert x.type() == "dualgraph.FloatTensor"
    assert x.type_as(dg.ones(1, dtype=dg.int8)).dtype is dg.int8
    assert x.cpu() is x
    assert x.pin_memory() is x
    compare(lambda s: s.tensor(array(3, dtype=np.float32)).double() * 2, "double")


def test_an_absent_gpu_is_an_error() -> None:
    if dg.cuda.is_available():
        pytest.skip("there is a GPU")
    assert dg.cuda.device_count() == 0
    with pytest.raises(RuntimeError, match="cuda was asked for"):
        dg.ones(3).cuda()
    with pytest.raises(RuntimeError, match="cuda was asked for"):
        dg.zeros(3, device="cuda")
    with pytest.raises(RuntimeError, match="expected a device"):
        dg.ones(3).to("gpu")
