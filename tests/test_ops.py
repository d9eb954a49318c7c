"""Every op crossed with every way to run it: see tests/op_samples for the records.

Values are compared with an independent reference; gradients with central differences, first order
through arrays, second order through a graph differentiated twice.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import dualgraph_compiler.ops.base as base
from dualgraph_compiler.dims import Dim
from dualgraph_compiler.dtypes import BY_ONNX, NARROW, complex64, complex128, dtype_of
from dualgraph_compiler.errors import OnnxError, ShapeError
from dualgraph_compiler.graph import Graph, Interpreter, gradients, interpret, parse_graph, to_text
from dualgraph_compiler.graph import verify as verify_graph
from dualgraph_compiler.onnx import export_graph, import_model
from dualgraph_compiler.ops import REGISTRY, Kind
from dualgraph_compiler.types import TensorType, type_of

from .op_samples import EAGER_ONLY, TOLERANCE, OpSamples, Sample, all_samples, bfloat16

RECORDS = all_samples()
STEP = 1e-5  # of central differences

each_op = pytest.mark.parametrize("record", RECORDS.values(), ids=list(RECORDS))

# Element types that ONNX Runtime's Python API or all of its CPU kernels lack.
_NO_RUNTIME_DTYPES = (bfloat16, *(np.dtype(d.np) for d in (*NARROW, complex64, complex128)))


@contextmanager
def naming(sample: Any) -> Iterator[None]:
    """Failures say which sample failed; floating-point accidents are results here."""
    try:
        with np.errstate(all="ignore"):
            yield
    except Exception as error:
        error.add_note(f"in the sample {sample}")
        raise


def as_tuple(x: Any) -> tuple[Any, ...]:
    return tuple(x) if isinstance(x, tuple | list) else (x,)


def widened(x: np.ndarray) -> np.ndarray:
    """Floats as float64, complex as complex128, the rest as it is."""
    if x.dtype.kind == "c":
        return x.astype(np.complex128)
    return x.astype(np.float64) if x.dtype.kind in "fV" else x  # ml_dtypes' are "V"


def frozen(sample: Sample) -> tuple[np.ndarray, ...]:
    """The operands, which raise when written to."""
    for x in sample.inputs:
        x.flags.writeable = False
    return sample.inputs


def run_eager(sample: Sample) -> tuple[Any, ...]:
    return as_tuple(sample.op.eager(np, *frozen(sample)))


@functools.cache
def expected(record: OpSamples, index: int) -> tuple[np.ndarray, ...]:
    """What the reference says."""
    sample = record.samples[index]
    inputs = [widened(x) if record.widen else x for x in sample.inputs]
    return tuple(np.asarray(v) for v in as_tuple(record.reference(sample.op, *inputs)))


def compare(got: Any, want: Any, tol: float | None, slack: float = 1.0, least: float = 0) -> None:
    """`got` equals `want`, exactly for integers and bools, else within tolerance."""
    got = np.asarray(got)
    assert got.shape == want.shape
    if got.dtype.kind in "biu":
        np.testing.assert_array_equal(got, want.astype(got.dtype))
        return
    if dtype_of(got).is_narrow:
        slack = least = 0.0
    tol = max(slack * (TOLERANCE.get(got.dtype, 0.0) if tol is None else tol), least)
    # Rounded to the result's type, so that what overflows there is infinite in both.
    want = widened(want.astype(got.dtype))
    np.testing.assert_allclose(widened(got), want, rtol=tol, atol=tol)


def check_result(
    record: OpSamples, index: int, got: Sequence[Any], slack: float = 1.0, least: float = 0.0
) -> None:
    sample = record.samples[index]
    if record.check is not None:
        record.check(sample.op, sample.inputs, tuple(got))
        return
    want = expected(record, index)
    assert len(got) == len(want)
    for a, b in zip(got, want):
        compare(a, b, sample.tol, slack, least)


def build(sample: Sample, types: Sequence[TensorType] | None = None) -> Graph:
    """A graph of the one op."""
    graph = Graph(sample.op.name)
    types = types or [type_of(x) for x in sample.inputs]
    inputs = [graph.add_input(t, f"x{i}") for i, t in enumerate(types)]
    graph.set_outputs(as_tuple(graph.call(sample.op, inputs)))
    verify_graph(graph)
    return graph


# -- coverage ------------------------------------------------------------------------------------


def test_every_op_has_samples() -> None:
    assert set(REGISTRY) - set(RECORDS) == EAGER_ONLY


@each_op
def test_record_is_complete(record: OpSamples) -> None:
    assert record.samples
    assert all(type(s.op) is record.op for s in record.samples)
    takes_operands = any(s.inputs for s in record.samples)
    if record.op.differentiable and takes_operands:
        assert any(s.grad or s.expected_grads for s in record.samples), "no sample checks gradients"


# -- values --------------------------------------------------------------------------------------


@each_op
def test_eager(record: OpSamples) -> None:
    for i, sample in enumerate(record.samples):
        with naming(sample):
            before = [x.tobytes() for x in sample.inputs]
            got = run_eager(sample)
            assert [x.tobytes() for x in sample.inputs] == before, "an operand was changed"
            types = as_tuple(sample.op.infer(*map(type_of, sample.inputs)))
            assert [type_of(y) for y in got] == list(types), "infer and eager disagree"
            assert len(got) == sample.op.n_outputs
            check_result(record, i, got)
            if any(x.ndim == 0 for x in sample.inputs):
                # A 0-d result of NumPy is a scalar, and may be the operand of the next op.
                scalars = [x[()] if x.ndim == 0 else x for x in sample.inputs]
                check_result(record, i, as_tuple(sample.op.eager(np, *scalars)))


@each_op
def test_refused(record: OpSamples) -> None:
    for case in record.refused:
        with naming(f"{case.op} on {', '.join(map(str, case.inputs))}"):
            with pytest.raises(case.error, match=case.match) as caught:
                case.op.infer(*case.inputs)
            assert str(caught.value), "the error says nothing"


@each_op
def test_interpreter_and_text(record: OpSamples) -> None:
    for i, sample in enumerate(record.samples):
        with naming(sample):
            graph = build(sample)
            for g in (graph, parse_graph(to_text(graph, full=True))):
                check_result(record, i, interpret(g, sample.inputs))


@each_op
def test_symbolic_sizes(record: OpSamples) -> None:
    """With every size but 1 symbolic, what `infer` promises is what the interpreter gives."""
    for i, sample in enumerate(record.samples):
        types = [
            TensorType(dtype_of(x), tuple(d if d == 1 else Dim(f"n{d}") for d in x.shape))
            for x in sample.inputs
        ]
        with naming(sample):
            try:
                graph = build(sample, types)
            except ShapeError:
                # Its attributes are sizes of this sample; elementwise ops have no such excuse.
                assert record.op.kind is not Kind.POINTWISE
                continue
            got = interpret(graph, sample.inputs)
            sizes = {f"n{d}": d for x in sample.inputs for d in x.shape}
            for value, y in zip(graph.outputs, got):
                shape = tuple(base._resolve(d, sizes) for d in value.shape)
                assert (dtype_of(y), y.shape) == (value.dtype, shape)
            check_result(record, i, got)


@each_op
def test_decomposition(record: OpSamples) -> None:
    if record.op.decompose is base.Op.decompose:
        assert record.op.kind is not Kind.COMPOSITE, "a composite op must decompose"
        pytest.skip("not a composite op")
    for i, sample in enumerate(record.samples):
        with naming(sample):
            got = as_tuple(sample.op.decompose(*sample.inputs))
            check_result(record, i, got, slack=20)


# -- ONNX ----------------------------------------------------------------------------------------


def exported(record: OpSamples) -> Iterator[tuple[int, Sample, Any]]:
    """The samples with their models."""
    for i, sample in enumerate(record.samples):
        if record.onnx is not True or sample.onnx is not True:
            continue
        if any(x.dtype.kind == "c" for x in sample.inputs):
            continue  # ONNX has no complex arithmetic; see test_onnx_refuses_complex
        with naming(sample):
            graph = build(sample)
            if not any(v.dtype.is_complex for v in graph.outputs):
                yield i, sample, export_graph(graph)


def least_tolerance(sample: Sample) -> float:
    """ONNX stores floating-point attributes in float32."""
    attributes = sample.op.attributes().values()
    return 1e-6 if any(isinstance(v, float) for v in attributes) else 0.0


@each_op
def test_onnx_round_trip(record: OpSamples) -> None:
    import onnx

    for i, sample, model in exported(record):
        with naming(sample):
            onnx.checker.check_model(model, full_check=True)
            got = interpret(import_model(model), sample.inputs)
            check_result(record, i, got, slack=20, least=least_tolerance(sample))


@each_op
def test_onnx_runtime(record: OpSamples) -> None:
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    absent = []
    done = 0
    for i, sample, model in exported(record):
        if record.runtime is not True or sample.runtime is not True:
            continue
        results = [v.type.tensor_type.elem_type for v in model.graph.output]
        dtypes = [*(x.dtype for x in sample.inputs), *(BY_ONNX[r].np for r in results)]
        if any(d in _NO_RUNTIME_DTYPES for d in dtypes):
            continue
        with naming(sample):
            try:
                session = ort.InferenceSession(model.SerializeToString(), options)
            except ort.capi.onnxruntime_pybind11_state.NotImplemented as error:
                absent.append(str(error))  # ONNX Runtime itself says that it lacks the kernel
                continue
            feeds = {f"x{k}": np.ascontiguousarray(x) for k, x in enumerate(sample.inputs)}
            feeds = {k: x.reshape(sample.inputs[int(k[1:])].shape) for k, x in feeds.items()}
            got = session.run(None, {v.name: feeds[v.name] for v in session.get_inputs()})
            # Its kernels hold some of their constants in float32 whatever the operands are.
            check_result(record, i, got, slack=20, least=1e-6)
            done += 1
    if not done and absent:
        pytest.skip(absent[0])


@each_op
def test_onnx_refuses_complex(record: OpSamples) -> None:
    """Arithmetic on complex numbers has no ONNX form, and the error says so."""
    for sample in record.samples:
        if not any(x.dtype.kind == "c" for x in sample.inputs) or record.onnx is not True:
            continue
        with naming(sample):
            try:
                model = export_graph(build(sample))
            except OnnxError:
                continue
            check_model_types(model)


def check_model_types(model: Any) -> None:
    """Operators that move elements take complex ones; the checker knows which."""
    import onnx

    onnx.checker.check_model(model, full_check=True)


# -- gradients -----------------------------------------------------------------------------------


class Shaped:
    """What a rule gets for an operand whose value it said it does not need."""

    def __init__(self, x: Any) -> None:
        self.shape, self.dtype, self.ndim = x.shape, x.dtype, x.ndim


def is_differentiable(x: Any) -> bool:
    return dtype_of(x).is_differentiable


def vjp(op: Any, g: Any, y: Any, inputs: Sequence[Any]) -> list[Any]:
    """Gradients of the differentiable operands, given only what the op says it saves."""
    cls = type(op)
    flags = [*cls.saves_inputs[: len(inputs)]]
    flags += [cls.saves_rest] * (len(inputs) - len(flags))
    saved = [x if flag else Shaped(x) for x, flag in zip(inputs, flags)]
    if not cls.saves_output:
        y = tuple(map(Shaped, y)) if isinstance(y, tuple) else None
    found = op.vjp(g, y, *saved)
    assert len(found) == len(inputs)
    found = [v() if callable(v) and is_differentiable(x) else v for v, x in zip(found, inputs)]
    return [v if is_differentiable(x) else None for v, x in zip(found, inputs)]


def output_grads(y: Any, fill: Callable[[Any], Any]) -> Any:
    if isinstance(y, tuple):
        return tuple(fill(v) if is_differentiable(v) else None for v in y)
    return fill(y)


def noise(x: Any, seed: int) -> np.ndarray:
    """Random numbers of x's shape and dtype."""
    rng = np.random.default_rng([seed, *np.shape(x)])
    out = rng.standard_normal(np.shape(x))
    if x.dtype.kind == "c":
        out = out + 1j * rng.standard_normal(np.shape(x))
    return np.asarray(out).astype(x.dtype)


