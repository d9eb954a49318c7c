"""ONNX files: reading, writing, and the conversion between models and graphs.

    naming       unique names, symbolic sizes, source locations in doc strings
    export       graph -> model; export_sizes writes symbolic sizes as nodes
    gradient     gradients that a model asks for
    sparse       sparse tensors of a model as dense ones
    save, load   models on disk; load trusts nothing it reads, least of all paths of `external` data
    lift         brings old models to the opset that import rules are written for; legacy helps
                 with those before opset 7, definitions with operators that others define
    importer     model -> graph; rules for operators that are no op of ours are in `rules`
    subgraph     graphs that nodes hold, for the rules in `control_flow`
    symbolic     shape arithmetic carried out while importing; materialize makes nodes of
                 the rest; folding computes what else depends on constants only
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
