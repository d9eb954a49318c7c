"""Roman numerals: training, and decoding that stops early, eagerly, compiled and exported."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import optim
from dualgraph_compiler.ops.gru import GRU
from dualgraph_models import seq2seq
from tests.models.agreement import Run, agree, same_training

SMALL = list(range(1, 21))
DECODERS = [seq2seq.Greedy, seq2seq.GreedyLoop, seq2seq.Beam, seq2seq.BeamLoop]


def build() -> Run:
    model = seq2seq.Seq2Seq(width=16)
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    return Run(model, optimizer, seq2seq.training_step(model, optimizer))


@pytest.fixture(scope="module")
def model() -> seq2seq.Seq2Seq:
    """A model that knows the numbers up to 20."""
    dg.manual_seed(0)
    run = build()
    step = dg.compile(run.step, dynamic_shapes=seq2seq.DYNAMIC_STEP)
    for batch in seq2seq.batches(SMALL, 20, 150):
        step(*batch)
    run.model.eval()
    return run.model


@pytest.fixture
def steps_taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one element with every step of the decoder that anybody computes."""
    taken: list[int] = []
    eager = GRU.eager

    def counted(self: Any, xp: Any, x: Any, *rest: Any) -> Any:
        if len(rest) == 5:  # the encoder passes lengths, too
            taken.append(x.shape[0])
        return eager(self, xp, x, *rest)

    monkeypatch.setattr(GRU, "eager", counted)
    return taken


def tokens_of(result: Any) -> Any:
    return result[0] if isinstance(result, tuple) else result


@pytest.mark.interpreted
def test_one_graph_trains_on_every_length() -> None:
    data = list(seq2seq.batches([4, 14, 888, 1994, 3000], 2, 25))
    assert len({(source.shape, target.shape) for source, _, target in data}) > 3
    step, losses = same_training(build, data, dynamic_shapes=seq2seq.DYNAMIC_STEP)
    assert len(step.graphs) == 1
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("kind", DECODERS)
def test_it_has_learned(kind: Any, model: seq2seq.Seq2Seq) -> None:
    with dg.no_grad():
        found = seq2seq.decode(tokens_of(kind(model)(*seq2seq.encode(SMALL))))
    assert found == [seq2seq.roman(n) for n in SMALL]


@pytest.mark.parametrize(("numbers", "steps"), [([1, 5, 10], 2), ([2, 7, 1], 4), ([18], 6)])
@pytest.mark.parametrize("kind", DECODERS)
def test_it_stops_when_all_have_ended(
    kind: Any, numbers: list[int], steps: int, model: seq2seq.Seq2Seq, steps_taken: list[int]
) -> None:
    with dg.no_grad():
        tokens = tokens_of(kind(model)(*seq2seq.encode(numbers)))
    if "Greedy" in kind.__name__:
        assert len(steps_taken) == steps
    else:  # a worse beam may be longer
        assert steps <= len(steps_taken) < seq2seq.LIMIT
    assert tokens.shape == (len(numbers), seq2seq.LIMIT)
    assert not tokens[:, steps:].any()
    short = kind(model, limit=2)
    assert tokens_of(short(*seq2seq.encode(numbers))).shape == (len(numbers), 2)


def cases() -> Iterator[tuple[dg.Tensor, dg.Tensor]]:
    for numbers in ([1, 5], [18, 3, 12], [4], SMALL):
        yield seq2seq.encode(numbers)


@pytest.mark.interpreted
@pytest.mark.parametrize(
    ("kind", "plain"),
    [(seq2seq.GreedyLoop, seq2seq.Greedy), (seq2seq.BeamLoop, seq2seq.Beam)],
)
def test_loops_compiled_and_exported(
    kind: Any, plain: Any, model: seq2seq.Seq2Seq, steps_taken: list[int], tmp_path: Any
) -> None:
    loop = kind(model)
    fast = dg.compile(loop, dynamic_shapes=seq2seq.DYNAMIC, execution="interpreter")
    path = tmp_path / "decoder.onnx"
    dg.onnx.export(loop, seq2seq.encode([12, 3, 1]), path, dynamic_shapes=seq2seq.DYNAMIC)
    assert "Loop" in {node.op_type for node in onnx.load(path).graph.node}
    with dg.no_grad():
        for inputs in cases():
            steps_taken.clear()
            wanted = plain(model)(*inputs)
            steps = len(steps_taken)
            results = []
            for run in (loop, fast):
                steps_taken.clear()
                results.append(run(*inputs))
                assert len(steps_taken) == steps
            for found in results:
                np.testing.assert_array_equal(tokens_of(found).numpy(), tokens_of(wanted).numpy())
            agree(path, inputs, wanted)
    assert len(fast.graphs) == 1


