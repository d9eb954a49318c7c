"""Options of a session."""

from __future__ import annotations

import enum
import os
from typing import Any, Literal, TypeAlias, cast, get_args

from dualgraph_compiler.errors import ArgumentError


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


_KNOWN = (
    "graph_optimization_level",
    "optimized_model_filepath",
    "free_dimensions",
    "execution",
    "intra_op_num_threads",
)

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


# ONNX Runtime's options about speed and logging. Programs set them as a matter of course and no
# result depends on them, so they may be set here too; nothing reads them.
_HINTS = (
    "enable_cpu_mem_arena",
    "enable_mem_pattern",
    "enable_mem_reuse",
    "execution_mode",
    "execution_order",
    "inter_op_num_threads",
    "log_severity_level",
    "log_verbosity_level",
    "logid",
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

    ONNX Runtime's hints about other threads, memory and logging can be set and have no effect.
    """

    def __init__(self) -> None:
        self.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_ALL
        self.optimized_model_filepath: str | os.PathLike[str] = ""
        self.free_dimensions: dict[str, int] = {}
        self.execution: Execution = execution_of()
        self.intra_op_num_threads = 0

    def add_free_dimension_override_by_name(self, dim_name: str, dim_value: int) -> None:
        """Fix a symbolic size of the inputs, so that the graph is optimised for it."""
        self.free_dimensions[dim_name] = dim_value

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _KNOWN + _HINTS:
            raise AttributeError(
                f"SessionOptions has no option {name!r}; there are {', '.join(_KNOWN + _HINTS)}"
            )
        if name == "execution":
            value = execution_of(value)
        if name == "intra_op_num_threads" and (not isinstance(value, int) or value < 0):
            raise ArgumentError(f"intra_op_num_threads must be 0 or more, got {value!r}")
        if name == "graph_optimization_level":
            value = GraphOptimizationLevel(value)
        object.__setattr__(self, name, value)
