"""Runs ONNX models: a session shaped like ONNX Runtime's."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler.errors import (
    ArgumentError,
    DualGraphError,
    FeedError,
    OnnxError,
    as_run_error,
)
from dualgraph_compiler.stopping import stopped_by

from .binding import IOBinding, bound, settle, write
from .device import to_device
from .feeding import as_arrays, explain_misfit, listed
from .memory import usable_memory
from .model import ModelMetadata, NodeArg, describe
from .options import GraphOptimizationLevel, RunOptions, SessionOptions, stop_if_told
from .overriding import Overriding
from .preparing import fixed_shapes, optimized, read
from .profile import Profile
from .profiling import Profiler, Timed
from .providers import Provider, choose_device, named_options
from .reuse import Compiled, External, Identity, compile_model, find, identify
from .values import OrtValue, held

if TYPE_CHECKING:
    from dualgraph_compiler.graph import Interpreter
    from dualgraph_compiler.onnx import ModelFile
    from dualgraph_compiler.onnx.load import ModelSource

    from .native import Background, Executable
    from .stepwise import Steps


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
        if sess_options is not None and not isinstance(sess_options, SessionOptions):
            raise ArgumentError(f"expected SessionOptions, got {type(sess_options).__name__}")
        self._options = sess_options or SessionOptions()
        self._source: ModelSource | None
        self._source = path_or_bytes if isinstance(path_or_bytes, str | os.PathLike) else None
        self._providers, self._device = choose_device(providers, provider_options)
        self._provider_options = named_options(providers, provider_options)
        prefix = self._options.profile_file_prefix
        self._profiler = Profiler(prefix) if self._options.enable_profiling else None
        self._native: Background[Compiled] | None = None
        self._why = self._why_interpreted()
        timed = self._profiler is not None  # what is compiled is for this session alone
        identity = None if self._why or timed else identify(path_or_bytes, self._options)
        self._compiled = None if identity is None else find(identity)
        self._interpreter: Interpreter | Timed | None = None
        self._steps: Steps | None = None  # where the model is no single graph
        if self._compiled is not None:
            self._model = self._compiled.model
        else:
            try:
                self._prepare(path_or_bytes, identity)
            except DualGraphError:
                raise
            except Exception as error:  # files come from anybody
                what = str(error) or type(error).__name__
                raise OnnxError(f"the model cannot be made ready: {what}") from error
        if self._model.overridable and self._source is None:
            self._source = path_or_bytes  # which a run that feeds initializers takes once more
        self._expected = [(name, t.dtype.np) for name, t in self._model.types.items()]
        self._overriding = Overriding(self._source, self._options, self._model.overridable)

    def _prepare(self, source: ModelSource, identity: Identity | None) -> None:
        """Import and optimise the model, and have it compiled or interpreted."""
        from dualgraph_compiler.graph import Interpreter
        from dualgraph_compiler.onnx import import_model

        begin = time.perf_counter_ns()
        file = read(source, self._options)
        try:
            graph = import_model(file, input_shapes=fixed_shapes(file, self._options))
        except OnnxError as error:
            self._in_steps(file, error)
            return
        self._model = describe(file.proto, graph)
        external = External(file)
        if self._model.overridable and hasattr(source, "read"):  # cannot be read again
            self._source = file
        del file  # with a copy of the weights
        graph = optimized(graph, self._options)
        if not self._why:
            from .native import Background

            threads = self._options.intra_op_num_threads
            timed = self._profiler is not None
            make = partial(compile_model, graph, self._model, identity, external, threads, timed)
            self._native = Background(make, f"graph {graph.name!r}", after=1)
            exact = self._options.use_deterministic_compute
            now = self._options.execution == "native" or exact or timed
            if now and self._native.wait() is not None:
                self._runner()
        if self._profiler is not None:
            self._profiler.event("Session", "session_initialization", begin)
        if self._compiled is not None:
            self._profiled(self._compiled)
            return
        if self._profiler is not None:
            self._interpreter = Timed(graph, self._device, self._profiler)
            return
        with self._device.active():
            limit = usable_memory() if self._device.type == "cpu" else None
            self._interpreter = Interpreter(graph, self._device.xp, max_bytes=limit)

    def _profiled(self, compiled: Compiled) -> None:
        """Have the kernels of a program that is timed told to the profiler."""
        from .native.timed import TimedExecutable

        executable = compiled.executable
        if self._profiler is not None and isinstance(executable, TimedExecutable):
            executable.observer = self._profiler.parts

    def _in_steps(self, file: ModelFile, error: OnnxError) -> None:
        """Have the model run in steps; raises `error` if that does not help."""
        from .stepwise import Steps

        execution = "interpreter" if self._why else self._options.execution
        self._steps = Steps(file, error, self._options, self._device, execution)
        self._model = self._steps.model

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

    def _runner(self) -> Executable | Interpreter | Timed:
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
        it failed; `report` says why. For a model in steps it is the kinds of calls met so far that
        are waited for.
        """
        if self._steps is not None:
            return self._steps.wait(timeout)
        native = self._native
        if native is not None:
            native.wait(timeout)
        self._runner()
        return self._compiled is not None

    def trim(self) -> None:
        """Give back the memory that runs keep for intermediate values; the next asks for it anew.

        Memory that a run in another thread is using goes back when that run has ended.
        """
        runner = self._runner() if self._steps is None else self._steps
        runner.trim()

    # -- looking ----------------------------------------------------------------------------------

    def get_inputs(self) -> list[NodeArg]:
        """The inputs a run needs, in the model's order."""
        return list(self._model.inputs)

    def get_outputs(self) -> list[NodeArg]:
        """The outputs, in the model's order."""
        return list(self._model.outputs)

    def get_overridable_initializers(self) -> list[NodeArg]:
        """Initializers that are inputs as well: a run may be fed other contents for them."""
        return list(self._model.overridable)

    def get_modelmeta(self) -> ModelMetadata:
        """What the model file says about itself."""
        return self._model.meta

    def get_providers(self) -> list[str]:
        """The providers asked for; the first is the one that runs."""
        return list(self._providers)

    def get_provider_options(self) -> dict[str, dict[str, Any]]:
        """The options of each provider, as they were given."""
        return {name: dict(options) for name, options in self._provider_options.items()}

    def set_providers(
        self,
        providers: Sequence[Provider] | None = None,
        provider_options: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Run on other providers.

        Raises:
            DeviceError: see :class:`InferenceSession`.
            ArgumentError: the device is another one, and the model did not come from a path, to
                read it again.
        """
        names, device = choose_device(providers, provider_options)
        if device == self._device:
            self._providers = names
            self._provider_options = named_options(providers, provider_options)
            return
        if self._source is None:
            raise ArgumentError(f"to run on {device}, make a session of the model: it has no path")
        InferenceSession.__init__(self, self._source, self._options, providers, provider_options)

    def disable_fallback(self) -> None:
        """Nothing: there never is a silent change of provider."""

    def enable_fallback(self) -> None:
        """Nothing: there never is a silent change of provider."""

    def report(self) -> str:
        """How the model runs: which nodes form which kernel, which are interpreted, and why."""
        if self._steps is not None:
            return self._steps.report()
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
        run_options: RunOptions | None = None,
    ) -> list[np.ndarray[Any, Any]]:
        """Compute outputs from inputs.

        Args:
            output_names: which outputs; None or empty for all, in the model's order.
            input_feed: an array per input, by name; nested lists and numbers are converted.
            run_options: see :class:`RunOptions`.

        Raises:
            FeedError: names, element types, ranks or sizes that do not fit; the message tells all.
            RunError: an operation fails on the numbers it meets, needs more memory than there is,
                or was stopped.
        """
        if run_options is not None:
            stop_if_told(run_options)
            with stopped_by(lambda: run_options.terminate):
                results = self.run(output_names, input_feed)
            stop_if_told(run_options)
            return results
        compiled = self._compiled
        arrays = self._ready(input_feed) if compiled is not None else None
        again = None if self._steps is None else self._steps.again(input_feed)
        if compiled is not None and arrays is not None:
            results = self._execute(compiled.executable, arrays)
        elif again is not None:
            results = self._execute(*again)
        else:
            other = self._overriding.session(input_feed) if self._model.overridable else None
            if other is not None:
                return other.run(output_names, input_feed)
            results = self._run(self._feeds(input_feed))
        return [results[i] for i in self._positions(output_names)] if output_names else results

    def run_async(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        callback: Callable[[list[np.ndarray[Any, Any]], Any, str], Any],
        user_data: Any,
        run_options: RunOptions | None = None,
    ) -> None:
        """`run` in another thread.

        Args:
            callback: called there, with the results, `user_data`, and what went wrong: an empty
                text if nothing did.
        """

        def work() -> None:
            try:
                results, wrong = self.run(output_names, input_feed, run_options), ""
            except DualGraphError as error:
                results, wrong = [], str(error) or type(error).__name__
            callback(results, user_data, wrong)

        threading.Thread(target=work, name="dualgraph run_async").start()

    def io_binding(self) -> IOBinding:
        """Inputs and outputs in memory of the caller's, for `run_with_iobinding`."""
        return IOBinding(self)

    def run_with_iobinding(
        self, iobinding: IOBinding, run_options: RunOptions | None = None
    ) -> None:
        """Compute the bound outputs from the bound inputs, in the memory they are bound to.

        Raises:
            FeedError: an input is not bound, or memory has another type or shape than its value.
            RunStopped: the options said so.
        """
        stop_if_told(run_options)
        inputs, outputs = bound(iobinding)
        wanted = self._positions(list(outputs)) if outputs else []
        other = self._overriding.session(inputs) if self._model.overridable else None
        if other is not None:
            other.run_with_iobinding(iobinding, run_options)
            return
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
        run_options: RunOptions | None = None,
    ) -> list[OrtValue]:
        """`run` with values instead of arrays."""
        feed = {name: held(value) for name, value in input_dict_ort_values.items()}
        return [OrtValue(y) for y in self.run(output_names, feed, run_options)]

    # -- profiling --------------------------------------------------------------------------------

    def get_profiling_start_time_ns(self) -> int:
        """When profiling began, in nanoseconds of the system's clock; 0 if it is not enabled."""
        return self._profiler.start if self._profiler is not None else 0

    def end_profiling(self) -> str:
        """Write the profile; returns the name of its file, empty if profiling is not enabled.

        The file is a JSON list of the events of Chrome's trace format: one for each kernel of each
        run ("cat": "Node", `dur` and `ts` in microseconds) with the nodes it computes, or, where
        the model is interpreted, one for each node, with its op, its source line and the types and
        shapes it met.
        """
        return self._profiler.write() if self._profiler is not None else ""

    def profile(self, input_feed: Mapping[str, Any], runs: int = 10) -> Profile:
        """Where the time goes in so many runs, after one that is not counted; print the result.

        A session made with ``enable_profiling`` times its own kernels. For any other the model is
        prepared once more, with kernels that are timed; this session goes on without any.

        Raises:
            ArgumentError: the model runs in steps, or came neither from a path nor with
                ``enable_profiling``.
        """
        if self._profiler is None:
            if self._source is None:
                raise ArgumentError(
                    "to profile a model that came from no path, set `enable_profiling` in the "
                    "options of its session"
                )
            options = copy(self._options)
            options.enable_profiling = True
            options.optimized_model_filepath = ""
            names = self._providers, list(self._provider_options.values())
            return InferenceSession(self._source, options, *names).profile(input_feed, runs)
        runner: Any = self._runner() if self._steps is None else None
        if runner is None:
            raise ArgumentError("a model that runs in steps has no profile")
        self.run(None, input_feed)
        runner.tally.clear()
        for _ in range(runs):
            self.run(None, input_feed)
        profile: Profile = runner.tally.profile()
        return profile

    # -- the work ---------------------------------------------------------------------------------

    def _run(self, arrays: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
        """Every output, the caller's alone, wherever the model runs."""
        if self._steps is not None:
            return self._execute(self._steps, arrays)
        runner = self._runner()
        compiled = self._compiled
        if compiled is not None and runner is compiled.executable:
            return self._execute(runner, arrays)
        if self._device.type == "cpu":
            results = self._execute(runner, arrays)
        else:
            with self._device.active():
                results = self._execute(runner, [to_device(a, self._device) for a in arrays])
        native = self._native
        if native is not None:
            native.begin()  # after the first answer, which it would have kept waiting
        return [_own(y, shared) for y, shared in zip(results, self._model.shared, strict=True)]

    def _execute(self, runner: Any, arrays: Sequence[Any]) -> list[Any]:
        """Run, and raise nothing but errors of ours: files and feeds come from anybody."""
        begin = time.perf_counter_ns() if self._profiler is not None else 0
        try:
            results: list[Any] = runner.run(arrays)
            if self._profiler is not None:
                self._profiler.event("Session", "model_run", begin)
            return results
        except FeedError as error:
            if self._steps is not None:
                raise
            raise explain_misfit(list(arrays), self._model.types, error) from None
        except DualGraphError:
            raise
        except Exception as error:
            raise as_run_error(error) from error

    def _positions(self, names: Sequence[str] | None) -> Sequence[int]:
        if not names:
            return range(len(self._model.outputs))
        known = {o.name: i for i, o in enumerate(self._model.outputs)}
        unknown = [n for n in names if n not in known]
        if unknown:
            raise FeedError(f"no output {listed(unknown)}; the outputs are {listed(known)}")
        return [known[n] for n in names]

    def _feeds(self, feed: Mapping[str, Any]) -> list[np.ndarray[Any, Any]]:
        if self._steps is not None:
            return self._steps.feeds(feed)
        ready = self._ready(feed)
        return as_arrays(feed, self._model.types) if ready is None else ready

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


def _own(result: Any, shared: bool) -> np.ndarray[Any, Any]:
    """A result as a NumPy array that is the caller's alone."""
    array = np.asarray(to_device(result, "cpu"))
    if shared or array.base is not None or not array.flags.writeable:
        return np.array(array, order="C")
    return array
