"""Weights of a given norm, with orthogonal columns, or with a direction and length of their own."""

from __future__ import annotations

from typing import Any, TypeVar

import dualgraph.nn.functional as F
from dualgraph import functions as fn
from dualgraph._tensor import Tensor
from dualgraph.autograd.grad_mode import no_grad
from dualgraph.nn.modules import conv
from dualgraph.nn.modules.module import Module
from dualgraph_compiler.errors import ArgumentError

from ._norms import norm_except
from ._orthogonal import _Orthogonal
from .parametrize import register_parametrization

__all__ = ["orthogonal", "spectral_norm", "weight_norm"]

T = TypeVar("T", bound=Module)


def _weight(module: Module, name: str) -> Tensor:
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ArgumentError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    return weight


def output_axis(module: Module) -> int:
    """The axis of a layer's weight that its outputs are on."""
    return 1 if isinstance(module, conv._ConvTranspose) else 0


# -- orthogonal -----------------------------------------------------------------------------------


def orthogonal(
    module: T,
    name: str = "weight",
    orthogonal_map: str | None = None,
    *,
    use_trivialization: bool = True,
) -> T:
    """Keep a matrix (or batch of them) orthogonal: its columns, or rows if there are fewer.

    Args:
        name: of the parameter.
        orthogonal_map: what makes a matrix orthogonal: "matrix_exp", "cayley" or "householder"; by
            default "householder" but for square and complex matrices.
        use_trivialization: start from the present matrix, and train what it is multiplied with.

    Raises:
        ArgumentError: the tensor is a vector, or the map is unknown or not for it.

    Source: torch.nn.utils.parametrizations.orthogonal; M. Lezcano-Casado (2019).
    """
    weight = _weight(module, name)
    if weight.ndim < 2:
        raise ArgumentError(
            f"Expected a matrix or batch of matrices. Got a tensor of {weight.ndim} dimensions."
        )
    if orthogonal_map is None:
        square = weight.shape[-2] == weight.shape[-1]
        orthogonal_map = "matrix_exp" if square or weight.is_complex() else "householder"
    made = _Orthogonal(weight, orthogonal_map, use_trivialization=use_trivialization)
    return register_parametrization(module, name, made, unsafe=True)


# -- weight norm ----------------------------------------------------------------------------------


class _WeightNorm(Module):
    """W = g v / |v|, the norm over all axes but `dim` (over all where that is None or -1)."""

    def __init__(self, dim: int | None = 0) -> None:
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        return weight_v * (weight_g / norm_except(weight_v, self.dim))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Length and direction of a weight."""
        return norm_except(weight, self.dim), weight


def weight_norm(module: T, name: str = "weight", dim: int | None = 0) -> T:
    """Train the length and the direction of a weight apart (Salimans & Kingma 2016).

    Originals are `original0`, the length, and `original1`, the direction; states with `weight_g`
    and `weight_v`, as the older ``nn.utils.weight_norm`` wrote them, load as well.

    Args:
        name: of the parameter.
        dim: the axis with lengths of its own; None for one length.
    """
    _weight(module, name)
    register_parametrization(module, name, _WeightNorm(dim), unsafe=True)
    module._register_load_state_dict_pre_hook(_Renamed(name))
    return module


class _Renamed:
    """Reads the names of ``nn.utils.weight_norm`` in a state that is loaded."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, state: dict[str, Any], prefix: str, *_: Any) -> None:
        old = [f"{prefix}{self.name}_g", f"{prefix}{self.name}_v"]
        if all(key in state for key in old):
            for i, key in enumerate(old):
                state[f"{prefix}parametrizations.{self.name}.original{i}"] = state.pop(key)


# -- spectral norm --------------------------------------------------------------------------------


class _SpectralNorm(Module):
    """W divided by its largest singular value, which power iteration finds while training."""

    _u: Tensor
    _v: Tensor

    def __init__(
        self, weight: Tensor, n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12
    ) -> None:
        super().__init__()
        if not -weight.ndim <= dim < weight.ndim:
            raise IndexError(
                "Dimension out of range (expected to be in range of "
                f"[-{weight.ndim}, {weight.ndim - 1}] but got {dim})"
            )
        if n_power_iterations <= 0:
            raise ArgumentError(
                "Expected n_power_iterations to be positive, but got n_power_iterations="
                f"{n_power_iterations}"
            )
        self.dim = dim % weight.ndim
        self.eps = eps
        if weight.ndim > 1:
            self.n_power_iterations = n_power_iterations
            matrix = self._matrix(weight)
            rows, columns = matrix.shape
            for name, size in (("_u", rows), ("_v", columns)):
                drawn = matrix.new_empty(size).normal_()
                self.register_buffer(name, F.normalize(drawn, dim=0, eps=eps))
            self._iterate(matrix, 15)

    def _matrix(self, weight: Tensor) -> Tensor:
        """The weight as a matrix, outputs first."""
        x = weight.movedim(self.dim, 0) if self.dim else weight
        return x.flatten(1)

    def _iterate(self, matrix: Tensor, times: int) -> None:
        with no_grad():
            for _ in range(times):
                self._u.copy_(F.normalize(matrix.mv(self._v), dim=0, eps=self.eps))
                self._v.copy_(F.normalize(matrix.mH.mv(self._u), dim=0, eps=self.eps))

    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix = self._matrix(weight)
        if self.training:
            self._iterate(matrix, self.n_power_iterations)
        # Copies: the next call writes to the buffers, and may come before this one's backward.
        u, v = self._u.clone(), self._v.clone()
        return weight / fn.vdot(u, matrix.mv(v))

    def right_inverse(self, value: Tensor) -> Tensor:
        """The value itself, which may not be of norm 1."""
        return value


def spectral_norm(
    module: T,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> T:
    """Divide a weight by its largest singular value (Miyato et al. 2018).

    Args:
        name: of the parameter.
        n_power_iterations: steps of the power iteration at each call in training.
        eps: the least norm of its vectors.
        dim: the axis that the outputs are on; by default 0, of transposed convolutions 1.
    """
    weight = _weight(module, name)
    axis = output_axis(module) if dim is None else dim
    made = _SpectralNorm(weight, n_power_iterations, axis, eps)
    return register_parametrization(module, name, made)
