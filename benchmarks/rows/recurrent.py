"""Work that goes step by step: an LSTM, and decoding with a cache that grows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import dualgraph as dg
from dualgraph import nn
from dualgraph_models import gpt
from dualgraph_models.with_torch import with_torch
from dualgraph_runtime import InferenceSession

from .. import peers
from ..contenders import (
    EAGER,
    INTERPRETED,
    NATIVE,
    RNG,
    WITH_TORCH_COMPILE,
    inference,
    normal,
    state_for_torch,
)
from ..harness import Row, Work


class Outputs(nn.Module):
    """The outputs of two LSTM layers. Shapes: [T, N, 256] -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(256, 256, 2)

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        return self.lstm(x)[0]


def lstm_1(threads: int) -> Row:
    """Batch 1."""
    return _lstm(1, threads)


def lstm_16(threads: int) -> Row:
    """Batch 16."""
    return _lstm(16, threads)


def _lstm(batch: int, threads: int) -> Row:
    def twin(torch: Any) -> Any:
        class Outputs(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.lstm = torch.nn.LSTM(256, 256, 2)

            def forward(self, x: Any) -> Any:
                return self.lstm(x)[0]

        return Outputs()

    x = dg.tensor(normal(200, batch, 256))
    title = f"LSTM, 2 layers of 256, 200 steps, batch {batch}"
    return inference(title, Outputs(), (x,), threads, twin=twin, target=1.3)


COUNT, START = 48, 16


def greedy_decoding(threads: int) -> Row:
    """48 tokens after 16, one at a time, with keys and values kept."""
    config = {"context": 128, "width": 256, "layers": 4}
    model = gpt.GPT(gpt.Config(**config)).eval()
    start = dg.tensor(RNG.integers(0, 128, (1, START)))

    def decoding(model: Any, step: Any) -> Work:
        return lambda: gpt.greedy(model, start, COUNT, step)

    work: dict[str, Work] = {
        EAGER: decoding(model, None),
        INTERPRETED: decoding(model, dg.compile(model.next, execution="interpreter")),
        NATIVE: decoding(model, dg.compile(model.next, execution="native")),
    }
    wanted = gpt.greedy(model, start, COUNT).numpy()
    ort = _onnxruntime(model, start.clone().numpy(), threads)
    if ort is not None:
        np.testing.assert_array_equal(ort(), wanted)
        work["onnxruntime"] = ort
    torch = peers.torch(threads)
    if torch is not None:
        module = with_torch("gpt")
        twin = module.GPT(module.Config(**config)).eval()
        twin.load_state_dict(state_for_torch(torch, model))
        given = torch.tensor(start.clone().numpy())
        np.testing.assert_array_equal(module.greedy(twin, given, COUNT).numpy(), wanted)
        work["torch eager"] = lambda: module.greedy(twin, given, COUNT)
        if WITH_TORCH_COMPILE:
            fast = torch.compile(twin.next, dynamic=True)
            work["torch.compile"] = lambda: module.greedy(twin, given, COUNT, fast)
    title = f"GPT, 4 layers of 256, greedy decoding of {COUNT} tokens after {START}"
    return Row(title, work, claim=NATIVE, target=1.3)


def _onnxruntime(model: gpt.GPT, start: Any, threads: int) -> Callable[[], Any] | None:
    """ONNX Runtime decoding with the exported step."""
    if not peers.available("onnxruntime"):
        return None
    import onnxruntime

    class Next(nn.Module):
        """`GPT.next` as a module."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, token: Any, *past: Any) -> Any:
            pairs = list(zip(past[::2], past[1::2], strict=True))
            scores, new = self.model.next(token, pairs)
            return scores, *(x for pair in new for x in pair)

    empty = [x for pair in model.empty_past() for x in pair]
    example = [dg.cat([x, x.new_zeros((1, x.shape[1], 4, x.shape[3]))], dim=2) for x in empty]
    seen = dg.Dim("seen")
    proto = dg.onnx.export(
        Next().eval(),
        (dg.tensor(start[:, :1]), *example),
        dynamic_shapes={f"past{i}": {2: seen} for i in range(len(example))},
    )
    names = [i.name for i in InferenceSession(proto.SerializeToString()).get_inputs()]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    nothing = [x.numpy() for x in empty]

    def run() -> Any:
        tokens, past = start, nothing
        for i in range(START + COUNT - 1):
            feed = dict(zip(names, (tokens[:, i : i + 1], *past), strict=True))
            scores, *past = session.run(None, feed)
            if i + 1 == tokens.shape[1]:
                tokens = np.concatenate([tokens, scores[:, -1].argmax(-1, keepdims=True)], 1)
        return tokens

    return run
