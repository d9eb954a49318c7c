"""Where values live: what may be computed in place, and one arena for everything else.

Plans are plain data about a graph, made without running it: the interpreter follows them, and so
can generated code. ``check.py`` derives anew, in another way, that a plan overwrites nothing that
is still needed.
"""

from ..graph import core as _core  # noqa: F401  isort: skip  (first: both packages need each other)
from .check import check_plan
from .inplace import InPlacePlan, plan_in_place
from .plan import MemoryPlan, Placement, Storage, plan_memory

__all__ = [
    "InPlacePlan",
    "MemoryPlan",
    "Placement",
    "Storage",
    "check_plan",
    "plan_in_place",
    "plan_memory",
]
