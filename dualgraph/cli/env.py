"""``dualgraph env``: versions and hardware, for bug reports."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import click

from dualgraph import __version__
from dualgraph.cli.text import printable
from dualgraph_runtime.native.cpus import available_cpus

_PACKAGES = (
    "numpy",
    "onnx",
    "networkx",
    "ml_dtypes",
    "safetensors",
    "threadpoolctl",
    "onnxruntime",
    "torch",
    "jax",
    "cupy-cuda12x",
    "cupy-cuda13x",
)


@click.command("env")
def command() -> None:
    """Print versions and hardware, ready to paste into a bug report."""
    rows = [
        ("python", f"{platform.python_version()} ({sys.executable})"),
        ("platform", platform.platform()),
        ("cpu", f"{cpu_name()}, {available_cpus()} usable"),
        ("c compiler", _compiler()),
        ("gpu", _gpu()),
    ]
    rows += [("dualgraph", __version__)]
    rows += [(name, _version(name)) for name in _PACKAGES]
    rows += [(k, v) for k, v in sorted(os.environ.items()) if k.startswith("DUALGRAPH_")]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:<{width}}  {printable(value)}")


def cpu_name() -> str:
    """The processor's name and widest vector instructions, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor() or platform.machine()
    fields: dict[str, str] = {}
    for line in info.read_text().splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = fields.get("flags", "").split()
    vector = next((f for f in ("avx512f", "avx2", "avx", "sse4_2") if f in flags), "")
    return f"{fields.get('model name', platform.machine())} {vector}".strip()


def _compiler() -> str:
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            out = subprocess.run([name, "--version"], capture_output=True, text=True, check=False)
            return out.stdout.partition("\n")[0] or name
    return "none found"


def _gpu() -> str:
    from dualgraph_compiler.errors import DeviceError
    from dualgraph_runtime.device import Device

    try:
        xp = Device("cuda").xp
    except DeviceError as error:
        return f"none: {error}"
    return str(xp.cuda.runtime.getDeviceProperties(0)["name"].decode())


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
