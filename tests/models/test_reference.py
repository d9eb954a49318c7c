"""Every reference model, small: it learns, traces, compiles, exports, is saved and summed up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn, optim
from dualgraph_models import (
    bert,
    dcgan,
    gpt2,
    language_model,
    lenet,
    mlp,
    mobilenet,
    resnet,
    seq2seq,
    unet,
    vae,
    vgg,
    vit,
)
from tests.models.agreement import agree


class Case(NamedTuple):
    """A small model, inputs for it, and what is exported with which sizes dynamic."""

    build: Callable[[], Any]
    inputs: Callable[[], tuple[Any, ...]]
    loss: Callable[[Any, tuple[Any, ...]], Any]
    dynamic: dict[str, Any]
    rate: float = 0.01
    tolerance: float = 1e-4


def images(count: int, size: int, channels: int = 3) -> Callable[[], tuple[Any, ...]]:
    return lambda: (dg.randn(count, channels, size, size),)


def tokens(count: int, length: int, vocabulary: int) -> Callable[[], tuple[Any, ...]]:
    return lambda: (dg.randint(1, vocabulary, (count, length)),)


def classify(model: Any, inputs: tuple[Any, ...]) -> Any:
    scores = model(*inputs)
    return F.cross_entropy(scores, dg.arange(scores.shape[0]) % scores.shape[1])


def repeat(model: Any, inputs: tuple[Any, ...]) -> Any:
    """Every token from itself, or from those before it and itself."""
    scores = model(*inputs)
    scores = scores[0] if isinstance(scores, tuple) else scores
    return F.cross_entropy(scores.flatten(0, 1), inputs[0].flatten())


def to_ones(model: Any, inputs: tuple[Any, ...]) -> Any:
    found = model(*inputs)
    found = found[0] if isinstance(found, tuple) else found
    return F.mse_loss(found, dg.ones_like(found) * 0.5)


def roman(model: Any, inputs: tuple[Any, ...]) -> Any:
    return F.cross_entropy(model(*inputs).flatten(0, 1), inputs[2].flatten())


BATCH = {"x": {0: "batch"}}
SMALL_BERT = {
    "vocab_size": 20,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "max_position_embeddings": 12,
}
SMALL_GPT2 = {
    "vocab_size": 20,
    "n_positions": 12,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "resid_pdrop": 0.0,
}
TEXT = {"tokens": {0: "batch", 1: "length"}}
CASES = {
    "mlp": Case(lambda: mlp.MLP(8, (16,), 3, nn.Tanh), lambda: (dg.randn(5, 8),), classify, BATCH),
    "lenet": Case(lenet.LeNet, lambda: lenet.example_inputs(3), classify, BATCH),
    "resnet18": Case(lambda: resnet.ResNet(num_classes=5, width=4), images(3, 32), classify, BATCH),
    "resnet50": Case(
        lambda: resnet.ResNet((1, 1, 1, 1), 5, 4, bottleneck=True), images(3, 32), classify, BATCH
    ),
    "mobilenet": Case(
        lambda: mobilenet.MobileNetV2(5, 0.25, 0.0), images(4, 48), classify, BATCH, 3e-3
    ),
    "vgg": Case(
        lambda: vgg.VGG((1, 1, 1, 1, 1), True, 5, 2, 16, 0.0), images(3, 32), classify, BATCH
    ),
    "unet": Case(
        lambda: unet.UNet(1, 2, 4, 2),
        images(2, 16, 1),
        to_ones,
        {"x": {0: "batch", 2: 4 * dg.Dim("rows"), 3: 4 * dg.Dim("columns")}},
    ),
    "generator": Case(
        lambda: dcgan.Generator(6, 4, 1, 2),
        lambda: dcgan.example_inputs(3, 6),
        to_ones,
        {"noise": {0: "batch"}},
    ),
    "discriminator": Case(
        lambda: dcgan.Discriminator(4, 1, 2), images(3, 16, 1), to_ones, {"images": {0: "batch"}}
    ),
    "vae": Case(
        lambda: vae.VAE(3, 12), lambda: vae.example_inputs(4), to_ones, {"images": {0: "batch"}}
    ),
    "language_model": Case(
        lambda: language_model.LSTMLanguageModel(20, 12, 2, 0.0),
        tokens(3, 6, 20),
        repeat,
        {"words": {0: "batch", 1: "length"}},
        0.03,
    ),
    "seq2seq": Case(
        lambda: seq2seq.Seq2Seq(width=8),
        lambda: seq2seq.batches(range(1, 50), 3, 1).__next__(),
        roman,
        seq2seq.DYNAMIC_STEP,
    ),
    "bert": Case(lambda: bert.BertForMaskedLM(**SMALL_BERT), tokens(3, 8, 20), repeat, TEXT),
    "gpt2": Case(lambda: gpt2.GPT2LMHeadModel(**SMALL_GPT2), tokens(3, 8, 20), repeat, TEXT),
    "vit": Case(
        lambda: vit.VisionTransformer(16, 8, 2, 2, 16, 32, num_classes=5),
        images(3, 16),
        classify,
        {"images": {0: "batch"}},
    ),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def results(found: Any) -> list[Any]:
    """The tensors of what a model returns, in order."""
    if isinstance(found, dg.Tensor):
        return [found]
    return [t for part in found if part is not None for t in results(part)]


def test_it_learns(case: Case) -> None:
    model, inputs = case.build(), case.inputs()
    optimizer = optim.Adam(model.parameters(), lr=case.rate)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = case.loss(model, inputs)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert all(p.grad is not None for p in model.parameters())


def test_it_traces_compiles_and_exports(case: Case, tmp_path: Any) -> None:
    pytest.importorskip("onnxruntime")
    model, inputs = case.build().eval(), case.inputs()
    wanted = results(model(*inputs))
    graph = dg.trace(model, *inputs)
    assert {v.name for v in graph.params} <= set(model.state_dict())
    for got, want in zip(results(dg.compile(model)(*inputs)), wanted, strict=True):
        np.testing.assert_allclose(
            got.detach().numpy(), want.detach().numpy(), rtol=1e-4, atol=1e-5
        )
    path = tmp_path / "model.onnx"
    dg.onnx.export(model, inputs, path, dynamic_shapes=case.dynamic)
    for count in (len(inputs[0]), 1):
        some = [x[:count] for x in inputs]
        agree(path, some, results(model(*some)), case.tolerance)


def test_it_is_saved_and_read(case: Case, tmp_path: Any) -> None:
    model, inputs = case.build(), case.inputs()
    case.loss(model, inputs)  # so that running statistics are not those of a new model
    model.eval()
    model.save_pretrained(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    again = type(model).from_pretrained(tmp_path)
    assert not again.training
    assert again.arguments.keys() == model.arguments.keys()
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name].numpy(), tensor.numpy(), name)
    for got, want in zip(results(again(*inputs)), results(model(*inputs)), strict=True):
        np.testing.assert_array_equal(got.detach().numpy(), want.detach().numpy())


def test_it_is_summed_up(case: Case) -> None:
    model, inputs = case.build(), case.inputs()
    found = model.summary(*inputs)
    assert model.training
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.multiply_adds > 0
    assert found.rows[0].shape == tuple(results(model(*inputs))[0].shape)
    leaves = [r for r in found.rows if not any(o.path.startswith(f"{r.path}.") for o in found.rows)]
    assert sum(r.multiply_adds for r in leaves if r.path) <= found.multiply_adds
    text = str(found).splitlines()
    assert len(text) == len(found.rows) + 3
    assert f"{found.parameters:,} parameters" in text[-1]
