"""U-Net: O. Ronneberger, P. Fischer and T. Brox, "U-Net: Convolutional networks for biomedical
image segmentation" (2015), with padded convolutions and batch norm, as it is built now.
"""

from __future__ import annotations

from itertools import pairwise

import dualgraph as dg
from dualgraph import nn
from dualgraph_models.pretrained import Pretrained


class DoubleConv(nn.Module):
    """Two 3x3 convolutions, each with batch norm. Shapes: [N, in, H, W] -> [N, channels, H, W]."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


class UNet(nn.Module, Pretrained):
    """A class for every pixel, from the pixels around it near and far.

    Shapes: images [N, in_channels, H, W], H and W divisible by 2 to the power of `depth` -> scores
    [N, num_classes, H, W].

    Args:
        in_channels: of the images.
        num_classes: a channel of scores each.
        width: channels at full size; they double with every halving of it.
        depth: how many times the size is halved.
    """

    def __init__(
        self, in_channels: int = 1, num_classes: int = 2, width: int = 64, depth: int = 4
    ) -> None:
        super().__init__()
        sizes = [width * 2**i for i in range(depth + 1)]
        self.first = DoubleConv(in_channels, width)
        self.pool = nn.MaxPool2d(2)
        self.down = nn.ModuleList(DoubleConv(a, b) for a, b in pairwise(sizes))
        pairs = list(pairwise(sizes))[::-1]
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairs)
        self.join = nn.ModuleList(DoubleConv(b, a) for a, b in pairs)
        self.last = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        x = self.first(x)
        passed = []
        for block in self.down:
            passed.append(x)
            x = block(self.pool(x))
        for enlarge, block in zip(self.up, self.join):
            x = block(dg.cat([passed.pop(), enlarge(x)], dim=1))
        return self.last(x)  # type: ignore[no-any-return]


def example_inputs(batch: int = 1, size: int = 128) -> tuple[dg.Tensor]:
    """Random grey images [batch, 1, size, size]."""
    return (dg.randn(batch, 1, size, size),)
