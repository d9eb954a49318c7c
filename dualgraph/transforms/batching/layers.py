"""Operations on samples: the batch becomes more samples. Normalisations and losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.dims import DimLike
from dualgraph_compiler.ops import adaptive_pool as ap
from dualgraph_compiler.ops import avg_pool as av
from dualgraph_compiler.ops import composite as co
from dualgraph_compiler.ops import f
from dualgraph_compiler.ops import loss as lo
from dualgraph_compiler.ops import norm as no
from dualgraph_compiler.ops import pool as po
from dualgraph_compiler.ops.batch_norm import BatchNorm
from dualgraph_compiler.ops.sampling import GridSample

from ..._dispatch import apply
from .rules import altered, as_is, everywhere, merged, parted, rule

if TYPE_CHECKING:
    from ..._tensor import Tensor

rule(co.Gelu, co.HardSwish, co.Mish, co.Silu, co.Softsign)(as_is)


@rule(
    ap.AdaptiveAvgPool,
    ap.AdaptiveAvgPoolGrad,
    ap.AdaptiveMaxPool,
    av.AvgPool,
    av.AvgPoolGrad,
    po.MaxPool,
    po.MaxPoolGather,
    po.MaxPoolGrad,
    po.MaxPoolIndices,
    GridSample,
)
def _samples(op: Any, size: DimLike, xs: Sequence[Tensor], flags: Sequence[bool]) -> Any:
    outputs: Any = apply(op, *map(merged, everywhere(size, xs, flags)))
    if type(outputs) is tuple:
        return tuple(parted(y, size) for y in outputs)
    return parted(outputs, size)


@rule(no.GroupNorm, BatchNorm)
def _with_parameters(op: Any, size: DimLike, xs: Sequence[Tensor], flags: Sequence[bool]) -> Any:
    if any(flags[1:]):
        from . import by_formula

        return by_formula(op, size, xs, flags)
    return parted(apply(op, merged(xs[0]), *xs[1:]), size)


@rule(no.LayerNorm, no.RmsNorm)
def _trailing(op: Any, size: DimLike, xs: Sequence[Tensor], flags: Sequence[bool]) -> Any:
    if any(flags[1:]):
        from . import by_formula

        return by_formula(op, size, xs, flags)
    return apply(op, *xs)


@rule(lo.NllLoss)
def _nll(op: Any, size: DimLike, xs: Sequence[Tensor], flags: Sequence[bool]) -> Any:
    if any(flags[2:]):
        from . import slices

        return slices(op, size, xs, flags)
    x, target = everywhere(size, xs[:2], flags[:2])
    weight = tuple(xs[2:])
    single = target.ndim == 1
    if not single:
        x, target = merged(x), merged(target)
    losses = apply(altered(op, reduction="none"), x, target, *weight)
    losses = losses if single else parted(losses, size)
    if op.reduction == "none":
        return losses
    axes = tuple(range(1, losses.ndim))
    total = f.sum(losses, axes)
    if op.reduction == "sum":
        return total
    ones = f.full(x, tuple(x.shape), -1)
    counted = apply(altered(op, reduction="none"), ones, target, *weight)
    return total / f.sum(counted if single else parted(counted, size), axes)


@rule(lo.NllLossGrad)
def _nll_grad(op: Any, size: DimLike, xs: Sequence[Tensor], flags: Sequence[bool]) -> Any:
    if any(flags[2:]):
        from . import slices

        return slices(op, size, xs, flags)
    g, target = everywhere(size, xs[:2], flags[:2])
    weight = tuple(xs[2:])
    single = target.ndim == 1
    whole = target if single else merged(target)
    plain = altered(op, reduction="none")
    if op.reduction != "none":
        g = f.expand(f.reshape(g, (size, *(1,) * (target.ndim - 1))), tuple(target.shape))
    if op.reduction == "mean":
        shape = (*whole.shape[:1], op.classes, *whole.shape[1:])
        ones = f.full(g, shape, -1)
        loss = lo.NllLoss("none", op.ignore_index)
        counted = f.reshape(apply(loss, ones, whole, *weight), tuple(target.shape))
        g = g / f.sum(counted, tuple(range(1, target.ndim)), True)
    y = apply(plain, g if single else merged(g), whole, *weight)
    return y if single else parted(y, size)
