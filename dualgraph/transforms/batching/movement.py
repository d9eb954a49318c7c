"""Movements, reductions, and what works along axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.dims import DimLike
from dualgraph_compiler.ops import cumulative as cu
from dualgraph_compiler.ops import f
from dualgraph_compiler.ops import indexing as ix
from dualgraph_compiler.ops import movement as mv
from dualgraph_compiler.ops import padding as pd
from dualgraph_compiler.ops import quantifier as qu
from dualgraph_compiler.ops import rearrange as re
from dualgraph_compiler.ops import reduction as rd
from dualgraph_compiler.ops import slicing as sl
from dualgraph_compiler.ops import sorting as so
from dualgraph_compiler.ops.barrier import Barrier
from dualgraph_compiler.ops.composite import LogSoftmax, Softmax
from dualgraph_compiler.ops.fourier import Dft, InverseRealDft, RealDft
from dualgraph_compiler.ops.numeric import XorReduce
from dualgraph_compiler.ops.running import LogCumsumExp, RunningArgMax, RunningArgMin

from ..._dispatch import apply
from .rules import altered, as_is, everywhere, lifted, rule

if TYPE_CHECKING:
    from ..._tensor import Tensor


@rule(rd.Sum, rd.Mean, rd.Max, rd.Min, rd.Prod, rd.LogSumExp, qu.All, qu.Any, re.Flip, XorReduce)
def _over_axes(op: Any, _size: DimLike, xs: Sequence[Tensor], _flags: Sequence[bool]) -> Any:
    return apply(altered(op, axes=tuple(_behind(a) for a in op.axes)), *xs)


def _behind(axis: int) -> int:
    """An axis of an element as one of the batch; from the end, they are counted alike."""
    return axis + 1 if axis >= 0 else axis


@rule(
    Softmax,
    LogSoftmax,
    Dft,
    InverseRealDft,
    LogCumsumExp,
    RealDft,
    RunningArgMax,
    RunningArgMin,
    cu.Cumprod,
    cu.Cumsum,
    cu.LinearScan,
    ix.Gather,
    ix.Scatter,
    ix.ScatterAdd,
    ix.ScatterReduce,
    re.Concat,
    so.ArgMax,
    so.ArgMin,
    so.Sort,
    so.TopK,
)
def _along_axis(op: Any, size: DimLike, xs: Sequence[Tensor], flags: Sequence[bool]) -> Any:
    xs = everywhere(size, xs, flags)
    single = all(x.ndim == 1 for x in xs)  # 0-d elements have an axis 0, too
    xs = [f.reshape(x, (size, 1)) if x.ndim == 1 else x for x in xs]
    outputs: Any = apply(altered(op, axis=_behind(op.axis)), *xs)
    if not single:
        return outputs
    if type(outputs) is tuple:
        return tuple(f.reshape(y, (size,)) for y in outputs)
    return f.reshape(outputs, (size,))


@rule(mv.Reshape)
def _reshape(op: Any, size: DimLike, xs: Sequence[Tensor], _flags: Sequence[bool]) -> Any:
    return apply(mv.Reshape((size, *op.shape)), *xs)


@rule(mv.Expand)
def _expand(op: Any, size: DimLike, xs: Sequence[Tensor], _flags: Sequence[bool]) -> Any:
    return apply(mv.Expand((size, *op.shape)), lifted(xs[0], len(op.shape)))


@rule(mv.Permute)
def _permute(op: Any, _size: DimLike, xs: Sequence[Tensor], _flags: Sequence[bool]) -> Any:
    return apply(mv.Permute((0, *(_behind(a) for a in op.axes))), *xs)


@rule(re.Diagonal, re.DiagonalUpdate)
def _diagonal(op: Any, size: DimLike, xs: Sequence[Tensor], flags: Sequence[bool]) -> Any:
    changed = altered(op, axis1=_behind(op.axis1), axis2=_behind(op.axis2))
    return apply(changed, *everywhere(size, xs, flags))


@rule(sl.Slice, sl.SliceUpdate, sl.SliceGrad)
def _slice(op: Any, size: DimLike, xs: Sequence[Tensor], flags: Sequence[bool]) -> Any:
    changes: dict[str, Any] = {
        "starts": (0, *op.starts),
        "stops": (size, *op.stops),
        "steps": (1, *op.steps),
    }
    if type(op) is sl.SliceGrad:
        changes["shape"] = (size, *op.shape)
    return apply(altered(op, **changes), *everywhere(size, xs, flags))


@rule(pd.Pad, pd.PadMode, pd.PadModeGrad)
def _pad(op: Any, _size: DimLike, xs: Sequence[Tensor], _flags: Sequence[bool]) -> Any:
    return apply(altered(op, pads=((0, 0), *op.pads)), *xs)


rule(re.Tril, re.Triu, rd.ProdOthers, Barrier)(as_is)
