"""How much memory this process may use."""

from __future__ import annotations

import functools
import re
from pathlib import Path

_PLENTY = 1 << 62  # where the system does not say


@functools.cache
def usable_memory(root: Path = Path("/")) -> int:
    """Bytes: what the machine has, swap included, or less where this process is given less."""
    found = [_machine(root), _address_space(), *_control_groups(root)]
    return min((n for n in found if n), default=_PLENTY)


def _machine(root: Path) -> int:
    sizes = dict(re.findall(r"^(\w+):\s+(\d+) kB", _read(root / "proc/meminfo"), re.M))
    return (int(sizes.get("MemTotal", 0)) + int(sizes.get("SwapTotal", 0))) * 1024


def _address_space() -> int:
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return 0 if limit == resource.RLIM_INFINITY else limit


def _control_groups(root: Path) -> list[int]:
    """The limits of the process's group and of those around it, in version 2 or 1."""
    found = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        parts = [p for p in path.split("/") if p not in ("", "..")]
        mount = root / "sys/fs/cgroup"
        if controllers and "memory" not in controllers.split(","):
            continue
        if controllers:
            mount /= "memory"
        for depth in range(len(parts) + 1):
            folder = mount.joinpath(*parts[:depth])
            for name in ("memory.max", "memory.limit_in_bytes"):
                text = _read(folder / name).strip()
                if text.isascii() and text.isdigit():
                    found.append(int(text))
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
