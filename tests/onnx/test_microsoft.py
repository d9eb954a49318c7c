"""Operators of com.microsoft, against ONNX Runtime, whose optimiser writes them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import dualgraph_runtime as rt
from dualgraph_compiler.errors import OnnxError
from dualgraph_compiler.graph import interpret, verify
from dualgraph_compiler.onnx import import_model
from tests.onnx.helpers import make_model, real_model, run_onnxruntime

TYPES = {np.dtype("f4"): TensorProto.FLOAT, np.dtype("i4"): TensorProto.INT32}
TYPES |= {np.dtype("i8"): TensorProto.INT64}
BATCH, LENGTH, HEADS, DEPTH, PAST = 2, 5, 3, 4, 3
HIDDEN = HEADS * DEPTH
NCHWC = "com.microsoft.nchwc"


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed + sum(shape)).normal(size=shape).astype(np.float32)


def model_of(
    name: str,
    feeds: dict[str, np.ndarray],
    outputs: Sequence[str] | int = 1,
    order: str = "",
    constants: Sequence[str] = (),
    domain: str = "com.microsoft",
    opset: int = 21,
    **attributes: Any,
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A model of one node and its inputs: `feeds` without `constants`.

    `order` names the operands, those that `feeds` lacks being absent; outputs "i..." are integers.
    """
    names = [f"y{i}" for i in range(outputs)] if isinstance(outputs, int) else list(outputs)
    operands = [n if n in feeds else "" for n in (order.split() or feeds)]
    node = helper.make_node(name, operands, names, domain=domain, **attributes)
    inputs = {n: a for n, a in feeds.items() if n not in constants}
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(n, TYPES[a.dtype], a.shape) for n, a in inputs.items()],
        [helper.make_tensor_value_info(n, 6 if n[0] == "i" else 1, None) for n in names if n],
        [numpy_helper.from_array(feeds[n], n) for n in constants],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10), inputs


def compare(name: str, *args: Any, unstated: Sequence[int] = (), **options: Any) -> None:
    """Our results and theirs, but those results that no documentation states."""
    model, feeds = model_of(name, *args, **options)
    graph = import_model(model)
    verify(graph)
    expected = run_onnxruntime(model, feeds)
    found = interpret(graph, list(feeds.values()))
    for i, (y, wanted) in enumerate(zip(found, expected, strict=True)):
        assert y.dtype == wanted.dtype
        if i not in unstated:
            np.testing.assert_allclose(y, wanted, 1e-5, 1e-5, err_msg=f"{name} {options}")


def test_products_with_activations() -> None:
    feeds = {"x": draw(1, 4, 9, 9), "w": draw(8, 4, 3, 3), "b": draw(8)}
    for name, parameters in (
        ("Relu", ()),
        ("Tanh", ()),
        ("Sigmoid", ()),
        ("LeakyRelu", (0.2,)),
        ("Clip", (-0.5, 0.5)),
        ("HardSigmoid", (0.3, 0.4)),
    ):
        given: dict[str, Any] = {"activation": name}
        compare(
            "FusedConv",
            feeds,
            pads=[1] * 4,
            **given,
            **({"activation_params": list(parameters)} if parameters else {}),
        )
        given |= dict(zip(("activation_alpha", "activation_beta"), parameters, strict=False))
        operands = {"a": draw(3, 4), "b": draw(5, 4), "c": draw(5)}
        if name not in ("Clip",):
            compare("FusedGemm", operands, transB=1, alpha=0.5, **given)
    compare("FusedConv", feeds | {"z": draw(1, 8, 7, 7)}, activation="Relu")
    with pytest.raises(OnnxError, match="activation"):
        import_model(model_of("FusedConv", feeds, activation="Cube")[0])


def test_matrix_products() -> None:
    a, b = draw(2, 3, 4, 5), draw(2, 3, 5, 6)
    for turn_a, turn_b, batch_a, batch_b in itertools.product((0, 1), repeat=4):
        given = [x.swapaxes(-1, -2) if t else x for x, t in ((a, turn_a), (b, turn_b))]
        moved = zip(given, (batch_a, batch_b), strict=True)
        given = [np.ascontiguousarray(np.moveaxis(x, 2, 0) if m else x) for x, m in moved]
        flags = {"transA": turn_a, "transB": turn_b, "transBatchA": batch_a, "transBatchB": batch_b}
        compare("FusedMatMul", dict(zip("ab", given, strict=True)), alpha=0.5, **flags)


