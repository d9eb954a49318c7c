"""Named results, as ``torch.return_types``."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

from ..functions.results import named


def results(name: str, fields: str) -> Any:
    """A result type with such fields; made from one tuple."""
    return named(name, namedtuple("fields", fields))


Cholesky = results("linalg_cholesky_ex", "L info")
Eig = results("linalg_eig", "eigenvalues eigenvectors")
Eigh = results("linalg_eigh", "eigenvalues eigenvectors")
Inverse = results("linalg_inv_ex", "inverse info")
LdlFactor = results("linalg_ldl_factor", "LD pivots")
LdlFactorEx = results("linalg_ldl_factor_ex", "LD pivots info")
Lstsq = results("linalg_lstsq", "solution residuals rank singular_values")
Lu = results("linalg_lu", "P L U")
LuFactor = results("linalg_lu_factor", "LU pivots")
LuFactorEx = results("linalg_lu_factor_ex", "LU pivots info")
Qr = results("linalg_qr", "Q R")
Slogdet = results("linalg_slogdet", "sign logabsdet")
Solve = results("linalg_solve_ex", "result info")
Svd = results("linalg_svd", "U S Vh")
