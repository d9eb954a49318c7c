"""ONNX model -> Graph."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ..dims import Dim, DimLike, Shape
from ..dtypes import BY_ONNX, DType, as_dtype, bool_, int64
from ..errors import DualGraphError, NeedsValue, OnnxError, ShapeError, UndecidedSize
from ..graph import Graph, Value
from ..types import TensorType, is_static
from .folding import Folder
from .lift import operator_name, operators, prepare
from .load import ModelFile, ModelSource, element_type_name, load_model
from .materialize import materialize
from .naming import DimNames, parse_location
from .operator_rules import rule_for
from .sparse import dense
from .symbolic import MAX_ELEMENTS, Contents, contents, evaluate, is_known
from .weights import Weights, is_weight, settings_of

if TYPE_CHECKING:
    import onnx

    from .stepwise.whole import Whole

_COMPARISONS = {"Equal", "Less", "Greater"}


def import_model(
    source: ModelSource,
    *,
    weights: Weights = "constant",
    input_shapes: Mapping[str, Sequence[DimLike | str]] | None = None,
    name: str | None = None,
) -> Graph:
    """The graph of an ONNX model, of any opset.

    Args:
        source: a path, bytes, a binary file, a ModelProto, or what `load_model` returned.
        weights: whether floating-point initializers become constants of the graph, which the
            optimiser may fold, or params, which can be trained.
        input_shapes: shapes to use instead of the declared ones, by input name; a string in one is
            a symbolic size.
        name: the graph's name; the model's own by default.

    Raises:
        OnnxError: the model cannot be read, is malformed, or uses operators that are not
            supported (the message lists them all).
    """
    if weights not in ("constant", "param"):
        raise OnnxError(f"expected weights='constant' or 'param', got {weights!r}")
    file = load_model(source)
    try:
        model = prepare(file, lambda op: rule_for(op) is not None)
        _require_rules(file, model)
        importer = Importer(file, Graph(name or file.proto.graph.name or "graph"), weights)
        importer.add_graph(model.graph, dict(input_shapes or {}))
        return importer.graph
    except DualGraphError:
        raise
    except Exception as error:  # a malformed model can fail in as many ways as there are
        what = str(error) or type(error).__name__
        raise OnnxError(f"{file.source} cannot be imported: {what}") from error


def _require_rules(file: ModelFile, model: onnx.ModelProto) -> None:
    counts = Counter(op for op in operators(model) if rule_for(op) is None)
    if counts:
        listed = ", ".join(f"{op} ({n}x)" if n > 1 else op for op, n in sorted(counts.items()))
        raise OnnxError(f"{file.source} uses operators that are not supported: {listed}")


def _is_undecided(error: ShapeError) -> bool:
    """Whether sizes do not fit only because of what is not known of symbolic ones."""
    if isinstance(error, UndecidedSize):
        return True
    return error.sizes is not None and any(isinstance(d, Dim) for d in error.sizes)


def walk(values: Sequence[Value], stop: Collection[Value]) -> Iterator[Value]:
    """These values and all they are computed from, nearest first; not beyond those of `stop`."""
    seen = dict.fromkeys(values)
    queue = deque(seen)
    while queue:
        value = queue.popleft()
        yield value
        if value.node is not None and value not in stop:
            new = [v for v in value.node.inputs if v not in seen]
            seen.update(dict.fromkeys(new))
            queue.extend(new)


@dataclass(frozen=True, slots=True)
class GivenSizes:
    """The elements of an operand, ints and symbolic sizes, and their type."""

    elements: Contents
    dtype: DType


# -- the importer --------------------------------------------------------------------------------


class Importer:
    """What import rules work with: the `Import` protocol of :mod:`..ops.onnx_rules`.

    Beyond the protocol, `size_value` makes a value of sizes that need not be known yet. Such a
    value enters the graph as nodes only if something other than shape arithmetic reads it.
    """

    def __init__(self, file: ModelFile, graph: Graph, weights: Weights) -> None:
        self.graph = graph
        self.n_outputs = 1
        self._file = file
        self._weights = weights
        self.whole: Whole | None = None  # where sequences and the like may be values, too
        self._values: dict[str, Any] = {}
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._arrays: dict[str, np.ndarray[Any, Any]] | None = None
        self._settings: set[str] = set()  # initializers that are constants in any case
        self._pending: dict[Value, Contents] = {}  # size values that have no node yet
        self._attributes: dict[str, onnx.AttributeProto] = {}
        self._dims = DimNames()
        self._folder = Folder()

    # -- the whole graph --------------------------------------------------------------------------

    def add_graph(
        self, lifted: onnx.GraphProto, shapes: dict[str, Sequence[DimLike | str]]
    ) -> None:
        """Import every node of `lifted`, with the inputs and weights of the model as it was."""
        original = self._file.proto.graph
        for tensor in (*lifted.initializer, *original.initializer):
            self._initializers[tensor.name] = tensor
        for info in original.input:
            # Before IR 4 every initializer was listed as an input too.
            if info.name not in self._initializers:
                self._add_input(info, shapes.pop(info.name, None))
        if shapes:
            raise OnnxError(
                f"{self._file.source} has no input {', '.join(map(repr, shapes))}; its inputs are "
                + ", ".join(repr(v.name) for v in self.graph.inputs)
            )
        self._add_nodes(lifted.node, [o.name for o in original.output])

    def add_part(
        self,
        nodes: Sequence[onnx.NodeProto],
        operands: Mapping[str, TensorType | GivenSizes | np.ndarray[Any, Any]],
        initializers: Mapping[str, onnx.TensorProto],
        results: Sequence[str],
        arrays: dict[str, np.ndarray[Any, Any]] | None = None,
    ) -> None:
        """Import some nodes of a model, as a graph of their own.

        Args:
            operands: what they read from others; types become inputs of the graph, arrays
                constants.
            initializers: those of the graph that the nodes belong to.
            results: the names of the graph's outputs.
            arrays: those of initializers, by name, for several graphs to share; filled here.
        """
        self._arrays = arrays
        self._initializers.update(initializers)
        for name, operand in operands.items():
            if isinstance(operand, TensorType):
                self._values[name] = self.graph.add_input(operand, name)
            elif isinstance(operand, GivenSizes):
                self._values[name] = self.size_value(operand.elements, operand.dtype)
            else:
                self._values[name] = self.constant(operand)
        self._add_nodes(nodes, results)

    def _add_nodes(self, nodes: Sequence[onnx.NodeProto], results: Sequence[str]) -> None:
        self._read_nodes(nodes)
        self._finish([self._named(n, "the graph's outputs") for n in results], results)

    def _read_nodes(self, nodes: Sequence[onnx.NodeProto]) -> None:
        self._settings = settings_of(nodes)
        for i, node in enumerate(nodes):
            try:
                self._add_node(node)
            except OnnxError as error:
                error.node, error.operator = i, operator_name(node)
                raise

    def _finish(self, outputs: Sequence[Value], names: Sequence[str]) -> None:
        self.graph.loc = None
        self.graph.set_outputs(outputs, names)
        materialize(self.graph, self._pending)
        self.graph.drop_unused()

    def _add_input(self, info: onnx.ValueInfoProto, shape: Sequence[DimLike | str] | None) -> None:
        what = f"{self._file.source}: input {info.name!r}"
        kind = info.type.WhichOneof("value")
        if kind != "tensor_type":
            found = (kind or "untyped value").removesuffix("_type")
            raise OnnxError(f"{what}: expected a tensor, got a {found}")
        tensor = info.type.tensor_type
        dtype = BY_ONNX.get(tensor.elem_type)
        if dtype is None:
            name = element_type_name(tensor.elem_type)
            raise OnnxError(f"{what} has the element type {name}, which is not supported")
        if shape is not None:
            dims: Shape = tuple(self._dims.symbol(d) if isinstance(d, str) else d for d in shape)
        elif tensor.HasField("shape"):
            dims = tuple(
                self._input_dim(info.name, axis, d) for axis, d in enumerate(tensor.shape.dim)
            )
        else:
            raise OnnxError(f"{what} declares no shape; give one with input_shapes")
        self._values[info.name] = self.graph.add_input(TensorType(dtype, dims), info.name)

    def _input_dim(self, name: str, axis: int, dim: Any) -> DimLike:
        if dim.HasField("dim_value") and dim.dim_value >= 0:
            return int(dim.dim_value)
        return self._dims.symbol(dim.dim_param or f"{name}_{axis}")

    def _add_node(self, node: onnx.NodeProto) -> None:
        what = f"{self._file.source}: node {node.name or node.output[0] if node.output else '?'!r}"
        op_type = operator_name(node)
        operands = [self._named(n, what) if n else None for n in node.input]
        self._attributes = {a.name: a for a in node.attribute}
        self.graph.loc = parse_location(node.doc_string)
        outputs = list(node.output)
        while outputs and not outputs[-1]:
            outputs.pop()
        self.n_outputs = len(outputs)
        try:
            if self.whole is None:
                results = self.by_rule(op_type, operands)
            else:
                results = self.whole.results(self, node, operands)
        except Exception as error:  # malformed nodes fail in many ways
            raise self._located(error, f"{what} ({op_type}): ", node) from error
        results = results if isinstance(results, tuple | list) else (results,)
        while results and results[-1] is None:
            results = results[:-1]
        if len(results) < len(outputs):
            raise OnnxError(
                f"{what} ({op_type}): its output {outputs[len(results)]!r} is not supported"
            )
        for name, value in zip(outputs, results):
            if not name:
                continue
            if name in self._values or name in self._initializers:
                raise OnnxError(f"{what} ({op_type}): {name!r} is defined twice")
            self._values[name] = value
            if isinstance(value, Value) and value.node is not None and not value.name:
                value.name = name

    def by_rule(self, op_type: str, operands: Sequence[Value | None]) -> Any:
        """What the operator's rule gives, or shape arithmetic where all operands are known."""
        results = self._evaluate(op_type, operands)
        if results is not None:
            return results
        rule = rule_for(op_type)
        assert rule is not None
        return rule(self, *operands)

    def _located(self, error: Exception, where: str, node: onnx.NodeProto) -> OnnxError:
        """An import rule's error with the node's name and, if it needs values, theirs."""
        named = self._tensors(node.input)
        symbolic = any(isinstance(d, Dim) for v in named for d in v.shape)
        if isinstance(error, ShapeError) and (symbolic or _is_undecided(error)):
            error = NeedsValue(None, f"sizes that do not provably fit ({error})", sizes=True)
        if not isinstance(error, NeedsValue):
            return OnnxError(f"{where}{error}")
        if isinstance(error.operand, Value) and error.operand.graph is self.graph:
            return error.at(where, self._tellers([error.operand]))
        names = [n for n in node.input if n] if error.names is None else error.names
        values = self._tensors(names)
        return error.at(where, self._tellers(values) if len(values) == len(names) else ())

    def _tensors(self, names: Iterable[str]) -> list[Value]:
        """Those of these names that are values of the graph."""
        found = [self._values.get(n) for n in names]
        return [v for v in found if isinstance(v, Value)]

    def _tellers(self, values: Sequence[Value]) -> tuple[str, ...]:
        """The names of the values that these are or are computed from, nearest first."""
        names = {v: n for n, v in reversed(self._values.items()) if isinstance(v, Value)}
        return tuple(names[v] for v in walk(values, names) if v in names)

    def _named(self, name: str, reader: str) -> Any:
        """The value of a name; initializers are read when first used."""
        value = self._values.get(name)
        if value is None:
            tensor = self._initializers.get(name)
            if tensor is None:
                raise OnnxError(f"{reader}: {name!r} is read but nothing before defines it")
            value = self._values[name] = self._weight(tensor)
        return value

    def _weight(self, tensor: onnx.TensorProto) -> Value:
        if self._arrays is None:
            array = self._file.initializer(tensor)
        elif (found := self._arrays.get(tensor.name)) is not None:
            array = found
        else:
            array = self._arrays[tensor.name] = self._file.initializer(tensor)
        if self._is_trainable(tensor):
            taken = any(v.name == tensor.name for v in self.graph.params)
            return self.graph.add_param(array, "" if taken else tensor.name)
        return self.graph.constant(array, tensor.name if array.nbytes > 64 else "")

    def _is_trainable(self, tensor: onnx.TensorProto) -> bool:
        return self._weights == "param" and is_weight(tensor, self._settings)

    def named(self, name: str) -> Value:
        """The value that a node defined before, or an input or initializer, has this name.

        Raises:
            OnnxError: there is none.
        """
        found: Value = self._named(name, "it")
        return found

    def fresh_size(self, stem: str) -> Dim:
        """A size that only a run tells."""
        return self._dims.fresh(stem)

    # -- shape arithmetic -------------------------------------------------------------------------

    def _evaluate(self, op_type: str, operands: Sequence[Value | None]) -> list[Value] | None:
        """Results of a node all of whose operands are known now, else None."""
        known: list[Contents | None] = []
        for value in operands:
            found = None if value is None else self.contents(value)
            if found is None and value is not None:
                return None
            known.append(found)
        first = next((v for v in operands if v is not None), None)
        if first is None:
            return None
        if op_type == "Cast":
            dtype = BY_ONNX.get(int(self.attr("to", 0)))
            if dtype is None or dtype.category > int64.category or known[0] is None:
                return None
            if dtype is bool_ and not is_known(known[0]):
                return None
            return [self.size_value(known[0], dtype)]
        attrs = {name: self.attr(name) for name in self._attributes}
        results = evaluate(op_type, known, attrs)
        if results is None:
            return None
        if op_type == "Where" and operands[1] is not None:
            first = operands[1]
        dtype = bool_ if op_type in _COMPARISONS else first.dtype
        return [self.size_value(r, dtype) for r in results]

    def contents(self, value: Value) -> Contents | None:
        """The elements of a small integer or bool value, or None if they are not known."""
        found = self._pending.get(value)
        if found is not None:
            return found
        if value.dtype.category > int64.category or not is_static(value.shape):
            return None
        data = self._folder.array(value) if value.size <= MAX_ELEMENTS else None
        return None if data is None else contents(data.tolist()).reshape(data.shape)

    def size_value(self, sizes: Any, dtype: DType = int64) -> Value:
        """A value of these ints and symbolic dims: a constant if none is symbolic."""
        known = sizes if isinstance(sizes, np.ndarray) else contents(sizes)
        if is_known(known):
            return self.graph.constant(known.astype(dtype.np))
        value = Value(self.graph, TensorType(dtype, known.shape))
        self._pending[value] = known
        return value

    # -- the Import protocol ----------------------------------------------------------------------

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute's Python value."""
        from onnx import AttributeProto, helper

        attribute = self._attributes.get(name)
        if attribute is None:
            return default
        if attribute.type == AttributeProto.TENSOR:
            return self._file.array(attribute.t)
        if attribute.type == AttributeProto.SPARSE_TENSOR:
            return dense(attribute.sparse_tensor, self._file.array, self._file.source)
        value = helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if isinstance(value, float | int | str) or attribute.type == AttributeProto.GRAPH:
            return value
        return tuple(v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in value)

    def ints(self, value: Value, what: str) -> tuple[int, ...]:
        """The elements of an integer operand that must be known now."""
        return tuple(int(v) for v in self.array(value, what).reshape(-1))

    def sizes(self, value: Value, what: str) -> tuple[DimLike, ...]:
        """The elements of a shape operand: ints or symbolic dims."""
        found = self.contents(value)
        if found is None and self.array(value) is not None:  # too many for shape arithmetic, floats
            return self.ints(value, what)
        if found is None:
            raise NeedsValue(value, what, symbolic=True)
        return tuple(v if isinstance(v, Dim) else int(v) for v in found.flat)

    @overload
    def array(self, value: Value) -> np.ndarray[Any, Any] | None: ...
    @overload
    def array(self, value: Value, what: str) -> np.ndarray[Any, Any]: ...
    def array(self, value: Value, what: str | None = None) -> np.ndarray[Any, Any] | None:
        """The data of a constant operand. Of any other: None, or NeedsValue if it is named."""
        data = self._folder.array(value)
        if data is None and what is not None:
            raise NeedsValue(value, what, sizes=value in self._pending)
        return data

    def size(self, size: DimLike, what: str) -> int:
        """A size that must be a number; NeedsValue if it is symbolic."""
        if isinstance(size, Dim):
            raise NeedsValue(size, f"{what} ({size})", sizes=True)
        return size

    def nested(self, body: onnx.GraphProto, operands: Sequence[Value]) -> list[Value]:
        """The results of a graph that is an attribute, given the values of its inputs."""
        from .subgraph import Subgraph  # which is an Importer

        return Subgraph(self, self.graph).read(body, operands)

    def counted(self, value: Value) -> tuple[Value, int] | None:
        """Nothing: the graph of a model is not the body of a loop."""
        return None

    def constant(self, array: Any) -> Value:
        """A constant Value."""
        array = np.asarray(array)
        return self.graph.constant(array.astype(as_dtype(array.dtype).np, copy=False))
