"""Which memory was written to: a quick no to "may this array share memory with any of those?"."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds


class Spans:
    """A union of spans of host memory, which only grows."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []  # of disjoint spans, so in order as well
        self._elsewhere = False  # arrays that are not NumPy's are not looked into

    def add(self, array: Any) -> None:
        """Include the memory of `array`."""
        if type(array) is not np.ndarray:
            self._elsewhere = True
            return
        start, end = byte_bounds(array)
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def may_overlap(self, array: Any) -> bool:
        """Whether `array` may share memory with one that was added."""
        if type(array) is not np.ndarray:
            return self._elsewhere
        start, end = byte_bounds(array)
        at = bisect_right(self._ends, start)
        return at < len(self._starts) and self._starts[at] < end
