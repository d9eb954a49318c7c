"""Attention and transformer layers against PyTorch's: text, state, results; and in graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import nn
from dualgraph_compiler.errors import ArgumentError, DTypeError, ShapeError

from .parity import close, compare, copy_state, ours

torch = pytest.importorskip("torch")

E, HEADS, N, L, S = 8, 2, 3, 4, 5


def rand(*shape: int, grad: bool = True) -> Any:
    return torch.randn(*shape, requires_grad=grad)


def twins(name: str, *args: Any, **kwargs: Any) -> tuple[nn.Module, Any]:
    theirs = getattr(torch.nn, name)(*args, **kwargs)
    mine = getattr(nn, name)(*args, **kwargs)
    assert repr(mine) == repr(theirs)
    copy_state(theirs, mine)
    for p in theirs.parameters():  # biases that are 0 at first would hide mistakes
        if p.ndim == 1:
            p.data.uniform_(-0.5, 0.5)
    copy_state(theirs, mine)
    return mine, theirs


def same(mine: Any, theirs: Any, inputs: tuple[Any, ...], **kwargs: Any) -> None:
    """Results and gradients for these inputs and keyword arguments."""
    copies = {k: ours(v) for k, v in kwargs.items()}
    compare(_Call(mine, copies), _Call(theirs, kwargs), inputs)


class _Call:
    """A module with keyword arguments; None results dropped."""

    def __init__(self, module: Any, kwargs: Any) -> None:
        self.module, self.kwargs = module, kwargs

    def __call__(self, *inputs: Any) -> Any:
        out = self.module(*inputs, **self.kwargs)
        return tuple(x for x in out if x is not None) if isinstance(out, tuple) else out

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)


LAYERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "batch_first": {"batch_first": True},
    "no bias": {"bias": False},
    "kv": {"add_bias_kv": True, "add_zero_attn": True},
    "zero": {"add_zero_attn": True},
    "other widths": {"kdim": 5, "vdim": 6},
    "other widths, no bias": {"kdim": 5, "bias": False, "batch_first": True},
}
drawn = torch.Generator().manual_seed(0)
MASKS = {
    "none": {},
    "bool": {"attn_mask": torch.rand(L, S, generator=drawn) < 0.3},
    "float": {"attn_mask": torch.randn(L, S, generator=drawn)},
    "heads": {"attn_mask": torch.randn(N * HEADS, L, S, generator=drawn)},
    "keys": {"key_padding_mask": torch.arange(S) >= torch.tensor([[5], [3], [1]])},
    "both": {
        "key_padding_mask": torch.arange(S) >= torch.tensor([[5], [3], [2]]),
        "attn_mask": torch.arange(S) > torch.arange(L).unsqueeze(1),
    },
}


@pytest.mark.parametrize("given", ["bool", "float"])
def test_a_query_that_sees_nothing(given: str) -> None:
    """Its result and its gradients are those of zero weights, and not NaN."""
    mine, theirs = twins("MultiheadAttention", E, HEADS)
    mask = torch.tensor([[False] * S, [True] * S, [False] * S, [True] * S])
    if given == "float":
        mask = torch.zeros(L, S).masked_fill(mask, -torch.inf)
    inputs = rand(L, N, E), rand(S, N, E), rand(S, N, E)
    same(mine, theirs, inputs, need_weights=False, attn_mask=mask)
    assert not np.isnan(mine.in_proj_weight.grad.numpy()).any()


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("layer", LAYERS)
def test_attention(layer: str, mask: str, need_weights: bool) -> None:
    torch.manual_seed(0)
    options = LAYERS[layer]
    mine, theirs = twins("MultiheadAttention", E, HEADS, **options)
    query, key, value = (
        rand(length, N, width)
        for length, width in ((L, E), (S, options.get("kdim", E)), (S, options.get("vdim", E)))
    )
    if options.get("batch_first"):
        query, key, value = (
            x.detach().transpose(0, 1).contiguous().requires_grad_() for x in (query, key, value)
        )
    same(mine, theirs, (query, key, value), need_weights=need_weights, **MASKS[mask])


def test_attention_to_itself_and_its_forms() -> None:
    mine, theirs = twins("MultiheadAttention", E, HEADS, batch_first=True)
    x = rand(N, L, E)
    y = ours(x)
    causal = torch.nn.Transformer.generate_square_subsequent_mask(L)
    for how in (
        {},
        {"average_attn_weights": False},
        {"need_weights": False, "attn_mask": causal, "is_causal": True},
        {"attn_mask": causal, "is_causal": True},
    ):
        found = mine(y, y, y, **{k: ours(v) for k, v in how.items()})
        for a, b in zip(found, theirs(x, x, x, **how), strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                close(a, b)
    row = rand(L, E)
    for a, b in zip(mine(*[ours(row)] * 3), theirs(row, row, row), strict=True):  # no batch
        close(a, b)
    key = rand(N, S, E)
    close(mine(y, ours(key), ours(key))[0], theirs(x, key, key)[0])


def test_static_keys() -> None:
    mine, theirs = twins("MultiheadAttention", E, HEADS)
    x = rand(L, N, E)
    k, v = rand(N * HEADS, S, E // HEADS), rand(N * HEADS, S, E // HEADS)
    weights = ("in_proj_weight", "in_proj_bias")
    found = []
    for m, convert, F in ((mine, ours, nn.functional), (theirs, lambda t: t, torch.nn.functional)):
        given = [convert(x)] * 3 + [E, HEADS] + [getattr(m, w) for w in weights]
        out = (m.out_proj.weight, m.out_proj.bias)
        given += [None, None, False, 0.0, *out]
        found.append(
            F.multi_head_attention_forward(*given, static_k=convert(k), static_v=convert(v))
        )
    for a, b in zip(*found, strict=True):
        close(a, b)


def test_attention_refuses() -> None:
    layer = nn.MultiheadAttention(E, HEADS)
    x = dg.randn(L, N, E)
    with pytest.raises(ArgumentError, match="divisible"):
        nn.MultiheadAttention(7, 2)
    with pytest.raises(ArgumentError, match="greater than 0"):
        nn.MultiheadAttention(0, 2)
    with pytest.raises(ArgumentError, match="Need attn_mask"):
        layer(x, x, x, is_causal=True)
    with pytest.raises(DTypeError, match="only bool and floating"):
        layer(x, x, x, attn_mask=dg.zeros(L, L, dtype=dg.int64))
    for query, key, masks in (
        (dg.randn(L, N, E + 2), x, {}),
        (x, dg.randn(L, E), {}),
        (dg.randn(2, 2, L, E), dg.randn(2, 2, L, E), {}),
        (x, x, {"attn_mask": dg.zeros(L, S)}),
        (x, x, {"attn_mask": dg.zeros(N, L, L)}),
        (x, x, {"attn_mask": dg.zeros(L)}),
        (x, x, {"key_padding_mask": dg.zeros(L, N)}),
        (x, x, {"key_padding_mask": dg.zeros(N)}),
    ):
        with pytest.raises(ShapeError):
            layer(query, key, key, **masks)
    with pytest.raises(ShapeError, match="as many keys as values"):
        layer(x, x, x[:2])
    with pytest.warns(UserWarning, match="mismatched"):
        layer(x, x, x, dg.zeros(N, L), attn_mask=dg.zeros(L, L, dtype=dg.bool))


def test_dropout_of_weights() -> None:
    layer = nn.MultiheadAttention(E, HEADS, dropout=0.5)
    x = dg.randn(L, N, E)
    _, weights = layer(x, x, x, average_attn_weights=False)
    assert 0.2 < (weights == 0).float().mean().item() < 0.8
    assert (layer.eval()(x, x, x)[1] > 0).all()


ORDERS: list[dict[str, Any]] = [
    {},
    {"batch_first": True, "norm_first": True, "activation": "gelu"},
    {"bias": False, "activation": "relu", "layer_norm_eps": 0.1},
]


@pytest.mark.parametrize("options", ORDERS, ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_encoder_layer(options: dict[str, Any], masked: bool) -> None:
    mine, theirs = twins("TransformerEncoderLayer", E, HEADS, 16, 0.0, **options)
    x = rand(N, L, E) if options.get("batch_first") else rand(L, N, E)
    masks = {
        "src_mask": torch.arange(L) > torch.arange(L).unsqueeze(1),
        "src_key_padding_mask": torch.arange(L) >= torch.tensor([[4], [3], [2]]),
    }
    same(mine, theirs, (x,), **(masks if masked else {}))
    causal = torch.nn.Transformer.generate_square_subsequent_mask(L)
    same(mine, theirs, (x.detach().clone(),), src_mask=causal, is_causal=True)


@pytest.mark.parametrize("options", ORDERS, ids=str)
def test_decoder_layer(options: dict[str, Any]) -> None:
    mine, theirs = twins("TransformerDecoderLayer", E, HEADS, 16, 0.0, **options)
    x, memory = rand(L, N, E), rand(S, N, E)
    if options.get("batch_first"):
        x, memory = rand(N, L, E), rand(N, S, E)
    masks = {
        "tgt_mask": torch.arange(L) > torch.arange(L).unsqueeze(1),
        "memory_mask": torch.rand(L, S) < 0.2,
        "tgt_key_padding_mask": torch.arange(L) >= torch.tensor([[4], [3], [2]]),
        "memory_key_padding_mask": torch.arange(S) >= torch.tensor([[5], [4], [5]]),
    }
    same(mine, theirs, (x, memory))
    same(mine, theirs, (x.detach().clone(), memory.detach().clone()), **masks)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")  # PyTorch's, of a fast path
def test_stacks() -> None:
    for batch_first in (False, True):
        mine, theirs = twins("Transformer", E, HEADS, 2, 2, 16, 0.0, batch_first=batch_first)
        src, tgt = (rand(N, S, E), rand(N, L, E)) if batch_first else (rand(S, N, E), rand(L, N, E))
        causal = torch.nn.Transformer.generate_square_subsequent_mask(L)
        padding = torch.arange(S) >= torch.tensor([[5], [3], [4]])
        same(
            mine, theirs, (src, tgt), tgt_mask=causal, tgt_is_causal=True,
            src_key_padding_mask=padding, memory_key_padding_mask=padding,
        )  # fmt: skip
    assert [m.dropout for m in mine.modules() if isinstance(m, nn.MultiheadAttention)] == [0.0] * 6
    assert nn.Transformer.generate_square_subsequent_mask(L).tolist() == causal.tolist()
    with pytest.raises(ShapeError, match="batch number"):
        mine(dg.randn(2, S, E), dg.randn(3, L, E))
    with pytest.raises(ShapeError, match="d_model"):
        mine(dg.randn(2, S, E + 1), dg.randn(2, L, E))
    with pytest.raises(ArgumentError, match="relu/gelu"):
        nn.TransformerEncoderLayer(E, HEADS, activation="tanh")
    layer = nn.TransformerEncoderLayer(E, HEADS, activation=dg.tanh)
    assert layer.activation is dg.tanh


def test_initial_values() -> None:
    layer = nn.MultiheadAttention(E, HEADS, add_bias_kv=True)
    bound = (6 / (4 * E)) ** 0.5
    assert 0.8 * bound < layer.in_proj_weight.abs().max().item() <= bound
    assert not layer.in_proj_bias.any()
    assert not layer.out_proj.bias.any()
    assert layer.bias_k.any()


def test_in_graphs_of_any_size(tmp_path: Any) -> None:
    """Compiled and exported with the sizes of batch and sequences open."""
    ort = pytest.importorskip("onnxruntime")
    layer = nn.TransformerEncoderLayer(E, HEADS, 16, batch_first=True, norm_first=True).eval()

    def model(x: dg.Tensor, lengths: dg.Tensor) -> dg.Tensor:
        padding = dg.arange(x.shape[1]) >= lengths.unsqueeze(1)
        return layer(x, src_key_padding_mask=padding)

    shapes = {"x": {0: "batch", 1: "time"}, "lengths": {0: "batch"}}
    fast = dg.compile(model, dynamic_shapes=shapes)
    path = tmp_path / "layer.onnx"
    dg.onnx.export(model, (dg.randn(2, 3, E), dg.tensor([3, 1])), path, dynamic_shapes=shapes)
    session = ort.InferenceSession(path)
    for n, length in ((2, 3), (1, 1), (3, 7)):
        x, lengths = dg.randn(n, length, E), dg.arange(1, n + 1).clamp(max=length)
        with dg.no_grad():
            wanted = model(x, lengths).numpy()
            np.testing.assert_allclose(fast(x, lengths).numpy(), wanted, rtol=1e-5, atol=1e-5)
        (got,) = session.run(None, {"x": x.numpy(), "lengths": lengths.numpy()})
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)
    assert len(fast.graphs) == 1
