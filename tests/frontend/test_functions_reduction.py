"""Reductions, statistics and order against PyTorch: values, dtypes, gradients."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from .parity import array, check, compare, dg, refuses

DIMS = [None, 0, 1, -1, (0, 2), (1,), ()]
DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16, np.int64, np.int32, np.uint8, np.bool_]


@pytest.mark.parametrize(
    "name", ["sum", "mean", "nansum", "amax", "amin", "logsumexp", "all", "any"]
)
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("keepdim", [False, True])
def test_dims(name: str, dim: object, keepdim: bool) -> None:
    if dim is None:
        if name == "logsumexp":
            pytest.skip("needs a dim")
        check(name, array(2, 3, 4))
        return
    if dim == () and name in ("all", "any", "logsumexp"):
        pytest.skip("PyTorch treats no dims in its own way here")
    check(name, array(2, 3, 4), dim, keepdim)


@pytest.mark.parametrize("name", ["prod", "argmax", "argmin", "max", "min", "median"])
@pytest.mark.parametrize("dim", [None, 0, 1, -1])
@pytest.mark.parametrize("keepdim", [False, True])
def test_one_dim(name: str, dim: object, keepdim: bool) -> None:
    if dim is None:
        check(name, array(2, 3, 4))
        check(name, array(1).reshape(()))
    else:
        check(name, array(2, 3, 4), dim, keepdim)
        check(name, array(1).reshape(()), dim if dim != 1 else 0, keepdim)


@pytest.mark.parametrize("name", ["sum", "prod", "cumsum", "cumprod", "amax", "any", "all"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_result_dtypes(name: str, dtype: type) -> None:
    args = (0,) if name.startswith("cum") else ()
    check(name, array(5, dtype=dtype), *args, scale=4)


@pytest.mark.parametrize("name", ["sum", "prod", "mean"])
def test_dtype_argument(name: str) -> None:
    check(name, array(5, dtype=np.int32), dtype=dg.float64)
    check(name, array(5, dtype=np.float32), dtype=dg.float64)
    check("cumsum", array(5, dtype=np.int32), 0, dtype=dg.float32)


def test_no_elements() -> None:
    empty = np.zeros((0, 3))
    for name in ("sum", "prod", "mean", "all", "any"):
        check(name, empty)
    check("sum", empty, 0)
    check("sum", empty, 1)
    check("mean", empty, 0)
    check("amax", empty, 1)
    for name in ("amax", "argmax"):
        refuses(name, IndexError, empty, 0)


def test_mean_of_integers_is_refused() -> None:
    refuses("mean", RuntimeError, array(3, dtype=np.int64))


def test_bad_dims() -> None:
    refuses("sum", IndexError, array(2, 3), 2)
    refuses("sum", IndexError, array(2, 3), -3)
    refuses("sum", RuntimeError, array(2, 3), (0, 0))


def test_ties_and_nan() -> None:
    ties = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    for name in ("amax", "amin"):
        check(name, ties, 1)
        check(name, ties)
    check("max", ties)
    check("max", ties, 1)
    nan = np.array([[1.0, np.nan], [2.0, 0.0]])
    for name in ("max", "min", "amax", "argmax", "argmin", "sum"):
        check(name, nan, 1, grad=False)
    check("nansum", nan)
    check("nanmean", nan)
    check("median", nan, 1, grad=False)


def test_prod_with_zeros() -> None:
    check("prod", np.array([[1.0, 0.0, 3.0], [0.0, 0.0, 2.0]]), 1)
    check("prod", np.array([0.0, 2.0]))


def test_max_of_two() -> None:
    check("max", array(3, 4), array(4, seed=1))
    check("min", array(3, 4), array(4, seed=1))


def test_named_results() -> None:
    found = dg.tensor([[1.0, 5.0], [7.0, 2.0]]).max(1)
    assert found.values.tolist() == [5, 7]
    assert found.indices.tolist() == [1, 0]
    values, _indices = found
    assert values is found[0]
    assert repr(found).startswith("dualgraph.return_types.max(\nvalues=tensor([5., 7.])")
    assert dg.ones(3).aminmax().max.item() == 1


@pytest.mark.parametrize("name", ["var", "std", "var_mean", "std_mean"])
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("correction", [0, 1, 2])
def test_variance(name: str, keepdim: bool, correction: int) -> None:
    check(name, array(4, 5), 1, correction=correction, keepdim=keepdim)
    check(name, array(4, 5), (0, 1), correction=correction, keepdim=keepdim)


def test_variance_variants() -> None:
    check("var", array(4, 5))
    check("var", array(4, 5), False)
    check("var", array(4, 5), 0, False)
    check("std", array(4, 5), unbiased=False)
    check("var", array(1))
    check("std", np.ones((2, 3)), 1)
    check("var", array(4, dtype=np.complex128))
    refuses("var", RuntimeError, array(3, dtype=np.int64))


@pytest.mark.parametrize("p", [2, 1, 0, float("inf"), float("-inf"), 3, 0.5, "fro"])
def test_norms(p: object) -> None:
    grad = p != 0  # the gradient of a count
    check("norm", array(3, 4), p, grad=grad)
    check("norm", array(3, 4), p, 1, grad=grad)
    check("norm", array(3, 4), p, (0, 1), True, grad=grad)


def test_norm_at_zero() -> None:
    check("norm", np.zeros(3))
    check("norm", np.zeros((2, 3)), 2, 1)
    check("dist", array(3), array(3, seed=1), 2)


def test_running() -> None:
    for name in ("cumsum", "cumprod"):
        check(name, array(3, 4), 0)
        check(name, array(3, 4), -1)
    check("cumprod", np.array([1.0, 0.0, 2.0, 0.0, 3.0]), 0)
    check("diff", array(3, 5))
    check("diff", array(3, 5), 2, 0)


def test_counts() -> None:
    a = array(4, 5, dtype=np.int64)
    check("count_nonzero", a)
    check("count_nonzero", a, 1)
    check("bincount", np.array([0, 2, 2, 5]))
    check("bincount", np.array([0, 2, 2, 5]), array(4), minlength=8, grad=False)


# -- order ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_sort(descending: bool, dim: int) -> None:
    check("sort", array(5, 6), dim, descending)
    check("argsort", array(5, 6), dim, descending)
    check("sort", array(5, 6, dtype=np.int64), dim=dim, descending=descending, stable=True)


def test_order_of_scalars() -> None:
    check("sort", np.array(3.0))
    check("topk", np.array(3.0), 1)
    check("msort", array(4, 2))


@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize("k", [0, 1, 3])
def test_topk(largest: bool, k: int) -> None:
    check("topk", array(5, 6), k, largest=largest)
    check("topk", array(5, 6), k, 0, largest)
    refuses("topk", RuntimeError, array(3), 4)


def test_kthvalue_and_quantile() -> None:
    check("kthvalue", array(4, 5), 2)
    check("kthvalue", array(4, 5), 3, 0, True)
    check("quantile", array(4, 5), 0.3)
    check("quantile", array(4, 5), np.array([0.1, 0.5, 1.0]), 1, grad=False)
    for mode in ("lower", "higher", "midpoint", "nearest"):
        check("quantile", array(9), 0.37, interpolation=mode)
    check("quantile", array(4, 5), 0.5, 1, True)


def test_distinct() -> None:
    a = np.array([[3, 1, 3], [2, 2, 1]])
    check("unique", a)
    check("unique", a, return_inverse=True, return_counts=True)
    check("unique", np.array([[1, 2], [1, 2], [0, 1]]), dim=0)
    check("unique_consecutive", np.array([1, 1, 2, 2, 1]))


def test_searching() -> None:
    edges = np.array([1.0, 3.0, 5.0])
    values = np.array([[0.0, 1.0], [3.0, 9.0]])
    check("searchsorted", edges, values, grad=False)
    check("searchsorted", edges, values, right=True, grad=False)
    check("bucketize", values, edges, grad=False)
    check("isin", array(5, dtype=np.int64), np.array([1, 2]))


def test_gradients_through_order() -> None:
    compare(lambda s: s.tensor(array(4, 5)).sort(1)[0][:, :2] ** 2, "sort")
    compare(lambda s: s.tensor(array(4, 5)).max(0).values * 3, "max")
