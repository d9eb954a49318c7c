"""Softmax over many classes, cut into a shortlist and rarer clusters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from dualgraph_compiler.errors import ArgumentError, IndexOutOfRange, ShapeError

from ... import functions as fn
from ..._tensor import Tensor
from .. import functional as F
from .container import ModuleList, Sequential
from .linear import Linear
from .module import Module

__all__ = ["AdaptiveLogSoftmaxWithLoss"]


class _Result(NamedTuple):
    """Log-probabilities of the targets [N], and minus their mean."""

    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """Log-probabilities of classes that are sorted by falling frequency (Grave et al. 2017).

    Classes below `cutoffs[0]` have scores of their own in the head; the others share one score per
    cluster there, and are told apart by a layer with fewer features, the fewer the rarer they are.

    Args:
        cutoffs: where clusters begin, rising, within [1, n_classes - 1].
        div_value: by how much features shrink from one cluster to the next.
        head_bias: whether the head has a bias.
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        cuts = list(cutoffs)
        if not cuts:
            raise ArgumentError("cutoffs should be a sequence of length larger than 0")
        whole = all(int(c) == c for c in cuts)
        if not whole or sorted({*cuts}) != cuts or cuts[0] <= 0 or cuts[-1] > n_classes - 1:
            raise ArgumentError(
                "cutoffs should be a sequence of unique, positive integers sorted in an increasing "
                "order, where each value is between 1 and n_classes-1"
            )
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.in_features = in_features
        self.n_classes = n_classes
        self.cutoffs = [*cuts, n_classes]
        self.div_value = div_value
        self.head_bias = head_bias
        self.shortlist_size = cuts[0]
        self.n_clusters = len(cuts)
        self.head_size = self.shortlist_size + self.n_clusters
        self.head = Linear(in_features, self.head_size, bias=head_bias, **place)
        self.tail = ModuleList()
        for i, (low, high) in enumerate(pairwise(self.cutoffs)):
            hidden = int(in_features // (div_value ** (i + 1)))
            self.tail.append(
                Sequential(
                    Linear(in_features, hidden, bias=False, **place),
                    Linear(hidden, high - low, bias=False, **place),
                )
            )

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        for layer in self.modules():
            if isinstance(layer, Linear):
                layer.reset_parameters()

    def forward(self, input: Tensor, target: Tensor) -> _Result:
        """Input [N, in_features] and target [N], or [in_features] and []."""
        if target.ndim > 1 or input.ndim != target.ndim + 1:
            raise ShapeError(
                "AdaptiveLogSoftmaxWithLoss: expected an input [N, in_features] and a target [N], "
                f"or one of each, got {list(input.shape)} and {list(target.shape)}"
            )
        x, t = (input, target) if target.ndim else (input.unsqueeze(0), target.unsqueeze(0))
        if not t.is_symbolic and t.numel() and bool(((t < 0) | (t >= self.n_classes)).any()):
            raise IndexOutOfRange(
                f"Target values should be in [0, {self.n_classes - 1}], but values in range "
                f"[{t.min().item()}, {t.max().item()}] were found."
            )
        head = F.log_softmax(self.head(x), 1)
        column, inner = t, x.new_zeros(x.shape[0])
        for i, (low, high) in enumerate(pairwise(self.cutoffs)):
            inside = (t >= low) & (t < high)
            column = fn.where(inside, self.shortlist_size + i, column)
            inner = self._add_cluster(i, x, t - low, inside, inner)
        output = inner + head.gather(1, column.unsqueeze(1)).squeeze(1)
        loss = (-output).mean()
        return _Result(output if target.ndim else output.squeeze(0), loss)

    def _add_cluster(
        self, i: int, x: Tensor, classes: Tensor, inside: Tensor, inner: Tensor
    ) -> Tensor:
        """`inner` with the log-probabilities within cluster i of the rows `inside`."""
        if x.is_symbolic or classes.is_symbolic:  # which rows these are is not known: all of them
            logs = F.log_softmax(self.tail[i](x), 1)
            found = logs.gather(1, fn.where(inside, classes, 0).unsqueeze(1)).squeeze(1)
            return fn.where(inside, found, inner)  # type: ignore[no-any-return]
        rows = inside.nonzero().squeeze(1)
        if not rows.numel():
            return inner
        logs = F.log_softmax(self.tail[i](x[rows]), 1)
        return inner.index_copy(0, rows, logs.gather(1, classes[rows].unsqueeze(1)).squeeze(1))

    def log_prob(self, input: Tensor) -> Tensor:
        """The log-probabilities of all classes: [N, in_features] -> [N, n_classes]."""
        head = F.log_softmax(self.head(input), 1)
        parts = [head[:, : self.shortlist_size]]
        for i, cluster in enumerate(self.tail):
            logs = F.log_softmax(cluster(input), 1)
            parts.append(logs + head[:, self.shortlist_size + i].unsqueeze(1))
        return fn.cat(parts, 1)

    def predict(self, input: Tensor) -> Tensor:
        """The most probable class of each row: [N, in_features] -> int64 [N]."""
        return self.log_prob(input).argmax(1)
