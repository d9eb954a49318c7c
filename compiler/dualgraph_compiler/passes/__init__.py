"""The passes, one file each, and the manager that runs them.

A pass is an object with a ``name`` and ``run(graph) -> bool``: it rewrites the graph in place,
leaves it valid, and says whether anything changed. Passes decide by an op's *kind*; an op is named
only in a rule that is about that op.
"""

from .control_flow import SimplifyControl
from .cse import MergeCommon
from .dce import RemoveDeadCode
from .decompose import Decompose
from .fold_batch_norm import FoldBatchNorm
from .fold_constants import FoldConstants
from .integer_products import IntegerProducts
from .manager import Pass, PassManager, PassRecord
from .rematerialize import Rematerialize
from .requantization import Requantization
from .simplify import Simplify

__all__ = [
    "Decompose",
    "FoldBatchNorm",
    "FoldConstants",
    "IntegerProducts",
    "MergeCommon",
    "Pass",
    "PassManager",
    "PassRecord",
    "Rematerialize",
    "RemoveDeadCode",
    "Requantization",
    "Simplify",
    "SimplifyControl",
]
