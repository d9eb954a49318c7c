"""All parameters of a model as one vector, and back."""

from __future__ import annotations

from collections.abc import Iterable

from dualgraph import functions as fn
from dualgraph._tensor import Tensor
from dualgraph.autograd.grad_mode import no_grad
from dualgraph_compiler.errors import ArgumentError, DTypeError


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """Parameters one after the other as one vector [number of elements], differentiable.

    Source: torch.nn.utils.parameters_to_vector.
    """
    return fn.cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy the parts of a vector into parameters, in their order.

    Raises:
        DTypeError: `vec` is no tensor.
        ArgumentError: it has another number of elements than the parameters, in which case none is
            changed. (PyTorch keeps quiet about one that is too long.)

    Source: torch.nn.utils.vector_to_parameters.
    """
    if not isinstance(vec, Tensor):
        raise DTypeError(f"vector_to_parameters: expected a Tensor, got {type(vec).__name__}")
    targets = list(parameters)
    sizes = [p.numel() for p in targets]
    if sum(sizes) != vec.numel():
        raise ArgumentError(
            f"vector_to_parameters: expected {sum(sizes)} elements, as the parameters have, got "
            f"{vec.numel()}"
        )
    with no_grad():
        for p, part in zip(targets, vec.reshape(-1).split(sizes), strict=True):
            p.copy_(part.reshape(p.shape))
