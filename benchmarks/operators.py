"""Single ONNX operators at two sizes each, beside ONNX Runtime.

``python -m benchmarks.operators [NAME ...]``: microseconds of a call on one thread, all rows or
those of the named operators, the slowest beside the peer first. Constant operands (weights,
indices, sizes) are initializers. Each row is checked to give the peer's result.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

from dualgraph_runtime import InferenceSession, SessionOptions

from . import peers

Array: TypeAlias = np.ndarray[Any, Any]
BLOCKS, BLOCK_SECONDS, PAUSE = 40, 0.002, 0.0005
OPSET = 21
RNG = np.random.default_rng(0)


@dataclass
class Case:
    """A call of an operator: its operands in order, fed (`inputs`) or constant."""

    op: str
    operands: list[Array | None]
    constant: set[int] = field(default_factory=set)
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    domain: str = ""
    note: str = ""

    @property
    def title(self) -> str:
        """The operator with the shape of its first operand and what is special."""
        first = self.operands[0]
        assert first is not None
        return " ".join(filter(None, (self.op, "x".join(map(str, first.shape)), self.note)))

    def model(self) -> tuple[bytes, dict[str, Array]]:
        """A model of one node, and what it is fed."""
        names = ["" if a is None else f"x{i}" for i, a in enumerate(self.operands)]
        given = [(i, a) for i, a in enumerate(self.operands) if a is not None]
        feed = {f"x{i}": a for i, a in given if i not in self.constant}
        node = helper.make_node(
            self.op,
            names,
            [f"y{i}" for i in range(self.outputs)],
            domain=self.domain,
            **self.attributes,
        )
        graph = helper.make_graph(
            [node],
            "operator",
            [_input(name, a) for name, a in feed.items()],
            [helper.make_empty_tensor_value_info(f"y{i}") for i in range(self.outputs)],
            [numpy_helper.from_array(a, f"x{i}") for i, a in given if i in self.constant],
        )
        imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 3)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=10)
        return onnx.shape_inference.infer_shapes(model).SerializeToString(), feed


def _input(name: str, a: Array) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(a.dtype), list(a.shape)
    )


# -- what is measured -----------------------------------------------------------------------------

ROWS, IMAGE = (128, 768), (1, 64, 56, 56)
LARGE, IMAGES = (1024, 1024), (4, 32, 112, 112)


def floats(*shape: int) -> Array:
    """Standard normal numbers."""
    return RNG.standard_normal(shape).astype(np.float32)


def positive(*shape: int) -> Array:
    """Numbers within [1.1, 2)."""
    return RNG.uniform(1.1, 2, shape).astype(np.float32)


def within(*shape: int) -> Array:
    """Numbers within (-1, 1)."""
    return RNG.uniform(-0.99, 0.99, shape).astype(np.float32)


def integers(*shape: int, below: int = 100, dtype: type[Any] = np.int64) -> Array:
    """Natural numbers below a bound."""
    return RNG.integers(0, below, shape).astype(dtype)


def bools(*shape: int) -> Array:
    """True or false, evenly."""
    return RNG.random(shape) < 0.5


def i64(*values: int) -> Array:
    """A list of sizes, axes or indices."""
    return np.array(values, np.int64)


# fmt: off
UNARY = [
    "Abs", "Ceil", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish",
    "LeakyRelu", "Mish", "Neg", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus",
    "Softsign", "Tan", "Tanh", "ThresholdedRelu", "Celu", "Atan", "Sinh", "Cosh", "Asinh",
    "IsNaN", "IsInf", "Identity", "Shrink",
]
BOUNDED = ["Asin", "Acos", "Atanh"]
POSITIVE = ["Log", "Sqrt", "Reciprocal", "Acosh"]
BINARY = [
    "Add", "Sub", "Mul", "Div", "Max", "Min", "Mean", "Sum", "PRelu", "Equal", "Greater",
    "Less", "GreaterOrEqual", "LessOrEqual",
]
REDUCTIONS = [
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
    "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp",
]
# fmt: on


def pointwise() -> Iterator[Case]:
    """Operators that go element by element."""
    for shape in (ROWS, LARGE):
        for names, make in ((UNARY, floats), (BOUNDED, within), (POSITIVE, positive)):
            for name in names:
                yield Case(name, [make(*shape)])
        for name in BINARY:
            yield Case(name, [positive(*shape), positive(*shape)])
        yield Case("Pow", [positive(*shape), positive(*shape)])
        yield Case("Pow", [floats(*shape), np.float32(3)], {1}, note="3")
        yield Case("Mod", [positive(*shape), positive(*shape)], attributes={"fmod": 1})
        yield Case("Mod", [integers(*shape), integers(*shape) + 1], note="int64")
        yield Case("Div", [integers(*shape), integers(*shape) + 1], note="int64")
        yield Case("Add", [floats(*shape), floats(shape[-1])], {1}, note="row")
        yield Case("Mul", [floats(*shape), floats(shape[0], 1)], note="column")
        yield Case("Clip", [floats(*shape), np.float32(-1), np.float32(1)], {1, 2})
        for name in ("And", "Or", "Xor"):
            yield Case(name, [bools(*shape), bools(*shape)])
        yield Case("Not", [bools(*shape)])
        yield Case("Where", [bools(*shape), floats(*shape), floats(*shape)])
        for name in ("BitwiseAnd", "BitwiseXor"):
            yield Case(name, [integers(*shape, dtype=np.int32), integers(*shape, dtype=np.int32)])
        yield Case("BitwiseNot", [integers(*shape, dtype=np.int32)])
        shifts = [integers(*shape, dtype=np.uint32), integers(*shape, below=8, dtype=np.uint32)]
        yield Case("BitShift", shifts, attributes={"direction": "LEFT"})
        for note, x, to in (
            ("f32 to i64", floats(*shape), onnx.TensorProto.INT64),
            ("i64 to f32", integers(*shape), onnx.TensorProto.FLOAT),
            ("f32 to f16", floats(*shape), onnx.TensorProto.FLOAT16),
            ("f16 to f32", floats(*shape).astype(np.float16), onnx.TensorProto.FLOAT),
            ("u8 to f32", integers(*shape, dtype=np.uint8), onnx.TensorProto.FLOAT),
            ("f32 to u8", positive(*shape), onnx.TensorProto.UINT8),
            ("bool to f32", bools(*shape), onnx.TensorProto.FLOAT),
        ):
            yield Case("Cast", [x], attributes={"to": to}, note=note)


def reductions() -> Iterator[Case]:
    """Folds, norms, and what goes along an axis."""
    for shape in (ROWS, LARGE):
        for name in REDUCTIONS:
            for axis in (1, 0):
                yield Case(name, [positive(*shape), i64(axis)], {1}, note=f"axis {axis}")
        for name in ("ArgMax", "ArgMin"):
            for axis in (1, 0):
                yield Case(name, [floats(*shape)], attributes={"axis": axis}, note=f"axis {axis}")
        for name in ("Softmax", "LogSoftmax", "Hardmax"):
            yield Case(name, [floats(*shape)])
        yield Case("Softmax", [floats(*shape)], attributes={"axis": 0}, note="axis 0")
        n = shape[-1]
        yield Case("LayerNormalization", [floats(*shape), floats(n), floats(n)], {1, 2})
        yield Case("CumSum", [floats(*shape), np.int64(1)], {1}, note="axis 1")
        yield Case("CumSum", [floats(*shape), np.int64(0)], {1}, note="axis 0")
        yield Case("TopK", [floats(*shape), i64(10)], {1}, outputs=2)
        yield Case("TopK", [floats(*shape), i64(n // 2)], {1}, outputs=2, note="half")
        yield Case("LpNormalization", [floats(*shape)])
    for shape in (IMAGE, IMAGES):
        c = shape[1]
        norm = [floats(*shape), floats(c), floats(c)]
        yield Case("InstanceNormalization", norm, {1, 2})
        yield Case("GroupNormalization", norm, {1, 2}, {"num_groups": 8})
        yield Case("BatchNormalization", [*norm, floats(c), positive(c)], {1, 2, 3, 4})
        yield Case("LRN", [floats(*shape)], attributes={"size": 5})
        yield Case("MeanVarianceNormalization", [floats(*shape)])
        yield Case("ReduceMean", [floats(*shape), i64(2, 3)], {1}, note="spatial")
        yield Case("ReduceMax", [floats(*shape), i64(1)], {1}, note="channels")


def windows() -> Iterator[Case]:
    """Convolution, pooling, resizing, and other reading of images."""
    for shape in (IMAGE, IMAGES):
        c, h = shape[1], shape[2]
        x = floats(*shape)
        k3 = {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}
        for name in ("MaxPool", "AveragePool", "LpPool"):
            yield Case(name, [x], attributes=k3)
        yield Case("MaxPool", [x], attributes=k3, outputs=2, note="indices")
        for name in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"):
            yield Case(name, [x])
        for k, groups in ((3, 1), (1, 1), (3, c), (3, 4)):
            attributes = {"pads": (k // 2,) * 4, "group": groups}
            w = floats(c, c // groups, k, k)
            yield Case("Conv", [x, w], {1}, attributes, note=f"{k}x{k}, {groups} groups")
        yield Case(
            "ConvTranspose",
            [x, floats(c, c // 2, 4, 4)],
            {1},
            {"strides": (2, 2), "pads": (1,) * 4},
        )
        yield Case(
            "ConvTranspose", [x, floats(c, c // 2, 2, 2)], {1}, {"strides": (2, 2)}, note="2x2"
        )
        for mode in ("nearest", "linear", "cubic"):
            for scale in (2.0, 0.5, 1.5):
                scales = np.array([1, 1, scale, scale], np.float32)
                operands = [x, None, scales]
                yield Case("Resize", operands, {2}, {"mode": mode}, note=f"{mode} {scale}")
        grid = RNG.uniform(-1, 1, (shape[0], h, h, 2)).astype(np.float32)
        for mode in ("linear", "nearest", "cubic"):
            yield Case("GridSample", [x, grid], attributes={"mode": mode}, note=mode)
        yield Case("DepthToSpace", [x], attributes={"blocksize": 2})
        yield Case("SpaceToDepth", [x], attributes={"blocksize": 2})
        corners = RNG.uniform(0, h / 2, (100, 2))
        rois = np.concatenate([corners, corners + RNG.uniform(2, h / 2, (100, 2))], 1)
        rois = rois.astype(np.float32)
        images = integers(100, below=shape[0])
        size = {"output_height": 7, "output_width": 7}
        for ratio in (0, 2):
            attributes = {**size, "sampling_ratio": ratio}
            yield Case("RoiAlign", [x, rois, images], attributes=attributes, note=f"{ratio}")
        attributes = {**size, "sampling_ratio": 2, "mode": "max"}
        yield Case("RoiAlign", [x, rois, images], attributes=attributes, note="max")
        table = np.concatenate([images[:, None].astype(np.float32), rois], 1)
        yield Case("MaxRoiPool", [x, table], attributes={"pooled_shape": (7, 7)})
        columns = floats(shape[0], c * 9, h * h)
        sizes = [i64(h, h), i64(3, 3)]
        yield Case("Col2Im", [columns, *sizes], {1, 2}, {"pads": (1, 1, 1, 1)})
        theta = floats(shape[0], 2, 3)
        yield Case("AffineGrid", [theta, i64(shape[0], c, h, h)], {1})
        pooled = onnx_max_pool(x)
        yield Case(
            "MaxUnpool", list(pooled), attributes={"kernel_shape": (2, 2), "strides": (2, 2)}
        )
    x, offset = floats(1, 32, 28, 28), floats(1, 18, 28, 28)
    yield Case("DeformConv", [x, floats(32, 32, 3, 3), offset], {1}, {"pads": (1, 1, 1, 1)})
    x, offset = floats(1, 64, 56, 56), floats(1, 18, 56, 56)
    yield Case("DeformConv", [x, floats(64, 64, 3, 3), offset], {1}, {"pads": (1, 1, 1, 1)})
    for shape in ((1, 32, 1000), (4, 64, 4000)):
        w = floats(shape[1], shape[1], 5)
        yield Case("Conv", [floats(*shape), w], {1}, {"pads": (2, 2)}, note="1d")
    for shape in ((1, 8, 16, 32, 32), (1, 16, 32, 32, 32)):
        w = floats(shape[1], shape[1], 3, 3, 3)
        yield Case("Conv", [floats(*shape), w], {1}, {"pads": (1,) * 6}, note="3d")


def onnx_max_pool(x: Array) -> tuple[Array, Array]:
    """Maxima of squares of 2 x 2, and where in the whole tensor they are."""
    n, c, h, w = x.shape
    flat = np.arange(x.size).reshape(x.shape)
    squares, places = (
        a.reshape(n, c, h // 2, 2, w // 2, 2).swapaxes(3, 4).reshape(n, c, h // 2, w // 2, 4)
        for a in (x, flat)
    )
    at = squares.argmax(-1)[..., None]
    return np.take_along_axis(squares, at, -1)[..., 0], np.take_along_axis(places, at, -1)[..., 0]


def movement() -> Iterator[Case]:
    """Operators that move elements, and those that choose them."""
    for shape in (ROWS, LARGE):
        n = shape[-1]
        x = floats(*shape)
        yield Case("Transpose", [x], attributes={"perm": (1, 0)})
        heads = floats(shape[0], 8, n // 8)
        yield Case("Transpose", [heads], attributes={"perm": (1, 0, 2)}, note="heads")
        yield Case("Concat", [x, floats(*shape)], attributes={"axis": 1})
        yield Case("Split", [x], attributes={"axis": 1, "num_outputs": 4}, outputs=4)
        yield Case("Slice", [x, i64(1), i64(-1), i64(1)], {1, 2, 3})
        yield Case("Slice", [x, i64(0), i64(n), i64(1), i64(2)], {1, 2, 3, 4}, note="steps of 2")
        yield Case("Pad", [x, i64(1, 1, 1, 1)], {1})
        yield Case("Pad", [x, i64(1, 1, 1, 1)], {1}, {"mode": "reflect"}, note="reflect")
        yield Case("Tile", [x, i64(2, 2)], {1})
        yield Case("Expand", [floats(1, n), i64(*shape)], {1})
        yield Case("Gather", [x, integers(1000, below=shape[0])], note="rows")
        yield Case("Gather", [x, integers(50, below=n)], {1}, {"axis": 1}, note="columns")
        yield Case("GatherElements", [x, integers(*shape, below=n)], attributes={"axis": 1})
        yield Case("GatherND", [x, integers(5000, 2, below=shape[0])])
        yield Case(
            "ScatterElements",
            [x, integers(shape[0], 50, below=n), floats(shape[0], 50)],
            attributes={"axis": 1},
        )
        yield Case("ScatterND", [x, integers(50, 1, below=shape[0]), floats(50, n)])
        unique = RNG.permutation(n)[None].repeat(shape[0], 0)
        yield Case("ScatterElements", [x, unique, x], attributes={"axis": 1}, note="all")
        yield Case("OneHot", [integers(1000, below=n), np.int64(n), floats(2)], {1, 2})
        yield Case("Trilu", [x], attributes={"upper": 0})
        yield Case("EyeLike", [x])
        yield Case("Compress", [x, bools(shape[0])], attributes={"axis": 0})
        yield Case("NonZero", [bools(*shape)])
        yield Case("Unique", [integers(n * 10)], outputs=4)
        yield Case("ReverseSequence", [x, integers(n, below=shape[0])], attributes={})
        yield Case("Range", [np.int64(0), np.int64(n * 100), np.int64(1)], {0, 1, 2})
        yield Case("Reshape", [x, i64(-1)], {1})
        yield Case("Shape", [x])
        boxes = np.concatenate([RNG.uniform(0, 90, (1, n, 2)), RNG.uniform(1, 10, (1, n, 2))], 2)
        operands: list[Array | None] = [
            boxes.astype(np.float32),
            RNG.random((1, 2, n)).astype(np.float32),
            i64(100),
            np.array([0.5], np.float32),
            np.array([0.1], np.float32),
        ]
        yield Case("NonMaxSuppression", operands, {2, 3, 4}, {"center_point_box": 1})


def products() -> Iterator[Case]:
    """Products of matrices, recurrent layers, transforms, and quantised forms of all that."""
    for m, k, n in ((128, 768, 768), (1, 768, 3072), (8, 512, 512), (512, 512, 512)):
        yield Case("MatMul", [floats(m, k), floats(k, n)], {1}, note=f"by {n}, constant")
        yield Case("MatMul", [floats(m, k), floats(k, n)], note=f"by {n}")
        attributes = {"transB": 1}
        yield Case("Gemm", [floats(m, k), floats(n, k), floats(n)], {1, 2}, attributes)
        a, b = integers(m, k, dtype=np.uint8), integers(k, n, dtype=np.int8) - np.int8(50)
        zeros = [np.uint8(100), np.int8(0)]
        yield Case("MatMulInteger", [a, b, *zeros], {1, 2, 3})
        scales = [np.float32(0.02), np.uint8(100)]
        operands = [a, *scales, b, np.float32(0.01), np.int8(0), np.float32(1), np.uint8(128)]
        yield Case("QLinearMatMul", operands, set(range(1, 8)))
    yield Case("MatMul", [floats(12, 128, 64), floats(12, 64, 128)], note="batched")
    yield Case("MatMul", [floats(64, 16, 16), floats(64, 16, 16)], note="batched")
    yield Case(
        "Einsum", [floats(4, 64, 96), floats(4, 96, 64)], attributes={"equation": "bij,bjk->bik"}
    )
    yield Case("Einsum", [floats(64, 96), floats(64, 96)], attributes={"equation": "ij,ij->i"})
    for shape in (IMAGE, IMAGES):
        c = shape[1]
        x = integers(*shape, dtype=np.uint8)
        w = integers(c, c, 3, 3, dtype=np.int8) - np.int8(50)
        pads = {"pads": (1, 1, 1, 1)}
        yield Case("ConvInteger", [x, w, np.uint8(100)], {1, 2}, pads)
        operands = [x, np.float32(0.02), np.uint8(100), w, np.float32(0.01), np.int8(0)]
        operands += [np.float32(4), np.uint8(128)]
        yield Case("QLinearConv", operands, set(range(1, 8)), pads)
        w = integers(c, 1, 3, 3, dtype=np.int8) - np.int8(50)
        operands = [*operands[:3], w, *operands[4:]]
        yield Case(
            "QLinearConv", operands, set(range(1, 8)), {**pads, "group": c}, note="depthwise"
        )
    for shape in (ROWS, LARGE):
        scale = [np.float32(0.02), np.uint8(128)]
        yield Case("QuantizeLinear", [floats(*shape), *scale], {1, 2})
        yield Case("DequantizeLinear", [integers(*shape, dtype=np.uint8), *scale], {1, 2})
        yield Case("DynamicQuantizeLinear", [floats(*shape)], outputs=3)
    for batch, hidden in ((1, 128), (8, 256)):
        x = floats(50, batch, hidden)
        for name, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
            w, r = (floats(1, gates * hidden, hidden) * 0.05 for _ in range(2))
            b = floats(1, 2 * gates * hidden)
            attributes = {"hidden_size": hidden}
            yield Case(name, [x, w.astype("f"), r.astype("f"), b], {1, 2, 3}, attributes)
    for n in (64, 256):
        yield Case("Det", [floats(n // 8, 4, 4)])
        yield Case("Det", [floats(n, n) / np.float32(8)])
        yield Case("DFT", [floats(8, n * 4, 1), None, np.int64(1)], {2})
        signal = [floats(1, n * 100), np.int64(160), None, np.int64(256)]
        yield Case("STFT", signal, {1, 3})
    losses = [floats(128, 1000), integers(128, below=1000)]
    yield Case("SoftmaxCrossEntropyLoss", losses)
    yield Case("NegativeLogLikelihoodLoss", losses)


def cases() -> Iterator[Case]:
    """All rows."""
    for family in (pointwise, reductions, windows, movement, products):
        yield from family()


# -- measuring ------------------------------------------------------------------------------------


@dataclass(frozen=True, order=True)
class Result:
    """A row as measured, in microseconds; `ratio` is the peer's time over ours."""

    ratio: float
    title: str
    ours: float
    theirs: float
    note: str

    def __str__(self) -> str:
        return (
            f"{self.title:48}{self.ours:12,.1f}{self.theirs:12,.1f}{self.ratio:8.2f}  {self.note}"
        )


