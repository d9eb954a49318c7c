"""Post-training quantisation: accuracy on the digits, which layers it leaves, calibration."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import onnx
import pytest

import dualgraph as dg
import dualgraph_runtime as rt
from dualgraph import nn
from dualgraph_compiler.errors import ArgumentError, FeedError
from dualgraph_models.datasets import digits_split
from dualgraph_runtime.quantization import folder_feeds, quantize
from tests.onnx.helpers import run_onnxruntime


class Features(nn.Module):
    """Random convolutions, and a layer that least squares fits to what they see."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 32, 3, padding=1)
        self.mix = nn.Conv2d(32, 32, 3, stride=2, padding=1)
        self.top = nn.Linear(512, 10)

    def features(self, x: dg.Tensor) -> dg.Tensor:
        return self.mix(self.conv(x).relu()).relu().flatten(1)

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        return self.top(self.features(x))


@functools.cache
def classifier() -> tuple[onnx.ModelProto, Any]:
    """A model that reads digits, and the digits."""
    dg.manual_seed(0)
    digits = digits_split()
    net = Features()
    with dg.no_grad():
        x = net.features(dg.tensor(digits.train_images)).numpy()
        wanted = np.eye(10, dtype=np.float32)[digits.train_labels] - 0.1
        square = x.T @ x + 0.1 * np.eye(x.shape[1], dtype=np.float32)
        net.top.weight.copy_(dg.tensor(np.linalg.solve(square, x.T @ wanted).T.copy()))
        net.top.bias.zero_()
    example = dg.tensor(digits.train_images[:2])
    return dg.onnx.export(net, (example,), dynamic_shapes={"x": {0: "n"}}), digits


def accuracy(model: onnx.ModelProto, digits: Any) -> float:
    (scores,) = rt.InferenceSession(model.SerializeToString()).run(None, {"x": digits.test_images})
    return float((scores.argmax(1) == digits.test_labels).mean())


def calibration(digits: Any) -> list[dict[str, Any]]:
    return [{"x": digits.train_images[i : i + 50]} for i in range(0, 200, 50)]


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_digits_by_measured_ranges(method: Any) -> None:
    """At most half a percent of the held-out digits are lost."""
    model, digits = classifier()
    made = quantize(model, calibration(digits), method=method)
    onnx.checker.check_model(made.model, full_check=True)
    before, after = accuracy(model, digits), accuracy(made.model, digits)
    assert before > 0.93
    assert before - after <= 0.005
    assert set(made.quantized) == {"conv2d_1", "linear"} or len(made.quantized) == 2
    assert made.bytes_after < 0.35 * made.bytes_before
    (report,) = made.outputs
    assert report.snr > 20
    assert report.top1 is not None
    assert report.top1 > 0.97
    assert "2 of 3 layers in 8 bits" in str(made)


def test_onnxruntime_agrees() -> None:
    model, digits = classifier()
    made = quantize(model, calibration(digits)).model
    feeds = {"x": digits.test_images}
    (theirs,) = run_onnxruntime(made, feeds)
    (ours,) = rt.InferenceSession(made.SerializeToString()).run(None, feeds)
    assert (theirs.argmax(1) == ours.argmax(1)).mean() > 0.99
    assert np.abs(theirs - ours).max() < 0.1 * np.abs(ours).max()


def test_digits_by_ranges_of_each_run() -> None:
    model, digits = classifier()
    made = quantize(model)
    assert sum(n.op_type == "DynamicQuantizeLinear" for n in made.model.graph.node) == 2
    assert accuracy(model, digits) - accuracy(made.model, digits) <= 0.005
    assert made.outputs == ()


def test_layers_that_stay() -> None:
    """Each with its reason."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.depthwise = nn.Conv2d(64, 64, 5, groups=64)
            self.small = nn.Conv2d(64, 2, 1)
            self.large = nn.Conv2d(64, 64, 3)

        def forward(self, x: dg.Tensor) -> tuple[dg.Tensor, ...]:
            y = self.depthwise(x)
            flat = y.flatten(2)
            return self.small(y), self.large(y), flat @ flat.transpose(1, 2)

    model = dg.onnx.export(Net(), (dg.randn(1, 64, 12, 12),))
    feed = {"x": np.random.default_rng(0).normal(size=(1, 64, 12, 12)).astype(np.float32)}
    made = quantize(model, [feed])
    why = [note for name, note in made.layers if name not in made.quantized]
    assert len(made.quantized) == 1
    assert sorted(w.split(":")[0] for w in why) == ["its weight is no constant", "slower", "slower"]
    strict = quantize(model, [feed], least_snr=90)
    assert strict.quantized == ()
    assert sum(note.startswith("lossy: ") for _, note in strict.layers) == 1
    assert strict.outputs[0].snr == float("inf")


def test_calibration_from_files(tmp_path) -> None:
    model, digits = classifier()
    np.save(tmp_path / "a.npy", digits.train_images[:20])
    np.savez(tmp_path / "b.npz", x=digits.train_images[20:40])
    feeds = list(folder_feeds(tmp_path, ["x"]))
    assert [f["x"].shape[0] for f in feeds] == [20, 20]
    assert len(quantize(model, feeds).quantized) == 2
    with pytest.raises(ArgumentError, match="2 inputs"):
        list(folder_feeds(tmp_path, ["x", "y"]))
    (tmp_path / "a.npy").write_bytes(b"nothing")
    with pytest.raises(ArgumentError, match=r"a\.npy"):
        list(folder_feeds(tmp_path, ["x"]))
    with pytest.raises(ArgumentError, match=r"\.npy or \.npz"):
        list(folder_feeds(tmp_path / "absent", ["x"]))


def test_what_is_refused() -> None:
    model, digits = classifier()
    image = digits.train_images[:1]
    with pytest.raises(ArgumentError, match="at least one"):
        quantize(model, [])
    with pytest.raises(FeedError, match="'x' is missing"):
        quantize(model, [{}])
    with pytest.raises(FeedError, match="no input 'z'; it has 'x'"):
        quantize(model, [{"x": image, "z": image}])
    with pytest.raises(ArgumentError, match="method"):
        quantize(model, [{"x": image}], method="guess")


def test_files_without_elements() -> None:
    """A calibration set may have empty batches."""
    model, digits = classifier()
    feeds = [{"x": digits.train_images[:0]}, {"x": digits.train_images[:20]}]
    assert len(quantize(model, feeds[::-1]).quantized) == 2
