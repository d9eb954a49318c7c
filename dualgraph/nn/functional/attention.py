"""Attention of several heads at once, as a function of its weights."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.dtypes import bool_
from dualgraph_compiler.errors import ArgumentError, DTypeError, ShapeError
from dualgraph_compiler.ops.base import shape_text

from ... import functions as fn
from .activation import softmax
from .distance import scaled_dot_product_attention
from .dropout import dropout
from .linear import linear
from .padding import pad

if TYPE_CHECKING:
    from ..._tensor import Tensor


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Multi-head attention (Vaswani et al. 2017); ``nn.MultiheadAttention`` holds the weights.

    Args:
        query: [L, N, E] or [L, E]. key: [S, N, K]. value: [S, N, V].
        embed_dim_to_check: E. num_heads: h, which divides E.
        in_proj_weight: [3 E, E], of query, key and value; or, if `use_separate_proj_weight`, three
            of their own: `q_proj_weight` [E, E], `k_proj_weight` [E, K], `v_proj_weight` [E, V].
        in_proj_bias: [3 E].
        bias_k, bias_v: one more key and value [1, 1, E].
        add_zero_attn: one more key and value of zeros.
        dropout_p: of the attention weights, in training.
        key_padding_mask: [N, S]: True at keys to leave out, or numbers added to the scores.
        need_weights: return the attention weights, too.
        attn_mask: [L, S] or [N h, L, S]: True where not to attend, or numbers added.
        static_k, static_v: [N h, S, E / h], in place of key and value.
        average_attn_weights: over the heads.
        is_causal: promises that `attn_mask` is the causal mask, which need not be read then.

    Returns:
        [L, N, E], and the weights [N, L, S] ([N, h, L, S] if not averaged) or None.

    Raises:
        ShapeError: operands that do not fit.
    """
    batched = _check_ranks(query, key, value, key_padding_mask, attn_mask)
    if not batched:
        query, key, value = (x.unsqueeze(1) for x in (query, key, value))
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    length, n, width = query.shape
    if width != embed_dim_to_check or width % num_heads:
        raise ShapeError(
            f"multi_head_attention_forward: expected {embed_dim_to_check} features, which "
            f"{num_heads} heads divide among them, got a query {shape_text(tuple(query.shape))}"
        )
    if is_causal and attn_mask is None:
        raise ArgumentError(
            "Need attn_mask if specifying the is_causal hint. You may use the Transformer module "
            "method `generate_square_subsequent_mask` to create this mask."
        )
    is_causal = is_causal and key_padding_mask is None and not need_weights
    masks = _Masks(n, num_heads, None if is_causal else attn_mask, key_padding_mask, query.dtype)
    masks.check(length, key.shape[0] if static_k is None else static_k.shape[1])

    separate = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else None
    q, k, v = _projected((query, key, value), in_proj_weight, in_proj_bias, separate)
    if bias_k is not None and bias_v is not None:
        k, v = fn.cat([k, bias_k.repeat(1, n, 1)]), fn.cat([v, bias_v.repeat(1, n, 1)])
        masks.widen()

    def heads(x: Tensor, static: Tensor | None = None) -> Tensor:  # [N, h, L, E / h]
        if static is not None:
            return static.reshape(n, num_heads, *static.shape[1:])
        return x.reshape(x.shape[0], n, num_heads, width // num_heads).permute(1, 2, 0, 3)

    q, k, v = heads(q), heads(k, static_k), heads(v, static_v)
    if add_zero_attn:
        k, v = (fn.cat([x, fn.zeros_like(x[:, :, :1])], 2) for x in (k, v))
        masks.widen()
    p = dropout_p if training else 0.0
    weights: Tensor | None = None
    if need_weights:
        scores = (q * math.sqrt(1.0 / (width // num_heads))) @ k.transpose(-2, -1)
        mask = masks.merged()
        weights = softmax(scores if mask is None else scores + mask, -1)
        weights = dropout(weights, p) if p else weights
        out = weights @ v
        weights = weights.mean(1) if average_attn_weights else weights
    else:
        out = scaled_dot_product_attention(q, k, v, masks.merged(), p, is_causal)
    out = out.permute(2, 0, 1, 3).reshape(length, n, width)
    out = linear(out, out_proj_weight, out_proj_bias)
    if batched:
        return out, weights
    return out.squeeze(1), None if weights is None else weights.squeeze(0)


def _check_ranks(
    query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None, mask: Tensor | None
) -> bool:
    """Whether there is a batch axis; raises unless all operands say the same."""
    rank = query.ndim
    if rank not in (2, 3) or key.ndim != rank or value.ndim != rank:
        got = ", ".join(shape_text(tuple(x.shape)) for x in (query, key, value))
        raise ShapeError(
            "multi_head_attention_forward: expected query, key and value of three dimensions, or "
            f"of two without a batch, got {got}"
        )
    if key.shape[:-1] != value.shape[:-1]:
        raise ShapeError(
            "multi_head_attention_forward: expected as many keys as values, got "
            f"{shape_text(tuple(key.shape))} and {shape_text(tuple(value.shape))}"
        )
    if padding is not None and padding.ndim != rank - 1:
        raise ShapeError(
            f"multi_head_attention_forward: expected a key_padding_mask of {rank - 1} dimensions "
            f"for a query of {rank}, got {shape_text(tuple(padding.shape))}"
        )
    if mask is not None and mask.ndim not in (2, 3):
        raise ShapeError(
            "multi_head_attention_forward: expected an attn_mask of two or three dimensions, got "
            f"{shape_text(tuple(mask.shape))}"
        )
    return rank == 3


def _projected(
    inputs: tuple[Tensor, Tensor, Tensor],
    weight: Tensor | None,
    bias: Tensor | None,
    separate: Sequence[Any] | None,
) -> Sequence[Any]:
    """Query, key and value as the heads see them, [L, N, E] each."""
    query, key, value = inputs
    if separate is None and query is key and key is value:
        assert weight is not None
        return linear(query, weight, bias).chunk(3, -1)
    if separate is None:
        assert weight is not None
        separate = weight.chunk(3)
    biases = (None,) * 3 if bias is None else bias.chunk(3)
    return [linear(x, w, b) for x, w, b in zip(inputs, separate, biases, strict=True)]


class _Masks:
    """What is added to the scores: a mask of pairs, and one of keys."""

    def __init__(
        self, n: Any, heads: int, pairs: Tensor | None, keys: Tensor | None, dtype: Any
    ) -> None:
        self.n = n
        self.heads = heads
        if pairs is not None and keys is not None and pairs.dtype is not keys.dtype:
            warnings.warn(
                "Support for mismatched key_padding_mask and attn_mask is deprecated. Use same "
                "type for both instead.",
                stacklevel=3,
            )
        self.pairs = _additive("attn_mask", pairs, dtype)
        self.keys = _additive("key_padding_mask", keys, dtype)

    def check(self, length: Any, source: Any) -> None:
        """Raise unless the masks are for so many queries and keys."""
        if self.pairs is not None:
            several = (self.n * self.heads,) if self.pairs.ndim == 3 else ()
            self._require("attn_mask", self.pairs, (*several, length, source))
        if self.keys is not None:
            self._require("key_padding_mask", self.keys, (self.n, source))

    def _require(self, name: str, mask: Tensor, wanted: tuple[Any, ...]) -> None:
        if tuple(mask.shape) != wanted:
            raise ShapeError(
                f"The shape of the {mask.ndim}D {name} is {shape_text(tuple(mask.shape))}, but "
                f"should be {shape_text(wanted)}."
            )

    def widen(self) -> None:
        """One more key, which every query attends to."""
        self.pairs = None if self.pairs is None else pad(self.pairs, (0, 1))
        self.keys = None if self.keys is None else pad(self.keys, (0, 1))

    def merged(self) -> Tensor | None:
        """Both as one, which broadcasts against [N, h, L, S]."""
        pairs, keys = self.pairs, self.keys
        if pairs is not None and pairs.ndim == 3:
            pairs = pairs.reshape(self.n, self.heads, *pairs.shape[1:])
        if keys is not None:
            keys = keys.unsqueeze(1).unsqueeze(1)
        if pairs is None or keys is None:
            return keys if pairs is None else pairs
        return pairs + keys


def _additive(name: str, mask: Tensor | None, dtype: Any) -> Tensor | None:
    """A mask as numbers to add: -inf where a bool one is True."""
    if mask is None or mask.is_floating_point():
        return mask
    if mask.dtype is not bool_:
        raise DTypeError(f"only bool and floating types of {name} are supported")
    return fn.zeros(tuple(mask.shape), dtype=dtype, device=mask.device).masked_fill(mask, -math.inf)
