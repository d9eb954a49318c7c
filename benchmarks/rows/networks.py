"""Inference of whole networks."""

from __future__ import annotations

from typing import Any

import dualgraph as dg
from dualgraph import nn
from dualgraph_models import digits_cnn, resnet
from dualgraph_models.encoder import Encoder
from dualgraph_models.mobilenet import MobileNetV2
from dualgraph_models.with_torch import with_torch

from ..contenders import RNG, inference, normal
from ..harness import Row


def resnet18(threads: int) -> Row:
    """Residual blocks of 3x3 convolutions."""
    x = dg.tensor(normal(1, 3, 224, 224))
    return inference(
        "ResNet-18, batch 1, 224 x 224",
        settled(resnet.resnet18()),
        (x,),
        threads,
        twin=lambda _: with_torch("resnet").resnet18(),
        target=1.2,
    )


def mobilenetv2(threads: int) -> Row:
    """Depthwise and 1x1 convolutions."""
    x = dg.tensor(normal(1, 3, 224, 224))
    return inference(
        "MobileNetV2, batch 1, 224 x 224",
        settled(MobileNetV2()),
        (x,),
        threads,
        twin=lambda _: with_torch("mobilenet").MobileNetV2(),
        target=1.1,
    )


def encoder(threads: int) -> Row:
    """Matrix products, attention, layer norm."""
    tokens = dg.tensor(RNG.integers(0, 1000, (1, 128)))
    return inference(
        "Transformer encoder, 6 layers of 384, 128 tokens",
        Encoder(),
        (tokens,),
        threads,
        twin=lambda _: with_torch("encoder").Encoder(),
        target=1.1,
    )


def digits(threads: int) -> Row:
    """The network of ``dualgraph demo``."""
    x = dg.tensor(normal(32, 1, 8, 8))
    return inference(
        "digits CNN of the demo, batch 32",
        settled(digits_cnn.DigitsCNN(), 1, 8),
        (x,),
        threads,
        twin=lambda _: with_torch("digits_cnn").DigitsCNN(),
        target=1.1,
    )


def settled(model: nn.Module, channels: int = 3, size: int = 64) -> Any:
    """With statistics in its norms as after some training, so that activations have a size."""
    dg.manual_seed(0)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = None  # the plain mean over batches
    with dg.no_grad():
        for _ in range(2):
            model.train()(dg.randn(8, channels, size, size))
    return model
