"""Valid models made into hostile ones: of a seed, the same model always."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

INTS = (
    0,
    1,
    -1,
    2,
    3,
    5,
    -2,
    17,
    1000,
    2**31 - 1,
    2**31,
    -(2**31),
    10**15,
    2**62,
    2**63 - 1,
    -(2**63),
)
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, 1e30, 3.4e38, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    b"",
    b"NOTSET",
    b"SAME_UPPER",
    b"constant",
    b"\xff\xfe",
    b"a" * 5000,
    b'");abort();//',
    b"bij,bjk->bik",
)
Rng = random.Random


def all_graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    found = [graph]
    for node in graph.node:
        for a in node.attribute:
            for inner in ([a.g] if a.HasField("g") else []) + list(a.graphs):
                found += all_graphs(inner)
    return found


def some_node(rng: Rng, model: onnx.ModelProto) -> tuple[onnx.GraphProto, onnx.NodeProto] | None:
    pairs = [(g, n) for g in all_graphs(model.graph) for n in g.node]
    return rng.choice(pairs) if pairs else None


def attribute_value(rng: Rng, model: onnx.ModelProto) -> None:
    """Another number, text or list in an attribute."""
    found = some_node(rng, model)
    if found is None or not found[1].attribute:
        return
    a = rng.choice(found[1].attribute)
    if a.type == AttributeProto.INT:
        a.i = rng.choice(INTS)
    elif a.type == AttributeProto.FLOAT:
        a.f = rng.choice(FLOATS)
    elif a.type == AttributeProto.STRING:
        a.s = rng.choice(TEXTS)
    elif a.type == AttributeProto.INTS:
        _list(rng, a.ints, INTS)
    elif a.type == AttributeProto.FLOATS:
        _list(rng, a.floats, FLOATS)
    elif a.type == AttributeProto.STRINGS:
        _list(rng, a.strings, TEXTS)
    elif a.type == AttributeProto.TENSOR:
        tensor(rng, a.t)


def _list(rng: Rng, values: Any, pool: Any) -> None:
    kind = rng.randrange(5)
    if kind == 0 or not values:
        values.append(rng.choice(pool))
    elif kind == 1:
        values.pop()
    elif kind == 2:
        del values[:]
    elif kind == 3:
        values.extend([rng.choice(pool)] * rng.choice((1, 7, 3000)))
    else:
        values[rng.randrange(len(values))] = rng.choice(pool)


def attribute_form(rng: Rng, model: onnx.ModelProto) -> None:
    """An attribute absent, twice there, of another type, or new."""
    found = some_node(rng, model)
    if found is None:
        return
    _, node = found
    schema = _schema(node)
    known = list(schema.attributes) if schema is not None else ["axis", "alpha"]
    kind = rng.randrange(4)
    if kind == 0 and node.attribute:
        del node.attribute[rng.randrange(len(node.attribute))]
    elif kind == 1 and node.attribute:
        node.attribute.append(rng.choice(node.attribute))
    else:
        name = rng.choice(known) if known else "axis"
        if kind == 2:
            for i in reversed(range(len(node.attribute))):
                if node.attribute[i].name == name:
                    del node.attribute[i]
        values = (
            rng.choice(INTS),
            rng.choice(FLOATS),
            rng.choice(TEXTS),
            [rng.choice(INTS) for _ in range(rng.randrange(1, 5))],
            [rng.choice(FLOATS) for _ in range(rng.randrange(1, 5))],
            numpy_helper.from_array(np.array(rng.choice(INTS))),
        )
        node.attribute.append(helper.make_attribute(name, rng.choice(values)))
        if rng.random() < 0.1:
            node.attribute[-1].type = rng.randrange(16)
        if rng.random() < 0.05:
            node.attribute[-1].ref_attr_name = "other"


def _schema(node: onnx.NodeProto) -> Any:
    try:
        return onnx.defs.get_schema(node.op_type, node.domain)
    except onnx.defs.SchemaError:
        return None


def operands(rng: Rng, model: onnx.ModelProto) -> None:
    """Operands missing, repeated, exchanged, of another name; results alike."""
    found = some_node(rng, model)
    if found is None:
        return
    graph, node = found
    names = rng.choice((node.input, node.input, node.output))
    kind = rng.randrange(6)
    if kind == 0 and names:
        del names[rng.randrange(len(names))]
    elif kind == 1 and names:
        names[rng.randrange(len(names))] = ""
    elif kind == 2 and names:
        names.append(rng.choice(names))
    elif kind == 3:
        names.append(rng.choice(("", "nothing", "x", node.name)))
    else:
        every = [n for other in graph.node for n in (*other.input, *other.output)]
        every += [i.name for i in (*graph.input, *graph.initializer)]
        if names and every:
            names[rng.randrange(len(names))] = rng.choice(every)


def operator(rng: Rng, model: onnx.ModelProto) -> None:
    """Another operator with the same operands."""
    found = some_node(rng, model)
    if found is not None:
        ops = sorted({s.name for s in onnx.defs.get_all_schemas() if s.domain == ""})
        found[1].op_type = rng.choice((*ops, *ops, "", "Nothing", "Relu; //", "\x00"))
        if rng.random() < 0.1:
            found[1].domain = rng.choice(("ai.onnx.ml", "com.microsoft", "x", ""))


def repeated_nodes(rng: Rng, model: onnx.ModelProto) -> None:
    """Nodes repeated, removed, or in another order."""
    nodes = model.graph.node
    if not nodes:
        return
    kind = rng.randrange(3)
    if kind == 0:
        nodes.append(rng.choice(nodes))
    elif kind == 1:
        del nodes[rng.randrange(len(nodes))]
    else:
        order = list(nodes)
        rng.shuffle(order)
        del nodes[:]
        nodes.extend(order)


def tensor(rng: Rng, t: onnx.TensorProto) -> None:
    """Other elements, sizes or types of a tensor."""
    kind = rng.randrange(5)
    if kind == 0 and t.dims:
        t.dims[rng.randrange(len(t.dims))] = rng.choice(INTS)
    elif kind == 1:
        t.data_type = rng.randrange(0, 28)
    elif kind == 2 and t.raw_data:
        data = bytearray(t.raw_data)
        data[rng.randrange(len(data))] = rng.randrange(256)
        t.raw_data = bytes(data)
    elif kind == 3:
        t.raw_data = t.raw_data[: rng.randrange(len(t.raw_data) + 1)]
    else:
        pool = FLOATS if t.data_type in (1, 10, 11) else INTS
        count = min(int(np.prod([max(d, 0) for d in t.dims], dtype=float)), 64)
        values = [rng.choice(pool) for _ in range(count)]
        if t.data_type in (1, 6, 7, 10, 11) and len(t.dims) <= 1:
            dtype = helper.tensor_dtype_to_np_dtype(t.data_type)
            array = elements(values, dtype).reshape(-1 if t.dims else ())
            t.CopyFrom(numpy_helper.from_array(array, t.name))


def initializers(rng: Rng, model: onnx.ModelProto) -> None:
    """An initializer with other contents, another name, or twice."""
    tensors = model.graph.initializer
    if not tensors:
        return
    t = rng.choice(tensors)
    kind = rng.randrange(8)
    if kind == 0:
        t.name = rng.choice(("", "x", "nothing", *(o.name for o in model.graph.output)))
    elif kind == 1:
        tensors.append(t)
    elif kind == 2:
        t.data_location = TensorProto.EXTERNAL
        path = rng.choice(("/dev/zero", "/etc/passwd", "../x", "", "x\0", "/dev/stdin", "."))
        t.external_data.add(key="location", value=path)
    else:
        tensor(rng, t)


def declarations(rng: Rng, model: onnx.ModelProto) -> None:
    """Other types and sizes declared of inputs, outputs and values."""
    infos = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    if not infos:
        return
    info = rng.choice(infos)
    t = info.type.tensor_type
    kind = rng.randrange(7)
    if kind == 0 and t.shape.dim:
        rng.choice(t.shape.dim).dim_value = rng.choice(INTS)
    elif kind == 1 and t.shape.dim:
        rng.choice(t.shape.dim).dim_param = rng.choice(("n", "n*2", "", "batch", 'a"b', "a" * 3000))
    elif kind == 2:
        t.elem_type = rng.randrange(0, 28)
    elif kind == 3:
        info.name = rng.choice(("", "x", "nothing", *(i.name for i in infos)))
    elif kind == 4:
        t.ClearField("shape")
    elif kind == 5:
        info.ClearField("type")
    else:
        for _ in range(rng.choice((1, 3, 70))):
            t.shape.dim.add().dim_value = rng.choice(INTS)


def header(rng: Rng, model: onnx.ModelProto) -> None:
    """Another version, no outputs, names of other things."""
    kind = rng.randrange(5)
    if kind == 0 and model.opset_import:
        model.opset_import[0].version = rng.choice((*INTS, 6, 7, 9, 11, 12, 13, 18, 22))
    elif kind == 1 and model.graph.output:
        del model.graph.output[rng.randrange(len(model.graph.output))]
    elif kind == 2:
        infos = [*model.graph.input, *model.graph.output, onnx.ValueInfoProto()]
        model.graph.output.append(rng.choice(infos))
    elif kind == 3:
        model.ir_version = rng.choice(INTS)
    elif model.graph.input:
        del model.graph.input[rng.randrange(len(model.graph.input))]


MUTATIONS: tuple[Callable[[Rng, onnx.ModelProto], None], ...] = (
    attribute_value,
    attribute_value,
    attribute_form,
    operands,
    operands,
    operator,
    repeated_nodes,
    initializers,
    initializers,
    declarations,
    header,
)


def with_constants(rng: Rng, model: onnx.ModelProto, arrays: dict[str, Any]) -> None:
    """Some inputs become initializers, small integers (axes, sizes) more often than not."""
    inputs = list(model.graph.input)
    del model.graph.input[:]
    for info in inputs:
        array = arrays.get(info.name)
        small = isinstance(array, np.ndarray) and array.size <= 16
        if small and array.dtype.kind in "iubf" and rng.random() < (0.8 if array.ndim < 2 else 0.3):
            model.graph.initializer.append(numpy_helper.from_array(array, info.name))
        else:
            model.graph.input.append(info)


def mutated(rng: Rng, model: onnx.ModelProto, arrays: dict[str, Any]) -> bytes:
    """The bytes of a hostile model made from `model`, whose inputs are like `arrays`."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    with_constants(rng, made, arrays)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        try:
            rng.choice(MUTATIONS)(rng, made)
        except (ValueError, TypeError, OverflowError):
            continue  # not everything can be written down: another then
    data = made.SerializeToString()
    return damaged(rng, data) if rng.random() < 0.15 else data


