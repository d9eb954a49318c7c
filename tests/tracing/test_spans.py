"""Spans of memory against NumPy's own answer."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dualgraph.tracing.spans import Spans

MEMORY = np.zeros(64, np.int8)
PART = st.tuples(st.integers(0, 63), st.integers(1, 64)).map(lambda p: MEMORY[p[0] : p[0] + p[1]])


@given(st.lists(PART, max_size=12), PART)
def test_what_shares_memory_is_found(written, read):
    spans = Spans()
    for array in written:
        spans.add(array)
    assert spans.may_overlap(read) >= any(np.may_share_memory(read, a) for a in written)


@given(st.lists(st.integers(0, 31), max_size=20), st.integers(0, 31))
def test_what_lies_apart_is_told_apart(written, read):
    """Pieces with room between them."""
    spans = Spans()
    for i in written:
        spans.add(MEMORY[2 * i : 2 * i + 1])
    assert spans.may_overlap(MEMORY[2 * read : 2 * read + 1]) == (read in written)
