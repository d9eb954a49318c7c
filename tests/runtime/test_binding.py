"""Inputs and outputs bound to the caller's memory, side by side with ONNX Runtime."""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import onnxruntime
import pytest

import dualgraph_runtime as rt
from dualgraph_compiler.graph import parse_graph
from dualgraph_compiler.onnx import export_graph

GRAPH = """
graph g(%x: f32[n, 8], %i: i64[n]):
  %1: f32[n, 8] = softmax(%x, axis=1)
  %2: i64[n] = add(%i, %i)
  %3: f32[n] = sum(%1, axes=(1,), keepdims=False)
  return %1 as p, %2 as j, %3 as s
"""


def model() -> bytes:
    return bytes(export_graph(parse_graph(GRAPH)).SerializeToString())


@pytest.fixture(
    params=["onnxruntime", "interpreter", pytest.param("native", marks=pytest.mark.compiler)]
)
def both(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """A package and its session: what a test says holds of ONNX Runtime, too."""
    if request.param == "onnxruntime":
        return onnxruntime, onnxruntime.InferenceSession(model(), providers=[CPU])
    options = rt.SessionOptions()
    options.execution = request.param
    session = rt.InferenceSession(model(), options)
    assert session.wait() == (request.param == "native")
    return rt, session


CPU = "CPUExecutionProvider"


def feeds(n: int) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(n)
    return {"x": rng.normal(size=(n, 8)).astype(np.float32), "i": rng.integers(0, 9, n)}


def expected(feed: dict[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    e = np.exp(feed["x"] - feed["x"].max(1, keepdims=True))
    p = e / e.sum(1, keepdims=True)
    return [p, feed["i"] * 2, p.sum(1)]


def test_results_in_memory_given_for_them(both: tuple[Any, Any]) -> None:
    package, session = both
    binding = session.io_binding()
    for n in (3, 3, 5, 0):
        feed = feeds(n)
        p, s = np.full((n, 8), 7, np.float32), np.full(n, 7, np.float32)
        value = package.OrtValue.ortvalue_from_numpy(p)
        binding.bind_cpu_input("x", feed["x"])
        binding.bind_input("i", "cpu", 0, np.int64, feed["i"].shape, feed["i"].ctypes.data)
        binding.clear_binding_outputs()
        binding.bind_output("s", "cpu", 0, np.float32, s.shape, s.ctypes.data)
        binding.bind_ortvalue_output("p", value)
        binding.bind_output("j")
        for _ in range(2):
            session.run_with_iobinding(binding)
            want = expected(feed)
            np.testing.assert_allclose(s, want[2], rtol=1e-5)
            np.testing.assert_allclose(value.numpy(), want[0], rtol=1e-5)
            got = binding.copy_outputs_to_cpu()
            for y, name in zip(got, "spj", strict=True):
                np.testing.assert_allclose(y, want["pjs".index(name)], rtol=1e-5)
            if package is rt:
                assert binding.get_outputs()[1].numpy() is p
        assert [v.shape() for v in binding.get_outputs()] == [[n], [n, 8], [n]]


def test_values(both: tuple[Any, Any]) -> None:
    package, session = both
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    v = package.OrtValue.ortvalue_from_numpy(array)
    assert (v.shape(), v.data_type(), v.element_type()) == ([2, 3], "tensor(float)", 1)
    assert (v.device_name(), v.has_value(), v.is_tensor()) == ("cpu", True, True)
    assert v.tensor_size_in_bytes() == 24
    v.update_inplace(array * 2)
    np.testing.assert_array_equal(v.numpy(), np.arange(6, dtype=np.float32).reshape(2, 3) * 2)
    made = package.OrtValue.ortvalue_from_shape_and_type([4, 2], np.int64)
    assert (made.shape(), made.data_type()) == ([4, 2], "tensor(int64)")
    assert made.data_ptr() % 8 == 0
    feed = feeds(2)
    values = {k: package.OrtValue.ortvalue_from_numpy(a) for k, a in feed.items()}
    (j,) = session.run_with_ort_values(["j"], values)
    np.testing.assert_array_equal(j.numpy(), feed["i"] * 2)


def test_what_does_not_fit_is_refused(both: tuple[Any, Any]) -> None:
    package, session = both
    binding = session.io_binding()
    binding.bind_cpu_input("x", feeds(2)["x"])
    kind: Any = rt.FeedError if package is rt else Exception
    binding.bind_output("p")
    with pytest.raises(kind):  # an input is missing
        session.run_with_iobinding(binding)
    binding.bind_cpu_input("i", feeds(2)["i"])
    binding.bind_ortvalue_output("p", package.OrtValue.ortvalue_from_numpy(np.zeros(3, np.float32)))
    with pytest.raises(kind):
        session.run_with_iobinding(binding)
    if package is rt:
        with pytest.raises(kind, match="no output 'q'"):
            binding.bind_output("q")
        with pytest.raises(kind, match="no input 'q'"):
            binding.bind_cpu_input("q", np.zeros(1))
        with pytest.raises(rt.DeviceError, match="not of cuda"):
            binding.bind_output("p", "cuda")
        with pytest.raises(ValueError, match="needs `shape`"):
            binding.bind_output("p", buffer_ptr=1)
        with pytest.raises(kind, match="expected float32"):
            package.OrtValue.ortvalue_from_numpy(np.zeros(2, np.float32)).update_inplace(
                np.zeros(3)
            )


@pytest.mark.compiler
def test_memory_shared_between_inputs_and_outputs() -> None:
    """Kernels are told that nothing overlaps; where it does, they write elsewhere first."""
    options = rt.SessionOptions()
    options.execution = "native"
    session = rt.InferenceSession(model(), options)
    feed = feeds(6)
    want = expected(feed)
    session.run(None, feed)
    block = np.zeros(7 * 8, np.float32)
    for start in (0, 4, 8):  # the same memory, part of it, the next row
        x, p = block[:48].reshape(6, 8), block[start : start + 48].reshape(6, 8)
        x[...] = feed["x"]
        binding = session.io_binding()
        binding.bind_cpu_input("x", x)
        binding.bind_cpu_input("i", feed["i"])
        binding.bind_ortvalue_output("p", rt.OrtValue(p))
        session.run_with_iobinding(binding)
        np.testing.assert_allclose(p, want[0], rtol=1e-5)


# -- arrays returned again -------------------------------------------------------------------------


@pytest.mark.compiler
def test_arrays_nobody_holds_are_returned_again_and_no_others() -> None:
    options = rt.SessionOptions()
    options.execution = "native"
    session = rt.InferenceSession(model(), options)
    feed = feeds(4)
    want = expected(feed)
    seen = set()
    for _ in range(8):
        p = session.run(None, feed)[0]
        seen.add(p.ctypes.data)
        np.testing.assert_allclose(p, want[0], rtol=1e-5)
    assert len(seen) <= 3
    held = [session.run(None, feed)[0] for _ in range(5)]
    assert len({y.ctypes.data for y in held}) == 5
    view = session.run(None, feed)[0][1:]
    exported = memoryview(session.run(None, feed)[0])
    before = view.copy(), bytes(exported)
    for _ in range(4):
        session.run(None, feeds(4) | {"x": feed["x"] * 2})
    np.testing.assert_array_equal(view, before[0])
    assert bytes(exported) == before[1]
    for change in (lambda y: y.setflags(write=False), lambda y: setattr(y, "shape", (8, 4))):
        y = session.run(None, feed)[0]
        change(y)
        del y
        gc.collect()
        y = session.run(None, feed)[0]
        assert y.shape == (4, 8)
        assert y.flags.writeable


@pytest.mark.compiler
def test_threads_get_arrays_of_their_own() -> None:
    graph = parse_graph("""
graph g(%x: f32[n, 300]):
  %1: f32[n, 300] = softmax(%x, axis=1)
  %2: f32[300, n] = permute(%1, axes=(1, 0))
  %3: f32[300, n] = softmax(%2, axis=1)
  return %3 as y
""")
    options = rt.SessionOptions()
    options.execution = "native"
    session = rt.InferenceSession(export_graph(graph), options)
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(n, 300)).astype(np.float32) for n in (64, 64, 65, 64)]
    want = [session.run(None, {"x": x})[0].copy() for x in inputs]
    wrong = []

    def work(k: int) -> None:
        for _ in range(60):
            (y,) = session.run(None, {"x": inputs[k]})
            if not np.array_equal(y, want[k]):
                wrong.append(k)
            if k == 3:
                session.trim()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []
