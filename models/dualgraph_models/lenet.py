"""LeNet-5: Y. LeCun et al., "Gradient-based learning applied to document recognition" (1998).

With rectifiers and maxima instead of the paper's tanh and trainable averages, as it is taught now.
"""

from __future__ import annotations

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn
from dualgraph_models.pretrained import Pretrained


class LeNet(nn.Module, Pretrained):
    """Two convolutions with pooling, three linear layers.

    Shapes: images [N, 1, 28, 28] -> scores [N, num_classes].
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc3(F.relu(self.fc2(x)))  # type: ignore[no-any-return]


def example_inputs(batch: int = 2) -> tuple[dg.Tensor]:
    """Random images [batch, 1, 28, 28]."""
    return (dg.rand(batch, 1, 28, 28),)
