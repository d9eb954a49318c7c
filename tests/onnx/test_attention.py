"""Attention and the other operators of transformers, against ONNX's reference evaluator."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import dualgraph_runtime as rt
from dualgraph_compiler.errors import OnnxError
from dualgraph_compiler.graph import gradients, interpret, verify
from dualgraph_compiler.onnx import import_model

OPSET = 27
TYPES = {np.dtype("f4"): TensorProto.FLOAT, np.dtype("?"): TensorProto.BOOL}
TYPES |= {np.dtype("i8"): TensorProto.INT64, np.dtype("f2"): TensorProto.FLOAT16}


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def model_of(
    name: str, feeds: dict[str, np.ndarray], order: str, results: int, **attributes: Any
) -> onnx.ModelProto:
    """A model of one node; `order` names its operands, those that `feeds` lacks being absent."""
    operands = [n if n in feeds else "" for n in order.split()]
    names = [f"y{i}" for i in range(results)]
    inputs = [helper.make_tensor_value_info(n, TYPES[a.dtype], a.shape) for n, a in feeds.items()]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names]
    node = helper.make_node(name, operands, names, **attributes)
    graph = helper.make_graph([node], "g", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])


def compare(
    model: onnx.ModelProto,
    feeds: dict[str, np.ndarray],
    shapes: dict[str, Any] | None = None,
    tolerance: float = 2e-6,
) -> None:
    graph = import_model(model, input_shapes=shapes)
    verify(graph)
    with np.errstate(all="ignore"):
        expected = ReferenceEvaluator(model).run(None, feeds)
    for found, wanted in zip(interpret(graph, list(feeds.values())), expected, strict=True):
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


ORDER = "q k v mask past_key past_value filled"


def attention(
    packed: bool, kv: int, mask: str, cache: str, **attributes: Any
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """One form of Attention: 4 heads of queries, 3 queries, 5 new keys."""
    heads, length, new, depth, width, batch, past = 4, 3, 5, 6, 7, 2, 4
    feeds = {
        "q": draw(batch, heads, length, depth, seed=1),
        "k": draw(batch, kv, new, depth, seed=2),
        "v": draw(batch, kv, new, width, seed=3),
    }
    if packed:
        feeds = {n: a.swapaxes(1, 2).reshape(batch, a.shape[2], -1) for n, a in feeds.items()}
        attributes |= {"q_num_heads": heads, "kv_num_heads": kv}
    if cache == "past":
        feeds["past_key"] = draw(batch, kv, past, depth, seed=4)
        feeds["past_value"] = draw(batch, kv, past, width, seed=5)
    if cache == "filled":
        feeds["filled"] = np.array([5, 2])
    total = new + (past if cache == "past" else 0)
    shape = {"2d": (length, total), "3d": (heads, length, total), "4d": (batch, 1, length, total)}
    kind, _, size = mask.partition(" ")
    if size == "short":
        added = draw(length, total - 1, seed=6)
    else:
        added = draw(*shape.get(size, ()), seed=6)
    if kind:
        feeds["mask"] = added if kind == "float" else added > 0
    return model_of("Attention", feeds, ORDER, 4, **attributes), feeds


MASKS = ["", "float 2d", "bool 2d", "bool 3d", "float 4d", "bool 4d", "float short"]


@pytest.mark.parametrize("cache", ["", "past", "filled"])
@pytest.mark.parametrize("packed", [False, True])
def test_attention(packed: bool, cache: str) -> None:
    forms = itertools.product([4, 2, 1], MASKS, [0, 1], [0, 1, 2, 3])
    some = 3 if packed else 5  # ways through the forms that meet every value of an option
    for n, (kv, mask, causal, mode) in itertools.islice(enumerate(forms), len(cache), None, some):
        given: dict[str, Any] = {"is_causal": causal, "qk_matmul_output_mode": mode}
        if mode == 1 or n % 5 == 0:
            given["softcap"] = 1.5
        if mode == 0:
            given.pop("softcap", None)
        if n % 4 == 0:
            given |= {"left_window_size": 1 + n % 3, "right_window_size": n % 2}
        if n % 3 == 0:
            given["scale"] = 0.3
        compare(*attention(packed, kv, mask, cache, **given))


def test_sizes_that_are_not_known() -> None:
    model, feeds = attention(True, 2, "bool 2d", "past", is_causal=1)
    shapes = {"q": ("n", "l", 24), "k": ("n", "s", 12), "v": ("n", "s", 14)}
    shapes |= {"past_key": ("n", 2, "p", 6), "past_value": ("n", 2, "p", 7), "mask": ("l", "t")}
    compare(model, feeds, shapes)
    model, feeds = attention(False, 1, "", "filled", is_causal=1)
    shapes = {"q": ("n", 4, "l", 6), "k": ("n", 1, "s", 6), "v": ("n", 1, "s", 7)}
    compare(model, feeds, shapes | {"filled": ("n",)})


@pytest.mark.compiler
@pytest.mark.parametrize("cache", ["", "past", "filled"])
def test_attention_is_one_kernel(cache: str) -> None:
    """Whatever masks, shared heads and caches there are; in half precision, too."""
    for mask, half in (("", False), ("bool 4d", False), ("float 2d", True)):
        model, feeds = attention(True, 2, mask, cache, is_causal=1, softcap=2.0)
        del model.graph.output[3], model.graph.node[0].output[3]
        if half:
            feeds = {n: a.astype("f2") if a.dtype == "f4" else a for n, a in feeds.items()}
            for info in (*model.graph.input, *model.graph.output):
                if info.type.tensor_type.elem_type == TensorProto.FLOAT:
                    info.type.tensor_type.elem_type = TensorProto.FLOAT16
        options = rt.SessionOptions()
        options.execution = "native"
        session = rt.InferenceSession(model, options)
        assert " = attention(" in session.report()
        expected = ReferenceEvaluator(model).run(None, feeds)
        for found, wanted in zip(session.run(None, feeds), expected, strict=True):
            assert found.dtype == wanted.dtype
            tolerance = 1e-2 if half else 1e-5
            np.testing.assert_allclose(found, wanted, tolerance, tolerance)


def test_attention_differentiates() -> None:
    model, feeds = attention(True, 2, "float 2d", "past", is_causal=1)
    graph = import_model(model)
    inputs = graph.inputs[:3]
    found = gradients(graph, [graph.outputs[0]], inputs)
    graph.set_outputs([graph.outputs[0], *(x for x in found if x is not None)])
    y, *slopes = interpret(graph, list(feeds.values()))
    assert len(slopes) == 3
    for name, slope in zip(feeds, slopes, strict=False):
        way = draw(*slope.shape, seed=9)
        sides = [
            interpret(graph, [a + s * way if n == name else a for n, a in feeds.items()])[0]
            for s in (5e-3, -5e-3)
        ]
        change = (sides[0].astype("f8") - sides[1]).sum() / 1e-2
        np.testing.assert_allclose(change, (slope * way).sum(), rtol=2e-2, atol=1e-2)
    assert y.shape == (2, 3, 28)


def test_refusals() -> None:
    for change, text in (("past_value", "together"), ("heads", "q_num_heads")):
        model, _ = attention(True, 2, "", "past")
        if change == "heads":
            del model.graph.node[0].attribute[:]
        else:
            model.graph.node[0].input[5] = ""
        with pytest.raises(OnnxError, match=text):
            import_model(model)
    with pytest.raises(OnnxError, match="window"):
        import_model(attention(True, 2, "", "", left_window_size=-2)[0])
    with pytest.raises(OnnxError, match="share"):
        import_model(attention(False, 3, "", "")[0])


@pytest.mark.parametrize("rule", ["linear", "gated", "delta", "gated_delta"])
def test_linear_attention(rule: str) -> None:
    batch, heads, depth, width = 2, 4, 3, 5
    for kv, length, wide, past in itertools.product((4, 2), (1, 6), (False, True), (False, True)):
        feeds = {
            "q": draw(batch, length, heads * depth, seed=1),
            "k": draw(batch, length, kv * depth, seed=2),
            "v": draw(batch, length, kv * width, seed=3),
        }
        if past:
            feeds["past"] = draw(batch, kv, depth, width, seed=4)
        if "gated" in rule:
            feeds["decay"] = -abs(draw(batch, length, kv * (depth if wide else 1), seed=5))
        if "delta" in rule:
            feeds["beta"] = abs(draw(batch, length, kv if wide else 1, seed=6))
        attributes = {"q_num_heads": heads, "kv_num_heads": kv, "update_rule": rule}
        model = model_of("LinearAttention", feeds, "q k v past decay beta", 2, **attributes)
        compare(model, feeds, tolerance=1e-5)
        sizes = {n: ("n", "t", a.shape[2]) for n, a in feeds.items() if n != "past"}
        if past:
            sizes["past"] = ("n", kv, depth, width)
        compare(model, feeds, sizes, tolerance=1e-5)


def test_causal_convolution() -> None:
    for bias, past, length in itertools.product((False, True), (False, True), (1, 2, 7)):
        feeds = {"x": draw(2, 3, length), "w": draw(3, 1, 4, seed=1)}
        if bias:
            feeds["b"] = draw(3, seed=2)
        if past:
            feeds["past"] = draw(2, 3, 3, seed=3)
        for activation in ("none", "silu"):
            model = model_of("CausalConvWithState", feeds, "x w b past", 2, activation=activation)
            compare(model, feeds)
            compare(model, feeds, {"x": ("n", 3, "t")} | ({"past": ("n", 3, 3)} if past else {}))


def test_rotary_embedding() -> None:
    """With tables for each position, or for each token; all features or some."""
    for interleaved, packed, part, tokens in itertools.product((0, 1), *[(False, True)] * 3):
        size = 4 if part else 8
        x = draw(2, 5, 24) if packed else draw(2, 3, 5, 8)
        feeds = {"x": x, "cos": draw(2, 5, size // 2, seed=1), "sin": draw(2, 5, size // 2, seed=2)}
        if not tokens:
            feeds["cos"], feeds["sin"] = (feeds[n].reshape(10, -1) for n in ("cos", "sin"))
            feeds["at"] = np.random.default_rng(3).integers(0, 10, (2, 5))
        attributes: dict[str, Any] = {"interleaved": interleaved, "num_heads": 3}
        if part:
            attributes["rotary_embedding_dim"] = size
        compare(model_of("RotaryEmbedding", feeds, "x cos sin at", 1, **attributes), feeds)
