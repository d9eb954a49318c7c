"""A training step as an ONNX model: eager code, our runtime and ONNX Runtime learn the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn, optim
from dualgraph_compiler.errors import ArgumentError, OnnxError
from dualgraph_runtime import InferenceSession

Make = Callable[[Any], optim.Optimizer]


def mlp() -> nn.Module:
    layers = nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3)
    return nn.Sequential(*layers)


def lenet() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 5, padding=2), nn.Tanh(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(8, 3)),
    )


def training(model: nn.Module, make: Make) -> tuple[Callable[..., Any], optim.Optimizer]:
    optimizer = make(model.parameters())

    def step(x: dg.Tensor, target: dg.Tensor) -> dg.Tensor:
        loss = F.cross_entropy(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return step, optimizer


def sessions(model: onnx.ModelProto) -> list[Any]:
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 3  # it warns of every input that has a default
    return [InferenceSession(model), ort.InferenceSession(model.SerializeToString(), options)]


def losses(session: Any, exported: Any, feeds: dict[str, Any], steps: int) -> list[float]:
    names = [o.name for o in session.get_outputs()]
    state: dict[str, Any] = {}  # the first run starts from what is in the file
    found = []
    for _ in range(steps):
        outputs = dict(zip(names, session.run(None, {**feeds, **state}), strict=True))
        state = exported.next(state, outputs)
        found.append(float(outputs["loss"]))
    return found


OPTIMIZERS: dict[str, Make] = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "SGD with momentum": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, dampening=0.5),
    "Adam": lambda p: optim.Adam(p, lr=0.01),
    "AdamW": lambda p: optim.AdamW(p, lr=0.01, amsgrad=True),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.05, lr_decay=0.1),
}
CASES = [(mlp, (6,), name) for name in OPTIMIZERS]
CASES += [(lenet, (1, 10, 10), name) for name in ("SGD", "Adam")]


@pytest.mark.parametrize(("network", "shape", "name"), CASES)
def test_the_losses_are_those_of_eager_code(network: Any, shape: Any, name: str) -> None:
    dg.manual_seed(3)
    step, _ = training(network(), OPTIMIZERS[name])
    x, target = dg.randn(8, *shape), dg.randint(0, 3, (8,))
    exported = dg.onnx.export_training_step(step, (x, target), output_names=["loss"])
    onnx.checker.check_model(exported.model, full_check=True)
    assert {n.domain for n in exported.model.graph.node} == {""}
    eager = [step(x, target).item() for _ in range(8)]
    assert eager[-1] < eager[0]
    feeds = {"x": x.numpy(), "target": target.numpy()}
    for session in sessions(exported.model):
        np.testing.assert_allclose(losses(session, exported, feeds, 8), eager, rtol=1e-4)


def test_a_transformer_with_dropout_learns_the_same() -> None:
    from dualgraph_models import gpt

    dg.manual_seed(1)
    config = gpt.Config(vocabulary=12, context=6, layers=1, heads=2, width=8, dropout=0.1)
    model = gpt.GPT(config)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim < 2]
    optimizer = optim.AdamW([{"params": matrices}, {"params": rest, "weight_decay": 0.0}], lr=0.01)

    def step(x: dg.Tensor, target: dg.Tensor) -> dg.Tensor:
        loss = F.cross_entropy(model(x).flatten(0, 1), target.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    x, target = dg.randint(0, 12, (2, 6)), dg.randint(0, 12, (2, 6))
    exported = dg.onnx.export_training_step(step, (x, target), output_names=["loss"])
    eager = [step(x, target).item() for _ in range(3)]
    feeds = {"x": x.numpy(), "target": target.numpy()}
    for session in sessions(exported.model):
        np.testing.assert_allclose(losses(session, exported, feeds, 3), eager, rtol=1e-4)


def test_state_is_named_and_starts_in_the_file(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 1))
    step, optimizer = training(model, lambda p: optim.SGD(p, lr=0.5, momentum=0.9))
    x, target = dg.randn(4, 2), dg.tensor([0, 0, 0, 0])
    before = model[0].weight.detach().numpy().copy()
    path = tmp_path / "step.onnx"
    exported = dg.onnx.export_training_step(
        dg.compile(step), (x, target), path, dynamic_shapes={"x": {0: "n"}, "target": {0: "n"}}
    )
    assert exported.updates["0.weight"] == "0.weight.new"
    assert "lr" in exported.state
    assert "lr" not in exported.updates
    np.testing.assert_array_equal(model[0].weight.detach().numpy(), before)  # traced, not run
    assert not optimizer.state
    written = onnx.load(path)
    assert [i.name for i in written.graph.input][:2] == ["x", "target"]
    assert {"0.weight", "0.bias", "0.weight.momentum_buffer"} <= set(exported.state)
    (stored,) = (t for t in written.graph.initializer if t.name == "0.weight")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(stored), before)
    feeds = {"x": np.ones((3, 2), np.float32), "target": np.zeros(3, np.int64)}
    assert InferenceSession(path).run(["output"], feeds)[0].shape == ()


def test_a_schedule_is_fed() -> None:
    """A learning rate of zero changes nothing."""
    step, _ = training(nn.Sequential(nn.Linear(2, 3)), lambda p: optim.SGD(p, lr=0.5))
    x, target = dg.randn(4, 2), dg.tensor([0, 1, 2, 0])
    exported = dg.onnx.export_training_step(step, (x, target))
    feeds = {"x": x.numpy(), "target": target.numpy(), "lr": np.zeros(())}
    (new,) = InferenceSession(exported.model).run(["0.weight.new"], feeds)
    np.testing.assert_array_equal(new, exported.state["0.weight"])


class Keeps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = dg.zeros(2)

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        self.last = x * 2
        return x + self.last


def test_tensors_kept_elsewhere_are_refused() -> None:
    model = Keeps()
    with pytest.raises(ArgumentError, match=r"assigns a tensor to .*last"):
        dg.onnx.export_training_step(lambda x: model(x), (dg.ones(2),))


def test_wrong_numbers_of_names() -> None:
    step, _ = training(nn.Sequential(nn.Linear(2, 3)), OPTIMIZERS["SGD"])
    args = dg.randn(4, 2), dg.tensor([0, 1, 2, 0])
    with pytest.raises(ArgumentError, match="output_names has 2 names; the step has 1 results"):
        dg.onnx.export_training_step(step, args, output_names=["a", "b"])
    with pytest.raises(ArgumentError, match="input_names has 1 names; the model has 2 inputs"):
        dg.onnx.export_training_step(step, args, input_names=["a"])


def test_what_a_model_draws_is_part_of_a_step_only() -> None:
    model = nn.Dropout(0.5)
    with pytest.raises(OnnxError, match="draws random numbers.*test_training_step.py"):
        dg.onnx.export(lambda x: model(x), (dg.ones(3),))
    exported = dg.onnx.export_training_step(lambda x: model(x), (dg.ones(1000),))
    assert exported.updates == {"random_offset": "random_offset.new"}
    session = InferenceSession(exported.model)
    names = [o.name for o in session.get_outputs()]
    state = dict(exported.state)
    for _ in range(2):
        outputs = dict(
            zip(names, session.run(None, {"x": np.ones(1000, np.float32), **state}), strict=True)
        )
        np.testing.assert_array_equal(outputs["output"], model(dg.ones(1000)).numpy())
        state = exported.next(state, outputs)
