"""Whole models as native programs: the same answers as node by node, in sizes that run quickly."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph_compiler.compile import optimize
from dualgraph_compiler.graph import interpret
from dualgraph_models import (
    char_lstm,
    digits_cnn,
    encoder,
    gpt,
    keyword_spotter,
    lenet,
    mobilenet,
    resnet,
    vae,
)
from dualgraph_runtime.native import compile_graph, find_compiler

pytestmark = pytest.mark.compiler

MODELS: dict[str, Callable[[], tuple[Any, tuple[dg.Tensor, ...]]]] = {
    "char_lstm": lambda: (char_lstm.CharLSTM(), char_lstm.example_inputs(2, 5)),
    "digits_cnn": lambda: (digits_cnn.DigitsCNN(), (dg.randn(2, 1, 8, 8),)),
    "encoder": lambda: (encoder.Encoder(), encoder.example_inputs(1, 12)),
    "gpt": lambda: (gpt.GPT(gpt.Config()), gpt.example_inputs(2, 9)),
    "keyword_spotter": lambda: (
        keyword_spotter.KeywordSpotter(),
        keyword_spotter.example_inputs(),
    ),
    "lenet": lambda: (lenet.LeNet(), (dg.randn(2, 1, 28, 28),)),
    "mobilenet": lambda: (mobilenet.MobileNetV2(), mobilenet.example_inputs(1, 32)),
    "resnet18": lambda: (resnet.resnet18(10), resnet.example_inputs(1, 33)),
    "vae": lambda: (vae.VAE(), vae.example_inputs()),
}


@pytest.mark.parametrize("name", MODELS)
def test_models(name: str) -> None:
    model, inputs = MODELS[name]()
    model.eval()
    graph = dg.trace(model, *inputs)
    small = optimize(graph, freeze=True)
    compiler = find_compiler()
    assert compiler is not None
    flags = tuple("-O1" if flag == "-O2" else flag for flag in compiler.flags)
    run = compile_graph(small, dataclasses.replace(compiler, flags=flags))
    arrays = [x.numpy() for x in inputs]
    for got, want in zip(run.run(arrays), interpret(graph, arrays), strict=True):
        scale = max(1.0, float(np.abs(want).max(initial=0.0)))
        np.testing.assert_allclose(got / scale, want / scale, rtol=0, atol=1e-4)
