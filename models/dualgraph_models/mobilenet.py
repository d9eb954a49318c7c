"""MobileNetV2: M. Sandler et al., "MobileNetV2: Inverted residuals and linear bottlenecks" (2018).

Parameters have the names and shapes of torchvision's ``mobilenet_v2``, so its checkpoints load.
"""

from __future__ import annotations

import dualgraph as dg
from dualgraph import nn
from dualgraph_models.pretrained import Pretrained

# Of each stage: expansion, channels at width 1, blocks, stride of the first (table 2).
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """A thin input made wide, filtered channel by channel, and made thin again.

    Shapes: [N, in_channels, H, W] -> [N, channels, H / stride, W / stride].
    """

    def __init__(self, in_channels: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = in_channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(_filtered(in_channels, wide, 1))
        layers += [
            _filtered(wide, wide, 3, stride, groups=wide),
            nn.Conv2d(wide, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        ]
        self.conv = nn.Sequential(*layers)
        self.adds = stride == 1 and in_channels == channels

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        y = self.conv(x)
        return x + y if self.adds else y  # type: ignore[no-any-return]


class MobileNetV2(nn.Module, Pretrained):
    """Inverted residuals, then one wide convolution, the mean over places, and a linear layer.

    Shapes: images [N, 3, H, W] (224 x 224 in the paper, any size from 32 on) -> scores
    [N, num_classes].

    Args:
        num_classes: of the last layer.
        width: factor on the channels of every stage, rounded to a multiple of 8.
        dropout: before the last layer.
    """

    def __init__(self, num_classes: int = 1000, width: float = 1.0, dropout: float = 0.2) -> None:
        super().__init__()
        channels = _rounded(32 * width)
        features: list[nn.Module] = [_filtered(3, channels, 3, 2)]
        for expansion, base, blocks, stride in STAGES:
            wanted = _rounded(base * width)
            for i in range(blocks):
                block = InvertedResidual(channels, wanted, stride if i == 0 else 1, expansion)
                features.append(block)
                channels = wanted
        last = _rounded(1280 * max(1.0, width))
        features.append(_filtered(channels, last, 1))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, num_classes))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out")
        nn.init.normal_(self.classifier[1].weight, std=0.01)
        nn.init.zeros_(self.classifier[1].bias)

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        return self.classifier(self.features(x).mean(dim=(2, 3)))  # type: ignore[no-any-return]


def _filtered(
    in_channels: int, channels: int, kernel_size: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """A convolution that keeps the size but for its stride, batch norm, and min(max(x, 0), 6)."""
    padding = (kernel_size - 1) // 2
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel_size, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU6(inplace=True),
    )


def _rounded(channels: float) -> int:
    """To a multiple of 8 that is not less than nine tenths, as the authors' code does."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def example_inputs(batch: int = 1, size: int = 224) -> tuple[dg.Tensor]:
    """Random images [batch, 3, size, size]."""
    return (dg.randn(batch, 3, size, size),)
