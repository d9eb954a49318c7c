"""What is made in the background: swapped in, waited for, given up, not left behind."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import dualgraph_runtime as rt
from dualgraph_compiler.errors import DeviceError
from dualgraph_compiler.graph import parse_graph
from dualgraph_compiler.onnx import export_graph
from dualgraph_runtime.native import Background, NotCompiled, processes


def test_work_begins_at_once_or_after_some_calls() -> None:
    at_once = Background(lambda: 1, "one")
    assert at_once.wait(60) == 1
    assert at_once.get() == 1
    later = Background(lambda: threading.get_ident(), "two", after=2)
    assert [later.get(), later.get()] == [None, None]
    assert not later._queued
    later.get()
    assert later._queued
    assert later.wait(60) not in (None, threading.get_ident())


def test_waiting_does_what_nobody_has_begun() -> None:
    lazy = Background(threading.get_ident, "lazy", after=5)
    assert lazy.wait() == threading.get_ident()


def test_waiting_for_what_stands_in_the_queue() -> None:
    go = threading.Event()
    first = Background(lambda: go.wait(60), "first")
    second = Background(threading.get_ident, "second")
    assert second.wait() == threading.get_ident()  # does not wait for the first
    assert not first.done
    assert first.wait(0.01) is None
    go.set()
    assert first.wait() is True


def test_one_piece_of_work_is_done_once() -> None:
    calls: list[int] = []

    def make() -> int:
        time.sleep(0.01)
        calls.append(1)
        return 1

    work = Background(make, "work", after=3)
    threads = [threading.Thread(target=work.wait) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert calls == [1]


def test_failures_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> int:
        raise ValueError("no luck")

    with caplog.at_level(logging.WARNING, "dualgraph"):
        work = Background(fail, "graph 'g'", after=1)
        assert work.wait() is None
        assert work.done
        assert work.get() is None
        assert work.wait() is None
    assert [r.getMessage() for r in caplog.records] == [
        "graph 'g': interpreted, since compiling failed: no luck"
    ]
    assert work.why == "compiling failed: no luck"


def test_what_has_no_compiled_form_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    def refuse() -> int:
        raise NotCompiled("of this")

    with caplog.at_level(logging.WARNING, "dualgraph"):
        work = Background(refuse, "graph 'g'")
        assert work.wait() is None
    assert work.why == "of this"
    assert not caplog.records


def test_what_nobody_waits_for_is_not_built() -> None:
    go = threading.Event()
    first = Background(lambda: go.wait(60), "first")
    built: list[int] = []
    second = Background(lambda: built.append(1), "second")
    del second
    gc.collect()
    go.set()
    first.wait(60)
    last = Background(lambda: 1, "last")
    last.wait(60)
    assert built == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_begins_again() -> None:
    code = """
import os, threading, time
from dualgraph_runtime.native import Background
parent = os.getpid()
go = threading.Event()
def make():
    if os.getpid() == parent:
        go.wait(60)
    return os.getpid()
work = Background(make, "work")
time.sleep(0.05)
child = os.fork()
if child == 0:
    os._exit(0 if work.wait() == os.getpid() else 1)
_, status = os.waitpid(child, 0)
go.set()
assert work.wait(60) == parent
assert status == 0, status
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=environment())


def environment() -> dict[str, str]:
    return dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))


# -- compilers as processes ------------------------------------------------------------------------


def test_no_more_compilers_than_processors(tmp_path: Path) -> None:
    code = "import os,time;open(os.path.join({0!r},str(os.getpid())),'w');time.sleep(.2)"
    command = [sys.executable, "-S", "-c", code.format(str(tmp_path))]
    seen = 0
    worker = threading.Thread(target=processes.run, args=([command] * 4,))
    worker.start()
    while worker.is_alive():
        seen = max(seen, len(processes._running))
        time.sleep(0.01)
    worker.join()
    assert seen <= processes.available_cpus()
    assert len(list(tmp_path.iterdir())) == 4


def test_failing_commands() -> None:
    script = "import sys; sys.stderr.write('bad code'); sys.exit(3)"
    bad = [sys.executable, "-S", "-c", script]
    for commands in ([bad], [bad, [sys.executable, "-S", "-c", ""]]):
        with pytest.raises(DeviceError, match="failed with status 3:\nbad code"):
            processes.run(commands)
    with pytest.raises(DeviceError, match="cannot run"):
        processes.run([["/nowhere/cc"]])


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority on Linux")
def test_compilers_in_the_background_have_low_priority(tmp_path: Path) -> None:
    out = tmp_path / "niceness"
    code = f"import os; open({str(out)!r}, 'w').write(str(os.nice(0)))"

    def make() -> str:
        processes.run([[sys.executable, "-S", "-c", code]])
        return out.read_text()

    before = os.nice(0)
    assert Background(make, "nice").wait(60) == str(min(before + 10, 19))
    assert Background(make, "nice", after=1).wait() == str(before)


