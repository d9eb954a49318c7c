"""The rule tables of :class:`~dualgraph_compiler.passes.simplify.Simplify`.

``ALGEBRA`` holds equations. ``FUNCTIONS`` holds rules that depend on an op's attributes: each takes
a node and returns the value that may stand in its place, or None.
"""

from . import casts, movement
from .algebra import ALGEBRA
from .tables import FUNCTIONS, FunctionRule, on

__all__ = ["ALGEBRA", "FUNCTIONS", "FunctionRule", "casts", "movement", "on"]
