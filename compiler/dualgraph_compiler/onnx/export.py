"""Graph -> ONNX model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..dims import DimLike, Shape, as_linear
from ..dtypes import as_dtype
from ..errors import DualGraphError, OnnxError
from ..graph import Graph, Node, Value
from ..graph.nested import definitions
from ..ops.onnx_rules import IMPORT_OPSET
from ..types import TensorType
from .export_functions import FUNCTIONS_SINCE_IR, FUSED, Functions
from .export_sizes import SizeWriter
from .naming import Names, location_text
from .protos import Schema, attribute, schema_of, type_refused, value_info

if TYPE_CHECKING:
    import onnx

    from ..passes.group_pointwise import Kernel

DEFAULT_OPSET = 21
MIN_OPSET = 13  # from here on, axes of Squeeze, Unsqueeze and ReduceSum are operands
_SHARED_BYTES = 4096  # equal constants up to this size are stored once


def export_graph(
    graph: Graph,
    *,
    opset: int = DEFAULT_OPSET,
    name: str | None = None,
    producer_name: str = "dualgraph",
    producer_version: str = "",
    metadata: Mapping[str, str] | None = None,
    doc: bool = True,
    fed: Collection[str] = (),
    defaults: bool = True,
    functions: bool = False,
) -> onnx.ModelProto:
    """The ONNX model of a graph; the same graph gives the same bytes.

    Args:
        graph: params and constants become initializers (a param keeps its name), symbolic sizes
            `dim_param`.
        opset: version of the standard operator set written, 13 to 28; the IR version follows.
        name: the ONNX graph's name; the graph's own by default.
        producer_name, producer_version: written into the model.
        metadata: the model's `metadata_props`.
        doc: whether nodes carry their source location as doc string.
        fed: params, by name, that a run may feed: inputs of the model, after the graph's own.
        defaults: whether what `fed` params hold now is used where a run does not feed them.
        functions: write pointwise nodes that a fused kernel can compute as one call of a function
            in the domain `FUSED`, which the model defines in standard operators.

    Raises:
        OnnxError: an op has no ONNX form, or none at this opset.
    """
    import onnx

    newest = min(IMPORT_OPSET, onnx.defs.onnx_opset_version())
    if not MIN_OPSET <= opset <= newest:
        raise OnnxError(f"expected an opset from {MIN_OPSET} to {newest}, got {opset}")
    graph = _in_real_numbers(graph)
    outline = Functions(graph, opset) if functions else None
    exporter = Exporter(graph, opset, doc, fed=fed, defaults=defaults, functions=outline)
    exporter.add_graph()
    opsets = [onnx.helper.make_opsetid(d, v) for d, v in sorted(exporter.domains.items())]
    model = onnx.helper.make_model(
        exporter.finish(name or graph.name),
        opset_imports=opsets,
        ir_version=max(
            onnx.helper.find_min_ir_version_for(opsets, ignore_unknown=True),
            FUNCTIONS_SINCE_IR if functions else 0,
        ),
        functions=outline.protos if outline is not None else (),
        producer_name=producer_name,
        producer_version=producer_version,
    )
    onnx.helper.set_model_props(model, dict(metadata or {}))
    return model


def _in_real_numbers(graph: Graph) -> Graph:
    """The graph with pairs of real values for complex ones, if all of those are inside.

    ONNX has no arithmetic on complex numbers.
    """
    if not any(v.dtype.is_complex for n in graph.nodes for v in n.outputs):
        return graph
    from ..native.complex import split_complex

    copy = graph.copy()
    split_complex(copy)
    around = (*copy.inputs, *copy.params, *copy.outputs)
    inside = (v for n in copy.nodes for v in n.outputs)
    return graph if any(v.dtype.is_complex for v in (*around, *inside)) else copy


class Exporter:
    """What ops write themselves with: the `Export` protocol of :mod:`..ops.onnx_rules`.

    An exporter of a nested graph has an `outer` one, with whose names its own must not clash; its
    last inputs are the outer values named `captured`.
    """

    def __init__(
        self,
        graph: Graph,
        opset: int,
        doc: bool = True,
        outer: Exporter | None = None,
        captured: Sequence[str] = (),
        *,
        fed: Collection[str] = (),
        defaults: bool = True,
        functions: Functions | None = None,
    ) -> None:
        self.graph = graph
        self.opset = opset
        self.domains: dict[str, int] = outer.domains if outer else {"": opset}
        self._doc = doc
        self._functions = functions
        self._names: Names = outer._names if outer else Names()
        self._node_names: Names = outer._node_names if outer else Names()
        self._operands: dict[Value, str] = {}
        self._types: dict[str, TensorType] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._constants: dict[Any, str] = {}
        self._shared: set[str] = set()  # results that later nodes may read under their first name
        self._node: Node | None = None
        around: SizeWriter | None = outer._sizes if outer else None
        self._sizes: SizeWriter = SizeWriter(self, self._size_sources(), around)
        own = len(graph.inputs) - len(captured)
        self._inputs = [
            self._names.claim(v.name or f"input_{i}") for i, v in enumerate(graph.inputs[:own])
        ]
        for value, name in zip(graph.inputs[own:], captured, strict=True):
            self._define(value, name)
        self._outputs = [self._names.claim(n) for n in graph.output_names]
        self._params = {v: self._names.claim(v.name or "param") for v in graph.params}
        self._fed = [v for v in graph.params if v.name in fed]
        self._defaults = defaults
        self._own_names = self._claim_named_results()

    # -- the whole graph --------------------------------------------------------------------------

    def add_graph(self) -> None:
        """Write every node."""
        for value, name in zip(self.graph.inputs, self._inputs):  # without the captured ones
            self._define(value, name)
        for value in self._fed:
            name = self._params[value]
            self._define(value, self._initializer(name, value.data) if self._defaults else name)
        wanted = {v: n for v, n in zip(self.graph.outputs, self._outputs, strict=True) if v.node}
        if self._functions is None:
            for node in self.graph.nodes:
                self._add_node(node, wanted)
        else:
            for unit in self._functions.units:
                if isinstance(unit, Node):
                    self._add_node(unit, wanted)
                else:
                    self._add_call(unit, wanted)
        self._node = None
        for value, name in zip(self.graph.outputs, self._outputs, strict=True):
            source = self._operand(value)
            if source != name:
                self._append("Identity", (source,), [name], {})

    def finish(self, name: str) -> onnx.GraphProto:
        """The graph written so far."""
        from onnx import helper

        inputs = [*zip(self._inputs, self.graph.inputs)]  # without the captured ones
        inputs += [(self._params[v], v) for v in self._fed]
        outputs = zip(self._outputs, self.graph.outputs, strict=True)
        return helper.make_graph(
            self._nodes,
            name,
            [value_info(n, v.type) for n, v in inputs],
            [value_info(n, v.type) for n, v in outputs],
            list(self._initializers.values()),
        )

    def _add_node(self, node: Node, wanted: Mapping[Value, str]) -> None:
        first = len(self._nodes)
        self._node = node
        operands = [self._operand(v) for v in node.inputs]
        try:
            results = node.op.to_onnx(self, *operands)
        except DualGraphError as found:
            error = found
            if not isinstance(found, OnnxError):  # of the op's formula, in terms of its own
                why = str(found).partition("\n")[0]
                error = OnnxError(f"{node.op.name} has no ONNX form for these operands: {why}")
            if node.loc is not None:
                error.add_note(f"at {node.loc.file}:{node.loc.line}")
            if error is found:
                raise
            raise error from found
        results = (results,) if isinstance(results, str) else tuple(results)
        if len(results) != len(node.outputs):
            raise OnnxError(
                f"{node.op.name}: to_onnx must give {len(node.outputs)} results, not {len(results)}"
            )
        own = {name for n in self._nodes[first:] for name in n.output} - self._shared
        for value, result in zip(node.outputs, results, strict=True):
            wish = wanted.get(value) or self._own_names.get(value) or result
            if result in own and wish != result:
                own.discard(result)
                self._rename(result, wish, first)
                result = wish
            self._define(value, result)

    def _add_call(self, kernel: Kernel, wanted: Mapping[Value, str]) -> None:
        """Several nodes as one call of a function that computes them."""
        assert self._functions is not None
        operands, name = self._functions.define(kernel)
        self._node = kernel.nodes[-1]
        results = [
            wanted.get(v) or self._own_names.get(v) or self._names.claim(self._node.op.name)
            for v in kernel.outputs
        ]
        self._append(f"{FUSED}::{name}", tuple(map(self._operand, operands)), results, {})
        for value, result in zip(kernel.outputs, results, strict=True):
            self._define(value, result)

    def _rename(self, old: str, new: str, first: int) -> None:
        """Give a result of the nodes from index `first` on its final name."""
        for node in self._nodes[first:]:
            for names in (node.input, node.output):
                for i, name in enumerate(names):
                    if name == old:
                        names[i] = new

    def _define(self, value: Value, name: str) -> None:
        self._operands[value] = name
        self._types.setdefault(name, value.type)

    def _operand(self, value: Value) -> str:
        """The name of a value; params and constants are written when first used."""
        found = self._operands.get(value)
        if found is None:
            if value in self._params:
                found = self._initializer(self._params[value], value.data)
            else:
                found = self._constant(value.data, value.name)
            self._define(value, found)
        return found

    def _claim_named_results(self) -> dict[Value, str]:
        """The names that results have in the graph; made-up ones keep clear of them."""
        outputs = set(self.graph.outputs)
        results = (v for node in self.graph.nodes for v in node.outputs)
        return {v: self._names.claim(v.name) for v in results if v.name and v not in outputs}

    def _size_sources(self) -> dict[str, tuple[Value, int]]:
        """For every symbol, an input (or result) and the axis whose size tells it."""
        found = definitions(self.graph)
        for v in self.graph.inputs:
            for axis, d in enumerate(v.shape):
                if not isinstance(d, int) and d.name is not None:
                    found.setdefault(d.name, (v, axis))
        for v in self.graph.inputs:
            for axis, d in enumerate(v.shape):
                if (linear := as_linear(d)) is not None:
                    found.setdefault(linear[0].name, (v, axis))
        return found

    def _initializer(self, name: str, data: Any) -> str:
        from onnx import numpy_helper

        array = np.ascontiguousarray(data.get() if hasattr(data, "get") else data)
        # ascontiguousarray makes 0-d arrays 1-d.
        self._initializers[name] = numpy_helper.from_array(array.reshape(data.shape), name)
        return name

    def _constant(self, data: Any, name: str = "") -> str:
        key = None
        if data.nbytes <= _SHARED_BYTES:
            key = (data.dtype, data.shape, data.tobytes())
            if key in self._constants:
                return self._constants[key]
        made = self._initializer(self._names.claim(name or "const"), data)
        if key is not None:
            self._constants[key] = made
        return made

    # -- the Export protocol ----------------------------------------------------------------------

    def emit(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; see :class:`~dualgraph_compiler.ops.onnx_rules.Export`."""
        stem = self._node.op.name if self._node is not None else op_type.lower()
        results = [self._names.claim(stem) for _ in range(outputs)]
        self._append(op_type, inputs, results, attributes)
        return results[0] if outputs == 1 else tuple(results)

    def constant(self, value: Any, dtype: Any = None) -> str:
        """An initializer holding `value`."""
        np_dtype = as_dtype(dtype).np if dtype is not None else None
        return self._constant(np.asarray(value, np_dtype))

    def ints(self, *values: int) -> str:
        """A 1-d int64 initializer."""
        return self.constant(np.array(values, np.int64))

    def shape(self, dims: Shape) -> str:
        """A 1-d int64 tensor of sizes."""
        return self._sizes.shape(tuple(dims))

    def dim(self, dim: DimLike) -> str:
        """A 0-d int64 tensor holding one size."""
        return self._sizes.dim(dim)

    def subgraph(self, body: Graph, captured: Sequence[str]) -> onnx.GraphProto:
        """A nested graph, whose last inputs are the values named `captured`."""
        inner = Exporter(body, self.opset, self._doc, self, captured)
        inner.add_graph()
        return inner.finish(body.name)

    def type(self, name: str) -> TensorType:
        """The type of an operand."""
        return self._types[name]

    def is_used(self, output: int) -> bool:
        """Whether anything reads this output of the node being written."""
        assert self._node is not None
        value = self._node.outputs[output]
        return bool(value.uses) or any(value is v for v in self.graph.outputs)

    def require_opset(self, needed: int, what: str) -> None:
        """Refuse a target opset below `needed`."""
        if self.opset < needed:
            raise OnnxError(f"{what} needs opset {needed} or newer, got opset {self.opset}")

    def share(self, name: str) -> str:
        """Mark a result as read by later nodes too, so that it keeps its name."""
        self._shared.add(name)
        return name

    def input_name(self, value: Value) -> str:
        """The name of a graph input."""
        return self._operands[value]

    # -- nodes ------------------------------------------------------------------------------------

    def _append(
        self, op_type: str, inputs: tuple[str, ...], results: list[str], attributes: dict[str, Any]
    ) -> None:
        from onnx import helper

        domain, _, plain = op_type.rpartition("::")
        self.domains.setdefault(domain, 1)
        loc = self._node.loc if self._node is not None else None
        scope = f"{loc.scope}/{plain}" if loc is not None and loc.scope else plain
        kept = list(inputs)
        while kept and not kept[-1]:
            kept.pop()
        node = helper.make_node(
            plain,
            kept,
            results,
            name=self._node_names.claim(scope),
            doc_string=location_text(loc) if self._doc and loc is not None else None,
            domain=domain or None,
        )
        schema = None if domain else schema_of(plain, self.opset)
        if schema is not None:
            self._check_types(schema, kept)
        for key, value in attributes.items():
            if value is not None:
                node.attribute.append(attribute(key, value, schema))
        self._nodes.append(node)

    def _check_types(self, schema: Schema, inputs: list[str]) -> None:
        """Refuse an operand of an element type that the operator does not take."""
        for i, name in enumerate(inputs):
            known = self._types.get(name) if name else None  # empty: an absent optional one
            allowed = schema.inputs[min(i, len(schema.inputs) - 1)]
            if known is not None and known.dtype.onnx not in allowed:
                raise OnnxError(type_refused(schema, i, known.dtype))
