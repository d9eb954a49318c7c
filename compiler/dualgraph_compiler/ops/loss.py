"""Losses against class indices."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..dims import DimLike
from ..dtypes import FLOAT, int32, int64
from ..errors import ArgumentError, DTypeError, IndexOutOfRange, ShapeError
from ..kernels.arrays import compute_dtype, narrow, widen
from ..kernels.postponed import note
from ..types import TensorType
from . import f
from .base import Array, Grad, Kind, Onnx, Op, op, require_same_dtype, shape_text
from .composite import LogSoftmax
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import emit

_REDUCTIONS = ("none", "mean", "sum")


class ClassLoss(Op):
    """A loss of scores against class indices.

    Shapes: scores (N, C, d...), target (N, d...) of int32 or int64, optional weight (C); or, for
    one sample, scores (C) and a 0-d target. -> the target's shape for reduction "none", else 0-d,
    in the dtype of the scores. Targets equal to `ignore_index` count for nothing; "mean" divides by
    the weight of the targets that count, and is NaN where none does.
    """

    __slots__ = ()
    reduction: str
    ignore_index: int

    def infer(self, x: TensorType, target: TensorType, *weight: TensorType) -> TensorType:
        if self.reduction not in _REDUCTIONS:
            raise ArgumentError(
                f"{self.name}: expected reduction to be 'none', 'mean' or 'sum', got "
                f"{self.reduction!r}"
            )
        dtype = require_same_dtype(self.name, x, *weight)
        if dtype.category != FLOAT or target.dtype not in (int32, int64):
            raise DTypeError(
                f"{self.name}: expected floating-point scores and int64 class indices, got "
                f"{dtype.name} and {target.dtype.name}"
            )
        axis = _class_axis(x)
        if x.ndim == 0 or target.shape != x.shape[:axis] + x.shape[axis + 1 :]:
            raise ShapeError(
                f"{self.name}: expected scores [N, C, ...] and a target [N, ...], got "
                f"{shape_text(x.shape)} and {shape_text(target.shape)}"
            )
        if weight and weight[0].shape != (x.shape[axis],):
            raise ShapeError(
                f"{self.name}: expected a weight for each of the {x.shape[axis]} classes, got "
                f"shape {shape_text(weight[0].shape)}"
            )
        return target.with_dtype(dtype) if self.reduction == "none" else TensorType(dtype, ())

    def to_onnx(self, ctx: Export, x: str, target: str, *weight: str) -> Any:
        assert self.onnx is not None
        t = ctx.type(x)
        single = t.ndim == 1
        if single:
            x, target = (ctx.emit("Unsqueeze", v, ctx.ints(0)) for v in (x, target))
        y = emit(
            ctx,
            t.dtype,
            self.onnx.name,
            x,
            target,
            *weight,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
        )
        if single and self.reduction == "none":
            y = ctx.emit("Squeeze", y, ctx.ints(0))
        return y


def _class_axis(x: Any) -> int:
    return 1 if x.ndim > 1 else 0


@op
class NllLoss(ClassLoss):
    """Minus the log-probability given to the target. Source: ONNX NegativeLogLikelihoodLoss-22."""

    reduction: str = "mean"
    ignore_index: int = -100
    onnx: ClassVar[Onnx | None] = Onnx("NegativeLogLikelihoodLoss", 13)

    def eager(self, xp: Any, x: Array, target: Array, *weight: Array) -> Array:
        axis = _class_axis(x)
        index, w = _class_weights(xp, self, x.shape[axis], target, weight)
        wide = widen(x)
        if xp is np and target.ndim == 1:
            picked = wide[np.arange(len(index)), index]
        else:
            at = xp.expand_dims(index, axis)
            picked = xp.take_along_axis(wide, at, axis).reshape(target.shape)
        if w is None:
            losses = -picked
        else:  # a choice, not a product: an infinite score that is ignored must not become NaN
            losses = xp.where(w == 0, w.dtype.type(0), -picked * w)
        if self.reduction == "none":
            return narrow(losses, x.dtype)
        total = losses.sum()
        if self.reduction == "mean":
            total = xp.true_divide(total, wide.dtype.type(target.size) if w is None else w.sum())
        return narrow(xp.asarray(total), x.dtype)

    def vjp(
        self, g: Array, _y: Array, _x: Array, target: Array, *weight: Array
    ) -> tuple[Grad, ...]:
        grad = NllLossGrad(_x.shape[_class_axis(_x)], self.reduction, self.ignore_index)
        return (lambda: grad(g, target, *weight), None, *(None for _ in weight))


@op
class NllLossGrad(Op):
    """The gradient of NllLoss's scores, given that of the loss: linear in it, one entry per target.

    Shapes: g as NllLoss's result, target (N, d...), optional weight (classes) ->
    (N, classes, d...).
    """

    classes: DimLike
    reduction: str = "mean"
    ignore_index: int = -100

    def infer(self, g: TensorType, target: TensorType, *weight: TensorType) -> TensorType:
        lead, rest = target.shape[:1], target.shape[1:]
        x = TensorType(g.dtype, (*lead, self.classes, *rest))
        loss = NllLoss(self.reduction, self.ignore_index).infer(x, target, *weight)
        if loss != g:
            raise ShapeError(f"nll_loss_grad: expected the gradient of a loss {loss}, got {g}")
        return x

    def eager(self, xp: Any, g: Array, target: Array, *weight: Array) -> Array:
        assert isinstance(self.classes, int)
        axis = 1 if target.ndim else 0
        index, w = _class_weights(xp, self, self.classes, target, weight, g.dtype)
        scale = -widen(g) if w is None else -widen(g) * w
        if self.reduction == "mean":
            total = scale.dtype.type(target.size) if w is None else w.sum()
            scale = xp.true_divide(scale, total)
        if w is not None:
            scale = xp.where(w == 0, w.dtype.type(0), scale)
        shape = (*target.shape[:1], self.classes, *target.shape[1:])
        out = xp.zeros(shape, scale.dtype)
        if xp is np and target.ndim == 1:
            out[np.arange(len(index)), index] = scale
            return narrow(out, g.dtype)
        scale = xp.broadcast_to(scale, target.shape)
        index, scale = xp.expand_dims(index, axis), xp.expand_dims(scale, axis)
        # Places differ for every target, so nothing is written twice; ignored ones write 0.
        if xp is np:
            np.put_along_axis(out, index, scale, axis)
        else:
            here = xp.arange(self.classes).reshape(-1, *(1,) * (len(shape) - 1 - axis))
            out = xp.where(here == index, scale, out)
        return narrow(out, g.dtype)

    def vjp(
        self, g: Array, _y: Array, _g: Array, target: Array, *weight: Array
    ) -> tuple[Grad, ...]:
        # The transpose of a transpose: NllLoss itself, read as a linear map of its scores.
        loss = NllLoss(self.reduction, self.ignore_index)
        return (lambda: loss(g, target, *weight), None, *(None for _ in weight))

    def to_onnx(self, ctx: Export, g: str, target: str, *weight: str) -> Any:
        dtype, ndim = ctx.type(g).dtype, ctx.type(target).ndim
        axis = 1 if ndim else 0
        ignored = ctx.emit("Equal", target, ctx.constant(self.ignore_index, ctx.type(target).dtype))
        index = ctx.emit("Where", ignored, ctx.constant(0, ctx.type(target).dtype), target)
        w = ctx.emit("Gather", weight[0], index) if weight else ctx.constant(1, dtype)
        w = ctx.emit("Where", ignored, ctx.constant(0, dtype), w)
        scale = emit(ctx, dtype, "Mul", emit(ctx, dtype, "Neg", g), w)
        if self.reduction == "mean":
            total = emit(ctx, dtype, "ReduceSum", w, keepdims=0)
            scale = emit(ctx, dtype, "Div", scale, total)
        at = ctx.emit("Unsqueeze", index, ctx.ints(axis))
        classes = ctx.dim(self.classes)
        here = ctx.emit("Range", ctx.constant(0, int64), classes, ctx.constant(1, int64))
        here = ctx.emit("Reshape", here, ctx.ints(-1, *(1,) * (ndim - axis)))
        hit = ctx.emit("Equal", here, ctx.emit("Cast", at, to=int64))
        scale = ctx.emit("Unsqueeze", scale, ctx.ints(axis))
        return ctx.emit("Where", hit, scale, ctx.constant(0, dtype))


def _class_weights(
    xp: Any,
    loss: NllLoss | NllLossGrad,
    classes: int,
    target: Array,
    weight: tuple[Array, ...],
    dtype: Any = np.float32,
) -> tuple[Array, Array | None]:
    """Indices safe to use, and the weight of each target: 0 where it is ignored.

    None stands for weights of 1, where the host can see that all targets count alike.

    Raises:
        IndexOutOfRange: a target is no class; on a GPU when the host next waits for it.
    """
    ignored = target == loss.ignore_index
    alike = xp is np and not weight and not np.count_nonzero(ignored)
    index = target if alike else xp.where(ignored, target.dtype.type(0), target)
    if xp is not np:
        if index.size:
            note(xp, index, 0, classes - 1, "nll_loss: target")
    elif index.size and not (index.min() >= 0 and index.max() < classes):
        bad = index.min() if index.min() < 0 else index.max()
        raise IndexOutOfRange(f"nll_loss: target {bad} is out of bounds for {classes} classes")
    if alike:
        return index, None
    if weight:
        w = xp.take(widen(weight[0]), index)
    else:
        w = xp.ones(target.shape, compute_dtype(dtype))
    return index, xp.where(ignored, w.dtype.type(0), w)


@op
class CrossEntropy(ClassLoss):
    """NllLoss of the log-softmax of the scores over the classes.

    Source: PyTorch cross_entropy; ONNX SoftmaxCrossEntropyLoss-13.
    """

    reduction: str = "mean"
    ignore_index: int = -100
    kind: ClassVar[Kind] = Kind.COMPOSITE
    onnx: ClassVar[Onnx | None] = Onnx("SoftmaxCrossEntropyLoss", 13)

    def _nll(self) -> NllLoss:
        return NllLoss(self.reduction, self.ignore_index)

    def eager(self, xp: Any, x: Array, target: Array, *weight: Array) -> Array:
        logs = LogSoftmax(_class_axis(x)).eager(xp, widen(x))
        loss = self._nll().eager(xp, logs, target, *(widen(w) for w in weight))
        return narrow(loss, x.dtype)

    def vjp(self, g: Array, _y: Array, x: Array, target: Array, *weight: Array) -> tuple[Grad, ...]:
        return (lambda: self._grad(g, x, target, *weight), None, *(None for _ in weight))

    def _grad(self, g: Array, x: Array, target: Array, *weight: Array) -> Array:
        axis = _class_axis(x)
        h = NllLossGrad(x.shape[axis], self.reduction, self.ignore_index)(g, target, *weight)
        return h - f.softmax(x, axis) * f.sum(h, (axis,), True)

    def decompose(self, x: Array, target: Array, *weight: Array) -> Array:
        return self._nll()(LogSoftmax(_class_axis(x))(x), target, *weight)


@from_onnx("NegativeLogLikelihoodLoss")
def _import_nll(ctx: Import, x: Any, target: Any, weight: Any = None) -> Any:
    return _import_loss(NllLoss, ctx, x, target, weight)


@from_onnx("SoftmaxCrossEntropyLoss")
def _import_cross_entropy(ctx: Import, x: Any, target: Any, weight: Any = None) -> Any:
    loss = _import_loss(CrossEntropy, ctx, x, target, weight)
    return (loss, LogSoftmax(1)(x)) if ctx.n_outputs > 1 else loss


def _import_loss(cls: Any, ctx: Import, x: Any, target: Any, weight: Any) -> Any:
    # Without the attribute no target is ignored; no class has this index.
    ignored = ctx.attr("ignore_index", -(2**31))
    loss = cls(ctx.attr("reduction", "mean"), ignored)
    return loss(x, target) if weight is None else loss(x, target, weight)
