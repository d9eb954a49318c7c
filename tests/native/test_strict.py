"""Programs that are exact: every bit is that of the eager kernels."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import _dispatch
from dualgraph._dispatch import apply_many
from dualgraph_compiler.dtypes import BY_NAME, FLOAT, DType
from dualgraph_compiler.errors import DTypeError, ShapeError
from dualgraph_compiler.graph import Graph, Interpreter, Value
from dualgraph_compiler.graph.nested import definitions
from dualgraph_compiler.graph.text import Namer, node_text
from dualgraph_compiler.native import Exact, Interpreted
from dualgraph_compiler.ops import eager_steps, f
from dualgraph_compiler.ops.base import REGISTRY
from dualgraph_compiler.types import TensorType
from dualgraph_runtime.native import Executable, compile_graph, eager
from dualgraph_runtime.native.laid import takes_second_zero

from ..op_samples import OpSamples
from ..test_ops import RECORDS, each_op
from .test_ops import quick_compiler, together

pytestmark = pytest.mark.compiler


def same_bits(x: Any, y: Any) -> bool:
    """Whether arrays are equal to the sign of their zeros; any NaN is like any other."""
    x, y = np.asarray(x), np.asarray(y)
    if x.shape != y.shape or x.dtype != y.dtype:
        return False
    with np.errstate(all="ignore"):
        both = (x != x) & (y != y)
    x, y = np.where(both, np.zeros_like(x), x), np.where(both, np.zeros_like(y), y)
    return x.tobytes() == y.tobytes()


def exactly(graph: Graph, arrays: list[Any]) -> Executable:
    """The graph compiled for operands that lie like these; its results are checked."""
    wanted, strided = Interpreter(graph).run_observed(arrays, [])
    exact = Exact(strided, takes_second_zero())
    executable = compile_graph(graph, quick_compiler(), exact=exact)
    found = executable.run(arrays)
    wrong = [
        f"{node_text(v.node, Namer(graph))}: {y} and eagerly {z}"
        for v, y, z in zip(graph.outputs, found, wanted, strict=True)
        if v.node is not None and not same_bits(y, z)
    ]
    assert not wrong
    return executable


@each_op
def test_every_op(record: OpSamples) -> None:
    graph, arrays, _ = together(list(record.samples), symbolic=False)
    if record.op.is_pure and not definitions(graph):
        exactly(graph, [np.array(x, order="C") for x in arrays])


# -- random programs ------------------------------------------------------------------------------

SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, np.inf, -np.inf, np.nan, 1e-40, -1e-40)
DTYPES = ("float32",) * 5 + ("float64", "float16", "bfloat16", "int8", "int32", "int64", "uint8")
UNARY = (
    *("relu", "neg", "abs", "sign", "sqrt", "floor", "ceil", "trunc", "round", "reciprocal"),
    *("rsqrt", "leaky_relu", "hard_sigmoid", "bitwise_not", "isnan", "logical_not", "hardtanh"),
    *("exp", "tanh", "gelu", "sigmoid"),
)
BINARY = (
    *("add", "sub", "mul", "div", "maximum", "minimum", "fmod", "trunc_div", "prelu", "pow"),
    *("greater", "less_equal", "equal", "bitwise_xor", "logical_and", "shift_left"),
)


class Maker:
    """Adds a random program to a graph: what is exact, what is not, and what moves elements."""

    def __init__(self, graph: Graph, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.graph = graph
        dtype = BY_NAME[str(self.random.choice(DTYPES))]
        shape = (int(self.random.integers(1, 9)), int(self.random.choice([1, 7, 16, 67, 200])))
        self.arrays: list[Any] = []
        self.values: list[Value] = []
        for i in range(3):
            own = tuple(1 if self.random.random() < 0.15 else d for d in shape)[i % 3 // 2 :]
            self.arrays.append(self.numbers(dtype, own))
            self.values.append(graph.add_input(TensorType(dtype, own), f"x{seed}_{i}"))

    def numbers(self, dtype: DType, shape: tuple[int, ...]) -> Any:
        if dtype.category == FLOAT:
            x = self.random.standard_normal(shape) * 10.0 ** self.random.integers(-3, 4, shape)
            special = self.random.choice(SPECIAL, shape)
            x = np.where(self.random.random(shape) < 0.3, special, x)
        else:
            info = np.iinfo(dtype.np)
            x = self.random.integers(info.min, info.max, shape, dtype.np, endpoint=True)
        with np.errstate(all="ignore"):
            return np.array(np.asarray(x).astype(dtype.np))

    def pick(self) -> Value:
        return self.values[int(self.random.integers(len(self.values)))]

    def moved(self, x: Value) -> Value:
        """Elements at other places."""
        way = self.random.integers(5)
        if way == 0 and x.ndim == 2:
            return f.permute(x, (1, 0))
        if way == 1 and x.ndim == 2:
            return f.reshape(x, (x.shape[0] * x.shape[1],))
        if way == 2 and x.ndim > 0:
            return f.flip(x, (0,))
        if way == 3 and x.ndim > 0:
            return f.slice_axis(x, x.ndim - 1, 0, (x.shape[-1] + 1) // 2)
        return f.expand(x, (2, *x.shape)) if x.ndim < 2 else x

    def step(self) -> Value | None:
        """One more node; None where the ops refuse the operands."""
        draw = self.random.random()
        x, y = self.pick(), self.pick()
        try:
            if draw < 0.4:
                name = str(self.random.choice(BINARY))
                if name in ("fmod", "trunc_div", "div") and x.dtype.category != FLOAT:
                    return None  # which refuse 0
                return self.graph.call(REGISTRY[name](), (x, y))
            if draw < 0.7:
                return self.graph.call(REGISTRY[str(self.random.choice(UNARY))](), (x,))
            if draw < 0.8:
                return self.moved(x)
            if draw < 0.86:
                return f.where(f.greater(x, 0), x, y)
            if draw < 0.93:
                return f.cast(x, BY_NAME[str(self.random.choice(DTYPES))])
            fold = REGISTRY[str(self.random.choice(["sum", "max", "mean"]))]
            return fold(axes=(x.ndim - 1,), keepdims=True)(x) if x.ndim else None
        except (DTypeError, ShapeError):
            return None

    def make(self) -> list[Value]:
        made: list[Value] = []
        for _ in range(20):
            y = self.step()
            if y is not None:
                made.append(y)
                self.values.append(y)
        return made[-3:]


@pytest.mark.parametrize("group", range(10))
def test_random_programs(group: int) -> None:
    """Twenty at a time, in one program."""
    graph = Graph("random")
    arrays: list[Any] = []
    outputs: list[Value] = []
    for seed in range(20 * group, 20 * group + 20):
        maker = Maker(graph, seed)
        outputs += maker.make()
        arrays += maker.arrays
    graph.set_outputs(outputs)
    executable = exactly(graph, arrays)
    left = [s for s in executable.program.steps if isinstance(s, Interpreted)]
    assert len(left) < len(graph) / 2  # most is compiled


# -- with kernels of eager code -------------------------------------------------------------------

ACCELERATED = {name: r for name, r in RECORDS.items() if r.op in eager.ACCELERATED}


# Of which no sample has a native form.
NUMPY_ONLY = {
    *("airy_ai", "bessel_j0", "bessel_j1", "bessel_k0", "bessel_k1", "bessel_y0", "bessel_y1"),
    *("gcd", "igamma", "igammac", "lcm", "polynomial", "standard_gamma_slope", "zeta"),
}


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Eager code leaves what it can to kernels, whatever the sizes."""
    monkeypatch.setattr(eager, "_pays", lambda op, operands: True)
    monkeypatch.setattr(eager, "_accelerator", eager.Accelerator())
    monkeypatch.setattr(eager, "compile_graph", partial(compile_graph, compiler=quick_compiler()))
    for module in (_dispatch, eager_steps):
        monkeypatch.setattr(module, "SMALLEST", 1)
    with dg.backends.native.flags(enabled=True):
        yield


