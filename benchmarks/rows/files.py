"""ONNX files from anywhere, fed with the arrays beside them or with random ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dualgraph_compiler.dtypes import BY_NUMPY
from dualgraph_runtime import InferenceSession

from ..contenders import RNG, RUNTIME, sessions
from ..harness import Row


def file_row(path: Path, threads: int) -> Row:
    """One file. ``NAME.npz`` beside ``NAME.onnx`` holds its inputs, by name.

    Those that it lacks are random arrays of the sizes the file declares, where sizes that it
    leaves open are 1.
    """
    proto = path.read_bytes()
    model = InferenceSession(proto)
    beside = path.with_suffix(".npz")
    given = dict(np.load(beside)) if beside.exists() else {}
    feed = {
        i.name: given[i.name]
        if i.name in given
        else _array(i.type, [d if isinstance(d, int) else 1 for d in i.shape])
        for i in model.get_inputs()
    }
    return Row(path.name, sessions(proto, feed, threads), claim=RUNTIME, target=1.1)


def _array(type_name: str, shape: list[int]) -> Any:
    """Standard normal numbers, or small natural ones, for a type like ``tensor(float)``."""
    name = type_name.removeprefix("tensor(").removesuffix(")")
    name = {"float": "float32", "double": "float64"}.get(name, name)
    dtype = next(d for d in BY_NUMPY if d.name == name)
    if dtype.kind == "f":
        return RNG.standard_normal(shape).astype(dtype)
    return RNG.integers(0, 2 if dtype.kind == "b" else 100, shape).astype(dtype)
