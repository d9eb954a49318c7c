"""A Transformer encoder: A. Vaswani et al., "Attention is all you need" (2017), section 3.

Token and position embeddings, encoder layers, and the mean of what they say as features of a text,
as sentence encoders have it.
"""

from __future__ import annotations

import dualgraph as dg
from dualgraph import nn
from dualgraph_models.pretrained import Pretrained


class Encoder(nn.Module, Pretrained):
    """Features of texts.

    Shapes: tokens int64 [N, T], T up to `context` -> [N, width].

    Args:
        vocabulary: the number of different tokens.
        context: the largest length.
        layers: encoder layers.
        heads: of the attention in each.
        width: features of a token; the layers inside are four times as wide.
        dropout: in each layer, while training.
    """

    def __init__(
        self,
        vocabulary: int = 1000,
        context: int = 512,
        layers: int = 6,
        heads: int = 12,
        width: int = 384,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.norm = nn.LayerNorm(width)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout, activation="gelu", batch_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, tokens: dg.Tensor) -> dg.Tensor:
        positions = dg.arange(tokens.shape[1], device=tokens.device)
        x = self.norm(self.tokens(tokens) + self.positions(positions))
        return self.layers(x).mean(dim=1)  # type: ignore[no-any-return]


def example_inputs(batch: int = 1, length: int = 128) -> tuple[dg.Tensor]:
    """Random tokens [batch, length]."""
    return (dg.randint(0, 1000, (batch, length)),)
