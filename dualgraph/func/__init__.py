"""Functions that transform functions: gradients, Jacobians, batching. As ``torch.func``.

Transforms nest in any order, act on functions of nested tuples, lists and dicts of tensors, and
work inside of ``dg.compile`` and ``dg.trace``, where what they do becomes part of the graph.
"""

from __future__ import annotations

from ._forward import jacfwd, jvp, linearize
from ._map import vmap
from ._modules import functional_call, functionalize, stack_module_state
from ._norm import replace_all_batch_norm_modules_
from ._reverse import grad, grad_and_value, hessian, jacrev, vjp

__all__ = [
    "functional_call",
    "functionalize",
    "grad",
    "grad_and_value",
    "hessian",
    "jacfwd",
    "jacrev",
    "jvp",
    "linearize",
    "replace_all_batch_norm_modules_",
    "stack_module_state",
    "vjp",
    "vmap",
]
