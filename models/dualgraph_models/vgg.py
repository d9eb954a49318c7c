"""VGG: K. Simonyan and A. Zisserman, "Very deep convolutional networks for large-scale image
recognition" (2015).

Parameters have the names and shapes of torchvision's ``vgg11`` to ``vgg19_bn``, so their
checkpoints load.
"""

from __future__ import annotations

from collections.abc import Sequence

import dualgraph as dg
from dualgraph import nn
from dualgraph_models.pretrained import Pretrained

# 3x3 convolutions in each of the five stages (table 1, columns A, B, D, E).
STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class VGG(nn.Module, Pretrained):
    """Stages of 3x3 convolutions, each halved by a maximum, then three linear layers.

    Shapes: images [N, 3, H, W] (224 x 224 in the paper, any size from 32 on) -> scores
    [N, num_classes].

    Args:
        stages: how many convolutions in each of the five.
        batch_norm: whether each is followed by one, as in later work.
        num_classes: of the last layer.
        width: channels of the first stage; they double up to eight times as many.
        hidden: features between the linear layers.
        dropout: after each of them but the last.
    """

    def __init__(
        self,
        stages: Sequence[int] = STAGES[16],
        batch_norm: bool = False,
        num_classes: int = 1000,
        width: int = 64,
        hidden: int = 4096,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for count, factor in zip(stages, (1, 2, 4, 8, 8), strict=True):
            for _ in range(count):
                layers.append(nn.Conv2d(channels, factor * width, 3, padding=1))
                channels = factor * width
                if batch_norm:
                    layers.append(nn.BatchNorm2d(channels))
                layers.append(nn.ReLU(inplace=True))
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(channels * 7 * 7, hidden),
            nn.ReLU(True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(True),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(m.bias)  # type: ignore[arg-type]
            elif isinstance(m, nn.Linear):
                nn.init.normal_(m.weight, 0, 0.01)
                nn.init.zeros_(m.bias)

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        x = self.avgpool(self.features(x))
        return self.classifier(x.flatten(1))  # type: ignore[no-any-return]


def vgg11(num_classes: int = 1000, batch_norm: bool = False) -> VGG:
    """VGG with 11 layers: 132.9 million parameters with 1,000 classes."""
    return VGG(STAGES[11], batch_norm, num_classes)


def vgg16(num_classes: int = 1000, batch_norm: bool = False) -> VGG:
    """VGG with 16 layers: 138.4 million parameters with 1,000 classes."""
    return VGG(STAGES[16], batch_norm, num_classes)


def example_inputs(batch: int = 1, size: int = 224) -> tuple[dg.Tensor]:
    """Random images [batch, 3, size, size]."""
    return (dg.randn(batch, 3, size, size),)
