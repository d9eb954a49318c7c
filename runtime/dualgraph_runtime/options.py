"""Options of a session and of a run, under ONNX Runtime's names."""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

from dualgraph_compiler.errors import ArgumentError, OnnxError, RunStopped

if TYPE_CHECKING:
    from .values import OrtValue


class GraphOptimizationLevel(enum.IntEnum):
    """How far the graph may be changed before it runs.

    BASIC keeps every bit of the unoptimised result; from EXTENDED on, results may differ by
    rounding (batch norm folded into convolutions, for example).
    """

    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99


class ExecutionMode(enum.IntEnum):
    """Whether branches of a graph may run at the same time; here kernels use threads inside."""

    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1


class ExecutionOrder(enum.IntEnum):
    """In which order nodes run; one that needs little memory is always chosen here."""

    DEFAULT = 0
    PRIORITY_BASED = 1
    MEMORY_EFFICIENT = 2


Execution: TypeAlias = Literal["auto", "native", "interpreter"]
EXECUTIONS: tuple[Execution, ...] = get_args(Execution)


def execution_of(wanted: Any = None) -> Execution:
    """How graphs are to run: `wanted`, else what ``DUALGRAPH_EXECUTION`` says, else "auto".

    Raises:
        ArgumentError: it is none of `EXECUTIONS`.
    """
    found = wanted or os.environ.get("DUALGRAPH_EXECUTION") or "auto"
    if found not in EXECUTIONS:
        raise ArgumentError(f"execution must be one of {EXECUTIONS}, got {found!r}")
    return cast("Execution", found)


# ONNX Runtime's options about speed and logging, with its defaults. Programs set them as a matter
# of course and no result depends on them, so they may be set here too; nothing reads them.
_HINTS: Mapping[str, Any] = {
    "enable_cpu_mem_arena": True,
    "enable_mem_pattern": True,
    "enable_mem_reuse": True,
    "execution_mode": ExecutionMode.ORT_SEQUENTIAL,
    "execution_order": ExecutionOrder.DEFAULT,
    "inter_op_num_threads": 0,
    "log_severity_level": -1,
    "log_verbosity_level": 0,
    "logid": "",
    "use_per_session_threads": True,
}
_RUN_HINTS: Mapping[str, Any] = {
    "log_severity_level": -1,
    "log_verbosity_level": 0,
    "logid": "",
    "only_execute_path_to_fetches": False,
}


_KNOWN = (
    "graph_optimization_level",
    "optimized_model_filepath",
    "free_dimensions",
    "free_denotations",
    "initializers",
    "config_entries",
    "execution",
    "intra_op_num_threads",
    "use_deterministic_compute",
    "enable_profiling",
    "profile_file_prefix",
)


