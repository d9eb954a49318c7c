"""Attention with weights of its own."""

from __future__ import annotations

from typing import Any

from dualgraph_compiler.errors import ArgumentError

from ... import functions as fn
from ..._tensor import Tensor
from .. import functional as F
from .. import init
from ..parameter import Parameter
from .linear import Linear
from .module import Module

__all__ = ["MultiheadAttention"]


class NonDynamicallyQuantizableLinear(Linear):
    """`Linear`, under the name that PyTorch prints it by here."""


class MultiheadAttention(Module):
    """Attention of `num_heads` heads, each on its own projection (Vaswani et al. 2017).

    Shapes: query [L, N, embed_dim], key [S, N, kdim], value [S, N, vdim] ([N, L, ...] with
    `batch_first`; without N if not batched) -> output like the query, and the weights [N, L, S],
    [N, num_heads, L, S] without `average_attn_weights`, or None without `need_weights`.

    Args:
        embed_dim: of query and output; a multiple of `num_heads`.
        dropout: of the attention weights.
        bias: of the projections.
        add_bias_kv: learn one more key and value.
        add_zero_attn: attend to one more key and value of zeros.
        kdim, vdim: of key and value; default `embed_dim`.
        batch_first: put the batch before the sequence.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0:
            raise ArgumentError(
                f"embed_dim and num_heads must be greater than 0, got embed_dim={embed_dim} and "
                f"num_heads={num_heads} instead"
            )
        if embed_dim % num_heads:
            raise ArgumentError(
                f"embed_dim must be divisible by num_heads, got {embed_dim} and {num_heads}"
            )
        self.embed_dim = embed_dim
        self.kdim = kdim if kdim is not None else embed_dim
        self.vdim = vdim if vdim is not None else embed_dim
        self._qkv_same_embed_dim = self.kdim == embed_dim == self.vdim
        self.num_heads = num_heads
        self.dropout = dropout
        self.batch_first = batch_first
        self.head_dim = embed_dim // num_heads

        def parameter(name: str, *sizes: int, wanted: bool = True) -> None:
            made = Parameter(fn.empty(*sizes, device=device, dtype=dtype)) if wanted else None
            self.register_parameter(name, made)

        together = self._qkv_same_embed_dim
        parameter("in_proj_weight", 3 * embed_dim, embed_dim, wanted=together)
        parameter("q_proj_weight", embed_dim, embed_dim, wanted=not together)
        parameter("k_proj_weight", embed_dim, self.kdim, wanted=not together)
        parameter("v_proj_weight", embed_dim, self.vdim, wanted=not together)
        parameter("in_proj_bias", 3 * embed_dim, wanted=bias)
        self.out_proj = NonDynamicallyQuantizableLinear(
            embed_dim, embed_dim, bias=bias, device=device, dtype=dtype
        )
        parameter("bias_k", 1, 1, embed_dim, wanted=add_bias_kv)
        parameter("bias_v", 1, 1, embed_dim, wanted=add_bias_kv)
        self.add_zero_attn = add_zero_attn
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        """Draw new initial values."""
        for weight in (
            self.in_proj_weight,
            self.q_proj_weight,
            self.k_proj_weight,
            self.v_proj_weight,
        ):
            if weight is not None:
                init.xavier_uniform_(weight)
        if self.in_proj_bias is not None:
            init.constant_(self.in_proj_bias, 0.0)
            init.constant_(self.out_proj.bias, 0.0)
        for bias in (self.bias_k, self.bias_v):
            if bias is not None:
                init.xavier_normal_(bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Masks and `is_causal` are as for ``F.multi_head_attention_forward``."""
        swap = self.batch_first and query.ndim == 3
        if swap:  # what is one tensor stays one: it is projected at once then
            swapped = {id(x): x.transpose(0, 1) for x in (query, key, value)}
            query, key, value = (swapped[id(x)] for x in (query, key, value))
        out, weights = F.multi_head_attention_forward(
            query,
            key,
            value,
            self.embed_dim,
            self.num_heads,
            self.in_proj_weight,
            self.in_proj_bias,
            self.bias_k,
            self.bias_v,
            self.add_zero_attn,
            self.dropout,
            self.out_proj.weight,
            self.out_proj.bias,
            training=self.training,
            key_padding_mask=key_padding_mask,
            need_weights=need_weights,
            attn_mask=attn_mask,
            use_separate_proj_weight=not self._qkv_same_embed_dim,
            q_proj_weight=self.q_proj_weight,
            k_proj_weight=self.k_proj_weight,
            v_proj_weight=self.v_proj_weight,
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
        )
        return (out.transpose(0, 1) if swap else out), weights