def dot(g: Any, y: Any) -> float:
    """Re sum conj(g) y: the loss whose gradient at y is g, in PyTorch's convention."""
    return float(np.sum(np.conj(g) * y).real)


@each_op
def test_gradient_types(record: OpSamples) -> None:
    """A gradient has its operand's shape and dtype, whatever the dtype."""
    if not record.op.differentiable:
        pytest.skip("not differentiable")
    for sample in record.samples:
        with naming(sample):
            inputs = frozen(sample)
            y = sample.op.eager(np, *inputs)
            if not any(map(is_differentiable, as_tuple(y))):
                continue
            g = output_grads(y, lambda v: np.ones(v.shape, v.dtype))
            found = vjp(sample.op, g, y, inputs)
            for x, gx in zip(inputs, found):
                assert gx is None or type_of(gx) == type_of(x)
            for gx, want in zip(found, sample.expected_grads or ()):
                if want is not None:
                    compare(gx, np.asarray(want), 1e-6)


@each_op
def test_gradient_values(record: OpSamples) -> None:
    samples = [s for s in record.samples if s.grad]
    for sample in samples:
        with naming(sample):
            check_first_order(record, sample)
    if not samples:
        pytest.skip("not differentiable, or only at edges")


def check_first_order(record: OpSamples, sample: Sample) -> None:
    inputs = frozen(sample)
    y = sample.op.eager(np, *inputs)
    g = output_grads(y, lambda v: noise(v, 1))

    def loss(*xs: Any) -> float:
        pairs = zip(as_tuple(g), as_tuple(sample.op.eager(np, *xs)))
        return sum(dot(gk, yk) for gk, yk in pairs if gk is not None)

    found = vjp(sample.op, g, y, inputs)
    checked = [i for i in range(len(inputs)) if i not in record.no_grad]
    check_directions(loss, inputs, found, checked, sample.grad_tol)


