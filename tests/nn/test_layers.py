"""Every layer against PyTorch's of the same name: text, state, outputs and gradients."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import nn

from .parity import compare, copy_state

torch = pytest.importorskip("torch")


class Case(NamedTuple):
    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    shapes: tuple[tuple[int, ...], ...] = ((2, 6, 5),)
    low: float = -3.0
    eval: bool = False


def case(name: str, *args: Any, on: Any = (2, 6, 5), eval: bool = False, **kwargs: Any) -> Case:
    shapes = on if on and isinstance(on[0], tuple) else (on,)
    return Case(name, args, kwargs, shapes, eval=eval)


IMAGE, SIGNAL, VOLUME = (2, 6, 7, 8), (2, 6, 9), (1, 6, 5, 6, 4)
CASES = [
    case("Identity"),
    case("Linear", 5, 3),
    case("Linear", 5, 3, bias=False, on=(5,)),
    case("Linear", 5, 3, on=(2, 3, 4, 5)),
    case("Bilinear", 5, 4, 3, on=((2, 5), (2, 4))),
    case("Flatten", on=IMAGE),
    case("Flatten", 0, 1, on=IMAGE),
    case("Unflatten", 1, (2, 3), on=IMAGE),
    # convolutions
    case("Conv1d", 6, 4, 3, on=SIGNAL),
    case("Conv1d", 6, 4, 3, padding="same", dilation=2, on=(6, 9)),
    case("Conv1d", 6, 4, 4, padding="same", padding_mode="circular", on=SIGNAL),
    case("Conv2d", 6, 4, 3, on=IMAGE),
    case("Conv2d", 6, 4, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), on=IMAGE),
    case("Conv2d", 6, 6, 3, groups=6, bias=False, padding="valid", on=IMAGE),
    case("Conv2d", 6, 4, 4, padding="same", groups=2, on=IMAGE),
    case("Conv2d", 6, 4, 3, padding=2, padding_mode="reflect", on=IMAGE),
    case("Conv2d", 6, 4, 3, padding=(1, 2), padding_mode="replicate", on=IMAGE),
    case("Conv3d", 6, 4, 2, padding=1, stride=2, on=VOLUME),
    case("ConvTranspose1d", 6, 4, 3, stride=2, padding=1, output_padding=1, on=SIGNAL),
    case("ConvTranspose2d", 6, 4, 3, on=IMAGE),
    case("ConvTranspose2d", 6, 4, (3, 2), stride=2, groups=2, dilation=2, on=IMAGE),
    case("ConvTranspose2d", 6, 4, 3, stride=(2, 3), output_padding=(1, 2), bias=False, on=IMAGE),
    case("ConvTranspose3d", 6, 4, 2, stride=2, on=VOLUME),
    # pooling
    case("MaxPool1d", 3, on=SIGNAL),
    case("MaxPool1d", 3, return_indices=True, on=SIGNAL),
    case("MaxPool2d", 2, on=IMAGE),
    case("MaxPool2d", (3, 2), stride=1, padding=1, on=IMAGE),
    case("MaxPool2d", 3, stride=2, ceil_mode=True, return_indices=True, on=IMAGE),
    case("MaxPool2d", 2, dilation=2, on=(6, 7, 8)),
    case("MaxPool3d", 2, on=VOLUME),
    case("AvgPool1d", 3, stride=2, padding=1, on=SIGNAL),
    case("AvgPool2d", 2, on=IMAGE),
    case("AvgPool2d", 3, stride=2, padding=1, ceil_mode=True, on=IMAGE),
    case("AvgPool2d", 3, 2, 1, count_include_pad=False, on=IMAGE),
    case("AvgPool2d", (3, 2), divisor_override=5, on=IMAGE),
    case("AvgPool3d", 2, on=VOLUME),
    case("AdaptiveAvgPool1d", 4, on=SIGNAL),
    case("AdaptiveAvgPool2d", 1, on=IMAGE),
    case("AdaptiveAvgPool2d", (3, None), on=IMAGE),
    case("AdaptiveAvgPool3d", (2, 3, 1), on=VOLUME),
    case("AdaptiveMaxPool1d", 4, on=SIGNAL),
    case("AdaptiveMaxPool2d", (3, 5), return_indices=True, on=IMAGE),
    case("AdaptiveMaxPool3d", 2, on=VOLUME),
    case("LPPool1d", 2, 3, stride=2, on=SIGNAL),
    case("LPPool2d", 2, (3, 2), on=IMAGE),
    # normalisation
    case("BatchNorm1d", 6, on=(4, 6)),
    case("BatchNorm1d", 6, on=(2, 6, 5)),
    case("BatchNorm2d", 6, on=IMAGE),
    case("BatchNorm2d", 6, on=IMAGE, eval=True),
    case("BatchNorm2d", 6, momentum=None, on=IMAGE),
    case("BatchNorm2d", 6, affine=False, on=IMAGE),
    case("BatchNorm2d", 6, track_running_stats=False, on=IMAGE, eval=True),
    case("BatchNorm2d", 6, bias=False, on=IMAGE),
    case("BatchNorm3d", 6, eps=0.1, momentum=0.3, on=VOLUME),
    case("InstanceNorm1d", 6, on=SIGNAL),
    case("InstanceNorm2d", 6, affine=True, track_running_stats=True, on=IMAGE),
    case("InstanceNorm2d", 6, affine=True, track_running_stats=True, on=IMAGE, eval=True),
    case("InstanceNorm2d", 6, on=(6, 7, 8)),
    case("InstanceNorm3d", 6, on=VOLUME),
    case("LayerNorm", 5),
    case("LayerNorm", (6, 5)),
    case("LayerNorm", 5, bias=False),
    case("LayerNorm", [6, 5], elementwise_affine=False),
    case("GroupNorm", 3, 6, on=IMAGE),
    case("GroupNorm", 2, 6, affine=False),
    case("RMSNorm", 5),
    case("RMSNorm", (6, 5), eps=0.1, elementwise_affine=False),
    case("LocalResponseNorm", 3, on=IMAGE),
    case("LocalResponseNorm", 2, alpha=0.1, on=SIGNAL),
    # activations
    case("CELU"),
    case("CELU", 0.5),
    case("ELU", 2.0),
    case("GELU"),
    case("GELU", approximate="tanh"),
    case("GLU", 1),
    case("Hardshrink", 0.7),
    case("Hardsigmoid"),
    case("Hardswish"),
    case("Hardtanh", -0.5, 2.0),
    case("LeakyReLU", 0.2),
    case("LogSigmoid"),
    case("LogSoftmax", 1),
    case("Mish"),
    case("PReLU"),
    case("PReLU", 6, init=0.1),
    case("RReLU", 0.1, 0.3, eval=True),
    case("ReLU"),
    case("ReLU6"),
    case("SELU"),
    case("SiLU"),
    case("Sigmoid"),
    case("Softmax", -1),
    case("Softmax2d", on=IMAGE),
    case("Softmin", 0),
    case("Softplus", 2.0, 4.0),
    case("Softshrink", 0.3),
    case("Softsign"),
    case("Tanh"),
    case("Tanhshrink"),
    case("Threshold", 0.5, 2.0),
    # shapes
    case("ZeroPad1d", 2, on=SIGNAL),
    case("ZeroPad2d", (1, 2, 3, 0), on=IMAGE),
    case("ZeroPad3d", 1, on=VOLUME),
    case("ConstantPad1d", (1, -2), 2.5, on=SIGNAL),
    case("ConstantPad2d", 1, 0.5, on=IMAGE),
    case("ConstantPad3d", 1, 0.5, on=VOLUME),
    case("ReflectionPad1d", 3, on=SIGNAL),
    case("ReflectionPad2d", (1, 2, 3, 0), on=IMAGE),
    case("ReflectionPad3d", 2, on=VOLUME),
    case("ReplicationPad1d", 3, on=SIGNAL),
    case("ReplicationPad2d", (1, 2, 3, 0), on=IMAGE),
    case("ReplicationPad3d", 2, on=VOLUME),
    case("CircularPad1d", 3, on=SIGNAL),
    case("CircularPad2d", (1, 2, 3, 0), on=IMAGE),
    case("CircularPad3d", 2, on=VOLUME),
    case("PixelShuffle", 2, on=(2, 8, 3, 4)),
    case("PixelUnshuffle", 2, on=(2, 3, 4, 6)),
    case("ChannelShuffle", 3, on=IMAGE),
    case("Unfold", 3, on=IMAGE),
    case("Unfold", (2, 3), dilation=2, padding=(1, 0), stride=2, on=IMAGE),
    case("Upsample", scale_factor=2, on=IMAGE),
    case("Upsample", size=(5, 11), on=IMAGE),
    case("UpsamplingNearest2d", scale_factor=3, on=IMAGE),
    case("CosineSimilarity", on=((2, 6, 5), (2, 6, 5))),
    case("PairwiseDistance", on=((2, 6, 5), (2, 6, 5))),
    case("PairwiseDistance", 1.0, keepdim=True, on=((4, 5), (4, 5))),
    # dropout does nothing in evaluation
    case("Dropout", 0.3, eval=True),
    case("Dropout1d", on=SIGNAL, eval=True),
    case("Dropout2d", on=IMAGE, eval=True),
    case("Dropout3d", on=VOLUME, eval=True),
    case("AlphaDropout", eval=True),
    case("FeatureAlphaDropout", eval=True),
]


def identify(c: Case) -> str:
    extra = [*map(str, c.args), *(f"{k}={v}" for k, v in c.kwargs.items())]
    return f"{c.name}({', '.join(extra)})" + ("-eval" if c.eval else "")


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # PyTorch's
@pytest.mark.parametrize("c", CASES, ids=identify)
def test_layer(c: Case) -> None:
    mine = getattr(nn, c.name)(*c.args, **c.kwargs)
    theirs = getattr(torch.nn, c.name)(*c.args, **c.kwargs)
    assert repr(mine) == repr(theirs)
    if c.eval:
        mine.eval()
        theirs.eval()
    for p in (*theirs.parameters(), *theirs.buffers()):
        if p.dtype.is_floating_point:
            p.data = torch.rand_like(p) + 0.1
    copy_state(theirs, mine)
    rng = np.random.default_rng(0)
    inputs = [torch.tensor(rng.normal(size=s).astype(np.float32)) for s in c.shapes]
    for x in inputs:
        x.requires_grad_()
    compare(mine, theirs, inputs)


INITIAL = [
    ("Linear", (200, 300)),
    ("Bilinear", (20, 30, 40)),
    ("Conv1d", (20, 40, 5)),
    ("Conv2d", (20, 40, 3)),
    ("ConvTranspose2d", (20, 40, 3)),
    ("Embedding", (300, 40)),
    ("LSTM", (30, 40)),
    ("GRUCell", (30, 40)),
    ("BatchNorm2d", (5,)),
    ("LayerNorm", (5,)),
    ("PReLU", (5,)),
]


@pytest.mark.parametrize(("name", "args"), INITIAL, ids=[n for n, _ in INITIAL])
def test_initial_values_are_distributed_as_in_pytorch(name: str, args: tuple[int, ...]) -> None:
    mine, theirs = getattr(nn, name)(*args), getattr(torch.nn, name)(*args)
    for (key, a), b in zip(mine.state_dict().items(), theirs.state_dict().values(), strict=True):
        a, b = a.numpy().astype(float), b.numpy().astype(float)
        assert a.shape == b.shape, key
        error = 4 * max(b.std(), 1e-9) / math.sqrt(b.size)
        assert abs(a.mean() - b.mean()) <= 2 * error, key
        assert abs(a.std() - b.std()) <= 2 * error, key
        if name != "Embedding":  # bounded distributions
            assert abs(a).max() <= abs(b).max() * 1.3 + 1e-9, key


@pytest.mark.parametrize("name", ["ReLU", "ELU", "Hardtanh", "LeakyReLU", "SiLU", "Dropout"])
def test_inplace_overwrites_the_input(name: str) -> None:
    layer = getattr(nn, name)(inplace=True)
    x = dg.randn(3, 4)
    y = layer(x)
    assert y is x
    assert "inplace=True" in repr(layer)


def test_batch_norm_followed_by_an_inplace_activation() -> None:
    mine, theirs = (n.Sequential(n.BatchNorm2d(3), n.ReLU(inplace=True)) for n in (nn, torch.nn))
    compare(mine, theirs, [torch.randn(2, 3, 4, 4, requires_grad=True)])


@pytest.mark.parametrize("name", ["Dropout", "Dropout1d", "Dropout2d", "AlphaDropout", "RReLU"])
def test_random_layers_in_training(name: str) -> None:
    layer = getattr(nn, name)()
    x = dg.ones(20, 50, 30, requires_grad=True) * -1.0
    y = layer(x)
    values = y.detach().numpy()
    if name.startswith("Dropout"):
        assert set(np.unique(values)) == {-2.0, 0.0}
        assert abs((values == 0).mean() - 0.5) < 0.06
        per_channel = (values == 0).all(-1) | (values != 0).all(-1)
        assert per_channel.all() == (name != "Dropout")
    elif name == "AlphaDropout":
        assert len(np.unique(values)) == 2
        noise = dg.randn(100, 1000)
        dropped = layer(noise).numpy()
        assert abs(dropped.mean()) < 0.02
        assert abs(dropped.std() - 1) < 0.02
    else:
        assert values.min() >= -1 / 3
        assert values.max() <= -1 / 8
    dg.manual_seed(7)
    a = layer(x)
    dg.manual_seed(7)
    assert dg.equal(a, layer(x))


def test_dropout_of_everything() -> None:
    x = dg.randn(3, 4, requires_grad=True)
    y = nn.Dropout(1.0)(x)
    y.sum().backward()
    assert not y.detach().numpy().any()
    assert x.grad is not None
    assert not x.grad.numpy().any()
    with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1"):
        nn.Dropout(1.5)


@pytest.mark.parametrize(
    "options", [{}, {"padding_idx": 2}, {"padding_idx": -1}, {"max_norm": 1.0}], ids=str
)
def test_embedding(options: dict[str, Any]) -> None:
    mine, theirs = nn.Embedding(10, 4, **options), torch.nn.Embedding(10, 4, **options)
    assert repr(mine) == repr(theirs)
    if "padding_idx" in options:
        assert not mine.weight[mine.padding_idx].detach().numpy().any()
    copy_state(theirs, mine)
    compare(mine, theirs, [torch.tensor([[1, 2, 2], [9, 0, 1]])])


def test_embedding_from_pretrained() -> None:
    table = dg.randn(5, 3)
    layer = nn.Embedding.from_pretrained(table)
    assert not layer.weight.requires_grad
    assert dg.equal(layer(dg.tensor([4, 0])), table[dg.tensor([4, 0])])
    with pytest.raises(ValueError, match="Padding_idx must be within num_embeddings"):
        nn.Embedding(3, 2, padding_idx=3)


def test_conv_transpose_to_a_wanted_size() -> None:
    mine, theirs = nn.ConvTranspose2d(2, 3, 3, 2), torch.nn.ConvTranspose2d(2, 3, 3, 2)
    copy_state(theirs, mine)
    x = np.ones((1, 2, 4, 5), np.float32)
    got = mine(dg.from_numpy(x), output_size=(10, 11))
    wanted = theirs(torch.from_numpy(x), output_size=(10, 11))
    assert tuple(got.shape) == tuple(wanted.shape)
    with pytest.raises(ValueError, match="requested an output size"):
        mine(dg.from_numpy(x), output_size=(20, 11))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "in_channels must be divisible by groups, got 3"),
        (lambda: nn.Conv2d(4, 4, 3, stride=2, padding="same"), "not supported for strided"),
        (lambda: nn.Conv2d(4, 4, 3, padding="full"), "Invalid padding string"),
        (lambda: nn.Conv2d(4, 4, 3, padding_mode="mirror"), "padding_mode must be one of"),
        (lambda: nn.GroupNorm(4, 6), "must be divisible by num_groups"),
        (lambda: nn.BatchNorm2d(3)(dg.ones(3, 3)), "expected 4D input"),
        (lambda: nn.BatchNorm1d(3)(dg.ones(1, 3)), "Expected more than 1 value per channel"),
        (lambda: nn.Conv2d(3, 4, 3)(dg.ones(3, 3)), "expected 3D .unbatched. or 4D .batched."),
        (lambda: nn.Conv2d(3, 4, 3)(dg.ones(1, 2, 5, 5)), "3 input channels"),
        (lambda: nn.Conv2d(3, 4, 9)(dg.ones(1, 3, 5, 5)), "larger than the padded input"),
        (lambda: nn.Linear(3, 4)(dg.ones(2, 5)), r"\[2, 5\]"),
        (lambda: nn.LayerNorm(3)(dg.ones(2, 5)), "expected input with shape"),
        (lambda: nn.MaxPool2d(2, padding=2)(dg.ones(1, 1, 4, 4)), "at most half"),
        (lambda: nn.Softshrink(-1.0)(dg.ones(2)), "lambda must be greater"),
    ],
)
def test_misuse(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
