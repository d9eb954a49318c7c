"""A recurrent language model: W. Zaremba, I. Sutskever and O. Vinyals, "Recurrent neural network
regularization" (2014).

An embedding, LSTM layers with dropout between them, and scores of the next word; the state of the
LSTM goes from one piece of text to the next. Names are those of PyTorch's example of a word-level
language model.
"""

from __future__ import annotations

import dualgraph as dg
from dualgraph import nn
from dualgraph_models.pretrained import Pretrained

# The last hidden and cell states of every layer, [layers, N, width] each.
State = tuple[dg.Tensor, dg.Tensor]


class LSTMLanguageModel(nn.Module, Pretrained):
    """Scores of the next word after every word.

    Shapes: words int64 [N, T] -> scores [N, T, vocabulary], and the state after the last word.

    Args:
        vocabulary: the number of different words.
        width: features of a word and of the LSTM.
        layers: of the LSTM.
        dropout: of embeddings, between layers and before the scores, while training.
        tied: whether embedding and scores share one matrix (O. Press and L. Wolf, 2017).
    """

    def __init__(
        self,
        vocabulary: int = 10000,
        width: int = 256,
        layers: int = 2,
        dropout: float = 0.5,
        tied: bool = True,
    ) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(vocabulary, width)
        self.rnn = nn.LSTM(width, width, layers, dropout=dropout, batch_first=True)
        self.decoder = nn.Linear(width, vocabulary)
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)
        if tied:
            self.decoder.weight = self.encoder.weight

    def forward(self, words: dg.Tensor, state: State | None = None) -> tuple[dg.Tensor, State]:
        y, state = self.rnn(self.drop(self.encoder(words)), state)
        return self.decoder(self.drop(y)), state


def example_inputs(batch: int = 2, length: int = 16) -> tuple[dg.Tensor]:
    """Random words [batch, length]."""
    return (dg.randint(0, 10000, (batch, length)),)
