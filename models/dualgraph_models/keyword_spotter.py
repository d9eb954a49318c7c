"""Keyword spotting in a stream of sound, chunk by chunk.

Causal convolutions turn sound into frames, a GRU follows them, and every frame gets scores of the
words. `KeywordSpotter` takes and returns its state: the last samples that each convolution still
needs, and the GRU's hidden state. `Stream` keeps that state in itself between calls, so that a
stream fed in chunks gives what the whole sound gives. Cf. Y. Zhang et al., "Hello edge: keyword
spotting on microcontrollers" (2017).

The words are synthetic: tones that rise, fall or warble, in noise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn, optim
from dualgraph_models.pretrained import Pretrained
from dualgraph_models.running import options, progress

WORDS = ("-", "rise", "fall", "warble")
RATE = 1000  # samples a second
FRAME = 16  # samples a frame: the product of the convolutions' strides
UNKNOWN = -100  # the label of frames in which a word has only begun
# What may vary: in a training step, in a chunk of a stream, and in an exported spotter.
SAMPLES = FRAME * dg.Dim("frames")
DYNAMIC_STEP = {"sound": {0: "batch", 1: SAMPLES}, "labels": {0: "batch", 1: "frames"}}
DYNAMIC_CHUNK = {"chunk": {1: SAMPLES}}
DYNAMIC = {
    "sound": {0: "batch", 1: SAMPLES},
    "state": ({0: "batch"}, {0: "batch"}, {1: "batch"}),
}
INPUTS = ("sound", "before1", "before2", "hidden")
OUTPUTS = ("scores", "next_before1", "next_before2", "next_hidden")

State = tuple[dg.Tensor, dg.Tensor, dg.Tensor]


class CausalConv1d(nn.Module):
    """A convolution over a stream: it sees samples up to now only, and those that it kept.

    Shapes: x [N, C, T], T a multiple of the stride, and the `left` samples before it [N, C, left]
    -> [N, channels, T / stride], and the samples to keep.
    """

    def __init__(self, in_channels: int, channels: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.left = kernel_size - stride
        self.conv = nn.Conv1d(in_channels, channels, kernel_size, stride)

    def forward(self, x: dg.Tensor, before: dg.Tensor) -> tuple[dg.Tensor, dg.Tensor]:
        x = dg.cat([before, x], dim=2)
        return self.conv(x), x[:, :, -self.left :]


class KeywordSpotter(nn.Module, Pretrained):
    """Scores of the words at every frame.

    Shapes: sound [N, T], T a multiple of `FRAME`, and the state before it, silence by default ->
    scores [N, T / FRAME, words], and the state after it.

    Args:
        channels: of the convolutions.
        hidden_size: of the GRU.
    """

    def __init__(self, channels: int = 16, hidden_size: int = 48) -> None:
        super().__init__()
        self.conv1 = CausalConv1d(1, channels, kernel_size=16, stride=4)
        self.conv2 = CausalConv1d(channels, 2 * channels, kernel_size=8, stride=4)
        self.gru = nn.GRU(2 * channels, hidden_size, batch_first=True)
        self.head = nn.Linear(hidden_size, len(WORDS))

    def silence(self, batch: int = 1) -> State:
        """The state before anything was heard: zeros [N, 1, 12], [N, C, 4] and [1, N, hidden]."""
        channels, weight = self.conv2.conv.in_channels, self.head.weight
        return (
            weight.new_zeros(batch, 1, self.conv1.left),
            weight.new_zeros(batch, channels, self.conv2.left),
            weight.new_zeros(1, batch, self.gru.hidden_size),
        )

    def forward(self, sound: dg.Tensor, state: State | None = None) -> tuple[dg.Tensor, State]:
        before1, before2, hidden = self.silence(sound.shape[0]) if state is None else state
        x, before1 = self.conv1(sound.unsqueeze(1), before1)
        x, before2 = self.conv2(F.relu(x), before2)
        x, hidden = self.gru(F.relu(x).transpose(1, 2), hidden)
        return self.head(x), (before1, before2, hidden)


class Stream(nn.Module):
    """A spotter that remembers: call it with one chunk of sound after the other.

    Shapes: chunk [N, T], T a multiple of `FRAME` -> scores [N, T / FRAME, words].
    """

    def __init__(self, model: KeywordSpotter, batch: int = 1) -> None:
        super().__init__()
        self.model = model
        self.reset(batch)

    def reset(self, batch: int = 1) -> None:
        """Forget everything; `batch` streams follow."""
        self.state = self.model.silence(batch)

    def forward(self, chunk: dg.Tensor) -> dg.Tensor:
        scores, self.state = self.model(chunk, self.state)
        return scores  # type: ignore[no-any-return]


class BufferedStream(nn.Module):
    """A `Stream` whose state is three buffers, written in place, and so part of its state_dict."""

    def __init__(self, model: KeywordSpotter, batch: int = 1) -> None:
        super().__init__()
        self.model = model
        for name, value in zip(("before1", "before2", "hidden"), model.silence(batch), strict=True):
            self.register_buffer(name, value)

    def reset(self) -> None:
        """Forget everything."""
        for buffer in self.buffers():
            buffer.zero_()

    def forward(self, chunk: dg.Tensor) -> dg.Tensor:
        buffers = (self.before1, self.before2, self.hidden)
        scores, state = self.model(chunk, buffers)
        for buffer, value in zip(buffers, state, strict=True):
            buffer.copy_(value.detach())
        return scores  # type: ignore[no-any-return]


# -- data and training ----------------------------------------------------------------------------


def say(word: int, seconds: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """The sound of a word: [samples]."""
    t = np.arange(round(seconds * RATE)) / RATE
    low, high = rng.uniform(60, 90), rng.uniform(150, 200)
    if word == 3:
        pitch = (low + high) / 2 + 60 * np.sin(2 * np.pi * 8 * t)
    else:
        way = t / seconds if word == 1 else 1 - t / seconds
        pitch = low + (high - low) * way
    swell = np.sin(np.pi * t / seconds) ** 0.5
    sound: npt.NDArray[Any] = swell * np.sin(2 * np.pi * np.cumsum(pitch) / RATE)
    return sound


def recording(
    seconds: float, rng: np.random.Generator, noise: float = 0.2
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Words with pauses between them: sound [samples], and the word at each frame [frames]."""
    sound = rng.normal(0, noise, round(seconds * RATE))
    labels = np.zeros(len(sound) // FRAME, np.int64)
    at = int(rng.integers(100, 400))
    while at + 500 < len(sound):
        word = int(rng.integers(1, len(WORDS)))
        spoken = say(word, float(rng.uniform(0.3, 0.5)), rng)
        end = at + len(spoken)
        sound[at:end] += spoken
        labels[at // FRAME : (at + end) // 2 // FRAME] = UNKNOWN
        labels[(at + end) // 2 // FRAME : end // FRAME] = word
        at = end + int(rng.integers(150, 500))
    return sound.astype(np.float32), labels


def batches(
    size: int, count: int, seconds: float = 2.0, seed: int = 0
) -> Iterator[tuple[dg.Tensor, dg.Tensor]]:
    """`count` batches of `size` recordings: sound [N, T], and labels int64 [N, T / FRAME]."""
    rng = np.random.default_rng(seed)
    samples = round(seconds * RATE) // FRAME * FRAME
    for _ in range(count):
        made = [recording(samples / RATE, rng) for _ in range(size)]
        sound, labels = (np.stack(part) for part in zip(*made, strict=True))
        yield dg.tensor(sound), dg.tensor(labels)


def training_step(
    model: KeywordSpotter, optimizer: optim.Optimizer
) -> Callable[[dg.Tensor, dg.Tensor], dg.Tensor]:
    """A function of (sound, labels) that trains on them, and returns the loss before."""

    def step(sound: dg.Tensor, labels: dg.Tensor) -> dg.Tensor:
        scores, _ = model(sound)
        loss = F.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=UNKNOWN)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def heard(words: npt.NDArray[Any]) -> list[str]:
    """The words in the best scores of each frame [frames]: those that last five frames or more."""
    found = []
    starts = np.flatnonzero(np.diff(words, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(words)], strict=True):
        if words[start] > 0 and end - start >= 5:
            found.append(f"{WORDS[words[start]]} at {start * FRAME / RATE:.2f} s")
    return found


def example_inputs(batch: int = 2, frames: int = 4) -> tuple[dg.Tensor]:
    """Noise [batch, frames * FRAME]."""
    return (dg.randn(batch, frames * FRAME),)


def main() -> None:
    """Train on recordings, then listen to one, chunk by chunk."""
    args = options("keyword_spotter", __doc__, steps=200, batch=16)
    model = KeywordSpotter()
    step: Any = training_step(model, optim.Adam(model.parameters(), lr=5e-3))
    stream: Any = Stream(model)
    if not args.eager:
        step, stream = dg.compile(step, dynamic_shapes=DYNAMIC_STEP), dg.compile(stream)
    began = time.perf_counter()
    with progress(args.steps) as report:
        for sound, labels in batches(args.batch, args.steps, seed=args.seed):
            report(step(sound, labels).item())
    print(f"{args.steps} steps in {time.perf_counter() - began:.0f} s")
    model.eval()
    ((sound, labels),) = batches(1, 1, seconds=60, seed=args.seed + 1)
    chunk, found, began = 5 * FRAME, [], time.perf_counter()
    with dg.no_grad():
        for at in range(0, sound.shape[1] - chunk + 1, chunk):
            found.append(stream(sound[:, at : at + chunk]).argmax(-1)[0].numpy())
    took = (time.perf_counter() - began) / len(found)
    words = np.concatenate(found)
    wanted = labels[0].numpy()[: len(words)]
    known = wanted != UNKNOWN
    right = float((words[known] == wanted[known]).mean())
    print(
        f"a stream of 60 s in chunks of {chunk / RATE * 1e3:.0f} ms: {took * 1e3:.2f} ms a chunk,"
    )
    print(f"{right:.1%} of the frames right; heard first: {', '.join(heard(words)[:5])}")


if __name__ == "__main__":
    main()
