"""Products of matrices against PyTorch, einsum among them."""

from __future__ import annotations

import numpy as np
import pytest

from .parity import array, check, compare, dg, refuses


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3,), (3,)),
        ((2, 3), (3,)),
        ((3,), (3, 4)),
        ((2, 3), (3, 4)),
        ((5, 2, 3), (3, 4)),
        ((2, 3), (5, 3, 4)),
        ((5, 2, 3), (5, 3, 4)),
        ((5, 1, 2, 3), (4, 3, 2)),
        ((3,), (5, 3, 4)),
        ((5, 2, 3), (3,)),
        ((2, 0), (0, 3)),
        ((0, 2), (2, 3)),
    ],
)
def test_matmul(a: tuple, b: tuple) -> None:
    check("matmul", array(*a), array(*b, seed=1))
    compare(lambda s: s.tensor(array(*a)) @ s.tensor(array(*b, seed=1)), "@")


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.complex128])
def test_matmul_dtypes(dtype: type) -> None:
    check("matmul", array(3, 4, dtype=dtype), array(4, 2, dtype=dtype), scale=4)


def test_products() -> None:
    check("mm", array(2, 3), array(3, 4))
    check("bmm", array(5, 2, 3), array(5, 3, 4))
    check("mv", array(2, 3), array(3))
    check("dot", array(3), array(3, seed=1))
    check("vdot", array(3, dtype=np.complex128), array(3, dtype=np.complex128, seed=1))
    check("outer", array(3), array(4))
    check("inner", array(2, 3), array(4, 3))
    check("addmm", array(2, 4), array(2, 3), array(3, 4))
    check("addmm", array(4), array(2, 3), array(3, 4), beta=0.5, alpha=2)
    check("addmv", array(2), array(2, 3), array(3))
    check("addr", array(2, 3), array(2), array(3))
    check("baddbmm", array(5, 2, 4), array(5, 2, 3), array(5, 3, 4), beta=2)
    check("addbmm", array(2, 4), array(5, 2, 3), array(5, 3, 4))
    check("trace", array(4, 3))
    check("kron", array(2, 3), array(3, 2))
    check("kron", array(2), array(2, 2))
    check("matrix_power", array(3, 3), 0, grad=False)
    check("matrix_power", array(3, 3), 3)
    check("cross", array(4, 3), array(4, 3, seed=1), dim=1)
    check("cdist", array(4, 3), array(5, 3))
    check("cosine_similarity", array(4, 3), array(4, 3, seed=1))


@pytest.mark.parametrize("dims", [0, 1, 2, ([1], [0]), ([0, 2], [2, 1])])
def test_tensordot(dims: object) -> None:
    b = {0: (2, 3), 1: (4, 2), 2: (3, 4, 5)}[dims] if isinstance(dims, int) else (3, 4, 2)
    check("tensordot", array(2, 3, 4), array(*b), dims=dims)


EQUATIONS = [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("ij,jk", (2, 3), (3, 4)),
    ("bij,bjk->bik", (5, 2, 3), (5, 3, 4)),
    ("ij->ji", (2, 3)),
    ("ii->i", (3, 3)),
    ("ii", (3, 3)),
    ("ij->", (2, 3)),
    ("ij->j", (2, 3)),
    ("i,j->ij", (2,), (3,)),
    ("i,i->", (3,), (3,)),
    ("ij,ij->ij", (2, 3), (2, 3)),
    ("ij,ij->i", (2, 3), (2, 3)),
    ("...ij,...jk->...ik", (5, 2, 3), (3, 4)),
    ("b...d,b...d->b...", (2, 3, 4), (2, 3, 4)),
    ("bhid,bhjd->bhij", (2, 3, 4, 5), (2, 3, 6, 5)),
    ("i,ij,j->", (2,), (2, 3), (3,)),
    ("ijk,kl,lm->ijm", (2, 3, 4), (4, 5), (5, 2)),
    ("ab,cd->dbca", (2, 3), (4, 5)),
    ("abc->cb", (2, 3, 4)),
    ("ij,ij->ij", (2, 1), (2, 3)),
    ("ij,jk->ik", (2, 1), (3, 4)),
    ("iij->ij", (2, 2, 3)),
    ("...->...", (2, 3)),
    ("i...->...", (2, 3)),
    ("bqc,bkc,bkv->bqv", (2, 3, 4), (2, 5, 4), (2, 5, 6)),
]


@pytest.mark.parametrize("case", EQUATIONS, ids=lambda c: c[0])
def test_einsum(case: tuple) -> None:
    equation, *shapes = case
    operands = [array(*s, seed=i) for i, s in enumerate(shapes)]
    compare(lambda s: s.module.einsum(equation, *map(s.tensor, operands)), equation)


def test_einsum_list_form() -> None:
    a, b = array(2, 3), array(3, 4)
    compare(lambda s: s.module.einsum(s.tensor(a), [0, 1], s.tensor(b), [1, 2], [0, 2]), "lists")


def test_refusals() -> None:
    refuses("matmul", RuntimeError, array(2, 3), array(4, 2))
    refuses("matmul", RuntimeError, array(2, 3), array(3, 2, dtype=np.float32))
    refuses("mm", RuntimeError, array(3), array(3, 2))
    refuses("bmm", RuntimeError, array(2, 3, 4), array(3, 4, 2))
    refuses("dot", RuntimeError, array(3), array(4))
    for equation in ("ij,jk->ik", "ij->ik", "ii"):
        with pytest.raises(RuntimeError):
            dg.einsum(equation, dg.ones(2, 3))
