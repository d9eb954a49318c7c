"""From ops to loops: one file for each kind of op."""

from . import library, movement, pointwise, reduction, taking

__all__ = ["library", "movement", "pointwise", "reduction", "taking"]
