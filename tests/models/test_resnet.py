"""ResNet-18 with batch norm in training mode: whole steps, running statistics included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import nn, optim
from dualgraph_models import resnet
from dualgraph_models.datasets import load_digits
from tests.models.agreement import Run, agree, same_training


def data(count: int = 24, size: int = 8) -> list[tuple[dg.Tensor, dg.Tensor]]:
    return list(resnet.batches(*load_digits(), size, count))


def build() -> Run:
    model = nn.Sequential(resnet.Enlarge(), resnet.ResNet(num_classes=10, width=4))
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    return Run(model, optimizer, resnet.training_step(model, optimizer))


def test_whole_steps_are_those_of_eager_code() -> None:
    step, losses = same_training(build, data())
    assert len(step.graphs) == 1
    assert np.mean(losses[-4:]) < np.mean(losses[:4])


def test_one_graph_for_every_batch_size() -> None:
    cut = [(images[: 3 + i % 5], labels[: 3 + i % 5]) for i, (images, labels) in enumerate(data())]
    shapes = {"images": {0: "batch"}, "labels": {0: "batch"}}
    step, _ = same_training(build, cut, dynamic_shapes=shapes)
    assert len(step.graphs) == 1


def test_training_and_evaluating_in_turn() -> None:
    """Statistics that a step wrote are those that evaluation reads, compiled as eagerly."""

    def scores(wrap: Any) -> list[Any]:
        dg.manual_seed(0)
        run = build()
        step, network = wrap(run.step), wrap(run.model)
        found = []
        for images, labels in data(6):
            run.model.train()
            step(images, labels)
            run.model.eval()
            with dg.no_grad():
                found.append(network(images).numpy())
        counts = [b.item() for name, b in run.model.named_buffers() if "num_batches" in name]
        assert set(counts) == {6}
        return found

    for eager, fast in zip(scores(lambda f: f), scores(dg.compile), strict=True):
        np.testing.assert_allclose(fast, eager, rtol=1e-4, atol=1e-5)


def torch_block(torch: Any, block: resnet.BasicBlock) -> Any:
    """A function that computes what a block does, with PyTorch's layers and our weights."""

    def layer(ours: nn.Module) -> Any:
        made = eval(f"torch.nn.{ours!r}", {"torch": torch})  # print(layer) is its constructor
        made.load_state_dict({k: torch.tensor(v.numpy()) for k, v in ours.state_dict().items()})
        return made

    names = ("conv1", "bn1", "conv2", "bn2")
    twin = torch.nn.ModuleDict({name: layer(getattr(block, name)) for name in names})
    assert block.downsample is not None
    twin["downsample"] = torch.nn.Sequential(*(layer(m) for m in block.downsample))

    def forward(x: Any) -> Any:
        y = torch.relu(twin["bn1"](twin["conv1"](x)))
        return torch.relu(twin["bn2"](twin["conv2"](y)) + twin["downsample"](x))

    return twin, forward


def test_a_block_against_pytorch() -> None:
    torch = pytest.importorskip("torch")
    block = resnet.BasicBlock(3, 4, stride=2)
    twin, forward = torch_block(torch, block)
    ours, theirs = optim.SGD(block.parameters(), 0.1), torch.optim.SGD(twin.parameters(), 0.1)

    @dg.compile
    def step(x: dg.Tensor) -> dg.Tensor:
        y = block(x)
        (y * y).mean().backward()
        ours.step()
        ours.zero_grad()
        return y.detach()

    for _ in range(5):
        x = dg.randn(4, 3, 8, 8)
        y = forward(torch.tensor(x.numpy()))
        theirs.zero_grad()
        (y * y).mean().backward()
        theirs.step()
        np.testing.assert_allclose(step(x).numpy(), y.detach().numpy(), rtol=1e-4, atol=1e-5)
    state = block.state_dict()
    assert state.keys() == twin.state_dict().keys()
    for name, v in twin.state_dict().items():
        np.testing.assert_allclose(state[name].numpy(), v.numpy(), rtol=1e-4, atol=1e-5)


def test_exported_after_training(tmp_path: Any) -> None:
    run = build()
    step = dg.compile(run.step)
    for batch in data(5):
        step(*batch)
    model = run.model[1].eval()
    path = tmp_path / "resnet.onnx"
    inputs = resnet.example_inputs(2, 32)
    dg.onnx.export(model, inputs, path, dynamic_shapes={"x": {0: "batch"}})
    for n in (2, 1, 5):
        (images,) = resnet.example_inputs(n, 32)
        agree(path, [images], model(images))
