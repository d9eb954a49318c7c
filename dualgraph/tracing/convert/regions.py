"""Pieces of a trace that may not run, or several times: what they record, and what they may do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dualgraph_compiler.errors import AutogradError, TraceError
from dualgraph_compiler.graph import Value

from ..._dispatch import captures
from ..._tensor import Tensor
from ..body import BodyCapture
from ..capture import Capture
from ..failure import CaptureFailure

# Recursion that only data ends would go on for ever, since both branches are traced.
_DEEPEST = 40


class RaisedInside(Exception):
    """The piece raised `error`: it would in eager code, too, if it ran."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class Region(BodyCapture):
    """The graph of one piece. Objects made inside are `fresh`: the piece may change them."""

    def __init__(self, outer: Capture, name: str) -> None:
        super().__init__(outer, name, _piece)
        self.depth = getattr(outer, "depth", 0) + 1
        self.keeps_writes = True

    def record(self, piece: Callable[[], Any]) -> Any:
        """What `piece` gives.

        Raises:
            CaptureFailure: it cannot be captured.
            RaisedInside: it raised an error of its own.
        """
        if self.depth > _DEEPEST:
            raise self.failure("a recursion that only data ends cannot be captured")
        try:
            return self.run(piece)
        except (CaptureFailure, RaisedInside):
            raise
        except NameError as error:
            raise self.explained(error) from error
        except TraceError as error:
            raise self.failure(str(error)) from error
        except Exception as error:
            raise RaisedInside(error) from error

    def made(self, t: Tensor) -> bool:
        """Whether the memory of `t` is the piece's own."""
        base = t if t._base is None else t._base.base
        return type(base._data) is Value and base._data.graph is self.graph

    def explained(self, error: NameError) -> Exception:
        """Why a variable has no value, if control flow on data took it."""
        why = self.why_unset(error)
        return RaisedInside(error) if why is None else self.failure(why)


def _piece() -> None:
    """Stands for the piece in messages of :mod:`..body`."""


def innermost() -> Capture:
    """The capture that records now."""
    assert captures.current is not None
    return captures.current


def in_region() -> bool:
    """Whether what runs now may not run in a call, or several times."""
    return isinstance(captures.current, BodyCapture)


def is_traced(x: Any) -> bool:
    """Whether the truth of `x` is only known when the graph runs."""
    if not isinstance(x, Tensor) or captures.current is None:
        return False
    if type(x._data) is Value:
        return True
    base = x if x._base is None else x._base.base
    capture: Any = captures.current
    while capture is not None:
        if id(x._data) in capture.writes or id(base._data) in capture.writes:
            return True
        capture = getattr(capture, "outer", None)
    return False


def condition(t: Tensor) -> Tensor:
    """The truth of a traced tensor, as a bool tensor without dimensions.

    Raises:
        AutogradError: it has several elements, or none.
    """
    from dualgraph_compiler.dtypes import bool_

    n = t.numel()
    if isinstance(n, int) and n != 1:
        raise AutogradError(
            f"Boolean value of Tensor with {n} values is ambiguous"
            if n
            else "Boolean value of Tensor with no values is ambiguous"
        )
    flat = t.detach()
    if flat.ndim:
        flat = flat.reshape(())
    return flat if flat.dtype is bool_ else flat != 0
