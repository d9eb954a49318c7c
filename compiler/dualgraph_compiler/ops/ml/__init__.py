"""Import rules of ai.onnx.ml, the operators that scikit-learn's models are exported to.

What computes with numbers is a composition of ops, but for decision trees, which are an op of their
own. Strings and maps are beside the values that a session passes between graphs
(:mod:`dualgraph_compiler.onnx.values`).
"""

from . import encoders, ensembles, linear, preprocessing, support_vectors, trees

__all__ = ["encoders", "ensembles", "linear", "preprocessing", "support_vectors", "trees"]