@pytest.mark.parametrize("record", ACCELERATED.values(), ids=list(ACCELERATED))
def test_steps_of_eager_code(record: OpSamples, kernels: None) -> None:
    """Operations and their gradients are what eager code's own kernels make of them."""
    samples = record.samples[:3]  # a kernel is built for each

    def results(operands: Any) -> Any:
        return [apply_many(s.op, *xs) for s, xs in zip(samples, operands, strict=True)]

    def with_gradients(function: Any) -> list[Any]:
        operands = [[dg.tensor(x) for x in s.inputs] for s in samples]
        leaves = [t for xs in operands for t in xs if t.dtype.is_differentiable]
        for t in leaves:
            t.requires_grad_()
        found = [y for ys in function(operands) for y in ys]
        ends = [y.abs().sum().double() for y in found if y.requires_grad]
        if ends:
            sum(ends[1:], ends[0]).backward()
        grads = [t.grad for t in leaves if t.grad is not None]
        return [y.detach().numpy() for y in (*found, *grads)]

    fast = dg.compile(results, numerics="strict", execution="native", fullgraph=True)
    wanted = with_gradients(results)
    for _ in range(3):
        found = with_gradients(fast)
        assert len(found) == len(wanted)
        for x, y in zip(found, wanted, strict=True):
            assert same_bits(x, y)
    runs = eager._accelerator._runs.values()
    assert any(run is not None for run in runs) == (record.op.name not in NUMPY_ONLY)
    assert fast.wait()
