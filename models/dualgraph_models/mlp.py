"""A multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence

import dualgraph as dg
from dualgraph import nn
from dualgraph_models.pretrained import Pretrained


class MLP(nn.Module, Pretrained):
    """Linear layers with an activation between them.

    Shapes: x [N, in_features] -> [N, out_features].

    Args:
        in_features: of the input.
        hidden_features: of each hidden layer.
        out_features: of the output.
        activation: the class of the layer after each hidden one.
        dropout: probability of dropout after each activation; none at 0.
    """

    def __init__(
        self,
        in_features: int = 64,
        hidden_features: Sequence[int] = (128, 128),
        out_features: int = 10,
        activation: type[nn.Module] = nn.ReLU,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for size in hidden_features:
            layers += [nn.Linear(in_features, size), activation()]
            if dropout:
                layers.append(nn.Dropout(dropout))
            in_features = size
        layers.append(nn.Linear(in_features, out_features))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


def example_inputs(batch: int = 2, in_features: int = 64) -> tuple[dg.Tensor]:
    """Random vectors [batch, in_features]."""
    return (dg.randn(batch, in_features),)
