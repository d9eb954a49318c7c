"""Compiled code on disk: kept, shared, repaired, bounded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.graph import Graph, parse_graph
from dualgraph_runtime.native import cache, compile_graph

TEXT = """
graph g(%x: f32[4]):
  %1: f32[4] = add(%x, %x)
  return %1 as output
"""


def graph() -> Graph:
    return parse_graph(TEXT)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DUALGRAPH_CACHE_DIR", str(tmp_path))
    return tmp_path / "native"


def put(data: bytes) -> object:
    return lambda path: path.write_bytes(data)


def test_an_entry_is_built_once(folder: Path) -> None:
    built = []

    def build(path: Path) -> None:
        built.append(path)
        path.write_bytes(b"code")

    first = cache.cached("k", build)
    assert cache.cached("k", build) == first
    assert first.parent == folder
    assert len(built) == 1
    assert first.read_bytes().startswith(b"code")
    assert os.listdir(folder) == ["k.so"]


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "gone"])
def test_a_damaged_entry_is_built_again(folder: Path, damage: str) -> None:
    path = cache.cached("k", lambda p: p.write_bytes(b"code" * 100) and None)
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": whole[:-50], "changed": b"C" + whole[1:], "empty": b""}[damage])
    assert cache.cached("k", lambda p: p.write_bytes(b"new") and None).read_bytes()[:3] == b"new"


def test_a_failed_build_leaves_nothing(folder: Path) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        cache.cached("k", fail)
    assert os.listdir(folder) == []


def test_what_was_used_least_recently_goes_first(folder: Path) -> None:
    paths = [cache.cached(k, lambda p: p.write_bytes(bytes(1000)) and None) for k in "abc"]
    for age, path in zip((30, 10, 20), paths, strict=True):
        os.utime(path, (1e9 - age, 1e9 - age))
    cache.prune(folder, paths[0], 2200)
    assert sorted(os.listdir(folder)) == ["a.so", "b.so"]


def test_the_limit_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, size in (("1000", 1000), ("2k", 2048), ("3M", 3 << 20), ("1 GiB", 1 << 30)):
        monkeypatch.setenv("DUALGRAPH_CACHE_SIZE", text)
        assert cache.limit() == size
    monkeypatch.setenv("DUALGRAPH_CACHE_SIZE", "big")
    with pytest.raises(ArgumentError, match="DUALGRAPH_CACHE_SIZE"):
        cache.limit()


def test_use_saves_an_entry_from_going(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUALGRAPH_CACHE_SIZE", "2200")
    for age, key in ((30, "a"), (20, "b")):
        os.utime(cache.cached(key, lambda p: p.write_bytes(bytes(1000)) and None), (1e9 - age,) * 2)
    assert cache.find("a") is not None
    cache.cached("c", lambda p: p.write_bytes(bytes(1000)) and None)
    assert sorted(os.listdir(folder)) == ["a.so", "c.so"]


def test_files_nobody_will_finish_are_removed(folder: Path) -> None:
    folder.mkdir()
    old, new = folder / ".new-old.so", folder / ".new-new.so"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1e9, 1e9))
    cache.cached("a", lambda p: p.write_bytes(b"code") and None)
    assert sorted(os.listdir(folder)) == [".new-new.so", "a.so"]
    cache.clear()
    assert os.listdir(folder) == [".new-new.so"]


@pytest.mark.parametrize("where", ["a file is there", "no home"])
def test_a_folder_that_cannot_be_made(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    if where == "no home":
        for name in ("DUALGRAPH_CACHE_DIR", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(tmp_path / "file" / "nobody"))
    else:
        monkeypatch.setenv("DUALGRAPH_CACHE_DIR", str(tmp_path / "file" / "cache"))
    path = cache.cached("k", lambda p: p.write_bytes(b"code") and None)
    assert cache.content(path) == b"code"
    assert not path.is_relative_to(tmp_path)
    assert cache.find("k") == path
    cache.forget("k")


def test_hashes_of_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_PART", 64)
    monkeypatch.setattr(cache, "_READ", 10)
    path = tmp_path / "data"
    seen = set()
    for size in (0, 1, 63, 64, 65, 128, 1000):
        data = bytes(i * 7 % 251 for i in range(size))
        path.write_bytes(data)
        found = cache.digest_of(path)
        assert found == cache.digest_of_bytes(data)
        seen.add(found)
        for i in range(0, size, 50):
            changed = data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :]
            assert cache.digest_of_bytes(changed) != found
        if size:
            assert cache.digest_of(path, size - 1) == cache.digest_of_bytes(data[:-1])
    assert len(seen) == 7


def test_keys_tell_parts_apart() -> None:
    assert cache.key_of("ab", "c") != cache.key_of("a", "bc")


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_folder_that_others_write_to_is_not_used(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    assert cache.folder() != folder


@pytest.mark.compiler
def test_a_program_survives_damage_of_its_file(folder: Path) -> None:
    x = np.arange(4, dtype=np.float32)
    compile_graph(graph()).run([x])
    assert list(folder.glob("*.so"))
    for path in folder.glob("*.so"):
        half = path.read_bytes()[:100]
        path.unlink()  # the code that is loaded keeps the file it came from
        path.write_bytes(half)
    (y,) = compile_graph(graph()).run([x])
    np.testing.assert_array_equal(y, x + x)


@pytest.mark.compiler
def test_processes_share_a_cache(folder: Path, tmp_path: Path) -> None:
    code = (
        "import numpy as np\n"
        "from dualgraph_compiler.graph import parse_graph\n"
        "from dualgraph_runtime.native import compile_graph\n"
        f"(y,) = compile_graph(parse_graph({TEXT!r})).run([np.ones(4, np.float32)])\n"
        "assert (y == 2).all()\n"
    )
    env = dict(os.environ, DUALGRAPH_CACHE_DIR=str(tmp_path), PYTHONPATH=os.pathsep.join(sys.path))
    running = [subprocess.Popen([sys.executable, "-c", code], env=env) for _ in range(3)]
    assert [p.wait(60) for p in running] == [0, 0, 0]
    assert not list(folder.glob(".new-*"))


WARM = """
import logging, subprocess, sys
import numpy as np
from dualgraph_compiler.graph import parse_graph
from dualgraph_runtime.native import compile_graph

class Popen(subprocess.Popen):
    def __init__(self, *args, **options):
        raise AssertionError("a process was started")

subprocess.Popen = Popen
(y,) = compile_graph(parse_graph(sys.argv[1])).run([np.ones(4, np.float32)])
assert (y == 2).all()
"""


@pytest.mark.compiler
def test_a_warm_start_runs_no_compiler(folder: Path) -> None:
    compile_graph(graph())
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    # The second process finds what the first has asked the compiler.
    first = WARM.replace("subprocess.Popen = Popen", "")
    for code in (first, WARM):
        subprocess.run([sys.executable, "-c", code, TEXT], env=env, check=True, timeout=60)
