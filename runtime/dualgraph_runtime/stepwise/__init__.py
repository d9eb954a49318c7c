"""Runs models that are cut into steps (see :mod:`dualgraph_compiler.onnx.stepwise`).

declared     inputs and outputs of any kind, as a model declares them
prepared     one graph of a segment, interpreted or compiled
coded        single nodes on strings, as numbers
specialized  whole models as single graphs, each for one kind of call
walker       carries the steps out, and has the plan learn from what it meets
steps        a walker on arrays, for sessions
"""

from .steps import Steps
from .walker import Walker

__all__ = ["Steps", "Walker"]
