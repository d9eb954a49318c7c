"""A small GPT: A. Radford et al., "Language models are unsupervised multitask learners" (2019).

Pre-norm transformer blocks, learned positions, and one matrix for the embedding and the scores,
trained with AdamW (decay on matrices only), gradient clipping and a warm-up into a cosine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn, optim
from dualgraph.nn.utils import clip_grad_norm_
from dualgraph.optim import lr_scheduler
from dualgraph_models.datasets import load_text
from dualgraph_models.pretrained import Pretrained
from dualgraph_models.running import options, progress

# For dg.compile and for the export of the model: what may vary.
DYNAMIC = {"tokens": {0: "batch", 1: "time"}}

# Keys and values of a layer's attention, each [N, heads, T, width / heads], of tokens seen before.
Past = tuple[dg.Tensor, dg.Tensor]


@dataclass(frozen=True)
class Config:
    """Sizes of a GPT; `context` is the largest number of tokens it looks at."""

    vocabulary: int = 128
    context: int = 64
    layers: int = 4
    heads: int = 4
    width: int = 128
    dropout: float = 0.1


class CausalSelfAttention(nn.Module):
    """Each position attends to itself and to those before it. Shapes: [N, T, width] -> the same."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.dropout
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        q, k, v = self._heads(x)
        y = F.scaled_dot_product_attention(
            q, k, v, dropout_p=self.dropout if self.training else 0.0, is_causal=True
        )
        return self.out(y.transpose(1, 2).reshape(x.shape))  # type: ignore[no-any-return]

    def next(self, x: dg.Tensor, past: Past) -> tuple[dg.Tensor, Past]:
        """The same for one more token, x [N, 1, width], after those in `past`; and the new past."""
        q, k, v = self._heads(x)
        k, v = dg.cat([past[0], k], dim=2), dg.cat([past[1], v], dim=2)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(x.shape)), (k, v)

    def _heads(self, x: dg.Tensor) -> tuple[dg.Tensor, dg.Tensor, dg.Tensor]:
        n, t, width = x.shape
        heads = (n, t, self.heads, width // self.heads)
        q, k, v = (part.view(heads).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        return q, k, v


class Block(nn.Module):
    """Attention and two linear layers, each added to what it reads. Shapes: [N, T, width] kept."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.width)
        self.attention = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.width)
        self.mlp = nn.Sequential(
            nn.Linear(config.width, 4 * config.width),
            nn.GELU(),
            nn.Linear(4 * config.width, config.width),
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        x = x + self.dropout(self.attention(self.ln_1(x)))
        return x + self.dropout(self.mlp(self.ln_2(x)))  # type: ignore[no-any-return]

    def next(self, x: dg.Tensor, past: Past) -> tuple[dg.Tensor, Past]:
        """The same for one more token, x [N, 1, width], after those in `past`; and the new past."""
        y, past = self.attention.next(self.ln_1(x), past)
        x = x + self.dropout(y)
        return x + self.dropout(self.mlp(self.ln_2(x))), past


class GPT(nn.Module, Pretrained):
    """Scores of the next token at every position.

    Shapes: tokens int64 [N, T], T up to `config.context` -> scores [N, T, vocabulary].
    """

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.layers)))
        self.ln = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        self.head.weight = self.tokens.weight
        self.apply(_initialize)
        for block in self.blocks:  # 2 * layers branches add up on the way to the last norm
            for layer in (block.attention.out, block.mlp[2]):
                nn.init.normal_(layer.weight, std=0.02 / math.sqrt(2 * config.layers))

    def forward(self, tokens: dg.Tensor) -> dg.Tensor:
        positions = dg.arange(tokens.shape[1], device=tokens.device)
        x = self.dropout(self.tokens(tokens) + self.positions(positions))
        return self.head(self.ln(self.blocks(x)))  # type: ignore[no-any-return]

    def next(self, token: dg.Tensor, past: list[Past]) -> tuple[dg.Tensor, list[Past]]:
        """Scores after one more token, int64 [N, 1], given the past of each block; the new past.

        What `forward` says of the last token of all, [N, 1, vocabulary], without computing those
        before it again.
        """
        position = dg.arange(past[0][0].shape[2], past[0][0].shape[2] + 1, device=token.device)
        x = self.dropout(self.tokens(token) + self.positions(position))
        new = []
        for block, before in zip(self.blocks, past, strict=True):
            x, after = block.next(x, before)
            new.append(after)
        return self.head(self.ln(x)), new

    def empty_past(self, batch: int = 1) -> list[Past]:
        """The past of every block before the first token."""
        config = self.config
        shape = (batch, config.heads, 0, config.width // config.heads)
        return [(dg.zeros(shape), dg.zeros(shape)) for _ in range(config.layers)]


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def encode(text: str) -> dg.Tensor:
    """ASCII text as tokens, int64 [len(text)].

    Raises:
        UnicodeEncodeError: a character outside ASCII.
    """
    return dg.tensor(list(text.encode("ascii")))


def decode(tokens: dg.Tensor) -> str:
    """Tokens [T] as text."""
    return bytes(tokens.tolist()).decode("ascii")


# -- training -------------------------------------------------------------------------------------


def optimizer_for(model: GPT, rate: float = 3e-3, decay: float = 0.1) -> optim.AdamW:
    """AdamW that decays matrices, and neither biases nor the weights of norms."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return optim.AdamW(groups, lr=rate, betas=(0.9, 0.95))


def schedule_for(optimizer: optim.Optimizer, steps: int, warmup: int) -> Any:
    """A linear warm-up, then half a cosine down to a tenth of the rate (Loshchilov & Hutter)."""
    rate = optimizer.param_groups[0]["lr"]
    return lr_scheduler.SequentialLR(
        optimizer,
        [
            lr_scheduler.LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup),
            lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps - warmup, eta_min=rate / 10),
        ],
        milestones=[warmup],
    )


