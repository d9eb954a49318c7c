"""Ensembles of decision trees: operators to the op. See :mod:`.trees`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...dtypes import DType, float16, float32, float64, int64
from ...errors import OnnxError
from .. import f
from ..onnx_rules import Import, from_onnx
from .post import best, labels, picked, rows, transformed
from .trees import AGGREGATES, Forest, TreeEnsemble

_AVERAGE = "AVERAGE"


def _sums(
    ctx: Import, x: Any, forest: Forest, roots: Sequence[int], targets: int, aggregate: str
) -> Any:
    """What the trees give each row, before base values: [N, targets]."""
    width = ctx.size(x.shape[1], "the number of features of trees")
    if width <= max(forest.features, default=0) or min(forest.features, default=0) < 0:
        raise OnnxError(f"a tree reads a feature that rows of {width} do not have")
    if any(not 0 <= t < targets for leaf in forest.leaves for t, _ in leaf):
        raise OnnxError(f"a leaf adds to a target that is none of {targets}")
    kind = "sum" if aggregate == _AVERAGE else aggregate.lower()
    if kind not in AGGREGATES:
        raise OnnxError(f"unknown aggregate_function {aggregate!r}")
    operands = (ctx.constant(a) for a in forest.arrays(roots))
    y = TreeEnsemble(targets, len(forest.leaves), kind)(x, *operands)
    return y * f.like(y, 1 / len(roots)) if aggregate == _AVERAGE and roots else y


# -- ai.onnx.ml 1 to 4: nodes named by tree and number --------------------------------------------


def _numbers(ctx: Import, name: str) -> Any:
    """An attribute of floats or of a tensor that stands for them; None if there is neither."""
    found = ctx.attr(f"{name}_as_tensor")
    if found is None:
        found = ctx.attr(name)
    return None if found is None else np.asarray(found).reshape(-1)


def _named_forest(ctx: Import, dtype: DType, kind: str) -> tuple[Forest, list[int], list[int]]:
    """The trees of a node, their roots, and the targets that its leaves have.

    `kind` begins the names of the attributes of leaves: "class" or "target".
    """
    keys = [
        tuple(k)
        for k in zip(ctx.attr("nodes_treeids", ()), ctx.attr("nodes_nodeids", ()), strict=True)
    ]
    modes = [m.removeprefix("BRANCH_") for m in ctx.attr("nodes_modes", ())]
    columns = [ctx.attr(f"nodes_{n}", ()) for n in ("featureids", "truenodeids", "falsenodeids")]
    splits = _numbers(ctx, "nodes_values")
    splits = np.zeros(len(keys)) if splits is None else splits
    missing = ctx.attr("nodes_missing_value_tracks_true") or (0,) * len(keys)
    if any(len(c) != len(keys) for c in (modes, *columns, splits, missing)):
        raise OnnxError("the attributes of the nodes of trees are not of one length")
    if len(set(keys)) != len(keys):
        raise OnnxError("a tree has two nodes of one number")
    entries: dict[tuple[int, int], list[tuple[int, float]]] = defaultdict(list)
    ids = ctx.attr(f"{kind}_ids", ())
    owners = zip(ctx.attr(f"{kind}_treeids", ()), ctx.attr(f"{kind}_nodeids", ()), strict=True)
    for owner, target, weight in zip(owners, ids, _numbers(ctx, f"{kind}_weights"), strict=True):
        entries[owner].append((int(target), float(weight)))
    forest, found = Forest(dtype), {key: i for i, key in enumerate(keys)}
    made: dict[int, int] = {}

    def make(i: int, follow: Sequence[int]) -> int:
        if modes[i] == "LEAF":
            return forest.leaf(entries.get(keys[i], ()))
        yes, no = (made[j] for j in follow)
        return forest.node(
            modes[i], int(columns[0][i]), float(splits[i]), bool(missing[i]), yes, no
        )

    def after(i: int) -> list[int]:
        if modes[i] == "LEAF":
            return []
        try:
            return [found[keys[i][0], column[i]] for column in columns[1:]]
        except KeyError:
            raise OnnxError(f"node {keys[i][1]} of tree {keys[i][0]} leads nowhere") from None

    roots: dict[int, int] = {}
    for i, (tree, _) in enumerate(keys):
        roots.setdefault(tree, i)
    _build(list(roots.values()), after, make, made)
    return forest, [made[i] for i in roots.values()], [int(t) for t in ids]


def _build(roots: Sequence[int], after: Any, make: Any, made: dict[int, int]) -> None:
    """Make all nodes below `roots`, those that others lead to first.

    Raises:
        OnnxError: a node leads back to itself.
    """
    open_: set[int] = set()
    stack = [(root, False) for root in reversed(roots)]
    while stack:
        node, ready = stack.pop()
        if ready:
            open_.discard(node)
            made[node] = make(node, after(node))
        elif node in open_:
            raise OnnxError("a node of a tree leads back to itself")
        elif node not in made:
            open_.add(node)
            stack.append((node, True))
            stack += [(child, False) for child in after(node) if child not in made]


def _based(ctx: Import, y: Any, count: int) -> Any:
    """`y` with base values, if there are as many as `count`."""
    base = _numbers(ctx, "base_values")
    if base is None or not base.size:
        return y
    if base.size not in (1, count):
        raise OnnxError(f"expected {count} base_values, got {base.size}")
    return y + ctx.constant(base.astype(y.dtype.np))


@from_onnx("ai.onnx.ml::TreeEnsembleRegressor")
def _regressor(ctx: Import, x: Any) -> Any:
    x, targets = rows(x), ctx.attr("n_targets", 1)
    forest, roots, _ = _named_forest(ctx, x.dtype, "target")
    y = _sums(ctx, x, forest, roots, targets, ctx.attr("aggregate_function", "SUM"))
    y = transformed(_based(ctx, y, targets), ctx.attr("post_transform", "NONE"))
    return f.cast(y, float32)


@from_onnx("ai.onnx.ml::TreeEnsembleClassifier")
def _classifier(ctx: Import, x: Any) -> Any:
    x = rows(x)
    classes = labels(ctx, ("classlabels_strings", "classlabels_int64s"))
    transform = ctx.attr("post_transform", "NONE")
    forest, roots, ids = _named_forest(ctx, x.dtype, "class")
    if len(classes) > 2 or set(ids) != {0}:
        scores = _based(ctx, _sums(ctx, x, forest, roots, len(classes), "SUM"), len(classes))
        return best(ctx, classes, scores), f.cast(transformed(scores, transform), float32)
    base = _numbers(ctx, "base_values")
    score = _sums(ctx, x, forest, roots, 1, "SUM")
    if base is not None and base.size:
        score = score + f.like(score, float(base[0]))
    positive = all(w >= 0 for leaf in forest.leaves for _, w in leaf)
    chosen = f.greater(score, 0.5 if positive else 0.0)
    classes = classes if len(classes) == 2 else np.array([0, classes[0]])
    at = f.reshape(f.cast(chosen, int64), (x.shape[0],))
    return picked(ctx, classes, at), f.cast(_pair(score, transform, positive), float32)


def _pair(score: Any, transform: str, positive: bool) -> Any:
    """The scores of both classes, given that of the second."""
    if transform == "LOGISTIC":
        return f.concat([f.sigmoid(-score), f.sigmoid(score)], 1)
    complement = f.concat([f.like(score, 1) - score, score], 1)
    if transform == "PROBIT":
        return transformed(complement, transform)
    return complement if positive else transformed(f.concat([-score, score], 1), transform)


# -- ai.onnx.ml 5: nodes and leaves named by place ------------------------------------------------

_MODES = ("LEQ", "LT", "GTE", "GT", "EQ", "NEQ", "MEMBER")
_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
_FUNCTIONS = (_AVERAGE, "SUM", "MIN", "MAX")


@from_onnx("ai.onnx.ml::TreeEnsemble")
def _tree_ensemble(ctx: Import, x: Any) -> Any:
    dtype = x.dtype
    x = f.cast(x, float32) if dtype is float16 else x
    if x.dtype not in (float32, float64) or x.ndim != 2:
        raise OnnxError(f"TreeEnsemble: expected features [N, F], got {x.type}")
    targets = ctx.attr("n_targets", 1)
    function, transform = ctx.attr("aggregate_function", 1), ctx.attr("post_transform", 0)
    if not 0 <= function < len(_FUNCTIONS) or not 0 <= transform < len(_TRANSFORMS):
        raise OnnxError("TreeEnsemble: unknown aggregate_function or post_transform")
    forest, roots = _placed_forest(ctx, x.dtype)
    y = _sums(ctx, x, forest, roots, targets, _FUNCTIONS[function])
    return f.cast(transformed(y, _TRANSFORMS[transform]), dtype)


def _placed_forest(ctx: Import, dtype: DType) -> tuple[Forest, list[int]]:
    """The trees of a TreeEnsemble-5 and their roots."""
    modes = [int(m) for m in np.asarray(ctx.attr("nodes_modes")).reshape(-1)]
    splits = np.asarray(ctx.attr("nodes_splits")).reshape(-1)
    features = ctx.attr("nodes_featureids", ())
    missing = ctx.attr("nodes_missing_value_tracks_true") or (0,) * len(modes)
    sides = [
        (ctx.attr(f"nodes_{s}nodeids", ()), ctx.attr(f"nodes_{s}leafs", ()))
        for s in ("true", "false")
    ]
    columns = (splits, features, missing, *(c for side in sides for c in side))
    if any(len(c) != len(modes) for c in columns) or any(m >= len(_MODES) for m in modes):
        raise OnnxError("the attributes of the nodes of trees do not fit together")
    weights = np.asarray(ctx.attr("leaf_weights")).reshape(-1)
    targets = ctx.attr("leaf_targetids", ())
    forest = Forest(dtype)
    leaves = [forest.leaf([(int(t), float(w))]) for t, w in zip(targets, weights, strict=True)]
    members = _members(ctx.attr("membership_values"), modes)
    made: dict[int, int] = {}

    def branch(i: int, side: int) -> int | None:
        """The leaf that a branch ends in; None where it goes on."""
        ids, is_leaf = sides[side]
        if not 0 <= ids[i] < (len(leaves) if is_leaf[i] else len(modes)):
            raise OnnxError(f"node {i} of a tree leads nowhere")
        return leaves[ids[i]] if is_leaf[i] else None

    def after(i: int) -> list[int]:
        return [sides[s][0][i] for s in (0, 1) if branch(i, s) is None]

    def make(i: int, _follow: Sequence[int]) -> int:
        ends = [branch(i, s) for s in (0, 1)]
        yes, no = (made[sides[s][0][i]] if e is None else e for s, e in enumerate(ends))
        feature, split, track = int(features[i]), float(splits[i]), bool(missing[i])
        if _MODES[modes[i]] != "MEMBER":
            return forest.node(_MODES[modes[i]], feature, split, track, yes, no)
        for member in reversed(members[i]):
            no = forest.node("EQ", feature, member, track, yes, no)
        return no

    roots = [int(r) for r in ctx.attr("tree_roots", ())]
    if any(not 0 <= r < len(modes) for r in roots):
        raise OnnxError("a tree has a root that is no node")
    _build(roots, after, make, made)
    return forest, [made[r] for r in roots]


def _members(values: Any, modes: Sequence[int]) -> dict[int, list[float]]:
    """What each node that tests membership lists: numbers up to the next NaN."""
    nodes = [i for i, m in enumerate(modes) if _MODES[m] == "MEMBER"]
    found: dict[int, list[float]] = {i: [] for i in nodes}
    left = iter(nodes)
    node = next(left, None)
    for value in () if values is None else np.asarray(values).reshape(-1):
        if np.isnan(value):
            node = next(left, None)
        elif node is not None:
            found[node].append(float(value))
    return found
