"""Runs ONNX models: a session shaped like ONNX Runtime's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler.dims import DimLike
from dualgraph_compiler.dtypes import BY_NUMPY
from dualgraph_compiler.errors import FeedError
from dualgraph_compiler.types import TensorType

from .binding import IOBinding, OrtValue, bound, settle, write
from .device import to_device
from .model import ModelMetadata, NodeArg, describe
from .options import GraphOptimizationLevel, SessionOptions
from .providers import Provider, choose_device
from .reuse import Compiled, External, Identity, compile_model, find, identify

if TYPE_CHECKING:
    from dualgraph_compiler.graph import Graph, Interpreter
    from dualgraph_compiler.onnx import ModelFile
    from dualgraph_compiler.onnx.load import ModelSource

    from .native import Background, Executable


class InferenceSession:
    """A model made ready to run. Safe to call from several threads.

    Args:
        path_or_bytes: the model: a path, its bytes, a binary file or an ``onnx.ModelProto``.
        sess_options: see :class:`SessionOptions`.
        providers: where to run: "CPUExecutionProvider", "CUDAExecutionProvider"; the first counts.
        provider_options: options of each provider, unless given as pairs in `providers`.

    Raises:
        OnnxError: the model cannot be read or uses something that is not supported.
        DeviceError: a provider whose device is not there. A later provider is no fall-back.
    """

    def __init__(
        self,
        path_or_bytes: ModelSource,
        sess_options: SessionOptions | None = None,
        providers: Sequence[Provider] | None = None,
        provider_options: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        self._options = sess_options or SessionOptions()
        self._providers, self._device = choose_device(providers, provider_options)
        self._native: Background[Compiled] | None = None
        self._why = self._why_interpreted()
        identity = None if self._why else identify(path_or_bytes, self._options)
        self._compiled = None if identity is None else find(identity)
        self._interpreter: Interpreter | None = None
        if self._compiled is not None:
            self._model = self._compiled.model
        else:
            self._prepare(path_or_bytes, identity)
        self._expected = [(name, t.dtype.np) for name, t in self._model.types.items()]

    def _prepare(self, source: ModelSource, identity: Identity | None) -> None:
        """Import and optimise the model, and have it compiled or interpreted."""
        from dualgraph_compiler.graph import Interpreter
        from dualgraph_compiler.onnx import import_model, load_model

        file = load_model(source)
        graph = import_model(file, input_shapes=_fixed_shapes(file, self._options.free_dimensions))
        self._model = describe(file.proto, graph)
        external = External(file)
        del file  # with a copy of the weights
        graph = _optimized(graph, self._options)
        if not self._why:
            from .native import Background

            threads = self._options.intra_op_num_threads
            make = partial(compile_model, graph, self._model, identity, external, threads)
            self._native = Background(make, f"graph {graph.name!r}", after=1)
            if self._options.execution == "auto":
                self._native.begin()
            elif self._native.wait() is not None:
                self._runner()
                return
        with self._device.active():
            self._interpreter = Interpreter(graph, self._device.xp)

    def _why_interpreted(self) -> str:
        """Why no compiled form is wanted; empty if one is."""
        if self._options.execution == "interpreter":
            return "the option `execution` is 'interpreter'"
        if self._device.type != "cpu":
            return f"it runs on {self._device}"
        level = self._options.graph_optimization_level
        if level <= GraphOptimizationLevel.ORT_ENABLE_BASIC:
            return "the option `graph_optimization_level` asks for the very bits of each operation"
        return ""

    def _runner(self) -> Executable | Interpreter:
        """What runs now: compiled code as soon as it is there."""
        native = self._native
        if native is not None and native.done:
            if native.ready is not None:
                self._compiled = native.ready
                self._interpreter = None  # and the weights as it has them
            self._why = native.why
            self._native = None
        # Another thread may be here, too: whatever is there will do, and one of the two is.
        compiled, interpreter = self._compiled, self._interpreter
        if compiled is None and interpreter is None:
            compiled = self._compiled
        runner = interpreter if compiled is None else compiled.executable
        assert runner is not None
        return runner

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for compiled code, `timeout` seconds at most; whether runs are compiled from now on.

        Runs are interpreted where ``execution`` is "interpreter", and where there is no compiler or
        it failed; `report` says why.
        """
        native = self._native
        if native is not None:
            native.wait(timeout)
        self._runner()
        return self._compiled is not None

    def trim(self) -> None:
        """Give back the memory that runs keep for intermediate values; the next asks for it anew.

        Memory that a run in another thread is using goes back when that run has ended.
        """
        runner = self._runner()
        runner.trim()

    # -- looking ----------------------------------------------------------------------------------

    def get_inputs(self) -> list[NodeArg]:
        """The inputs a run needs, in the model's order."""
        return list(self._model.inputs)

    def get_outputs(self) -> list[NodeArg]:
        """The outputs, in the model's order."""
        return list(self._model.outputs)

    def get_overridable_initializers(self) -> list[NodeArg]:
        """Initializers that a feed may replace: none; they are constants here."""
        return []

    def get_modelmeta(self) -> ModelMetadata:
        """What the model file says about itself."""
        return self._model.meta

    def get_providers(self) -> list[str]:
        """The providers asked for; the first is the one that runs."""
        return list(self._providers)

    def report(self) -> str:
        """How the model runs: which nodes form which kernel, which are interpreted, and why."""
        self._runner()
        if self._compiled is not None:
            return self._compiled.executable.report()
        native = self._native
        return f"interpreted node by node: {native.why if native is not None else self._why}"

    def get_session_options(self) -> SessionOptions:
        """The options the session was made with."""
        return self._options

    # -- running ----------------------------------------------------------------------------------

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: Any = None,
    ) -> list[np.ndarray[Any, Any]]:
        """Compute outputs from inputs.

        Args:
            output_names: which outputs; None or empty for all, in the model's order.
            input_feed: an array per input, by name; nested lists and numbers are converted.
            run_options: taken for compatibility; ONNX Runtime's concern logging only.

        Raises:
            FeedError: a name, element type, rank or size that does not fit.
        """
        compiled = self._compiled
        arrays = self._ready(input_feed) if compiled is not None else None
        if compiled is not None and arrays is not None:
            results = compiled.executable.run(arrays)
        else:
            results = self._run(self._feeds(input_feed))
        return [results[i] for i in self._positions(output_names)] if output_names else results

    def io_binding(self) -> IOBinding:
        """Inputs and outputs in memory of the caller's, for `run_with_iobinding`."""
        return IOBinding(self)

    def run_with_iobinding(self, iobinding: IOBinding, run_options: Any = None) -> None:
        """Compute the bound outputs from the bound inputs, in the memory they are bound to.

        Raises:
            FeedError: an input is not bound, or memory has another type or shape than its value.
        """
        inputs, outputs = bound(iobinding)
        wanted = self._positions(list(outputs)) if outputs else []
        arrays = self._feeds(inputs)
        if self._compiled is not None:
            given: list[np.ndarray[Any, Any] | None] = [None] * len(self._model.outputs)
            for i, array in zip(wanted, outputs.values(), strict=True):
                given[i] = array
            results = self._compiled.executable.run_into(arrays, given)
            settle(iobinding, [results[i] for i in wanted])
            return
        results = self._run(arrays)
        pairs = zip(wanted, outputs.values(), strict=True)
        settle(iobinding, [write(results[i], given) for i, given in pairs])

    def run_with_ort_values(
        self,
        output_names: Sequence[str] | None,
        input_dict_ort_values: Mapping[str, OrtValue],
        run_options: Any = None,
    ) -> list[OrtValue]:
        """`run` with values instead of arrays."""
        feed = {name: value.numpy() for name, value in input_dict_ort_values.items()}
        return [OrtValue(y) for y in self.run(output_names, feed)]

    def _run(self, arrays: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
        """Every output, the caller's alone, wherever the model runs."""
        runner = self._runner()
        compiled = self._compiled
        if compiled is not None and runner is compiled.executable:
            return runner.run(arrays)
        if self._device.type == "cpu":
            results = runner.run(arrays)
        else:
            with self._device.active():
                results = runner.run([to_device(a, self._device) for a in arrays])
        return [_own(y, shared) for y, shared in zip(results, self._model.shared, strict=True)]

    def _positions(self, names: Sequence[str] | None) -> Sequence[int]:
        if not names:
            return range(len(self._model.outputs))
        known = {o.name: i for i, o in enumerate(self._model.outputs)}
        unknown = [n for n in names if n not in known]
        if unknown:
            raise FeedError(f"no output {_listed(unknown)}; the outputs are {_listed(known)}")
        return [known[n] for n in names]

    def _feeds(self, feed: Mapping[str, Any]) -> list[np.ndarray[Any, Any]]:
        ready = self._ready(feed)
        if ready is not None:
            return ready
        if not isinstance(feed, Mapping):
            raise FeedError(f"expected a dict of inputs by name, got {type(feed).__name__}")
        missing = [n for n in self._model.types if n not in feed]
        unknown = [n for n in feed if n not in self._model.types]
        if missing or unknown:
            wrong = [f"missing input {_listed(missing)}"] if missing else []
            wrong += [f"unknown input {_listed(unknown)}"] if unknown else []
            raise FeedError(f"{' and '.join(wrong)}; the inputs are {_listed(self._model.types)}")
        return [_as_array(n, feed[n], t) for n, t in self._model.types.items()]

    def _ready(self, feed: Mapping[str, Any]) -> list[np.ndarray[Any, Any]] | None:
        """The arrays of a feed that has one of the right type for each input, and no more."""
        if type(feed) is not dict or len(feed) != len(self._expected):
            return None
        arrays = []
        for name, dtype in self._expected:
            array = feed.get(name)
            if type(array) is not np.ndarray or array.dtype != dtype:
                return None
            arrays.append(array)
        return arrays


def _listed(names: Any) -> str:
    return ", ".join(map(repr, names)) or "none"


def _as_array(name: str, value: Any, t: TensorType) -> np.ndarray[Any, Any]:
    """A feed as an array: arrays as they are, anything else converted to the declared type."""
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
    else:
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise FeedError(f"input {name!r}: expected an array {t}: {error}") from error
        found = BY_NUMPY.get(array.dtype)
        if found is not None and (found.category <= t.dtype.category or array.size == 0):
            array = array.astype(t.dtype.np)
    if array.dtype not in BY_NUMPY:
        raise FeedError(f"input {name!r}: expected dtype {t.dtype.name}, got {array.dtype}")
    return array


def _own(result: Any, shared: bool) -> np.ndarray[Any, Any]:
    """A result as a NumPy array that is the caller's alone."""
    array = np.asarray(to_device(result, "cpu"))
    if shared or array.base is not None or not array.flags.writeable:
        return np.array(array, order="C")
    return array


# -- preparing -----------------------------------------------------------------------------------


def _fixed_shapes(file: ModelFile, fixed: Mapping[str, int]) -> dict[str, list[DimLike | str]]:
    """Shapes of the inputs with some symbolic sizes replaced, for those inputs that have any."""
    shapes: dict[str, list[DimLike | str]] = {}
    for info in file.proto.graph.input if fixed else ():
        dims = info.type.tensor_type.shape.dim
        if any(d.dim_param in fixed for d in dims):
            shapes[info.name] = [
                fixed.get(d.dim_param, d.dim_param) if d.dim_param else d.dim_value for d in dims
            ]
    return shapes


def _optimized(graph: Graph, options: SessionOptions) -> Graph:
    level = options.graph_optimization_level
    if level > GraphOptimizationLevel.ORT_DISABLE_ALL:
        from dualgraph_compiler.compile import optimize

        exact = level == GraphOptimizationLevel.ORT_ENABLE_BASIC
        graph = optimize(graph, numerics="strict" if exact else "standard")
    if options.optimized_model_filepath:
        from dualgraph_compiler.onnx import export_graph, save_model

        save_model(export_graph(graph), options.optimized_model_filepath)
    return graph
