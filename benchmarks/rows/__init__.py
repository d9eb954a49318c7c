"""The pieces of work that are timed, by name. Each function builds one row for some threads."""

from __future__ import annotations

from collections.abc import Callable

from ..harness import Row
from . import demo, networks, pointwise, quantized, recurrent, training

ROWS: dict[str, Callable[[int], Row]] = {
    "demo": demo.compiled,
    "demo-eager": demo.eager,
    "resnet18": networks.resnet18,
    "mobilenetv2": networks.mobilenetv2,
    "encoder": networks.encoder,
    "digits": networks.digits,
    "mlp-step": training.mlp,
    "lenet-step": training.lenet,
    "resnet18-step": training.resnet18,
    "gpt-step": training.gpt,
    "char-lstm-step": training.char_lstm,
    "gpt-decode": recurrent.greedy_decoding,
    "lstm-1": recurrent.lstm_1,
    "lstm-16": recurrent.lstm_16,
    "resnet18-int8": quantized.resnet18,
    "mobilenetv2-int8": quantized.mobilenetv2,
    "mlp-int8": quantized.mlp,
    "mlp-int8-dynamic": quantized.dynamic_mlp,
    **pointwise.ROWS,
}
