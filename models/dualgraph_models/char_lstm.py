"""A language model over characters, on sequences of different lengths."""

from __future__ import annotations

from collections.abc import Sequence

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn
from dualgraph.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

PADDING = 0  # also the target of positions that do not count


class CharLSTM(nn.Module):
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


def next_character_loss(model: nn.Module, tokens: dg.Tensor, lengths: dg.Tensor) -> dg.Tensor:
    """The mean cross entropy of each character given those before it; lengths from 2 on."""
    scores = model(tokens[:, :-1], lengths - 1)
    return F.cross_entropy(scores.flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=PADDING)


def example_inputs(batch: int = 3, steps: int = 12) -> tuple[dg.Tensor, dg.Tensor]:
    """Random tokens [batch, steps] and lengths [batch]; the first sequence is the longest."""
    lengths = dg.randint(1, steps + 1, (batch,))
    lengths[0] = steps
    tokens = dg.randint(1, 128, (batch, steps))
    inside = dg.arange(steps) < lengths.unsqueeze(1)
    return tokens * inside, lengths
