"""``dg.onnx``: what `export` writes, and modules made by `load`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import dualgraph as dg
from dualgraph import nn
from dualgraph_compiler.errors import ArgumentError, FeedError, OnnxError
from dualgraph_runtime import InferenceSession


def small() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2)
    )


def image(batch: int = 2) -> dg.Tensor:
    return dg.randn(batch, 1, 6, 6)


def test_names_sizes_and_metadata() -> None:
    proto = dg.onnx.export(
        small(),
        (image(),),
        input_names=["picture"],
        output_names=["scores"],
        dynamic_shapes={"input": {0: "batch"}},
    )
    (given,) = proto.graph.input
    assert given.name == "picture"
    assert given.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [o.name for o in proto.graph.output] == ["scores"]
    assert (proto.producer_name, proto.producer_version) == ("dualgraph", dg.__version__)
    assert all("test_onnx.py" in node.doc_string for node in proto.graph.node)
    assert {"0.weight", "1.running_mean", "4.bias"} <= {t.name for t in proto.graph.initializer}


def test_a_model_is_exported_for_evaluation_and_left_as_it_was() -> None:
    model = small()
    model[1].eval()
    proto = dg.onnx.export(model, image())
    assert "BatchNormalization" in [n.op_type for n in proto.graph.node]
    assert [m.training for m in model] == [True, False, True, True, True]
    assert model[1].num_batches_tracked.item() == 0


@pytest.mark.parametrize("external", [False, True])
def test_a_file_gives_the_eager_answer(tmp_path: Path, external: bool) -> None:
    model = small().eval()
    path = tmp_path / "m.onnx"
    shapes = {"input": {0: "batch"}}
    dg.onnx.export(model, (image(),), path, dynamic_shapes=shapes, external_data=external)
    x = image(5)
    (got,) = InferenceSession(path).run(None, {"input": x.numpy()})
    np.testing.assert_allclose(got, model(x).detach().numpy(), rtol=1e-5, atol=1e-6)
    assert len(list(tmp_path.iterdir())) == 1 + external


def test_export_twice_writes_the_same_bytes() -> None:
    model, x = small(), image()
    once, again = (dg.onnx.export(model, x).SerializeToString() for _ in range(2))
    assert once == again


def test_a_failed_export_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"precious")
    with pytest.raises(OnnxError, match="random"):
        dg.onnx.export(lambda x: x + dg.rand(2), dg.ones(2), path)
    assert path.read_bytes() == b"precious"


def test_wrong_numbers_of_names() -> None:
    with pytest.raises(ArgumentError, match="input_names has 2 names; the model has 1"):
        dg.onnx.export(small(), image(), input_names=["a", "b"])
    with pytest.raises(ArgumentError, match="output_names has 0 names; the model has 1"):
        dg.onnx.export(small(), image(), output_names=[])


def test_a_loaded_model_trains_and_exports_again(tmp_path: Path) -> None:
    model = small().eval()
    path = tmp_path / "m.onnx"
    dg.onnx.export(model, (image(),), path, dynamic_shapes={"input": {0: "batch"}})
    net = dg.onnx.load(path)
    x, target = image(8), dg.randint(0, 2, (8,))
    np.testing.assert_allclose(net(x).detach().numpy(), model(x).detach().numpy(), atol=1e-6)
    names = {n for n, _ in net.named_parameters()}
    assert names == {"0.weight", "0.bias", "1.weight", "1.bias", "4.weight", "4.bias"}
    assert {n for n, _ in net.named_buffers()} == {"1.running_mean", "1.running_var"}

    opt = dg.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for _ in range(15):
        opt.zero_grad()
        loss = nn.functional.cross_entropy(net(x), target)
        loss.backward()
        opt.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]

    again = dg.onnx.export(net, (x,))
    assert again.graph.input == onnx.load(path).graph.input  # names and sizes
    assert again.graph.output == onnx.load(path).graph.output
    onnx.checker.check_model(again, full_check=True)
    (got,) = InferenceSession(again).run(None, {"input": x.numpy()})
    np.testing.assert_allclose(got, net(x).detach().numpy(), rtol=1e-5, atol=1e-5)


def test_a_loaded_model_checks_its_inputs() -> None:
    proto = dg.onnx.export(small(), (image(),), dynamic_shapes={"input": {0: "batch"}})
    net = dg.onnx.load(proto.SerializeToString())
    with pytest.raises(FeedError, match=r"expected f32\[batch, 1, 6, 6\], got f32\[2, 1, 5, 6\]"):
        net(dg.ones(2, 1, 5, 6))
    with pytest.raises(FeedError, match="expected 1 inputs"):
        net()


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x00garbage")
    with pytest.raises(OnnxError, match=r"m\.onnx"):
        dg.onnx.load(path)


def test_a_size_that_is_a_function_of_a_dim() -> None:
    """Frames of 3 numbers and two more: the model reads from the size how many there are."""
    ort = pytest.importorskip("onnxruntime")

    def means(x: dg.Tensor) -> dg.Tensor:
        frames = x[2:].reshape(-1, 3)
        return frames.mean(1) + dg.arange(frames.shape[0]) * x[0]

    shapes = {"x": {0: 3 * dg.Dim("frames") + 2}}
    proto = dg.onnx.export(means, (dg.randn(8),), dynamic_shapes=shapes)
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "3*frames + 2"
    ours = InferenceSession(proto.SerializeToString())
    theirs = ort.InferenceSession(proto.SerializeToString())
    for n in (2, 5, 20):
        x = dg.randn(n)
        for session in (ours, theirs):
            (got,) = session.run(None, {"x": x.numpy()})
            np.testing.assert_allclose(got, means(x).numpy(), rtol=1e-5, atol=1e-6)
    with pytest.raises(FeedError, match="frames"):
        ours.run(None, {"x": np.zeros(6, np.float32)})


def test_axes_that_vary_are_named_as_in_pytorch() -> None:
    model, x = small(), image()
    proto = dg.onnx.export(
        model,
        x,
        input_names=["picture"],
        output_names=["scores"],
        dynamic_axes={"picture": {0: "batch"}, "scores": {0: "batch"}},
        opset_version=17,
        export_params=True,
        do_constant_folding=True,
        verbose=False,
    )
    shapes = {"input": {0: "batch"}}
    names = {"input_names": ["picture"], "output_names": ["scores"], "opset_version": 17}
    again = dg.onnx.export(model, x, dynamic_shapes=shapes, **names)
    assert proto.graph.input == again.graph.input
    assert proto.graph.output == again.graph.output
    assert proto.opset_import == again.opset_import
    listed = dg.onnx.export(
        lambda a, b: a.sum() + b, (dg.ones(2), dg.ones(2)), dynamic_axes={"b": [0]}
    )
    sizes = [i.type.tensor_type.shape.dim[0] for i in listed.graph.input]
    assert [d.dim_param or d.dim_value for d in sizes] == [2, "b_dynamic_axes_1"]
    with pytest.raises(ArgumentError, match="got both"):
        dg.onnx.export(model, x, dynamic_axes={"input": [0]}, dynamic_shapes=shapes)


def test_parameters_as_inputs() -> None:
    model, x = small().eval(), image()
    proto = dg.onnx.export(model, x, export_params=False)
    names = [i.name for i in proto.graph.input]
    assert names[0] == "input"
    assert set(names[1:]) >= {n for n, _ in model.named_parameters()}
    assert not {t.name for t in proto.graph.initializer} & set(names)
    state = {k: v.numpy() for k, v in model.state_dict().items() if k in names}
    (got,) = InferenceSession(proto).run(None, {"input": x.numpy(), **state})
    np.testing.assert_allclose(got, model(x).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_constants_may_stay() -> None:
    def f(x: dg.Tensor) -> dg.Tensor:
        return x + dg.arange(3).sqrt()

    folded, plain = (dg.onnx.export(f, dg.ones(3), do_constant_folding=on) for on in (True, False))
    assert [n.op_type for n in folded.graph.node] == ["Add"]
    assert "Sqrt" in [n.op_type for n in plain.graph.node]


def test_what_is_written_is_compared_with_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    from dualgraph_compiler.ops.unary import Sqrt

    monkeypatch.setattr(Sqrt, "to_onnx", lambda self, ctx, x: ctx.emit("Exp", x))
    with pytest.raises(OnnxError, match="something else than the trace: output 'output' is up to"):
        dg.onnx.export(lambda x: x.sqrt(), dg.ones(3))
    dg.onnx.export(lambda x: x.sqrt(), dg.ones(3), verify=False)


def test_what_the_checker_refuses_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dualgraph_compiler.ops.unary import Sqrt

    monkeypatch.setattr(Sqrt, "to_onnx", lambda self, ctx, x: ctx.emit("Sqrt", x, x, x))
    path = tmp_path / "m.onnx"
    with pytest.raises(OnnxError, match="not valid"):
        dg.onnx.export(lambda x: x.sqrt(), dg.ones(3), path)
    assert not path.exists()


def test_the_check_and_the_comparison_of_models_too_large_for_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dualgraph_compiler.onnx.save as save

    monkeypatch.setattr(save, "MAX_PROTO_BYTES", 20_000)
    model = nn.Linear(80, 80)
    path = tmp_path / "m.onnx"
    dg.onnx.export(model, dg.ones(1, 80), path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    (got,) = InferenceSession(path).run(None, {"input": np.ones((1, 80), np.float32)})
    np.testing.assert_allclose(got, model(dg.ones(1, 80)).detach().numpy(), rtol=1e-5)


BYTES = """
import hashlib
import dualgraph as dg
from dualgraph import nn, optim
import dualgraph.nn.functional as F

dg.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Dropout(0.5), nn.Linear(8, 3))
optimizer = optim.Adam(model.parameters())

def step(x, y):
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss

x, y = dg.randn(5, 4), dg.tensor([0, 1, 2, 0, 1])
models = [
    dg.onnx.export(model, x, dynamic_shapes={"input": {0: "n"}}),
    dg.onnx.export(model, x, optimized=True),
    dg.onnx.export_training_step(step, (x, y)).model,
]
for m in models:
    print(hashlib.sha256(m.SerializeToString(deterministic=True)).hexdigest())
"""


def test_the_bytes_do_not_depend_on_the_process() -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", BYTES],
            env=environment | {"PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    found = {process.communicate()[0] for process in running}
    assert len(found) == 1
    assert len(found.pop().split()) == 3
