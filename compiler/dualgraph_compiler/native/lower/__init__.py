"""From ops to loops: one file for each kind of op."""

from . import (
    bins,
    complex,
    library,
    movement,
    nests,
    pointwise,
    pooling,
    random,
    reduction,
    routines,
    scans,
    scatter,
    taking,
)

__all__ = [
    "bins",
    "complex",
    "library",
    "movement",
    "nests",
    "pointwise",
    "pooling",
    "random",
    "reduction",
    "routines",
    "scans",
    "scatter",
    "taking",
]
