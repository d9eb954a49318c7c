"""Layers in a trace: source scopes, running statistics, packed sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn
from dualgraph.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.hidden = [nn.ReLU()]  # in a plain list: no name

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.hidden[0](x) + 1


def test_nodes_know_the_path_of_their_module() -> None:
    graph = dg.trace(Net().eval(), dg.ones(2, 3))
    scopes = [node.loc.scope for node in graph.nodes if node.loc is not None]
    assert scopes[:5] == ["stem.0", "stem.1", "blocks.0", "blocks.1", "ReLU"]
    assert scopes[-1] == ""


def test_hooks_run_while_tracing() -> None:
    net = nn.Sequential(nn.Linear(3, 4))
    net[0].register_forward_hook(lambda module, args, out: F.relu(out))
    graph = dg.trace(net, dg.ones(2, 3))
    assert [n.op.name for n in graph.nodes] == ["linear", "relu"]
    assert {n.loc.scope for n in graph.nodes if n.loc is not None} == {"0"}


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("layer", [nn.BatchNorm2d, nn.InstanceNorm2d])
def test_running_statistics_are_written_by_compiled_code(layer: Any, momentum: Any) -> None:
    if layer is nn.InstanceNorm2d and momentum is None:
        pytest.skip("instance norm has no plain average")
    one, two = (layer(3, momentum=momentum, track_running_stats=True) for _ in range(2))
    fast = dg.compile(two)
    for _ in range(3):
        x = dg.randn(4, 3, 5, 5)
        np.testing.assert_allclose(fast(x).detach().numpy(), one(x).detach().numpy(), atol=1e-5)
    for a, b in zip(one.buffers(), two.buffers(), strict=True):
        np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=1e-5, atol=1e-6)
    assert two.running_mean.numpy().any()


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_packed_sequences_can_be_traced(name: str) -> None:
    layer = getattr(nn, name)(3, 4, num_layers=2, bidirectional=True, batch_first=True)

    def run(x: dg.Tensor, lengths: dg.Tensor) -> Any:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        out, last = layer(packed)
        return pad_packed_sequence(out, batch_first=True, padding_value=-1.0)[0], last

    x, lengths = dg.randn(3, 6, 3), dg.tensor([2, 6, 3])
    fast = dg.compile(run)
    for got, wanted in zip(_flat(fast(x, lengths)), _flat(run(x, lengths)), strict=True):
        np.testing.assert_allclose(got.detach().numpy(), wanted.detach().numpy(), atol=1e-6)
    lengths = dg.tensor([6, 1, 4])
    for got, wanted in zip(_flat(fast(x, lengths)), _flat(run(x, lengths)), strict=True):
        np.testing.assert_allclose(got.detach().numpy(), wanted.detach().numpy(), atol=1e-6)


def _flat(value: Any) -> list[Any]:
    return [t for v in value for t in _flat(v)] if isinstance(value, tuple) else [value]


def test_the_packed_layout_needs_the_lengths() -> None:
    def run(x: dg.Tensor, lengths: dg.Tensor) -> dg.Tensor:
        return pack_padded_sequence(x, lengths).data * 2

    with pytest.raises(RuntimeError, match="depends on their lengths' values"):
        dg.trace(run, dg.ones(3, 2, 1), dg.tensor([3, 2]))


def test_a_training_step_compiles() -> None:
    dg.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    model.append(nn.Linear(4 * 36, 3))
    opt = dg.optim.SGD(model.parameters(), lr=0.1)
    x, y = dg.randn(8, 1, 8, 8), dg.arange(8) % 3

    @dg.compile
    def loss_and_gradients(x: dg.Tensor, y: dg.Tensor) -> dg.Tensor:
        loss = F.cross_entropy(model(x), y, label_smoothing=0.1)
        loss.backward()
        return loss

    losses = []
    for _ in range(5):
        opt.zero_grad()
        losses.append(loss_and_gradients(x, y).item())
        opt.step()
    assert losses[-1] < losses[0]
