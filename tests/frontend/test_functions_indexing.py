"""Reading and writing by index against PyTorch: views, masks, tensors, gathers, scatters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .parity import array, check, compare, dg, refuses, torch, translate

I = np.array([2, 0, 2])  # noqa: E741
J = np.array([1, 1, 0])
MASK = np.array([True, False, True, True])

KEYS: list[Any] = [
    0,
    -1,
    slice(None),
    slice(1, 3),
    slice(None, None, 2),
    slice(-2, None),
    slice(3, 1),
    slice(0, 100),
    None,
    Ellipsis,
    (0, 1),
    (slice(None), 1),
    (0, slice(1, None)),
    (Ellipsis, 0),
    (0, Ellipsis),
    (0, 1, 2),
    (None, 0),
    (0, None, slice(None), None),
    (slice(None, None, 2), slice(1, None, 2)),
    (Ellipsis, None),
    (),
    (slice(None), None, 2),
    (Ellipsis, slice(0, 1)),
    (1, Ellipsis, -1),
    I,
    (I, J),
    (slice(None), I),
    (I, slice(None)),
    (0, I),
    (I, 0),
    (Ellipsis, I),
    (I, None),
    (None, I),
    (I, slice(None), J),
    (slice(None), I, J),
    (0, slice(None), I),
    (I, 0, J),
    (I[:, None], J),
    I.reshape(3, 1),
    [0, 2],
    ([0, 2], [1, 1]),
    np.array(1),
    (np.array(1), slice(None)),
    np.array([-1, 0]),
    MASK,
    (MASK, 0),
    (MASK, slice(1, None)),
    (slice(None), np.array([True, False, True])),
    (MASK, I[[0, 1, 1]][:1]),
    np.zeros(0, np.int64),
    True,
    False,
    (slice(1, 3), I),
    (slice(None, None, 2), I, None),
    np.zeros(4, bool),
    ([True, False, True, False],),
]


def data() -> Any:
    return array(4, 3, 5)


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_reading(key: Any) -> None:
    def run(s):
        k = translate(key, lambda a: s.make(a, False))
        return s.tensor(data())[k]

    compare(run, str(key))


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_reading_without_the_tape(key: Any) -> None:
    ours, theirs = dg.from_numpy(data()), torch.from_numpy(data())
    got = ours[translate(key, dg.from_numpy)]
    want = theirs[translate(key, torch.from_numpy)]
    np.testing.assert_array_equal(got.numpy(), want.numpy())
    assert (got._base is not None) == (want._base is not None), "a view exactly where PyTorch's is"


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_writing_a_number(key: Any) -> None:
    def run(s):
        x = s.tensor(data()) * 1
        x[translate(key, lambda a: s.make(a, False))] = 2.5
        return x

    compare(run, str(key))
    ours, theirs = dg.from_numpy(data()), torch.from_numpy(data())
    ours[translate(key, dg.from_numpy)] = 7
    theirs[translate(key, torch.from_numpy)] = 7
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


@pytest.mark.parametrize(
    "key", [k for k in KEYS if not (isinstance(k, np.ndarray) and k is I)], ids=str
)
def test_writing_a_tensor(key: Any) -> None:
    shape = torch.from_numpy(data())[translate(key, torch.from_numpy)].shape
    if key is not False and len(set(map(str, np.asarray(I).tolist()))) != 3 and uses_repeats(key):
        pytest.skip("repeated positions: any of the sources may win")

    def run(s):
        x, v = s.tensor(data()) * 1, s.tensor(array(*shape, seed=5))
        x[translate(key, lambda a: s.make(a, False))] = v
        return x

    compare(run, str(key))


def uses_repeats(key: Any) -> bool:
    parts = key if isinstance(key, tuple) else (key,)
    return any(isinstance(p, np.ndarray) and p.dtype == np.int64 and p.size == 3 for p in parts)


def test_writing_broadcasts_and_converts() -> None:
    def run(s):
        x, v = s.tensor(data()) * 1, s.tensor(array(5, dtype=np.float32))
        x[1:3] = v
        x[0, 0] = v[3]
        x[:, :, 0] = s.tensor(array(1, 3))
        return x

    compare(run, "broadcast")
    t = dg.zeros(3, dtype=dg.int64)
    t[0] = 1.7
    t[1:] = dg.tensor([2.9, -2.9])
    assert t.tolist() == [1, 2, -2]
    m = dg.zeros(2, 3)
    m[1] = [1, 2, 3]
    m[0] = np.array([4.0, 5.0, 6.0])
    assert m.tolist() == [[4, 5, 6], [1, 2, 3]]


def test_masks_with_tensors() -> None:
    mask = array(4, 3, dtype=bool, seed=2)

    def run(s):
        x = s.tensor(array(4, 3)) * 1
        x[s.make(mask, False)] = s.tensor(array(int(mask.sum()), seed=3))
        x[s.make(mask, False)] += 1
        return x

    compare(run, "masked write")
    compare(lambda s: s.tensor(array(4, 3))[s.tensor(array(4, 3)) > 0], "mask from comparison")


def test_views_share_memory() -> None:
    for module in (torch, dg):
        x = module.zeros(3, 4)
        x[1][2] = 5
        x[:, 0].fill_(1)
        x[2, 1:3] += 2
        row = x[0]
        row[3] = 9
        assert x.tolist() == [[1, 0, 0, 9], [1, 0, 5, 0], [1, 2, 2, 0]]
        y = x[[0, 1]]
        y[0] = 100
        assert x[0, 1].item() == 0


def test_symbols_of_python() -> None:
    t = dg.arange(5)
    i = dg.tensor(2)
    assert t[i].item() == 2
    assert t[: dg.tensor(3)].tolist() == [0, 1, 2]
    assert t[np.int64(1)].item() == 1
    assert t[range(0, 4, 2)].tolist() == [0, 2]
    assert list(range(5))[dg.tensor(3)] == 3
    assert [v.item() for v in t] == [0, 1, 2, 3, 4]
    assert 3 in t
    assert len(t) == 5


@pytest.mark.parametrize(
    ("key", "error"),
    [
        (4, IndexError),
        (-5, IndexError),
        ((0, 3), IndexError),
        ((0, 0, 0, 0), IndexError),
        (slice(None, None, -1), ValueError),
        (1.5, IndexError),
        ("a", IndexError),
        (np.array([7]), IndexError),
        (np.array([True, False]), IndexError),
        ((Ellipsis, Ellipsis), IndexError),
        (np.array([0.5]), IndexError),
        ((np.array([0, 1]), np.array([0, 1, 2])), IndexError),
    ],
    ids=str,
)
def test_refused_keys(key: Any, error: type[Exception]) -> None:
    with pytest.raises((error, TypeError) if isinstance(key, str) else (error, ValueError)):
        dg.from_numpy(data())[translate(key, dg.from_numpy)]
    with pytest.raises((error, TypeError, ValueError)):
        dg.from_numpy(data())[translate(key, dg.from_numpy)] = 0


def test_refused_values() -> None:
    x = dg.zeros(3, 4)
    with pytest.raises((RuntimeError, ValueError)):
        x[0] = dg.ones(3)
    with pytest.raises(RuntimeError):
        dg.zeros(3, requires_grad=True)[0] = 1.0


# -- by name --------------------------------------------------------------------------------------


def test_gather_and_scatter() -> None:
    x = array(4, 5)
    at = np.array([[0, 1, 2, 0], [3, 3, 0, 1]])
    check("gather", x, 0, at)
    check("gather", x, 1, np.array([[4], [0], [1], [1]]))
    check("scatter", x, 0, np.array([[0, 1, 2, 3], [1, 2, 3, 0]]), array(2, 4, seed=2))
    check("scatter", x, 0, np.array([[0, 1], [1, 2]]), array(3, 4, seed=2), grad=False)
    check("scatter", x, 1, np.array([[0], [2]]), 1.5)
    check("scatter_add", x, 0, at, array(2, 4, seed=2))
    check("scatter_reduce", x, 0, at, array(2, 4, seed=2), "sum")
    check("scatter_reduce", x, 0, at, array(2, 4, seed=2), "mean", grad=False)
    check("scatter_reduce", x, 0, at, array(2, 4, seed=2), "mean", include_self=False, grad=False)
    refuses("gather", RuntimeError, x, 0, at.astype(np.float64))
    refuses("gather", RuntimeError, x, 0, at + 9)


def test_slices_by_index() -> None:
    x, at = array(4, 5), np.array([3, 0, 3])
    check("index_select", x, 0, at)
    check("index_select", x, 1, at)
    check("index_select", x, -1, at.astype(np.int32))
    check("index_add", x, 0, at, array(3, 5, seed=1))
    check("index_add", x, 1, at, array(4, 3, seed=1), alpha=2)
    check("index_copy", x, 0, np.array([2, 1]), array(2, 5, seed=1))
    check("index_fill", x, 1, np.array([2, 1]), 3.0)
    check("take", x, np.array([[0, 7], [19, 3]]))
    check("take_along_dim", x, np.array([[1], [0], [2], [4]]), 1)
    check("index_put", x, (np.array([0, 1]), np.array([2, 3])), array(2))
    check("index_put", x, (np.array([0, 0]), np.array([2, 2])), array(2), accumulate=True)


def test_masks() -> None:
    x, mask = array(3, 4), array(3, 4, dtype=bool)
    check("masked_select", x, mask)
    check("masked_select", x, mask[0])
    check("masked_scatter", x, mask, array(12, seed=2), method=True)
    check("nonzero", mask)
    check("nonzero", mask, as_tuple=True)
    check("argwhere", x)
    check("nonzero", np.array(3))


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("index_add_", (0, np.array([0, 2]), array(2, 5))),
        ("scatter_", (1, np.array([[0], [1]]), 2.0)),
        ("masked_fill_", (array(4, 5, dtype=bool), 0.5)),
        ("index_fill_", (0, np.array([1]), 9.0)),
        ("scatter_add_", (0, np.array([[0, 1]]), array(1, 2))),
        ("index_copy_", (0, np.array([1]), array(1, 5))),
        ("masked_scatter_", (array(4, 5, dtype=bool), array(20))),
        ("tril_", ()),
        ("cumsum_", (0,)),
        ("index_put_", ((np.array([0, 1]),), array(2, 5))),
    ],
)
def test_in_place(name: str, args: tuple) -> None:
    def run(s):
        x = s.tensor(array(4, 5)) * 2
        return getattr(x, name)(*translate(args, s.tensor))

    compare(run, name)
