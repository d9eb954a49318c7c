"""The keyword spotter: a stream fed in chunks hears what the whole sound says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import optim
from dualgraph_models import keyword_spotter as ks
from dualgraph_models.keyword_spotter import FRAME
from dualgraph_runtime import InferenceSession
from tests.models.agreement import Run, agree, same_training

FRAMES = 20
EVEN = [4] * 5
UNEVEN = [2, 2, 6, 1, 9]


def small() -> ks.KeywordSpotter:
    return ks.KeywordSpotter(channels=4, hidden_size=6)


def build() -> Run:
    model = small()
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    return Run(model, optimizer, ks.training_step(model, optimizer))


def chunks(sound: dg.Tensor, frames: Sequence[int]) -> Iterator[dg.Tensor]:
    ends = np.cumsum(frames) * FRAME
    assert ends[-1] == sound.shape[1]
    for end, n in zip(ends.tolist(), frames, strict=True):
        yield sound[:, end - n * FRAME : end]


def listen(stream: Callable[[dg.Tensor], Any], sound: dg.Tensor, frames: Sequence[int]) -> Any:
    """The scores of a sound fed in chunks of so many frames."""
    with dg.no_grad():
        return dg.cat([stream(chunk) for chunk in chunks(sound, frames)], dim=1).numpy()


def whole(model: ks.KeywordSpotter, sound: dg.Tensor) -> Any:
    with dg.no_grad():
        return model(sound)[0].numpy()


def close(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_whole_steps_are_those_of_eager_code() -> None:
    data = list(ks.batches(4, 24, seconds=1.5))
    step, losses = same_training(build, data)
    assert len(step.graphs) == 1
    assert np.mean(losses[-4:]) < 0.9 * losses[0]


def test_one_graph_for_every_length() -> None:
    data = [batch for i in range(20) for batch in ks.batches(1 + i % 3, 1, 0.8 + i / 10, seed=i)]
    step, _ = same_training(build, data, dynamic_shapes=ks.DYNAMIC_STEP)
    assert len(step.graphs) == 1


@pytest.mark.parametrize("frames", [EVEN, UNEVEN, [20], [1] * 20], ids=str)
@pytest.mark.parametrize("kind", [ks.Stream, ks.BufferedStream])
def test_chunks_give_what_the_whole_gives(kind: Any, frames: list[int]) -> None:
    model, sound = small().eval(), dg.randn(2, FRAMES * FRAME)
    stream = kind(model, batch=2)
    wanted = whole(model, sound)
    close(listen(stream, sound, frames), wanted)
    assert not np.allclose(listen(stream, sound, frames), wanted, atol=1e-3)  # it remembers
    if kind is ks.Stream:
        stream.reset(2)
    else:
        stream.reset()
    close(listen(stream, sound, frames), wanted)


# By default the first chunk of another length makes the length a symbol.
HOW: dict[str, tuple[dict[str, Any], int]] = {
    "declared": ({"dynamic_shapes": ks.DYNAMIC_CHUNK}, 1),
    "found out": ({}, 2),
    "static": ({"dynamic": False}, 4),
}


@pytest.mark.parametrize("how", HOW)
def test_compiled_stream_with_buffers(how: str) -> None:
    options, graphs = HOW[how]
    model, sound = small().eval(), dg.randn(2, FRAMES * FRAME)
    stream, eager = ks.BufferedStream(model, batch=2), ks.BufferedStream(model, batch=2)
    fast = dg.compile(stream, fullgraph=True, **options)
    for _ in range(3):
        close(listen(fast, sound, UNEVEN), listen(eager, sound, UNEVEN))
        for name, buffer in eager.named_buffers():
            close(stream.state_dict()[name].numpy(), buffer.numpy())
    stream.reset()
    close(listen(fast, sound, UNEVEN), whole(model, sound))
    assert len(fast.graphs) == graphs


@pytest.mark.parametrize("how", HOW)
def test_compiled_stream_with_attributes(how: str) -> None:
    options, graphs = HOW[how]
    model, sound = small().eval(), dg.randn(2, FRAMES * FRAME)
    stream, eager = ks.Stream(model, batch=2), ks.Stream(model, batch=2)
    fast = dg.compile(stream, fullgraph=True, **options)
    for _ in range(3):
        close(listen(fast, sound, UNEVEN), listen(eager, sound, UNEVEN))
        for found, wanted in zip(stream.state, eager.state, strict=True):
            close(found.numpy(), wanted.numpy())
    stream.reset(2)
    close(listen(fast, sound, UNEVEN), whole(model, sound))
    assert len(fast.graphs) == graphs
    stream.reset(1)  # a state of another size
    close(listen(fast, sound[:1], UNEVEN), whole(model, sound[:1]))


def test_state_can_be_saved_and_loaded() -> None:
    model, sound = small().eval(), dg.randn(1, 6 * FRAME)
    first = dg.compile(ks.BufferedStream(model))
    begin = listen(first, sound[:, : 4 * FRAME], [4])
    second = ks.BufferedStream(small().eval())
    second.load_state_dict(first.state_dict())
    end = listen(dg.compile(second), sound[:, 4 * FRAME :], [2])
    close(np.concatenate([begin, end], axis=1), whole(model, sound))


def test_exported_with_its_state_as_inputs_and_outputs(tmp_path: Any) -> None:
    model = small().eval()
    path = tmp_path / "spotter.onnx"
    example = (*ks.example_inputs(2, 10), model.silence(2))
    dg.onnx.export(
        model,
        example,
        path,
        input_names=ks.INPUTS,
        output_names=ks.OUTPUTS,
        dynamic_shapes=ks.DYNAMIC,
    )
    for n, frames in [(2, 10), (3, 1), (1, 7)]:
        (sound,) = ks.example_inputs(n, frames)
        state = tuple(dg.randn(*s.shape) for s in model.silence(n))
        scores, after = model(sound, state)
        agree(path, [sound, *state], [scores, *after])
    ort = pytest.importorskip("onnxruntime")
    sound = dg.randn(2, FRAMES * FRAME)
    for session in (ort.InferenceSession(path), InferenceSession(str(path))):
        state, found = [s.numpy() for s in model.silence(2)], []
        for chunk in chunks(sound, UNEVEN):
            feed = dict(zip(ks.INPUTS, [chunk.numpy(), *state], strict=True))
            scores, *state = session.run(None, feed)
            found.append(scores)
        close(np.concatenate(found, axis=1), whole(model, sound))


def test_recordings() -> None:
    (sound, labels), (again, _) = (next(ks.batches(3, 1, seed=s)) for s in (0, 0))
    np.testing.assert_array_equal(sound.numpy(), again.numpy())
    assert sound.shape == (3, 2000)
    assert labels.shape == (3, 125)
    assert set(np.unique(labels.numpy())) == {ks.UNKNOWN, 0, 1, 2, 3}
    words = np.array([0, 0, 1, 1, 1, 1, 1, 0, 2, 2, 2, 2, 0, 3, 3, 3, 3, 3, 3])
    assert ks.heard(words) == ["rise at 0.03 s", "warble at 0.21 s"]
