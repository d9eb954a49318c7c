"""Models that are no single static graph, cut into steps.

What has to be known before a graph can be made (axes that are fed, a shape computed from data, the
rank of an input), and values that are no tensors of numbers, need something that only a run tells.
Such a model becomes a sequence of steps: *segments*, each of which is imported as a graph once it
is known what it is given, and single nodes on Python values (:mod:`..values`).

    names     what nodes read and write, nested graphs included
    kinds     which of a model's values are no tensors of numbers, as far as can be told before
    plan      the cutting; a plan learns from what a run meets and is cut anew then
    segment   graphs of segments, for the types and contents that arrive
    whole     one graph for all of a model, for the types and small contents of one call

All of it is pure: `dualgraph_runtime.stepwise` runs the steps.
"""

from .plan import Plan, Segment, Single
from .segment import Arrival, arrival, import_segment
from .whole import WholeGraph, Words, import_whole

__all__ = [
    "Arrival",
    "Plan",
    "Segment",
    "Single",
    "WholeGraph",
    "Words",
    "arrival",
    "import_segment",
    "import_whole",
]
