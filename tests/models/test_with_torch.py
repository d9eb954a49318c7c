"""Every model against PyTorch running the same code: outputs, training losses, trained weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph_models import char_lstm, gpt, keyword_spotter, resnet, seq2seq, vae
from dualgraph_models.datasets import load_digits, load_lines, load_text
from dualgraph_models.with_torch import with_torch
from tests.models.test_reference import SMALL_BERT, SMALL_GPT2

STEPS = 8


class Case(NamedTuple):
    """`build` makes a model and a step from a module and its `optim`; `data` batches for it."""

    build: Callable[[Any, Any], tuple[Any, Callable[..., Any]]]
    data: Callable[[], list[Any]]
    compile: dict[str, Any] = {}


def build_char_lstm(m: Any, optim: Any) -> Any:
    model = m.CharLSTM(embedding_dim=8, hidden_size=16, dropout=0.0)
    return model, m.training_step(model, optim.Adam(model.parameters(), lr=1e-2))


def build_gpt(m: Any, optim: Any) -> Any:
    model = m.GPT(m.Config(context=16, layers=2, heads=2, width=16, dropout=0.0))
    optimizer = m.optimizer_for(model, rate=1e-2)
    return model, m.training_step(model, optimizer, m.schedule_for(optimizer, STEPS, warmup=3))


def build_resnet(m: Any, optim: Any) -> Any:
    model = m.ResNet(num_classes=10, width=4)
    network = m.nn.Sequential(m.Enlarge(), model)
    sgd = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    return network, m.training_step(network, sgd)


def build_vae(m: Any, optim: Any) -> Any:
    model = m.VAE(latent=4, hidden=32).eval()  # without the noise, which is another one in PyTorch
    return model, m.training_step(model, optim.Adam(model.parameters(), lr=1e-2))


def build_seq2seq(m: Any, optim: Any) -> Any:
    model = m.Seq2Seq(width=16)
    return model, m.training_step(model, optim.Adam(model.parameters(), lr=1e-2))


def build_keyword_spotter(m: Any, optim: Any) -> Any:
    model = m.KeywordSpotter(channels=4, hidden_size=6)
    return model, m.training_step(model, optim.Adam(model.parameters(), lr=1e-2))


def text() -> list[Any]:
    return [(x,) for x in gpt.batches(gpt.encode(load_text()), 4, 17, STEPS, seed=0)]


CASES = {
    "char_lstm": Case(
        build_char_lstm,
        lambda: list(char_lstm.batches(load_lines(5, 20), 4, STEPS)),
        {"dynamic_shapes": char_lstm.DYNAMIC},
    ),
    "gpt": Case(build_gpt, text),
    "resnet": Case(build_resnet, lambda: list(resnet.batches(*load_digits(), 8, STEPS))),
    "vae": Case(build_vae, lambda: [(x,) for x in vae.batches(load_digits()[0], 8, STEPS)]),
    "seq2seq": Case(
        build_seq2seq,
        lambda: list(seq2seq.batches(range(1, 3000), 4, STEPS)),
        {"dynamic_shapes": seq2seq.DYNAMIC_STEP},
    ),
    "keyword_spotter": Case(
        build_keyword_spotter, lambda: list(keyword_spotter.batches(2, STEPS, seconds=1.0))
    ),
}


def as_torch(torch: Any, x: dg.Tensor) -> Any:
    return torch.tensor(x.detach().numpy())


@pytest.fixture
def torch_in_double() -> Iterator[Any]:
    """PyTorch, with both default dtypes float64: what differs is then no matter of rounding."""
    torch = pytest.importorskip("torch")
    before = dg.get_default_dtype()
    dg.set_default_dtype(dg.float64)
    torch.set_default_dtype(torch.float64)
    yield torch
    dg.set_default_dtype(before)
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", CASES)
def test_training(name: str, torch_in_double: Any) -> None:
    torch = torch_in_double
    case = CASES[name]
    ours, theirs = __import__(f"dualgraph_models.{name}", fromlist=["_"]), with_torch(name)
    model, step = case.build(ours, dg.optim)
    twin, twin_step = case.build(theirs, torch.optim)
    state = {k: as_torch(torch, v) for k, v in model.state_dict().items()}
    assert state.keys() == twin.state_dict().keys()
    twin.load_state_dict(state)
    fast = dg.compile(step, **case.compile)
    for batch in case.data():
        batch = [x.double() if x.is_floating_point() else x for x in batch]
        found = fast(*batch)
        wanted = twin_step(*(as_torch(torch, x) for x in batch))
        pairs = zip(found, wanted) if isinstance(found, tuple) else [(found, wanted)]
        for a, b in pairs:
            assert a.item() == pytest.approx(b.item(), rel=1e-9)
    for key, v in twin.state_dict().items():
        got = model.state_dict()[key].numpy()
        np.testing.assert_allclose(got, v.numpy(), rtol=1e-6, atol=1e-8, err_msg=key)


# Of the other models: how a small one is made of its module, and its inputs.
IMAGES = np.random.default_rng(0).standard_normal((2, 3, 32, 32))
TOKENS = np.random.default_rng(0).integers(1, 20, (2, 8))
OTHERS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "resnet": (lambda m: m.ResNet((1, 1, 1, 1), 5, 4, bottleneck=True), IMAGES),
    "mobilenet": (lambda m: m.MobileNetV2(5, 0.25, 0.0), IMAGES),
    "vgg": (lambda m: m.VGG((1, 1, 1, 1, 1), True, 5, 2, 16, 0.0), IMAGES),
    "unet": (lambda m: m.UNet(3, 2, 4, 2), IMAGES),
    "dcgan": (lambda m: m.Discriminator(4, 3, 3), IMAGES),
    "vit": (lambda m: m.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5), IMAGES),
    "language_model": (lambda m: m.LSTMLanguageModel(20, 12, 2, 0.0), TOKENS),
    "encoder": (lambda m: m.Encoder(20, 8, 2, 2, 16, 0.0), TOKENS),
    "gpt2": (lambda m: m.GPT2LMHeadModel(**SMALL_GPT2), TOKENS),
    "bert": (lambda m: m.BertForMaskedLM(**SMALL_BERT), TOKENS),
}


@pytest.mark.parametrize("name", OTHERS)
def test_outputs_and_gradients(name: str, torch_in_double: Any) -> None:
    torch = torch_in_double
    build, data = OTHERS[name]
    model = build(__import__(f"dualgraph_models.{name}", fromlist=["_"]))
    twin = build(with_torch(name))
    state = {k: as_torch(torch, v) for k, v in model.state_dict().items()}
    assert state.keys() == twin.state_dict().keys()
    twin.load_state_dict(state)
    found, wanted = model(dg.tensor(data)), twin(torch.tensor(data))
    if isinstance(found, tuple):
        found, wanted = found[0], wanted[0]
    np.testing.assert_allclose(found.detach().numpy(), wanted.detach().numpy(), rtol=1e-9)
    found.square().sum().backward()
    wanted.square().sum().backward()
    for (key, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        got = p.grad.numpy()
        np.testing.assert_allclose(got, q.grad.numpy(), rtol=1e-6, atol=1e-9, err_msg=key)


@pytest.mark.parametrize("kind", ["Greedy", "Beam"])
def test_decoding(kind: str) -> None:
    torch = pytest.importorskip("torch")
    theirs = with_torch("seq2seq")
    model, twin = seq2seq.Seq2Seq(width=8).eval(), theirs.Seq2Seq(width=8).eval()
    model.head.weight.detach().mul_(6)  # less alike
    twin.load_state_dict({k: as_torch(torch, v) for k, v in model.state_dict().items()})
    inputs = seq2seq.encode([1994, 12, 7])
    with dg.no_grad(), torch.no_grad():
        found = getattr(seq2seq, kind)(model)(*inputs)
        wanted = getattr(theirs, kind)(twin)(*(as_torch(torch, x) for x in inputs))
    if kind == "Beam":
        found, total = found
        wanted, twin_total = wanted
        np.testing.assert_allclose(total.numpy(), twin_total.numpy(), rtol=1e-4)
    np.testing.assert_array_equal(found.numpy(), wanted.numpy())


def test_streaming() -> None:
    torch = pytest.importorskip("torch")
    theirs = with_torch("keyword_spotter")
    model, twin = keyword_spotter.KeywordSpotter().eval(), theirs.KeywordSpotter().eval()
    twin.load_state_dict({k: as_torch(torch, v) for k, v in model.state_dict().items()})
    for kind in ("Stream", "BufferedStream"):
        stream, other = getattr(keyword_spotter, kind)(model), getattr(theirs, kind)(twin)
        for _ in range(3):
            (chunk,) = keyword_spotter.example_inputs(1)
            with dg.no_grad(), torch.no_grad():
                wanted = other(as_torch(torch, chunk)).numpy()
                np.testing.assert_allclose(stream(chunk).numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_what_the_losses_are() -> None:
    """The code compared is the code: a change of ours is a change there."""
    torch = pytest.importorskip("torch")
    theirs = with_torch("vae")
    assert theirs.F is torch.nn.functional
    assert vae.F is F
    assert isinstance(theirs.VAE(), torch.nn.Module)
    assert with_torch("vae") is theirs