def running_in(group: int) -> list[str]:
    """The processes of a process group, but for those that have ended."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            state, _, its_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(its_group) == group and state != "Z":
            found.append(entry.name)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_process_that_ends_stops_its_compilers(tmp_path: Path) -> None:
    """A compiler that would run for a minute, in the background of a process that ends."""
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nsleep 61.25 & echo $$ > " + str(tmp_path / "pid") + "\nwait\n")
    slow.chmod(0o755)
    code = f"""
import os, time
from dualgraph_runtime.native import Background, processes
work = Background(lambda: processes.run([[{str(slow)!r}]]), "slow")
while not os.path.exists({str(tmp_path / "pid")!r}):
    time.sleep(0.01)
"""
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=environment())
    assert time.monotonic() - started < 30
    group = int((tmp_path / "pid").read_text())
    time.sleep(0.05)
    assert running_in(group) == []


@pytest.mark.skipif(os.name != "posix", reason="uses a shell")
def test_builds_stopped_by_the_end_of_a_process_say_nothing(tmp_path: Path) -> None:
    """The program's build, the launcher's and the pool's."""
    slow = tmp_path / "cc"
    slow.write_text(
        "#!/bin/sh\nPATH=/usr/bin:/bin\ncase \"$*\" in *-dM*) echo '#define X 1';; "
        f"*) touch {tmp_path}/begun; sleep 60;; esac\n"
    )
    slow.chmod(0o755)
    code = f"""
import logging, os, sys, time
logging.basicConfig(level=logging.WARNING)
from dualgraph_compiler.graph import parse_graph
from dualgraph_runtime.native import Background, compile_graph
graph = parse_graph({GRAPH.replace("n, 8", "900, 800")!r})
work = Background(lambda: compile_graph(graph, num_threads=2), "graph")
while not os.path.exists({str(tmp_path / "begun")!r}):
    time.sleep(0.01)
"""
    env = {**environment(), "DUALGRAPH_CC": str(slow), "DUALGRAPH_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


# -- sessions --------------------------------------------------------------------------------------

GRAPH = """
graph g(%x: f32[n, 8]):
  %1: f32[n, 8] = softmax(%x, axis=1)
  %2: f32[n, 8] = mul(%1, %x)
  return %2 as y
"""


def options(execution: str) -> rt.SessionOptions:
    made = rt.SessionOptions()
    made.execution = execution
    return made


@pytest.mark.compiler
def test_a_session_starts_at_once_and_swaps() -> None:
    model = export_graph(parse_graph(GRAPH))
    session = rt.InferenceSession(model, options("auto"))
    x = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    (want,) = rt.InferenceSession(model, options("interpreter")).run(None, {"x": x})
    stop = threading.Event()
    wrong: list[str] = []

    def call() -> None:
        while not stop.is_set():
            (y,) = session.run(None, {"x": x})
            if not np.allclose(y, want, rtol=1e-5):
                wrong.append(str(y))

    callers = [threading.Thread(target=call) for _ in range(2)]
    for c in callers:
        c.start()
    assert session.wait()
    stop.set()
    for c in callers:
        c.join()
    assert not wrong
    assert session.report().startswith("1 kernels")
    np.testing.assert_allclose(session.run(None, {"x": x})[0], want, rtol=1e-5)


def test_sessions_say_why_they_are_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    model = export_graph(parse_graph(GRAPH))
    session = rt.InferenceSession(model, options("interpreter"))
    assert not session.wait()
    assert "the option `execution` is 'interpreter'" in session.report()
    monkeypatch.setenv("DUALGRAPH_CC", "none")
    for execution in ("auto", "native"):
        session = rt.InferenceSession(model, options(execution))
        assert not session.wait()
        assert "no C compiler" in session.report()
        (y,) = session.run(None, {"x": np.ones((2, 8), np.float32)})
        assert y.shape == (2, 8)


@pytest.mark.skipif(os.name != "posix", reason="uses a shell")
def test_a_compiler_that_fails_leaves_a_session_interpreted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\ncase \"$*\" in *-dM*) echo '#define X 1';; *) exit 1;; esac\n")
    broken.chmod(0o755)
    monkeypatch.setenv("DUALGRAPH_CC", str(broken))
    monkeypatch.setenv("DUALGRAPH_CACHE_DIR", str(tmp_path / "cache"))
    session = rt.InferenceSession(export_graph(parse_graph(GRAPH)), options("native"))
    assert "failed with status 1" in session.report()
    assert session.run(None, {"x": np.ones((2, 8), np.float32)})[0].shape == (2, 8)
    assert len([r for r in caplog.records if "interpreted" in r.getMessage()]) == 1
