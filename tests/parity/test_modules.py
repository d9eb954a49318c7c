"""What a layer is before it runs: arguments, printed form, names, shapes and initial values."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")

import dualgraph as dg  # noqa: E402

from .compare import numpy  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


def classes() -> list[str]:
    found = [
        name
        for name, c in vars(torch.nn).items()
        if inspect.isclass(c) and issubclass(c, torch.nn.Module)
    ]
    # Of old: an alias of Module, and a layer that LocalResponseNorm replaces.
    return sorted({*found} - {"Container", "CrossMapLRN2d"})


def arguments(layer: Any) -> list[tuple[Any, ...]]:
    parameters = inspect.signature(layer).parameters.values()
    return [(p.name, p.kind, getattr(p.default, "__name__", p.default)) for p in parameters]


def described(tensor: Any) -> tuple[Any, ...]:
    lazy = (torch.nn.parameter.UninitializedTensorMixin, dg.nn.parameter._Uninitialized)
    if isinstance(tensor, lazy):
        return ("uninitialized", tensor.requires_grad)
    kind = str(tensor.dtype).removeprefix("torch.").removeprefix("dualgraph.")
    return tuple(tensor.shape), kind, tensor.requires_grad


@pytest.mark.parametrize("name", classes())
def test_arguments(name: str) -> None:
    """The same names, kinds and defaults, in the same order."""
    theirs = arguments(getattr(torch.nn, name))
    if any(kind is inspect.Parameter.VAR_POSITIONAL for _, kind, _ in theirs):
        pytest.skip("PyTorch's signature says nothing")
    assert arguments(getattr(dg.nn, name)) == theirs


def test_every_layer_of_the_database() -> None:
    """Printed form, parameters, buffers, state and submodules of each, as it is made."""
    from . import modules
    from .translate import lookup, translate

    for info in modules.entries():
        samples = info.module_inputs_func(
            info, device="cpu", dtype=torch.float32, requires_grad=False, training=True
        )
        for sample in samples:
            args, kwargs = sample.constructor_input.args, dict(sample.constructor_input.kwargs)
            theirs = info.module_cls(*args, **kwargs)
            mine = lookup(dg, info.name)(*translate(args), **translate(kwargs))
            assert repr(mine) == repr(theirs)
            for what in ("named_parameters", "named_buffers"):
                found = [(n, described(t)) for n, t in getattr(mine, what)()]
                assert found == [(n, described(t)) for n, t in getattr(theirs, what)()], info.name
            state = [(n, described(t)) for n, t in mine.state_dict().items()]
            assert state == [(n, described(t)) for n, t in theirs.state_dict().items()]
            assert [n for n, _ in mine.named_modules()] == [n for n, _ in theirs.named_modules()]


LARGE: list[tuple[str, tuple[Any, ...]]] = [
    ("Linear", (300, 200)),
    ("Bilinear", (30, 40, 50)),
    ("Conv1d", (64, 64, 9)),
    ("Conv2d", (32, 64, 5)),
    ("ConvTranspose2d", (32, 64, 5)),
    ("Embedding", (200, 100, 3)),
    ("EmbeddingBag", (200, 100)),
    ("RNN", (100, 80)),
    ("LSTM", (100, 80)),
    ("GRU", (100, 80)),
    ("LSTMCell", (100, 80)),
    ("GRUCell", (100, 80)),
    ("MultiheadAttention", (128, 4)),
    ("TransformerEncoderLayer", (128, 4, 256)),
    ("TransformerDecoderLayer", (128, 4, 256)),
    ("BatchNorm2d", (50,)),
    ("LayerNorm", (50,)),
    ("GroupNorm", (5, 50)),
    ("PReLU", (50,)),
    ("AdaptiveLogSoftmaxWithLoss", (64, 200, [50, 100])),
]


@pytest.mark.parametrize(("name", "args"), LARGE)
def test_initial_values(name: str, args: tuple[Any, ...]) -> None:
    """Parameters are drawn from distributions of the same mean, spread and bounds."""
    torch.manual_seed(0)
    dg.manual_seed(0)
    theirs, mine = getattr(torch.nn, name)(*args), getattr(dg.nn, name)(*args)
    for (key, a), b in zip(mine.named_parameters(), theirs.parameters(), strict=True):
        x, y = numpy(a).astype(np.float64), b.detach().numpy().astype(np.float64)
        slack = 6 * y.std() / np.sqrt(y.size)
        assert abs(x.mean() - y.mean()) <= slack, key
        assert x.std() == pytest.approx(y.std(), rel=8 / np.sqrt(y.size), abs=1e-12), key
        assert abs(x).max() == pytest.approx(abs(y).max(), rel=0.35, abs=1e-12), key