def test_a_plain_python_loop_is_captured(model: seq2seq.Seq2Seq, tmp_path: Any) -> None:
    """`while not finished.all() and t < limit` becomes a Loop, compiled and exported."""
    beam = seq2seq.Beam(model)
    fast = dg.compile(beam, dynamic_shapes=seq2seq.DYNAMIC, fullgraph=True)
    path = tmp_path / "beam.onnx"
    dg.onnx.export(beam, seq2seq.encode([12, 3, 1]), path, dynamic_shapes=seq2seq.DYNAMIC)
    with dg.no_grad():
        for inputs in cases():
            tokens, total = beam(*inputs)
            found, found_total = fast(*inputs)
            np.testing.assert_array_equal(found.numpy(), tokens.numpy())
            np.testing.assert_allclose(found_total.numpy(), total.numpy(), rtol=1e-5, atol=1e-6)
            agree(path, inputs, [tokens, total])
    assert len(fast.graphs) == 1


@pytest.mark.filterwarnings("ignore::dualgraph.tracing.failure.EagerFallbackWarning")
def test_a_plain_python_loop_gives_eager_tokens(model: seq2seq.Seq2Seq) -> None:
    greedy = seq2seq.Greedy(model)
    fast = dg.compile(greedy)
    with dg.no_grad():
        for inputs in cases():
            np.testing.assert_array_equal(fast(*inputs).numpy(), greedy(*inputs).numpy())


def test_one_beam_is_greedy(model: seq2seq.Seq2Seq) -> None:
    numbers = seq2seq.encode([1994, 17, 388])
    with dg.no_grad():
        found, _ = seq2seq.Beam(model, width=1)(*numbers)
        np.testing.assert_array_equal(found.numpy(), seq2seq.Greedy(model)(*numbers).numpy())


def test_beams_find_the_most_probable_sequence() -> None:
    """Two steps of ten beams see all 100 sequences."""
    model = seq2seq.Seq2Seq(width=8).eval()
    source, lengths = seq2seq.encode([1234])
    with dg.no_grad():
        model.head.weight.mul_(6)  # less alike
        found, total = seq2seq.Beam(model, width=10, limit=2)(source, lengths)
        pairs = list(itertools.product(range(10), repeat=2))
        target = dg.tensor([[seq2seq.BEGIN, first] for first, _ in pairs])
        n = len(pairs)
        scores = model(source.expand(n, -1), lengths.expand(n), target)
        gain = F.log_softmax(scores, dim=-1).gather(2, dg.tensor(pairs).unsqueeze(2))[..., 0]
        sums = gain.sum(1).numpy()
    ended = np.array([first == seq2seq.END for first, _ in pairs])
    padded = np.array([second == seq2seq.PADDING for _, second in pairs])
    sums = np.where(ended, np.where(padded, gain[:, 0].numpy(), -np.inf), sums)
    best = int(sums.argmax())
    assert tuple(found[0].tolist()) == pairs[best]
    assert total.item() == pytest.approx(sums[best], rel=1e-5)


def test_encoder_and_trainer_export(model: seq2seq.Seq2Seq, tmp_path: Any) -> None:
    path = tmp_path / "scores.onnx"
    source, lengths = seq2seq.encode([12, 3, 1])
    target = seq2seq.encode_target([12, 3, 1])
    dg.onnx.export(model, (source, lengths, target), path, dynamic_shapes=seq2seq.DYNAMIC_STEP)
    for numbers in ([3999, 8], [5]):
        inputs = (*seq2seq.encode(numbers), seq2seq.encode_target(numbers))
        agree(path, inputs, model(*inputs))


def test_roman_numerals() -> None:
    known = {
        1: "I",
        4: "IV",
        9: "IX",
        14: "XIV",
        400: "CD",
        1994: "MCMXCIV",
        3888: "MMMDCCCLXXXVIII",
    }
    assert {n: seq2seq.roman(n) for n in known} == known
    signs = dict(zip(seq2seq.LETTERS, (1, 5, 10, 50, 100, 500, 1000)))
    for n in range(1, seq2seq.LARGEST + 1):
        values = [signs[c] for c in seq2seq.roman(n)]
        smaller = [a < b for a, b in itertools.pairwise(values)] + [False]
        assert sum(-v if less else v for v, less in zip(values, smaller)) == n
    assert seq2seq.decode(seq2seq.encode_target([1994, 5])[:, 1:]) == ["MCMXCIV", "V"]
    assert max(len(seq2seq.roman(n)) for n in range(1, 4000)) + 1 == seq2seq.LIMIT
