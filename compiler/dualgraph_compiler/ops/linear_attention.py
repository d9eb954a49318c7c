"""Sequence operators with a state that is carried from call to call: linear attention, and the
causal convolution that goes before it. Source: ONNX LinearAttention-27, CausalConvWithState-27.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .. import graph as _graph  # which imports ops in turn: for use in functions only
from ..dtypes import float32
from ..errors import OnnxError
from . import f
from .attention import default_scale
from .composite import Silu
from .conv import Conv
from .onnx_rules import Import, from_onnx
from .scan import Scan

_RULES = {"linear": (), "gated": ("decay",), "delta": ("beta",), "gated_delta": ("decay", "beta")}


@dataclass(frozen=True, slots=True)
class _Step:
    """One token: S = decay S + k (beta (v - Sᵀ k))ᵀ, o = scale Sᵀ q, as far as the rule has it.

    Shapes: state [B, K, D, E]; q [B, K, G, D] for G heads of queries that share a state, k
    [B, K, 1, D], v [B, K, 1, E], decay [B, K, 1 or D, 1], beta [B, K or 1, 1, 1] -> o [B, K, G, E].
    """

    has_decay: bool
    has_beta: bool
    scale: float

    def __call__(self, state: Any, q: Any, k: Any, v: Any, *gates: Any) -> tuple[Any, Any]:
        gates_left = list(gates)
        if self.has_decay:
            state = state * f.exp(gates_left.pop(0))
        if self.has_beta:
            v = gates_left.pop(0) * (v - f.matmul(k, state))
        state = state + f.transpose(k) * v
        return state, f.matmul(q, state) * f.like(q, self.scale)


def _per_token(x: Any, *sizes: Any) -> Any:
    """[B, T, features] -> [T, B, *sizes] as float32."""
    batch, length, _ = x.shape
    x = f.reshape(f.cast(x, float32), (batch, length, *sizes))
    return f.permute(x, (1, 0, *range(2, x.ndim)))


@from_onnx("LinearAttention")
def _import_linear_attention(
    ctx: Import, q: Any, k: Any, v: Any, past: Any = None, decay: Any = None, beta: Any = None
) -> Any:
    rule = ctx.attr("update_rule", "gated_delta")
    wanted = _RULES.get(rule)
    given = tuple(n for n, x in (("decay", decay), ("beta", beta)) if x is not None)
    if wanted is None or given != wanted:
        raise OnnxError(f"LinearAttention: the rule {rule!r} takes {wanted}, got {given}")
    heads, kv = ctx.attr("q_num_heads"), ctx.attr("kv_num_heads")
    if not heads or not kv or heads % kv or any(x.ndim != 3 for x in (q, k, v)):
        raise OnnxError(f"LinearAttention: {heads} heads of queries, {kv} of keys, {q.type}")
    batch, length, _ = q.shape
    depth, width = k.shape[2] // kv, v.shape[2] // kv
    slices = [
        _per_token(q, kv, heads // kv, depth),
        _per_token(k, kv, 1, depth),
        _per_token(v, kv, 1, width),
    ]
    if decay is not None:
        slices.append(_per_token(decay, kv, decay.shape[2] // kv, 1))
    if beta is not None:
        slices.append(_per_token(beta, beta.shape[2], 1, 1))
    shape = (batch, kv, depth, width)
    state = f.zeros(slices[0], shape) if past is None else f.cast(past, float32)
    if state.shape != shape:
        raise OnnxError(f"LinearAttention: expected a past state {shape}, got {past.type}")
    scale = ctx.attr("scale", 0.0) or default_scale(ctx, depth)
    step = _Step(decay is not None, beta is not None, scale)
    last, y = _over_time(step, state, slices)
    y = f.reshape(f.permute(y, (1, 0, 2, 3, 4)), (batch, length, heads * width))
    return f.cast(y, q.dtype), f.cast(last, q.dtype if past is None else past.dtype)


def _over_time(step: _Step, state: Any, slices: Sequence[Any]) -> tuple[Any, Any]:
    """The state after all tokens, and what every token gives, stacked."""
    length = slices[0].shape[0]
    if length == 1:  # decoding: nothing to loop over
        state, y = step(state, *(f.select(x, 0, 0) for x in slices))
        return state, f.reshape(y, (1, *y.shape))
    body = _graph.Graph("token")
    own = body.add_input(state.type)
    now = [body.add_input(x.type.with_shape(x.shape[1:])) for x in slices]
    body.set_outputs(list(step(own, *now)))
    last, y = Scan(body, 1, len(slices), length)(state, *slices)
    return last, y


@from_onnx("CausalConvWithState")
def _import_causal_conv(ctx: Import, x: Any, w: Any, bias: Any = None, past: Any = None) -> Any:
    activation = ctx.attr("activation", "none")
    if activation not in ("none", "silu", "swish"):
        raise OnnxError(f"CausalConvWithState: unknown activation {activation!r}")
    kept = w.shape[2] - 1
    if past is None:
        past = f.zeros(x, (*x.shape[:2], kept))
    whole = f.concat([f.cast(past, x.dtype), x], 2)
    operands = (whole, w) if bias is None else (whole, w, bias)
    y = Conv((1,), ((0, 0),), (1,), w.shape[0])(*operands)
    size = whole.shape[2]
    return y if activation == "none" else Silu()(y), f.slice_axis(whole, 2, size - kept, size)


@from_onnx("SwiGLU")
def _import_swiglu(ctx: Import, gate: Any, x: Any) -> Any:
    alpha = ctx.attr("alpha", 1.0)
    return (Silu()(gate) if alpha == 1 else gate * f.sigmoid(gate * f.like(gate, alpha))) * x
