"""Compiled programs on several threads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import dualgraph_runtime.native
from dualgraph_compiler import Dim, Graph
from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.graph import interpret, parse_graph
from dualgraph_compiler.native import Target, build
from dualgraph_runtime import SessionOptions
from dualgraph_runtime.native import Executable, compile_graph, find_compiler
from dualgraph_runtime.native.cpus import available_cpus, cpu_quota
from dualgraph_runtime.native.threads import default_threads

from .test_random_graphs import row_graphs

pytestmark = pytest.mark.compiler

# A softmax over rows, a product whose matrix is packed in the program, one with a batch, a copy
# that turns axes round, a concatenation, a sum over windows.
MANY_KERNELS = """
graph g(%x: f32[n, 300], %w: f32[300, 80], %z: f32[4, 80, 100]):
  %1: f32[n, 300] = softmax(%x, axis=1)
  %2: f32[n, 80] = matmul(%1, %w)
  %3: f32[n, 80] = relu(%2)
  %4: f32[4, n, 100] = matmul(%3, %z)
  %5: f32[100, 4, n] = permute(%4, axes=(2, 0, 1))
  %6: f32[n, 380] = concat(%1, %3, axis=1)
  %7: f32[80, n] = permute(%3, axes=(1, 0))
  %8: f32[80] = sum(%7, axes=(1,), keepdims=False)
  return %5 as a, %6 as b, %8 as c
"""

CONVOLUTION = """
graph g(%x: f32[n, 6, 40, 40], %w: f32[8, 3, 3, 3]):
  %1: f32[n, 8, 40, 40] = conv(%x, %w, stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=2)
  %2: f32[n, 8, 20, 20] = max_pool(%1, kernel=(2, 2), stride=(2, 2), padding=((0, 0), (0, 0)), dilation=(1, 1))
  return %2 as output
"""  # noqa: E501

# A mean; a softmax over everything; few rows, and few columns, of many numbers; a mean of booleans.
LONG_FOLDS = """
graph g(%x: f32[1000, 301], %y: f32[3, 100000], %z: f32[n, 1000], %w: f32[50000, 7]):
  %1: f32[] = mean(%x, axes=(0, 1), keepdims=False)
  %3: f32[1, 301000] = reshape(%x, shape=(1, 301000))
  %4: f32[1, 301000] = softmax(%3, axis=1)
  %5: f32[3, 100000] = softmax(%y, axis=1)
  %6: f32[] = max(%z, axes=(0, 1), keepdims=False)
  %7: f32[7] = sum(%w, axes=(0,), keepdims=False)
  %8: f32[50000, 1] = sum(%w, axes=(1,), keepdims=True)
  %9: f32[50000, 7] = mul(%w, %8)
  %10: f32[7] = max(%9, axes=(0,), keepdims=False)
  %11: bool[3, 100000] = greater(%y, %5)
  %12: bool[3] = any(%11, axes=(1,), keepdims=False)
  %13: f32[3] = sum(%5, axes=(1,), keepdims=False)
  %14: f32[n, 1000] = sub(%z, %6)
  %15: f32[n, 1000] = exp(%14)
  %16: f32[] = sum(%15, axes=(0, 1), keepdims=False)
  return %1 as a, %4 as b, %5 as c, %7 as d, %10 as e, %12 as f, %16 as g, %13 as h, %14 as i
"""

DIVISION = """
graph g(%x: i32[200000], %y: i32[200000]):
  %1: i32[200000] = floor_div(%x, %y)
  return %1 as output
"""


def arrays_for(graph: Graph, n: int) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(n)
    shapes = [[n if isinstance(d, Dim) else d for d in v.shape] for v in graph.inputs]
    return [
        rng.normal(size=s).astype(v.dtype.np) for s, v in zip(shapes, graph.inputs, strict=True)
    ]


def assert_same_bits(a: Sequence[Any], b: Sequence[Any]) -> None:
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("text", [MANY_KERNELS, CONVOLUTION, LONG_FOLDS])
@pytest.mark.parametrize("vector", [16, 32])
def test_results_do_not_depend_on_the_number_of_threads(text: str, vector: int) -> None:
    graph = parse_graph(text)
    program, compiler = build(graph, Target(vector)), find_compiler()
    assert "share(team, step" in program.text
    assert compiler is not None
    runs = [Executable(program, compiler, n) for n in (1, 2, 3, 4)]
    for n in (1, 2, 70, 129):
        arrays = arrays_for(graph, n)
        want = runs[0].run(arrays)
        for a, b in zip(want, interpret(graph, arrays), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-3)  # sums of 50000 numbers
        for run in runs[1:]:
            for _ in range(5):
                assert_same_bits(run.run(arrays), want)


@settings(max_examples=12)
@given(graph=row_graphs())
def test_random_graphs(graph: Graph) -> None:
    one, three = (compile_graph(graph, num_threads=n) for n in (1, 3))
    for n in (1, 700, 20011):
        arrays = arrays_for(graph, n)
        want = one.run(arrays)
        for _ in range(3):
            assert_same_bits(three.run(arrays), want)


def test_an_error_in_any_task_is_raised() -> None:
    run = compile_graph(parse_graph(DIVISION), num_threads=4)
    x = np.full(200000, 7, np.int32)
    for wrong in (0, 100001, 199999):
        y = np.full(200000, 2, np.int32)
        np.testing.assert_array_equal(run.run([x, y])[0], 3)
        y[wrong] = 0
        with pytest.raises(ArgumentError, match="integer division by zero"):
            run.run([x, y])


def test_callers_do_not_wait_for_each_other() -> None:
    graphs = [parse_graph(t) for t in (MANY_KERNELS, CONVOLUTION)]
    runs = [(g, compile_graph(g, num_threads=n)) for g in graphs for n in (2, 4)]
    cases = [(run, a := arrays_for(g, n), run.run(a)) for g, run in runs for n in (5, 90)]
    barrier = threading.Barrier(5)

    def work(seed: int) -> None:
        barrier.wait()
        for i in np.random.default_rng(seed).integers(len(cases), size=40):
            run, arrays, want = cases[i]
            assert_same_bits(run.run(arrays), want)

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(work, range(5)))


FORK = """
import os, sys, threading
import numpy as np
from dualgraph_compiler.graph import interpret, parse_graph
from dualgraph_runtime.native import compile_graph
run = compile_graph(parse_graph(sys.argv[1]), num_threads=3)
x = [np.ones((90, 300), np.float32), np.ones((300, 80), np.float32), np.ones((4, 80, 100), np.float32)]
want = run.run(x)[0]
stop = False
def busy():
    while not stop:
        run.run(x)
