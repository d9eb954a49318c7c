"""Tensors by strides, other sizes for tensors that exist, positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph_compiler.graph import interpret


def test_as_strided_is_a_view() -> None:
    x = dg.arange(12.0).reshape(3, 4)
    diagonal = dg.as_strided(x, (3,), (5,))
    diagonal.mul_(10)
    assert x.tolist() == [[0, 1, 2, 3], [4, 50, 6, 7], [8, 9, 100, 11]]
    assert diagonal.stride() == (5,)
    inner = x[1:, 1:]
    assert inner.as_strided((2,), (1,)).tolist() == [50, 6]
    assert inner.as_strided((2,), (1,), 0).tolist() == [0, 1]  # beyond the view: its storage


def test_writes_through_as_strided_are_recorded() -> None:
    x = dg.arange(6.0).requires_grad_()
    y = x * 1
    y.as_strided((2,), (3,)).mul_(x[4:])
    y.sum().backward()
    assert y.tolist() == [0, 1, 2, 15, 4, 5]
    assert x.grad.tolist() == [4, 1, 1, 5, 1, 4]  # 1 + 0 and 1 + 3 at the end


def test_as_strided_stays_within_its_storage() -> None:
    with pytest.raises(RuntimeError, match="out of bounds for storage"):
        dg.zeros(4).as_strided((3,), (2,))
    with pytest.raises(RuntimeError, match="out of bounds for storage"):
        dg.zeros(4).as_strided((2,), (-1,), 3)


def test_as_strided_is_traced() -> None:
    def f(x: dg.Tensor) -> Any:
        turned = x.t()
        return turned.as_strided((2, 2), (1, 4), 1), turned[1:].as_strided((2,), (4,))

    x = dg.arange(12.0).reshape(3, 4)
    for mine, eager in zip(interpret(dg.trace(f, x), [x.numpy()]), f(x), strict=True):
        assert mine.tolist() == eager.tolist()
    (slope,) = dg.autograd.grad(dg.compile(f)(x.requires_grad_())[0].sum(), [x])
    assert slope.sum().item() == 4


def test_as_strided_of_batches_and_duals() -> None:
    def f(x: dg.Tensor) -> dg.Tensor:
        return x.as_strided((2, 3), (1, 2), 1) * x[0]

    rows = dg.arange(24.0).reshape(2, 12)
    single = [r.clone() for r in rows]
    wanted = dg.stack([f(r) for r in single])
    assert dg.func.vmap(f)(rows).tolist() == wanted.tolist()
    value, tangent = dg.func.jvp(f, (single[1],), (dg.ones(12),))
    assert value.tolist() == wanted[1].tolist()
    assert tangent.tolist() == (single[1].as_strided((2, 3), (1, 2), 1) + 12).tolist()


def test_scatter_keeps_what_is_not_shown() -> None:
    x, new = dg.zeros(5).requires_grad_(), dg.ones(2).requires_grad_()
    y = dg.as_strided_scatter(x, new, (2,), (2,), 1)
    y.sum().backward()
    assert y.tolist() == [0, 1, 0, 1, 0]
    assert x.grad.tolist() == [1, 0, 1, 0, 1]
    assert new.grad.tolist() == [1, 1]


def test_made_with_strides() -> None:
    assert dg.empty_strided((2, 3), (1, 2)).stride() == (1, 2)
    assert dg.empty_permuted((2, 3, 4), (0, 2, 1)).stride() == (12, 1, 3)
    made = dg.ones(2, dtype=dg.int32).new_empty_strided((2,), (3,))
    assert (made.dtype, made.stride()) == (dg.int32, (3,))


def test_resize() -> None:
    x = dg.arange(6)
    assert x.resize_(2, 2) is x
    assert x.tolist() == [[0, 1], [2, 3]]
    assert dg.resize_as_(x, dg.zeros(2, 3)).tolist() == [[0, 1, 2], [3, 0, 0]]
    with pytest.raises(RuntimeError, match="require grad"):
        dg.zeros(2, requires_grad=True).resize_(3)
    with pytest.raises(RuntimeError, match="cannot be captured"):
        dg.trace(lambda x: x.resize_(1), dg.zeros(2))


def test_sum_to_size() -> None:
    x = dg.arange(24.0).reshape(2, 3, 4)
    assert x.sum_to_size(3, 1).tolist() == x.sum((0, 2)).unsqueeze(1).tolist()
    assert x.sum_to_size(2, 3, 4) is x
    with pytest.raises(ValueError, match="not expandable"):
        x.sum_to_size(2, 2, 4)


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 0), ()])
@pytest.mark.parametrize("size", [0, 2, 20])
def test_nonzero_static(shape: tuple[int, ...], size: int) -> None:
    a = np.random.default_rng(0).integers(0, 2, shape)
    rows = np.stack(np.nonzero(a.reshape(shape or (1,))), 1)[:size, : len(shape)]
    wanted = np.full((size, len(shape)), -7)
    wanted[: len(rows)] = rows
    x = dg.from_numpy(np.asarray(a))

    def f(x: dg.Tensor) -> dg.Tensor:
        return dg.nonzero_static(x, size=size, fill_value=-7)

    assert f(x).tolist() == wanted.tolist()
    (traced,) = interpret(dg.trace(f, x), [x.numpy()])
    assert traced.tolist() == wanted.tolist()


def test_unravel_index() -> None:
    at = np.array([[0, 23], [7, 11]])
    found = dg.unravel_index(dg.from_numpy(at), (2, 3, 4))
    for mine, wanted in zip(found, np.unravel_index(at, (2, 3, 4)), strict=True):
        assert mine.tolist() == wanted.tolist()
    with pytest.raises(TypeError, match="integer dtype"):
        dg.unravel_index(dg.ones(2), 3)


def test_put_and_index_reduce() -> None:
    x = dg.zeros(2, 3)
    x.put_(dg.tensor([1, -1]), dg.tensor([5.0, 6.0]))
    assert x.tolist() == [[0, 5, 0], [0, 0, 6]]
    x.index_reduce_(1, dg.tensor([0, 0, 2]), dg.full((2, 3), 2.0), "mean", include_self=False)
    assert x.tolist() == [[2, 5, 2], [2, 0, 2]]
    with pytest.raises(ValueError, match="same number of elements"):
        x.put(dg.tensor([1]), dg.ones(2))


def test_index_fill_counts_a_position_once() -> None:
    value = dg.tensor(2.0, requires_grad=True)
    y = dg.zeros(2, 3).index_fill(1, dg.tensor([1, 1, -1]), value)
    assert y.tolist() == [[0, 2, 2], [0, 2, 2]]
    y.sum().backward()
    assert value.grad.item() == 4


# -- views in place -------------------------------------------------------------------------------

IN_PLACE: list[tuple[str, tuple[Any, ...]]] = [
    ("unsqueeze_", (1,)),
    ("squeeze_", ()),
    ("squeeze_", (1,)),
    ("transpose_", (0, 2)),
    ("swapaxes_", (0, 1)),
    ("swapdims_", (1, 2)),
    ("as_strided_", ((2, 2), (1, 2), 1)),
]


@pytest.mark.parametrize(("name", "args"), IN_PLACE)
def test_views_in_place(name: str, args: tuple[Any, ...]) -> None:
    x = dg.arange(6.0).reshape(2, 1, 3).clone()
    start = x.clone()
    other = x.view(6)
    wanted = getattr(x, name[:-1])(*args)
    values = wanted.tolist()
    assert getattr(x, name)(*args) is x
    assert x.shape == wanted.shape
    assert x.tolist() == values
    x.add_(1)  # the memory is what it was
    assert other.sum().item() == start.sum().item() + x.numel()


@pytest.mark.parametrize(("name", "args"), IN_PLACE)
def test_views_in_place_are_recorded(name: str, args: tuple[Any, ...]) -> None:
    def f(x: dg.Tensor, inplace: bool) -> dg.Tensor:
        y = x * 2
        z = getattr(y, name if inplace else name[:-1])(*args)
        z.mul_(z.detach() + 1)
        return (z * z).sum()

    x = dg.arange(6.0).reshape(2, 1, 3).requires_grad_()
    grads = [dg.autograd.grad(f(x, inplace), [x])[0].tolist() for inplace in (False, True)]
    assert grads[0] == grads[1]


def test_other_views_stay_what_they_are() -> None:
    x = dg.arange(6.0).reshape(2, 3).requires_grad_()
    y = x * 2
    row = y[0]
    y.t_()
    y.mul_(dg.tensor([[1.0, 10.0]]))
    assert row.tolist() == [0, 2, 4]
    row.mul_(3)
    assert y.tolist() == [[0, 60], [6, 80], [12, 100]]
    (grad,) = dg.autograd.grad(row.sum() + y.sum() * 100, [x])
    assert grad.tolist() == [[606.0] * 3, [2000.0] * 3]


def test_views_in_place_refused() -> None:
    with pytest.raises(RuntimeError, match="leaf Variable"):
        dg.zeros(2, requires_grad=True).unsqueeze_(0)


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (7, 3), (3, 3, 3), (2, 2, 2, 2)])
@pytest.mark.parametrize("wrap", [False, True])
def test_fill_diagonal(shape: tuple[int, ...], wrap: bool) -> None:
    wanted = np.zeros(shape)
    np.fill_diagonal(wanted, 5, wrap=wrap)
    assert dg.zeros(shape).fill_diagonal_(5, wrap).tolist() == wanted.tolist()