def test_activations_and_later_standard() -> None:
    x, bias = draw(3, 4), draw(4)
    for name in ("Gelu", "FastGelu", "QuickGelu"):
        compare(name, {"x": x})
    compare("QuickGelu", {"x": x}, alpha=2.0)
    compare("FastGelu", {"x": x, "b": bias})
    compare("BiasGelu", {"x": x, "b": bias})
    for axis in (1, -1):
        compare("ExpandDims", {"x": x, "axis": np.array(axis, "i4")}, constants=("axis",))
    compare("Trilu", {"x": x, "k": np.array(1)}, constants=("k",), upper=0)
    grid = np.clip(draw(2, 4, 5, 2), -1.2, 1.2)
    for mode in ("bilinear", "nearest"):
        compare("GridSample", {"x": draw(2, 3, 6, 7), "grid": grid}, mode=mode, align_corners=1)
    pads = {"x": x, "pads": np.array([1, 0, 0, 2]), "value": np.array([0.5], "f4")}
    compare("Pad", pads, constants=("pads", "value"))
    bounds = {"from": np.array(0, "f4"), "to": np.array(5, "f4")}
    compare("Range", bounds, constants=tuple(bounds))
    compare("Range", bounds | {"step": np.array(0.5, "f4")}, constants=(*bounds, "step"))


def test_operators_that_onnxruntime_lacks_on_a_cpu() -> None:
    x, bias, skip = draw(2, 3, 8), draw(8), draw(2, 3, 8, seed=1)
    model, feeds = model_of("BiasAdd", {"x": x, "b": bias, "s": skip})
    np.testing.assert_allclose(
        interpret(import_model(model), list(feeds.values()))[0], x + bias + skip, 1e-6
    )
    model, feeds = model_of("BiasSplitGelu", {"x": x, "b": bias})
    (y,) = interpret(import_model(model), list(feeds.values()))
    (gelu,) = run_onnxruntime(*model_of("Gelu", {"x": (x + bias)[..., 4:]}))
    np.testing.assert_allclose(y, (x + bias)[..., :4] * gelu, 1e-5, 1e-6)
    image, w = draw(1, 9, 9, 4), draw(8, 3, 3, 4)
    model, feeds = model_of("NhwcConv", {"x": image, "w": w}, pads=[1, 1, 1, 1], strides=[2, 2])
    (y,) = interpret(import_model(model), list(feeds.values()))
    turned = {n: np.moveaxis(a, -1, 1).copy() for n, a in feeds.items()}
    options = {"pads": [1, 1, 1, 1], "strides": [2, 2]}
    (wanted,) = run_onnxruntime(*model_of("Conv", turned, domain="", **options))
    np.testing.assert_allclose(y, np.moveaxis(wanted, 1, -1), 1e-5, 1e-5)


def test_normalisation() -> None:
    x, g, b = draw(2, 3, 8), draw(8), draw(8, seed=1)
    for count in (1, 2):
        for opset in (13, 21):
            compare("SimplifiedLayerNormalization", {"x": x, "s": g}, count, domain="", opset=opset)
    compare("LayerNormalization", {"x": x, "s": g, "b": b}, domain="", opset=13)
    for shape in ((2, 3, 8), (1, 3, 8), (3, 8)):
        for outputs in (["y"], ["y", "", "", "sum"], ["y", "mean", "scale", "sum"]):
            feeds = {"x": x, "skip": draw(*shape, seed=2), "g": g}
            compare("SkipLayerNormalization", feeds | {"b": b, "bias": draw(8, seed=3)}, outputs)
            compare(
                "SkipSimplifiedLayerNormalization",
                feeds | {"bias": draw(8, seed=3)},
                outputs,
                unstated=(1,) if "mean" in outputs else (),
            )


def test_embeddings() -> None:
    rng = np.random.default_rng(0)
    order = "ids segments words places kinds g b mask at"
    ids = {"ids": rng.integers(0, 10, (2, 5)).astype("i4"), "words": draw(10, 8)}
    rest = {"places": draw(7, 8), "g": draw(8), "b": draw(8, seed=1)}
    segments = {"segments": rng.integers(0, 2, (2, 5)).astype("i4"), "kinds": draw(2, 8)}
    mask = (np.arange(5) < [[3], [5]]).astype("i4")
    at = np.array([[1, 2, 3, 4, 5]], "i4")
    for more in ({}, segments, segments | {"mask": mask}, segments | {"mask": mask, "at": at}):
        compare("EmbedLayerNormalization", ids | rest | more, ["y", "ikeys", "sum"], order)


