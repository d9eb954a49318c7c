"""A language model over characters, trained on lines of different lengths.

Each batch is padded to its longest line and packed for the LSTM. The padded length is a dynamic
dimension, so one compiled training step serves batches of every length.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn, optim
from dualgraph.nn.utils import clip_grad_norm_
from dualgraph.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from dualgraph_models.datasets import load_lines
from dualgraph_models.pretrained import Pretrained
from dualgraph_models.running import options, progress

PADDING = 0  # also the target of positions that do not count
END = ord("\n")
# For dg.compile of a step, and for the export of the model: what may vary.
DYNAMIC = {"tokens": {0: "batch", 1: "steps"}, "lengths": {0: "batch"}}


class CharLSTM(nn.Module, Pretrained):
    """Scores of the next character at every position.

    Shapes: tokens int64 [N, T], padded with `PADDING`, and lengths int64 [N], 1 to T -> scores
    [N, T, vocabulary]; those beyond a sequence's end are of no meaning.

    Args:
        vocabulary: the number of different tokens, `PADDING` included.
        embedding_dim: features of a token.
        hidden_size: features of the state.
        num_layers: of the LSTM.
        dropout: between its layers.
    """

    def __init__(
        self,
        vocabulary: int = 128,
        embedding_dim: int = 32,
        hidden_size: int = 128,
        num_layers: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding_dim, padding_idx=PADDING)
        self.lstm = nn.LSTM(
            embedding_dim, hidden_size, num_layers, batch_first=True, dropout=dropout
        )
        self.head = nn.Linear(hidden_size, vocabulary)

    def forward(self, tokens: dg.Tensor, lengths: dg.Tensor) -> dg.Tensor:
        packed = pack_padded_sequence(
            self.embedding(tokens), lengths, batch_first=True, enforce_sorted=False
        )
        out, _ = self.lstm(packed)
        out, _ = pad_packed_sequence(out, batch_first=True, total_length=tokens.shape[1])
        return self.head(out)  # type: ignore[no-any-return]


def encode(texts: Sequence[str]) -> tuple[dg.Tensor, dg.Tensor]:
    """ASCII texts as tokens [N, T], padded, and their lengths [N].

    Raises:
        UnicodeEncodeError: a character outside ASCII.
    """
    rows = [list(text.encode("ascii")) for text in texts]
    longest = max(map(len, rows))
    tokens = [row + [PADDING] * (longest - len(row)) for row in rows]
    return dg.tensor(tokens), dg.tensor([len(row) for row in rows])


def batches(
    lines: Sequence[str], size: int, count: int, seed: int = 0
) -> Iterator[tuple[dg.Tensor, dg.Tensor]]:
    """`count` batches of `size` lines drawn at random, each line ended; see `encode`."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield encode([lines[i] + chr(END) for i in rng.integers(len(lines), size=size)])


def next_character_loss(model: nn.Module, tokens: dg.Tensor, lengths: dg.Tensor) -> dg.Tensor:
    """The mean cross entropy of each character given those before it; lengths from 2 on."""
    scores = model(tokens[:, :-1], lengths - 1)
    return F.cross_entropy(scores.flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=PADDING)


def training_step(
    model: CharLSTM, optimizer: optim.Optimizer, max_norm: float = 1.0
) -> Callable[[dg.Tensor, dg.Tensor], dg.Tensor]:
    """A function of (tokens, lengths) that trains on them, and returns the loss before."""

    def step(tokens: dg.Tensor, lengths: dg.Tensor) -> dg.Tensor:
        loss = next_character_loss(model, tokens, lengths)
        loss.backward()
        clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


@dg.no_grad()
def generate(model: CharLSTM, begin: str, limit: int = 70, temperature: float = 0.5) -> str:
    """`begin`, continued character by character, each drawn from the model's probabilities."""
    tokens, _ = encode([begin])
    out, state = model.lstm(model.embedding(tokens))
    text = begin
    while len(text) < limit:
        scores = model.head(out[:, -1]) / temperature
        drawn = dg.multinomial(F.softmax(scores, -1), 1)
        if drawn.item() in (END, PADDING):
            break
        text += chr(int(drawn.item()))
        out, state = model.lstm(model.embedding(drawn), state)
    return text


def example_inputs(batch: int = 3, steps: int = 12) -> tuple[dg.Tensor, dg.Tensor]:
    """Random tokens [batch, steps] and lengths [batch]; the first sequence is the longest."""
    lengths = dg.randint(1, steps + 1, (batch,))
    lengths[0] = steps
    tokens = dg.randint(1, 128, (batch, steps))
    inside = dg.arange(steps) < lengths.unsqueeze(1)
    return tokens * inside, lengths


def main() -> None:
    """Train on lines of Python's language reference, and continue some lines."""
    args = options("char_lstm", __doc__, steps=400, batch=32)
    model = CharLSTM()
    step = training_step(model, optim.Adam(model.parameters(), lr=4e-3))
    if not args.eager:
        step = dg.compile(step, dynamic_shapes=DYNAMIC)
    losses, lengths = [], set()
    began = time.perf_counter()
    with progress(args.steps) as report:
        for tokens, sizes in batches(load_lines(), args.batch, args.steps, args.seed):
            losses.append(step(tokens, sizes).item())
            lengths.add(tokens.shape[1])
            report(losses[-1])
    seconds = time.perf_counter() - began
    tail = losses[-20:]
    print(f"loss {losses[0]:.2f} -> {sum(tail) / len(tail):.2f} nats a character")
    how = "eagerly" if args.eager else f"with {len(step.graphs)} graph(s)"  # type: ignore[attr-defined]
    print(f"{args.steps} steps of {len(lengths)} padded lengths in {seconds:.0f} s, {how}\n")
    model.eval()
    for begin in ("The ", "If the ", "def ", "An object"):
        print(repr(generate(model, begin)))


if __name__ == "__main__":
    main()
