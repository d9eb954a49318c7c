"""From ops to loops: one file for each kind of op."""

from . import (
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
