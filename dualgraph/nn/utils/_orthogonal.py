"""Maps from matrices to orthogonal ones."""

from __future__ import annotations

from dualgraph import functions as fn
from dualgraph import linalg
from dualgraph._tensor import Tensor
from dualgraph.nn.modules.module import Module
from dualgraph_compiler.errors import ArgumentError, ShapeError

_MAPS = ("matrix_exp", "cayley", "householder")


def _is_orthogonal(q: Tensor) -> bool:
    n, k = q.shape[-2:]
    eye = fn.eye(k, dtype=q.dtype, device=q.device)
    slack = 10 * n * fn.finfo(q.dtype).eps
    return fn.allclose(q.mH @ q, eye.expand(*q.shape[:-2], k, k), atol=slack)


def _orthogonalized(a: Tensor) -> Tensor:
    """Q of a = Q R with a positive diagonal of R."""
    q, r = linalg.qr(a)
    return q * r.diagonal(0, -2, -1).sgn().unsqueeze(-2)  # type: ignore[no-any-return]


class _Orthogonal(Module):
    """Q(X) with orthonormal columns, or rows where a matrix has fewer of them; batches alike.

    Args:
        weight: the matrix, for its shape.
        orthogonal_map: "matrix_exp", exp(A), or "cayley", (I + A/2)(I - A/2)^-1, of A = X - X^H of
            X's lower triangle; or "householder", a product of reflections.
        use_trivialization: Q = base Q(X), the base what was assigned last.
    """

    base: Tensor | None

    def __init__(
        self, weight: Tensor, orthogonal_map: str, *, use_trivialization: bool = True
    ) -> None:
        super().__init__()
        if orthogonal_map not in _MAPS:
            raise ArgumentError(
                f'orthogonal_map has to be one of "matrix_exp", "cayley", "householder". Got: '
                f"{orthogonal_map}"
            )
        if weight.is_complex() and orthogonal_map == "householder":
            raise ArgumentError("The householder parametrization does not support complex tensors.")
        self.shape = tuple(weight.shape)
        self.orthogonal_map = orthogonal_map
        self.use_trivialization = use_trivialization
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, x: Tensor) -> Tensor:
        wide = x.shape[-2] < x.shape[-1]
        x = x.mT if wide else x
        n, k = x.shape[-2:]
        q = self._reflected(x) if self.orthogonal_map == "householder" else self._rotated(x, n, k)
        if self.use_trivialization and self.base is not None:
            q = self.base @ q
        return q.mT if wide else q

    def _rotated(self, x: Tensor, n: int, k: int) -> Tensor:
        x = x.tril()
        if n != k:
            x = fn.cat([x, x.new_zeros((*x.shape[:-2], n, n - k))], -1)
        a = x - x.mH
        if self.orthogonal_map == "matrix_exp":
            q = linalg.matrix_exp(a)
        else:
            eye = fn.eye(n, dtype=a.dtype, device=a.device)
            q = linalg.solve(eye - a * 0.5, eye + a * 0.5)
        return q[..., :k] if n != k else q

    @staticmethod
    def _reflected(x: Tensor) -> Tensor:
        a = x.tril(-1)
        tau = 2.0 / (1.0 + (a * a).sum(-2))
        q = linalg.householder_product(a, tau)
        # The diagonal says, by 1 or -1, which way a column points.
        return q * x.diagonal(0, -2, -1).to(fn.arange(1).dtype).to(x.dtype).unsqueeze(-2)

    def right_inverse(self, q: Tensor) -> Tensor:
        """An X that gives `q`, or with a base, which `q` becomes, one that gives the identity."""
        if tuple(q.shape) != self.shape:
            raise ShapeError(
                f"Expected a matrix or batch of matrices of shape {self.shape}. Got a tensor of "
                f"shape {tuple(q.shape)}."
            )
        given = q
        wide = q.shape[-2] < q.shape[-1]
        q = q.mT if wide else q
        n, k = q.shape[-2:]
        if self.use_trivialization:
            if n != k:
                more = q.new_empty((*q.shape[:-2], n, n - k)).normal_()
                q = _orthogonalized(fn.cat([q, more], -1))
            else:
                q = q.clone() if _is_orthogonal(q) else _orthogonalized(q)
            self.base = q
            identity = fn.zeros_like(given)
            identity.diagonal(0, -2, -1).fill_(-1.0)
            return identity
        if self.orthogonal_map != "householder":
            raise NotImplementedError(
                "It is not possible to assign to the matrix exponential or the Cayley "
                "parametrizations when use_trivialization=False."
            )
        a, tau = fn.geqrf(q)
        signs = a.diagonal(0, -2, -1)
        signs.sign_()
        signs.masked_fill_(tau == 0, -1.0)
        return a.mT if wide else a  # type: ignore[no-any-return]
