"""GPT-2: A. Radford et al., "Language models are unsupervised multitask learners" (2019).

Options, names and shapes are those of Hugging Face's ``GPT2LMHeadModel``: a folder of a published
GPT-2 (``config.json``, ``model.safetensors``) is read by `GPT2LMHeadModel.from_pretrained`.
"""

from __future__ import annotations

import math

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn
from dualgraph_models.pretrained import Pretrained


class Conv1D(nn.Module):
    """A linear layer whose weight is [in, out]. Shapes: [..., in] -> [..., out]."""

    def __init__(self, out_features: int, in_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(dg.empty(in_features, out_features).normal_(std=0.02))
        self.bias = nn.Parameter(dg.zeros(out_features))

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        return x @ self.weight + self.bias


class Attention(nn.Module):
    """Each token attends to itself and to those before it. Shapes: [N, T, n_embd] -> the same."""

    def __init__(self, n_embd: int, n_head: int, attn_pdrop: float, resid_pdrop: float) -> None:
        super().__init__()
        self.n_head = n_head
        self.attn_pdrop = attn_pdrop
        self.c_attn = Conv1D(3 * n_embd, n_embd)
        self.c_proj = Conv1D(n_embd, n_embd)
        self.resid_dropout = nn.Dropout(resid_pdrop)

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        n, t, width = x.shape
        shape = (n, t, self.n_head, width // self.n_head)
        q, k, v = (y.view(shape).transpose(1, 2) for y in self.c_attn(x).split(width, dim=2))
        dropped = self.attn_pdrop if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropped, is_causal=True)
        return self.resid_dropout(self.c_proj(y.transpose(1, 2).reshape(n, t, width)))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """Two linear layers, wider between them. Shapes: [N, T, n_embd] -> the same."""

    def __init__(self, n_embd: int, n_inner: int, resid_pdrop: float) -> None:
        super().__init__()
        self.c_fc = Conv1D(n_inner, n_embd)
        self.c_proj = Conv1D(n_embd, n_inner)
        self.act = nn.GELU(approximate="tanh")
        self.dropout = nn.Dropout(resid_pdrop)

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        return self.dropout(self.c_proj(self.act(self.c_fc(x))))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and two linear layers, each behind a norm and added to what it reads."""

    def __init__(
        self,
        n_embd: int,
        n_head: int,
        n_inner: int,
        attn_pdrop: float,
        resid_pdrop: float,
        eps: float,
    ) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(n_embd, eps=eps)
        self.attn = Attention(n_embd, n_head, attn_pdrop, resid_pdrop)
        self.ln_2 = nn.LayerNorm(n_embd, eps=eps)
        self.mlp = MLP(n_embd, n_inner, resid_pdrop)

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class GPT2LMHeadModel(nn.Module, Pretrained):
    """Scores of the next token at every position.

    Shapes: tokens int64 [N, T], T up to `n_positions` -> scores [N, T, vocab_size].

    Args:
        vocab_size: the number of different tokens.
        n_positions: the largest length.
        n_embd: features of a token.
        n_layer: blocks.
        n_head: heads of the attention in each.
        n_inner: features inside a block's linear layers; by default four times `n_embd`.
        embd_pdrop: dropout of the embeddings.
        attn_pdrop: dropout of the attention's weights.
        resid_pdrop: dropout of what a block adds.
        layer_norm_epsilon: of every norm.
    """

    model_type = "gpt2"
    prefix = "transformer"
    ignored = (r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)",)  # masks of older checkpoints

    def __init__(
        self,
        vocab_size: int = 50257,
        n_positions: int = 1024,
        n_embd: int = 768,
        n_layer: int = 12,
        n_head: int = 12,
        n_inner: int | None = None,
        embd_pdrop: float = 0.1,
        attn_pdrop: float = 0.1,
        resid_pdrop: float = 0.1,
        layer_norm_epsilon: float = 1e-5,
    ) -> None:
        super().__init__()
        inner = 4 * n_embd if n_inner is None else n_inner
        options = (n_embd, n_head, inner, attn_pdrop, resid_pdrop, layer_norm_epsilon)
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(vocab_size, n_embd),
                "wpe": nn.Embedding(n_positions, n_embd),
                "drop": nn.Dropout(embd_pdrop),
                "h": nn.ModuleList(Block(*options) for _ in range(n_layer)),
                "ln_f": nn.LayerNorm(n_embd, eps=layer_norm_epsilon),
            }
        )
        self.lm_head = nn.Linear(n_embd, vocab_size, bias=False)
        nn.init.normal_(self.transformer.wte.weight, std=0.02)
        nn.init.normal_(self.transformer.wpe.weight, std=0.01)
        for block in self.transformer.h:  # 2 * n_layer branches add up on the way to the last norm
            for layer in (block.attn.c_proj, block.mlp.c_proj):
                nn.init.normal_(layer.weight, std=0.02 / math.sqrt(2 * n_layer))
        self.lm_head.weight = self.transformer.wte.weight

    def forward(self, tokens: dg.Tensor) -> dg.Tensor:
        positions = dg.arange(tokens.shape[1], device=tokens.device)
        x = self.transformer.wte(tokens) + self.transformer.wpe(positions)
        x = self.transformer.drop(x)
        for block in self.transformer.h:
            x = block(x)
        return self.lm_head(self.transformer.ln_f(x))  # type: ignore[no-any-return]


def example_inputs(batch: int = 1, length: int = 64) -> tuple[dg.Tensor]:
    """Random tokens [batch, length]."""
    return (dg.randint(0, 50257, (batch, length)),)
