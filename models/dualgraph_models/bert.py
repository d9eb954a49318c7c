"""BERT: J. Devlin et al., "BERT: Pre-training of deep bidirectional transformers" (2019).

Options, names and shapes are those of Hugging Face's ``BertModel`` and ``BertForMaskedLM``: the
folder of a published BERT (``config.json``, ``model.safetensors``) is read by `from_pretrained`.
"""

from __future__ import annotations

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn
from dualgraph_models.pretrained import Pretrained


def _named(**layers: nn.Module) -> nn.ModuleDict:
    return nn.ModuleDict(layers)


class Embeddings(nn.Module):
    """Words, places and kinds of segment, added and normed. Shapes: int64 [N, T] -> [N, T, H]."""

    def __init__(
        self, vocabulary: int, positions: int, kinds: int, width: int, eps: float, dropout: float
    ) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, width, padding_idx=0)
        self.position_embeddings = nn.Embedding(positions, width)
        self.token_type_embeddings = nn.Embedding(kinds, width)
        self.LayerNorm = nn.LayerNorm(width, eps=eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: dg.Tensor, kinds: dg.Tensor | None) -> dg.Tensor:
        places = dg.arange(tokens.shape[1], device=tokens.device)
        x = self.word_embeddings(tokens) + self.position_embeddings(places)
        if kinds is None:
            x = x + self.token_type_embeddings.weight[0]
        else:
            x = x + self.token_type_embeddings(kinds)
        return self.dropout(self.LayerNorm(x))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """Attention over the whole text and two linear layers, each added to what it reads and normed.

    Shapes: [N, T, H], and which tokens may be seen, bool [N, 1, 1, T] -> [N, T, H].
    """

    def __init__(
        self, width: int, heads: int, inner: int, eps: float, dropout: float, attention: float
    ) -> None:
        super().__init__()
        self.heads = heads
        self.attention_dropout = attention
        linear = nn.Linear
        self.attention = _named(
            self=_named(
                query=linear(width, width), key=linear(width, width), value=linear(width, width)
            ),
            output=_named(dense=linear(width, width), LayerNorm=nn.LayerNorm(width, eps=eps)),
        )
        self.intermediate = _named(dense=linear(width, inner))
        self.output = _named(dense=linear(inner, width), LayerNorm=nn.LayerNorm(width, eps=eps))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: dg.Tensor, seen: dg.Tensor | None) -> dg.Tensor:
        n, t, width = x.shape
        shape = (n, t, self.heads, width // self.heads)
        inside = self.attention["self"]
        q, k, v = (
            inside[name](x).view(shape).transpose(1, 2) for name in ("query", "key", "value")
        )
        dropped = self.attention_dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=dropped)
        y = y.transpose(1, 2).reshape(n, t, width)
        out = self.attention["output"]
        x = out["LayerNorm"](self.dropout(out["dense"](y)) + x)
        y = self.output["dense"](F.gelu(self.intermediate["dense"](x)))
        return self.output["LayerNorm"](self.dropout(y) + x)  # type: ignore[no-any-return]