def loss_of(model: Callable[[dg.Tensor], Any], tokens: dg.Tensor) -> Any:
    """The mean cross entropy of every token [N, T + 1] given those before it in its row."""
    scores = model(tokens[:, :-1])
    return F.cross_entropy(scores.flatten(0, 1), tokens[:, 1:].flatten())


def training_step(
    model: GPT, optimizer: optim.Optimizer, schedule: Any, max_norm: float = 1.0
) -> Callable[[dg.Tensor], dg.Tensor]:
    """A function of tokens [N, T + 1] that trains on them, and returns the loss before."""

    def step(tokens: dg.Tensor) -> dg.Tensor:
        loss = loss_of(model, tokens)
        loss.backward()
        clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        return loss.detach()  # type: ignore[no-any-return]

    return step


def batches(data: dg.Tensor, size: int, length: int, count: int, seed: int) -> Iterator[dg.Tensor]:
    """`count` batches of `size` pieces of the tokens `data`, drawn at random: [size, length]."""
    rng = np.random.default_rng(seed)
    pieces = np.arange(length)
    for _ in range(count):
        starts = rng.integers(data.shape[0] - length + 1, size=(size, 1))
        yield data[dg.tensor(starts + pieces)]


@dg.no_grad()
def generate(
    model: GPT, tokens: dg.Tensor, count: int, temperature: float = 0.8, top_k: int | None = None
) -> dg.Tensor:
    """Tokens [N, T] continued by `count`, each drawn from the model's probabilities.

    With `top_k`, from those of the `top_k` most probable tokens. `model` may be compiled.
    """
    context = model.config.context
    for _ in range(count):
        scores = model(tokens[:, -context:])[:, -1] / temperature
        if top_k is not None:
            least = scores.topk(top_k)[0][:, -1:]
            scores = scores.masked_fill(scores < least, -math.inf)
        drawn = dg.multinomial(F.softmax(scores, dim=-1), 1)
        tokens = dg.cat([tokens, drawn], dim=1)
    return tokens


@dg.no_grad()
def greedy(model: GPT, tokens: dg.Tensor, count: int, next_scores: Any = None) -> dg.Tensor:
    """Tokens [N, T] continued by the `count` most probable ones, up to the model's context.

    Keys and values of what came before are kept. `next_scores` stands for `model.next`, if given:
    the same compiled.
    """
    next_scores = next_scores or model.next
    past = model.empty_past(tokens.shape[0])
    for i in range(tokens.shape[1] + count - 1):
        scores, past = next_scores(tokens[:, i : i + 1], past)
        if i + 1 == tokens.shape[1]:
            tokens = dg.cat([tokens, scores[:, -1].argmax(-1, keepdim=True)], dim=1)
    return tokens


def example_inputs(batch: int = 2, length: int = 16) -> tuple[dg.Tensor]:
    """Random tokens [batch, length]."""
    return (dg.randint(0, 128, (batch, length)),)


def main() -> None:
    """Train on Python's language reference, and write some more of it."""
    args = options("gpt", __doc__, steps=600, batch=12)
    text = load_text()
    cut = int(0.9 * len(text))
    train, held_out = encode(text[:cut]), encode(text[cut:])
    model = GPT()
    length = model.config.context + 1
    test = dg.cat(list(batches(held_out, args.batch, length, 8, args.seed)))
    optimizer = optimizer_for(model)
    schedule = schedule_for(optimizer, args.steps, max(1, args.steps // 10))
    step: Any = training_step(model, optimizer, schedule)
    fast: Any = model
    if not args.eager:
        step, fast = dg.compile(step), dg.compile(model, dynamic_shapes=DYNAMIC)

    @dg.no_grad()
    def test_loss() -> float:
        model.eval()
        loss = float(loss_of(fast, test).item())
        model.train()
        return loss

    before = test_loss()
    began = time.perf_counter()
    with progress(args.steps) as report:
        for tokens in batches(train, args.batch, length, args.steps, args.seed):
            report(step(tokens).item())
    seconds = time.perf_counter() - began
    count = sum(p.numel() for p in model.parameters())
    print(f"{count:,} parameters, {args.steps} steps in {seconds:.0f} s")
    print(f"held-out loss {before:.2f} -> {test_loss():.2f} nats a character\n")
    model.eval()
    print(decode(generate(fast, encode("The ").unsqueeze(0), 400, temperature=0.6)[0]))


if __name__ == "__main__":
    main()
