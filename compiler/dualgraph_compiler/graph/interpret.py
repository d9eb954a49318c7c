"""Runs a graph node by node through the ops' eager kernels: the oracle for everything below it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ..dims import symbols
from ..errors import DeviceError, DualGraphError
from ..feeds import bind_shapes
from ..memory.inplace import plan_in_place
from ..ops.base import Op
from .alias import Aliases
from .assumptions import check_assumptions
from .calls import Call, Wiring, call, run_calls
from .core import Graph, Value
from .donation import Donations
from .footprint import require_fits
from .nested import definitions
from .planned import Arena, Planner, layout_of

# The ops of a graph with sizes put in, and the calls of their kernels.
Resolved: TypeAlias = tuple[list[Op], list[Call]]


class Interpreter:
    """A graph made ready to run on `xp` (NumPy or CuPy).

    Preparing numbers the values, uploads constants once and notes after which node each value is
    last read, so that a run holds no array longer than needed. From the third run with the same
    sizes on, large intermediates live in an arena and in each other's memory (see `planned`).
    Safe to call from several threads.

    Args:
        graph: what to run.
        xp: NumPy or CuPy.
        donate: pairs (i, v): output `i` is the new value of the input or param `v`, and may be
            computed in its memory if a run allows it.
        max_bytes: refuse runs that need more memory for values than this; None for no limit.
    """

    def __init__(
        self,
        graph: Graph,
        xp: Any = np,
        *,
        donate: Iterable[tuple[int, Value]] = (),
        max_bytes: int | None = None,
    ) -> None:
        self.xp = xp
        self._max_bytes = max_bytes
        self._results = list(graph.outputs)
        self.inputs = [(v.name, v.type) for v in graph.inputs]
        self._assumptions = list(graph.assumptions)
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
        stored = [(v.data, v in host) for v in [*graph.params, *graph.constants]]
        # Numbers of NumPy, as opposed to its arrays, serve beside a device's arrays too.
        self._stored = [
            None if d is None else d[()] if on_host else xp.asarray(d) for d, on_host in stored
        ]
        self._outputs = [slots[v] for v in graph.outputs]
        self._in_place = plan_in_place(graph, donate)
        nodes = self._in_place.order
        self._modules = [np if node.outputs[0] in host else xp for node in nodes]
        aliases = Aliases(graph, nodes)
        self._constants = list(graph.constants)
        constants = set(self._constants)
        self._copied = [i for i, v in enumerate(graph.outputs) if aliases.storages[v] & constants]
        self.shared = shared_outputs(aliases)
        self._ops: list[Op] = [node.op for node in nodes]
        self._wiring = _wire(aliases, {*graph.outputs, *self._in_place.donated.values()}, slots)
        self._body = self._in_place.first_write
        self._donations = Donations(self._in_place, aliases, slots, self._modules[self._body :])
        defined = definitions(graph)
        # Ops whose attributes depend on sizes that only running other nodes tells.
        self._late = {
            i for i, op in enumerate(self._ops) if any(s.name in defined for s in op.symbols())
        }
        self._symbolic_ops = [
            i for i, op in enumerate(self._ops) if i not in self._late and op.symbols()
        ]
        self._symbolic = bool(self._symbolic_ops) or self.symbolic
        self._defining: dict[int, list[tuple[str, int, int]]] = {}  # name, slot, axis; by node
        for name, (v, axis) in defined.items():
            assert v.node is not None
            self._defining.setdefault(aliases.position[v.node], []).append((name, slots[v], axis))
        self._resolved: dict[tuple[tuple[str, int], ...], Resolved] = {}
        self.planner: Planner | None = None
        if xp is np and not defined:
            self.planner = Planner(self._in_place, slots, self._wiring)

    def run(
        self, inputs: Sequence[Any], params: Sequence[Any] | None = None, *, donate: bool = False
    ) -> list[Any]:
        """Outputs for positional input arrays; `params` replaces the stored param data.

        With `donate`, outputs may be computed in the memory that they were promised: then the
        result is that very array, and its old elements are gone. Nothing is overwritten if the run
        fails. Other results share no memory with constants; those in `shared` may share it with
        operands and with each other.

        Raises:
            FeedError: an input has another rank, size or dtype than declared.
            DeviceError: an operand is not where the graph runs.
            OutOfMemory: the values need more than `max_bytes`.
        """
        env = self._bind(inputs)
        slots = self._slots(inputs, params)
        stored = len(inputs)
        operands = stored + self._n_params
        if self.xp is not np:
            self._check_places(slots[: stored + len(self._stored)], stored)
        donate = donate and self._donations.are_safe(slots, operands)
        key = self._key(env)
        ops, calls = self._resolved.get(key) or self._resolve(key, env)
        arena = None
        try:
            with np.errstate(all="ignore"):
                if self._defining:
                    self._run_defining(ops, slots, env)
                elif self.planner is None:
                    run_calls(calls[: self._body], slots)
                else:
                    arena = self._run_planned(key, ops, calls, slots)
                if donate:
                    self._donations.run(slots)
                elif self._body < len(calls):
                    run_calls(calls[self._body :], slots)
            xp = self.xp
            if self._host:
                results = [self._placed(slots[i], i in self._host) for i in self._outputs]
                return self._apart(results)
            return self._apart([xp.asarray(slots[i]) for i in self._outputs])
        except Exception as error:
            if not isinstance(error, DualGraphError):
                self._locate(error, ops, [*inputs, *self._stored] if params is None else None)
            raise
        finally:
            if arena is not None:
                self.planner.give_back(arena)  # type: ignore[union-attr]

    def run_observed(
        self, inputs: Sequence[Any], params: Sequence[Any]
    ) -> tuple[list[Any], frozenset[Value]]:
        """`run` on NumPy arrays, and which values do not lie in C order.

        Only for graphs in which no run defines sizes.
        """
        env = self._bind(inputs)
        slots = self._slots(inputs, params)
        _, calls = self._resolve(self._key(env), env)
        strided: list[Value] = []
        with np.errstate(all="ignore"):
            for node, call in zip(self._in_place.order, calls, strict=True):
                run_calls((call,), slots, keep=True)
                _, _, first, count, dead = call
                for v, x in zip(node.outputs, slots[first : first + count], strict=True):
                    if not np.asarray(x).flags.c_contiguous:
                        strided.append(v)
                for i in dead:
                    slots[i] = None
        strided += [v for v in self._constants if not np.asarray(v.data).flags.c_contiguous]
        return self._apart([np.asarray(slots[i]) for i in self._outputs]), frozenset(strided)

    def _key(self, env: dict[str, int]) -> Any:
        """What ops with sizes put in are found by."""
        return tuple(sorted(env.items())) if env and self._symbolic else ()

    def _slots(self, inputs: Sequence[Any], params: Sequence[Any] | None) -> list[Any]:
        """All values of a run, with those that are there from the start."""
        slots: list[Any] = [None] * self._size
        slots[: len(inputs)] = inputs
        stored = len(inputs)
        slots[stored : stored + len(self._stored)] = self._stored
        if params is not None:
            slots[stored : stored + self._n_params] = params
        slots += np, self.xp
        return slots

    def _apart(self, results: list[Any]) -> list[Any]:
        """Results that share no memory with constants: the caller may write into what it gets."""
        for i in self._copied:
            results[i] = results[i].copy()
        return results

    def _locate(self, error: Exception, ops: list[Op], values: list[Any] | None) -> None:
        """Note with what a kernel raised which node it was, found by running once more."""
        if values is None or self.xp is not np or self._defining:
            return
        slots = [*values, *[None] * (self._size - len(values)), np, np]
        for n, op in enumerate(ops[: self._body]):
            operands, result, count, _ = self._wiring[n]
            try:
                with np.errstate(all="ignore"):
                    out = op.eager(np, *[slots[i] for i in operands])
            except Exception:
                node = self._in_place.order[n]
                where = f" at {node.loc.file}:{node.loc.line}" if node.loc is not None else ""
                error.add_note(f"in node {node.outputs[0].name or op.name!r} ({op.name}){where}")
                return
            slots[result : result + count] = (out,) if count == 1 else out

    def _run_planned(
        self, key: Any, ops: list[Op], calls: list[Call], slots: list[Any]
    ) -> Arena | None:
        """Run the nodes that write to no state, by a plan if there is one for these sizes.

        Returns the arena in use, which values may lie in to the end of the run.
        """
        assert self.planner is not None
        bound = self.planner.find(key)
        if bound == "plain":
            run_calls(calls[: self._body], slots)
            return None
        if bound == "learn":
            layouts = [layout_of(x) for x in slots]
            for call in calls[: self._body]:
                run_calls((call,), slots, keep=True)
                first, count, dead = call[2:]
                layouts[first : first + count] = map(layout_of, slots[first : first + count])
                for i in dead:
                    slots[i] = None
            self.planner.learn(key, ops, layouts)
            return None
        arena, done = self.planner.run(bound, slots)
        if done < self._body:
            self.planner.missed(key)
            run_calls(calls[done : self._body], slots)
        return arena

    def _run_defining(self, ops: list[Op], slots: list[Any], env: dict[str, int]) -> None:
        """`_run` for a graph in which nodes define sizes that other ops need: see `nested`."""
        for n in range(self._body):
            op, xp = ops[n], self._modules[n]
            operands, result, count, dead = self._wiring[n]
            if n in self._late:
                op = op.resolve(env)
                if self._max_bytes is not None:
                    require_fits(self._in_place.order[n : n + 1], (), env, self._max_bytes)
            out = op.eager(xp, *[slots[i] for i in operands])
            slots[result : result + count] = (out,) if count == 1 else out
            for name, slot, axis in self._defining.get(n, ()):
                env[name] = slots[slot].shape[axis]
            for i in dead:
                slots[i] = None

    def trim(self) -> None:
        """Give the memory kept for intermediate values back; the next run asks for it anew."""
        if self.planner is not None:
            self.planner.trim()

    def _check_places(self, operands: Sequence[Any], inputs: int) -> None:
        """Raise for operands that are not on the device, unless the host is to read them."""
        for slot, array in enumerate(operands):
            if type(array) is np.ndarray and slot not in self._host:
                what = f"input {self.inputs[slot][0]!r}" if slot < inputs else "a parameter"
                raise DeviceError(f"the graph runs on cuda, but {what} is on the cpu")

    def _placed(self, x: Any, on_host: bool) -> Any:
        """A result as an array: where it is, if that is the device, else where it belongs."""
        return (np if on_host and not isinstance(x, self.xp.ndarray) else self.xp).asarray(x)

    def _bind(self, inputs: Sequence[Any]) -> dict[str, int]:
        """The sizes of the symbolic dims, once the inputs are known to fit."""
        if not self.symbolic and len(inputs) == len(self._static):
            for array, (dtype, shape) in zip(inputs, self._static, strict=True):
                if array.dtype != dtype or array.shape != shape:
                    break
            else:
                return {}
        env = bind_shapes(self.inputs, inputs)
        if self._assumptions:
            check_assumptions(self._assumptions, env)
        return env

    def _resolve(self, key: Any, env: dict[str, int]) -> Resolved:
        """The ops with symbolic attributes replaced by their values for these sizes."""
        if self._max_bytes is not None:
            require_fits(self._in_place.order, self._results, env, self._max_bytes)
        ops = list(self._ops)
        for i in self._symbolic_ops:
            ops[i] = ops[i].resolve(env)
        host, device = self._size, self._size + 1
        calls = [
            call(op, wiring, xp, host if xp is np else device)
            for op, wiring, xp in zip(ops, self._wiring, self._modules, strict=True)
        ]
        if len(self._resolved) >= 64:  # bounded: sizes come from callers
            self._resolved.clear()
        self._resolved[key] = ops, calls
        return ops, calls


def _read_by_host(graph: Graph) -> set[Value]:
    """Values that stay in host memory when the graph runs on a device.

    Those of which an op reads the numbers on the host (seed and offset of a random stream, an
    optimizer's learning rate), what they are computed from and what is computed from them alone.
    """
    found: set[Value] = set()
    readers = set()
    for node in graph.nodes:
        inputs, outputs = node.op.on_host(len(node.inputs))
        if inputs or outputs:
            readers.add(node)
            found.update(node.inputs[i] for i in inputs)
            found.update(node.outputs[i] for i in outputs)
    before = -1 if found else 0
    while len(found) != before:
        before = len(found)
        for node in graph.nodes:
            if node not in readers and any(
                v in found and not v.is_constant for v in [*node.inputs, *node.outputs]
            ):
                found.update(node.inputs, node.outputs)
    return found


def _wire(aliases: Aliases, kept: set[Value], slots: dict[Value, int]) -> list[Wiring]:
    """How the nodes are connected; `kept` values are needed to the end."""
    alive = {slots[v] for v in kept}
    last: dict[int, int] = {}
    for i, node in enumerate(aliases.nodes):
        for v in [*node.inputs, *node.outputs]:
            last[slots[v]] = i
    dying: list[list[int]] = [[] for _ in aliases.nodes]
    for slot, i in last.items():
        if slot not in alive:
            dying[i].append(slot)
    return [
        (
            tuple(slots[v] for v in node.inputs),
            slots[node.outputs[0]],
            node.op.n_outputs,
            tuple(dead),
        )
        for node, dead in zip(aliases.nodes, dying, strict=True)
    ]


def shared_outputs(aliases: Aliases) -> list[int]:
    """Outputs that may lie in the memory of an input, a param or another output."""
    graph = aliases.graph
    times = Counter(s for v in graph.outputs for s in aliases.storages[v])
    times.update((*graph.inputs, *graph.params))
    return [
        i for i, v in enumerate(graph.outputs) if any(times[s] > 1 for s in aliases.storages[v])
    ]


def interpret(graph: Graph, inputs: Sequence[Any] | Mapping[str, Any], xp: Any = np) -> list[Any]:
    """Run a graph once on arrays, by position or by input name."""
    if isinstance(inputs, Mapping):
        inputs = [inputs[v.name] for v in graph.inputs]
    return Interpreter(graph, xp).run(inputs)
