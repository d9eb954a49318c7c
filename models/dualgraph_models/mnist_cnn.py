"""The small convolutional network that many MNIST tutorials begin with."""

from __future__ import annotations

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn
from dualgraph_models.pretrained import Pretrained


class MnistCNN(nn.Module, Pretrained):
    """One convolution and two linear layers.

    Shapes: images [N, 1, 28, 28], 0 to 1 -> scores of the ten digits [N, 10].
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 32, 3)
        self.fc1 = nn.Linear(32 * 26 * 26, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        x = F.relu(self.conv(x))
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)  # type: ignore[no-any-return]


def example_inputs(batch: int = 2) -> tuple[dg.Tensor]:
    """Random images [batch, 1, 28, 28]."""
    return (dg.rand(batch, 1, 28, 28),)
