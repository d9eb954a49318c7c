"""Counts of n-grams. Source: ONNX TfIdfVectorizer-9."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ...errors import OnnxError
from .registry import Array, ValueContext, on_values


@on_values("TfIdfVectorizer")
def _tf_idf(ctx: ValueContext, x: Array) -> Array:
    """X [C] or [N, C] of strings or integers -> float32 [width] or [N, width]."""
    if x.ndim not in (1, 2):
        raise OnnxError(f"expected one or two dimensions, got {list(x.shape)}")
    mode = ctx.attr("mode")
    if mode not in ("TF", "IDF", "TFIDF"):
        raise OnnxError(f"unknown mode {mode!r}")
    columns = ctx.attr("ngram_indexes")
    pool = _pool(ctx)
    counts = np.zeros((1 if x.ndim == 1 else len(x), max(columns) + 1), np.float32)
    for row, items in zip(counts, x.reshape(len(counts), -1).tolist(), strict=True):
        for gram in _grams(ctx, items):
            if gram in pool:
                row[columns[pool[gram]]] += 1
    weights = np.ones(counts.shape[1], np.float32)
    if mode != "TF":
        weights[list(columns)] = ctx.attr("weights") or 1
    found = np.minimum(counts, 1) if mode == "IDF" else counts
    return (found * weights).reshape((*x.shape[:-1], -1)).astype(np.float32)


def _pool(ctx: ValueContext) -> dict[tuple[Any, ...], int]:
    """The n-grams looked for, by their number."""
    items = ctx.attr("pool_strings") or ctx.attr("pool_int64s") or ()
    starts = [*ctx.attr("ngram_counts"), len(items)]
    if starts != sorted(starts):
        raise OnnxError(f"ngram_counts {starts[:-1]} do not fit a pool of {len(items)}")
    pool: dict[tuple[Any, ...], int] = {}
    for n, (start, end) in enumerate(itertools.pairwise(starts), 1):
        for at in range(start, end, n):
            pool.setdefault(tuple(items[at : at + n]), len(pool))
    return pool


def _grams(ctx: ValueContext, items: list[Any]) -> Any:
    """Every n-gram of the wanted lengths, its items next to each other or with a step between."""
    for n in range(ctx.attr("min_gram_length"), ctx.attr("max_gram_length") + 1):
        for step in range(1, 2 if n == 1 else ctx.attr("max_skip_count") + 2):
            reach = (n - 1) * step + 1
            for start in range(len(items) - reach + 1):
                yield tuple(items[start : start + reach : step])
