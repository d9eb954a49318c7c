"""Runs a graph node by node through the ops' eager kernels: the oracle for everything below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..dims import evaluate, symbols
from ..dtypes import dtype_of
from ..errors import DeviceError, FeedError
from ..ops.base import Kind, Op
from .core import Graph, Value
from .nested import definitions


class Interpreter:
    """A graph made ready to run on `xp` (NumPy or CuPy).

    Preparing numbers the values, uploads constants once and notes after which node each value is
    last read, so that a run holds no array longer than needed. Safe to call from several threads.
    """

    def __init__(self, graph: Graph, xp: Any = np) -> None:
        self.xp = xp
        self.inputs = [(v.name, v.type) for v in graph.inputs]
        self._static = [(v.dtype.np, v.shape) for v in graph.inputs]
        self.symbolic = any(symbols(d) for v in graph.inputs for d in v.shape)
        slots: dict[Value, int] = {}
        for v in [*graph.inputs, *graph.params, *graph.constants]:
            slots[v] = len(slots)
        for node in graph.nodes:
            for v in node.outputs:
                slots[v] = len(slots)
        self._size = len(slots)
        self._n_params = len(graph.params)
        host = set() if xp is np else _read_by_host(graph)
        self._host = {slots[v] for v in host}
        self._modules = [np if node.outputs[0] in host else xp for node in graph.nodes]
        stored = [(v.data, v in host) for v in [*graph.params, *graph.constants]]
        # Numbers of NumPy, as opposed to its arrays, serve beside a device's arrays too.
        self._stored = [
            None if d is None else d[()] if on_host else xp.asarray(d) for d, on_host in stored
        ]
        self._outputs = [slots[v] for v in graph.outputs]
        shared = _views_of_constants(graph)
        self._copied = [i for i, v in enumerate(graph.outputs) if v in shared]
        self._ops: list[Op] = [node.op for node in graph.nodes]
        self._wiring = self._plan(graph, slots)
        defined = definitions(graph)
        # Ops whose attributes depend on sizes that only running other nodes tells.
        self._late = {
            i for i, op in enumerate(self._ops) if any(s.name in defined for s in op.symbols())
        }
        self._symbolic_ops = [
            i for i, op in enumerate(self._ops) if i not in self._late and op.symbols()
        ]
        self._defining: dict[int, list[tuple[str, int, int]]] = {}  # name, slot, axis; by node
        at = {node: i for i, node in enumerate(graph.nodes)} if defined else {}
        for name, (v, axis) in defined.items():
            assert v.node is not None
            self._defining.setdefault(at[v.node], []).append((name, slots[v], axis))
        self._resolved: dict[tuple[tuple[str, int], ...], list[Op]] = {(): self._ops}

    def _plan(
        self, graph: Graph, slots: dict[Value, int]
    ) -> list[tuple[tuple[int, ...], int, int, tuple[int, ...]]]:
        """Per node: operand slots, first result slot, number of results, slots dead afterwards."""
        last: dict[int, int] = {}
        nodes = list(graph.nodes)
        for i, node in enumerate(nodes):
            for v in [*node.inputs, *node.outputs]:
                last[slots[v]] = i
        kept = set(self._outputs)
        dying: list[list[int]] = [[] for _ in nodes]
        for slot, i in last.items():
            if slot not in kept:
                dying[i].append(slot)
        return [
            (
                tuple(slots[v] for v in node.inputs),
                slots[node.outputs[0]],
                node.op.n_outputs,
                tuple(dead),
            )
            for node, dead in zip(nodes, dying, strict=True)
        ]

    def run(self, inputs: Sequence[Any], params: Sequence[Any] | None = None) -> list[Any]:
        """Outputs for positional input arrays; `params` replaces the stored param data.

        Raises:
            FeedError: an input has another rank, size or dtype than declared.
            DeviceError: an operand is not where the graph runs.
        """
        env = self._bind(inputs)
        slots: list[Any] = [None] * self._size
        slots[: len(inputs)] = inputs
        stored = len(inputs)
        slots[stored : stored + len(self._stored)] = self._stored
        if params is not None:
            slots[stored : stored + self._n_params] = params
        if self.xp is not np:
            self._check_places(slots[: stored + len(self._stored)], stored)
        ops = self._ops_for(env)
        with np.errstate(all="ignore"):
            if self._defining:
                self._run_defining(ops, slots, env)
            else:
                self._run(ops, slots)
        xp = self.xp
        results = [(np if i in self._host else xp).asarray(slots[i]) for i in self._outputs]
        for i in self._copied:  # the caller may write into what it gets
            results[i] = results[i].copy()
        return results

    def _run(self, ops: list[Op], slots: list[Any]) -> None:
        for op, xp, (operands, result, count, dead) in zip(
            ops, self._modules, self._wiring, strict=True
        ):
            out = op.eager(xp, *[slots[i] for i in operands])
            if count == 1:
                slots[result] = out
            else:
                slots[result : result + count] = out
            for i in dead:
                slots[i] = None

    def _run_defining(self, ops: list[Op], slots: list[Any], env: dict[str, int]) -> None:
        """`_run` for a graph in which nodes define sizes that other ops need: see `nested`."""
        for n, (op, xp, (operands, result, count, dead)) in enumerate(
            zip(ops, self._modules, self._wiring, strict=True)
        ):
            if n in self._late:
                op = op.resolve(env)
            out = op.eager(xp, *[slots[i] for i in operands])
            slots[result : result + count] = (out,) if count == 1 else out
            for name, slot, axis in self._defining.get(n, ()):
                env[name] = slots[slot].shape[axis]
            for i in dead:
                slots[i] = None

    def _check_places(self, operands: Sequence[Any], inputs: int) -> None:
        """Raise for operands that are not on the device, unless the host is to read them."""
        for slot, array in enumerate(operands):
            if type(array) is np.ndarray and slot not in self._host:
                what = f"input {self.inputs[slot][0]!r}" if slot < inputs else "a parameter"
                raise DeviceError(f"the graph runs on cuda, but {what} is on the cpu")

    def _bind(self, inputs: Sequence[Any]) -> dict[str, int]:
        """The sizes of the symbolic dims, once the inputs are known to fit."""
        if not self.symbolic and len(inputs) == len(self._static):
            for array, (dtype, shape) in zip(inputs, self._static, strict=True):
                if array.dtype != dtype or array.shape != shape:
                    break
            else:
                return {}
        return bind_shapes(self.inputs, inputs)

    def _ops_for(self, env: dict[str, int]) -> list[Op]:
        """The ops with symbolic attributes replaced by their values for these sizes."""
        if not self._symbolic_ops:
            return self._ops
        key = tuple(sorted(env.items()))
        found = self._resolved.get(key)
        if found is None:
            found = list(self._ops)
            for i in self._symbolic_ops:
                found[i] = found[i].resolve(env)
            if len(self._resolved) >= 64:  # bounded: sizes come from callers
                self._resolved.clear()
            self._resolved[key] = found
        return found


def _read_by_host(graph: Graph) -> set[Value]:
    """Values that stay in host memory when the graph runs on a device.

    Those of which an op reads the numbers on the host (seed and offset of a random stream), what
    they are computed from and what is computed from them alone.
    """
    found: set[Value] = set()
    for node in graph.nodes:
        if node.op.reads_on_host:
            found.update(node.inputs)
    before = -1 if found else 0
    while len(found) != before:
        before = len(found)
        for node in graph.nodes:
            if not node.op.reads_on_host and any(
                v in found and not v.is_constant for v in [*node.inputs, *node.outputs]
            ):
                found.update(node.inputs, node.outputs)
    return found


def _views_of_constants(graph: Graph) -> set[Value]:
    """Values whose memory may be a constant's."""
    found = set(graph.constants)
    for node in graph.nodes:
        if node.op.kind is Kind.MOVEMENT and any(v in found for v in node.inputs):
            found.update(node.outputs)
    return found


