"""Compiled models kept for later sessions and processes: the same results, and never stale ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dualgraph_runtime as rt
from dualgraph_compiler.dims import Dim, symbols
from dualgraph_compiler.graph import Assumption, Location, interpret, parse_graph
from dualgraph_compiler.native import Home, Interpreted, Target, build
from dualgraph_compiler.onnx import export_graph, save_model
from dualgraph_compiler.ops import REGISTRY
from dualgraph_compiler.types import TensorType
from dualgraph_runtime import reuse
from dualgraph_runtime.native import Executable, background, cache, find_compiler, stored, toolchain

pytestmark = pytest.mark.compiler

GRAPH = """
graph g(%x: f32[n, 8]):
  const %w: f32[8, 70] = <560 elements>
  const %b: f32[70] = <70 elements>
  %1: f32[n, 70] = matmul(%x, %w)
  %2: f32[n, 70] = add(%1, %b)
  return %2 as y, %b as bias
"""


def arrays(seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    return {"w": draw(8, 70), "b": draw(70)}


def write(path: Path, seed: int = 0, **options: Any) -> None:
    save_model(export_graph(parse_graph(GRAPH, arrays(seed))), path, **options)


def session(source: Any, **options: Any) -> rt.InferenceSession:
    made = rt.SessionOptions()
    made.execution = "native"
    for name, value in options.items():
        setattr(made, name, value)
    return rt.InferenceSession(source, made)


X = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)


def check(s: rt.InferenceSession, seed: int = 0) -> None:
    want = arrays(seed)
    y, b = s.run(None, {"x": X})
    np.testing.assert_allclose(y, X @ want["w"] + want["b"], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(b, want["b"])
    b[...] = 0  # a result is the caller's, wherever the constant lies


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of its own, of a process that has met no model yet."""
    monkeypatch.setenv("DUALGRAPH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(reuse, "_loaded", weakref.WeakValueDictionary())
    toolchain._find.cache_clear()
    yield tmp_path / "cache" / "native"
    while background._held:
        time.sleep(0.01)


def models(folder: Path) -> list[Path]:
    """What is stored, once nothing is being written any longer."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [path for path in folder.glob("*.model") if not path.name.startswith(".")]
        if found and not list(folder.glob(".new-*")) and not background._held:
            return found
        time.sleep(0.01)
    raise AssertionError("nothing was stored")


def test_sessions_of_one_model_share_code_and_weights(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    write(path)
    first, second = session(path), session(str(path))
    assert first._runner() is second._runner()
    assert session(path.read_bytes())._runner() is first._runner()
    for s in (first, second):
        check(s)
        check(s)
    assert session(path, free_dimensions={"n": 3})._runner() is not first._runner()


START = """
import json, subprocess, sys
import numpy as np
import dualgraph_runtime as rt

def no_process(*args, **options):
    raise AssertionError("a process was started")

warm = sys.argv[3] == "warm"
if warm:
    subprocess.Popen.__init__ = no_process
options = rt.SessionOptions()
options.execution = sys.argv[2]
s = rt.InferenceSession(sys.argv[1], options)
s.wait()
assert s.report().startswith("1 kernels"), s.report()
x = np.arange(24, dtype=np.float32).reshape(3, 8)
print(json.dumps([
    s.run(None, {"x": x})[0].tolist(),
    [[str(a.type), a.shape] for a in (*s.get_inputs(), *s.get_outputs())],
]))
imported = [m for m in sys.modules if m.startswith(("onnx", "dualgraph_compiler.ops"))]
assert bool(imported) != warm, imported
"""


@pytest.mark.parametrize("execution", ["native", "auto"])
def test_a_warm_start_parses_and_builds_nothing(
    execution: str, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    write(path)
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    found = []
    for start, wanted in (("cold", "native"), ("warm", execution)):
        command = [sys.executable, "-c", START, path, wanted, start]
        done = subprocess.run(command, env=env, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr.decode()
        found.append(json.loads(done.stdout))
        models(folder)
    assert found[0] == found[1]
    ((_, described),) = found[1:]
    assert described == [["tensor(float)", ["n", 8]], ["tensor(float)", ["n", 70]], *described[2:]]


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _changed(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]


@pytest.mark.parametrize("damage", [_cut, _changed, lambda data: b"", None])
def test_a_damaged_file_is_made_again(
    damage: Callable[[bytes], bytes] | None, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    write(path)
    session(path)
    (kept,) = models(folder)
    data = kept.read_bytes()
    kept.unlink()  # what is mapped stays as it is
    if damage is not None:
        kept.write_bytes(damage(data))
    check(session(path))
    (again,) = models(folder)
    assert again == kept
    deadline = time.monotonic() + 10
    while again.read_bytes() != data and time.monotonic() < deadline:
        time.sleep(0.01)
    assert again.read_bytes() == data


def test_code_that_is_gone_is_built_from_the_stored_text(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    write(path)
    session(path)
    models(folder)
    for so in folder.glob("*.so"):
        so.unlink()
    check(session(path))


@pytest.mark.skipif(os.name != "posix", reason="uses a shell")
def test_code_that_is_gone_and_cannot_be_built(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler that says it is the same as before, but fails."""
    path, state = tmp_path / "m.onnx", tmp_path / "broken"
    write(path)
    compiler = tmp_path / "cc"
    compiler.write_text(f'#!/bin/sh\n[ -e {state} ] && exit 1\nexec cc "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("DUALGRAPH_CC", str(compiler))
    assert session(path).wait()
    models(folder)
    while reuse._loaded:  # by whoever wrote the file, for a moment more
        time.sleep(0.01)
    state.touch()
    for so in folder.glob("*.so"):
        so.unlink()
    again = session(path)
    assert not again.wait()
    assert "failed with status 1" in again.report()
    check(again)


def test_another_model_in_the_same_place(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    for seed in (0, 1):
        write(path, seed)
        check(session(path), seed)
    assert len(models(folder)) >= 1


def test_external_data_is_part_of_a_model(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    write(path, 0, external_data=True)
    (data,) = [p for p in tmp_path.iterdir() if p.is_file() and p != path]
    first = session(path)
    check(first)
    assert session(path)._runner() is first._runner()
    models(folder)
    new = tmp_path / "new"
    new.write_bytes(data.read_bytes().replace(arrays(0)["w"].tobytes(), arrays(1)["w"].tobytes()))
    os.replace(new, data)
    np.testing.assert_allclose(
        session(path).run(["y"], {"x": X})[0],
        X @ arrays(1)["w"] + arrays(0)["b"],
        rtol=1e-4,
        atol=1e-5,
    )
    check(first)


def test_a_model_over_the_limit_is_not_stored(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUALGRAPH_CACHE_SIZE", "5K")
    write(tmp_path / "m.onnx")
    for _ in range(2):
        check(session(tmp_path / "m.onnx"))
    assert not list(folder.glob("*.model"))


def test_what_a_user_asks_to_be_written_is_written(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "m.onnx")
    session(tmp_path / "m.onnx")
    models(folder)
    session(tmp_path / "m.onnx", optimized_model_filepath=str(tmp_path / "o.onnx"))
    assert (tmp_path / "o.onnx").is_file()


# -- the form on disk ------------------------------------------------------------------------------


def test_programs_come_back_as_they_were(folder: Path) -> None:
    """Symbolic sizes with bounds, interpreted nodes, assumptions, every kind of field."""
    graph = parse_graph("""
graph g(%x: f32[n, 8]):
  const %w: bf16[8] = <8 elements>
  %1: bf16[n, 8] = cast(%x, dtype=bf16)
  %2: bf16[n, 8] = mul(%1, %w)
  return %2 as y
""", {"w": np.arange(8).astype("bfloat16")})  # fmt: skip
    n = Dim("n", min=2, max=9)
    program = build(graph, Target(32))
    op = REGISTRY["cumsum"](axis=1, exclusive=False, reverse=True)
    program = replace(
        program,
        inputs=(("x", TensorType(program.inputs[0][1].dtype, (n, 8 * n // 3 + 1))),),
        steps=(*program.steps, Interpreted(op, ((0, (n, 8)),), (1,), "why", "text")),
        assumptions=(Assumption(n % 2, "==", 0, "even", Location("f.py", 3)),),
    )
    packed = (np.arange(5, dtype=np.int64), np.zeros((0, 3), np.float32), np.array(True))
    about = ({"a": [1, 2.5, float("inf")]}, None, ("b", True))
    stored.save("k", stored.Stored(program, packed, about))
    found = stored.load("k")
    assert found is not None
    assert replace(found.program, constants=()) == replace(program, constants=())
    ((_, t),) = found.program.inputs
    (symbol,) = symbols(t.shape[0])
    assert (symbol.min, symbol.max) == (2, 9)
    for a, b in zip(found.program.constants, program.constants, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    for a, b in zip(found.packed, packed, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.size == 0 or a.ctypes.data % 64 == 0
        np.testing.assert_array_equal(a, b)
    assert found.about == about


class Odd:
    pass


def test_what_has_no_form_on_disk_is_not_stored(folder: Path) -> None:
    program = build(parse_graph(GRAPH, arrays()), Target(32))
    stored.save("k", stored.Stored(program, (), Odd()))
    assert stored.load("k") is None
    assert not list(folder.glob("*.model"))


def test_files_that_are_no_models(folder: Path) -> None:
    bodies = (
        {"is": "Path", "args": []},
        {"is": "op", "op": "no_such_op", "fields": {}},
        {"is": "op", "op": "relu", "fields": {"x": 1}},
        [1, 2],
        {"of": 1},
    )
    for body in bodies:
        text = json.dumps(body).encode()
        data = len(text).to_bytes(8, "little") + text
        cache.store("k", lambda path, data=data: path.write_bytes(data) and None, ".model")
        assert stored.load("k") is None
        assert cache.find("k", ".model") is None


def test_constants_read_only_to_be_packed_are_let_go() -> None:
    graph = parse_graph(GRAPH, arrays())
    compiler = find_compiler()
    assert compiler is not None
    program = build(graph, compiler.target)
    homes = {s.home for s in program.slots}
    assert Home.PACKED in homes
    run = Executable(program, compiler)
    held = [c for c in run.program.constants if c is not None]
    assert [c.shape for c in held] == [(70,)]
    for a, b in zip(run.run([X]), interpret(graph, [X]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_memory_given_back_is_asked_for_again() -> None:
    graph = parse_graph("""
graph g(%x: f32[n, 64]):
  %1: f32[n, 64] = softmax(%x, axis=1)
  %2: f32[64, n] = permute(%1, axes=(1, 0))
  %3: f32[64, n] = softmax(%2, axis=1)
  return %3 as y
""")
    s = session(export_graph(graph))
    x = np.random.default_rng(0).normal(size=(20, 64)).astype(np.float32)
    (want,) = s.run(None, {"x": x})
    for _ in range(2):
        s.trim()
        np.testing.assert_array_equal(s.run(None, {"x": x})[0], want)
