"""ResNets: K. He et al., "Deep residual learning for image recognition" (2016).

Parameters have the names and shapes of torchvision's ``resnet18`` to ``resnet152``, so their
checkpoints load. A training step can be compiled whole: batch norm's running statistics are state
that it reads and writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn, optim
from dualgraph_models.datasets import digits_split
from dualgraph_models.digits_cnn import random_shift
from dualgraph_models.pretrained import Pretrained
from dualgraph_models.running import options, progress


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut.

    Shapes: [N, in_channels, H, W] -> [N, channels, H / stride, W / stride].
    """

    expansion = 1

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


class Bottleneck(nn.Module):
    """A 3x3 convolution on few channels, between two 1x1 ones, around a shortcut.

    The 3x3 convolution has the stride, as in torchvision ("ResNet V1.5").
    Shapes: [N, in_channels, H, W] -> [N, 4 * channels, H / stride, W / stride].
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        out = self.expansion * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)  # type: ignore[no-any-return]


class ResNet(nn.Module, Pretrained):
    """A residual network.

    Shapes: images [N, 3, H, W] (224 x 224 in the paper, any size from 32 on) -> scores
    [N, num_classes].

    Args:
        blocks: how many in each of the four stages.
        num_classes: of the last layer.
        width: channels of the first stage; each further one has twice as many.
        bottleneck: whether blocks are bottlenecks, with four times as many channels, and not basic.
    """

    def __init__(
        self,
        blocks: Sequence[int] = (2, 2, 2, 2),
        num_classes: int = 1000,
        width: int = 64,
        bottleneck: bool = False,
    ) -> None:
        super().__init__()
        kind = Bottleneck if bottleneck else BasicBlock
        self.conv1 = nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        last = kind.expansion * width
        self.layer1 = _stage(kind, width, width, blocks[0], 1)
        self.layer2 = _stage(kind, last, 2 * width, blocks[1], 2)
        self.layer3 = _stage(kind, 2 * last, 4 * width, blocks[2], 2)
        self.layer4 = _stage(kind, 4 * last, 8 * width, blocks[3], 2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(8 * last, num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))  # type: ignore[no-any-return]


def _stage(
    kind: type[BasicBlock] | type[Bottleneck],
    in_channels: int,
    channels: int,
    blocks: int,
    stride: int,
) -> nn.Sequential:
    first = kind(in_channels, channels, stride)
    inner = kind.expansion * channels
    return nn.Sequential(first, *(kind(inner, channels) for _ in range(blocks - 1)))


def resnet18(num_classes: int = 1000) -> ResNet:
    """ResNet-18: 11.7 million parameters with 1,000 classes."""
    return ResNet((2, 2, 2, 2), num_classes)


def resnet50(num_classes: int = 1000) -> ResNet:
    """ResNet-50: 25.6 million parameters with 1,000 classes."""
    return ResNet((3, 4, 6, 3), num_classes, bottleneck=True)


def training_step(
    model: nn.Module, optimizer: optim.Optimizer, schedule: Any = None
) -> Callable[[dg.Tensor, dg.Tensor], dg.Tensor]:
    """A function of (images, labels) that trains on them, and returns the loss before.

    With a learning rate `schedule`, it is stepped, too.
    """

    def step(images: dg.Tensor, labels: dg.Tensor) -> dg.Tensor:
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


class Enlarge(nn.Module):
    """Grey images [N, 1, H, W] -> [N, 3, 4 H, 4 W], every pixel a square of its colour."""

    def forward(self, images: dg.Tensor) -> dg.Tensor:
        return F.interpolate(images, scale_factor=4.0, mode="nearest").expand(-1, 3, -1, -1)


def batches(
    images: Any, labels: Any, size: int, count: int, seed: int = 0
) -> Iterator[tuple[dg.Tensor, dg.Tensor]]:
    """`count` batches of `size`, drawn at random from arrays, each image moved by a pixel or so."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        at = rng.integers(len(images), size=size)
        yield random_shift(dg.tensor(images[at])), dg.tensor(labels[at])


def example_inputs(batch: int = 1, size: int = 224) -> tuple[dg.Tensor]:
    """Random images [batch, 3, size, size]."""
    return (dg.randn(batch, 3, size, size),)


def main() -> None:
    """Train a narrow ResNet-18 on handwritten digits, enlarged to 32 x 32."""
    args = options("resnet", __doc__, steps=300, batch=32)
    split = digits_split()
    model = ResNet(num_classes=10, width=8)
    network = nn.Sequential(Enlarge(), model)
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=args.steps + 1)
    step: Any = training_step(network, optimizer, schedule)
    if not args.eager:
        step = dg.compile(step)
    losses = []
    began = time.perf_counter()
    with progress(args.steps) as report:
        for images, labels in batches(
            split.train_images, split.train_labels, args.batch, args.steps, args.seed
        ):
            losses.append(step(images, labels).item())
            report(losses[-1])
    seconds = time.perf_counter() - began
    network.eval()
    with dg.no_grad():
        found = network(dg.tensor(split.test_images)).argmax(1).numpy()
    right = float((found == split.test_labels).mean())
    print(f"{args.steps} steps in {seconds:.0f} s, loss {losses[0]:.2f} -> {losses[-1]:.2f}")
    print(f"{right:.1%} of {len(found)} digits by other writers recognised")


if __name__ == "__main__":
    main()
