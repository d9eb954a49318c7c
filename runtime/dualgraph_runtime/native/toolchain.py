"""The C compiler: which one there is, what machine it compiles for, and how it is called.

In order: ``$DUALGRAPH_CC`` (a command, with arguments if need be), ``cc``, ``gcc``, ``clang`` on
the path, and the compiler in the ``ziglang`` wheel. ``DUALGRAPH_CC=none`` says that there is none.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import logging
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualgraph_compiler.errors import DeviceError
from dualgraph_compiler.native import Target

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

# What makes a compiler use everything that this machine has.
_MACHINE_FLAGS = (("-march=native",), ("-mcpu=native",), ())


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

    def build(self, text: str, path: Path, extra: Sequence[str] = ()) -> None:
        """Compile C into a shared object at `path`.

        Raises:
            DeviceError: the compiler refused; its own words are in the message.
        """
        with tempfile.TemporaryDirectory(prefix="dualgraph-") as folder:
            source = Path(folder) / "program.c"
            source.write_text(text, encoding="utf-8")
            command = [*self.command, *self.flags, *extra, "-shared", str(source)]
            command += ["-o", str(path), "-lm"]
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", check=False
            )
        if done.returncode:
            raise DeviceError(
                f"the C compiler {self.command[0]} failed with status {done.returncode}:\n"
                + done.stderr[-4000:]
            )


@functools.lru_cache(maxsize=1)
def find_compiler() -> Compiler | None:
    """The first compiler that works; None where there is none, which is said once in the log."""
    for command in _candidates():
        for flags in _MACHINE_FLAGS:
            macros = _macros((*command, *flags))
            if macros is not None:
                identity = hashlib.sha256("\0".join([*command, macros]).encode()).hexdigest()
                return Compiler(tuple(command), (*FLAGS, *flags), identity, _target(macros))
    _log.warning(
        "no C compiler found: graphs are interpreted. For compiled ones install gcc or clang, "
        "or `pip install ziglang`, or name a compiler in DUALGRAPH_CC"
    )
    return None


def _candidates() -> Iterator[list[str]]:
    named = os.environ.get("DUALGRAPH_CC")
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
