"""Weight norm and spectral norm of the older kind: a hook computes the weight before each call.

:mod:`.parametrizations` has what replaces them. These keep the names that older states have:
`weight_g` and `weight_v`; `weight_orig`, `weight_u` and `weight_v`.
"""

from __future__ import annotations

from typing import Any, TypeVar

import dualgraph.nn.functional as F
from dualgraph import functions as fn
from dualgraph._tensor import Tensor
from dualgraph.autograd.grad_mode import no_grad
from dualgraph.nn.modules.module import Module
from dualgraph.nn.parameter import Parameter, is_lazy
from dualgraph_compiler.errors import ArgumentError

from ._norms import norm_except
from .parametrizations import output_axis

T = TypeVar("T", bound=Module)


class Reweighting:
    """A forward pre-hook that sets the tensor `name` of a module."""

    def __init__(self, name: str) -> None:
        self.name = name

    def compute_weight(self, module: Any) -> Tensor:
        """The tensor for the next call."""
        raise NotImplementedError

    def __call__(self, module: Any, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module))

    def begin(self, module: Any) -> Parameter:
        """Take the parameter out of the module, to put others in its place."""
        for hook in module._forward_pre_hooks.values():
            if type(hook) is type(self) and hook.name == self.name:
                raise RuntimeError(
                    f"Cannot register two {type(self).__name__} hooks on the same parameter "
                    f"{self.name}"
                )
        weight = module._parameters.get(self.name)
        if weight is None or is_lazy(weight):
            raise ArgumentError(
                f"{type(self).__name__}: the module has no parameter `{self.name}` with a size"
            )
        del module._parameters[self.name]
        return weight  # type: ignore[no-any-return]

    def end(self, module: Any, weight: Tensor, *names: str) -> None:
        """Put an ordinary parameter back and remove what stood for it."""
        for name in (self.name, *names):
            delattr(module, name)
        setattr(module, self.name, Parameter(weight.detach()))


def _remove(module: Any, kind: type[Reweighting], name: str) -> None:
    for key, hook in list(module._forward_pre_hooks.items()):
        if isinstance(hook, kind) and hook.name == name:
            hook.remove(module)  # type: ignore[attr-defined]
            del module._forward_pre_hooks[key]
            return
    raise ArgumentError(f"{kind.__name__} of '{name}' not found in {module}")


# -- weight norm ----------------------------------------------------------------------------------


class WeightNorm(Reweighting):
    """weight = weight_g weight_v / |weight_v|."""

    def __init__(self, name: str, dim: int | None) -> None:
        super().__init__(name)
        self.dim = -1 if dim is None else dim

    def compute_weight(self, module: Any) -> Tensor:
        g, v = getattr(module, f"{self.name}_g"), getattr(module, f"{self.name}_v")
        return v * (g / norm_except(v, self.dim))  # type: ignore[no-any-return]

    def remove(self, module: Any) -> None:
        """Make the weight an ordinary parameter."""
        self.end(module, self.compute_weight(module), f"{self.name}_g", f"{self.name}_v")


def weight_norm(module: T, name: str = "weight", dim: int | None = 0) -> T:
    """Train length `weight_g` and direction `weight_v` of a weight (Salimans & Kingma 2016).

    Args:
        name: of the parameter.
        dim: the axis with lengths of its own; None for one length.

    Source: torch.nn.utils.weight_norm.
    """
    hook = WeightNorm(name, dim)
    weight = hook.begin(module)
    length = norm_except(weight.detach(), hook.dim)
    module.register_parameter(f"{name}_g", Parameter(length))
    module.register_parameter(f"{name}_v", Parameter(weight.data))
    hook(module, None)
    module.register_forward_pre_hook(hook)
    return module


def remove_weight_norm(module: T, name: str = "weight") -> T:
    """Undo `weight_norm`; the weight stays as it is."""
    _remove(module, WeightNorm, name)
    return module


# -- spectral norm --------------------------------------------------------------------------------


class SpectralNorm(Reweighting):
    """weight = weight_orig / sigma, its largest singular value by power iteration."""

    def __init__(self, name: str, n_power_iterations: int, dim: int, eps: float) -> None:
        super().__init__(name)
        if n_power_iterations <= 0:
            raise ArgumentError(
                "Expected n_power_iterations to be positive, but got n_power_iterations="
                f"{n_power_iterations}"
            )
        self.n_power_iterations = n_power_iterations
        self.dim = dim
        self.eps = eps

    def matrix(self, weight: Tensor) -> Tensor:
        """The weight as a matrix, outputs first."""
        x = weight.movedim(self.dim, 0) if self.dim else weight
        return x.reshape(x.shape[0], -1)

    def compute_weight(self, module: Any, iterate: bool | None = None) -> Tensor:
        weight = getattr(module, f"{self.name}_orig")
        u, v = getattr(module, f"{self.name}_u"), getattr(module, f"{self.name}_v")
        matrix = self.matrix(weight)
        if module.training if iterate is None else iterate:
            with no_grad():
                for _ in range(self.n_power_iterations):
                    v.copy_(F.normalize(matrix.t().mv(u), dim=0, eps=self.eps))
                    u.copy_(F.normalize(matrix.mv(v), dim=0, eps=self.eps))
                u, v = u.clone(), v.clone()  # the next call writes to the buffers
        return weight / fn.dot(u, matrix.mv(v))  # type: ignore[no-any-return]

    def remove(self, module: Any) -> None:
        """Make the weight an ordinary parameter."""
        with no_grad():
            weight = self.compute_weight(module, iterate=False)
        self.end(module, weight, *(f"{self.name}_{end}" for end in ("u", "v", "orig")))


def spectral_norm(
    module: T,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> T:
    """Divide a weight by its largest singular value (Miyato et al. 2018).

    Arguments as for ``parametrizations.spectral_norm``. Source: torch.nn.utils.spectral_norm.
    """
    hook = SpectralNorm(name, n_power_iterations, output_axis(module) if dim is None else dim, eps)
    weight = hook.begin(module)
    rows, columns = hook.matrix(weight.detach()).shape
    module.register_parameter(f"{name}_orig", weight)
    setattr(module, name, weight.data)
    for end, size in (("u", rows), ("v", columns)):
        drawn = weight.detach().new_empty(size).normal_()
        module.register_buffer(f"{name}_{end}", F.normalize(drawn, dim=0, eps=eps))
    module.register_forward_pre_hook(hook)
    return module


def remove_spectral_norm(module: T, name: str = "weight") -> T:
    """Undo `spectral_norm`; the weight stays as it was last."""
    _remove(module, SpectralNorm, name)
    return module
