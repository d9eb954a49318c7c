"""Nodes that move or compare strings, carried out on numbers that stand for them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler.dtypes import as_dtype, int64
from dualgraph_compiler.errors import NeedsValue, OnnxError
from dualgraph_compiler.graph import Interpreter
from dualgraph_compiler.onnx.lift import operator_name
from dualgraph_compiler.onnx.stepwise.kinds import MOVES, string_results
from dualgraph_compiler.onnx.stepwise.segment import import_on
from dualgraph_compiler.onnx.values import is_tensor
from dualgraph_compiler.types import TensorType

if TYPE_CHECKING:
    import onnx

    from dualgraph_compiler.onnx import ModelFile

Array = np.ndarray[Any, Any]

_MOST = 64  # graphs that are kept: shapes and contents are the callers'


class Coded:
    """The graphs of such nodes, kept for operands of their types. Safe to call from threads."""

    def __init__(self, file: ModelFile) -> None:
        self._file = file
        self._graphs: OrderedDict[Any, tuple[Interpreter, list[str]]] = OrderedDict()
        self._lock = threading.Lock()

    def run(self, node: onnx.NodeProto, operands: Sequence[Any]) -> list[Any]:
        """The results of a node, arrays of `str` objects where they are strings.

        Raises:
            OnnxError: an operand is no tensor, or the node does not fit its operands.
        """
        texts = {i: v for i, v in enumerate(operands) if v is not None and not is_tensor(v)}
        if not all(isinstance(v, np.ndarray) for v in texts.values()):
            raise OnnxError("expected tensors")
        words, codes = _numbered(list(texts.values()), operator_name(node) in MOVES)
        numbers = dict(zip(texts, codes, strict=True))
        arrays = {
            name: numbers.get(i, v)
            for i, (name, v) in enumerate(zip(node.input, operands, strict=True))
            if v is not None
        }
        coded = {node.input[i] for i in texts}
        found = self._computed(node, arrays, coded)
        strings = string_results(node, dict.fromkeys(texts, True))
        return [
            np.asarray(words[y], dtype=object) if s else y
            for y, s in zip(found, strings, strict=False)
        ]

    def _computed(
        self, node: onnx.NodeProto, arrays: Mapping[str, Array], coded: set[str]
    ) -> list[Array]:
        types = tuple([(v.dtype, v.shape) for v in arrays.values()])
        small = tuple([v.tobytes() for n, v in arrays.items() if n not in coded and v.size <= 16])
        for key in ((id(node), types), (id(node), types, small)):
            with self._lock:
                kept = self._graphs.get(key)
                if kept is not None:
                    self._graphs.move_to_end(key)
            if kept is None:
                kept = self._kept(key, node, arrays, coded)
            if kept is not None:
                interpreter, fed = kept
                return interpreter.run([arrays[n] for n in fed])
        return Interpreter(import_on(self._file, node, arrays), np).run([])

    def _kept(
        self, key: Any, node: onnx.NodeProto, arrays: Mapping[str, Array], coded: set[str]
    ) -> tuple[Interpreter, list[str]] | None:
        """A graph to keep for a key, and what it is fed; None where it would take more to know."""
        constant = {n for n, v in arrays.items() if n not in coded and v.size <= 16}
        operands = {
            n: v
            if len(key) > 2 and n in constant
            else TensorType(int64 if n in coded else as_dtype(v.dtype), v.shape)
            for n, v in arrays.items()
        }
        try:
            graph = import_on(self._file, node, operands)
        except NeedsValue:
            return None
        made = Interpreter(graph, np), [v.name for v in graph.inputs]
        with self._lock:
            kept = self._graphs.setdefault(key, made)
            if len(self._graphs) > _MOST:
                self._graphs.popitem(last=False)
        return kept


def _numbered(texts: Sequence[Array], moved: bool) -> tuple[Array, list[Array]]:
    """Words, the empty one first, and arrays of their positions; in order unless only `moved`."""
    if moved:
        ends = np.cumsum([1, *(t.size for t in texts)])
        codes = [
            np.arange(end - t.size, end).reshape(t.shape)
            for t, end in zip(texts, ends[1:].tolist(), strict=True)
        ]
        return np.concatenate([[""], *(t.ravel() for t in texts)], dtype=object), codes
    words = sorted({"", *(s for t in texts for s in t.flat)})
    at = {word: i for i, word in enumerate(words)}
    numbers = [np.array([at[s] for s in t.flat], np.int64).reshape(t.shape) for t in texts]
    return np.array(words, dtype=object), numbers
