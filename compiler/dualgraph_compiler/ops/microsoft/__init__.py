"""Import rules of operators that ONNX Runtime's optimiser writes (the domain com.microsoft).

Source: ONNX Runtime's contributed operators, whose CPU kernels say what is not documented.
"""

from . import attention, fused, group_query, nchwc, norm

__all__ = ["attention", "fused", "group_query", "nchwc", "norm"]
