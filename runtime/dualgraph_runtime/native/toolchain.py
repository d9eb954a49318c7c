"""The C compiler: which one there is, what machine it compiles for, and how it is called.

In order: ``$DUALGRAPH_CC`` (a command, with arguments if need be), ``cc``, ``gcc``, ``clang`` on
the path, and the compiler in the ``ziglang`` wheel. ``DUALGRAPH_CC=none`` says that there is none.
Code is for this machine, unless the command names one (``gcc -march=x86-64-v2``), and its vectors
are the machine's widest, unless ``DUALGRAPH_VECTOR_BYTES`` says how wide.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.native.target import Target

from . import cache, processes

_log = logging.getLogger("dualgraph")

# -fwrapv: integers wrap as NumPy's do. -ffp-contract=off: a*b + c rounds twice, as written; where
# one rounding is wanted the text asks for it.
FLAGS = (
    "-O2",
    "-std=gnu11",
    "-fPIC",
    "-fwrapv",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-strict-aliasing",
    "-ffp-contract=off",
    "-Wno-psabi",
)

# What makes a compiler use everything that this machine has, and what names another one.
_MACHINE_FLAGS = (("-march=native",), ("-mcpu=native",), ())
_NAMES_MACHINE = ("-march=", "-mcpu=")
_WIDTHS = ("16", "32", "64")  # bytes of vectors


@dataclass(frozen=True, slots=True)
class Compiler:
    """A C compiler and the machine it was asked about.

    `identity` changes with the compiler's version and the machine's features; `target` is what the
    code generator needs to know.
    """

    command: tuple[str, ...]
    flags: tuple[str, ...]
    identity: str
    target: Target

    def build(self, units: str | Sequence[str], path: Path, extra: Sequence[str] = ()) -> None:
        """Compile C into a shared object at `path`; several units are compiled side by side.

        Raises:
            DeviceError: the compiler refused; its own words are in the message.
        """
        texts = [units] if isinstance(units, str) else list(units)
        command = [*self.command, *self.flags, *extra]
        with tempfile.TemporaryDirectory(prefix="dualgraph-") as folder:
            sources = [str(Path(folder) / f"unit{i}.c") for i in range(len(texts))]
            for source, text in zip(sources, texts, strict=True):
                Path(source).write_text(text, encoding="utf-8")
            if len(sources) > 1:
                processes.run([[*command, "-c", s, "-o", f"{s}.o"] for s in sources])
                sources = [f"{s}.o" for s in sources]
            processes.run([[*command, "-shared", *sources, "-o", str(path), "-lm"]])


def find_compiler() -> Compiler | None:
    """The first compiler that works; None where there is none, which is said once in the log.

    Raises:
        ArgumentError: ``DUALGRAPH_VECTOR_BYTES`` is no width of vectors.
    """
    width = os.environ.get("DUALGRAPH_VECTOR_BYTES") or None
    if width is not None and width not in _WIDTHS:
        raise ArgumentError(f"DUALGRAPH_VECTOR_BYTES must be 16, 32 or 64, got {width!r}")
    return _find(os.environ.get("DUALGRAPH_CC") or "", width)


@functools.lru_cache(maxsize=8)
def _find(named: str, width: str | None) -> Compiler | None:
    for command in _candidates(named):
        found = _remembered(command, width)
        if found is not None:
            return found
    _log.warning(
        "no C compiler found: graphs are interpreted. For compiled ones install gcc or clang, "
        "or `pip install ziglang`, or name a compiler in DUALGRAPH_CC"
    )
    return None


def _candidates(named: str) -> Iterator[list[str]]:
    if named:
        if named != "none":
            yield shlex.split(named)
        return
    for name in ("cc", "gcc", "clang"):
        found = shutil.which(name)
        if found:
            yield [found]
    if importlib.util.find_spec("ziglang") is not None:
        yield [sys.executable, "-m", "ziglang", "cc"]


# -- what a compiler says of itself ----------------------------------------------------------------


def _remembered(command: list[str], width: str | None) -> Compiler | None:
    """What is known of a compiler from an earlier process, else what it says."""
    stamp = _stamp(command)
    if stamp is None:
        return _asked(command, width)
    key = cache.key_of("compiler", *FLAGS, stamp, width or "")
    path = cache.find(key, ".json")
    if path is not None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(cache.content(path))
            target = Target(known["vector_bytes"])
            return Compiler(tuple(command), tuple(known["flags"]), known["identity"], target)
    found = _asked(command, width)
    if found is not None:
        known = {
            "command": found.command,
            "flags": found.flags,
            "identity": found.identity,
            "vector_bytes": found.target.vector_bytes,
        }

        def write(to: Path) -> None:
            to.write_text(json.dumps(known), encoding="utf-8")

        with contextlib.suppress(OSError):
            cache.store(key, write, ".json")
    return found


def _stamp(command: Sequence[str]) -> str | None:
    """What changes when the compiler or the machine does; None where that cannot be told."""
    cpu = _cpu()
    program = shutil.which(command[0])
    if cpu is None or program is None:
        return None
    try:
        file = Path(program).resolve()
        status = file.stat()
    except (OSError, RuntimeError):
        return None
    return "\0".join([*command, str(file), str(status.st_size), str(status.st_mtime_ns), cpu])


def _cpu() -> str | None:
    """The first processor's kind and features, as Linux tells them."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            lines = file.read(1 << 14).partition("\n\n")[0].splitlines()
    except OSError:
        return None
    # Neither changing frequencies nor which processor is the first.
    fixed = [x for x in lines if x.split("\t")[0] in _FIXED]
    return "\n".join([platform.machine(), *fixed])


_FIXED = {"vendor_id", "cpu family", "model", "stepping", "flags", "Features", "CPU implementer"}


def _asked(command: list[str], width: str | None) -> Compiler | None:
    """A compiler by what it defines; None if it does not work."""
    named = any(argument.startswith(_NAMES_MACHINE) for argument in command)
    for flags in ((),) if named else _MACHINE_FLAGS:
        macros = _macros((*command, *flags))
        if macros is not None:
            target = _target(macros) if width is None else Target(int(width))
            said = "\0".join([*command, macros, str(target.vector_bytes)])
            identity = hashlib.sha256(said.encode()).hexdigest()
            return Compiler(tuple(command), (*FLAGS, *flags), identity, target)
    return None


def _macros(command: Sequence[str]) -> str | None:
    """What the compiler defines by itself: its version and the machine's features."""
    try:
        done = subprocess.run(
            [*command, "-dM", "-E", "-x", "c", os.devnull],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return "\n".join(sorted(done.stdout.splitlines())) if done.returncode == 0 else None


def _target(macros: str) -> Target:
    defined = {line.split()[1] for line in macros.splitlines() if line.startswith("#define ")}
    if "__AVX512F__" in defined:
        return Target(64)
    return Target(32 if "__AVX2__" in defined else 16)
