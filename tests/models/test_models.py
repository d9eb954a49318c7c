"""Every model: it builds, learns, traces, and its ONNX file agrees with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn, optim
from dualgraph_models import (
    char_lstm,
    digits_cnn,
    encoder,
    lenet,
    mlp,
    mnist_cnn,
    mobilenet,
    resnet,
)


class Case(NamedTuple):
    build: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Any, ...]]
    loss: Callable[[nn.Module, tuple[Any, ...]], Any]
    dynamic: dict[str, Any]
    parameters: int
    rate: float = 0.01


def classify(model: nn.Module, inputs: tuple[Any, ...]) -> Any:
    (x,) = inputs
    return F.cross_entropy(model(x), dg.arange(x.shape[0]) % 5)


BATCH = {"x": {0: "batch"}}
TEXTS = ["the quick brown fox", "jumps over", "the lazy dog", "a"]
CASES = {
    "mlp": Case(mlp.MLP, lambda: mlp.example_inputs(8), classify, BATCH, 26122),
    "digits_cnn": Case(
        digits_cnn.DigitsCNN, lambda: digits_cnn.example_inputs(8), classify, BATCH, 33770
    ),
    "mnist_cnn": Case(
        mnist_cnn.MnistCNN, lambda: mnist_cnn.example_inputs(3), classify, BATCH, 2770634, 0.001
    ),
    "lenet": Case(lenet.LeNet, lambda: lenet.example_inputs(4), classify, BATCH, 61706, 0.004),
    "resnet": Case(
        lambda: resnet.ResNet(num_classes=5, width=8),
        lambda: resnet.example_inputs(4, 32),
        classify,
        BATCH,
        177037,
    ),
    "mobilenet": Case(
        lambda: mobilenet.MobileNetV2(num_classes=5, width=0.25, dropout=0.0),
        lambda: mobilenet.example_inputs(4, 64),
        classify,
        BATCH,
        244517,
    ),
    "encoder": Case(
        lambda: encoder.Encoder(layers=2, heads=4, width=32, dropout=0.0),
        lambda: encoder.example_inputs(5, 12),
        classify,
        {"tokens": {0: "batch", 1: "length"}},
        73856,
    ),
    "char_lstm": Case(
        lambda: char_lstm.CharLSTM(hidden_size=32, dropout=0.0),
        lambda: char_lstm.encode(TEXTS),
        lambda model, inputs: char_lstm.next_character_loss(model, inputs[0][:3], inputs[1][:3]),
        {"tokens": {0: "batch", 1: "steps"}, "lengths": {0: "batch"}},
        25216,
    ),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_learns(case: Case) -> None:
    dg.manual_seed(0)
    model = case.build()
    assert sum(p.numel() for p in model.parameters()) == case.parameters
    inputs = case.inputs()
    opt = optim.Adam(model.parameters(), lr=case.rate)
    losses = []
    for _ in range(6):
        opt.zero_grad()
        loss = case.loss(model, inputs)
        loss.backward()
        opt.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_traced_and_exported(case: Case, tmp_path: Any) -> None:
    ort = pytest.importorskip("onnxruntime")
    dg.manual_seed(0)
    model, inputs = case.build().eval(), case.inputs()
    wanted = model(*inputs).detach().numpy()
    graph = dg.trace(model, *inputs)
    assert {v.name for v in graph.params} <= set(model.state_dict())
    np.testing.assert_allclose(
        dg.compile(model)(*inputs).detach().numpy(), wanted, rtol=1e-4, atol=1e-5
    )
    path = tmp_path / "model.onnx"
    dg.onnx.export(model, inputs, path, dynamic_shapes=case.dynamic)
    onnx.checker.check_model(path, full_check=True)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    for count in (len(inputs[0]), 1):
        some = [x[:count] for x in inputs]
        (got,) = session.run(None, dict(zip(names, (x.numpy() for x in some), strict=True)))
        wanted = model(*some).detach().numpy()
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_example_inputs_suit_the_defaults() -> None:
    for module, model in [
        (mlp, mlp.MLP()),
        (digits_cnn, digits_cnn.DigitsCNN()),
        (char_lstm, char_lstm.CharLSTM()),
    ]:
        assert model(*module.example_inputs(2)).shape[0] == 2


def test_resnet18_has_torchvisions_state() -> None:
    state = resnet.resnet18().state_dict()
    assert len(state) == 122
    assert sum(v.numel() for k, v in state.items() if "num_batches" not in k) == 11699112
    for key, shape in {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.running_var": (64,),
        "layer1.1.conv2.weight": (64, 64, 3, 3),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "layer2.0.downsample.1.num_batches_tracked": (),
        "layer4.1.bn2.bias": (512,),
        "fc.weight": (1000, 512),
    }.items():
        assert tuple(state[key].shape) == shape


def test_lengths_matter_only_up_to_the_end() -> None:
    """Scores inside a sequence do not depend on its padding or its neighbours."""
    model = char_lstm.CharLSTM(hidden_size=16).eval()
    tokens, lengths = char_lstm.encode(["hello", "hi"])
    both = model(tokens, lengths)
    alone = model(tokens[1:, :2], lengths[1:])
    np.testing.assert_allclose(
        both[1, :2].detach().numpy(), alone[0].detach().numpy(), rtol=1e-5, atol=1e-6
    )


def test_random_shift() -> None:
    dg.manual_seed(0)
    images = dg.arange(1, 17).reshape(1, 1, 4, 4).float().expand(200, 2, 4, 4)
    moved = digits_cnn.random_shift(images).numpy()
    assert (moved[:, 0] == moved[:, 1]).all()
    padded = np.pad(images[0, 0].numpy(), 1)
    windows = {padded[i : i + 4, j : j + 4].tobytes() for i in range(3) for j in range(3)}
    assert {m.tobytes() for m in moved[:, 0]} == windows


def test_as_large_as_the_published_one() -> None:
    """Torchvision's ``mobilenet_v2`` has 3,504,872 parameters."""
    assert sum(p.numel() for p in mobilenet.MobileNetV2().parameters()) == 3504872
