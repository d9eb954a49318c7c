"""Traced, compiled and exported models on the device, and the runtime's CUDA provider."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
import dualgraph_runtime as rt
from dualgraph import nn
from dualgraph_compiler.compile import optimize
from dualgraph_compiler.errors import DeviceError
from dualgraph_compiler.graph import Interpreter, interpret
from dualgraph_models.digits_cnn import DigitsCNN
from tests.conftest import cuda_is_available
from tests.fake_cupy import count_transfers, installed


def model_and_batch(device: str) -> tuple[nn.Module, dg.Tensor]:
    dg.manual_seed(0)
    model = DigitsCNN(channels=(4, 8, 8))
    batch = dg.rand(16, 1, 8, 8)
    model(batch)  # gives the running statistics something to say
    return model.eval().to(device), batch.to(device)


def test_trace_and_interpret(cupy: Any) -> None:
    model, batch = model_and_batch("cuda")
    graph = dg.trace(model, batch, dynamic_shapes={"x": {0: "batch"}})
    want = model(batch).detach().cpu().numpy()
    for g in (graph, optimize(graph), optimize(graph, freeze=True)):
        ready = Interpreter(g, cupy)
        with count_transfers() as log:
            (got,) = ready.run([batch._data])
        assert not log
        assert isinstance(got, cupy.ndarray)
        np.testing.assert_allclose(got.get(), want, rtol=1e-4, atol=1e-5)


def test_operands_of_the_wrong_place(cupy: Any) -> None:
    model, batch = model_and_batch("cuda")
    graph = dg.trace(model, batch)
    with pytest.raises(DeviceError, match="input 'x' is on the cpu"):
        interpret(graph, [batch.cpu().numpy()], cupy)


def test_compile(cupy: Any) -> None:
    model, batch = model_and_batch("cuda")
    fast = dg.compile(model)
    with dg.no_grad():
        want, got = model(batch), fast(batch)
        assert got.is_cuda
        np.testing.assert_allclose(got.cpu().numpy(), want.cpu().numpy(), rtol=1e-4, atol=1e-5)
        with count_transfers() as log:
            fast(batch)
        assert not log


def test_random_numbers_in_a_graph(cupy: Any) -> None:
    """Seed and offset stay on the host; the numbers are those of the eager call."""

    def noisy(x: dg.Tensor) -> dg.Tensor:
        return x + dg.rand(3, device=x.device) * dg.rand(3, device=x.device)

    x = dg.zeros(3, device="cuda")
    fast = dg.compile(noisy)
    dg.manual_seed(5)
    want = [noisy(x).tolist() for _ in range(3)]
    dg.manual_seed(5)
    with count_transfers() as log:
        got = [fast(x) for _ in range(3)]
    assert not log
    assert [y.tolist() for y in got] == want


def export(folder: Path) -> tuple[str, np.ndarray, np.ndarray]:
    model, batch = model_and_batch("cpu")
    path = str(folder / "digits.onnx")
    dg.onnx.export(model, (batch,), path, dynamic_shapes={"x": {0: "batch"}})
    return path, batch.numpy(), model(batch).detach().numpy()


def test_the_cuda_provider(cupy: Any, tmp_path: Path) -> None:
    path, batch, want = export(tmp_path)
    assert rt.get_available_providers()[0] == "CUDAExecutionProvider"
    session = rt.InferenceSession(path, providers=["CUDAExecutionProvider"])
    assert session.get_providers() == ["CUDAExecutionProvider"]
    for n in (16, 3):
        with count_transfers() as log:
            (got,) = session.run(None, {session.get_inputs()[0].name: batch[:n]})
        assert len(log) <= 1, "more than the result was read back"
        assert type(got) is np.ndarray
        np.testing.assert_allclose(got, want[:n], rtol=1e-4, atol=1e-5)


def test_exporting_from_the_device(cupy: Any, tmp_path: Path) -> None:
    model, batch = model_and_batch("cuda")
    path = str(tmp_path / "digits.onnx")
    dg.onnx.export(model, (batch,), path)
    (got,) = rt.InferenceSession(path).run(None, {"x": batch.cpu().numpy()})
    np.testing.assert_allclose(got, model(batch).detach().cpu().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(cuda_is_available(), reason="there is a GPU")
def test_an_absent_gpu_is_no_silent_fall_back(tmp_path: Path) -> None:
    path, _, _ = export(tmp_path)
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    with pytest.raises(DeviceError, match="cuda:0 was asked for, but CuPy cannot|CUDA finds no"):
        rt.InferenceSession(path, providers=providers)
    with installed(gpus=0), pytest.raises(DeviceError, match="CUDA finds no GPU"):
        rt.InferenceSession(path, providers=providers)
    with installed(gpus=2):
        chosen = [("CUDAExecutionProvider", {"device_id": 1})]
        session = rt.InferenceSession(path, providers=chosen)
        assert session.run(None, {"x": np.zeros((1, 1, 8, 8), np.float32)})[0].shape == (1, 10)


def test_cupy_is_imported_only_when_asked_for() -> None:
    """In a fresh process whose CuPy breaks when imported."""
    script = """
        import sys
        sys.modules["cupy"] = None
        import dualgraph as dg
        from dualgraph_runtime import DeviceError
        import dualgraph.nn.functional, dualgraph.optim, dualgraph.utils.data, dualgraph.onnx
        import dualgraph_models.digits_cnn
        model = dg.nn.Linear(2, 3)
        model(dg.ones(1, 2)).sum().backward()
        dg.trace(model, dg.ones(1, 2))
        print(dg.cuda.is_available())
        try:
            dg.ones(1, device="cuda")
        except DeviceError as error:
            print(error)
    """
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    available, message = run.stdout.splitlines()
    assert available == "False"
    assert "cuda was asked for, but CuPy cannot be imported" in message
    assert "pip install" in message
