"""Sums over decision trees: the op, and the arrays that its trees are in.

Every tree is made of comparisons ``x[feature] <= split``; :class:`Forest` brings the others of ONNX
into that form. Source: ONNX TreeEnsemble-5, TreeEnsembleClassifier-3, TreeEnsembleRegressor-3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...dtypes import DType, float32, float64, int32
from ...errors import ArgumentError, DTypeError, OnnxError, ShapeError
from ...types import TensorType
from ..base import Array, Op, op, shape_text

AGGREGATES = ("sum", "min", "max")


def node_words(dtype: DType) -> int:
    """How many int32 a node takes: its split, then feature, true and false branch."""
    return 4 if dtype is float32 else 6  # the last for float64 is unused


@op
class TreeEnsemble(Op):
    """What the leaves that a row ends in add up to, over all trees.

    Operands: x [N, F] of float32 or float64; nodes int32 [n, words], of which the first `leaves`
    are leaves; roots int32 [T]; starts int32 [leaves + 1]: where a leaf's entries begin in targets
    int32 [W] and weights [W], of x's dtype. A node holds the bits of its split, ``2 feature +
    missing`` and the nodes that follow: the first where ``x[feature] <= split``, or where x is NaN
    and `missing` is 1. Leaves follow themselves. Result: [N, targets], by `aggregate` "sum" (0
    where no leaf has a target), or "min" or "max" (infinite there).
    """

    targets: int
    leaves: int
    aggregate: str = "sum"

    def infer(
        self,
        x: TensorType,
        nodes: TensorType,
        roots: TensorType,
        starts: TensorType,
        targets: TensorType,
        weights: TensorType,
    ) -> TensorType:
        if self.aggregate not in AGGREGATES:
            raise ArgumentError(f"tree_ensemble: expected one of {AGGREGATES}: {self.aggregate!r}")
        if x.dtype not in (float32, float64) or weights.dtype is not x.dtype:
            raise DTypeError(
                f"tree_ensemble: expected float32 or float64 rows and weights, got {x.dtype.name} "
                f"and {weights.dtype.name}"
            )
        if any(t.dtype is not int32 for t in (nodes, roots, starts, targets)):
            raise DTypeError("tree_ensemble: expected trees as int32")
        words = node_words(x.dtype)
        if x.ndim != 2 or nodes.ndim != 2 or nodes.shape[1] != words or roots.ndim != 1:
            raise ShapeError(
                f"tree_ensemble: expected rows [N, F] and nodes [n, {words}], got "
                f"{shape_text(x.shape)} and {shape_text(nodes.shape)}"
            )
        if starts.shape != (self.leaves + 1,) or targets.shape != weights.shape:
            raise ShapeError("tree_ensemble: expected a start for each leaf, targets with weights")
        return x.with_shape((x.shape[0], self.targets))

    def eager(
        self,
        xp: Any,
        x: Array,
        nodes: Array,
        roots: Array,
        starts: Array,
        targets: Array,
        weights: Array,
    ) -> Array:
        at = self._reached(xp, x, nodes, roots)
        counts = starts[1:] - starts[:-1]
        none = {"sum": 0.0, "min": np.inf, "max": -np.inf}[self.aggregate]
        fold = getattr(xp, self.aggregate)
        y = xp.full((x.shape[0], self.targets), none, np.float64)
        for target in range(self.targets):
            each = xp.full(self.leaves, none, np.float64)
            own = targets == target
            # A leaf may have several entries for a target, which are few.
            for i in range(int(counts.max()) if counts.size else 0):
                entry = xp.minimum(starts[:-1] + i, max(len(targets) - 1, 0))
                some = (counts > i) & own[entry]
                values = xp.where(some, weights[entry], none)
                each = fold(xp.stack([each, values]), axis=0)
            if roots.shape[0]:
                y[:, target] = fold(each[at], axis=1)
        return y.astype(x.dtype)

    def _reached(self, xp: Any, x: Array, nodes: Array, roots: Array) -> Array:
        """The leaf of each row in each tree: [N, T]."""
        width = x.dtype.itemsize // 4
        splits = xp.ascontiguousarray(nodes[:, :width]).view(x.dtype)[:, 0]
        feature, missing = nodes[:, width] >> 1, (nodes[:, width] & 1).astype(bool)
        follow = nodes[:, width + 1 : width + 3]
        at = xp.broadcast_to(roots, (x.shape[0], roots.shape[0]))
        rows = xp.arange(x.shape[0])[:, None]
        for _ in range(nodes.shape[0]):
            if not (at >= self.leaves).any():
                break
            value = x[rows, feature[at]]
            yes = xp.where(xp.isnan(value), missing[at], value <= splits[at])
            at = xp.where(yes, follow[at, 0], follow[at, 1])
        return at


# -- making trees ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Forest:
    """Collects nodes and leaves, then gives them as the operands of a `TreeEnsemble`.

    Nodes are named by numbers from 0 on, leaves by negative ones: leaf i is ``~i``.
    """

    dtype: DType
    features: list[int] = field(default_factory=list)
    splits: list[float] = field(default_factory=list)
    missing: list[bool] = field(default_factory=list)
    follow: list[tuple[int, int]] = field(default_factory=list)
    leaves: list[list[tuple[int, float]]] = field(default_factory=list)

    def leaf(self, entries: Sequence[tuple[int, float]]) -> int:
        """A leaf that adds weights to targets."""
        self.leaves.append(list(entries))
        return ~(len(self.leaves) - 1)

    def _below(self, feature: int, split: float, missing: bool, yes: int, no: int) -> int:
        self.features.append(feature)
        self.splits.append(split)
        self.missing.append(missing)
        self.follow.append((yes, no))
        return len(self.features) - 1

    def node(self, mode: str, feature: int, split: float, missing: bool, yes: int, no: int) -> int:
        """A comparison of a feature with a number, in terms of ``<=``.

        Raises:
            OnnxError: an unknown `mode`.
        """
        if mode in ("GTE", "GT", "NEQ"):
            opposite = {"GTE": "LT", "GT": "LEQ", "NEQ": "EQ"}[mode]
            return self.node(opposite, feature, split, not missing, no, yes)
        if mode == "LEQ":
            return self._below(feature, split, missing, yes, no)
        before = self._before(split)
        if mode == "LT":
            return self._below(feature, before, missing, yes, no)
        if mode != "EQ":
            raise OnnxError(f"unknown comparison {mode!r} at a node of a tree")
        # A missing value that takes the first branch goes on to the second, and on from there.
        inner = self._below(feature, before, False, no, yes)
        return self._below(feature, split, missing, inner, no)

    def _before(self, split: float) -> float:
        """The greatest number below `split`; NaN, which nothing is below, where there is none."""
        kind = self.dtype.np.type
        below = np.nextafter(kind(split), kind(-np.inf))
        return float("nan") if split == -np.inf else float(below)

    def arrays(self, roots: Sequence[int]) -> list[np.ndarray[Any, Any]]:
        """The operands after x: nodes, roots, starts, targets and weights."""
        shift, width = len(self.leaves), self.dtype.itemsize // 4
        nodes = np.zeros((shift + len(self.features), node_words(self.dtype)), np.int32)
        splits = np.concatenate([np.zeros(shift), np.asarray(self.splits, np.float64)])
        bits = splits.astype(self.dtype.np).view(np.int32).reshape(len(nodes), width)
        nodes[:, :width] = bits
        nodes[:shift, width + 1] = nodes[:shift, width + 2] = np.arange(shift)
        if self.features:
            nodes[shift:, width] = 2 * np.asarray(self.features) + np.asarray(self.missing)
            follow = np.asarray(self.follow)
            nodes[shift:, width + 1 : width + 3] = np.where(follow < 0, ~follow, follow + shift)
        starts = np.cumsum([0, *map(len, self.leaves)])
        entries = [entry for leaf in self.leaves for entry in leaf]
        return [
            nodes,
            np.asarray([~r if r < 0 else r + shift for r in roots], np.int32),
            starts.astype(np.int32),
            np.asarray([t for t, _ in entries], np.int32),
            np.asarray([w for _, w in entries], self.dtype.np),
        ]