def bind_shapes(declared: Sequence[tuple[str, Any]], arrays: Sequence[Any]) -> dict[str, int]:
    """The values of the symbolic dims of `declared` (name, TensorType) pairs, given their arrays.

    Raises:
        FeedError: a count, dtype, rank or size that does not fit, or a dim seen with two sizes.
    """
    if len(declared) != len(arrays):
        raise FeedError(f"expected {len(declared)} inputs, got {len(arrays)}")
    env: dict[str, int] = {}
    checks = []
    for (name, t), array in zip(declared, arrays, strict=True):
        if dtype_of(array) is not t.dtype:
            raise FeedError(
                f"input {name!r}: expected dtype {t.dtype.name}, got {dtype_of(array).name}"
            )
        if len(array.shape) != len(t.shape):
            raise FeedError(
                f"input {name!r}: expected {t.ndim} dimensions {t}, got shape {list(array.shape)}"
            )
        for axis, (d, n) in enumerate(zip(t.shape, array.shape, strict=True)):
            if isinstance(d, int):
                if d != n:
                    raise FeedError(
                        f"input {name!r}: expected size {d} in dimension {axis} of {t}, got "
                        f"shape {list(array.shape)}"
                    )
            elif d.name is not None and d.name not in env:
                (symbol,) = symbols(d)
                if n < symbol.min or (symbol.max is not None and n > symbol.max):
                    raise FeedError(
                        f"input {name!r}: {d.name} must be within [{symbol.min}, {symbol.max}], "
                        f"got {n}"
                    )
                env[d.name] = n
            else:
                checks.append((name, axis, d, n))
    for name, axis, d, n in checks:
        if evaluate(d, env) != n:
            raise FeedError(
                f"input {name!r}: expected size {d} = {evaluate(d, env)} in dimension {axis}, "
                f"got {n}"
            )
    return env


def interpret(graph: Graph, inputs: Sequence[Any] | Mapping[str, Any], xp: Any = np) -> list[Any]:
    """Run a graph once on arrays, by position or by input name."""
    if isinstance(inputs, Mapping):
        inputs = [inputs[v.name] for v in graph.inputs]
    return Interpreter(graph, xp).run(inputs)