LENGTHS = (np.arange(LENGTH) < [[3], [5]]).astype("i4")
BELOW = np.tril(np.ones((BATCH, 1, 9, 9), "i4"))


@pytest.mark.parametrize("causal", [0, 1])
def test_attention(causal: int) -> None:
    order = "x w b mask past added"
    feeds = {"x": draw(BATCH, LENGTH, 6), "w": draw(6, 3 * HIDDEN), "b": draw(3 * HIDDEN)}
    past = {"past": draw(2, BATCH, HEADS, PAST, DEPTH)}
    old = np.ones((BATCH, PAST), "i4")
    forms: list[dict[str, np.ndarray]] = [{}, past]
    forms += [{"mask": m} for m in (np.array([3, 5], "i4"), np.array([4, 5, 1, 0], "i4"), LENGTHS)]
    forms += [{"mask": BELOW[:, 0, :LENGTH, :LENGTH]}]
    forms += [past | {"mask": np.concatenate([old, LENGTHS], 1)}]
    forms += [past | {"mask": np.array([6, 8], "i4")}]
    forms += [{"added": draw(BATCH, HEADS, LENGTH, LENGTH)}]
    for form in forms:
        count = 2 if "past" in form else 1
        given = {"num_heads": HEADS, "unidirectional": causal}
        compare("Attention", feeds | form, count, order, **given)
    compare("Attention", feeds, 1, order, num_heads=HEADS, scale=0.2, unidirectional=causal)
    feeds = {"x": feeds["x"], "w": draw(6, 30), "b": draw(30)}
    sizes = {"qkv_hidden_sizes": [12, 12, 6]}
    compare("Attention", feeds, 1, order, num_heads=HEADS, unidirectional=causal, **sizes)


def test_packed_operands() -> None:
    """Which ONNX Runtime knows on GPUs only: as the parts that they hold."""
    q, pairs = draw(BATCH, LENGTH, HIDDEN), draw(BATCH, 7, HEADS, 2, DEPTH)
    triples = draw(BATCH, LENGTH, HEADS, 3, DEPTH)
    for packed in ({"q": q, "k": pairs}, {"q": triples}):
        joined = [
            x.reshape(*x.shape[:2], HIDDEN) for x in np.moveaxis([*packed.values()][-1], 3, 0)
        ]
        names = ("k", "v") if "k" in packed else ("q", "k", "v")
        parts = dict(zip(names, map(np.ascontiguousarray, joined), strict=True))
        parts = {"q": q} | parts if "k" in packed else parts
        model, feeds = model_of("MultiHeadAttention", packed, 1, "q k v", num_heads=HEADS)
        found = interpret(import_model(model), list(feeds.values()))
        expected = run_onnxruntime(
            *model_of("MultiHeadAttention", parts, 1, "q k v", num_heads=HEADS)
        )
        np.testing.assert_allclose(found[0], expected[0], 1e-5, 1e-5)


def test_masks_of_all_positions() -> None:
    """Which ONNX Runtime knows on GPUs only: as a mask of the positions that are there."""
    order = "x w b mask past added"
    feeds = {"x": draw(BATCH, LENGTH, 6), "w": draw(6, 3 * HIDDEN), "b": draw(3 * HIDDEN)}
    feeds["past"] = draw(2, BATCH, HEADS, PAST, DEPTH)
    total = PAST + LENGTH
    found = []
    for mask in (BELOW, BELOW[:, 0, PAST:total, :total]):
        model, given = model_of("Attention", feeds | {"mask": mask}, 2, order, num_heads=HEADS)
        found.append(interpret(import_model(model), list(given.values())))
    np.testing.assert_array_equal(found[0][0], found[1][0])


def test_multi_head_attention() -> None:
    order, keys = "q k v b mask added past_key past_value", 7
    q, k, v = draw(BATCH, LENGTH, HIDDEN), draw(BATCH, keys, HIDDEN), draw(BATCH, keys, 15)
    feeds = {"q": q, "k": k, "v": v}
    forms = [feeds, feeds | {"b": draw(2 * HIDDEN + 15)}]
    split = [draw(BATCH, HEADS, keys, DEPTH, seed=i) for i in (1, 2)]
    forms += [{"q": q, "k": split[0], "v": split[1]}]
    masks = [np.array([3, 7], "i4"), (np.arange(keys) < [[3], [6]]).astype("i4")]
    masks += [np.tril(np.ones((BATCH, LENGTH, keys), "i4"), 1)]
    forms += [feeds | {"mask": m} for m in masks]
    forms += [feeds | {"added": draw(*s, LENGTH, keys)} for s in ((BATCH, HEADS), (1, 1))]
    for form in forms:
        compare("MultiHeadAttention", form, 1, order, num_heads=HEADS)
    same = {"q": q, "k": draw(BATCH, LENGTH, HIDDEN), "v": draw(BATCH, LENGTH, HIDDEN, seed=1)}
    past = {f"past_{n}": draw(BATCH, HEADS, PAST, DEPTH, seed=3) for n in ("key", "value")}
    for causal in (0, 1):
        compare("MultiHeadAttention", same, 1, order, num_heads=HEADS, unidirectional=causal)
        given = {"num_heads": HEADS, "unidirectional": causal, "mask_filter_value": -1e30}
        compare("MultiHeadAttention", same | past, 4, order, **given)


