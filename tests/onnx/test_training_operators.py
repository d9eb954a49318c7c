"""ai.onnx.preview.training: Gradient; the optimizers are among ONNX's own cases."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

import dualgraph_runtime as rt
from dualgraph_compiler.errors import OnnxError
from dualgraph_compiler.graph import interpret
from dualgraph_compiler.onnx import import_model
from tests.onnx.helpers import make_model

TRAINING = "ai.onnx.preview.training"
X = np.array([0.5, -1.0, 2.0], np.float32)
W = np.array([1.5, 0.25, -0.5], np.float32)


def gradient(inputs: list[str], outputs: list[str], **attributes: object) -> onnx.NodeProto:
    return helper.make_node("Gradient", inputs, outputs, domain=TRAINING, **attributes)


def cubes() -> list[onnx.NodeProto]:
    """y = x^3 w."""
    return [
        helper.make_node("Mul", ["x", "x"], ["square"]),
        helper.make_node("Mul", ["square", "x"], ["cube"]),
        helper.make_node("Mul", ["cube", "w"], ["y"]),
    ]


def model_of(nodes: list[onnx.NodeProto], inputs: str, outputs: str) -> onnx.ModelProto:
    shapes = {name: [3] for name in inputs.split()}
    return make_model(nodes, shapes, outputs.split(), domains=[TRAINING])


def test_first_and_second_derivatives() -> None:
    nodes = [
        *cubes(),
        gradient(["x", "w"], ["dx", "dw"], xs=["x", "w"], y="y"),
        gradient(["x", "w"], ["dxx"], xs=["x"], zs=["w"], y="dx"),
    ]
    model = model_of(nodes, "x w", "y dx dw dxx")
    expected = [X**3 * W, 3 * X**2 * W, X**3, 6 * X * W]
    for found, wanted in zip(interpret(import_model(model), [X, W]), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    options = rt.SessionOptions()
    options.execution = "native"
    session = rt.InferenceSession(model, options)
    for found, wanted in zip(session.run(None, {"x": X, "w": W}), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_at_other_values_and_by_what_is_between() -> None:
    nodes = [
        *cubes(),
        gradient(["at", "w"], ["there"], xs=["x"], zs=["w"], y="y"),
        gradient(["square", "x", "w"], ["by_square"], xs=["square"], zs=["x", "w"], y="y"),
        gradient(["at", "x", "w"], ["none"], xs=["at"], zs=["x", "w"], y="y"),
    ]
    at = X + 1
    found = interpret(import_model(model_of(nodes, "x w at", "there by_square none")), [X, W, at])
    np.testing.assert_allclose(found[0], 3 * at**2 * W, rtol=1e-6)
    np.testing.assert_allclose(found[1], X * W, rtol=1e-6)
    np.testing.assert_array_equal(found[2], np.zeros(3))


def test_refusals() -> None:
    for attributes, text in (
        ({"xs": ["x"], "y": "nowhere"}, "nowhere"),
        ({"xs": ["x", "w"], "y": "y"}, "operands"),
    ):
        nodes = [*cubes(), gradient(["x"], ["dx"], **attributes)]
        with pytest.raises(OnnxError, match=text):
            import_model(model_of(nodes, "x w", "dx"))
