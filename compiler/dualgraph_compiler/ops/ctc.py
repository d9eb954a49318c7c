"""Connectionist temporal classification (Graves et al. 2006)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import FLOAT, int64
from ..errors import ArgumentError, DTypeError, IndexOutOfRange, ShapeError
from ..kernels import ctc as kernels
from ..kernels.arrays import narrow, widen
from ..kernels.postponed import note
from ..types import TensorType
from .base import Array, Grad, Op, op, shape_text


def _check(name: str, operands: int, blank: int, *inputs: TensorType) -> TensorType:
    """The type of the losses; raises for operands that do not fit together."""
    if len(inputs) != operands:
        raise ShapeError(f"{name}: expected {operands} operands, got {len(inputs)}")
    logs, targets, lengths, counts = inputs[:4]
    if logs.dtype.category != FLOAT or any(
        t.dtype is not int64 for t in (targets, lengths, counts)
    ):
        raise DTypeError(
            f"{name}: expected floating-point log-probabilities and int64 targets and lengths"
        )
    if logs.ndim != 3 or targets.ndim != 2:
        raise ShapeError(
            f"{name}: expected log-probabilities [T, N, C] and targets [N, S], got "
            f"{shape_text(logs.shape)} and {shape_text(targets.shape)}"
        )
    n, classes = logs.shape[1:]
    for t, wanted in ((targets, (n, targets.shape[1])), (lengths, (n,)), (counts, (n,))):
        if t.shape != wanted:
            raise ShapeError(f"{name}: expected {shape_text(wanted)}, got {shape_text(t.shape)}")
    if isinstance(classes, int) and not 0 <= blank < classes:
        raise ArgumentError(f"{name}: blank must be in label range [0, {classes}), got {blank}")
    return TensorType(logs.dtype, (n,))


@op
class CtcLoss(Op):
    """Minus the log-probability that a sequence's steps, repeats and blanks dropped, give labels.

    Operands: log-probabilities [T, N, C]; int64 targets [N, S]; how many steps, and how many
    labels, of each sequence count, int64 [N]. -> the losses [N], inf where no alignment is possible
    (0 with `zero_infinity`). The gradient takes the first operand for a log-softmax, and is not
    itself differentiable. Source: torch.nn.functional.ctc_loss.
    """

    blank: int = 0
    zero_infinity: bool = False

    def infer(self, *inputs: TensorType) -> TensorType:
        return _check("ctc_loss", 4, self.blank, *inputs)

    def eager(self, xp: Any, logs: Array, targets: Array, lengths: Array, counts: Array) -> Array:
        targets = _checked(xp, logs, targets, lengths, counts)
        losses, _ = kernels.forward(xp, widen(logs), targets, lengths, counts, self.blank)
        if self.zero_infinity:
            losses = xp.where(xp.isinf(losses), losses.dtype.type(0), losses)
        return narrow(losses, logs.dtype)

    def vjp(
        self, g: Array, _y: Array, logs: Array, targets: Array, lengths: Array, counts: Array
    ) -> tuple[Grad, ...]:
        grad = CtcLossGrad(self.blank, self.zero_infinity)
        return lambda: grad(logs, targets, lengths, counts, g), None, None, None


@op
class CtcLossGrad(Op):
    """The gradient of CtcLoss's log-probabilities: its operands, and the losses' gradient [N]."""

    blank: int = 0
    zero_infinity: bool = False

    def infer(self, *inputs: TensorType) -> TensorType:
        losses = _check("ctc_loss_grad", 5, self.blank, *inputs)
        if inputs[4] != losses:
            raise ShapeError(f"ctc_loss_grad: expected the gradient of {losses}, got {inputs[4]}")
        return inputs[0]

    def eager(
        self, xp: Any, logs: Array, targets: Array, lengths: Array, counts: Array, g: Array
    ) -> Array:
        targets = _checked(xp, logs, targets, lengths, counts)
        wide = widen(logs)
        losses, grad = kernels.backward(xp, wide, targets, lengths, counts, self.blank)
        grad = grad * widen(g).reshape(-1, 1)
        if self.zero_infinity:
            grad = xp.where(xp.isinf(losses)[:, None], grad.dtype.type(0), grad)
        return narrow(grad, logs.dtype)


def _checked(xp: Any, logs: Array, targets: Array, lengths: Array, counts: Array) -> Array:
    """Targets, with 0 for those that do not count; raises IndexOutOfRange (on a GPU, later)."""
    steps, _, classes = logs.shape
    counted = xp.arange(targets.shape[1])[None, :] < counts[:, None]
    targets = xp.where(counted, targets, 0)
    for what, x, high in (
        ("target", targets, classes - 1),
        ("input length", lengths, steps),
        ("target length", counts, targets.shape[1]),
    ):
        if xp is not np:
            if x.size:
                note(xp, x, 0, high, f"ctc_loss: {what}")
        elif x.size and not (int(x.min()) >= 0 and int(x.max()) <= high):
            raise IndexOutOfRange(
                f"ctc_loss: expected a {what} within [0, {high}], got {int(x.min())} to "
                f"{int(x.max())}"
            )
    return targets
