"""Sums over decision trees."""

from __future__ import annotations

from typing import Any

import numpy as np

from dualgraph_compiler.dtypes import BY_SHORT
from dualgraph_compiler.errors import ArgumentError, DTypeError, ShapeError
from dualgraph_compiler.ops.ml.trees import Forest, TreeEnsemble

from . import OpSamples, Refused, Sample, rand, strided, t

NO_ONNX = "the trees of ONNX's operators are attributes, and this one's are data"


def forest(short: str, trees: int, seed: int = 0) -> tuple[int, list[np.ndarray[Any, Any]]]:
    """The number of leaves, and the operands after x, of trees over 3 features and 2 targets."""
    rng = np.random.default_rng(seed)
    made = Forest(BY_SHORT[short])
    modes = ("LEQ", "LT", "GTE", "GT", "EQ", "NEQ")

    def grow(depth: int) -> int:
        if depth == 0 or rng.random() < 0.2:
            targets = rng.permutation(2)[: rng.integers(3)]
            return made.leaf([(int(i), float(rng.normal())) for i in targets])
        mode, feature = modes[rng.integers(6)], int(rng.integers(3))
        split, missing = float(rng.integers(-2, 3)), bool(rng.integers(2))
        return made.node(mode, feature, split, missing, grow(depth - 1), grow(depth - 1))

    roots = [grow(4) for _ in range(trees)]
    return len(made.leaves), made.arrays(roots)


def ensemble(short: str, trees: int, aggregate: str, x: Any) -> Sample:
    leaves, operands = forest(short, trees)
    return Sample(TreeEnsemble(2, leaves, aggregate), (x, *operands), f"{trees} trees, {short}")


def reference(
    op: TreeEnsemble, x: Any, nodes: Any, roots: Any, starts: Any, targets: Any, weights: Any
) -> Any:
    """Row by row and tree by tree."""
    kind, width = (np.float32, 1) if nodes.shape[1] == 4 else (np.float64, 2)
    none = {"sum": 0.0, "min": np.inf, "max": -np.inf}[op.aggregate]
    fold = {"sum": lambda a, b: a + b, "min": min, "max": max}[op.aggregate]
    y = np.full((len(x), op.targets), none)
    for row, out in zip(x, y, strict=True):
        for at in roots:
            while at >= op.leaves:
                split = nodes[at, :width].copy().view(kind)[0]
                feature, missing = divmod(int(nodes[at, width]), 2)
                value = row[feature]
                yes = missing if np.isnan(value) else value <= split
                at = nodes[at, width + (1 if yes else 2)]
            for e in range(starts[at], starts[at + 1]):
                out[targets[e]] = fold(out[targets[e]], weights[e])
    return y


def rows(n: int, dtype: Any = np.float32) -> Any:
    x = np.round(rand(n, 3, dtype=dtype))
    x[::4, 1] = np.nan
    return x


_LEAVES, _TREES = forest("f32", 2)
_TYPES = [
    t(f"{'f32' if a.dtype == 'f4' else 'i32'}[{', '.join(map(str, a.shape))}]") for a in _TREES
]

TREES = OpSamples(
    TreeEnsemble,
    reference,
    [
        *(ensemble("f32", n, "sum", rows(9)) for n in (1, 5, 19)),
        *(ensemble("f32", 4, a, rows(70)) for a in ("sum", "min", "max")),
        ensemble("f64", 6, "sum", rows(11, np.float64)),
        ensemble("f32", 3, "sum", rows(0)),
        ensemble("f32", 3, "sum", strided(rows(5))),
    ],
    [
        Refused(TreeEnsemble(2, _LEAVES, "mean"), (t("f32[9, 3]"), *_TYPES), ArgumentError, "mean"),
        Refused(TreeEnsemble(2, _LEAVES), (t("f16[9, 3]"), *_TYPES), DTypeError, "float32"),
        Refused(TreeEnsemble(2, _LEAVES), (t("f32[9]"), *_TYPES), ShapeError, "rows"),
        Refused(TreeEnsemble(2, _LEAVES + 1), (t("f32[9, 3]"), *_TYPES), ShapeError, "start"),
    ],
    widen=False,
    no_grad=(0, 5),
    onnx=NO_ONNX,
)

SAMPLES = [TREES]
