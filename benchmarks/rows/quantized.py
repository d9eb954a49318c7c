"""Files that ONNX Runtime's own tool has quantised to 8 bits: weights int8, activations uint8."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dualgraph as dg
from dualgraph import nn
from dualgraph_models import resnet
from dualgraph_models.mlp import MLP
from dualgraph_models.mobilenet import MobileNetV2

from .. import peers
from ..contenders import RUNTIME, normal, sessions
from ..harness import Row
from .networks import settled

_CALIBRATING = 4  # random inputs that tell the ranges of activations


def resnet18(threads: int) -> Row:
    """3x3 convolutions, a scale for each channel."""
    title = "ResNet-18 in 8 bits, batch 1, 224 x 224"
    return _row(title, settled(resnet.resnet18()), (1, 3, 224, 224), threads)


def mobilenetv2(threads: int) -> Row:
    """Depthwise and 1x1 convolutions, a scale for each channel."""
    title = "MobileNetV2 in 8 bits, batch 1, 224 x 224"
    return _row(title, settled(MobileNetV2()), (1, 3, 224, 224), threads)


def mlp(threads: int) -> Row:
    """Matrix products, scales that calibration found."""
    return _row("MLP 784-512-512-10 in 8 bits, batch 64", MLP(784, (512, 512)), (64, 784), threads)


def dynamic_mlp(threads: int) -> Row:
    """Matrix products, scales found at each call."""
    title = "MLP 784-512-512-10 in 8 bits, dynamic, batch 64"
    return _row(title, MLP(784, (512, 512)), (64, 784), threads, dynamic=True)


def _row(
    title: str, model: nn.Module, shape: tuple[int, ...], threads: int, *, dynamic: bool = False
) -> Row:
    """The quantised model; nobody does it where ONNX Runtime, whose tool makes it, is missing."""
    if not peers.available("onnxruntime"):
        return Row(title, {}, claim=RUNTIME)
    model.eval()
    with tempfile.TemporaryDirectory() as folder:
        proto = _quantized(model, shape, Path(folder), dynamic)
    return Row(title, sessions(proto, {"x": normal(*shape)}, threads), claim=RUNTIME)


def _quantized(model: nn.Module, shape: tuple[int, ...], folder: Path, dynamic: bool) -> bytes:
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Inputs(CalibrationDataReader):  # a class of no stated type
        def __init__(self) -> None:
            self.left: Iterator[Any] = iter([{"x": normal(*shape)} for _ in range(_CALIBRATING)])

        def get_next(self) -> Any:
            return next(self.left, None)

    plain, ready, made = (folder / f"{name}.onnx" for name in ("plain", "ready", "made"))
    dg.onnx.export(model, (dg.tensor(normal(*shape)),), str(plain), input_names=["x"])
    quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
    if dynamic:
        quantize_dynamic(str(ready), str(made), weight_type=QuantType.QInt8)
    else:
        quantize_static(
            str(ready),
            str(made),
            Inputs(),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    return made.read_bytes()