thread = threading.Thread(target=busy)
thread.start()
for _ in range(5):
    child = os.fork()
    if not child:
        same = all((run.run(x)[0] == want).all() for _ in range(20))
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
stop = True
thread.join()
assert (run.run(x)[0] == want).all()
"""  # noqa: E501


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_process_has_threads_of_its_own() -> None:
    subprocess.run([sys.executable, "-c", FORK, MANY_KERNELS], check=True, timeout=120)


EXIT = """
import sys, threading
import numpy as np
from dualgraph_compiler.graph import parse_graph
from dualgraph_runtime.native import compile_graph
run = compile_graph(parse_graph(sys.argv[1]), num_threads=3)
x = [np.ones((900, 300), np.float32), np.ones((300, 80), np.float32), np.ones((4, 80, 100), np.float32)]
run.run(x)
def busy():
    while True:
        run.run(x)
for _ in range(2):
    threading.Thread(target=busy, daemon=True).start()
"""  # noqa: E501


def test_a_process_ends_while_threads_run_programs() -> None:
    subprocess.run([sys.executable, "-c", EXIT, MANY_KERNELS], check=True, timeout=120)


@pytest.mark.parametrize("flags", [(), ("-fsanitize=thread", "-O1")])
def test_the_pool_alone(flags: tuple[str, ...], tmp_path: Path) -> None:
    compiler = find_compiler()
    assert compiler is not None
    pool = Path(dualgraph_runtime.native.__file__).with_name("pool.c")
    program = tmp_path / "stress"
    files = [str(Path(__file__).with_name("pool_stress.c")), str(pool)]
    command = [*compiler.command, "-O2", "-g", "-std=gnu11", "-pthread", *flags, *files]
    built = subprocess.run([*command, "-o", str(program)], capture_output=True, check=False)
    if flags and built.returncode:
        pytest.skip("the compiler has no ThreadSanitizer")
    assert built.returncode == 0, built.stderr
    done = subprocess.run([program], capture_output=True, text=True, timeout=300, check=False)
    if flags and "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer cannot run here")
    assert done.returncode == 0, done.stderr


# -- how many -------------------------------------------------------------------------------------


def test_the_variable_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUALGRAPH_NUM_THREADS", "3")
    assert default_threads() == 3
    assert compile_graph(parse_graph(CONVOLUTION)).num_threads == 3
    assert compile_graph(parse_graph(CONVOLUTION), num_threads=1).num_threads == 1
    monkeypatch.delenv("DUALGRAPH_NUM_THREADS")
    assert default_threads() == available_cpus()
    for wrong in ("0", "-1", "two"):
        monkeypatch.setenv("DUALGRAPH_NUM_THREADS", wrong)
        with pytest.raises(ArgumentError, match="DUALGRAPH_NUM_THREADS must be a positive number"):
            default_threads()


def test_sessions_say_how_many() -> None:
    options = SessionOptions()
    assert options.intra_op_num_threads == 0
    options.intra_op_num_threads = 2
    for wrong in (-1, 1.5, "2"):
        with pytest.raises(ArgumentError, match="intra_op_num_threads must be 0 or more"):
            options.intra_op_num_threads = wrong


@pytest.mark.parametrize(
    ("group", "limits", "quota"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000\n", "a/cpu.max": "50000 100000"}, 0.5),
        ("0::/\n", {"cpu.max": "300000 100000\n"}, 3.0),
        ("0::/../../x\n", {"cpu.max": "300000 100000\n"}, 3.0),
        ("0::/gone\n", {}, None),
        ("0::/a\n", {"a/cpu.max": "no numbers"}, None),
        (
            "3:cpu,x:/d\n2:memory:/e\n",
            {
                "cpu,x/d/cpu.cfs_quota_us": "250000",
                "cpu,x/d/cpu.cfs_period_us": "100000",
            },
            2.5,
        ),
        (
            "3:cpu:/d\n",
            {"cpu/d/cpu.cfs_quota_us": "-1", "cpu/d/cpu.cfs_period_us": "100000"},
            None,
        ),
        ("", {}, None),
    ],
)
def test_quotas_of_control_groups(
    group: str, limits: dict[str, str], quota: float | None, tmp_path: Path
) -> None:
    for name, text in {
        "proc/self/cgroup": group,
        **{f"sys/fs/cgroup/{name}": text for name, text in limits.items()},
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert cpu_quota(tmp_path) == quota
    assert 1 <= available_cpus(tmp_path) <= max(1, quota or 10**6)
