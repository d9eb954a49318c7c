"""Alias analysis: what it claims of every op and of random graphs, against what NumPy does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualgraph_compiler import parse_graph
from dualgraph_compiler.graph.alias import Aliases, Sharing, sharing

from ..op_samples import OpSamples, all_samples
from ..passes.test_random_graphs import SPECIAL, _inputs, graphs

RECORDS = all_samples()


@pytest.mark.parametrize("record", RECORDS.values(), ids=list(RECORDS))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_ops_share_memory_as_declared(record: OpSamples) -> None:
    for sample in record.samples:
        with np.errstate(all="ignore"):
            results = sample.op.eager(np, *sample.inputs)
        results = list(results) if isinstance(results, tuple | list) else [results]
        arrays = [r for r in results if isinstance(r, np.ndarray)]
        how = sharing(sample.op)
        for i, r in enumerate(arrays):
            assert not any(np.may_share_memory(r, other) for other in arrays[:i]), sample
            allowed = 1 if how is not Sharing.FRESH else 0
            for x in sample.inputs[allowed:]:
                assert not np.may_share_memory(r, x), sample
            if how is Sharing.VIEW and r.size:
                assert np.may_share_memory(r, sample.inputs[0]), sample


@pytest.mark.parametrize(
    "record",
    [r for r in RECORDS.values() if r.op.writes_into],
    ids=[name for name, r in RECORDS.items() if r.op.writes_into],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_eager_into_gives_the_bits_of_eager(record: OpSamples) -> None:
    """Into fresh memory that held garbage, and into every operand that may be the output."""
    for sample in record.samples:
        with np.errstate(all="ignore"):
            made = sample.op.eager(np, *sample.inputs)
        several = isinstance(made, tuple)
        wanted = [np.asarray(w) for w in (made if several else (made,))]

        def run(outs, inputs, op=sample.op, several=several):
            with np.errstate(all="ignore"):
                op.eager_into(np, tuple(outs) if several else outs[0], *inputs)

        outs = [np.empty_like(w) for w in wanted]
        for out in outs:
            out[...] = 7
        run(outs, sample.inputs)
        for out, w in zip(outs, wanted, strict=True):
            assert out.tobytes() == w.tobytes(), sample
        for i, w in enumerate(wanted):
            for j in sample.op.reusable(i, len(sample.inputs)):
                x = sample.inputs[j]
                if x.dtype != w.dtype or x.shape != w.shape or x.strides != w.strides:
                    continue
                inputs = [a.copy(order="K") if k == j else a for k, a in enumerate(sample.inputs)]
                if inputs[j].strides != w.strides:
                    continue
                into = [inputs[j] if k == i else np.empty_like(o) for k, o in enumerate(wanted)]
                run(into, inputs)
                assert inputs[j].tobytes() == w.tobytes(), (sample, j)


TEXT = """\
graph g(%x: f32[2, 3]):
  param %w: f32[3, 2]
  %1: f32[3, 2] = permute(%x, axes=(1, 0))
  %2: f32[6] = reshape(%1, shape=(6,))
  %3: f32[3, 2] = add(%1, %w)
  %4: f32[2, 3] = reshape(%3, shape=(2, 3))
  %5: f32[1, 3] = slice(%4, starts=(0, 0), stops=(1, 3), steps=(1, 1))
  %6: f32[2, 3] = neg(%4)
  return %5 as a, %6 as b"""


def test_views_lie_where_their_operand_lies():
    graph = parse_graph(TEXT)
    (x,), (w,) = graph.inputs, graph.params
    one, two, three, four, five, six = (n.output for n in graph.nodes)
    found = Aliases(graph)
    assert found.storages[one] == {x}
    assert found.storages[two] == {x, two}  # a copy, if the layout allows no view
    assert found.storages[three] == {three}
    assert found.storages[five] == {three, four}
    assert found.may_share(five, three)
    assert not found.may_share(six, three)
    assert found.owns(three)
    assert not found.owns(four)
    assert found.readers[x] == [0, 1, 2]
    assert found.last_read(three) == 5
    assert found.last_read(w) == 2
    assert found.last_read(six) == -1
    assert found.escapes(three)
    assert found.escapes(six)
    assert not found.escapes(one)


def test_with_layouts_known_a_reshape_is_certain():
    graph = parse_graph(TEXT)
    _, two, three, four, *_ = (n.output for n in graph.nodes)
    found = Aliases(graph, row_major=True)
    assert found.storages[two] == {two}
    assert found.storages[four] == {three}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(graph=graphs(), seed=st.integers(0, 9))
@settings(max_examples=100)
def test_values_that_share_memory_were_said_to(graph, seed):
    arrays = dict(zip(graph.inputs, _inputs(graph, SPECIAL, seed), strict=True))
    arrays |= {v: v.data for v in graph.constants}
    sizes = {"n": 4}
    for node in graph.nodes:
        with np.errstate(all="ignore"):
            arrays[node.output] = node.op.resolve(sizes).eager(
                np, *(arrays[v] for v in node.inputs)
            )
    found = Aliases(graph)
    values = list(arrays)
    for i, a in enumerate(values):
        for b in values[:i]:
            x, y = arrays[a], arrays[b]
            if np.may_share_memory(x, y) and np.shares_memory(x, y):
                assert found.may_share(a, b)
