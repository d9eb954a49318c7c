"""How many CPUs this process may use."""

from __future__ import annotations

import os
import re
from pathlib import Path


def available_cpus(root: Path = Path("/")) -> int:
    """The CPUs this process may run on, or fewer where its control group has less quota."""
    if hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count() or 1
    quota = cpu_quota(root)
    return cpus if quota is None else max(1, min(cpus, int(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs' worth of time that this process's control groups grant, the least; None for no limit.

    Version 2 says it in ``cpu.max``, version 1 in ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us``,
    each for a group and all those around it.
    """
    found: list[float] = []
    for mount, group in _groups(root):
        for folder in (mount / group, *(mount / group).parents):
            if not folder.is_relative_to(mount):
                break
            quota = _quota(folder)
            if quota is not None:
                found.append(quota)
    return min(found, default=None)


def _groups(root: Path) -> list[tuple[Path, str]]:
    """Where control groups with CPU limits are mounted, and the path of this process's there."""
    found = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        path = path.lstrip("/")
        if ".." in path.split("/"):  # a group outside of what this namespace can see
            path = ""
        if not controllers:
            found.append((root / "sys/fs/cgroup", path))
        elif "cpu" in controllers.split(","):
            found += [(root / "sys/fs/cgroup" / name, path) for name in ("cpu", controllers)]
    return found


def _quota(folder: Path) -> float | None:
    numbers = _read(folder / "cpu.max").split()
    if not numbers:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        numbers = [n for name in names for n in _read(folder / name).split()]
    if len(numbers) != 2 or not all(re.fullmatch(r"[1-9]\d*", n) for n in numbers):
        return None  # "max", or -1, or nothing there
    return int(numbers[0]) / int(numbers[1])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
