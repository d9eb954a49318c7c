"""PyTorch's public names, by module: what ``dualgraph/torch/names.json`` is generated from.

``python -m tests.parity.names`` writes the file, ``--check`` only compares.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import sys
import types
import typing
import warnings
from pathlib import Path
from typing import Any

import torch

import dualgraph

FILE = Path(dualgraph.__file__).with_name("torch") / "names.json"

# The modules that PyTorch documents, as far as programs use them.
_MODULES = """
torch torch.Tensor torch.amp torch.autograd torch.autograd.forward_ad torch.autograd.functional
torch.autograd.graph torch.autograd.profiler torch.backends.cpu torch.backends.cuda
torch.backends.cudnn torch.backends.mkl torch.backends.mkldnn torch.backends.mps
torch.backends.openmp torch.backends.opt_einsum torch.compiler torch.cpu torch.cuda torch.cuda.amp
torch.distributed torch.distributions torch.export torch.fft torch.func torch.futures torch.fx
torch.hub torch.jit torch.library torch.linalg torch.masked torch.mps torch.multiprocessing
torch.nested torch.nn torch.nn.attention torch.nn.functional torch.nn.init torch.nn.parallel
torch.nn.parameter torch.nn.utils torch.nn.utils.parametrizations torch.nn.utils.parametrize
torch.nn.utils.prune torch.nn.utils.rnn torch.nn.utils.stateless torch.onnx torch.optim
torch.optim.lr_scheduler torch.optim.swa_utils torch.overrides torch.package torch.profiler
torch.quantization torch.random torch.serialization torch.signal.windows torch.sparse
torch.special torch.testing torch.types torch.utils torch.utils.checkpoint torch.utils.data
torch.utils.dlpack torch.version torch.xpu
"""

# Flags are attributes of a module object of their own, which `dir` does not tell.
FLAGS = {
    "torch.backends.cudnn": [
        "allow_tf32", "benchmark", "benchmark_limit", "deterministic", "enabled", "flags",
        "is_acceptable", "is_available", "set_flags", "version",
    ],
    "torch.backends.mkldnn": ["enabled", "flags", "is_available", "set_flags", "verbose"],
    "torch.backends.opt_einsum": ["enabled", "get_opt_einsum", "is_available", "strategy"],
    "torch.version": ["__version__", "cuda", "debug", "git_version", "hip"],
}  # fmt: skip

# Of the classes that `torch` takes over from its C++ code, those that are documented.
CLASSES = {
    "AcceleratorError", "Event", "Generator", "GradScaler", "OutOfMemoryError", "Size", "Stream",
    "SymBool", "SymFloat", "SymInt", "Tag", "Tensor",
}  # fmt: skip
KINDS = ("Storage", "Tensor")

# What modules without `__all__` import for themselves.
IMPORTED = {
    "Any", "BroadcastingList1", "BroadcastingList2", "BroadcastingList3", "Callable", "DType",
    "Optional", "TYPE_CHECKING", "Tensor", "Union", "annotations", "assert_int_or_pair",
    "boolean_dispatch", "cast", "classproperty", "common_notes", "cpp", "reproducibility_notes",
    "sparse_support_notes", "tf32_notes", "timedelta",
}  # fmt: skip


def public(module: str) -> list[str]:
    """The public names of a module, or of the class ``torch.Tensor``."""
    if module in FLAGS:
        return sorted(FLAGS[module])
    if module == "torch.Tensor":
        return sorted(n for n in dir(torch.Tensor) if not n.startswith("_"))
    found = importlib.import_module(module)
    names = getattr(found, "__all__", None)
    if names is None:
        names = [n for n in dir(found) if n not in IMPORTED and _defined(getattr(found, n))]
    if module == "torch":
        names = [n for n in names if n[0].islower() or n in CLASSES or n.endswith(KINDS)]
    return sorted({n for n in names if not n.startswith("_") and n not in IMPORTED})


def _defined(value: Any) -> bool:
    """Whether a value can be PyTorch's own: no module, nothing of Python's library."""
    if isinstance(value, types.ModuleType) or typing.get_origin(value) is not None:
        return False
    home = getattr(value, "__module__", None)
    owned = inspect.isclass(value) or inspect.isroutine(value)
    return not owned or home is None or home.partition(".")[0] == "torch"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare with the file")
    check = parser.parse_args().check
    warnings.simplefilter("ignore")
    lines = (f"{json.dumps(m)}: {json.dumps(public(m))}" for m in _MODULES.split())
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    if not check:
        FILE.write_text(text)
    elif FILE.read_text() != text:
        sys.exit(f"{FILE.name} does not list the names of PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()
