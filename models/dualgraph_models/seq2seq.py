"""A sequence-to-sequence model that writes numbers in Roman numerals, and two ways to decode it.

Encoder and decoder are GRUs with attention between them: M.-T. Luong et al., "Effective approaches
to attention-based neural machine translation" (2015). Decoding, greedy or by beam search, stops as
soon as every sequence has ended. The loops are plain Python on tensors; `GreedyLoop` and `BeamLoop`
are the same written with `dg.while_loop`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn, optim
from dualgraph.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from dualgraph_models.pretrained import Pretrained
from dualgraph_models.running import options, progress

PADDING, BEGIN, END = 0, 1, 2
LETTERS = "IVXLCDM"  # tokens 3 to 9
LARGEST = 3999
LIMIT = 16  # MMMDCCCLXXXVIII and an end
# For dg.compile of a training step, and for the export of a decoder: what may vary.
DYNAMIC_STEP = {
    "source": {0: "batch", 1: "digits"},
    "lengths": {0: "batch"},
    "target": {0: "batch", 1: "letters"},
}
DYNAMIC = {"source": {0: "batch", 1: "digits"}, "lengths": {0: "batch"}}


class Seq2Seq(nn.Module, Pretrained):
    """Scores of the next target token at every position, given a source and the tokens before it.

    Shapes: source int64 [N, S], padded, its lengths int64 [N], target int64 [N, T], which begins
    with `BEGIN` -> scores [N, T, target_size].

    Args:
        source_size, target_size: how many tokens there are on each side.
        width: features everywhere.
    """

    def __init__(self, source_size: int = 11, target_size: int = 10, width: int = 64) -> None:
        super().__init__()
        self.source = nn.Embedding(source_size, width)
        self.encoder = nn.GRU(width, width // 2, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(width, width)
        self.target = nn.Embedding(target_size, width)
        self.decoder = nn.GRU(width, width, batch_first=True)
        self.combine = nn.Linear(2 * width, width)
        self.head = nn.Linear(width, target_size)

    def encode(
        self, source: dg.Tensor, lengths: dg.Tensor
    ) -> tuple[dg.Tensor, dg.Tensor, dg.Tensor]:
        """What to attend to [N, S, width], where [N, 1, S], and the first state [1, N, width]."""
        packed = pack_padded_sequence(
            self.source(source), lengths, batch_first=True, enforce_sorted=False
        )
        out, ends = self.encoder(packed)
        memory, _ = pad_packed_sequence(out, batch_first=True, total_length=source.shape[1])
        steps = dg.arange(source.shape[1], device=source.device)
        inside = steps < lengths.to(source.device).unsqueeze(1)
        state = dg.tanh(self.bridge(dg.cat([ends[0], ends[1]], dim=1)))
        return memory, inside.unsqueeze(1), state.unsqueeze(0)

    def decode(
        self, target: dg.Tensor, state: dg.Tensor, memory: dg.Tensor, inside: dg.Tensor
    ) -> tuple[dg.Tensor, dg.Tensor]:
        """Scores [N, T, target_size] for tokens [N, T] that follow `state`, and the next state."""
        out, state = self.decoder(self.target(target), state)
        found = F.scaled_dot_product_attention(out, memory, memory, attn_mask=inside)
        return self.head(dg.tanh(self.combine(dg.cat([out, found], dim=-1)))), state

    def forward(self, source: dg.Tensor, lengths: dg.Tensor, target: dg.Tensor) -> dg.Tensor:
        memory, inside, state = self.encode(source, lengths)
        return self.decode(target, state, memory, inside)[0]


# -- decoding -------------------------------------------------------------------------------------


class Greedy(nn.Module):
    """The most probable token at every step.

    Shapes: source int64 [N, S] and lengths int64 [N] -> tokens int64 [N, limit]: each sequence, its
    `END` if it came to that, and padding.
    """

    def __init__(self, model: Seq2Seq, limit: int = LIMIT) -> None:
        super().__init__()
        self.model = model
        self.limit = limit

    def forward(self, source: dg.Tensor, lengths: dg.Tensor) -> dg.Tensor:
        memory, inside, state = self.model.encode(source, lengths)
        n = source.shape[0]
        here = source.device
        token = dg.full((n,), BEGIN, device=here)
        finished = dg.zeros(n, dtype=dg.bool, device=here)
        out = dg.full((n, self.limit), PADDING, device=here)
        t = 0
        while not finished.all() and t < self.limit:
            scores, state = self.model.decode(token.unsqueeze(1), state, memory, inside)
            token = scores[:, 0].argmax(dim=-1).masked_fill(finished, PADDING)
            out[:, t] = token
            finished = finished | (token == END)
            t += 1
        return out


class GreedyLoop(Greedy):
    """`Greedy` with `dg.while_loop`."""

    def forward(self, source: dg.Tensor, lengths: dg.Tensor) -> dg.Tensor:
        memory, inside, state = self.model.encode(source, lengths)
        n, here = source.shape[0], source.device
        places = dg.arange(self.limit, device=here)

        def going(t: Any, token: Any, finished: Any, out: Any, state: Any) -> dg.Tensor:
            return (t < self.limit) & ~finished.all()  # type: ignore[no-any-return]

        def step(t: Any, token: Any, finished: Any, out: Any, state: Any) -> tuple[Any, ...]:
            scores, state = self.model.decode(token.unsqueeze(1), state, memory, inside)
            token = scores[:, 0].argmax(dim=-1).masked_fill(finished, PADDING)
            out = dg.where(places == t, token.unsqueeze(1), out)
            return t + 1, token, finished | (token == END), out, state

        token = dg.full((n,), BEGIN, device=here)
        finished = dg.zeros(n, dtype=dg.bool, device=here)
        out = dg.full((n, self.limit), PADDING, device=here)
        t = dg.zeros((), dtype=dg.int64, device=here)
        carried = dg.while_loop(going, step, (t, token, finished, out, state))
        return carried[3]  # type: ignore[no-any-return]


class Beam(nn.Module):
    """The most probable sequence among those that `width` beams come to.

    Shapes: source int64 [N, S] and lengths int64 [N] -> tokens int64 [N, limit] as from `Greedy`,
    and the logarithm of their probability, float32 [N].
    """

    def __init__(self, model: Seq2Seq, width: int = 4, limit: int = LIMIT) -> None:
        super().__init__()
        self.model = model
        self.width = width
        self.limit = limit

    def begin(self, source: dg.Tensor, lengths: dg.Tensor) -> tuple[Any, ...]:
        """What the model attends to for every beam; then the first beams, see `step`."""
        memory, inside, state = self.model.encode(source, lengths)
        n, k, here = source.shape[0], self.width, source.device
        first = dg.full((k,), -math.inf, device=here)
        first[0] = 0.0  # at first all beams are the same one
        return (
            memory.repeat_interleave(k, dim=0),
            inside.repeat_interleave(k, dim=0),
            dg.full((n, k), BEGIN, device=here),
            dg.zeros(n, k, dtype=dg.bool, device=here),
            first.expand(n, k),
            state.repeat_interleave(k, dim=1),
        )

    def step(
        self, memory: Any, inside: Any, token: Any, finished: Any, total: Any, state: Any
    ) -> tuple[Any, ...]:
        """The best beams one token further: which beams they come from, then the same again.

        Tokens, whether finished, and total log probabilities are [N, width], the decoder's state
        is [1, N * width, features].
        """
        (n, k), here = token.shape, token.device
        scores, state = self.model.decode(token.view(n * k, 1), state, memory, inside)
        size = scores.shape[-1]
        gain = F.log_softmax(scores, dim=-1).view(n, k, size)
        # A finished beam goes on with padding, which costs nothing.
        padding = dg.where(dg.arange(size, device=here) == PADDING, 0.0, -math.inf)
        gain = dg.where(finished.unsqueeze(2), padding, gain)
        total, best = (total.unsqueeze(2) + gain).view(n, k * size).topk(k, dim=1)
        beam, token = best // size, best % size
        finished = finished.gather(1, beam) | (token == END)
        row = (beam + k * dg.arange(n, device=here).unsqueeze(1)).view(n * k)
        return beam, token, finished, total, state.index_select(1, row)

    def forward(self, source: dg.Tensor, lengths: dg.Tensor) -> tuple[dg.Tensor, dg.Tensor]:
        memory, inside, token, finished, total, state = self.begin(source, lengths)
        out = dg.full((*token.shape, self.limit), PADDING, device=token.device)
        t = 0
        while not finished.all() and t < self.limit:
            beam, token, finished, total, state = self.step(
                memory, inside, token, finished, total, state
            )
            out = out.gather(1, beam.unsqueeze(2).expand(-1, -1, self.limit))
            out[:, :, t] = token
            t += 1
        return out[:, 0], total[:, 0]


class BeamLoop(Beam):
    """`Beam` with `dg.while_loop`."""

    def forward(self, source: dg.Tensor, lengths: dg.Tensor) -> tuple[dg.Tensor, dg.Tensor]:
        memory, inside, *first = self.begin(source, lengths)
        places = dg.arange(self.limit, device=source.device)

        def going(t: Any, out: Any, token: Any, finished: Any, *rest: Any) -> dg.Tensor:
            return (t < self.limit) & ~finished.all()  # type: ignore[no-any-return]

        def step(t: Any, out: Any, *beams: Any) -> tuple[Any, ...]:
            beam, token, *rest = self.step(memory, inside, *beams)
            out = out.gather(1, beam.unsqueeze(2).expand(-1, -1, self.limit))
            out = dg.where(places == t, token.unsqueeze(2), out)
            return t + 1, out, token, *rest

        out = dg.full((*first[0].shape, self.limit), PADDING, device=source.device)
        t = dg.zeros((), dtype=dg.int64, device=source.device)
        _, out, _, _, total, _ = dg.while_loop(going, step, (t, out, *first))
        return out[:, 0], total[:, 0]


# -- data and training ----------------------------------------------------------------------------


def roman(number: int) -> str:
    """A number from 1 to 3999 in Roman numerals."""
    text = ""
    patterns = ["", "1", "11", "111", "15", "5", "51", "511", "5111", "1T"]
    for place, letters in enumerate(["IVX", "XLC", "CDM", "M"]):
        pattern = patterns[number // 10**place % 10]
        text = "".join(letters["15T".index(sign)] for sign in pattern) + text
    return text


def encode(numbers: Sequence[int]) -> tuple[dg.Tensor, dg.Tensor]:
    """Numbers as tokens [N, S], their digits from 1 on, padded; and how many each has, [N]."""
    rows = [dg.tensor([int(digit) + 1 for digit in str(number)]) for number in numbers]
    return pad_sequence(rows, batch_first=True), dg.tensor([len(row) for row in rows])


def encode_target(numbers: Sequence[int]) -> dg.Tensor:
    """Numbers as tokens of their Roman numerals, between `BEGIN` and `END`: [N, T], padded."""
    rows = [[BEGIN, *(LETTERS.index(c) + 3 for c in roman(n)), END] for n in numbers]
    return pad_sequence([dg.tensor(row) for row in rows], batch_first=True)


def decode(tokens: dg.Tensor) -> list[str]:
    """The letters of tokens [N, T] up to each `END`."""
    texts = []
    for row in tokens.tolist():
        row = row[: row.index(END)] if END in row else row
        texts.append("".join(LETTERS[token - 3] if token >= 3 else "?" for token in row))
    return texts


def training_step(
    model: Seq2Seq, optimizer: optim.Optimizer
) -> Callable[[dg.Tensor, dg.Tensor, dg.Tensor], dg.Tensor]:
    """A function of (source, lengths, target) that trains on them; returns the loss before."""

    def step(source: dg.Tensor, lengths: dg.Tensor, target: dg.Tensor) -> dg.Tensor:
        scores = model(source, lengths, target[:, :-1])
        loss = F.cross_entropy(scores.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PADDING)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def batches(
    numbers: Sequence[int], size: int, count: int, seed: int = 0
) -> Iterator[tuple[dg.Tensor, dg.Tensor, dg.Tensor]]:
    """`count` batches of `size` of these numbers, drawn at random."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        drawn = rng.choice(numbers, size=size).tolist()
        source, lengths = encode(drawn)
        yield source, lengths, encode_target(drawn)