def group_query(
    length: int, past: int | None, lens: Sequence[int], packed: bool = False, **options: Any
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """GroupQueryAttention of `length` new tokens; `lens` are their and the past's, by sample."""
    order = "q k v past_key past_value last total cos sin at added sink"
    heads, kv, depth = 4, 2, 16
    q, k, v = (draw(BATCH, length, n * depth, seed=i) for i, n in enumerate((heads, kv, kv)))
    feeds = {"q": np.concatenate([q, k, v], 2)} if packed else {"q": q, "k": k, "v": v}
    if past is not None:
        feeds |= {f"past_{n}": draw(BATCH, kv, past, depth, seed=4) for n in ("key", "value")}
    feeds |= {"last": np.array(lens, "i4") - 1, "total": np.array(max(lens), "i4")}
    feeds |= options.pop("more", {})
    if "do_rotary" in options:
        feeds |= {n: draw(32, depth // 2, seed=i) for i, n in enumerate(("cos", "sin"))}
    given = {"num_heads": heads, "kv_num_heads": kv, **options}
    return model_of("GroupQueryAttention", feeds, 3, order, ("total",), **given)


def check_group_query(
    model: onnx.ModelProto, feeds: dict[str, np.ndarray], length: int, lens: Sequence[int]
) -> None:
    """Equal results where a sample has tokens; what is behind them is not stated."""
    graph = import_model(model)
    verify(graph)
    (y, *cache), (wanted, *kept) = (
        interpret(graph, list(feeds.values())),
        run_onnxruntime(model, feeds),
    )
    for b, end in enumerate(lens):
        tokens = min(length, end)
        np.testing.assert_allclose(y[b, :tokens], wanted[b, :tokens], 1e-5, 1e-5)
        for x, other in zip(cache, kept, strict=True):
            assert x.shape == other.shape
            np.testing.assert_allclose(x[b, :, :end], other[b, :, :end], 1e-5, 1e-5)


CALLS = [(5, None, [5, 5]), (5, None, [3, 5]), (5, 9, [3, 5]), (5, 0, [3, 5])]
CALLS += [(1, 6, [7, 7]), (1, 6, [4, 7]), (1, 12, [4, 7])]


@pytest.mark.parametrize(
    "rotary", [{}, {"do_rotary": 1}, {"do_rotary": 1, "rotary_interleaved": 1}]
)
def test_group_query_attention(rotary: dict[str, Any]) -> None:
    """Prompts, padded or not; tokens behind a past that grows or has room for more."""
    for packed, (length, past, lens) in itertools.product((False, True), CALLS):
        check_group_query(*group_query(length, past, lens, packed, **rotary), length, lens)


def test_options_of_group_query_attention() -> None:
    options: list[dict[str, Any]] = [{"local_window_size": w} for w in (1, 2, 4)]
    options += [{"softcap": 1.5}, {"scale": 0.2}, {"smooth_softmax": 1}]
    options += [{"more": {"sink": draw(4)}, "softcap": 2.0}]
    for given in options:
        for length, past, lens in ((5, None, [5, 5]), (1, 6, [7, 7])):
            check_group_query(*group_query(length, past, lens, **given), length, lens)
    check_group_query(*group_query(5, None, [5, 5], causal=0), 5, [5, 5])
    more = {"added": draw(BATCH, 4, 5, 5)}
    check_group_query(*group_query(5, None, [5, 5], more=more), 5, [5, 5])
    more = {"added": draw(1, 1, 1, 7), "at": np.array([[3], [4]])}
    check_group_query(*group_query(1, 6, [7, 7], more=more, do_rotary=1), 1, [7, 7])


def test_rotary_embedding() -> None:
    tables = {"cos": draw(9, 4), "sin": draw(9, 4, seed=1)}
    part = {"num_heads": 2, "rotary_embedding_dim": 8}
    packed, split = draw(BATCH, LENGTH, 24), draw(BATCH, HEADS, LENGTH, 8)
    for at in (np.array([2]), np.random.default_rng(0).integers(0, 9, (BATCH, LENGTH))):
        for interleaved in (0, 1):
            for x, given in ((packed, {}), (split, {}), (packed, part)):
                feeds = {"x": x, "at": at, **tables}
                compare("RotaryEmbedding", feeds, interleaved=interleaved, **given)


@pytest.mark.compiler
def test_decoding_is_native() -> None:
    """Gathering the cache and attention, with sizes that are known at a run only."""
    model, feeds = group_query(1, 6, [4, 7], do_rotary=1)
    options = rt.SessionOptions()
    options.execution = "native"
    session = rt.InferenceSession(model, options)
    assert " = attention(" in session.report()
    found = session.run(None, feeds)
    np.testing.assert_allclose(found[0], run_onnxruntime(model, feeds)[0], 1e-5, 1e-5)


@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("name", ["mnist.onnx", "ultraface_version-RFB-320.onnx"])
def test_models_that_onnxruntime_optimised(name: str, blocks: bool, tmp_path: Path) -> None:
    import onnxruntime

    path = str(tmp_path / name)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = (
        levels.ORT_ENABLE_ALL if blocks else levels.ORT_ENABLE_EXTENDED
    )
    options.optimized_model_filepath = path
    source = str(real_model(name))
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    assert any("com.microsoft" in n.domain for n in onnx.load(path).graph.node)
    feeds = {i.name: draw(*i.shape) for i in session.get_inputs()}
    graph = import_model(path)
    found = interpret(graph, [feeds[v.name] for v in graph.inputs])
    for y, wanted in zip(found, session.run(None, feeds), strict=True):
        np.testing.assert_allclose(y, wanted, 1e-4, 1e-4 * np.abs(wanted).max())


def blocked(w: np.ndarray, block: int, few: bool) -> np.ndarray:
    """A filter as ONNX Runtime keeps it in memory."""
    outputs, inputs, height, width = w.shape
    order = []
    for o, i in itertools.product(range(0, outputs, block), range(0, inputs, 1 if few else block)):
        inner = range(i, i + (1 if few else block))
        for y, x, k, n in itertools.product(range(height), range(width), inner, range(block)):
            order.append(w[o + n, k, y, x])
    return np.array(order, np.float32).reshape(w.shape)


@pytest.mark.parametrize(("block", "channels"), [(8, 24), (16, 20), (16, 32)])
def test_blocked_images(block: int, channels: int) -> None:
    """Two convolutions, whose filters were filled up to whole blocks."""
    whole = -(-channels // block) * block
    first, second = draw(whole, 3, 3, 3), draw(whole, whole, 3, 3)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], domain=NCHWC, activation="Relu"),
        helper.make_node("Conv", ["a", "v"], ["b"], domain=NCHWC, strides=[2, 2]),
        helper.make_node("MaxPool", ["b"], ["c"], domain=NCHWC, kernel_shape=[2, 2]),
        helper.make_node("ReorderOutput", ["c"], ["y"], domain=NCHWC, channels=channels),
    ]
    shapes = {"x": draw(2, 3, 12, 12)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, shapes["x"].shape)],
        [helper.make_tensor_value_info("y", 1, None)],
        [
            numpy_helper.from_array(blocked(first, block, True), "w"),
            numpy_helper.from_array(blocked(second, block, False), "v"),
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(NCHWC, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    if channels == 32:
        with pytest.raises(OnnxError, match="blocks, 8 or 16"):
            import_model(model)
        return
    # The pooling hides from ReorderOutput how many channels its convolution has.
    if block == 16:
        nodes[3].input[0] = "b"
        del graph.node[:]
        graph.node.extend([nodes[0], nodes[1], nodes[3]])
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    (y,) = interpret(import_model(model), [shapes["x"]])
    plain = make_model(
        [
            helper.make_node("Conv", ["x", "w"], ["a"]),
            helper.make_node("Relu", ["a"], ["r"]),
            helper.make_node("Conv", ["r", "v"], ["b"], strides=[2, 2]),
            *(
                [helper.make_node("MaxPool", ["b"], ["y"], kernel_shape=[2, 2])]
                if block == 8
                else []
            ),
        ],
        {"x": shapes["x"].shape},
        ["y" if block == 8 else "b"],
        initializers={"w": first, "v": second[:channels]},
    )
    np.testing.assert_allclose(y, run_onnxruntime(plain, shapes)[0], 1e-4, 1e-4)