def measured(case: Case) -> Result | None:
    """Both in alternating blocks, the best of each; None where the peer lacks it."""
    model, feed = case.model()
    try:
        peer = peers.onnxruntime(model, feed, 1)
    except Exception as error:
        print(f"{case.title}: {str(error).splitlines()[0][:100]}", file=sys.stderr)
        return None
    options = SessionOptions()
    options.execution = "native"
    options.intra_op_num_threads = 1
    session = InferenceSession(model, options)
    assert peer is not None
    works = [lambda: session.run(None, feed), peer]
    note = _difference(works[0](), works[1]())
    left = session.report().count("interpreted")
    note = " ".join(filter(None, (note, "interpreted" if left else "")))
    best = [float("inf")] * 2
    counts = []
    for work in works:
        start = time.perf_counter()
        work()
        work()
        counts.append(max(1, int(2 * BLOCK_SECONDS / (time.perf_counter() - start))))
    for _ in range(BLOCKS):
        for i, work in enumerate(works):
            time.sleep(PAUSE)
            start = time.perf_counter()
            for _ in range(counts[i]):
                work()
            best[i] = min(best[i], (time.perf_counter() - start) / counts[i] * 1e6)
    return Result(best[1] / best[0], case.title, *best, note)


def _difference(ours: Any, theirs: Any) -> str:
    """What is wrong with our results, if anything."""
    for a, b in zip(ours, theirs, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"{a.dtype}{list(a.shape)} instead of {b.dtype}{list(b.shape)}"
        wide = np.asarray(b, np.float64)
        scale = np.abs(wide[np.isfinite(wide)]).max(initial=1e-30)
        off = np.abs(np.asarray(a, np.float64) - wide)
        off = off[np.isfinite(wide)].max(initial=0)
        if off > 1e-3 * scale:
            return f"differs by {off:.3g} of {scale:.3g}"
    return ""


def main(names: Mapping[str, None]) -> None:
    """Measure and print."""
    results = []
    for case in cases():
        if names and case.op not in names:
            continue
        result = measured(case)
        if result is not None:
            results.append(result)
    print(f"{'':48}{'ours':>12}{'theirs':>12}{'ratio':>8}")
    for result in sorted(results):
        print(result)


if __name__ == "__main__":
    main(dict.fromkeys(sys.argv[1:]))
