"""Code for other machines: every width of vectors, with and without what AVX2 adds."""

from __future__ import annotations

import dataclasses
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dualgraph_runtime.native
from dualgraph_compiler import Dim, Graph, TensorType
from dualgraph_compiler.dtypes import float32, int32, uint8
from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.graph import interpret
from dualgraph_compiler.native import Target, build
from dualgraph_compiler.ops import f
from dualgraph_compiler.ops.composite import Gelu
from dualgraph_compiler.ops.conv import Conv
from dualgraph_compiler.ops.quantize import MatmulInteger
from dualgraph_runtime.native import Compiler, compile_graph, find_compiler
from dualgraph_runtime.native.toolchain import FLAGS

pytestmark = pytest.mark.compiler

x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="code for x86 machines")


def machine(monkeypatch: pytest.MonkeyPatch, flag: str = "", width: str = "") -> Compiler:
    """The compiler as settings make it, told not to optimise: vectors are as wide."""
    found = find_compiler()
    assert found is not None
    if flag:
        monkeypatch.setenv("DUALGRAPH_CC", " ".join([*found.command, flag]))
    monkeypatch.setenv("DUALGRAPH_VECTOR_BYTES", width)
    found = find_compiler()
    assert found is not None
    return dataclasses.replace(
        found, flags=tuple("-O0" if flag == "-O2" else flag for flag in found.flags)
    )


def everything() -> tuple[Graph, list[np.ndarray[Any, Any]]]:
    """Some of each kind of kernel, and operands."""
    rng = np.random.default_rng(0)
    graph, arrays = Graph(), []

    def given(*shape: Any, size: int = 3) -> Any:
        arrays.append(
            rng.normal(size=[size if isinstance(d, Dim) else d for d in shape]).astype(np.float32)
        )
        return graph.add_input(TensorType(float32, shape), f"x{len(arrays)}")

    def weight(*shape: int) -> Any:
        return graph.constant((rng.normal(size=shape) / 8).astype(np.float32))

    n = Dim("n", min=1)
    rows, image = given(n, 77), given(2, 20, 17, 19)
    hidden = Gelu()(f.matmul(rows, weight(77, 77)) + weight(77))
    scores = f.softmax(f.matmul(hidden, f.transpose(rows)), axis=1)
    total = f.sum(f.tanh(rows) * f.sigmoid(rows), axes=(0,))
    square = Conv((1, 1), ((1, 1), (1, 1)), (1, 1))
    features = f.clip(square(image, weight(64, 20, 3, 3), weight(64)), 0.0, None)
    deep = square(features, weight(48, 64, 3, 3)) + f.mean(features, (1,), keepdims=True)
    each = Conv((2, 2), ((1, 1), (1, 1)), (1, 1), 48)(deep, weight(48, 1, 3, 3))
    whole = f.cast(rows * 20.0, int32)
    byte = f.cast(f.clip(rows * 40.0 + 120.0, 0.0, 255.0), uint8)
    constant, zero = rng.integers(0, 256, (77, 19)).astype(np.uint8), np.uint8(3)
    products = MatmulInteger()(byte, *(graph.constant(x) for x in (constant, zero, zero)))
    graph.set_outputs([scores, total, each, whole * whole - 7, products, f.exp(-rows * rows)])
    return graph, arrays


def check(compiler: Compiler) -> None:
    graph, arrays = everything()
    found = compile_graph(graph, compiler).run(arrays)
    for got, want in zip(found, interpret(graph, arrays), strict=True):
        if want.dtype.kind == "f":
            np.testing.assert_allclose(got, want, atol=2e-5 * np.abs(want).max(), rtol=0)
        else:
            np.testing.assert_array_equal(got, want)


@x86
def test_a_named_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One without fused products, whose vectors are of 16 bytes."""
    compiler = machine(monkeypatch, "-march=x86-64")
    assert compiler.target == Target(16)
    assert not any("native" in flag for flag in compiler.flags)
    check(compiler)


def test_a_named_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors that the machine lacks are several of its own."""
    plain = machine(monkeypatch)
    compiler = machine(monkeypatch, width="64")
    assert compiler.target == Target(64)
    assert (compiler.identity == plain.identity) == (plain.target == compiler.target)
    check(compiler)


def test_no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUALGRAPH_VECTOR_BYTES", "48")
    with pytest.raises(ArgumentError, match="DUALGRAPH_VECTOR_BYTES must be 16, 32 or 64"):
        find_compiler()


def compiled(command: list[str], width: int, folder: Path) -> None:
    """Builds, if nobody can run it here, what a program is made of."""
    (folder / "program.c").write_text(build(everything()[0], Target(width)).text)
    pool = Path(dualgraph_runtime.native.__file__).with_name("pool.c")
    command = [*command, *FLAGS, "-O0", "-Werror", "-c", str(pool), str(folder / "program.c")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@x86
def test_machines_with_wide_vectors(tmp_path: Path) -> None:
    compiler = find_compiler()
    assert compiler is not None
    compiled([*compiler.command, "-march=x86-64-v4"], 64, tmp_path)


@pytest.mark.skipif(shutil.which("aarch64-linux-gnu-gcc") is None, reason="needs that compiler")
def test_arm(tmp_path: Path) -> None:
    compiled(["aarch64-linux-gnu-gcc"], 16, tmp_path)