class BertModel(nn.Module, Pretrained):
    """Features of every token, and of the whole text.

    Shapes: tokens int64 [N, T], T up to `max_position_embeddings`, -> [N, T, hidden_size], and
    [N, hidden_size] from the first token. `attention_mask` [N, T] is 0 for tokens that are none;
    `token_type_ids` int64 [N, T] tell the second segment from the first.

    Args:
        vocab_size: the number of different tokens.
        hidden_size: features of a token.
        num_hidden_layers: layers.
        num_attention_heads: of the attention in each.
        intermediate_size: features inside a layer's linear layers.
        hidden_dropout_prob: of embeddings and of what a layer adds.
        attention_probs_dropout_prob: of the attention's weights.
        max_position_embeddings: the largest length.
        type_vocab_size: how many kinds of segment.
        layer_norm_eps: of every norm.
    """

    model_type = "bert"
    prefix = "bert"
    ignored = (r"(bert\.)?embeddings\.position_ids", r"cls\.seq_relationship\..*")
    renamed = ((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias"))

    def __init__(
        self,
        vocab_size: int = 30522,
        hidden_size: int = 768,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        intermediate_size: int = 3072,
        hidden_dropout_prob: float = 0.1,
        attention_probs_dropout_prob: float = 0.1,
        max_position_embeddings: int = 512,
        type_vocab_size: int = 2,
        layer_norm_eps: float = 1e-12,
        *,
        pooler: bool = True,
    ) -> None:
        super().__init__()
        width, eps, dropout = hidden_size, layer_norm_eps, hidden_dropout_prob
        self.embeddings = Embeddings(
            vocab_size, max_position_embeddings, type_vocab_size, width, eps, dropout
        )
        layers = (
            Layer(
                width,
                num_attention_heads,
                intermediate_size,
                eps,
                dropout,
                attention_probs_dropout_prob,
            )
            for _ in range(num_hidden_layers)
        )
        self.encoder = _named(layer=nn.ModuleList(layers))
        self.pooler = _named(dense=nn.Linear(width, width)) if pooler else None
        self.apply(_initialize)

    def forward(
        self,
        tokens: dg.Tensor,
        attention_mask: dg.Tensor | None = None,
        token_type_ids: dg.Tensor | None = None,
    ) -> tuple[dg.Tensor, dg.Tensor | None]:
        seen = None if attention_mask is None else attention_mask.bool()[:, None, None, :]
        x = self.embeddings(tokens, token_type_ids)
        for layer in self.encoder["layer"]:
            x = layer(x, seen)
        return x, None if self.pooler is None else self.pooler["dense"](x[:, 0]).tanh()


class BertForMaskedLM(nn.Module, Pretrained):
    """Scores of the words that might stand in each place.

    Shapes: tokens int64 [N, T] -> [N, T, vocab_size]; the other inputs, and the options, are those
    of `BertModel`.
    """

    model_type = "bert"
    prefix = "bert"
    ignored = (*BertModel.ignored, r"bert\.pooler\..*")
    renamed = BertModel.renamed

    def __init__(
        self,
        vocab_size: int = 30522,
        hidden_size: int = 768,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        intermediate_size: int = 3072,
        hidden_dropout_prob: float = 0.1,
        attention_probs_dropout_prob: float = 0.1,
        max_position_embeddings: int = 512,
        type_vocab_size: int = 2,
        layer_norm_eps: float = 1e-12,
    ) -> None:
        super().__init__()
        self.bert = BertModel(
            vocab_size,
            hidden_size,
            num_hidden_layers,
            num_attention_heads,
            intermediate_size,
            hidden_dropout_prob,
            attention_probs_dropout_prob,
            max_position_embeddings,
            type_vocab_size,
            layer_norm_eps,
            pooler=False,
        )
        self.cls = _named(predictions=Predictions(vocab_size, hidden_size, layer_norm_eps))
        self.cls.apply(_initialize)
        self.cls["predictions"].decoder.weight = self.bert.embeddings.word_embeddings.weight

    def forward(
        self,
        tokens: dg.Tensor,
        attention_mask: dg.Tensor | None = None,
        token_type_ids: dg.Tensor | None = None,
    ) -> dg.Tensor:
        x, _ = self.bert(tokens, attention_mask, token_type_ids)
        return self.cls["predictions"](x)  # type: ignore[no-any-return]


class Predictions(nn.Module):
    """From features to scores of words, by the matrix of the embedding. [..., H] -> [..., words]"""

    def __init__(self, vocabulary: int, width: int, eps: float) -> None:
        super().__init__()
        self.bias = nn.Parameter(dg.zeros(vocabulary))
        self.transform = _named(
            dense=nn.Linear(width, width), LayerNorm=nn.LayerNorm(width, eps=eps)
        )
        self.decoder = nn.Linear(width, vocabulary)
        self.decoder.bias = self.bias

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        x = self.transform["LayerNorm"](F.gelu(self.transform["dense"](x)))
        return self.decoder(x)  # type: ignore[no-any-return]


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        with dg.no_grad():
            module.weight[module.padding_idx].zero_()


def example_inputs(batch: int = 1, length: int = 64) -> tuple[dg.Tensor]:
    """Random tokens [batch, length]."""
    return (dg.randint(0, 30522, (batch, length)),)
