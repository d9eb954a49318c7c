"""ONNX files: reading, writing, and the conversion between models and graphs.

    save, load   models on disk; load trusts nothing it reads (wellformed), least of all paths of
                 `external` data
    export       graph -> model; export_sizes writes symbolic sizes as nodes, export_functions
                 fused regions as functions; protos has what nodes are put together from
    lift         brings old models to the opset that import rules are written for; legacy helps
                 with those before opset 7, definitions with operators that others define
    importer     model -> graph, by the rules that operator_rules finds: beside the op, implied by
                 its declaration, or in the modules called `*rules`, control_flow and resize
    subgraph     graphs that nodes hold, for the rules in control_flow
    symbolic     shape arithmetic carried out while importing; materialize makes nodes of
                 the rest; folding computes what else depends on constants only
    naming       unique names, symbolic sizes, source locations in doc strings
    sparse       sparse tensors of a model as dense ones; labels, weights, nchwc: what else
                 models say in ways of their own
    cleaning     models made smaller, rewriting: made newer, or narrower
    stepwise     models that are no single graph, cut into steps
    values       operators on sequences, optionals, strings and maps

The `onnx` package is imported by the first call that needs it, not by this one.
"""

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from .export import DEFAULT_OPSET, export_graph
    from .importer import import_model
    from .load import ModelFile, load_model
    from .save import save_model
else:
    __getattr__ = lazy(
        __name__,
        {
            "export": ("DEFAULT_OPSET", "export_graph"),
            "importer": ("import_model",),
            "load": ("ModelFile", "load_model"),
            "save": ("save_model",),
        },
    )

__all__ = [
    "DEFAULT_OPSET",
    "ModelFile",
    "export_graph",
    "import_model",
    "load_model",
    "save_model",
]
