"""DCGAN: A. Radford, L. Metz and S. Chintala, "Unsupervised representation learning with deep
convolutional generative adversarial networks" (2016).

Layers and names are those of PyTorch's DCGAN tutorial, whose checkpoints load.
"""

from __future__ import annotations

import dualgraph as dg
from dualgraph import nn
from dualgraph_models.pretrained import Pretrained


class Generator(nn.Module, Pretrained):
    """Images of noise.

    Shapes: noise [N, latent, 1, 1] -> images [N, channels, S, S], -1 to 1, S = 4 * 2**doublings.

    Args:
        latent: features of the noise.
        width: channels of the largest features; each smaller size has twice as many.
        channels: of the images.
        doublings: of the size, from 4 x 4; 4 in the paper.
    """

    def __init__(
        self, latent: int = 100, width: int = 64, channels: int = 3, doublings: int = 4
    ) -> None:
        super().__init__()
        size = width * 2 ** (doublings - 1)
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(latent, size, 4, 1, 0, bias=False),
            nn.BatchNorm2d(size),
            nn.ReLU(True),
        ]
        for _ in range(doublings - 1):
            layers += [
                nn.ConvTranspose2d(size, size // 2, 4, 2, 1, bias=False),
                nn.BatchNorm2d(size // 2),
                nn.ReLU(True),
            ]
            size //= 2
        layers += [nn.ConvTranspose2d(size, channels, 4, 2, 1, bias=False), nn.Tanh()]
        self.main = nn.Sequential(*layers)
        self.apply(_initialize)

    def forward(self, noise: dg.Tensor) -> dg.Tensor:
        return self.main(noise)  # type: ignore[no-any-return]


class Discriminator(nn.Module, Pretrained):
    """The probability that an image is no generator's work.

    Shapes: images [N, channels, S, S] -> [N, 1, 1, 1], 0 to 1, S = 4 * 2**doublings.

    Args:
        width: channels of the largest features; each smaller size has twice as many.
        channels: of the images.
        doublings: as often the size is halved, down to 4 x 4.
    """

    def __init__(self, width: int = 64, channels: int = 3, doublings: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(channels, width, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        for _ in range(doublings - 1):
            layers += [
                nn.Conv2d(width, width * 2, 4, 2, 1, bias=False),
                nn.BatchNorm2d(width * 2),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            width *= 2
        layers += [nn.Conv2d(width, 1, 4, 1, 0, bias=False), nn.Sigmoid()]
        self.main = nn.Sequential(*layers)
        self.apply(_initialize)

    def forward(self, images: dg.Tensor) -> dg.Tensor:
        return self.main(images)  # type: ignore[no-any-return]


def _initialize(module: nn.Module) -> None:
    """Section 3 of the paper, and the tutorial's norms."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)  # type: ignore[arg-type]


def example_inputs(batch: int = 2, latent: int = 100) -> tuple[dg.Tensor]:
    """Noise for a generator, [batch, latent, 1, 1]."""
    return (dg.randn(batch, latent, 1, 1),)
