"""Every error the framework raises on purpose.

::

    DualGraphError(RuntimeError)        PyTorch's class; one ``except`` catches all of ours
    |- ShapeError(ValueError)           sizes that do not fit an operation
    |  `- UndecidedSize                 a question about a symbolic size that its bounds leave open
    |- DTypeError(TypeError)            element types that do not fit an operation
    |- IndexOutOfRange(IndexError)      an index outside the dimension it indexes
    |- ArgumentError(ValueError)        any other bad argument of a public function
    |- DeviceError                      a device that is absent, or operands on different devices
    |- AutogradError                    misuse of the tape: stale saved values, second backward
    |  `- CheckpointError               a checkpointed function did other things when run again
    |- TraceError                       Python that cannot be captured in a graph
    |- GraphError(ValueError)           a graph that breaks an invariant, text that does not parse
    |- FeedError(ValueError)            inputs of a graph or session: wrong name, dtype or shape
    |- OnnxError(ValueError)            an ONNX model that cannot be read, written or supported
    |  |- NeedsValue                    an operand of a model whose elements must be known first
    |  |- NoSuchModel(FileNotFoundError)   there is no such file
    |  `- NotAnOnnxFile                 bytes that are no ONNX model, or not all of one
    |- RunError                         an operation that fails on the numbers it met in a run
    |  |- LinAlgError                   a matrix that has no inverse or factorization as asked for
    |  |- OutOfMemory(MemoryError)      a run that needs more memory than there is
    |  `- RunStopped                    a run that was told to stop
    `- SerializationError(ValueError)   a checkpoint that cannot be read or written
       `- RefusedPickle(pickle.UnpicklingError)   one that asks for more than data

A message states what was expected, what came, and (where a graph node is involved) the user's own
line.
"""

from __future__ import annotations

import pickle
from typing import Any


class DualGraphError(RuntimeError):
    """Base class of every error raised by dualgraph."""


class ShapeError(DualGraphError, ValueError):
    """Sizes that do not fit an operation; `sizes` are the two that should be equal, if known."""

    def __init__(self, message: str = "", *, sizes: tuple[Any, Any] | None = None) -> None:
        super().__init__(message)
        self.sizes = sizes


class UndecidedSize(ShapeError):
    """A question about a symbolic size that its bounds leave open.

    `left` and `right` are the sizes that were compared, where two were.
    """

    def __init__(self, message: str, left: object = None, right: object = None) -> None:
        if left is not None:
            message += "; " + HINT
        super().__init__(message)
        self.left = left
        self.right = right


HINT = (
    'declare bounds that decide it (Dim("n", min=1, max=64)) or a size that does (2*Dim("half")), '
    "or trace with this dimension static"
)


class DTypeError(DualGraphError, TypeError):
    """Element types that do not fit an operation."""


class IndexOutOfRange(DualGraphError, IndexError):
    """An index outside the dimension it indexes."""


class ArgumentError(DualGraphError, ValueError):
    """A bad argument that is neither a matter of shape nor of dtype."""


class DeviceError(DualGraphError):
    """A device that is not there, or operands that live on different devices."""


class AutogradError(DualGraphError):
    """Misuse of the autograd tape."""


class CheckpointError(AutogradError):
    """A checkpointed function did other things when it was run again."""


class TraceError(DualGraphError):
    """Python code that cannot be captured in a static graph."""


class GraphError(DualGraphError, ValueError):
    """A graph that breaks an invariant, or graph text that does not parse."""


class FeedError(DualGraphError, ValueError):
    """An input of a graph or session with a wrong name, dtype or shape."""


class OnnxError(DualGraphError, ValueError):
    """An ONNX model that cannot be read, written or supported.

    `node` is the position, among the model's nodes, of the one that could not be imported, if any,
    and `operator` the name of its operator.
    """

    node: int | None = None
    operator: str = ""


class NeedsValue(OnnxError):
    """Something about an operand of an ONNX model that must be known before a graph can be made.

    Attributes:
        operand: the graph Value whose elements an import rule asked for, a symbolic size that must
            be a number, or None where sizes did not fit together for being symbolic.
        what: what was asked for ("the axes of a reduction").
        symbolic: whether symbolic sizes would do as elements.
        sizes: whether sizes, and not elements, are what must be known.
        names: the model's names of the values that tell, nearest first; none where only values of
            a nested graph do.
    """

    def __init__(
        self, operand: Any, what: str, *, symbolic: bool = False, sizes: bool = False
    ) -> None:
        super().__init__(f"{what} must be known before it runs, but depends on its inputs")
        self.operand = operand
        self.what = what
        self.symbolic = symbolic
        self.sizes = sizes
        self.names: tuple[str, ...] | None = None

    def at(self, where: str, names: tuple[str, ...]) -> NeedsValue:
        """The same with a message that begins with `where`, and these `names`."""
        made = NeedsValue(self.operand, self.what, symbolic=self.symbolic, sizes=self.sizes)
        made.args = (f"{where}{self}",)
        made.names = names
        return made


class NoSuchModel(OnnxError, FileNotFoundError):
    """The file of a model is not there."""


class NotAnOnnxFile(OnnxError):
    """Bytes that are no ONNX model: damaged, truncated, or something else."""


class RunError(DualGraphError):
    """An operation that fails on the numbers it met in a run."""


class LinAlgError(RunError):
    """A matrix that has no inverse, or no factorization of the kind asked for."""


class OutOfMemory(RunError, MemoryError):
    """A run that needs more memory than there is."""


class RunStopped(RunError):
    """A run of a session that was told to stop."""


class SerializationError(DualGraphError, ValueError):
    """A checkpoint that cannot be read or written."""


class RefusedPickle(SerializationError, pickle.UnpicklingError):
    """A checkpoint whose pickle asks for more than data, and which may be read as data only."""


def as_run_error(error: Exception) -> RunError:
    """What a kernel raised, as an error of ours: for callers that take models from anybody."""
    text = ", ".join([str(error) or type(error).__name__, *getattr(error, "__notes__", ())])
    return OutOfMemory(text) if isinstance(error, MemoryError) else RunError(text)
