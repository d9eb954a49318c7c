"""ViT: A. Dosovitskiy et al., "An image is worth 16x16 words" (2021).

Parameters have the names and shapes of torchvision's ``vit_b_16`` and its relatives, so their
checkpoints load.
"""

from __future__ import annotations

from collections import OrderedDict

import dualgraph as dg
from dualgraph import nn
from dualgraph_models.pretrained import Pretrained


class EncoderBlock(nn.Module):
    """Attention and two linear layers, each behind a norm and added to what it reads.

    Shapes: [N, T, width] -> the same.
    """

    def __init__(self, width: int, heads: int, mlp: int, dropout: float) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=1e-6)
        self.self_attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.ln_2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(width, mlp),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(mlp, width),
            nn.Dropout(dropout),
        )
        for layer in (self.mlp[0], self.mlp[3]):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(layer.bias, std=1e-6)

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        y = self.ln_1(x)
        y, _ = self.self_attention(y, y, y, need_weights=False)
        x = x + self.dropout(y)
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Learned positions, blocks, and a norm. Shapes: [N, T, width] -> the same."""

    def __init__(
        self, length: int, layers: int, width: int, heads: int, mlp: int, dropout: float
    ) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(dg.empty(1, length, width).normal_(std=0.02))
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential(
            OrderedDict(
                (f"encoder_layer_{i}", EncoderBlock(width, heads, mlp, dropout))
                for i in range(layers)
            )
        )
        self.ln = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        return self.ln(self.layers(self.dropout(x + self.pos_embedding)))  # type: ignore[no-any-return]


class VisionTransformer(nn.Module, Pretrained):
    """A Transformer encoder over the patches of an image; a token of its own gives the class.

    Shapes: images [N, 3, image_size, image_size] -> scores [N, num_classes].

    Args:
        image_size: height and width of images.
        patch_size: height and width of a patch, which divide it.
        num_layers: encoder blocks.
        num_heads: of the attention in each.
        hidden_dim: features of a patch.
        mlp_dim: features inside the two linear layers.
        dropout: in the encoder, while training.
        num_classes: of the last layer.
    """

    def __init__(
        self,
        image_size: int = 224,
        patch_size: int = 16,
        num_layers: int = 12,
        num_heads: int = 12,
        hidden_dim: int = 768,
        mlp_dim: int = 3072,
        dropout: float = 0.0,
        num_classes: int = 1000,
    ) -> None:
        super().__init__()
        self.conv_proj = nn.Conv2d(3, hidden_dim, patch_size, patch_size)
        self.class_token = nn.Parameter(dg.zeros(1, 1, hidden_dim))
        length = (image_size // patch_size) ** 2 + 1
        self.encoder = Encoder(length, num_layers, hidden_dim, num_heads, mlp_dim, dropout)
        self.heads = nn.Sequential(OrderedDict(head=nn.Linear(hidden_dim, num_classes)))
        fan_in = 3 * patch_size * patch_size
        nn.init.trunc_normal_(self.conv_proj.weight, std=fan_in**-0.5)
        nn.init.zeros_(self.conv_proj.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.heads.head.weight)
        nn.init.zeros_(self.heads.head.bias)

    def forward(self, images: dg.Tensor) -> dg.Tensor:
        patches = self.conv_proj(images).flatten(2).transpose(1, 2)
        first = self.class_token.expand(images.shape[0], -1, -1)
        x = self.encoder(dg.cat([first, patches], dim=1))
        return self.heads(x[:, 0])  # type: ignore[no-any-return]


def vit_b_16(num_classes: int = 1000) -> VisionTransformer:
    """ViT-B/16: 86.6 million parameters with 1,000 classes."""
    return VisionTransformer(num_classes=num_classes)


def example_inputs(batch: int = 1, size: int = 224) -> tuple[dg.Tensor]:
    """Random images [batch, 3, size, size]."""
    return (dg.randn(batch, 3, size, size),)
