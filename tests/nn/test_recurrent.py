"""Recurrent layers and packed sequences against PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import nn
from dualgraph.nn.utils import rnn as mine_rnn

from .parity import close, compare, copy_state, ours

torch = pytest.importorskip("torch")

LAYERS = ("RNN", "LSTM", "GRU")
OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "bias": False},
    {"bidirectional": True},
    {"num_layers": 3, "bidirectional": True, "batch_first": True},
]


def build(name: str, *args: Any, **options: Any) -> tuple[Any, Any]:
    theirs = getattr(torch.nn, name)(*args, **options)
    mine = getattr(nn, name)(*args, **options)
    assert repr(mine) == repr(theirs)
    copy_state(theirs, mine)
    return mine, theirs


def states(name: str, layers: int, *batch: int, hidden: int = 5) -> Any:
    many = tuple(
        torch.randn(layers, *batch, hidden, requires_grad=True)
        for _ in range(2 if name == "LSTM" else 1)
    )
    return many if name == "LSTM" else many[0]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_layer(name: str, options: dict[str, Any]) -> None:
    mine, theirs = build(name, 4, 5, **options)
    x = torch.randn(6, 3, 4, requires_grad=True)
    compare(mine, theirs, (x,))
    layers = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    batch = 6 if options.get("batch_first") else 3
    mine.zero_grad()
    theirs.zero_grad()
    x = torch.randn(6, 3, 4, requires_grad=True)
    compare(mine, theirs, (x, states(name, layers, batch)))


@pytest.mark.parametrize("name", LAYERS)
def test_one_sequence_without_a_batch(name: str) -> None:
    mine, theirs = build(name, 4, 5, bidirectional=True)
    x = torch.randn(6, 4, requires_grad=True)
    compare(mine, theirs, (x,))
    compare(*build(name, 4, 5), (x.detach(), states(name, 1)))


def test_relu() -> None:
    compare(*build("RNN", 4, 5, 1, "relu"), (torch.randn(6, 3, 4),))
    mine = nn.RNN(4, 5, nonlinearity="relu")
    assert mine.nonlinearity == "relu"
    with pytest.raises(ValueError, match="Unknown nonlinearity"):
        nn.RNN(4, 5, nonlinearity="sin")


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_packed(name: str, batch_first: bool, ordered: bool) -> None:
    mine, theirs = build(name, 4, 5, num_layers=2, bidirectional=True)
    lengths = [6, 4, 4, 1] if ordered else [4, 1, 6, 4]
    x = torch.randn(6, 4, 4).transpose(0, 1 if batch_first else 0).contiguous().requires_grad_()
    y = ours(x)
    pack = torch.nn.utils.rnn.pack_padded_sequence
    theirs_in = pack(x, torch.tensor(lengths), batch_first, ordered)
    mine_in = mine_rnn.pack_padded_sequence(y, lengths, batch_first, ordered)
    for a, b in zip(mine_in, theirs_in, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            close(a, b)
    wanted, last = theirs(theirs_in)
    got, mine_last = mine(mine_in)
    for a, b in zip(got, wanted, strict=True):
        if a is not None:
            close(a, b)
    flat = (lambda s: s) if name == "LSTM" else (lambda s: (s,))
    for a, b in zip(flat(mine_last), flat(last), strict=True):
        close(a, b)
    wanted, wanted_lengths = torch.nn.utils.rnn.pad_packed_sequence(
        wanted, batch_first, -1.0, total_length=8
    )
    got, got_lengths = mine_rnn.pad_packed_sequence(got, batch_first, -1.0, total_length=8)
    close(got, wanted)
    close(got_lengths, wanted_lengths)
    factor = torch.randn_like(wanted)
    ((wanted * factor).sum() + last[0].sum()).backward()
    ((got * ours(factor)).sum() + mine_last[0].sum()).backward()
    close(y.grad, x.grad)
    for (key, p), q in zip(mine.named_parameters(), theirs.parameters(), strict=True):
        close(p.grad, q.grad), key


def test_packed_layout_made_by_hand() -> None:
    """PyTorch's idiom: a layer applied to `data`, packed again with the same sizes."""
    rows = [dg.randn(n, 3) for n in (2, 5, 3)]
    packed = mine_rnn.pack_sequence(rows, enforce_sorted=False)
    data, batch_sizes, sorted_indices, unsorted_indices = packed
    assert batch_sizes.tolist() == [3, 3, 2, 1, 1]
    assert sorted_indices is not None
    assert sorted_indices.tolist() == [1, 2, 0]
    doubled = mine_rnn.PackedSequence(data * 2, batch_sizes, sorted_indices, unsorted_indices)
    for row, back in zip(rows, mine_rnn.unpack_sequence(doubled), strict=True):
        assert dg.equal(row * 2, back)
    lstm = nn.LSTM(3, 4)
    out, (h, _) = lstm(doubled)
    for i, row in enumerate(rows):
        alone, (last, _) = lstm(row * 2)
        np.testing.assert_allclose(
            mine_rnn.unpack_sequence(out)[i].detach().numpy(), alone.detach().numpy(), atol=1e-6
        )
        np.testing.assert_allclose(h[0, i].detach().numpy(), last[0].detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("side", ["left", "right"])
def test_pad_sequence(batch_first: bool, side: str) -> None:
    rows = [torch.randn(n, 2, 3) for n in (2, 4, 1)]
    wanted = torch.nn.utils.rnn.pad_sequence(rows, batch_first, 7.0, side)
    close(mine_rnn.pad_sequence(ours(rows), batch_first, 7.0, side), wanted)


def test_lengths_are_checked() -> None:
    x = dg.ones(4, 2, 3)
    pack = mine_rnn.pack_padded_sequence
    with pytest.raises(ValueError, match="sorted in decreasing order"):
        pack(x, [2, 4])
    with pytest.raises(ValueError, match="greater than 0"):
        pack(x, [2, 0])
    with pytest.raises(ValueError, match="equal to batch_size"):
        pack(x, [2, 2, 2])
    with pytest.raises(ValueError, match="at most 4"):
        pack(x, [5, 2])
    with pytest.raises(ValueError, match="at least the length of the longest"):
        mine_rnn.pad_packed_sequence(pack(x, [4, 2]), total_length=3)


def test_dropout_between_layers() -> None:
    lstm = nn.LSTM(4, 5, num_layers=2, dropout=0.5)
    x = dg.randn(6, 3, 4)
    assert not dg.equal(lstm(x)[0], lstm(x)[0])
    lstm.eval()
    assert dg.equal(lstm(x)[0], lstm(x)[0])
    with pytest.warns(UserWarning, match="expects num_layers greater than 1"):
        nn.GRU(4, 5, dropout=0.5)
    with pytest.raises(ValueError, match="dropout should be a number in range"):
        nn.GRU(4, 5, dropout=1.5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cell(name: str, bias: bool) -> None:
    mine, theirs = build(name, 4, 5, bias=bias)
    x = torch.randn(3, 4, requires_grad=True)
    compare(mine, theirs, (x,))
    state: Any = tuple(torch.randn(3, 5, requires_grad=True) for _ in range(2))
    mine.zero_grad()
    theirs.zero_grad()
    compare(mine, theirs, (x.detach(), state if name == "LSTMCell" else state[0]))
    mine.zero_grad()
    theirs.zero_grad()
    compare(mine, theirs, (torch.randn(4),))


def test_relu_cell() -> None:
    mine, theirs = build("RNNCell", 4, 5, nonlinearity="relu")
    compare(mine, theirs, (torch.randn(3, 4),))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.LSTM(4, 5)(dg.ones(3)), "2D or 3D"),
        (lambda: nn.LSTM(4, 5)(dg.ones(3, 2, 6)), "must be equal to input_size"),
        (lambda: nn.GRU(4, 5)(dg.ones(3, 2, 4), dg.ones(1, 3, 5)), r"Expected hidden size"),
        (lambda: nn.GRU(4, 0), "hidden_size must be greater than zero"),
        (lambda: nn.LSTMCell(4, 5)(dg.ones(3, 2, 4)), "1D or 2D"),
    ],
)
def test_misuse(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# -- projections ----------------------------------------------------------------------------------

PROJECTED: list[dict[str, Any]] = [
    {"proj_size": 2},
    {"proj_size": 3, "num_layers": 2, "bidirectional": True, "bias": False},
]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("options", PROJECTED, ids=str)
def test_projected_lstm(options: dict[str, Any], tmp_path: Any) -> None:
    mine, theirs = build("LSTM", 4, 5, **options)
    x = torch.randn(6, 3, 4, requires_grad=True)
    compare(mine, theirs, (x,))
    wanted = theirs(x)[0]
    close(dg.compile(lambda v: mine(v)[0])(ours(x)), wanted)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, [6, 2, 1])
    own = mine_rnn.pack_padded_sequence(ours(x), [6, 2, 1])
    close(mine(own)[0].data, theirs(packed)[0].data)
    file = tmp_path / "projected.onnx"
    dg.onnx.export(mine, (ours(x),), file)
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(str(file))
    found = session.run(None, {session.get_inputs()[0].name: x.detach().numpy()})
    assert np.allclose(found[0], wanted.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("size", [-1, 5])
def test_projections_are_smaller_than_the_state(size: int) -> None:
    with pytest.raises(ValueError, match="proj_size"):
        nn.LSTM(4, 5, proj_size=size)
    with pytest.raises(ValueError, match="only supported for LSTM"):
        nn.GRU(4, 5, proj_size=2)
