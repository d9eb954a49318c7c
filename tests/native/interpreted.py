"""Op samples that are not compiled, and why: what a program's report says of their nodes.

A node may be another op than the sample's, one that it is made of. When an op gets a compiled form,
its line goes; `test_ops.py` holds this table to what is so.
"""

from __future__ import annotations


def _of(op: str, *dtypes: str) -> set[tuple[str, str]]:
    return {(op, f"{op} of {t} has no native form yet") for t in dtypes}


def _none(op: str) -> set[tuple[str, str]]:
    return {(op, f"{op} has no native form yet")}


def _complex(op: str) -> set[tuple[str, str]]:
    return {(op, "complex numbers have no native form yet")}


_NARROW = "narrow dtypes have no native form yet"


_NO_FORM = """
binomial_of frexp gcd lcm log_cumsum_exp nextafter running_arg_max running_arg_min poisson_of
standard_gamma_slope xor_reduce
airy_ai bessel_j0 bessel_j1 bessel_k0 bessel_k1 bessel_y0 bessel_y1 igamma igammac polygamma
polynomial zeta
"""

INTERPRETED: dict[str, set[tuple[str, str]]] = {
    "as_strided": _none("as_strided"),
    "bit_cast": _none("bit_cast"),
    "cast": {("cast", _NARROW)},
    "conv": _of("conv", "float64"),  # of the parts of complex numbers
    "conv_input_grad": _none("conv_input_grad"),
    "conv_transpose": _none("conv_transpose"),
    "float8_cast": {("float8_cast", _NARROW)},
    "dequantize_linear": {("cast", _NARROW)},
    "gru": _none("gru"),
    "linear": _of("matmul", "float64"),  # a large one
    "lstm": _none("lstm"),
    "matmul": _of("matmul", "float64"),
    "quantize_linear": {("cast", _NARROW), ("float8_cast", _NARROW)},
    "rnn": _none("rnn"),
    "beginning": _none("beginning"),
    "non_max_suppression": _none("beginning") | _of("non_max_suppression", "float64"),
    "positions": _none("positions"),
    "range": _none("range"),
    "unique": _none("unique"),
    "ctc_loss": _none("ctc_loss"),
    "ctc_loss_grad": _none("ctc_loss_grad"),
    "det": _none("det"),
    "adjugate": _none("adjugate"),
    "cholesky": _of("cholesky", "float16") | _complex("cholesky"),
    "cholesky_solve": _none("cholesky_solve"),
    "eig": _none("eig"),
    "eigh": _none("eigh"),
    "eigvalsh": _none("eigvalsh"),
    "geqrf": _none("geqrf"),
    "ldl_factor": _none("ldl_factor"),
    "ldl_solve": _none("ldl_solve"),
    "lu_factor": _complex("lu_factor"),
    "matrix_exp": _none("matrix_exp"),
    "pinv": _none("pinv"),
    "qr": _none("qr"),
    "slog_det": _none("slog_det"),
    "solve": _none("solve"),
    "solve_triangular": _of("solve_triangular", "float16") | _complex("solve_triangular"),
    "svd": _none("svd"),
    "svdvals": _none("svdvals"),
    "dft": _none("dft"),
    "fresh_seed": {("fresh_seed", "fresh_seed is not a pure function")},
    "inverse": _none("inverse"),
    "inverse_real_dft": _none("inverse_real_dft"),
    "real_dft": _none("real_dft"),
    "roi_align_grad": _none("roi_align_grad"),
    **{name: _none(name) for name in _NO_FORM.split()},
}
