"""Limits on the size of gradients, applied between `backward` and the optimizer's step."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dualgraph import functions
from dualgraph._dispatch import apply, captures, make
from dualgraph._promote import cast, scalar
from dualgraph._tensor import Tensor
from dualgraph.autograd.grad_mode import no_grad
from dualgraph.autograd.inplace import assign
from dualgraph_compiler.dtypes import REAL_OF, bfloat16, float32, promote_types
from dualgraph_compiler.errors import DualGraphError
from dualgraph_compiler.kernels.optimizers import vector_norm
from dualgraph_compiler.ops.base import array_module
from dualgraph_compiler.ops.extremum import Maximum, Minimum
from dualgraph_compiler.ops.optimizer import VectorNorm

__all__ = ["clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm"]


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients, in place, so that their common norm is at most `max_norm`.

    Args:
        parameters: whose gradients to scale; those without one are passed over.
        max_norm: the largest norm allowed.
        norm_type: order p of the norm, or `inf` for the largest absolute value.
        error_if_nonfinite: raise instead of scaling by a norm that is NaN or infinite.
        foreach: a hint of PyTorch, without meaning here.

    Returns:
        The norm before scaling, as if all gradients were one vector, 0-d.

    Raises:
        DualGraphError: the norm is not finite and `error_if_nonfinite` is set.
    """
    params = _as_list(parameters)
    grads = [p.grad for p in params if p.grad is not None]
    total = get_total_norm(grads, norm_type, error_if_nonfinite)
    clip_grads_with_norm_(params, max_norm, total)
    return total


clip_grad_norm = clip_grad_norm_  # the name that it had before


def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Return the norm of all `tensors` taken as one vector, 0-d, on the first one's device.

    Raises:
        DualGraphError: the norm is not finite and `error_if_nonfinite` is set.
    """
    given = _as_list(tensors)
    if not given:
        return functions.zeros((), dtype=float32)
    if captures.current is not None:
        total = _traced_norm(given, norm_type)
        if error_if_nonfinite:
            total._concrete("error_if_nonfinite=True")
        return total
    arrays = [t._data for t in given]
    xp = array_module(arrays[0])
    with np.errstate(all="ignore"):
        norms = [vector_norm(xp, a, norm_type) for a in arrays]
        # Norms from another device come over as numbers.
        norms = [n if array_module(n) is xp else xp.asarray(float(n)) for n in norms]
        total = vector_norm(xp, xp.stack(norms), norm_type)
    if error_if_nonfinite and not bool(xp.isfinite(total)):
        raise DualGraphError(
            f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, "
            "so it cannot be clipped. To disable this error and scale the gradients by the "
            "non-finite norm anyway, set `error_if_nonfinite=False`"
        )
    return make(total.astype(arrays[0].real.dtype))


def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    total_norm: Tensor,
    foreach: bool | None = None,
) -> None:
    """Multiply all gradients, in place, with `min(1, max_norm / (total_norm + 1e-6))`."""
    if captures.current is not None:
        _traced_scale(_as_list(parameters), max_norm, total_norm)
        return
    with np.errstate(all="ignore"):
        scale = float(max_norm) / (total_norm._data + 1e-6)
        for grad in (p.grad for p in _as_list(parameters)):
            if grad is None:
                continue
            xp = array_module(grad._data)
            factor = scale if array_module(scale) is xp else xp.asarray(float(scale))
            factor = xp.minimum(factor, 1.0)
            # Only on the host is it free to ask whether there is anything to do.
            if xp is np and factor == 1.0:
                continue
            xp.multiply(grad._data, factor, out=grad._data, casting="unsafe")
            grad._bump_version()


def clip_grad_value_(
    parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None
) -> None:
    """Limit every element of every gradient, in place, to [-clip_value, clip_value]."""
    limit = float(clip_value)
    if captures.current is not None:
        with no_grad():
            for grad in (p.grad for p in _as_list(parameters)):
                if grad is not None:
                    low, high = (_number(grad, x) for x in (-limit, limit))
                    assign(grad, apply(Maximum(), apply(Minimum(), grad, high), low))
        return
    for grad in (p.grad for p in _as_list(parameters)):
        if grad is not None:
            xp = array_module(grad._data)
            xp.minimum(grad._data, limit, out=grad._data)
            xp.maximum(grad._data, -limit, out=grad._data)
            grad._bump_version()


def _as_list(tensors: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


# -- in a capture: the same arithmetic as operations -----------------------------------------------


def _traced_norm(tensors: list[Tensor], order: float) -> Tensor:
    with no_grad():
        norms = [apply(VectorNorm(float(order)), t) for t in tensors]
        total: Tensor = apply(VectorNorm(float(order)), functions.stack(norms))
        dtype = tensors[0].dtype
        return cast(total, REAL_OF.get(dtype, dtype))


def _traced_scale(params: list[Tensor], max_norm: float, total: Tensor) -> None:
    with no_grad():
        if total.dtype is bfloat16:  # beside a Python number NumPy computes in float32
            total = cast(total, float32)
        scale = _number(total, float(max_norm)) / (total + _number(total, 1e-6))
        factor = apply(Minimum(), scale, _number(scale, 1.0))
        for grad in (p.grad for p in params):
            if grad is not None:
                assign(grad, _product(grad, factor))


def _product(grad: Tensor, factor: Tensor) -> Tensor:
    """`grad * factor`, computed as NumPy does, which counts 0-d arrays in promotion."""
    dtype = promote_types(grad.dtype, factor.dtype)
    return cast(cast(grad, dtype) * cast(factor, dtype), grad.dtype)


def _number(beside: Tensor, value: float) -> Tensor:
    """A number as an operand beside a tensor."""
    return scalar(value, beside.dtype, beside)
