"""Python control flow that traced tensors decide, captured in graphs.

Where a trace fails because Python asked for a tensor's data, the function is traced once more with
its control flow rewritten: `source` finds the syntax tree of a function, `rewrite` and
`expressions` change it, `functions` makes a function of it again, once. What the rewritten code
calls is in `runtime`: `branches` and `loops` run it as Python would until a traced tensor decides,
and record it in the graph then; `effects` refuses what a graph could not take back.
"""

from .calls import adapted, call
from .number import Number
from .sequences import refuse_open

__all__ = ["Number", "adapted", "call", "refuse_open"]