def damaged(rng: Rng, data: bytes) -> bytes:
    """Bytes changed, removed, repeated or cut off."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(out) + 1) if out else 0
        kind = rng.randrange(5)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(out):
            out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif kind == 2:
            del out[at : at + rng.randrange(1, 9)]
        elif kind == 3:
            out[at:at] = out[at : at + rng.randrange(1, 40)]
        elif rng.random() < 0.3:
            del out[at:]
    return bytes(out)


def hostile_feed(rng: Rng, arg: Any, array: Any) -> Any:
    """What to feed an input: an array that fits, mostly; else other sizes or elements."""
    if isinstance(array, np.ndarray) and rng.random() < 0.6:
        return array
    names = {"float": "float32", "double": "float64"}
    name = arg.type.removeprefix("tensor(").removesuffix(")")
    try:
        dtype = np.dtype(names.get(name, name))
    except TypeError:
        return array
    shape = [d if isinstance(d, int) else rng.choice((0, 1, 2, 3, 7)) for d in arg.shape]
    if any(d > 1000 for d in shape) or np.prod(shape, dtype=float) > 1e5:
        return array
    values = [rng.choice((0, 1, 2, 3, -1)) for _ in range(int(np.prod(shape)))]
    if rng.random() < 0.3 and values:
        values[rng.randrange(len(values))] = rng.choice(INTS if dtype.kind in "iu" else FLOATS)
    return elements(values, dtype).reshape(shape)


def elements(values: list[Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """An array of numbers, those that a dtype cannot hold replaced by its largest and smallest."""
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        values = [min(max(v, int(info.min)), int(info.max)) for v in values]
    with np.errstate(all="ignore"):
        return np.array(values, dtype) if dtype.kind in "iuf" else np.array(values).astype(dtype)