def check_directions(
    loss: Callable[..., float],
    inputs: Sequence[Any],
    grads: Sequence[Any],
    checked: Sequence[int],
    tol: float,
) -> None:
    """The gradients of the operands `checked` against the loss's slope in two random directions."""
    for i in checked:
        x, gx = inputs[i], grads[i]
        if not is_differentiable(x):
            continue
        assert x.dtype in (np.float64, np.complex128), "gradient samples must be float64"
        for seed in (2, 3):
            v = noise(x, seed)
            ends = [loss(*inputs[:i], x + s * v, *inputs[i + 1 :]) for s in (STEP, -STEP)]
            slope = (ends[0] - ends[1]) / (2 * STEP)
            found = 0.0 if gx is None else dot(gx, v)
            assert found == pytest.approx(slope, rel=tol, abs=tol), f"operand {i}"


@each_op
def test_second_order(record: OpSamples) -> None:
    samples = [s for s in record.samples if s.grad and s.second_order]
    for sample in samples:
        with naming(sample):
            check_second_order(record, sample)
    if not samples:
        pytest.skip("not twice differentiable, or only at edges")


def check_second_order(record: OpSamples, sample: Sample) -> None:
    """Differentiate the graph's gradients again, and compare with differences of them."""
    graph = build(sample)
    ys = [v for v in graph.outputs if v.dtype.is_differentiable]
    operands = enumerate(graph.inputs)
    xs = [v for i, v in operands if v.dtype.is_differentiable and i not in record.no_grad]
    gs = [graph.add_input(y.type, f"g{i}") for i, y in enumerate(ys)]
    first = gradients(graph, ys, xs, gs)
    known = [v for v in first if v is not None]
    weights = [graph.add_input(v.type, f"v{i}") for i, v in enumerate(known)]
    second = gradients(graph, known, [*xs, *gs], weights)
    graph.set_outputs([*known, *(v for v in second if v is not None)])
    verify_graph(graph)

    arrays = list(frozen(sample))
    arrays += [noise(np.empty(g.shape, g.dtype.np), 4) for g in gs]
    arrays += [noise(np.empty(w.shape, w.dtype.np), 5) for w in weights]
    results = Interpreter(graph).run(arrays)
    # The same gradients as through arrays.
    y = sample.op.eager(np, *sample.inputs)
    given = iter(arrays[len(sample.inputs) :])
    g = output_grads(y, lambda v: next(given))
    eager = [v for v in vjp(sample.op, g, y, sample.inputs) if v is not None]
    for a, b in zip(results, eager, strict=False):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)

    later = iter(results[len(known) :])
    found = {id(v): None if s is None else next(later) for v, s in zip([*xs, *gs], second)}
    slots = {id(v): i for i, v in enumerate(graph.inputs)}
    values = Interpreter(only(graph, len(known)))

    def loss(changed: int, x: Any) -> float:
        fed = [*arrays]
        fed[changed] = x
        return sum(dot(w, v) for w, v in zip(arrays[-len(weights) :], values.run(fed)))

    for v in [*xs, *gs]:
        at = slots[id(v)]
        check_directions(
            functools.partial(loss, at), [arrays[at]], [found[id(v)]], [0], 10 * sample.grad_tol
        )


def only(graph: Graph, count: int) -> Graph:
    """The graph with its first `count` outputs only."""
    graph.set_outputs(graph.outputs[:count])
    for node in graph.reversed_nodes():
        if not any(v.uses or v in graph.outputs for v in node.outputs):
            graph.erase(node)
    return graph
