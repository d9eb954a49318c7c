"""dualgraph.utils.summary: shapes, parameters and work of every layer."""

from __future__ import annotations

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn
from dualgraph.utils import summary


class Net(nn.Module):
    """Layers, functions, one layer used twice, and one not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.BatchNorm2d(4), nn.ReLU())
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.linear = nn.Linear(8, 8, bias=False)
        self.idle = nn.Linear(100, 100)

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        y = F.relu(self.up(self.body(x)))
        y = self.linear(self.linear(y))
        return y @ y.transpose(-1, -2)


def test_rows() -> None:
    model = Net().train()
    found = summary(model, dg.randn(2, 2, 6, 6))
    assert model.body[1].training
    rows = {r.path: r for r in found.rows}
    assert [r.path for r in found.rows] == [path for path, _ in model.named_modules()]
    assert rows["body.0"].shape == (2, 4, 4, 4)
    assert rows["body.0"].multiply_adds == 2 * 4 * 16 * 9
    assert rows["body"].multiply_adds == rows["body.0"].multiply_adds
    assert rows["body"].parameters == 4 * 9 + 4 + 8
    assert rows["up"].multiply_adds == 2 * 4 * 16 * 3 * 4
    assert rows["linear"].multiply_adds == 2 * (2 * 3 * 8 * 8 * 8)
    assert rows["idle"].shape is None
    product = 2 * 3 * 8 * 8 * 8  # done by the model itself
    layers = sum(rows[name].multiply_adds for name in ("body", "up", "linear"))
    assert found.multiply_adds == layers + product
    assert found.parameters == found.trainable == sum(p.numel() for p in model.parameters())
    buffers = 4 * 4 * 2 + 8  # running statistics, and a counter of 8 bytes
    assert found.bytes == 4 * found.parameters + buffers


def test_recurrent_layers_attention_and_loops() -> None:
    lstm = summary(nn.LSTM(5, 3, 2), dg.randn(7, 2, 5))
    assert lstm.multiply_adds == 7 * 2 * (12 * 5 + 12 * 3 + 12 * 3 + 12 * 3)
    attention = summary(nn.MultiheadAttention(8, 2, batch_first=True), *[dg.randn(1, 6, 8)] * 3)
    assert attention.multiply_adds == 4 * 6 * 8 * 8 + 2 * 6 * 6 * 8

    class Loop(nn.Module):
        def forward(self, x: dg.Tensor, w: dg.Tensor) -> dg.Tensor:
            last, _ = dg.scan(lambda h, _: (h @ w, h), x, dg.arange(5))
            return last

    assert summary(Loop(), dg.randn(2, 3), dg.randn(3, 3)).multiply_adds == 5 * 2 * 3 * 3


def test_text() -> None:
    model = Net()
    for p in model.idle.parameters():
        p.requires_grad_(False)
    lines = str(summary(model, dg.randn(1, 2, 6, 6), depth=1)).splitlines()
    assert lines[0].split() == ["layer", "kind", "output", "parameters", "multiply-adds"]
    assert lines[1].startswith("model")
    assert [line.split()[0] for line in lines[2:6]] == ["body", "up", "linear", "idle"]
    assert lines[2].split("  ")[1].strip() == "body"
    assert "10,263 parameters (163 trainable)" in lines[-1]