class SessionOptions:
    """What a session is made with, under ONNX Runtime's names.

    Attributes:
        graph_optimization_level: see :class:`GraphOptimizationLevel`.
        optimized_model_filepath: where to write the optimised graph, as ONNX.
        execution: "native" compiles the graph to C, on a CPU, where a C compiler is found and
            `graph_optimization_level` lets results differ by rounding; "interpreter" runs it node
            by node; "auto" runs it node by node until its compiled form, made in the background,
            is ready (results change by rounding then). The default is what the variable
            ``DUALGRAPH_EXECUTION`` says, else "auto".
        intra_op_num_threads: how many threads a run of compiled code may use; 0, the default, for
            what the variable ``DUALGRAPH_NUM_THREADS`` says, else as many as there are CPUs that
            this process may use.
        use_deterministic_compute: whether equal runs must give equal bits; "auto" then waits for
            the compiled form instead of going over to it between two runs.
        enable_profiling: write the time of every kernel of every run (of every node, where the
            model is interpreted) to a file for Chrome's and Perfetto's trace viewers. Compiled code
            is then waited for, and runs go one after another. See
            :meth:`InferenceSession.end_profiling`.
        profile_file_prefix: how the name of that file begins.

    ONNX Runtime's hints about other threads, memory and logging can be set and have no effect, nor
    have configuration entries.
    """

    def __init__(self) -> None:
        vars(self).update(_HINTS)
        self.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_ALL
        self.optimized_model_filepath: str | os.PathLike[str] = ""
        self.free_dimensions: dict[str, int] = {}
        self.free_denotations: dict[str, int] = {}
        self.initializers: dict[str, OrtValue] = {}
        self.config_entries: dict[str, str] = {}
        self.execution: Execution = execution_of()
        self.intra_op_num_threads = 0
        self.use_deterministic_compute = False
        self.enable_profiling = False
        self.profile_file_prefix = "onnxruntime_profile_"

    def add_free_dimension_override_by_name(self, dim_name: str, dim_value: int) -> None:
        """Fix a symbolic size of the inputs, so that the graph is optimised for it."""
        self.free_dimensions[dim_name] = _size(dim_value)

    def add_free_dimension_override_by_denotation(
        self, dim_denotation: str, dim_value: int
    ) -> None:
        """Fix the sizes of the inputs that have this denotation, such as "DATA_BATCH"."""
        self.free_denotations[dim_denotation] = _size(dim_value)

    def add_initializer(self, name: str, ortvalue: OrtValue) -> None:
        """Take the contents of an initializer from a value instead of the model.

        It has the type and shape that the model gives the initializer; the session checks that.
        """
        self.initializers[name] = ortvalue

    def add_external_initializers(self, names: list[str], ortvalues: list[OrtValue]) -> None:
        """`add_initializer` for several."""
        if len(names) != len(ortvalues):
            raise ArgumentError(f"{len(names)} names, but {len(ortvalues)} values")
        self.initializers.update(zip(names, ortvalues, strict=True))

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Keep a configuration entry."""
        _add_entry(self.config_entries, key, value)

    def get_session_config_entry(self, key: str) -> str:
        """A configuration entry that was added.

        Raises:
            ArgumentError: none was.
        """
        return _entry(self.config_entries, key)

    def has_providers(self) -> bool:
        """Whether providers were added to the options; they are arguments of a session here."""
        return False

    def register_custom_ops_library(self, path: str) -> None:
        """Refused: a library of kernels for ONNX Runtime can only be loaded by ONNX Runtime.

        Raises:
            OnnxError: always.
        """
        raise OnnxError(
            f"the custom operators of {path!r} are compiled for ONNX Runtime and cannot be used "
            "here; an operator given as a function of the model (onnx.helper.make_function) can"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _KNOWN and name not in _HINTS:
            have = ", ".join((*_KNOWN, *_HINTS))
            raise AttributeError(f"SessionOptions has no option {name!r}; there are {have}")
        if name == "execution":
            value = execution_of(value)
        if name == "intra_op_num_threads" and (not isinstance(value, int) or value < 0):
            raise ArgumentError(f"intra_op_num_threads must be 0 or more, got {value!r}")
        if name == "graph_optimization_level":
            value = GraphOptimizationLevel(value)
        object.__setattr__(self, name, value)


class RunOptions:
    """What a run is made with, under ONNX Runtime's names.

    Attributes:
        terminate: stop the run: set before it, or from another thread while it goes on. A run that
            is stopped raises RunStopped: before the next step of a loop (an endless one, maybe),
            between the parts of a model that runs in steps, or at its end. Compiled code is not
            interrupted.

    Hints about logging can be set and have no effect, nor have configuration entries.
    """

    def __init__(self) -> None:
        vars(self).update(_RUN_HINTS)
        self.terminate = False
        self.config_entries: dict[str, str] = {}

    def add_run_config_entry(self, key: str, value: str) -> None:
        """Keep a configuration entry."""
        _add_entry(self.config_entries, key, value)

    def get_run_config_entry(self, key: str) -> str:
        """A configuration entry that was added.

        Raises:
            ArgumentError: none was.
        """
        return _entry(self.config_entries, key)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("terminate", "config_entries") and name not in _RUN_HINTS:
            have = ", ".join(("terminate", *_RUN_HINTS))
            raise AttributeError(f"RunOptions has no option {name!r}; there are {have}")
        object.__setattr__(self, name, value)


def stop_if_told(options: Any) -> None:
    """Raise RunStopped if the options of a run say that it is to stop.

    Raises:
        ArgumentError: they are no RunOptions.
    """
    if options is None:
        return
    if not isinstance(options, RunOptions):
        raise ArgumentError(f"expected RunOptions or None, got {type(options).__name__}")
    if options.terminate:
        raise RunStopped("the run was stopped: `terminate` of its RunOptions is set")


def _size(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ArgumentError(f"a size is an integer, 0 or more, got {value!r}")
    return value


def _add_entry(entries: dict[str, str], key: str, value: str) -> None:
    if not isinstance(key, str) or not key or not isinstance(value, str):
        raise ArgumentError(f"a configuration entry is two texts, got {key!r} and {value!r}")
    entries[key] = value


def _entry(entries: Mapping[str, str], key: str) -> str:
    if key not in entries:
        have = ", ".join(map(repr, entries)) or "none"
        raise ArgumentError(f"there is no configuration entry {key!r}; there are {have}")
    return entries[key]
