"""Functions whose trace must hold for sizes other than those traced: see test_dynamic_shapes.

A case is a name, a function and the shapes of its operands, in which names are symbolic sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn

CASES: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {}

ROWS, TOKENS, IMAGE = "n 4", "n h 4", "n 3 h w"
EVEN_IMAGE = "n 3 2*h 2*w"


def case(name: str, function: Callable[..., Any], *shapes: str) -> None:
    assert name not in CASES
    CASES[name] = function, shapes


dg.manual_seed(0)
KERNEL, BACK = dg.randn(5, 3, 3, 3), dg.randn(3, 5, 3, 3)
TABLE = dg.randn(1, 40, 4)

# -- reshaping ------------------------------------------------------------------------------------

case("reshape to one", lambda x: x.reshape(-1), ROWS)
case("reshape n, -1", lambda x: x.reshape(x.shape[0], -1), "n 3 h")
case("reshape -1, k", lambda x: x.reshape(-1, x.shape[-1]), "n 3 h")
case("merge", lambda x: x.flatten(0, 1), "n h 3")
case("merge and split", lambda x: x.flatten(0, 1).reshape(x.shape[0], x.shape[1], 3), "n h 3")
case("merge and split, -1", lambda x: x.flatten(0, 1).reshape(x.shape[0], -1, 3), "n h 3")
case("merge and split, -1 first", lambda x: x.flatten(0, 1).reshape(-1, x.shape[1], 3), "n h 3")
case(
    "heads",
    lambda x: x.view(x.shape[0], x.shape[1], 2, 2).transpose(1, 2).reshape(x.shape[0] * 2, -1, 2),
    TOKENS,
)
case("unflatten", lambda x: x.unflatten(0, (x.shape[0], 1)), ROWS)
case("unflatten -1", lambda x: x.flatten(0, 1).unflatten(0, (-1, x.shape[1])), "n h 3")
case("unflatten an even size", lambda x: x.unflatten(0, (2, -1)), "2*n 3")
case("view of halves", lambda x: x.view(x.shape[0] // 2, 2, 3), "2*n 3")
case("numel", lambda x: x.reshape(x.numel() // 4, 4) / x.numel(), ROWS)
case("view_as", lambda x: x.reshape(-1).view_as(x), "n h")
case("transposed", lambda x: x.permute(1, 0).reshape(-1), ROWS)
case("squeeze", lambda x: x.mean(1, keepdim=True).squeeze(1).unsqueeze(0), ROWS)

# -- parts ----------------------------------------------------------------------------------------

SLICES = (
    slice(1, None), slice(None, -1), slice(-3, None), slice(None, 3), slice(2, 5), slice(1, -1),
    slice(None, None, 2), slice(1, None, 3), slice(None, 100), slice(5, 2), slice(-100, -1),
)  # fmt: skip
for _s in SLICES:
    case(f"{_s}", lambda x, s=_s: x[s] * 1, ROWS)
case("slice of half", lambda x: x[: x.shape[0] // 2], ROWS)
case("slice from half", lambda x: x[x.shape[0] // 2 :], ROWS)
case("slice to n - 1", lambda x: x[: x.shape[0] - 1], ROWS)
case("slice to n - 2", lambda x: x[: x.shape[0] - 2], ROWS)
case("slice by another size", lambda x, y: x[: y.shape[0]], ROWS, "m 2")
case("slice from the end by another", lambda x, y: x[-y.shape[0] :], "n+m 4", "m 2")
case("differences", lambda x: x[1:] - x[:-1], "n h")
case("differences of both", lambda x: x[1:, 1:] - x[:-1, :-1], "n h")
case("even and odd", lambda x: x[::2] + x[1::2], "2*n 3")
case(
    "rotary",
    lambda x: dg.cat([-x[..., x.shape[-1] // 2 :], x[..., : x.shape[-1] // 2]], -1) + x,
    "n 2*h",
)
case("first and last", lambda x: x[0] + x[-1] + x[x.shape[0] - 1], ROWS)
case("one in the middle", lambda x: x[x.shape[0] // 2], ROWS)
case("sixth", lambda x: x[5] + x[-6], ROWS)
case("narrow", lambda x: x.narrow(0, 1, x.shape[0] - 1), ROWS)
case("split by sizes", lambda x, y: dg.cat([x, y]).split([x.shape[0], y.shape[0]]), ROWS, "m 4")
case("chunk", lambda x: x.chunk(2)[0] * x.chunk(2)[1], "2*n 3")
case("tensor_split", lambda x: x.tensor_split(3), ROWS)
case("tensor_split at", lambda x: x.tensor_split((1, -2)), ROWS)
case("windows", lambda x: x.unfold(0, 2, 1), ROWS)
case("patches", lambda x: x.unfold(2, 2, 2).unfold(3, 2, 2), EVEN_IMAGE)
case("positions", lambda x: x + TABLE[:, : x.shape[1]], "n h5 4")

# -- joining, repeating, padding ------------------------------------------------------------------

case("cat", lambda x, y: dg.cat([x, y]) * dg.cat([x, y]).shape[0], ROWS, "m 4")
case("cat a token", lambda x: dg.cat([x.new_zeros(x.shape[0], 1, 4), x], 1), TOKENS)
case("stack", lambda x: dg.stack([x, x], 1), ROWS)
case("expand", lambda x: x[:, None].expand(-1, x.shape[0], -1), ROWS)
case("repeat", lambda x: x.repeat(2, x.shape[0]), ROWS)
case("tile", lambda x: dg.tile(x, (2, 3)), ROWS)
case("repeat_interleave", lambda x: x.repeat_interleave(2, 0), ROWS)
case("repeat_interleave n", lambda x: x.repeat_interleave(x.shape[0], 1), ROWS)
case("flip, roll", lambda x: x.flip(0) + x.roll(1, 0) + x.roll(-2, 0), ROWS)
case("roll by half", lambda x: x.roll(x.shape[0] // 2, 0), ROWS)
case("pad", lambda x: F.pad(x, (1, 2)) * F.pad(x, (2, 1), value=1.0), "n h")
case("pad by less", lambda x: F.pad(x, (-1, 0)), "n h")
for _mode in ("reflect", "replicate", "circular"):
    case(f"pad {_mode}", lambda x, mode=_mode: F.pad(x, (1, 1), mode=mode), "n 3 h")
case("pad to 8", lambda x: F.pad(x, (0, 8 - x.shape[1])), "n h")
case(
    "pad to a multiple",
    lambda x: F.pad(x, (0, -x.shape[1] % 4)).reshape(x.shape[0], -1, 4),
    "n h",
)

# -- images ---------------------------------------------------------------------------------------

case("conv", lambda x: F.conv2d(x, KERNEL, padding=1), IMAGE)
case("conv, stride", lambda x: F.conv2d(x, KERNEL, stride=2, padding=1, dilation=2), IMAGE)
case("conv same", lambda x: F.conv2d(x, KERNEL, padding="same") + F.conv2d(x, KERNEL, padding=1), IMAGE)  # fmt: skip  # noqa: E501
case("conv_transpose", lambda x: F.conv_transpose2d(x, BACK, stride=2, padding=1, output_padding=1), IMAGE)  # fmt: skip  # noqa: E501


def unet(x: Any) -> Any:
    down = F.conv2d(x, KERNEL[:3], stride=2, padding=1)
    return x + F.conv_transpose2d(down, BACK[:, :3], stride=2, padding=1, output_padding=1)


case("down and up", unet, EVEN_IMAGE)
case("pool and resize", lambda x: F.interpolate(F.max_pool2d(x, 2), scale_factor=2) + x, EVEN_IMAGE)
case("resize to a skip", lambda x: F.interpolate(F.max_pool2d(x, 2), size=x.shape[2:]) + x, IMAGE)
case("max_pool", lambda x: F.max_pool2d(x, 2, return_indices=True), IMAGE)
case("max_pool ceil", lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True), IMAGE)
case("avg_pool", lambda x: F.avg_pool2d(x, 3, 2, 1), IMAGE)
case("avg_pool ceil", lambda x: F.avg_pool2d(x, 2, ceil_mode=True), IMAGE)
case("adaptive", lambda x: F.adaptive_avg_pool2d(x, 3) * F.adaptive_avg_pool2d(x, 1), IMAGE)
case("adaptive, kept", lambda x: F.adaptive_avg_pool2d(x, (2, None)), IMAGE)
case("interpolate", lambda x: F.interpolate(x, scale_factor=1.5), IMAGE)
case("interpolate to", lambda x: F.interpolate(x, size=(7, 5)), IMAGE)
case("unfold", lambda x: F.unfold(x, 3, padding=1), IMAGE)
case("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2), EVEN_IMAGE)
case("tokens", lambda x: F.conv2d(x, KERNEL, stride=2).flatten(2).transpose(1, 2), IMAGE)


def windows(x: Any) -> Any:
    n, h, w = x.shape
    parts = x.view(n, h // 2, 2, w // 2, 2).permute(0, 1, 3, 2, 4).reshape(-1, 2, 2)
    return parts.view(n, h // 2, w // 2, 2, 2).permute(0, 1, 3, 2, 4).reshape(n, h, w) + x


case("shifted windows", windows, "n 2*h 2*w")

# -- made of sizes --------------------------------------------------------------------------------

case("arange", lambda x: dg.arange(x.shape[0])[:, None] * x, ROWS)
case("arange, from 1", lambda x: dg.arange(1, x.shape[0] + 1), ROWS)
case("arange, step", lambda x: dg.arange(0, x.shape[0], 2, dtype=dg.float32), ROWS)
case("arange, down", lambda x: dg.arange(x.shape[0] - 1, -1, -1), ROWS)
case("linspace", lambda x: dg.linspace(-1, 1, x.shape[0]), ROWS)
case("linspace to n", lambda x: dg.linspace(0, x.shape[0] - 1, 5), ROWS)
case("full", lambda x: dg.full((x.shape[0], 2), x.shape[0]), ROWS)
case("full of a number", lambda x: dg.full((2,), x.shape[0] / 2), ROWS)
case("zeros", lambda x: dg.zeros(x.shape[0], 2 * x.shape[0]) + dg.ones(x.size(0), 1), ROWS)
case("eye", lambda x: dg.eye(x.shape[0]) + dg.eye(x.shape[0], 1), ROWS)
case("triangles", lambda x: dg.ones(x.shape[0], x.shape[0]).tril() @ x.triu(1), ROWS)
case("like", lambda x: dg.zeros_like(x) + dg.full_like(x, 2) + dg.ones_like(x), ROWS)
case("new", lambda x: x.new_zeros(x.shape[0]) + x.new_ones((x.shape[0],)), ROWS)
case("causal", lambda x: dg.arange(x.shape[1])[None] <= dg.arange(x.shape[1])[:, None], "n h")
case("meshgrid", lambda x: dg.meshgrid(*map(dg.arange, x.shape), indexing="ij"), "n h")
case("tensors", lambda x: dg.tensor(x.shape[0]) + dg.tensor([[x.shape[0], 1], [2, 3]]), ROWS)

# -- indexing and order ---------------------------------------------------------------------------


def written(x: Any) -> Any:
    y = x.clone()
    y[1:] = 0
    y[:, x.shape[0] // 2 :] = 1
    y[dg.arange(x.shape[0]), 0] = 5.0
    return y


case("written", written, ROWS)
case("gather", lambda x: x.gather(0, dg.zeros(x.shape[0], 4, dtype=dg.int64)), ROWS)
case(
    "scatter_add",
    lambda x: dg.zeros_like(x).scatter_add(0, dg.arange(x.shape[0])[:, None].expand(-1, 4), x),
    ROWS,
)
case("index_select", lambda x: x.index_select(0, dg.arange(x.shape[0]).flip(0)), ROWS)
case("index", lambda x: x[dg.arange(x.shape[0]), -1], ROWS)
case("where", lambda x: dg.where(dg.arange(x.shape[0])[:, None] < x.shape[0] // 2, x, -x), ROWS)
case("topk", lambda x: x.topk(2, 0), ROWS)
case("topk of all", lambda x: x.topk(x.shape[0], 0), ROWS)
case("topk of half", lambda x: x.topk(x.shape[0] // 2, 0), ROWS)
case("topk of at most", lambda x: x.topk(dg.sym_min(x.shape[0], 2), 0), ROWS)
case("kthvalue", lambda x: x.kthvalue(2, 0), ROWS)
case("median", lambda x: x.median(0), ROWS)
case("sort", lambda x: (x.sort(0), x.argsort(0)), ROWS)
case("cumulative", lambda x: x.cumsum(0) + x.cumprod(0) + (x > 0).cumsum(1), ROWS)
case("one_hot", lambda x: F.one_hot(x.argmax(1), 4), ROWS)

# -- arithmetic -----------------------------------------------------------------------------------

case("broadcast", lambda x, y: x[:, None] + y[None], ROWS, "m 4")
case("broadcast 1", lambda x, y: x + y, "n h", "1 h")
case("matmul", lambda x, y: x @ y.T, ROWS, "m 4")
case("batched", lambda x, w: x @ w, TOKENS, "4 m")
case("bmm", lambda x: dg.bmm(x, x.mT), TOKENS)
case("einsum", lambda x: dg.einsum("bhd,bkd->bhk", x, x), TOKENS)
case("einsum, outer", lambda x, y: dg.einsum("bi,bj->bij", x, y), "n h", "n m")
case("kron", lambda x: dg.kron(x, x), ROWS)
case("cdist", lambda x, y: dg.cdist(x, y), ROWS, "m 4")
case("diagonal", lambda x: (x @ x.T).diagonal() + dg.diag(x[:, 0]).sum(), ROWS)
case("means", lambda x: (x.mean(0), x.mean(), x.var(0), x.std(0, unbiased=False)), ROWS)
case("mean by hand", lambda x: x.sum((2, 3)) / (x.shape[2] * x.shape[3]), IMAGE)
case("masked mean", lambda x: (x * (x > 0)).sum(1) / (x > 0).sum(1), "n h")
case("extremes", lambda x: x.max(0).values + x.amin(0) + x.argmax(), ROWS)
case("softmax", lambda x: x.softmax(0) + x.logsumexp(0), ROWS)
case("size as a number", lambda x: x / x.shape[0] + x.shape[0] - x * x.shape[0] ** 2, ROWS)
case("scaled", lambda x: x * x.shape[0] ** -0.5 + x / x.shape[0] ** 0.5, ROWS)
case("quotients", lambda x: x * (x.shape[0] / 2) + x * (1 / x.shape[0]) - x.shape[0] * 0.5, ROWS)
case("quotient of sizes", lambda x: x * (x.shape[0] / x.shape[1]) + x.shape[0] % 3, "n h")
case("rounded", lambda x: x[: math.ceil(x.shape[0] / 2)] * math.floor(x.shape[0] / 3), ROWS)
case("ceil, written out", lambda x: x[: -(-x.shape[0] // 2)], ROWS)
case("abs, divmod", lambda x: x * abs(x.shape[0] - 5) + divmod(x.shape[0], 3)[1], ROWS)
case("sym_min, sym_max", lambda x: dg.zeros(dg.sym_max(x.shape[0], 3))[: dg.sym_min(x.shape[0], 3)], ROWS)  # fmt: skip  # noqa: E501
case("sym_int", lambda x: x[: dg.sym_int(x.shape[0] * 0.5)] * dg.sym_float(x.shape[0]), ROWS)
case("sym_sqrt", lambda x: x / dg.sym_sqrt(x.shape[0]), ROWS)
case("as operands", lambda x: (x > x.shape[0], x % x.shape[0], x.clamp(min=x.shape[0])), ROWS)
case("as options", lambda x: dg.add(x, x, alpha=x.shape[0]), ROWS)
case("clamped", lambda x: x.clamp(min=x.shape[0] / 2), ROWS)
case("equal shapes", lambda x, y: x + y if x.shape == y.shape else x, ROWS, ROWS)
case("decided by bounds", lambda x: x if x.shape[0] > -1 and x.shape[0] / 2 >= 0 else None, ROWS)


def in_place(x: Any) -> Any:
    y = x * 1
    y /= x.shape[0]
    y += x.shape[0]
    return y


case("in place", in_place, ROWS)

# -- layers and losses ----------------------------------------------------------------------------

case("attention", lambda x: F.scaled_dot_product_attention(x, x, x), "n 2 h 4")
case("attention, causal", lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), "n 2 h 4")  # fmt: skip  # noqa: E501
case("attention, cross", lambda x, y: F.scaled_dot_product_attention(x, y, y), "n 2 h 4", "n 2 m 4")
case("attention, width", lambda x: F.scaled_dot_product_attention(x, x, x), "n 2 3 d")
for _name in ("RNN", "LSTM", "GRU"):
    _deep = getattr(nn, _name)(4, 5, 2, batch_first=True, bidirectional=True)
    _flat = getattr(nn, _name)(4, 5)
    case(_name, lambda x, layer=_deep: layer(x)[0], TOKENS)
    case(f"{_name}, last", lambda x, layer=_flat: layer(x)[0][-1], "h n 4")
_lstm, _cell = nn.LSTM(4, 5), nn.LSTMCell(4, 5)
case("LSTM from zeros", lambda x: _lstm(x, (x.new_zeros(1, x.shape[1], 5),) * 2)[0], "h n 4")
case("LSTMCell", lambda x: _cell(x), ROWS)
_embedding = nn.Embedding(40, 4)
case("Embedding", lambda x: x + _embedding(dg.arange(x.shape[1]) % 40), TOKENS)
case("cross_entropy", lambda x: F.cross_entropy(x, x.argmax(1), label_smoothing=0.1), ROWS)
case("cross_entropy of images", lambda x: F.cross_entropy(x, x.argmax(1)), IMAGE)
case("mse_loss", lambda x: F.mse_loss(x, x * 2) + F.huber_loss(x, -x), ROWS)
case("kl_div", lambda x: F.kl_div(x, x.exp(), reduction="batchmean"), ROWS)
case("binary", lambda x: F.binary_cross_entropy_with_logits(x, x.sigmoid()), ROWS)
_norm2d, _norm1d = nn.BatchNorm2d(3), nn.BatchNorm1d(4, momentum=None)
case("BatchNorm2d", lambda x: _norm2d(x), IMAGE)
case("BatchNorm1d", lambda x: _norm1d(x), ROWS)
case("layer_norm", lambda x: F.layer_norm(x, x.shape[1:]), "n h")
case("group_norm", lambda x: F.group_norm(x, 3), IMAGE)
case("group_norm of channels", lambda x: F.group_norm(x, 2), "n h 3")
case("instance_norm", lambda x: F.instance_norm(x), IMAGE)
case("local_response_norm", lambda x: F.local_response_norm(x, 3), IMAGE)
case("glu", lambda x: F.glu(x), "n h")
case("normalize", lambda x: F.normalize(x, dim=0), ROWS)
