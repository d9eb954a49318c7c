"""ResNet-18: K. He et al., "Deep residual learning for image recognition" (2016).

Parameters have the names and shapes of torchvision's ``resnet18``, so its checkpoints load.
"""

from __future__ import annotations

from collections.abc import Sequence

import dualgraph as dg
from dualgraph import nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut.

    Shapes: [N, in_channels, H, W] -> [N, channels, H / stride, W / stride].
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False),
                nn.BatchNorm2d(channels),
            )

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)  # type: ignore[no-any-return]


class ResNet(nn.Module):
    """A residual network of basic blocks.

    Shapes: images [N, 3, H, W] (224 x 224 in the paper, any size from 32 on) -> scores
    [N, num_classes].

    Args:
        blocks: how many in each of the four stages.
        num_classes: of the last layer.
        width: channels of the first stage; each further one has twice as many.
    """

    def __init__(
        self, blocks: Sequence[int] = (2, 2, 2, 2), num_classes: int = 1000, width: int = 64
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = _stage(width, width, blocks[0], 1)
        self.layer2 = _stage(width, 2 * width, blocks[1], 2)
        self.layer3 = _stage(2 * width, 4 * width, blocks[2], 2)
        self.layer4 = _stage(4 * width, 8 * width, blocks[3], 2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(8 * width, num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))  # type: ignore[no-any-return]


def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels) for _ in range(blocks - 1)))


def resnet18(num_classes: int = 1000) -> ResNet:
    """ResNet-18: 11.7 million parameters with 1,000 classes."""
    return ResNet((2, 2, 2, 2), num_classes)


def example_inputs(batch: int = 1, size: int = 224) -> tuple[dg.Tensor]:
    """Random images [batch, 3, size, size]."""
    return (dg.randn(batch, 3, size, size),)
