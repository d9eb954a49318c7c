"""What all commands share, and the small ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import dualgraph as dg
from dualgraph.cli import contrast
from dualgraph.cli.text import byte_size, duration
from dualgraph.cli.timing import interleaved_medians
from dualgraph_runtime.native import cache
from tests.cli.conftest import Invoke, fails_with_one_line


def test_help_lists_every_command(dualgraph: Invoke) -> None:
    text = dualgraph("--help").stdout
    for name in ("cache", "contrast", "demo", "env", "inspect", "run"):
        assert name in text
        assert dualgraph(name, "-h").exit_code == 0


def test_version(dualgraph: Invoke) -> None:
    assert dualgraph("--version").stdout == f"dualgraph, version {dg.__version__}\n"


def test_usage_errors_are_one_line(dualgraph: Invoke) -> None:
    fails_with_one_line(dualgraph("trane"), "'trane'", "dualgraph --help")
    fails_with_one_line(dualgraph("run"), "MODEL", "dualgraph run --help")
    fails_with_one_line(dualgraph("env", "extra"), "extra")


def test_cache(dualgraph: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUALGRAPH_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("DUALGRAPH_CACHE_SIZE", "5M")
    for key in ("old", "new"):
        cache.cached(key, lambda path: path.write_bytes(bytes(2000)) and None)
    os.utime(tmp_path / "native" / "old.so", (1e9, 1e9))
    shown = dualgraph("cache", "--entries").stdout
    assert f"folder   {tmp_path / 'native'}\nfiles    2\nsize     4.0 KiB of 5.0 MiB" in shown
    assert shown.index("old.so") < shown.index("new.so")
    assert "2001-09-0" in shown
    assert dualgraph("cache", "clear").stdout == "removed 2 files, 4.0 KiB\n"
    assert "files    0" in dualgraph("cache").stdout
    monkeypatch.setenv("DUALGRAPH_CACHE_SIZE", "much")
    fails_with_one_line(dualgraph("cache"), "DUALGRAPH_CACHE_SIZE", "'much'")


def test_unforeseen_errors_keep_their_traceback(
    dualgraph: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("dualgraph.cli.env.cpu_name", broken)
    with pytest.raises(ZeroDivisionError):
        dualgraph("env")


def test_interruption(dualgraph: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dualgraph.cli.env.cpu_name", interrupt)
    result = dualgraph("env")
    assert (result.exit_code, result.stderr.strip()) == (130, "interrupted")


def test_running_out_of_memory(dualgraph: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*args: object) -> None:
        raise MemoryError

    monkeypatch.setattr("dualgraph.cli.env.cpu_name", exhausted)
    fails_with_one_line(dualgraph("env"), "out of memory")


def test_as_a_module_and_in_a_pipe(scale: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "dualgraph"]
    done = subprocess.run(
        [*command, "run", scale], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "y: float32[1, 3]" in done.stdout
    done = subprocess.run(
        [*command, "run", "nowhere.onnx"], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: cannot read nowhere.onnx: No such file or directory\n"


def test_env(dualgraph: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUALGRAPH_VERIFY", "1")
    text = dualgraph("env").stdout
    for word in ("python", "cpu", "c compiler", "gpu", "numpy", "dualgraph", "DUALGRAPH_VERIFY"):
        assert word in text


def test_contrast(dualgraph: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrast, "interleaved_medians", lambda runs: dict.fromkeys(runs, 1e-6))
    result = dualgraph("contrast", "--no-peers")
    assert result.exit_code == 0
    for title in contrast.WAYS:
        assert result.stdout.count(title) == 2  # its code, its row
    assert "c.backward()" in result.stdout
    assert "def run" not in result.stdout
    assert "All values and gradients agree" in result.stdout


def test_contrast_says_when_results_differ(
    dualgraph: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contrast, "interleaved_medians", lambda runs: dict.fromkeys(runs, 1e-6))
    monkeypatch.setattr(contrast, "largest_difference", lambda *args: 0.5)
    result = dualgraph("contrast", "--no-peers", "--no-code")
    assert result.exit_code == 2
    assert "5.0e-01" in result.stderr


def test_timing_takes_turns() -> None:
    calls: list[str] = []
    medians = interleaved_medians(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")},
        blocks=3,
        block_seconds=1e-6,
    )
    assert set(medians) == {"a", "b"}
    text = "".join(calls)
    assert text.rstrip("b").count("ab") >= 3


def test_numbers_for_people() -> None:
    assert [byte_size(n) for n in (0, 1023, 1024, 3 << 20, 5 << 30)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "3.0 MiB",
        "5.0 GiB",
    ]
    assert [duration(s) for s in (2.5e-7, 1.234e-5, 9.996e-4, 0.0123, 1.0, 75.04)] == [
        "0.25 us",
        "12.3 us",
        "1.00 ms",
        "12.3 ms",
        "1.0 s",
        "75.0 s",
    ]
