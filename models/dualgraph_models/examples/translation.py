"""Sequence to sequence with a Transformer: numbers in English words become numbers in figures."""

import argparse
import math
import random

import torch
import torch.nn as nn
from torch.nn import Transformer
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

PAD_IDX, BOS_IDX, EOS_IDX = 0, 1, 2
SPECIALS = ["<pad>", "<bos>", "<eos>"]
UP_TO_NINE = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEENS = ["thir", "four", "fif", "six", "seven", "eigh", "nine"]
ONES = [*UP_TO_NINE, "ten", "eleven", "twelve", *(f"{name}teen" for name in TEENS)]
TENS = [f"{name}ty" for name in ["twen", "thir", "for", "fif", "six", "seven", "eigh", "nine"]]
WORDS = {w: i for i, w in enumerate([*SPECIALS, *ONES, *TENS, "hundred"])}
FIGURES = {f: i for i, f in enumerate([*SPECIALS, *"0123456789"])}


def in_words(n):
    """A number below 1000 as a list of English words."""
    if n >= 100:
        rest = in_words(n % 100) if n % 100 else []
        return [ONES[n // 100], "hundred", *rest]
    if n >= 20:
        return [TENS[n // 10 - 2], *([ONES[n % 10]] if n % 10 else [])]
    return [ONES[n]]


def tensor_transform(tokens, vocab):
    """Token numbers between a beginning and an end."""
    ids = torch.tensor([vocab[t] for t in tokens])
    return torch.cat((torch.tensor([BOS_IDX]), ids, torch.tensor([EOS_IDX])))


def collate_fn(batch):
    """Columns of source and target, padded to the longest."""
    src_batch = [tensor_transform(in_words(n), WORDS) for n in batch]
    tgt_batch = [tensor_transform(str(n), FIGURES) for n in batch]
    return (
        pad_sequence(src_batch, padding_value=PAD_IDX),
        pad_sequence(tgt_batch, padding_value=PAD_IDX),
    )


class PositionalEncoding(nn.Module):
    """Sines and cosines of the place, added to each token."""

    def __init__(self, emb_size, dropout, maxlen=50):
        super().__init__()
        den = torch.exp(-torch.arange(0, emb_size, 2) * math.log(10000) / emb_size)
        pos = torch.arange(0, maxlen).reshape(maxlen, 1)
        pos_embedding = torch.zeros((maxlen, emb_size))
        pos_embedding[:, 0::2] = torch.sin(pos * den)
        pos_embedding[:, 1::2] = torch.cos(pos * den)
        pos_embedding = pos_embedding.unsqueeze(-2)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("pos_embedding", pos_embedding)

    def forward(self, token_embedding):
        return self.dropout(token_embedding + self.pos_embedding[: token_embedding.size(0), :])


class TokenEmbedding(nn.Module):
    """Embeddings scaled by the root of their size."""

    def __init__(self, vocab_size, emb_size):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, emb_size)
        self.emb_size = emb_size

    def forward(self, tokens):
        return self.embedding(tokens.long()) * math.sqrt(self.emb_size)


class Seq2SeqTransformer(nn.Module):
    """`nn.Transformer` between embeddings and scores."""

    def __init__(self, layers, emb_size, nhead, dim_feedforward, dropout):
        super().__init__()
        self.transformer = Transformer(
            d_model=emb_size,
            nhead=nhead,
            num_encoder_layers=layers,
            num_decoder_layers=layers,
            dim_feedforward=dim_feedforward,
            dropout=dropout,
        )
        self.generator = nn.Linear(emb_size, len(FIGURES))
        self.src_tok_emb = TokenEmbedding(len(WORDS), emb_size)
        self.tgt_tok_emb = TokenEmbedding(len(FIGURES), emb_size)
        self.positional_encoding = PositionalEncoding(emb_size, dropout=dropout)

    def forward(
        self,
        src,
        trg,
        src_mask,
        tgt_mask,
        src_padding_mask,
        tgt_padding_mask,
        memory_key_padding_mask,
    ):
        src_emb = self.positional_encoding(self.src_tok_emb(src))
        tgt_emb = self.positional_encoding(self.tgt_tok_emb(trg))
        outs = self.transformer(
            src_emb,
            tgt_emb,
            src_mask,
            tgt_mask,
            None,
            src_padding_mask,
            tgt_padding_mask,
            memory_key_padding_mask,
        )
        return self.generator(outs)

    def encode(self, src, src_mask):
        return self.transformer.encoder(self.positional_encoding(self.src_tok_emb(src)), src_mask)

    def decode(self, tgt, memory, tgt_mask):
        return self.transformer.decoder(
            self.positional_encoding(self.tgt_tok_emb(tgt)), memory, tgt_mask
        )


def generate_square_subsequent_mask(sz, device):
    """Minus infinity above the diagonal."""
    mask = (torch.triu(torch.ones((sz, sz), device=device)) == 1).transpose(0, 1)
    return mask.float().masked_fill(mask == 0, float("-inf")).masked_fill(mask == 1, 0.0)


def create_mask(src, tgt):
    """What source and target may look at, and where they are padded."""
    src_seq_len, tgt_seq_len = src.shape[0], tgt.shape[0]
    tgt_mask = generate_square_subsequent_mask(tgt_seq_len, src.device)
    src_mask = torch.zeros((src_seq_len, src_seq_len), device=src.device).type(torch.bool)
    src_padding_mask = (src == PAD_IDX).transpose(0, 1)
    # Of one kind with the causal mask.
    tgt_padding_mask = torch.zeros(tgt.shape[::-1], device=src.device)
    tgt_padding_mask = tgt_padding_mask.masked_fill((tgt == PAD_IDX).transpose(0, 1), float("-inf"))
    return src_mask, tgt_mask, src_padding_mask, tgt_padding_mask


def run_batch(model, loss_fn, src, tgt):
    """The loss of every figure given those before it."""
    tgt_input = tgt[:-1, :]
    src_mask, tgt_mask, src_padding_mask, tgt_padding_mask = create_mask(src, tgt_input)
    logits = model(
        src,
        tgt_input,
        src_mask,
        tgt_mask,
        src_padding_mask,
        tgt_padding_mask,
        src_padding_mask,
    )
    tgt_out = tgt[1:, :]
    return loss_fn(logits.reshape(-1, logits.shape[-1]), tgt_out.reshape(-1))


def greedy_decode(model, src, src_mask, max_len, device):
    """The most probable figure, one after the other."""
    memory = model.encode(src, src_mask)
    ys = torch.ones(1, 1).fill_(BOS_IDX).type(torch.long).to(device)
    for _ in range(max_len - 1):
        tgt_mask = generate_square_subsequent_mask(ys.size(0), device).type(torch.bool)
        tgt_mask = torch.triu(torch.ones_like(tgt_mask, dtype=torch.bool), diagonal=1)
        out = model.decode(ys, memory, tgt_mask)
        out = out.transpose(0, 1)
        prob = model.generator(out[:, -1])
        _, next_word = torch.max(prob, dim=1)
        next_word = next_word.item()
        ys = torch.cat([ys, torch.ones(1, 1).type_as(src.data).fill_(next_word)], dim=0)
        if next_word == EOS_IDX:
            break
    return ys


def translate(model, n, device):
    """The figures for a number's words."""
    model.eval()
    src = tensor_transform(in_words(n), WORDS).view(-1, 1).to(device)
    src_mask = torch.zeros(src.shape[0], src.shape[0]).type(torch.bool).to(device)
    with torch.no_grad():
        tokens = greedy_decode(model, src, src_mask, 6, device).flatten().cpu().numpy()
    names = list(FIGURES)
    return "".join(names[t] for t in tokens if t not in (BOS_IDX, EOS_IDX))


def main():
    """Read the options, train, and translate some numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--emb-size", type=int, default=48)
    parser.add_argument("--nhead", type=int, default=4)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--lr", type=float, default=0.001)
    parser.add_argument("--count", type=int, default=900, help="numbers to train on")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    numbers = list(range(1000))
    random.shuffle(numbers)
    train, test = numbers[: args.count], numbers[900:]
    model = Seq2SeqTransformer(
        args.layers, args.emb_size, args.nhead, 2 * args.emb_size, args.dropout
    )
    for p in model.parameters():
        if p.dim() > 1:
            nn.init.xavier_uniform_(p)
    model = model.to(device)
    loss_fn = torch.nn.CrossEntropyLoss(ignore_index=PAD_IDX)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, betas=(0.9, 0.98), eps=1e-9)
    for epoch in range(1, args.epochs + 1):
        model.train()
        losses = 0
        loader = DataLoader(train, batch_size=args.batch_size, collate_fn=collate_fn)
        for src, tgt in loader:
            src, tgt = src.to(device), tgt.to(device)
            loss = run_batch(model, loss_fn, src, tgt)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses += loss.item()
        model.eval()
        with torch.no_grad():
            src, tgt = collate_fn(test)
            val = run_batch(model, loss_fn, src.to(device), tgt.to(device)).item()
        print(f"Epoch: {epoch}, Train loss: {losses / len(loader):.3f}, Val loss: {val:.3f}")
    for n in test[:5]:
        print(f"{' '.join(in_words(n))}: {translate(model, n, device)}")


if __name__ == "__main__":
    main()