def example_inputs(batch: int = 3) -> tuple[dg.Tensor, dg.Tensor]:
    """Numbers of different lengths, as from `encode`."""
    return encode([[1994, 7, 388, 44][i % 4] for i in range(batch)])


def main() -> None:
    """Train on nine tenths of the numbers up to 3999, and write the others."""
    args = options("seq2seq", __doc__, steps=1000, batch=64)
    numbers = np.random.default_rng(args.seed).permutation(np.arange(1, LARGEST + 1))
    train, test = numbers[400:].tolist(), numbers[:400].tolist()
    model = Seq2Seq()
    step: Any = training_step(model, optim.Adam(model.parameters(), lr=3e-3))
    greedy, beam = GreedyLoop(model), BeamLoop(model)
    if not args.eager:
        step = dg.compile(step, dynamic_shapes=DYNAMIC_STEP)
    began = time.perf_counter()
    with progress(args.steps) as report:
        for batch in batches(train, args.batch, args.steps, args.seed):
            report(step(*batch).item())
    seconds = time.perf_counter() - began
    print(f"{args.steps} steps in {seconds:.0f} s\n")
    model.eval()
    found = {}
    with dg.no_grad():
        for name, decoder in (("greedy", greedy), ("beam", beam)):
            run = decoder if args.eager else dg.compile(decoder)
            tokens = run(*encode(test))
            found[name] = decode(tokens if name == "greedy" else tokens[0])
            right = sum(roman(n) == text for n, text in zip(test, found[name], strict=True))
            print(f"{name}: {right} of {len(test)} numbers never seen are right")
    print()
    for number, text in list(zip(test, found["beam"], strict=True))[:8]:
        print(f"{number:>5} {text}")


if __name__ == "__main__":
    main()
