"""What loops go over whose number of steps is only known in a call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dualgraph_compiler.dims import Dim
from dualgraph_compiler.errors import ShapeError
from dualgraph_compiler.graph import Value

from ..._tensor import Tensor
from .number import Number, as_number, wrap
from .regions import innermost


class Sequence:
    """Items of which a loop takes one a step.

    `tensors` are those of which the loop takes slices, `item` makes an item of such slices and the
    step's number.
    """

    tensors: list[Tensor] = []

    def length(self) -> Any:
        """The number of items: an int, a Dim, or a number of the graph."""
        raise NotImplementedError

    def item(self, slices: Iterator[Tensor], k: Number) -> Any:
        """Item `k`."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Any]:
        raise innermost().failure(
            "this goes over items whose number depends on data or on a dynamic size",
            "Use a for statement, or dg.scan.",
        )

    def __len__(self) -> Any:
        return self.length()


class Rows(Sequence):
    """A tensor's slices along axis 0."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensors = [tensor]

    def length(self) -> Any:
        return self.tensors[0]._data.shape[0]

    def item(self, slices: Iterator[Tensor], k: Number) -> Any:
        return next(slices)


class Range(Sequence):
    """``range(start, stop, step)`` with numbers or sizes that only a call tells."""

    def __init__(self, start: Any, count: Any, step: int) -> None:
        self.start, self.count, self.step = start, count, step

    @classmethod
    def of(cls, *args: Any) -> Range:
        """As ``range(*args)``.

        Raises:
            CaptureFailure: the step depends on data.
        """
        start, stop, step = (
            (0, args[0], 1) if len(args) == 1 else args if len(args) == 3 else (*args, 1)
        )
        if not isinstance(step, int) or step == 0:
            raise innermost().failure("the step of a range depends on data")
        start, stop = (_whole(x) for x in (start, stop))
        distance = stop - start if step > 0 else start - stop
        size = abs(step)
        return cls(start, distance if size == 1 else (distance + (size - 1)) // size, step)

    def length(self) -> Any:
        return self.count

    def item(self, slices: Iterator[Tensor], k: Number) -> Any:
        start = self.start
        if isinstance(start, Dim):
            from dualgraph_compiler.dtypes import int64

            start = wrap(innermost().scalar(start, int64))
        return k * self.step + start


class Enumerated(Sequence):
    """``enumerate(inner, start)``."""

    def __init__(self, inner: Sequence, start: Any = 0) -> None:
        self.inner, self.start = inner, start
        self.tensors = inner.tensors

    def length(self) -> Any:
        return self.inner.length()

    def item(self, slices: Iterator[Tensor], k: Number) -> Any:
        return k + self.start, self.inner.item(slices, k)


class Zipped(Sequence):
    """``zip(*parts)``, of one length."""

    def __init__(self, parts: list[Any]) -> None:
        self.parts = parts
        self.tensors = [t for p in parts for t in p.tensors]

    def length(self) -> Any:
        lengths = [p.length() for p in self.parts]
        if any(isinstance(n, Number) or n != lengths[0] for n in lengths):
            raise innermost().failure("which of several zipped sequences is shortest is not known")
        return lengths[0]

    def item(self, slices: Iterator[Tensor], k: Number) -> Any:
        return tuple(p.item(slices, k) for p in self.parts)


def as_sequence(x: Any) -> Any:
    """A sequence, or a traced tensor as one; None for anything else."""
    if isinstance(x, Sequence):
        return x
    return Rows(x) if isinstance(x, Tensor) and x.ndim and type(x._data) is Value else None


def _whole(x: Any) -> Any:
    if isinstance(x, Tensor):
        if x.dtype.category > 1 or x.numel() != 1:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return as_number(x, int)
    if not isinstance(x, int | Dim):
        raise ShapeError(f"expected whole numbers for a range, got {type(x).__name__}")
    return x


def refuse_open(x: Any) -> Any:
    """`x`; raises if it is a sequence whose length only a call tells."""
    if isinstance(x, Sequence):
        raise innermost().failure("a range is returned whose length only a call tells")
    return x
