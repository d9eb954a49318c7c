"""Linear algebra, as ``torch.linalg``: over batches of matrices, real and complex.

Factorizations are ops (`dualgraph_compiler.ops.triangular`, `lu`, `orthogonal`, `spectral`,
`matrix`); everything else is composed of them. Gradients are written in the same ops, and so
differentiate to any order, and compile.

    factors     cholesky, qr, lu, ldl, householder_product
    spectra     eig, eigh, svd and their values
    solvers     det, slogdet, inv, pinv, solve, lstsq, with triangles, factors and tensors
    norms       norm, cond, matrix_rank
    products    multi_dot, matrix_power, matrix_exp, vander, vecdot, cross
    legacy      the older forms that are ``dualgraph``'s own and methods of Tensor
"""

from dualgraph_compiler.errors import LinAlgError

from .factors import (
    cholesky,
    cholesky_ex,
    householder_product,
    ldl_factor,
    ldl_factor_ex,
    lu,
    lu_factor,
    lu_factor_ex,
    qr,
)
from .norms import cond, matrix_norm, matrix_rank, norm, vector_norm
from .products import (
    cross,
    diagonal,
    matmul,
    matrix_exp,
    matrix_power,
    multi_dot,
    vander,
    vecdot,
)
from .solvers import (
    det,
    inv,
    inv_ex,
    ldl_solve,
    lstsq,
    lu_solve,
    pinv,
    slogdet,
    solve,
    solve_ex,
    solve_triangular,
    tensorinv,
    tensorsolve,
)
from .spectra import eig, eigh, eigvals, eigvalsh, svd, svdvals

__all__ = [
    "LinAlgError",
    "cholesky",
    "cholesky_ex",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "householder_product",
    "inv",
    "inv_ex",
    "ldl_factor",
    "ldl_factor_ex",
    "ldl_solve",
    "lstsq",
    "lu",
    "lu_factor",
    "lu_factor_ex",
    "lu_solve",
    "matmul",
    "matrix_exp",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "multi_dot",
    "norm",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "solve_ex",
    "solve_triangular",
    "svd",
    "svdvals",
    "tensorinv",
    "tensorsolve",
    "vander",
    "vecdot",
    "vector_norm",
]
