"""ResNet-18 with batch norm in training mode: whole steps, running statistics included."""

from __future__ import annotations

from functools import partial
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
    optimizer = optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    return Run(model, optimizer, resnet.training_step(model, optimizer))


@pytest.mark.interpreted
def test_whole_steps_are_those_of_eager_code() -> None:
    step, losses = same_training(build, data(2) * 12)
    assert len(step.graphs) == 1
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])


@pytest.mark.interpreted
def test_one_graph_for_every_batch_size() -> None:
    cut = [(images[: 3 + i % 5], labels[: 3 + i % 5]) for i, (images, labels) in enumerate(data())]
    shapes = {"images": {0: "batch"}, "labels": {0: "batch"}}
    step, _ = same_training(build, cut, dynamic_shapes=shapes)
    assert len(step.graphs) == 1


@pytest.mark.interpreted
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

    # Six steps with momentum make a lot out of rounding.
    strictly = partial(dg.compile, numerics="strict")
    for eager, fast in zip(scores(lambda f: f), scores(strictly), strict=True):
        np.testing.assert_allclose(fast, eager, rtol=1e-4, atol=1e-5)


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
