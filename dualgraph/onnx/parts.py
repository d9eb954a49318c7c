"""The modules that a loaded model consists of, and ops called by name in its printed code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from dualgraph_compiler.dims import Dim, DimLike
from dualgraph_compiler.dtypes import DType
from dualgraph_compiler.graph import Graph, parse_graph
from dualgraph_compiler.ops import REGISTRY, Op

from .. import nn
from .._dispatch import apply_many, captures, make
from .._tensor import Tensor


class Part(nn.Module):
    """A module that holds tensors under the dotted names a file gives them.

    ``features.0.weight`` is ``self.features[0].weight``: each piece of a name is a module.
    """

    def __getitem__(self, number: int) -> Any:
        """The part whose name is a number."""
        return self._modules[str(number)]

    def add(self, name: str, t: Tensor, *, is_parameter: bool = True) -> str:
        """Hold `t`, as a parameter or a buffer; returns the name it has got.

        Pieces that cannot be names of attributes, or are taken, are changed a little.
        """
        *path, last = re.split(r"[./]+", name.strip("./")) or [""]
        part: Part = self
        taken = []
        for piece in path:
            piece = _free(part, piece, may_be_part=True)
            if piece not in part._modules:
                part.add_module(piece, Part())
            part = part._modules[piece]  # type: ignore[assignment]
            taken.append(piece)
        last = _free(part, last)
        if is_parameter:
            part.register_parameter(last, t if isinstance(t, nn.Parameter) else nn.Parameter(t))
        else:
            part.register_buffer(last, t)
        return ".".join([*taken, last])

    def parameter(self, name: str, shape: tuple[int, ...], dtype: DType) -> None:
        """Hold a parameter of zeros, to be loaded from a ``state_dict``."""
        self.add(name, make(np.zeros(shape, dtype.np)))

    def buffer(self, name: str, shape: tuple[int, ...], dtype: DType) -> None:
        """Hold a buffer of zeros, to be loaded from a ``state_dict``."""
        self.add(name, make(np.zeros(shape, dtype.np)), is_parameter=False)


def _free(part: Part, wish: str, may_be_part: bool = False) -> str:
    """A name for an attribute of `part`: `wish` as far as that can be one."""
    name = re.sub(r"\W", "_", wish, flags=re.ASCII) or "part"
    while hasattr(part, name) and not (may_be_part and isinstance(part._modules.get(name), Part)):
        name += "_"
    return name


def tensor_at(part: Part, name: str) -> Tensor:
    """The tensor that `add` has put under this name."""
    found: Any = part
    for piece in name.split("."):
        found = getattr(found, piece)
    return found  # type: ignore[no-any-return]


def run(op: Op, *operands: Tensor) -> tuple[Tensor, ...]:
    """The results of an op, which may have no operands."""
    if operands:
        return apply_many(op, *operands)
    if captures.current is not None:
        return (make(captures.current.add(op, ())),)
    return (make(op()),)


def call(
    name: str, *operands: Tensor, symbols: Mapping[str, DimLike] | None = None, **attributes: Any
) -> Any:
    """The result (or tuple of results) of the op of that name: ``call("gru", x, ...)``.

    Args:
        name: an op of the registry, as a printed graph names it.
        operands: one tensor for each operand.
        symbols: what the symbols in the op's graphs stand for.
        attributes: the op's fields.
    """
    op = REGISTRY[name](**attributes)
    if symbols:
        op = op.resolve(symbols)
    results = run(op, *operands)
    return results if len(results) > 1 else results[0]


def fresh_size(name: str) -> Dim:
    """The size of a result that only a run tells, for an op that declares it."""
    if captures.current is None:
        return Dim(name)
    return Dim(f"{name}_{len(captures.current.graph)}")  # another one at each call


def body(text: str) -> Graph:
    """The graph that an op such as ``loop`` holds, from its printed form."""
    return parse_graph(text)
