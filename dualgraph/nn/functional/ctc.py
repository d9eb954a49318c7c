"""Connectionist temporal classification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import ArgumentError, ShapeError
from dualgraph_compiler.ops.base import shape_text
from dualgraph_compiler.ops.ctc import CtcLoss

from ... import functions as fn
from ..._dispatch import apply
from ._args import reduced

if TYPE_CHECKING:
    from ..._tensor import Tensor


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """Minus the log-probability of label sequences, over all their alignments (Graves 2006).

    Args:
        log_probs: log-softmax over C classes, [T, N, C], or [T, C] for one sequence.
        targets: classes, padded [N, S], or all sequences one after the other [sum of lengths].
        input_lengths: how many of the T steps count, for each sequence: a tensor or numbers.
        target_lengths: how many labels each sequence has.
        blank: the class that stands for no label.
        reduction: "none" [N]; "sum"; "mean", of the losses per label.
        zero_infinity: count sequences for which no alignment is possible as 0.

    Raises:
        ShapeError: operands that do not fit together.
        IndexOutOfRange: a class or a length out of range.
    """
    if log_probs.ndim not in (2, 3):
        raise ShapeError(
            "ctc_loss: expected log_probs [T, N, C] or [T, C], got "
            f"{shape_text(tuple(log_probs.shape))}"
        )
    single = log_probs.ndim == 2
    logs = log_probs.unsqueeze(1) if single else log_probs
    lengths = _lengths("input", input_lengths, logs)
    counts = _lengths("target", target_lengths, logs)
    labels = targets.to(dt.int64)
    if single and labels.ndim == 1:
        labels = labels.unsqueeze(0)
    elif labels.ndim == 1:
        labels = _padded(labels, counts)
    losses = apply(CtcLoss(blank, zero_infinity), logs, labels, lengths, counts)
    if reduction == "mean":
        losses = losses / counts.clamp(min=1).to(losses.dtype)
    losses = losses.squeeze(0) if single and reduction == "none" else losses
    return reduced("ctc_loss", losses, reduction)


def _lengths(what: str, given: Any, logs: Tensor) -> Tensor:
    """Lengths as int64 [N] beside `logs`."""
    found: Any = given if hasattr(given, "_data") else fn.tensor(given)
    found = found.to(device=logs.device, dtype=dt.int64).reshape(-1)
    if found.shape[0] != logs.shape[1]:
        raise ArgumentError(f"ctc_loss: {what}_lengths must be of size batch_size")
    return found  # type: ignore[no-any-return]


def _padded(labels: Tensor, counts: Tensor) -> Tensor:
    """Sequences that stand one after the other as rows [N, longest]; the rest is never read."""
    longest = int(counts.max()) if counts.numel() else 0
    if not labels.shape[0]:
        return labels.new_zeros((counts.shape[0], longest))
    starts = (counts.cumsum(0) - counts).unsqueeze(1)
    at = starts + fn.arange(longest, device=labels.device)
    return labels[at.clamp(max=labels.shape[0] - 1)]
